"""`segcore evaluate`: scores a model file on a list of images.

    segcore evaluate --weights model.pt --list val.csv --modes ss mscf --crop 1024x1024 --out evaluation
    segcore compare evaluation another

A killed run goes on where it stopped; what it has is in `<out>.progress` until it is done. Several devices share the
list, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import segcore
from segcore.checkpoint import ModelFile, load_model_file, plain
from segcore.data.datasets import Samples, read_list
from segcore.data.labels import LabelTable
from segcore.distributed import join, parse_devices
from segcore.errors import CheckpointError, DataError
from segcore.evaluate import PRECISIONS, EvaluateRecipe, Mode, evaluate, refuse_overlap
from segcore.evaluate.predictions import prediction_path, read_prediction
from segcore.evaluate.refusals import counted_pixels, known_training_list
from segcore.evaluate.submission import submission_names, write_submission
from segcore.files import atomic_write, digest, sha256
from segcore.progress import track
from segcore.visualize import encode, side_by_side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--weights", type=Path, required=True, metavar="FILE", help="a model.pt")
    add("--list", type=Path, required=True, metavar="CSV", help="one `image,label` a line")
    add("--root", type=Path, metavar="DIR", help="where the list's paths start; default: what `root` beside it says")
    add("--labels", type=Path, metavar="CSV", help="default: labels.csv beside the list, else the model's own table")
    add(
        "--modes",
        nargs="+",
        metavar="MODE",
        help="ss ssc msf mscf seg50 ade_ss …; default: the model's, or ss",
    )
    add("--scales", nargs="+", type=_positive(float), metavar="F", help="of the multi-scale modes")
    add("--crop", type=_size, metavar="HxW", help="window of the crop modes")
    add("--stride", type=_size, metavar="HxW", help="their step; default: two thirds of the window")
    add("--batch", type=_positive(int), metavar="N", help="images in one forward pass")
    add("--precision", choices=PRECISIONS, default="fp32", help="bf16 is about twice as fast and moves a few pixels")
    add("--devices", default="auto", metavar="D", help="auto, cpu, cpu:N, cuda, cuda:N or a number")
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="new folder for scores and predictions")
    add("--visualize", type=Path, metavar="DIR", help="pictures of image | truth | prediction")
    add("--submission", type=Path, metavar="ZIP", help="label ids for the Cityscapes test server; takes one mode")
    add("--unscored", action="store_true", help="predictions only, for a test set whose labels are not public")
    add("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Scores and prints.

    Raises:
        SegcoreError: a file is missing, damaged or does not fit; the list holds training images; wrong settings.
    """
    file = load_model_file(arguments.weights)
    recipe, samples = make_recipe(arguments, file), read_samples(arguments, file)
    modes = [
        replace(m, stride=arguments.stride) if arguments.stride and m.crop else m for m in recipe.build(file.model)
    ]
    if "LOCAL_RANK" not in os.environ:
        look_first(arguments, file, samples, modes)
        number = parse_devices(arguments.devices)[1]
        if number > 1:
            _run_on_each_device(number)
            return
    progress = _progress_folder(arguments, samples, modes)
    torch.backends.cudnn.allow_tf32 = False  # scores are float32 scores on every device
    with join(arguments.devices) as process:
        results = evaluate(
            file.network(process.device),
            samples,
            modes,
            **file.normalisation,
            out=arguments.out,
            progress_dir=progress,
            batch=recipe.batch,
            device=process.device,
            share=(process.rank, process.world_size),
            scored=not arguments.unscored,
            precision=arguments.precision,
        )
    if results is not None:
        write_extras(arguments, samples, modes)
        shutil.rmtree(progress.parent)
        _show(results, arguments)


def make_recipe(arguments: argparse.Namespace, file: ModelFile) -> EvaluateRecipe:
    """The model's own block of modes, scales and crop, with what the command line says over it.

    Raises:
        CheckpointError: the block holds a setting that this version does not know.
        RecipeError: an unknown mode, or a crop mode without a crop.
    """
    block = {key: tuple(value) if isinstance(value, list) else value for key, value in file.evaluate.items()}
    for key in block.keys() - {field.name for field in fields(EvaluateRecipe)}:
        raise CheckpointError(f"{arguments.weights}: its evaluate block has {key!r}, which this version does not know")
    given = {key: getattr(arguments, key) for key in ("modes", "scales", "crop", "batch")}
    return EvaluateRecipe(**{"modes": ("ss",), **block, **{k: v for k, v in given.items() if v is not None}})


