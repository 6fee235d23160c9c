"""Lists and weights in; work/train/ out: model.pt, curve.csv, and run.json with the facts of this very run.

Starts one process per device of `runtime.devices`. After an interruption the same command goes on where it stopped: the
state lies under work/resume/, named by everything the result depends on. With other settings the stage refuses to start
beside a state that waits there, and says what differs.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from pipeline.lease import leased
from pipeline.settings import (
    FILES,
    LISTS,
    TRAIN,
    WEIGHTS,
    DatasetInfo,
    image_root,
    packed_folder,
    params,
    project_root,
    resume_folder,
    section,
    stage,
    verified_images,
)
from pipeline.unfinished import FINISHED, LOCK, NOTE, refuse_beside
from segcore.checkpoint import plain
from segcore.data.datasets import Samples
from segcore.data.packed import PackedSamples, pack
from segcore.data.store import read_files
from segcore.distributed import join, parse_devices
from segcore.files import digest, exclusive, sha256, write_json
from segcore.launch import launch
from segcore.prepare import Job, check_share
from segcore.recipe import TrainRecipe
from segcore.train import train


@stage
def main() -> int | None:
    """Runs the stage; under torchrun, one of its processes."""
    devices, job, of = params().runtime.devices, make_job(), described()
    if "LOCAL_RANK" not in os.environ:
        # Here and not in every process, so that what is wrong is said once and early.
        refuse_beside(job.resume, of, project_root())
        check_share(job.recipe, parse_devices(devices)[1], job.any_world_size)
        verified_images()
        if isinstance(job.samples, PackedSamples):
            pack(job.samples, job.workers)
            print(f"{job.samples.size() / 1e9:.2f} GB of decoded images in {job.samples.folder}")
    with leased(devices):
        return _run(job, of, devices)


def _run(job: Job, of: dict[str, Any], devices: str | int) -> int | None:
    if (code := launch("pipeline.train", devices)) is not None:
        return code
    with join(devices) as process, claim(job.resume, of) if process.leads else contextlib.nullcontext():
        facts = train(job, process)
        if process.leads:
            write_json(TRAIN / "run.json", {**facts, **circumstances(process.device)})
    return None


@contextlib.contextmanager
def claim(folder: Path, of: dict[str, Any]) -> Iterator[None]:
    """Holds the resume folder for this run alone, notes what it is of, and clears away what finished runs left.

    A finished state is kept until then: should DVC be killed before it stores the outs, only the export runs again.
    """
    refuse_beside(folder, of, project_root())  # torchrun may have started this process
    message = f"this very training is already running (its state: {folder}); wait for it or stop it"
    with exclusive(folder / LOCK, message):
        write_json(folder / NOTE, of)
        for note in folder.parent.glob(f"*/{FINISHED}"):
            if note.parent != folder:
                shutil.rmtree(note.parent, ignore_errors=True)
        yield
        (folder / FINISHED).touch()


def described() -> dict[str, Any]:
    """What the training is of, as plain containers: all that its result depends on, and that its state goes on with."""
    recipe, wanted = section("train", TrainRecipe), params()
    return {
        "recipe": plain(recipe),
        "dataset": plain(section("dataset", DatasetInfo)),
        "seed": wanted.seed,
        "data": sha256(FILES),
        "list": sha256(LISTS / f"{recipe.trained_on}.csv"),
        "weights": sha256(WEIGHTS / "receipt.json"),
        "device": parse_devices(wanted.runtime.devices)[0],
        "torch": str(torch.__version__),
    }


def make_job() -> Job:
    """The training that params.yaml and recipe.yaml describe."""
    recipe, info, wanted, of = section("train", TrainRecipe), section("dataset", DatasetInfo), params(), described()
    list_path, root = LISTS / f"{recipe.trained_on}.csv", image_root(info.name)
    provenance = {
        "dataset": info.name,
        "trained_on": recipe.trained_on,
        "recipe": digest(of["recipe"]),
        "code": recipe.code,
        **{name: of[name] for name in ("data", "list", "weights")},
    }
    return Job(
        recipe=recipe,
        samples=_training_samples(list_path, info.name),
        mean=info.mean,
        std=info.std,
        seed=wanted.seed,
        out=TRAIN,
        resume=resume_folder("train", digest(of)),
        workers=wanted.runtime.workers,
        pretrained=_if_there(WEIGHTS / "backbone.pth"),
        finetune=_if_there(WEIGHTS / "finetune.pt"),
        validation=Samples.read(LISTS / "val.csv", root) if recipe.validate_every else None,
        any_world_size=bool(wanted.runtime.allow_world_size),
        provenance=provenance,
    )


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _training_samples(list_path: Path, dataset: str) -> Samples:
    """The list's images, from their packed copies if `runtime.cache` is set."""
    samples = Samples.read(list_path, image_root(dataset))
    return PackedSamples(samples, read_files(FILES), packed_folder(dataset)) if params().runtime.cache else samples


def circumstances(device: torch.device) -> dict[str, str]:
    """When, where and with what this run was made; nothing a result depends on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": gpu or f"{platform.machine()} CPU",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


if __name__ == "__main__":
    main()
