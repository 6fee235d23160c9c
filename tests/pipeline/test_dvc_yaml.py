"""Properties of dvc.yaml that sharing and resuming rely on."""

from pathlib import Path

from pipeline.settings import read_yaml

PROJECT = Path(__file__).parents[2]
STAGES = read_yaml(PROJECT / "dvc.yaml")["stages"]


def test_the_chain_and_its_order():
    chain = ["resolve", "fetch", "annotations", "weights", "train", "evaluate", "benchmark", "report"]
    assert list(STAGES) == chain
    assert all(stage["cmd"] == f"python -m pipeline.{name}" and stage["desc"] for name, stage in STAGES.items())


def test_expensive_stages_have_only_cached_outputs():
    # One uncached, persistent or always changed output, and a colleague's run cache cannot restore the stage.
    for name in ("fetch", "annotations", "weights", "train", "evaluate", "benchmark"):
        assert all(isinstance(out, str) for out in STAGES[name]["outs"]), name
        assert "always_changed" not in STAGES[name] and "frozen" not in STAGES[name]


def test_no_stage_depends_on_how_it_is_run():
    names = [str(param) for stage in STAGES.values() for param in stage.get("params", [])]
    assert not any("runtime" in name for name in names)


def test_photographs_are_no_outs():
    outs = [str(out) for stage in STAGES.values() for out in stage["outs"]]
    assert not any(out.startswith("data") for out in outs)