def read_samples(arguments: argparse.Namespace, file: ModelFile) -> Samples:
    """The list, with the label table of --labels, of the list's folder, or of the model.

    Raises:
        DataError: a missing or empty list, no root, or a table of other classes than the model's.
    """
    pairs, beside = read_list(arguments.list), arguments.list.parent / "labels.csv"
    if beside.exists():
        samples = Samples.read(arguments.list, arguments.root)
    elif arguments.root:
        samples = Samples(pairs, arguments.root, file.labels)
    else:
        raise DataError(f"{arguments.list}: no labels.csv beside it, so where its images are is not known; give --root")
    path, labels = beside, samples.labels
    if arguments.labels:
        path, labels = arguments.labels, LabelTable.read_csv(arguments.labels)
    for k, (here, there) in enumerate(zip_longest(labels.names, file.labels.names, fillvalue="none")):
        if here != there:
            raise DataError(f"{path}: class {k} is {here!r} there and {there!r} in the model; --labels names a table")
    return Samples(pairs, samples.root, labels)


def look_first(arguments: argparse.Namespace, file: ModelFile, samples: Samples, modes: list[Mode]) -> None:
    """Everything that can be refused before hours are spent.

    Raises:
        DataError: see `counted_pixels`, `refuse_overlap`, `submission_names`; a folder that is in use; no label.
    """
    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise DataError(f"{arguments.out}: is there already; give another --out, or remove it")
    if arguments.submission:
        submission_names(samples)
        if len(modes) > 1:
            raise DataError(f"--submission takes one mode, not {' and '.join(m.name for m in modes)}; choose one")
    training = known_training_list(arguments.list.parent, samples, file.provenance.get("list"))
    if training:
        refuse_overlap(samples, training)
    if not counted_pixels(samples) and not arguments.unscored:
        raise DataError(f"{arguments.list}: its labels hold ignored pixels only; --unscored makes predictions alone")


def write_extras(arguments: argparse.Namespace, samples: Samples, modes: list[Mode]) -> None:
    """The submission and the pictures, where they are asked for."""
    folder = arguments.out / "predictions"
    if arguments.submission:
        write_submission(arguments.submission, samples, modes[0], folder)
    if arguments.visualize:
        for i, name in track(list(enumerate(samples.names)), "pictures"):
            image, truth = samples.pair(i)
            for mode in modes:
                prediction = read_prediction(prediction_path(folder, mode, name))
                with atomic_write(prediction_path(arguments.visualize, mode, name)) as temporary:
                    temporary.write_bytes(encode(side_by_side(image, truth, prediction, samples.labels.palette)))


def _run_on_each_device(number: int) -> None:
    """This very command once per device; ends with its exit code if that is not 0."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    code = subprocess.run([*torchrun, "-m", "segcore", *sys.argv[1:]], check=False).returncode
    if code:
        sys.exit(code)


def _progress_folder(arguments: argparse.Namespace, samples: Samples, modes: list[Mode]) -> Path:
    """Another one for other weights, images, labels, modes or code, so that nothing is mixed."""
    paths = [path(i) for path in (samples.image_path, samples.label_path) for i in range(len(samples))]
    files = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    code = [sha256(path) for path in sorted(Path(segcore.__file__).parent.rglob("*.py"))]
    protocol = [plain(mode) for mode in modes], arguments.precision
    state = digest(sha256(arguments.weights), files, samples.labels.digest, protocol, code)
    return Path(f"{arguments.out}.progress") / state[:16]


def _show(results: dict[str, dict], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    if results:
        Console().print(_table(results))
    print(f"written to {arguments.out}", file=sys.stderr)


def _table(results: dict[str, dict]) -> Table:
    table = Table(box=None)
    scores = {"pixel accuracy %": "pixel_accuracy", "F1 %": "macro_f1", "boundary mIoU %": "boundary_miou"}
    for title in ("mode", "mIoU %", "95 % interval", "classes", *scores, "images"):
        table.add_column(title, justify="left" if title == "mode" else "right")
    for mode, found in results.items():
        miou, *numbers = (f"{100 * found[key]:.2f}" for key in ("miou", *scores.values()))
        spread = " – ".join(f"{100 * end:.2f}" for end in found["miou_interval"])
        table.add_row(mode, miou, spread, str(found["classes_averaged"]), *numbers, str(found["images"]))
    return table


def _positive(kind: type) -> Any:
    """An argparse type: numbers of a kind above 0."""

    def read(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise ValueError
        return value

    read.__name__ = f"positive {kind.__name__}"  # stands in argparse's message
    return read


def _size(text: str) -> tuple[int, int]:
    """`512x1024` -> (512, 1024), H before W."""
    height, width = map(_positive(int), text.split("x"))
    return height, width


_size.__name__ = "HxW"
