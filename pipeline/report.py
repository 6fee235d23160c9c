"""Stage `report`: what all other stages left -> the small numbers under metrics/ and the pages under work/report/.

Takes seconds and computes nothing that another stage should have. Where the data set's licence keeps its photographs
out of work/report/ and this machine has them, the full page is written to work/report-with-photographs.html, which is
no out and never leaves the machine.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.reporting.content import build_page
from pipeline.reporting.examples import photographs_here
from pipeline.reporting.inputs import Run, read_run
from pipeline.reporting.markdown import to_markdown
from pipeline.reporting.metrics import write_metrics
from pipeline.reporting.page import to_html
from pipeline.settings import METRICS, REPORT, WORK, stage
from segcore.files import atomic_write

PRIVATE = WORK / "report-with-photographs.html"


@stage
def main() -> None:
    """Reads the outs under the current folder, writes metrics/ and the report."""
    run = read_run()
    write_metrics(run, METRICS)
    write_report(run)


def write_report(run: Run) -> None:
    """Writes report.html, report.md and its pictures, and the private page where there is one."""
    page = build_page(run, photographs=run.about.redistributable)
    for name, content in page.files.items():
        _write(REPORT / name, content)
    _write(REPORT / "report.md", to_markdown(page).encode())
    _write(REPORT / "report.html", to_html(page).encode())
    PRIVATE.unlink(missing_ok=True)  # one of an earlier run would show other predictions
    if not run.about.redistributable and photographs_here(run):
        _write(PRIVATE, to_html(build_page(run, photographs=True)).encode())


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    main()
