"""Published numbers: all are there, each can be had or says why not, and verdicts are what they should be."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import pipeline.resolve as resolving
from pipeline import claims as command
from pipeline.resolve import resolve
from pipeline.settings import Params, read_yaml, write_yaml
from pipeline.tables import published
from pipeline.tables.published import ACCURACY, CLAIMS, Claim, problems, read_claims
from pipeline.tables.runs import kept_runs
from pipeline.tables.summary import means, measurements
from pipeline.tables.verdicts import Verdict, judge
from segcore.errors import RecipeError
from tests.pipeline.kept_runs import keep_run

PER_SOURCE = {
    "CoinCheung/BiSeNet, README": 92,
    "CoinCheung/BiSeNet, README of old/": 7,
    "papers as quoted by CoinCheung/BiSeNet": 3,
    "issues of CoinCheung/BiSeNet": 6,
    "MichaelFan01/STDC-Seg, README": 8,
    "Fan et al., CVPR 2021": 21,
    "Fan et al. as quoted by the PP-LiteSeg comparison": 4,
    "users of MichaelFan01/STDC-Seg": 14,
    "CSAILVision/semantic-segmentation-pytorch, README": 80,
    "CSAILVision/semantic-segmentation-pytorch, v2.0": 43,
    "CSAILVision/semantic-segmentation-pytorch, v1.0": 8,
    "issues of CSAILVision/semantic-segmentation-pytorch": 2,
}
# (network, data set, metric, other properties) -> the number; read off the sources once more, on their own.
SOME = [
    ("bisenetv1", "cityscapes", "miou", {"mode": "mscf"}, "2026-04-04", 78.86),
    ("bisenetv2", "ade20k", "miou", {"mode": "mscf"}, "2026-04-04", 31.72),
    ("bisenetv1", "cocostuff", "miou", {"mode": "ssc"}, "2026-04-04", 31.42),
    ("bisenetv1_2021", "cocostuff", "miou", {"mode": "msf"}, "2021-07-07", 32.81),
    ("bisenetv2_2020", "cityscapes", "miou", {"mode": "msf"}, "2020-09-29", 75.89),
    ("bisenetv1", "cityscapes", "fps", {"precision": "int8", "hardware": "NVIDIA A40"}, "2026-04-04", 435),
    ("bisenetv2", "cityscapes", "fps", {"precision": "fp16", "hardware": "Tesla T4"}, "2021-07-13", 59),
    ("bisenetv1_diss", "cityscapes", "miou", {"mode": "mscf_old"}, "", 78.48),
    ("stdc2", "cityscapes", "miou", {"mode": "seg75", "split": "val", "run": ""}, "", 77.04),
    ("stdc1", "cityscapes", "miou", {"mode": "seg75", "split": "test"}, "2021", 75.3),
    ("stdc1", "cityscapes", "fps", {"mode": "seg50", "hardware": "GTX 1080 Ti"}, "2021", 250.4),
    ("resnet101_upernet", "ade20k", "overall", {"mode": "ade_ss"}, "2018-11-27", 61.34),
    ("hrnetv2_c1", "ade20k", "pixel_accuracy", {"mode": "ade_ms"}, "2020-10-31", 81.47),
    ("resnet50_upernet", "ade20k", "fps", {"mode": "ade_ms"}, "2020-10-31", 2.9),
    ("resnet101_upernet", "ade20k", "hours", {}, "2018-04-26", 50.0),
]
TENSORRT = {"nvidia-a40": {"tensorrt_fp16_1024x2048_b1": 160.0}}


@functools.cache
def all_claims() -> tuple[Claim, ...]:
    return tuple(read_claims())


def one(model: str, metric: str, date: str, **properties: str) -> Claim:
    """The only claim of these properties."""
    found = [
        claim
        for claim in all_claims()
        if (claim.model, claim.what.metric, claim.date) == (model, metric, date)
        and all(getattr(claim.what, key) == value for key, value in properties.items())
    ]
    assert len(found) == 1, [claim.name for claim in found]
    return found[0]


def verdict(claim: Claim, results: Path) -> Verdict:
    return judge([claim], means(measurements(kept_runs(results))))[0]


class TestTheFile:
    def test_every_source_is_there_with_all_its_numbers(self):
        assert Counter(claim.source.title for claim in all_claims()) == PER_SOURCE

    @pytest.mark.parametrize(("model", "dataset", "metric", "properties", "date", "value"), SOME)
    def test_some_numbers(self, model, dataset, metric, properties, date, value):
        assert one(model, metric, date, dataset=dataset, **properties).value == value

    def test_nothing_is_wrong_with_it(self):
        assert problems(all_claims()) == []

    def test_every_claim_is_another_one_and_has_a_unit(self):
        assert len({claim.name for claim in all_claims()}) == len(all_claims())
        assert {claim.what.metric for claim in all_claims()} <= set(published.UNITS)

    def test_what_can_be_had_is_scored_by_its_recipe(self, monkeypatch):
        read = functools.cache(read_yaml)
        monkeypatch.setattr(resolving, "read_yaml", lambda path: copy.deepcopy(read(path)))
        monkeypatch.setattr(resolving, "code_digest", lambda *_: "0")
        modes = functools.cache(lambda model, dataset: resolve(Params(model, dataset))["evaluate"]["modes"])
        missing = [
            claim.name
            for claim in all_claims()
            if not claim.not_here and claim.what.metric in ACCURACY
            if claim.what.mode not in modes(claim.model, claim.what.dataset)
        ]
        assert missing == []

    def test_stated_ranges_are_used_and_all_others_say_that_they_are_assumed(self):
        spread = one("bisenetv2", "miou", "2026-04-04", dataset="cityscapes", mode="ss")
        assert spread.accepted == (73.1, 75.1) and "retrainings" in spread.because
        other = one("bisenetv2", "miou", "2026-04-04", dataset="cityscapes", mode="msf")
        assert other.accepted == (75.53, 77.53) and "assumed" in other.because
        speed = one("bisenetv1", "fps", "2026-04-04", precision="fp32")
        assert speed.accepted == (100.8, 123.2)


class TestMistakes:
    def test_a_number_with_neither_recipe_nor_reason(self):
        claim = replace(one("stdc1", "fps", "2021", mode="seg50"), not_here="")
        assert "needs device" in problems([claim])[0]
        claim = replace(one("bisenetv1_2021", "miou", "2021-07-07", dataset="cityscapes", mode="ss"), not_here="")
        assert "no pipeline/recipes/bisenetv1_2021.yaml" in problems([claim])[0]
        claim = replace(one("stdc1", "miou", "2021", mode="seg50", split="test"), not_here="")
        assert "scored, on `val`" in problems([claim])[0]

    def test_a_number_that_is_there_twice(self):
        assert any("2 times there" in line for line in problems([all_claims()[0]] * 2))

    def test_a_number_that_a_card_denies(self):
        changed = [
            replace(claim, value=75.0) if claim.value == 75.44 and claim.what.mode == "ss" else claim
            for claim in all_claims()
        ]
        assert [line.split(":")[0] for line in problems(changed)] == ["bisenetv1"]

    def test_a_number_outside_its_own_range(self):
        claim = replace(all_claims()[0], accepted=(1.0, 2.0))
        assert any("own range" in line for line in problems([claim]))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"source": "nobody"}, "unknown source 'nobody'"),
            ({"columns": ["ss", "ssc"]}, "4 cells for 2 columns"),
            ({"vary": "mode metric"}, "does not say 'mode metric'"),
            ({"notes": {"bisenetv9": "x"}}, "'bisenetv9' is no row"),
            ({"ranges": {"bisenetv2": {"xx": [1, 2]}}}, "'xx' is no column"),
            ({"metrik": "miou"}, "did you mean 'metric'"),
        ],
    )
    def test_a_damaged_file_is_named_with_the_place(self, tmp_path, change, message):
        content = read_yaml(CLAIMS)
        content["tables"] = [{**content["tables"][0], **change}]
        write_yaml(tmp_path / "claims.yaml", "", content)
        with pytest.raises(RecipeError, match=message) as caught:
            read_claims(tmp_path / "claims.yaml")
        assert "tables[0]" in str(caught.value)


class TestVerdicts:
    @pytest.fixture
    def spread(self) -> Claim:
        """74.95 ss, between 73.1 and 75.1 over retrainings."""
        return one("bisenetv2", "miou", "2026-04-04", dataset="cityscapes", mode="ss")

    @pytest.mark.parametrize(("score", "word"), [(73.2, "reproduced"), (72.9, "below"), (75.2, "above")])
    def test_the_mean_lies_in_the_range_or_on_one_side(self, tmp_path, spread, score, word):
        keep_run(tmp_path, miou={"ss": score})
        found = verdict(spread, tmp_path)
        assert (found.word, found.seeds, found.std) == (word, (1,), None) and "retrainings" in found.why

    def test_the_mean_counts_and_not_the_best(self, tmp_path, spread):
        for seed, score in ((1, 75.0), (2, 72.0), (3, 71.0)):
            keep_run(tmp_path, seed=seed, miou={"ss": score})
        found = verdict(spread, tmp_path)
        assert found.word == "below" and found.mean == pytest.approx(72.67, abs=0.01)
        assert found.std == pytest.approx(2.08, abs=0.01) and found.seeds == (1, 2, 3)

    def test_the_training_as_published_stands_for_the_number(self, tmp_path, spread):
        keep_run(tmp_path, miou={"ss": 70.0})
        keep_run(tmp_path, miou={"ss": 74.0}, override={"as_published": True})
        found = verdict(spread, tmp_path)
        assert found.word == "reproduced" and found.why.startswith("as_published")

    def test_another_recipe_gives_no_verdict(self, tmp_path, spread):
        keep_run(tmp_path, miou={"ss": 74.9}, override={"iterations": 100})
        found = verdict(spread, tmp_path)
        assert found.word == "not measured" and "iterations 100" in found.why

    def test_other_modes_and_data_sets_give_none_either(self, tmp_path, spread):
        keep_run(tmp_path, miou={"ssc": 74.9})
        keep_run(tmp_path, dataset="minicity", miou={"ss": 74.9})
        assert verdict(spread, tmp_path) == Verdict(spread, "not measured", "")

    def test_runs_of_different_code_are_said(self, tmp_path, spread):
        keep_run(tmp_path, seed=1)
        keep_run(tmp_path, seed=2, code="0ther")
        assert "do not share code" in verdict(spread, tmp_path).why

    def test_what_cannot_be_had_says_why(self, tmp_path):
        claim = one("stdc1", "miou", "2021", mode="seg50", split="test")
        keep_run(tmp_path, "stdc1", miou={"seg50": 71.9})
        found = verdict(claim, tmp_path)
        assert found.word == "not runnable here" and "test server" in found.why

    def test_the_overall_score_is_judged_by_our_two(self, tmp_path):
        claim = one("hrnetv2_c1", "overall", "2020-10-31", mode="ade_ss")
        keep_run(tmp_path, "hrnetv2_c1", "ade20k", miou={"ade_ss": 51.5})
        assert verdict(claim, tmp_path).mean == pytest.approx((51.5 + 71.5) / 2)


class TestSpeed:
    @pytest.fixture
    def speed(self) -> Claim:
        """161 fps, fp16, A40."""
        return one("bisenetv2", "fps", "2026-04-04", precision="fp16")

    def test_no_verdict_across_hardware(self, tmp_path, speed):
        keep_run(tmp_path, fps={"nvidia-h100": {"tensorrt_fp16_1024x2048_b1": 161.0}})
        found = verdict(speed, tmp_path)
        assert found.word == "not measured" and "nvidia-h100 only: no verdict across hardware" in found.why

    def test_a_verdict_on_the_named_hardware(self, tmp_path, speed):
        keep_run(tmp_path, fps=TENSORRT)
        assert verdict(speed, tmp_path).word == "reproduced"

    def test_no_verdict_from_another_backend_size_or_precision(self, tmp_path, speed):
        for key in ("onnxruntime_fp16_1024x2048_b1", "tensorrt_fp32_1024x2048_b1", "tensorrt_fp16_512x1024_b1"):
            keep_run(tmp_path, fps={"nvidia-a40": {key: 161.0}})
            assert verdict(speed, tmp_path).word == "not measured", key

    def test_a_busy_machine_says_nothing_against_a_claim(self, tmp_path, speed):
        keep_run(tmp_path, fps={"nvidia-a40": {"tensorrt_fp16_1024x2048_b1": 20.0}}, busy=True)
        assert verdict(speed, tmp_path).word == "not measured"


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def project(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        keep_run(Path("docs/results"))

    def run(self, capsys, *words: str) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", ["claims", *words])
            command.main()
        return ended.value.code or 0, *capsys.readouterr()

    def test_prints_counts_and_what_was_judged_and_writes_both_files(self, capsys):
        code, out, _ = self.run(capsys)
        assert code == 0 and "288 published numbers" in out and "reproduced" in out and "74.95" in out
        written = pd.read_csv("docs/results/claims.csv")
        assert len(written) == len(all_claims()) and (written.verdict == "reproduced").sum() == 2
        assert Path("docs/results/claims.md").read_text().count("\n| ") > len(all_claims())

    def test_prints_the_claims_with_given_words(self, capsys):
        _, out, _ = self.run(capsys, "stdc1", "test", "seg75")
        assert "75.3 %" in out and "72.22" not in out
        code, _, err = self.run(capsys, "stdc7")
        assert code == 1 and "no claim has all of these words" in err

    def test_fails_on_a_mistake_and_names_it(self, capsys, monkeypatch):
        wrong = [replace(all_claims()[0], model="bisenetv7")]
        monkeypatch.setattr(command, "read_claims", lambda: wrong)
        code, _, err = self.run(capsys)
        assert code == 1 and "there is no pipeline/recipes/bisenetv7.yaml" in err
