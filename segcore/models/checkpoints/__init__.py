"""Weights files -> our networks. Nothing is ever half-loaded silently.

`state` fills a network from names that are its own, `backbones` from a pretrained backbone, `released` from a whole
network's file of any origin; one file for each code base that released some says how its names become ours. Imported
one by one, so that a training's code digest covers only what it runs.
"""
