"""What `make bench-…` runs: ours against a baseline written out plainly, in one process, results as JSON beside it."""
