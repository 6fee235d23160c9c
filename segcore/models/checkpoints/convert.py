"""A released checkpoint -> our model file, which holds everything needed to use it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segcore.checkpoint import ModelFile, load
from segcore.data.labels import TABLES, LabelTable
from segcore.data.statistics import DATASETS, IMAGENET, Statistics
from segcore.errors import CheckpointError, RecipeError
from segcore.files import sha256
from segcore.models import build_model, family
from segcore.models.catalogue import card, protocol
from segcore.models.checkpoints import scene
from segcore.models.checkpoints.released import understand
from segcore.models.checkpoints.state import LoadReport, load_state

Input = Literal["rgb", "bgr255"]


def convert(
    paths: Sequence[Path],
    name: str,
    *,
    labels: LabelTable | None = None,
    given_input: Input | None = None,
    statistics: str | None = None,
) -> tuple[ModelFile, LoadReport]:
    """Reads a released network.

    Args:
        paths: the file; for scene parsing the encoder's and the decoder's.
        name: which network it is; names it can be are checked against the file.
        labels: its classes; by default the table of its class count, where only one data set has it.
        given_input: what a scene-parsing network was trained on, RGB in 0 … 1 or BGR in 0 … 255, which no file tells.
        statistics: whose mean and deviation it was trained with: `imagenet`, `dataset` (its own) or a data set's name;
            by default what its code base used.

    Returns:
        The model file (auxiliary heads included where the file has them), and what was loaded and left out.

    Raises:
        CheckpointError: the file cannot be read, does not fit the network, or is a model file already.
        RecipeError: an unknown network, or something must be said that the file does not tell.
    """
    family(name)  # a wrong name is said before a wrong file
    contents = {path: load(Path(path)) for path in paths}
    if ours := [path for path, content in contents.items() if _is_our_own(content)]:
        raise CheckpointError(f"{ours[0]}: is a segcore model file already")
    release, where = understand(contents, name)
    state, own_statistics = _input(dict(release.state), name, given_input)
    classes = class_count(name, state, where)
    labels = labels or _table(classes, where)
    if labels.num_classes != classes:
        raise RecipeError(f"{where}: has {classes} classes, the label table {labels.name!r} has {labels.num_classes}")
    used = own_statistics or _statistics(statistics or card(name).statistics, name, labels)
    net, report = _fill(name, classes, state, where)
    model = ModelFile(
        model=name,
        num_classes=classes,
        state_dict=net.state_dict(),
        normalisation={"mean": list(used.mean), "std": list(used.std)},
        labels=labels,
        evaluate=protocol(name, labels.name),
        provenance={"converted_from": {path.name: sha256(path) for path in map(Path, paths)}, **_declared(given_input)},
    )
    return model, LoadReport(report.loaded, release.dropped + report.dropped)


def class_count(name: str, state: dict[str, Tensor], where: str) -> int:
    """Class count of a state dict of network `name`: its classifier's rows over those of a network for one class.

    Raises:
        CheckpointError: it has no such classifier, or its rows are no whole multiple.
    """
    with torch.device("meta"):
        net = build_model(name, 1)
    classifier = net.classifiers()[0].weight
    key = next(key for key, parameter in net.named_parameters() if parameter is classifier)
    if key not in state:
        raise CheckpointError(f"{where}: does not fit the model: missing {key}")
    classes, rest = divmod(len(state[key]), len(classifier))
    if rest or not classes:
        raise CheckpointError(f"{where}: {key} has {len(state[key])} rows, no multiple of {len(classifier)}")
    return classes


def _input(state: dict[str, Tensor], name: str, given: Input | None) -> tuple[dict[str, Tensor], Statistics | None]:
    """The weights for RGB in 0 … 1, and what to normalise with where the input decides that."""
    if card(name).statistics != "declared":
        if given == "bgr255":
            raise RecipeError(f"{name} was never released for BGR input; leave --input out")
        return state, None
    if given is None:
        raise RecipeError(
            f"what {name} was trained on cannot be read from a file: say --input rgb for files named ade20k-* (RGB in "
            "0 … 1) or --input bgr255 for files named baseline-* (BGR in 0 … 255)"
        )
    if given == "rgb":
        return state, IMAGENET
    converted, mean, std = scene.from_bgr255(state)
    return converted, Statistics(mean, std)


def _statistics(kind: str, name: str, labels: LabelTable) -> Statistics:
    if kind == "either":
        raise RecipeError(
            f"files of {name} were trained with ImageNet's statistics (old/fp16) or their data set's (lib, 2020-08) "
            "and do not say which: give --statistics imagenet or --statistics dataset"
        )
    known = {"imagenet": IMAGENET, **DATASETS}
    wanted = labels.name if kind == "dataset" else kind
    if wanted not in known:
        raise RecipeError(f"no statistics are known for {wanted!r}: give --statistics with one of {', '.join(known)}")
    return known[wanted]


def _table(classes: int, where: str) -> LabelTable:
    fitting = [table for table in TABLES.values() if table.num_classes == classes]
    if len(fitting) != 1:
        raise RecipeError(f"{where}: has {classes} classes; say which with --dataset or --labels")
    return fitting[0]


def _fill(name: str, classes: int, state: dict[str, Tensor], where: str) -> tuple[nn.Module, LoadReport]:
    """The network with its auxiliary heads where the file has them all, else without."""
    with torch.device("meta"):
        full = set(build_model(name, classes, auxiliary=True).state_dict())
    auxiliary = all(key in state for key in full if not key.endswith("num_batches_tracked"))
    net = build_model(name, classes, auxiliary=auxiliary)
    return net, load_state(net, state, where)


def _declared(given: Input | None) -> dict[str, Any]:
    return {"input": given} if given else {}


def _is_our_own(content: Any) -> bool:
    return isinstance(content, dict) and "format" in content and "normalisation" in content
