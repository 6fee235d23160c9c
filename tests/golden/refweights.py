"""Deterministic weights in a released checkpoint's own names, and how goldens are compared.

A golden is one reference model, run once on weights that anyone can regenerate, so no
weight file has to travel: every tensor is a function of its name and shape alone.

`<model>.json` holds {"model", "source", "input": {"seed", "shape"}, "state_dict": [[name, shape, dtype], ...],
"outputs": {...}}; `<model>.npz` holds the arrays that "outputs" describes.

    python refweights.py bisenetv2.json bisenetv2.pth     # writes the checkpoint as its authors release it
"""

from __future__ import annotations

import json
import re
import sys
import zlib

import numpy as np


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one state-dict entry: float32 (int64 for counters), shape as asked."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("running_mean"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) <= 1:  # affine scale of a norm layer, or any bias
        if name.endswith("weight"):
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (np.sqrt(2.0 / fan_in) * rng.standard_normal(shape)).astype(np.float32)


def image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """The input batch of a golden: NCHW float32, standard normal (an already normalised image)."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def state_dict(description: dict) -> dict[str, np.ndarray]:
    """All entries of a described checkpoint, in the reference's own names and order.

    A description may carry "scale": [[regex, factor], ...]; entries whose name matches are multiplied,
    which keeps the residual sums of very deep networks from overflowing into one-hot outputs.
    """
    entries = {}
    for name, shape, _ in description["state_dict"]:
        value = tensor(name, tuple(shape))
        for pattern, factor in description.get("scale", []):
            if re.search(pattern, name):
                value = np.asarray(value * factor, dtype=value.dtype)
        entries[name] = value
    return entries


def main() -> None:
    import torch

    source, target = sys.argv[1:3]
    with open(source) as f:
        description = json.load(f)
    weights = {k: torch.from_numpy(v) for k, v in state_dict(description).items()}
    for key in description.get("wrapped_in", []):  # e.g. ["state_dict"] for checkpoints that nest it
        weights = {key: weights}
    torch.save(weights, target)


if __name__ == "__main__":
    main()
