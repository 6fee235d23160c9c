"""`segcore evaluate`: scores a model file on a list of images.

    segcore evaluate --weights work/train/model.pt --list work/annotations/val.csv --modes ss msf
    segcore evaluate --weights model.pt --list val.csv --modes ss mscf --crop 1024x1024 --out evaluation
    segcore evaluate --weights model.onnx --list val.csv --backend openvino --precision bf16 --out deployed
    segcore compare evaluation deployed

A file exported for deployment is scored as a model file is; the sha256 in the results says which file it was. A killed
run goes on where it stopped; what it has is in `<out>.progress` until it is done. Several devices share the list, each
in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import fields, replace
from itertools import zip_longest
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import segcore
from segcore.checkpoint import ModelFile, plain
from segcore.commands.arguments import positive, size
from segcore.data.datasets import Samples, read_list
from segcore.data.labels import LabelTable
from segcore.data.pretrained import NONE_RECEIPT
from segcore.deploy.engine import READERS, EngineFile, open_engine, read_file
from segcore.distributed import join, parse_devices
from segcore.errors import CheckpointError, DataError, RecipeError
from segcore.evaluate import PRECISIONS, EvaluateRecipe, Mode, evaluate, refuse_overlap, scoring_form
from segcore.evaluate.modes import Size
from segcore.evaluate.predictions import prediction_path, read_prediction
from segcore.evaluate.refusals import known_training_list, look_through, misfit
from segcore.evaluate.submission import submission_names, write_submission
from segcore.files import atomic_write, digest, sha256
from segcore.launch import launch
from segcore.models.catalogue import protocol
from segcore.progress import track
from segcore.visualize import encode, side_by_side

# What `--backend` takes.
BACKENDS = ("torch", *READERS[".onnx"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    formats = "a model.pt, or an exported .onnx, .xml (OpenVINO), .pt2 or .engine"
    add("--weights", type=Path, required=True, metavar="FILE", help=formats)
    add("--list", type=Path, required=True, metavar="CSV", help="one `image,label` a line")
    add("--root", type=Path, metavar="DIR", help="where the list's paths start; default: what `root` beside it says")
    add("--labels", type=Path, metavar="CSV", help="default: labels.csv beside the list, else the model's own table")
    add(
        "--modes",
        nargs="+",
        metavar="MODE",
        help="ss ssc msf mscf seg50 ade_ss …; default: the file's, else those its network is published with",
    )
    add("--scales", nargs="+", type=positive(float), metavar="F", help="of the multi-scale modes")
    add("--crop", type=size, metavar="HxW", help="window of the crop modes")
    add("--stride", type=size, metavar="HxW", help="their step; default: two thirds of the window")
    add("--batch", type=positive(int), metavar="N", help="images in one forward pass")
    add("--backend", choices=BACKENDS, help="what runs the network; default: torch, for an exported file its own")
    add("--precision", choices=PRECISIONS, default="fp32", help="bf16 is about twice as fast and moves a few pixels")
    add("--devices", default="auto", metavar="D", help="auto, cpu, cpu:N, cuda, cuda:N or a number")
    add("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="new folder for scores and predictions")
    add("--visualize", type=Path, metavar="DIR", help="pictures of image | truth | prediction")
    add("--submission", type=Path, metavar="DIR", help="or .zip: label ids for the Cityscapes test server, of one mode")
    add("--unscored", action="store_true", help="predictions only, for a test set whose labels are not public")
    add("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Scores and prints.

    Raises:
        SegcoreError: a file is missing, damaged or does not fit; the list holds training images; wrong settings.
    """
    file = read_file(arguments.weights)
    _settle_backend(arguments, file)
    recipe, samples = make_recipe(arguments, file), read_samples(arguments, file)
    modes = [
        replace(m, stride=arguments.stride) if arguments.stride and m.crop else m for m in recipe.build(file.model)
    ]
    if "LOCAL_RANK" not in os.environ:
        modes = look_first(arguments, file, samples, modes)
        if parse_devices(arguments.devices)[1] > 1:
            _run_on_each_device(arguments.devices, modes)
            return
    progress = _progress_folder(arguments, samples, modes)
    torch.backends.cudnn.allow_tf32 = False  # scores are float32 scores on every device
    with join(arguments.devices, wait_at_end=False) as process:
        results = evaluate(
            _network(arguments, file, process.device),
            samples,
            modes,
            **file.normalisation,
            out=arguments.out,
            progress_dir=progress,
            batch=recipe.batch,
            device=process.device,
            share=(process.rank, process.world_size),
            scored=not arguments.unscored,
            network={
                "sha256": sha256(arguments.weights),
                "backend": arguments.backend,
                "precision": _precision(arguments.precision, file),
                **({"pretrained": "none"} if _from_random_weights(file) else {}),
            },
        )
    if results is not None:
        write_extras(arguments, samples, modes)
        shutil.rmtree(progress.parent)
        _show(results, arguments)


def _precision(asked: str, file: ModelFile | EngineFile) -> str:
    """What it is scored in, to stand beside the scores: what a file was exported in, and what is asked of the rest."""
    own = file.shape.precision if isinstance(file, EngineFile) else "fp32"
    return "+".join(dict.fromkeys(each for each in (own, asked) if each != "fp32")) or "fp32"


def _from_random_weights(file: ModelFile | EngineFile) -> bool:
    return file.provenance.get("weights") == NONE_RECEIPT


