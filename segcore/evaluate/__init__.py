"""Scores a net on a list, in one or several modes.

    >>> samples, modes = Samples.read("lists/val.csv"), modes_for(["ss", "mscf"], crop=(1024, 1024))
    >>> evaluate(scoring_form(net), samples, modes, mean, std, "work/evaluate", "work/resume")["ss"]["miou"]

`modes` says what a mode is, `network` prepares the net, `engine` runs it on one image, `bands` adds up its scores,
`predictions` keeps the label maps, `scoring` counts;
`metrics` says what the numbers mean, `uncertainty` and `comparison` what they are worth, `insight` what they hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from segcore.data.datasets import Samples
from segcore.errors import DataError
from segcore.evaluate.modes import EvaluateRecipe, Mode, modes_for
from segcore.evaluate.network import PRECISIONS, scoring_form
from segcore.evaluate.predictions import await_predictions, copy_predictions, predict_missing
from segcore.evaluate.refusals import refuse_overlap
from segcore.evaluate.scoring import score, score_majority

__all__ = [
    "PRECISIONS",
    "EvaluateRecipe",
    "Mode",
    "evaluate",
    "modes_for",
    "refuse_overlap",
    "score_majority",
    "scoring_form",
]


def evaluate(
    net: nn.Module,
    samples: Samples,
    modes: Sequence[Mode],
    mean: Sequence[float],
    std: Sequence[float],
    out: Path,
    progress_dir: Path,
    *,
    batch: int = 4,
    device: torch.device | str = "cpu",
    share: tuple[int, int] = (0, 1),
    patience: float = 1800.0,
    scored: bool = True,
    network: Mapping[str, str] | None = None,
) -> dict[str, dict] | None:
    """Predicts and scores every image of a list once, whatever the number of processes.

    Args:
        net: in the form to be scored, see `scoring_form`, on `device`; float32 N×3×H×W normalised RGB -> logits
            N×C×H×W.
        samples: images and labels.
        modes: the protocols, see `modes_for`.
        mean: of the RGB channels, range 0 … 1.
        std: likewise.
        out: gets `<mode>.json` for each mode, `images.npz`, `insight/` and `predictions/<mode>/<name>.png` (uint8
            train ids).
        progress_dir: keeps finished predictions; must be another one for other weights, modes, list or code. A run
            that was killed goes on from there. The caller removes it when the result is safe.
        batch: images in one forward pass, mirror images included.
        device: where the net is.
        share: (rank, world size) of this process; all of them see the same folders.
        patience: seconds that rank 0 waits for the next prediction of another process.
        scored: False keeps it at the predictions, for a test set whose labels are not public.
        network: what reports say of it: its file's sha256, the backend and the precision it runs in.

    Returns:
        On rank 0 the content of each JSON file by mode; None on the others, which only predict.

    Raises:
        DataError: an empty list, unreadable images or labels, a net with another class count.
        SegcoreError: another process stopped.
    """
    if not len(samples):
        raise DataError("the list to score is empty; give one with at least one `image,label` line")
    predict_missing(net, samples, modes, mean, std, progress_dir, batch=batch, device=device, share=share)
    if share[0] > 0:
        return None
    await_predictions(samples, modes, progress_dir, patience)
    copy_predictions(samples, modes, progress_dir, Path(out) / "predictions")
    return score(samples, modes, progress_dir, out, network) if scored else {}
