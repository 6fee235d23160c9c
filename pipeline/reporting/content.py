"""The report's content: what was run, what came out, and what each number needs to be believed."""

from __future__ import annotations

from typing import Any

from pipeline.reporting.examples import examples_section
from pipeline.reporting.inputs import Run
from pipeline.reporting.insight import insight_sections
from pipeline.reporting.metrics import commands, digests, versions
from pipeline.reporting.page import Notice, Page, Picture, Section, Table
from pipeline.reporting.scores import classes_section, confusion_section, result_section
from pipeline.reporting.speed import fastest, speed_section
from pipeline.reporting.words import digits, duration, flat, plain, setting, size
from segcore.visualize import curve_figure, figure_png, figure_svg


def build_page(run: Run, photographs: bool) -> Page:
    """The whole page; `photographs` says whether pictures of the data set may stand on it."""
    scored = [classes_section(run), examples_section(run, photographs)] if run.mode else []
    scored += [confusion_section(run), *insight_sections(run)] if run.mode else []
    sections = [
        result_section(run, fastest(run)),
        setup_section(run),
        *scored,
        training_section(run),
        speed_section(run),
        provenance_section(run),
    ]
    subtitle = (
        f"Semantic segmentation into {run.labels.num_classes} classes, trained on {run.training_images} images, "
        f"scored on {len(run.validation)}. Seed {run.params['seed']}."
    )
    return Page(f"{run.params['model']} on {run.about.title}", subtitle, sections)


def setup_section(run: Run) -> Section:
    """Model, data and training settings; what is unusual is said loudly."""
    train, batch = run.recipe["train"], run.recipe["train"]["batch_size"]
    passes = run.training["iterations"] * batch / run.training_images
    rows = [
        ("model", f"{run.params['model']}, {run.training['parameters']:,} parameters{_heads(train)}"),
        ("data set", f"{run.about.title}: {run.training_images} training, {len(run.validation)} validation images"),
        ("seed", str(run.params["seed"])),
        ("iterations", f"{run.training['iterations']} of {batch} crops ({digits(passes)} passes over the images)"),
        ("crop H×W", size(train.get("crop"))),
        ("learning rate", plain(train.get("lr"))),
        ("precision", _precision(run)),
        ("pretrained", _pretrained(run.receipt)),
        ("trained in", _duration(run)),
        ("trained on", ", ".join(str(run.training[key]) for key in ("device", "system") if key in run.training)),
    ]
    recipe = [(key, setting(key, value)) for key, value in flat(train) if key != "code"]
    folded = Table(("setting", "value"), recipe, "ll", folded="Complete training recipe")
    blocks = [*_notices(run), Table(("", ""), rows, "ll"), folded]
    return Section("What was run", blocks, commands(run)["experiment"])


def _notices(run: Run) -> list[Notice]:
    texts = []
    if run.receipt.get("pretrained", "none") == "none":
        texts.append(
            "Pretrained: none. The network started from random weights; a published result that started from a "
            "pretrained backbone is no measure for it."
        )
    if run.params["override"]:
        changed = ", ".join(f"{key} = {plain(value)}" for key, value in run.params["override"].items())
        texts.append(f"Not the recipe as it stands: overridden in params.yaml: {changed}.")
    if bad := run.training.get("unreadable"):
        texts.append(f"{len(bad)} training images could not be read, and others stood in for them: {'; '.join(bad)}.")
    if (processes := run.origin.get("world_size")) is not None:
        wanted = run.recipe["train"]["world_size"]
        texts.append(f"Trained by {processes} processes; the recipe's numbers depend on {wanted}.")
    return [Notice(text) for text in texts]


def _heads(train: dict[str, Any]) -> str:
    return " with auxiliary heads" if train.get("auxiliary_weight", 1) else ", trained without auxiliary heads"


def _pretrained(receipt: dict[str, Any]) -> str:
    name = receipt.get("pretrained", "none")
    return f"{name}, sha256 `{receipt['sha256'][:16]}`" if receipt.get("sha256") else name


def _precision(run: Run) -> str:
    """The arithmetic used, and the recipe's where the machine did not have it."""
    asked, used = run.recipe["train"].get("precision", "float32"), run.training.get("precision", "float32")
    known = {"fp16": "float16", "bf16": "bfloat16"}
    return used if used == known.get(asked, asked) else f"{used}; the recipe's {asked} is not for this machine"


def _duration(run: Run) -> str:
    seen, hours, start = (run.training.get(key) for key in ("images", "device_hours", "resumed_from"))
    parts = [duration(run.training["seconds"]), f"{digits(run.training.get('images_per_second'))} images per second"]
    parts += [f"{seen:,} images seen"] if seen else []
    parts += [f"{digits(hours)} device-hours"] if hours else []
    parts += [f"last resumed after iteration {start}"] if start else []
    return ", ".join(parts)


def training_section(run: Run) -> Section:
    """The curve, and where it ended."""
    losses = {"loss": run.curve["loss"]}
    if (run.curve.get("auxiliary", run.curve["loss"]) > 0).any() and "main" in run.curve:
        losses |= {"main head": run.curve["main"]}
    figure = curve_figure(run.curve["iteration"], losses, run.curve["lr"])
    caption = f"Each point is the mean since the point before; the last loss is {digits(run.curve['loss'][-1], 4)}."
    alt = "Training loss and learning rate over the iterations"
    picture = Picture("curve.png", figure_svg(figure), figure_png(figure), alt, caption)
    return Section("Training", [picture], "dvc repro train")


def provenance_section(run: Run) -> Section:
    """Digests, versions and the commands that give the same again."""
    found, typed = digests(run), commands(run)
    rows = [
        ("model file", f"sha256 `{found['checkpoint']}`"),
        ("data, `files.csv`", f"sha256 `{found['data']}`"),
        ("weights receipt", f"sha256 `{found['weights']}`"),
        ("parameters", f"`{found['params']}`"),
        ("label table", f"`{found['labels']}`"),
        *((f"code of {stage}", f"`{value}`") for stage, value in found["code"].items()),
        ("versions", plain(versions(run))),
        ("everything again", f"`{typed['again']}`"),
        ("this run as an experiment", f"`{typed['experiment']}`"),
        ("stage by stage", ", ".join(f"`{command}`" for command in typed["stages"])),
    ]
    note = "`metrics/provenance.json` holds the same for programs, `metrics/` the numbers with six decimals."
    return Section("Provenance", [Table(("", ""), rows, "ll", note)])