def _settle_backend(arguments: argparse.Namespace, file: ModelFile | EngineFile) -> None:
    """Puts what was left open: the backend, and the CPU for those that know no other device.

    Raises:
        RecipeError: such a backend is to run on a GPU.
    """
    arguments.backend = arguments.backend or (file.backends[0] if isinstance(file, EngineFile) else "torch")
    if arguments.backend != "torch":
        arguments.devices = "cpu" if arguments.devices == "auto" else arguments.devices
        if parse_devices(arguments.devices)[0] != "cpu":
            raise RecipeError(
                f"{arguments.backend} takes images from the CPU; say --devices cpu, or cpu:N for N processes"
            )


def _network(arguments: argparse.Namespace, file: ModelFile | EngineFile, device: torch.device) -> nn.Module:
    """What is scored, in the backend and precision that were asked for."""
    if arguments.backend == "torch" and isinstance(file, ModelFile):
        return scoring_form(file.network(device), arguments.precision)
    return open_engine(file, arguments.backend, arguments.precision)


def make_recipe(arguments: argparse.Namespace, file: ModelFile | EngineFile) -> EvaluateRecipe:
    """The file's own block of modes, scales and crop, with what the command line says over it.

    A file without modes, as training writes it, gets those that its network is published with on its data set.

    Raises:
        CheckpointError: the block holds a setting that this version does not know.
        RecipeError: an unknown mode, or a crop mode without a crop.
    """
    own = file.evaluate or protocol(file.model, file.provenance.get("dataset", ""))
    block = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    for key in block.keys() - {field.name for field in fields(EvaluateRecipe)}:
        raise CheckpointError(f"{arguments.weights}: its evaluate block has {key!r}, which this version does not know")
    given = {key: getattr(arguments, key) for key in ("modes", "scales", "crop", "batch")}
    return EvaluateRecipe(**{"modes": ("ss",), **block, **{k: v for k, v in given.items() if v is not None}})


def read_samples(arguments: argparse.Namespace, file: ModelFile | EngineFile) -> Samples:
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


def look_first(
    arguments: argparse.Namespace, file: ModelFile | EngineFile, samples: Samples, modes: list[Mode]
) -> list[Mode]:
    """Everything that can be refused before hours are spent. Returns the modes to score.

    Raises:
        DataError: see `look_through`, `refuse_overlap`, `submission_names`; a folder that is in use; no label.
        RecipeError: see `_fitting`.
    """
    for folder in (arguments.out, arguments.submission):
        if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: is there already; give another name, or remove it")
    if arguments.submission:
        submission_names(samples)
        if len(modes) > 1:
            raise DataError(f"--submission takes one mode, not {' and '.join(m.name for m in modes)}; choose one")
    if listed := file.provenance.get("list"):
        if training := known_training_list(arguments.list.parent, samples, listed):
            refuse_overlap(samples, training)
        else:
            _say(f"the model's training list is not beside {arguments.list}: whether it shares images is not known")
    if _from_random_weights(file):
        _say("pretrained: none; a published result that started from a pretrained backbone is no measure for this one")
    pixels, sizes = look_through(samples)
    if not pixels and not arguments.unscored:
        raise DataError(f"{arguments.list}: its labels hold ignored pixels only; --unscored makes predictions alone")
    if not file.evaluate and not arguments.modes:
        names = " ".join(mode.name for mode in modes)
        data = file.provenance.get("dataset", "unknown data")
        _say(f"{arguments.weights} names no modes; scoring {names}, usual for {file.model} on {data}")
    return _fitting(arguments, file, modes, sizes) if isinstance(file, EngineFile) else modes


def _fitting(arguments: argparse.Namespace, file: EngineFile, modes: list[Mode], sizes: set[Size]) -> list[Mode]:
    """The modes that an exported file can be scored in.

    Raises:
        RecipeError: it cannot in one that was asked for, or in none.
    """
    shape = file.shape
    reasons = {mode: misfit(mode, sizes, shape.size, shape.output, shape.camera) for mode in modes}
    refused = [f"mode {mode.name!r} {reason}" for mode, reason in reasons.items() if reason]
    if refused and (arguments.modes or len(refused) == len(modes)):
        raise RecipeError(f"{file.path}: {refused[0]}")
    for sentence in refused:
        _say(f"{file.path}: left out: {sentence}")
    return [mode for mode, reason in reasons.items() if not reason]


def _say(sentence: str) -> None:
    print(f"evaluate: {sentence}", file=sys.stderr)


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
                picture = side_by_side(image, truth, prediction, samples.labels.palette)
                with atomic_write(prediction_path(arguments.visualize, mode, name)) as temporary:
                    temporary.write_bytes(encode(picture, compression=3))


def _run_on_each_device(devices: str, modes: list[Mode]) -> None:
    """This very command once per device, in these modes; ends with its exit code if that is not 0."""
    words = [*sys.argv[1:], "--modes", *(mode.name for mode in modes)]  # the last --modes counts
    if code := launch("segcore", devices, words):
        sys.exit(code)


def _progress_folder(arguments: argparse.Namespace, samples: Samples, modes: list[Mode]) -> Path:
    """Another one for other weights, images, labels, modes or code, so that nothing is mixed."""
    paths = [path(i) for path in (samples.image_path, samples.label_path) for i in range(len(samples))]
    files = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    code = [sha256(path) for path in sorted(Path(segcore.__file__).parent.rglob("*.py"))]
    how = [plain(mode) for mode in modes], arguments.backend, arguments.precision
    state = digest(sha256(arguments.weights), files, samples.labels.digest, how, code)
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
        spread = "–".join(f"{100 * end:.2f}" for end in found["miou_interval"])  # one word: it is not broken in two
        table.add_row(mode, miou, spread, str(found["classes_averaged"]), *numbers, str(found["images"]))
    return table
