"""All kept runs in tables: means over seeds, what is kept, the page, and that nothing committed is stale."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline import table
from pipeline.reporting.page import Table
from pipeline.tables import page, pictures, runs, written
from pipeline.tables.runs import Found, kept_runs, workspace
from pipeline.tables.summary import means, measurements
from pipeline.tables.texts import brief_rows, fastest, markdown, results_rows
from pipeline.tables.written import (
    MARKS,
    NETWORKS,
    README,
    Results,
    network_tables,
    readme_tables,
    text_files,
    with_table,
    write_texts,
)
from segcore.errors import DataError, RecipeError
from tests.pipeline.kept_runs import keep_run

PROJECT = Path(__file__).parents[2]
STALE = "run `python -m pipeline.table --offline` and commit what it writes"


class TestNothingIsStale:
    @pytest.fixture(scope="class")
    def results(self) -> Results:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(PROJECT)
            found = Results.read()
            assert found.verdicts and found.runs
        return Results([runs.Run(PROJECT / run.folder) for run in found.runs], found.claims)

    # Counting the cost of all networks takes long.
    @pytest.mark.parametrize("path", [README, pytest.param(NETWORKS, marks=pytest.mark.slow)], ids=str)
    def test_tables_in_texts(self, results, path):
        text = (PROJECT / path).read_text()
        tables = readme_tables(results) if path == README else network_tables()
        for name, content in tables.items():
            assert with_table(text, name, content) == text, STALE

    def test_tables(self, results, tmp_path):
        write_texts(results, tmp_path)
        assert set(text_files(results)) <= {path.name for path in tmp_path.iterdir()}
        for path in tmp_path.iterdir():
            assert (PROJECT / "docs/results" / path.name).read_text() == path.read_text(), f"{path.name}: {STALE}"

    def test_page(self, results, monkeypatch):
        monkeypatch.setattr(page, "figure_svg", lambda figure: "<svg></svg>")
        committed = (PROJECT / "docs/results/index.html").read_text()
        without = re.sub(r"<svg.*?</svg>\s*", "<svg></svg>", committed, flags=re.DOTALL)
        assert without == page.to_html(page.build_page(results)), STALE

    def test_every_link_leads_to_a_file(self):
        links = re.findall(r"\]\((docs/results/[^)]+)\)", (PROJECT / "README.md").read_text())
        html = (PROJECT / "docs/results/index.html").read_text()
        linked = re.findall(r'<a href="([^"]+)"', html)
        links += [f"docs/results/{link}" for link in linked if not link.startswith("#")]
        assert links and [link for link in links if not (PROJECT / link).is_file()] == []
        assert [link for link in linked if link.startswith("#") and f'id="{link[1:]}"' not in html] == []


class TestMeans:
    def test_over_seeds_with_deviation_and_every_value(self, tmp_path):
        for seed, score in ((1, 70.0), (2, 72.0), (3, 77.0)):
            keep_run(tmp_path, seed=seed, miou={"ss": score})
        found = means(measurements(kept_runs(tmp_path)))
        row = found[found.metric == "miou"].iloc[0]
        assert row["mean"] == pytest.approx(73.0) and row["std"] == pytest.approx(3.6056, abs=1e-4)
        assert row["n"] == 3 and row["values"] == pytest.approx((70, 72, 77)) and row["seeds"] == (1, 2, 3)
        assert set(found.metric) == {"miou", "pixel_accuracy", "overall"}

    def test_one_seed_has_no_deviation(self, tmp_path):
        keep_run(tmp_path, miou={"ss": 70.0})
        _, rows, _ = brief_rows(kept_runs(tmp_path), means(measurements(kept_runs(tmp_path))))
        assert rows == [["cityscapes", "bisenetv2", "100 × 4", "1", "70.00", "10.00"]]

    def test_a_training_scored_twice_counts_once(self, tmp_path):
        keep_run(tmp_path, miou={"ss": 70.0, "msf": 71.0})
        keep_run(tmp_path, miou={"ss": 70.0}, override={"modes": "ss"})
        found = means(measurements(kept_runs(tmp_path)))
        assert list(found[found.metric == "miou"].n) == [1, 1]

    def test_what_changes_the_training_stands_alone(self, tmp_path):
        keep_run(tmp_path, seed=1, miou={"ss": 70.0})
        keep_run(tmp_path, seed=2, miou={"ss": 60.0}, override={"iterations": 720})
        keep_run(tmp_path, seed=3, miou={"ss": 65.0}, override={"iterations": 2600, "modes": "ss"})
        runs_ = kept_runs(tmp_path)
        _, rows, _ = brief_rows(runs_, means(measurements(runs_)))
        names = ["bisenetv2", "bisenetv2 (iterations 720)", "bisenetv2 (iterations 2600)"]
        assert [row[1] for row in rows] == names and [row[3] for row in rows] == ["1"] * 3

    def test_seeds_of_different_code_are_marked(self, tmp_path):
        keep_run(tmp_path, seed=1, miou={"ss": 70.0})
        keep_run(tmp_path, seed=2, miou={"ss": 71.0}, code="0ther")
        _, rows, _ = brief_rows(kept_runs(tmp_path), means(measurements(kept_runs(tmp_path))))
        assert rows[0][4] == "70.50 ± 0.71 †"

    def test_speed_names_its_device_and_says_when_it_is_a_lower_bound(self, tmp_path):
        speed = {"a40": {"torch_fp32_64x128_b1": 10.0, "tensorrt_fp16_64x128_b1": 50.0}}
        keep_run(tmp_path, seed=1, fps=speed)
        assert fastest(means(measurements(kept_runs(tmp_path)))) == "50.0 (tensorrt fp16, 64x128, a40)"
        own = {"a40": {key: 0.7 for key in speed["a40"]}}
        keep_run(tmp_path / "scored", fps=speed, engines=own)
        assert fastest(means(measurements(kept_runs(tmp_path / "scored")))).endswith("a40, 70.00 mIoU)")
        keep_run(tmp_path, seed=2, fps=speed, busy=True)
        assert fastest(means(measurements(kept_runs(tmp_path)))).startswith("≥ 50.0")

    def test_unknown_load_counts_as_load(self, tmp_path):
        (keep_run(tmp_path) / "report.md").unlink()
        assert kept_runs(tmp_path)[0].busy

    def test_a_damaged_file_is_named(self, tmp_path):
        (keep_run(tmp_path) / "evaluate.json").write_text("{")
        with pytest.raises(DataError, match="evaluate.json is damaged"):
            measurements(kept_runs(tmp_path))


class TestKeeping:
    @pytest.fixture
    def here(self, reported, tmp_path, monkeypatch) -> Found:
        """The run of the workspace, which is the current folder."""
        monkeypatch.chdir(shutil.copytree(reported, tmp_path / "project"))
        return workspace()

    def test_a_run_without_pictures_becomes_a_row(self, here):
        assert table.keep([here]) == ["kept the workspace in docs/results/bisenetv2-tiny-s1"]
        folder = Path("docs/results/bisenetv2-tiny-s1")
        assert "![" not in (folder / "report.md").read_text()
        assert not [path for path in folder.iterdir() if path.suffix not in (".json", ".csv", ".md")]
        found = kept_runs()
        head, _, row = markdown(*results_rows(found, means(measurements(found)), "docs/results/")).splitlines()
        assert "| ss | msf |" in head and "| ssc |" not in head
        assert "[1](docs/results/bisenetv2-tiny-s1/report.md)" in row and "from scratch, 300 × 8 images" in row
        assert "openvino" in row

    def test_what_is_kept_stays_unless_asked_for(self, here):
        table.keep([here])
        other = {**here.files, "evaluate.json": here.files["evaluate.json"].replace("0.", "0.1")}
        again = Found("experiment again", other)
        assert "stays" in table.keep([again])[0]
        assert kept_runs()[0].scores == workspace_scores(here)
        assert table.keep([again, here], ["again"]) == ["kept experiment again in docs/results/bisenetv2-tiny-s1"]
        assert kept_runs()[0].scores != workspace_scores(here)
        assert table.keep([again], None) == []

    def test_a_name_that_is_no_experiment(self, here):
        with pytest.raises(RecipeError, match="experiment nobody has no results"):
            table.keep([here], ["nobody"])

    def test_a_path_in_the_parameters_stays_one_folder(self, here):
        text = here.files["provenance.json"].replace('"override": {}', '"override": {"finetune": "/a b/c.pt"}')
        assert text != here.files["provenance.json"]
        folder = Found("experiment x", {**here.files, "provenance.json": text}).keep()
        assert folder == Path("docs/results/bisenetv2-tiny-s1-finetune-_a_b_c.pt")

    def test_no_run_at_all(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert workspace() is None and kept_runs() == []
        assert "Nothing is kept yet" in page.to_html(page.build_page(Results([], [])))


def workspace_scores(found: Found) -> dict:
    return json.loads(found.files["evaluate.json"])


class TestPictures:
    def test_a_dot_for_each_seed_and_a_line_at_the_published_number(self, tmp_path):
        for seed, score in ((1, 70.0), (2, 72.0)):
            keep_run(tmp_path, seed=seed, miou={"ss": score})
            keep_run(tmp_path, seed=seed, miou={"ss": score}, override={"iterations": 5})
        rows = means(measurements(kept_runs(tmp_path)))
        figure = pictures.seeds_figure(rows[rows.metric == "miou"], {("cityscapes", "bisenetv2", "ss"): 74.95})
        lines = figure.axes[0].get_lines()
        dots = [line for line in lines if line.get_marker() == "o"]
        assert [list(line.get_xdata()) for line in dots] == [[70, 72], [70, 72]]
        # The other recipe has no published number.
        assert [list(line.get_xdata()) for line in lines if line.get_color() == pictures.ORANGE] == [[74.95] * 2]

    def test_score_and_speed_are_of_the_same_size_and_device(self, tmp_path):
        keys = {"torch_fp32_512x1024_b1": 40.0, "torch_fp32_1024x2048_b1": 10.0, "torch_fp32_1024x2048_b8": 90.0}
        keep_run(tmp_path, "stdc1", miou={"ss": 75.0, "seg50": 72.0, "msf": 77.0}, fps={"a40": keys, "t4": keys})
        points = pictures.pareto_rows(means(measurements(kept_runs(tmp_path))), "cityscapes", "a40")
        assert list(zip(points["mode"], points.fps, points.miou, strict=True)) == [
            ("seg50", 40.0, pytest.approx(72.0)),
            ("ss", 10.0, pytest.approx(75.0)),
        ]

    def test_an_engine_has_its_own_score_or_none(self, tmp_path):
        keys = {"openvino_fp32_64x128_b1": 5.0, "openvino_int8_64x128_b1": 9.0, "torch-compile_bf16_64x128_b1": 7.0}
        keep_run(tmp_path, miou={"ss": 70.0}, fps={"xeon": keys})
        keep_run(tmp_path, "stdc1", miou={"ss": 60.0}, fps={"xeon": keys}, engines={"xeon": dict.fromkeys(keys, 0.58)})
        points = pictures.pareto_rows(means(measurements(kept_runs(tmp_path))), "cityscapes", "xeon")
        found = sorted(zip(points.model, points.backend, points.precision, points.miou, strict=True))
        assert found == [
            ("bisenetv2", "openvino", "fp32", pytest.approx(70.0)),
            ("stdc1", "openvino", "fp32", pytest.approx(58.0)),
            ("stdc1", "openvino", "int8", pytest.approx(58.0)),
            ("stdc1", "torch-compile", "bf16", pytest.approx(58.0)),
        ]

    def test_the_frontier_leaves_out_what_another_beats(self):
        points = pd.DataFrame({"fps": [10.0, 20.0, 30.0, 30.0], "miou": [70.0, 75.0, 60.0, 65.0]})
        assert list(pictures.frontier(points).miou) == [65.0, 75.0]


class TestThePage:
    @pytest.fixture
    def results(self, tmp_path) -> Results:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            for seed in (1, 2):
                keep_run(Path("docs/results"), seed=seed, fps={"a40": {"torch_fp32_1024x2048_b1": 9.0}})
                keep_run(Path("docs/results"), "stdc1", seed=seed, fps={"t4": {"torch_fp32_1024x2048_b1": 5.0}})
            found = Results.read()
            return Results([runs.Run(tmp_path / run.folder) for run in found.runs], found.claims)

    def test_has_networks_classes_speed_claims_and_runs(self, results):
        built = page.build_page(results)
        titles = [section.title for section in built.sections]
        assert titles == [
            "Networks", "Classes of cityscapes", "Speed on a40", "Speed on t4", "Claims", "Every run",
        ]  # fmt: skip
        html = page.to_html(built)
        assert "74.95 → 74.00" in html and "74.00" in html
        assert not re.findall(r'(?:src|href)="https?:|<script|@import|url\((?!#)', html)

    def test_classes_are_tinted_by_their_iou(self, results):
        heat = next(page.class_sections(results)).blocks[0]
        assert isinstance(heat, Table) and list(heat.header) == ["class", "bisenetv2", "stdc1"]
        assert [cell.heat for cell in heat.rows[0][1:]] == pytest.approx([0.84, 0.84])
        assert 'class="c heat" style="--share:0.504"' in page.to_html(page.build_page(results))

    def test_devices_never_share_a_picture(self, results):
        for section in page.speed_sections(results):
            others = {"a40", "t4"} - {section.title.rsplit(" ", 1)[1]}
            assert not any(other in str(block) for block in section.blocks for other in others)


def test_lost_marks_are_said():
    start, end = MARKS["results"]
    assert with_table(f"a\n{start}\nold\n{end}\nb", "results", "new") == f"a\n{start}\nnew\n{end}\nb"
    with pytest.raises(RecipeError, match="marks"):
        with_table("a", "results", "new")


def test_the_command_writes_everything_from_what_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["table", "--offline"])
    monkeypatch.setattr(written, "CARDS", {})  # counting the cost of every network takes seconds
    keep_run(Path("docs/results"), seed=1, miou={"ss": 70.0})
    keep_run(Path("docs/results"), seed=2, miou={"ss": 71.0})
    Path(README).write_text("\n".join((*MARKS["results"], *MARKS["claims"])))
    Path(NETWORKS).write_text("\n".join(MARKS["networks"]))
    with pytest.raises(SystemExit) as ended:
        table.main()
    assert not ended.value.code and "70.50 ± 0.71" in capsys.readouterr().out
    assert "70.50 ± 0.71" in Path("README.md").read_text()
    names = {path.name for path in Path("docs/results").iterdir() if path.is_file()}
    assert names == {"table.md", "table.csv", "table.png", "claims.md", "claims.csv", "index.html"}
    row = pd.read_csv("docs/results/table.csv").query("metric == 'miou'").iloc[0]
    assert (row["mean"], row["n"], row["seeds"], row["values"]) == (70.5, 2, "1 2", "70.0000 71.0000")


def test_experiments_without_results_are_named(monkeypatch):
    monkeypatch.setattr(runs, "experiment_commits", lambda all_commits=False: [("trial", "0" * 40)])
    assert list(runs.experiments()) == ["experiment trial: has no metrics/evaluate.json, so it is left out"]
