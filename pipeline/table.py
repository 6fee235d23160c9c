"""Results that are kept in the project, and the tables of README.md: of these results, and of the networks.

    python -m pipeline.table          # README's tables, from docs/results/ and the networks alone
    python -m pipeline.table --keep   # first keeps the run of the workspace as docs/results/<model>-<dataset>-s<seed>/

No number in the tables is typed: a test fails when README disagrees with what this would write.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from pipeline.reporting.content import BUSY
from pipeline.reporting.metrics import experiment_name
from pipeline.settings import METRICS, REPORT, stage
from segcore.commands import models
from segcore.errors import RecipeError
from segcore.files import atomic_write
from segcore.models.catalogue import CARDS

RESULTS = Path("docs/results")
README = Path("README.md")
# Name of a table -> the lines it stands between.
MARKS = {
    name: (f"<!-- {name}: written by `python -m pipeline.table` -->", f"<!-- end of {name} -->")
    for name in ("results", "networks")
}
KEPT = ("evaluate.json", "benchmark.json", "train.json", "provenance.json", "iou.csv")
MODES = ("ss", "ssc", "msf", "mscf", "seg50", "seg75")


@stage
def main() -> None:
    """Rewrites README's tables."""
    if sys.argv[1:] == ["--keep"]:
        print(f"kept in {keep()}")
    elif sys.argv[1:]:
        raise RecipeError(f"table: unknown argument {sys.argv[1]!r}; there is only --keep")
    text = README.read_text(encoding="utf-8")
    with atomic_write(README) as temporary:
        temporary.write_text(with_tables(text), encoding="utf-8")


def keep() -> Path:
    """Copies metrics/ and the report's Markdown into docs/results/, under the name of the experiment."""
    run = json.loads((METRICS / "provenance.json").read_text(encoding="utf-8"))["params"]
    folder = RESULTS / experiment_name(run)
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(METRICS / name, folder / name)
    # The report's pictures stay in work/report/; here are its tables.
    lines = (REPORT / "report.md").read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("!["))
    (folder / "report.md").write_text(text, encoding="utf-8")
    return folder


def table(results: Path) -> str:
    """The Markdown table of all kept results, one row each."""
    runs = [
        (folder.name, _read(folder)) for folder in sorted(results.iterdir()) if (folder / "evaluate.json").is_file()
    ]
    modes = [mode for mode in MODES if any(mode in run["evaluate"]["miou"] for _, run in runs)]
    head = ["run", "trained", *modes, "image-blind", "fps"]
    rows = [head, ["---", "---", *["--:"] * (len(modes) + 2)], *(_row(name, run, modes) for name, run in runs)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_tables(text: str) -> str:
    """README's text with both tables as they should be."""
    networks = models.markdown([models.row(name) for name in CARDS])
    return with_table(with_table(text, "results", table(RESULTS)), "networks", networks)


def with_table(text: str, name: str, content: str) -> str:
    """`text` with the table called `name` replaced by `content`.

    Raises:
        RecipeError: its marks are gone.
    """
    start, end = MARKS[name]
    if start not in text or end not in text:
        raise RecipeError(f"{README}: the marks {start!r} and {end!r} are gone; put them back")
    before, _, rest = text.partition(start)
    return f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}"


def _read(folder: Path) -> dict[str, Any]:
    names = ("evaluate", "benchmark", "train")
    kept = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}
    return {**kept, "busy": BUSY in (folder / "report.md").read_text(encoding="utf-8")}


def _row(name: str, run: dict[str, Any], modes: list[str]) -> list[str]:
    miou, train = run["evaluate"]["miou"], run["train"]
    scores = [f"{100 * miou[mode]:.2f}" if mode in miou else "" for mode in modes]
    blind = train["majority_miou"]
    start = "from scratch" if train["pretrained"] == "none" else f"from {train['pretrained']}"
    return [
        f"[{name}](docs/results/{name}/report.md)",
        f"{start}, {train['iterations']} × {train['batch_size']} images",
        *scores,
        f"{100 * blind:.2f}" if blind is not None else "",
        ("≥ " if run["busy"] else "") + _fastest(run["benchmark"]["fps"]),
    ]


def _fastest(fps: dict[str, dict[str, float]]) -> str:
    rows = [(value, key, device) for device, values in fps.items() for key, value in values.items()]
    if not rows:
        return "not measured"
    value, key, device = max(rows)
    backend, precision, size, _ = re.fullmatch(r"(\w+?)_(\w+?)_(\d+x\d+)_b(\d+)", key).groups()
    return f"{value:g} ({backend} {precision}, {size}, {device})"


if __name__ == "__main__":
    main()
