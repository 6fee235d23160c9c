"""README's table is made of kept results, and is not stale."""

from pathlib import Path

import pytest

from pipeline import report
from pipeline.table import MARKS, keep, table, with_table, with_tables
from segcore.errors import RecipeError
from tests.pipeline.invented_run import make_run

PROJECT = Path(__file__).parents[2]


def test_readme_is_what_the_command_writes(monkeypatch):
    monkeypatch.chdir(PROJECT)
    text = (PROJECT / "README.md").read_text()
    assert with_tables(text) == text, "run `python -m pipeline.table` and commit README"


def test_kept_results_hold_no_picture_and_become_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path)
    with pytest.raises(SystemExit):
        report.main()
    folder = keep()
    assert folder == Path("docs/results/bisenetv2-tiny-s1")
    assert "![" not in (folder / "report.md").read_text()
    assert not [path for path in folder.iterdir() if path.suffix not in (".json", ".csv", ".md")]
    head, _, row = table(Path("docs/results")).splitlines()
    assert "| ss | msf |" in head and "| ssc |" not in head
    assert row.startswith("| [bisenetv2-tiny-s1]") and "from scratch, 300 × 8 images" in row and "openvino" in row


def test_lost_marks_are_said():
    start, end = MARKS["results"]
    assert with_table(f"a\n{start}\nold\n{end}\nb", "results", "new") == f"a\n{start}\nnew\n{end}\nb"
    with pytest.raises(RecipeError, match="marks"):
        with_table("a", "results", "new")
