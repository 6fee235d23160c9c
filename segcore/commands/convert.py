"""`segcore convert`: a released checkpoint -> our model file.

    segcore convert model_final_v1_city_new.pth --model bisenetv1 --out bisenetv1.pt
    segcore convert encoder_epoch_20.pth decoder_epoch_20.pth --model resnet50_upernet --input rgb --out r50.pt
    segcore convert own.pth --model bisenetv2 --labels labels.csv --statistics imagenet --out own.pt

A file is known by its keys. What it does not tell must be said: classes, statistics, the family of its input.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from segcore.checkpoint import ModelFile, save_model_file
from segcore.data.labels import TABLES, LabelTable
from segcore.data.statistics import DATASETS
from segcore.files import sha256
from segcore.models.checkpoints.convert import convert
from segcore.models.checkpoints.state import LoadReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="checkpoint; or an encoder's and a decoder's"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="which network it is; see `segcore models`")
    parser.add_argument("--out", required=True, type=Path, metavar="F", help="model file to write")
    parser.add_argument("--input", choices=("rgb", "bgr255"), help="of scene-parsing files, which do not tell")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument("--dataset", choices=sorted(TABLES), help="whose classes it tells apart")
    classes.add_argument("--labels", type=Path, metavar="CSV", help="table of its classes: id,train_id,name,r,g,b")
    known = ("imagenet", "dataset", *DATASETS)
    parser.add_argument("--statistics", choices=known, help="mean and deviation it was trained with, if not the usual")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Writes the model file and says what went into it.

    Raises:
        SegcoreError: the file cannot be read, does not fit, or does not say what it must.
    """
    labels = LabelTable.read_csv(arguments.labels) if arguments.labels else TABLES.get(arguments.dataset or "")
    model, report = convert(
        arguments.files,
        arguments.model,
        labels=labels,
        given_input=arguments.input,
        statistics=arguments.statistics,
    )
    save_model_file(arguments.out, model)
    found = summary(model, report, arguments.out)
    print(json.dumps(found, indent=2) if arguments.json else _words(found))


def summary(model: ModelFile, report: LoadReport, out: Path) -> dict[str, Any]:
    """What was converted, as plain containers."""
    return {
        "model": model.model,
        "labels": model.labels.name,
        "num_classes": model.num_classes,
        "normalisation": model.normalisation,
        "loaded": report.loaded,
        "dropped": list(report.dropped),
        "out": str(out),
        "sha256": sha256(out),
    }


def _words(found: dict[str, Any]) -> str:
    mean, std = (" ".join(f"{value:.4f}" for value in found["normalisation"][key]) for key in ("mean", "std"))
    lines = [
        f"{found['out']}: {found['model']}, {found['num_classes']} classes of {found['labels']}",
        f"  tensors loaded: {found['loaded']}, left out: {len(found['dropped'])}",
        *(f"    {name}" for name in found["dropped"][:8]),
        *([f"    and {len(found['dropped']) - 8} more"] if len(found["dropped"]) > 8 else []),
        f"  RGB in 0 … 1, mean {mean}, deviation {std}",
        f"  sha256 {found['sha256']}",
    ]
    return "\n".join(lines)
