"""Lists and weights in; work/train/ out: model.pt, curve.csv, and run.json with the facts of this very run.

Starts one process per device of `runtime.devices`. After an interruption the same command goes on where it stopped: the
state lies under work/resume/, named by everything the result depends on.
"""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import UTC, datetime

import torch

from pipeline.settings import (
    FILES,
    LISTS,
    RECIPE,
    TRAIN,
    WEIGHTS,
    DatasetInfo,
    image_root,
    params,
    read_yaml,
    resume_folder,
    section,
    stage,
    verified_images,
)
from segcore.checkpoint import plain
from segcore.data.datasets import Samples
from segcore.distributed import join, launch
from segcore.files import digest, exclusive, sha256, write_json
from segcore.train import Job, TrainRecipe, train


@stage
def main() -> int | None:
    """Runs the stage; under torchrun, one of its processes."""
    runtime = params().runtime
    if (code := launch("pipeline.train", runtime.devices)) is not None:
        return code
    job = make_job()
    leads = os.environ.get("RANK", "0") == "0"
    message = f"this very training is already running (its state: {job.resume}); wait for it or stop it"
    with exclusive(job.resume / "lock", message) if leads else contextlib.nullcontext():
        if leads:
            verified_images()
        with join(runtime.devices) as process:
            facts = train(job, process)
        if leads:
            write_json(TRAIN / "run.json", {**facts, **circumstances(process.device)})
    return None


def make_job() -> Job:
    """The training that params.yaml and recipe.yaml describe."""
    recipe, info, wanted = section("train", TrainRecipe), section("dataset", DatasetInfo), params()
    list_path, backbone = LISTS / f"{recipe.trained_on}.csv", WEIGHTS / "backbone.pth"
    provenance = {
        "dataset": info.name,
        "trained_on": recipe.trained_on,
        "recipe": digest(plain(recipe)),
        "code": recipe.code,
        "data": sha256(FILES),
        "list": sha256(list_path),
        "weights": sha256(WEIGHTS / "receipt.json"),
    }
    return Job(
        recipe=recipe,
        samples=Samples.read(list_path, image_root(info.name)),
        mean=info.mean,
        std=info.std,
        seed=wanted.seed,
        out=TRAIN,
        resume=resume_folder("train", digest(provenance, plain(info), wanted.seed)),
        workers=wanted.runtime.workers,
        pretrained=backbone if backbone.exists() else None,
        evaluate={key: value for key, value in read_yaml(RECIPE)["evaluate"].items() if key != "code"},
        provenance=provenance,
    )


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
