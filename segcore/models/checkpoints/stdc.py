"""Files of MichaelFan01/STDC-Seg."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from segcore.models.checkpoints.state import Release

# By this entry (after a prefix) a file of this family is known.
KEY = "features.0.conv.weight"
BACKBONE = "cp.backbone."
# By the number of the backbone's modules.
NETWORKS = {8: ("stdc1",), 14: ("stdc2",)}


def read(state: Mapping[str, Tensor]) -> Release | None:
    """Understands a whole network's file; None if it is none of this family."""
    if BACKBONE + KEY not in state:
        return None
    ours, dropped = translate(state)
    depth = len({name.split(".")[3] for name in ours if name.startswith(f"{BACKBONE}features.")})
    return Release(NETWORKS.get(depth, ("stdc1", "stdc2")), ours, dropped)


def translate(state: Mapping[str, Tensor], prefix: str = BACKBONE) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """A file of MichaelFan01/STDC-Seg -> our names and norms; leaves a state dict that has them already as it is.

    - Every backbone tensor stands there twice; as in the reference the copy under x2 … x32 wins.
    - The classifier and the edge heads that the published setting does not train are left out.
    - Norms outside the backbone are in-place ones without a counter, which scale by abs(weight) + 1e-5, not by weight.
      A file that has their counters was trained with ordinary norms.

    Args:
        state: name -> tensor.
        prefix: where the backbone is: "" in its ImageNet files.

    Returns:
        The converted state dict, and the names left out.
    """
    copy = re.compile(rf"{re.escape(prefix)}x\d+\.0\.")
    ours = {name: value for name, value in state.items() if not copy.match(name)}
    ours |= {copy.sub(f"{prefix}features.", name): value for name, value in state.items() if copy.match(name)}

    untrained = re.compile(rf"{re.escape(prefix)}(conv_last|fc|bn|linear)\.|conv_out_sp(2|4|16)\.")
    unused = tuple(name for name in ours if untrained.match(name))
    ours = {name: value for name, value in ours.items() if name not in unused}

    for name in [name for name in ours if name.endswith("running_var")]:
        norm = name.removesuffix("running_var")
        if f"{norm}num_batches_tracked" not in ours:
            ours[f"{norm}num_batches_tracked"] = torch.tensor(0)
            if not norm.startswith(f"{prefix}features.") and f"{norm}weight" in ours:
                ours[f"{norm}weight"] = ours[f"{norm}weight"].abs() + 1e-5
    return ours, unused
