"""Code digests: blind to words, sharp on arithmetic, and no wider than what a stage runs."""

import shutil
from pathlib import Path

import pytest

from pipeline.digest import code_digest, strip

PROJECT = Path(__file__).parents[2]


def test_strip_keeps_code_and_nothing_else():
    source = '"""Head."""\n\nx = 1  # why\n\ndef f():\n    """Doc,\n    two lines."""  # after\n    return "#no"\n'
    assert strip(source) == 'x = 1\ndef f():\n    return "#no"'


@pytest.mark.parametrize(
    "source",
    [
        'class A:\n    "doc"\n    x = 1\n',
        "def f():\n    'ä doc'\n    return 'ä'  # ä\n",
        'x = f"{1}#"\n',
        "x = '''a\n# b\n'''\n",
    ],
)
def test_strip_leaves_valid_code(source):
    compile(strip(source) + "\n", "x", "exec")
    assert "doc" not in strip(source)


@pytest.fixture
def project(tmp_path):
    for name in ("segcore", "pipeline"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digest(project, stage="train", network="bisenetv2"):
    return code_digest([f"pipeline.{stage}", f"segcore.models.{network}"], project)


def edit(project, name, old, new):
    path = project / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_words_do_not_count(project):
    before = digest(project)
    for path in (project / "segcore").rglob("*.py"):
        path.write_text(f"# a remark\n\n{path.read_text()}\n\n# another\n")
    edit(project, "segcore/train.py", "Training: one loop", "One loop")
    assert digest(project) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("segcore/losses.py", "-math.log(threshold)", "-math.log2(threshold)"),
        ("segcore/models/layers.py", "kernel // 2", "kernel // 3"),
        ("segcore/models/bisenetv2.py", "HEAD_WIDTH = 1024", "HEAD_WIDTH = 512"),
        ("segcore/data/transforms.py", "= 74", "= 75"),
        ("segcore/optim.py", "power: float = 0.9", "power: float = 1.0"),
        ("pipeline/train.py", "seed=wanted.seed", "seed=wanted.seed + 1"),
    ],
)
def test_an_edit_in_what_training_runs_counts(project, name, old, new):
    before = digest(project)
    edit(project, name, old, new)
    assert digest(project) != before


def test_training_does_not_depend_on_evaluation_deployment_or_report(project):
    before = digest(project)
    for folder in ("segcore/evaluate", "segcore/deploy", "pipeline/reporting"):
        for path in (project / folder).glob("*.py"):
            path.write_text(path.read_text() + "\nEDITED = True\n")
    for name in ("segcore/visualize.py", "segcore/data/sources.py", "pipeline/report.py", "pipeline/resolve.py"):
        (project / name).write_text((project / name).read_text() + "\nEDITED = True\n")
    assert digest(project) == before
    assert digest(project, "evaluate") != digest(PROJECT, "evaluate")


def test_a_network_that_is_a_package_is_followed_into_its_files_by_its_own_training_alone(project):
    before = {network: digest(project, network=network) for network in ("bisenetv2", "scene")}
    edit(project, "segcore/models/scene/decoders.py", "POOL_WIDTH = 512", "POOL_WIDTH = 256")
    assert digest(project) == before["bisenetv2"]
    assert digest(project, network="scene") != before["scene"]
