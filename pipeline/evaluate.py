"""Scores the trained model on the validation list in every mode of the recipe.

work/train/model.pt and the validation images -> work/evaluate/: one JSON per mode, `images.npz` with the counts per
image, the predicted label maps, and `majority.json`, the score of the best prediction that ignores the image. Finished
images are kept outside the outs until the stage is done, so a killed run goes on where it stopped. With several
devices the stage starts itself once on each.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import torch

from pipeline.lease import leased
from pipeline.settings import (
    EVALUATE,
    FILES,
    LISTS,
    TRAIN,
    params,
    resume_folder,
    section,
    stage,
    verified_images,
)
from segcore.checkpoint import ModelFile, load_model_file, plain
from segcore.data.datasets import Samples
from segcore.distributed import join
from segcore.evaluate import EvaluateRecipe, evaluate, refuse_overlap, score_majority, scoring_form
from segcore.files import digest, exclusive, sha256
from segcore.launch import launch

MODEL, LIST = TRAIN / "model.pt", LISTS / "val.csv"


@stage
def main() -> int | None:
    """Runs the stage."""
    recipe, file, samples = section("evaluate", EvaluateRecipe), load_model_file(MODEL), validation()
    if file.provenance.get("trained_on") == "trainval":
        print("evaluate: the model was trained on the validation images too, so no mode is scored", file=sys.stderr)
        EVALUATE.mkdir(parents=True, exist_ok=True)
        return None
    progress = resume_folder("evaluate", digest(sha256(MODEL), sha256(LIST), sha256(FILES), plain(recipe)))
    if "LOCAL_RANK" in os.environ:
        run(recipe, file, samples, progress)
        return None
    message = f"this very evaluation is already running (its state: {progress}); wait for it or stop it"
    with exclusive(progress.with_suffix(".lock"), message), leased(params().runtime.devices):
        code = launch("pipeline.evaluate", params().runtime.devices)
        if code is None:
            run(recipe, file, samples, progress)
        if not code:
            shutil.rmtree(progress, ignore_errors=True)
    return code


def validation() -> Samples:
    """The validation list; raises DataError if images changed since they were fetched, or were trained on."""
    root = verified_images()
    samples = Samples.read(LIST, root)
    refuse_overlap(samples, Samples.read(LISTS / "train.csv", root))
    return samples


def run(recipe: EvaluateRecipe, file: ModelFile, samples: Samples, progress: Path) -> None:
    """This process's share of the images; the first process also scores and writes the outs."""
    torch.backends.cudnn.allow_tf32 = False  # scores are float32 scores on every device
    with join(params().runtime.devices, wait_at_end=False) as process:
        results = evaluate(
            scoring_form(file.network(process.device)),
            samples,
            recipe.build(file.model),
            **file.normalisation,
            out=EVALUATE,
            progress_dir=progress,
            batch=recipe.batch,
            device=process.device,
            share=(process.rank, process.world_size),
            network={"sha256": sha256(MODEL), "backend": "torch", "precision": "fp32"},
        )
    if results is not None:
        results["majority"] = score_majority(LISTS / "majority.png", samples, EVALUATE)
        print(*(f"{name}: {100 * result['miou']:.2f} % mIoU" for name, result in results.items()), sep="\n")


if __name__ == "__main__":
    main()
