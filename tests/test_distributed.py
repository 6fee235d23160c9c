"""Several processes on one CPU do what one does, up to rounding."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from segcore.distributed import SyncAbsoluteNorm, SyncBatchNorm, launch, parse_devices, synchronise_norms
from segcore.errors import RecipeError
from segcore.models.layers import AbsoluteNorm

WORKER = """
import sys
from pathlib import Path
from segcore.data.datasets import Samples
from segcore.distributed import join
from segcore.prepare import Job
from segcore.recipe import TrainRecipe
from segcore.train import train
lists, root, out = map(Path, sys.argv[1:4])
recipe = TrainRecipe(arch="bisenetv2", iterations=6, batch_size=4, crop=(64, 64), scales=(0.5, 2.0), lr=1e-5, warmup=1,
                     auxiliary_weight=float(sys.argv[4]), loss=sys.argv[5], log_every=1, threads=1)
import torch
from segcore.models import bisenetv2
bisenetv2.nn.Dropout = lambda p: torch.nn.Identity()  # drawn per process, so not comparable
samples = Samples.read(lists / "train.csv", root)
with join("cpu") as process:
    train(Job(recipe, samples, (0.5,)*3, (0.25,)*3, 1, out, out / "r", workers=0), process)
"""


@pytest.mark.parametrize("loss", ["ohem", "cross_entropy"])
def test_two_processes_give_the_losses_of_one(loss, samples, tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    project = str(Path(__file__).parent.parent)
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        arguments = [str(tmp_path / "worker.py"), str(tmp_path / "lists"), str(samples.root), str(out), "0.5", loss]
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        subprocess.run([sys.executable, *torchrun, *arguments], check=True, env=_environment(project), timeout=240)
        curves.append([float(row["loss"]) for row in csv.DictReader((out / "curve.csv").open())])
    assert curves[1] == pytest.approx(curves[0], rel=2e-3)
    one, two = (torch.load(tmp_path / n / "model.pt", weights_only=True)["state_dict"] for n in ("1", "2"))
    for name in one:
        a, b = one[name].double(), two[name].double()
        # What started at zero shows the gradients themselves; a wrong share would make it half or double. Biases that a
        # later norm cancels hold nothing but rounding.
        allowed = 0.2 if a.abs().max() < 1e-3 else 1e-2
        assert (a - b).abs().max() <= allowed * a.abs().max() + 1e-6, name


def _environment(project: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": project, "OMP_NUM_THREADS": "1"}


SHARES = """
import sys
import torch
from segcore.distributed import join, sum_over_processes, world_size
from segcore.losses import network_loss
from segcore.models.layers import Outputs

def share(process, masked):
    torch.manual_seed(0)
    logits, edges, labels = torch.randn(3, 5, 16, 16), torch.randn(3, 1, 8, 8), torch.randint(0, 5, (3, 16, 16))
    logits += 9 * torch.nn.functional.one_hot(labels, 5).permute(0, 3, 1, 2)
    labels[:, 2:] = 255
    if masked:
        labels[:, :, 5:] = 255  # fewer labelled pixels than OHEM wants
    mine = slice(process.rank, None, process.world_size)
    logits, edges = logits[mine].requires_grad_(), edges[mine].requires_grad_()
    outputs = Outputs(logits, (), (edges,))
    losses = network_loss(outputs, labels[mine], kind="ohem", min_kept="crop", detail_masked=masked)
    losses.total.backward()
    values = [losses.main, losses.detail, logits.grad.abs().sum(), edges.grad.abs().sum()]
    return sum_over_processes(torch.stack(values)) / world_size()  # as gradients are averaged

with join("cpu") as process:
    values = torch.stack([share(process, masked) for masked in (False, True)])
    if process.leads:
        torch.save(values, sys.argv[1])
"""


def test_two_processes_share_crop_wise_and_detail_losses_as_one_has_them(tmp_path):
    worker = tmp_path / "shares.py"
    worker.write_text(SHARES)
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])):
        command = [sys.executable, *launcher, str(worker), str(tmp_path / name)]
        subprocess.run(command, check=True, env=_environment(str(Path(__file__).parent.parent)), timeout=120)
    torch.testing.assert_close(torch.load(tmp_path / "two"), torch.load(tmp_path / "one"))


NORMS = """
import sys
import torch
from torch import nn
from segcore.distributed import join, sum_over_processes, synchronise_norms
from segcore.models.layers import AbsoluteNorm

with join("cpu") as process:
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(), nn.Sequential(AbsoluteNorm(5)))
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    net = synchronise_norms(net, process.device)
    x, coefficients = torch.randn(2, 4, 5, 3, 7)
    mine = slice(process.rank, None, process.world_size)
    share = x[mine].requires_grad_()
    (net(share) * coefficients[mine]).sum().backward()
    inputs = torch.zeros_like(x)
    inputs[mine] = share.grad
    gradients = [sum_over_processes(value) for value in (inputs, *(p.grad for p in net.parameters()))]
    if process.leads:
        torch.save([*gradients, *net.state_dict().values()], sys.argv[1])
"""


def test_norms_of_both_kinds_over_two_processes_are_those_of_one(tmp_path):
    worker = tmp_path / "norms.py"
    worker.write_text(NORMS)
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"])):
        command = [sys.executable, *launcher, str(worker), str(tmp_path / name)]
        subprocess.run(command, check=True, env=_environment(str(Path(__file__).parent.parent)), timeout=120)
    torch.testing.assert_close(torch.load(tmp_path / "two"), torch.load(tmp_path / "one"))


@pytest.mark.parametrize(("kind", "expected"), [(nn.BatchNorm2d, SyncBatchNorm), (AbsoluteNorm, SyncAbsoluteNorm)])
def test_a_synchronised_norm_alone_is_the_plain_one(kind, expected):
    torch.manual_seed(0)
    plain = kind(5)
    synced = synchronise_norms(nn.Sequential(plain), torch.device("cpu"))[0]
    assert isinstance(synced, expected)
    x = torch.randn(4, 5, 6, 7)
    torch.testing.assert_close(synced(x), kind(5)(x))
    assert list(synced.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        ("cpu", 4, ("cpu", 1)),
        ("cpu:3", 0, ("cpu", 3)),
        ("auto", 0, ("cpu", 1)),
        ("auto", 4, ("cuda", 4)),
        (2, 0, ("cpu", 2)),
        ("2", 4, ("cuda", 2)),
        ("cuda:3", 4, ("cuda", 3)),
    ],
)
def test_devices(text, gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert parse_devices(text) == expected


@pytest.mark.parametrize("text", ["gpu", "cpu:x", "cuda:99", "0", "cpu:0", "auto:y"])
def test_impossible_devices_are_refused_by_name(text):
    with pytest.raises(RecipeError, match="runtime.devices"):
        parse_devices(text)


def test_one_device_is_not_launched():
    assert launch("pipeline.train", "cpu") is None
