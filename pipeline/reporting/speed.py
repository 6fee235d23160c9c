"""The report's section on speed: what each engine does in which time, and what it scores."""

from __future__ import annotations

from typing import Any

from pipeline.reporting.inputs import Run
from pipeline.reporting.metrics import measured
from pipeline.reporting.page import Cell, KeyFigure, Notice, Picture, Section, Table, Text
from pipeline.reporting.pareto import pareto_figure
from pipeline.reporting.words import NONE, digits, percent, size
from segcore.visualize import figure_png, figure_svg

BUSY = "The machine was busy with other work while this was measured: read the figures as lower bounds."
# Key of a row's `times_ms` -> heading.
APART = {"network": "network", "classes": "+ argmax", "copies": "+ copies", "encoded": "from PNG"}


def fastest(run: Run) -> KeyFigure | None:
    """The highest rate at batch 1 and the largest image measured, named with how it was reached."""
    single = [row for row in measured(run) if row["batch"] == 1]
    if not single:
        return None
    largest = max(row["size"][0] * row["size"][1] for row in single)
    best = max((row for row in single if row["size"][0] * row["size"][1] == largest), key=lambda row: row["fps"])
    device = run.speed["device"]["gpu"] or run.speed["device"]["cpu"]
    how = f"{best['backend']} {best['precision']}, {size(best['size'])}, batch 1, {device}"
    return KeyFigure("Fastest backend", f"{digits(best['fps'])} fps", how)


def speed_section(run: Run) -> Section:
    """Every engine asked for, with its numbers or the reason why it has none, and the device."""
    rows = run.speed["results"]
    blocks = [*_notices(run), Text(_device(run.speed["device"])), *_pareto(run), _table(measured(run))]
    blocks += [Text(text) for text in (_calibration(run.speed.get("calibration")),) if text]
    if missing := [row for row in rows if row["status"] != "measured"]:
        cells = [[*_name(row), f"{row['status']}: {row.get('reason', 'no reason given')}"] for row in missing]
        blocks.append(Table(("backend", "precision", "H×W", "batch", "why it has no number"), cells, "llrrl"))
    blocks.append(_details(measured(run)))
    return Section("Speed", blocks, "make benchmark-here")


def _table(rows: list[dict[str, Any]]) -> Table:
    header = ("backend", "precision", "H×W", "batch", "fps", *(f"{name} ms" for name in APART.values()))
    header += ("mIoU %", "lost", "MB")
    caption = (
        "fps is batch / median latency from normalised images in memory to their class map (`+ argmax`). Median times "
        "by what is in them, each holding all that the ones before it hold: the network up to its logits at the "
        "image's size; their argmax; copies to the memory and layout that the backend reads, and back; everything "
        "from the bytes of a PNG to a class map of its size. `mIoU` is that of the very engine that was timed, on "
        "validation images, and `lost` what it has less than PyTorch float32, in points."
    )
    return Table(header, [_row(row) for row in rows], "ll" + "r" * 10, caption)


def _row(row: dict[str, Any]) -> list[Cell | str]:
    times = row.get("times_ms", {"classes": row["latency_ms"].get("median")})
    shown = [digits(times.get(name)) for name in APART]
    score = [percent(row.get(name)) for name in ("miou", "miou_lost")]
    return [*_name(row), digits(row["fps"]), *shown, *score, digits(row.get("file_mb"))]


def _details(rows: list[dict[str, Any]]) -> Table:
    header = ("backend", "precision", "H×W", "batch", "median ms", "p90 ms", "p99 ms", "min ms", "± ms", "runs")
    header += ("same labels %", "computes", "sensors")
    found = []
    for row in rows:
        times = [digits(row["latency_ms"].get(name)) for name in ("median", "p90", "p99", "min", "std")]
        same, sensors = percent(row.get("argmax_agreement")), _sensors(row.get("sensors", {}))
        found.append([*_name(row), *times, str(row.get("samples", NONE)), same, row.get("computes") or NONE, sensors])
    caption = (
        "`±` is the standard deviation; `same labels` is the share of pixels with the label that PyTorch float32 gives "
        "them; `computes` is the arithmetic that the runtime says it used; sensors as far as the machine shows them."
    )
    return Table(header, found, "ll" + "r" * 9 + "ll", caption, folded="How steady, and in which arithmetic")


def _pareto(run: Run) -> list[Picture]:
    """mIoU against fps of the engines of one size and batch: of what lies to the lower left, nobody needs any."""
    scored = [row for row in measured(run) if "miou" in row]
    if len(scored) < 2:
        return []
    names = [f"{row['backend']} {row['precision']}" + _unlike(row, scored) for row in scored]
    points = [(row["fps"], 100 * row["miou"]) for row in scored]
    device = run.speed["device"]["gpu"] or run.speed["device"]["cpu"]
    figure = pareto_figure(names, points, "frames per second", "mIoU %")
    caption = f"mIoU and speed of each engine on {device}; the line joins those that no other one beats in both."
    alt = "mIoU of every engine against its frames per second"
    return [Picture("speed.png", figure_svg(figure), figure_png(figure), alt, caption)]


def _unlike(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Size and batch, where they are not the same in all rows."""
    sizes, batches = ({str(each[key]) for each in rows} for key in ("size", "batch"))
    return (f" {size(row['size'])}" if len(sizes) > 1 else "") + (f" b{row['batch']}" if len(batches) > 1 else "")


def _notices(run: Run) -> list[Notice]:
    texts = []
    if run.speed["device"].get("loaded"):
        texts.append(BUSY)
    if run.speed.get("graph", {}).get("checkpoint_sha256", run.checkpoint) != run.checkpoint:
        texts.append("Measured on another checkpoint than the one scored; `dvc repro benchmark` measures this one.")
    reasons = {row["miou_reason"] for row in measured(run) if row.get("miou_reason")}
    texts += [f"No engine was scored: {reason}." for reason in sorted(reasons)]
    return [Notice(text) for text in texts]


def _calibration(made: dict[str, Any] | None) -> str:
    if not made:
        return ""
    names = ", ".join(f"`{name}`" for name in made["images"][:3])
    return (
        f"int8 was calibrated on {len(made['images'])} training images of `{made['list']}`, seed {made['seed']}: "
        f"{names}, …; `work/benchmark.json` names them all."
    )


def _name(row: dict[str, Any]) -> list[str]:
    return [row["backend"], row["precision"], size(row["size"]), str(row["batch"])]


def _sensors(found: dict[str, Any]) -> str:
    units = {"clock_mhz": "MHz", "power_w": "W", "temperature_c": "°C"}
    parts = [f"{digits(found[name])} {unit}" for name, unit in units.items() if name in found]
    parts += [f"throttled {found['throttled']}"] if found.get("throttled") else []
    return ", ".join(parts) or NONE


def _device(device: dict[str, Any]) -> str:
    gpu = f"GPU {device['gpu']}" if device.get("gpu") else "no GPU"
    software = [device.get("os", NONE)]
    software += [
        f"{name} {device[name]}" for name in ("python", "torch", "onnxruntime", "openvino") if device.get(name)
    ]
    machine = f"{device['cpu']}, {device['threads']} threads, {gpu}"
    return f"Device: {machine}; {', '.join(software)}; measured {device.get('date', NONE)}."
