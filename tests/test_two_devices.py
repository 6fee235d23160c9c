"""What the references compute on two devices, two processes compute."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcore.losses import cross_entropy, ohem_cross_entropy

WORKER = """
import sys
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from segcore.distributed import join, sum_over_processes, world_size
from segcore.losses import network_loss
from segcore.models.layers import Outputs
from segcore.norms import RunningAverage
from segcore.syncbn import synchronise_norms

with join("cpu") as process:
    given, mine = torch.load(sys.argv[1]), process.rank
    found = {}
    for kind in ("cross_entropy", "ohem"):
        for scope in ("global", "local"):
            everything, labels = given[kind]
            logits = everything[mine : mine + 1].requires_grad_()
            losses = network_loss(Outputs(logits), labels[mine : mine + 1], kind=kind, scope=scope)
            losses.total.backward()
            gradients = torch.zeros_like(everything)
            gradients[mine] = logits.grad[0] / world_size()  # as gradients are averaged
            averaged = sum_over_processes(losses.total.detach()) / world_size()
            found[f"{kind} {scope}"] = (averaged, sum_over_processes(gradients))
    net = synchronise_norms(nn.Sequential(nn.BatchNorm2d(4)), process.device)
    average, found["statistics"] = RunningAverage(net), []
    outer = DistributedDataParallel(net)
    for images in given["images"]:
        outer(images[mine].requires_grad_()).sum().backward()
        average.step()
        found["statistics"].append(torch.stack([net[0].running_mean, net[0].running_var]))
    if process.leads:
        torch.save(found, sys.argv[2])
"""


def labels_of(array):
    """The reference's -1 -> 255."""
    return torch.from_numpy(np.where(array < 0, 255, array).astype(np.int64))


@pytest.fixture(scope="module")
def given(golden, refweights):
    """Logits and labels of one image for each device, and the inputs of six steps of a norm."""
    labels, many = (labels_of(golden("ade_losses")[1][name]) for name in ("label_two_devices", "label"))
    logits = torch.from_numpy(2 * refweights.image(1, (2, 150, 12, 16)))
    easy = logits.clone()  # on the first device hard pixels are too few, on the second all are
    easy[0] += 20 * F.one_hot(many[0] % 255, 150).permute(2, 0, 1)

    def images(step):
        devices = [(1 + d) * refweights.image(100 + 10 * step + d, (2, 4, 3, 5)) + step for d in (0, 1)]
        return torch.from_numpy(np.stack(devices)) * (1e-4 if step == 3 else 1)

    return {
        "cross_entropy": (logits, labels),
        "ohem": (easy, many),
        "images": [images(step) for step in range(6)],
    }


@pytest.fixture(scope="module")
def found(given, tmp_path_factory):
    """What two processes make of it."""
    folder = tmp_path_factory.mktemp("two")
    torch.save(given, folder / "given")
    (folder / "worker.py").write_text(WORKER)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *torchrun, *(str(folder / name) for name in ("worker.py", "given", "found"))]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, timeout=120)
    return torch.load(folder / "found")


def test_the_mean_of_means_is_scene_parsings_and_ours_is_over_all_pixels(found, golden):
    values = golden("ade_losses")[0]["values"]["two_devices"]
    expected = values["mean_of_means (what is back-propagated)"]
    assert found["cross_entropy local"][0].item() == pytest.approx(expected, rel=1e-6)
    assert found["cross_entropy global"][0].item() == pytest.approx(values["pooled (not used)"], rel=1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "ohem"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_value_and_gradient_are_those_of_one_process_that_sees_all_or_each_part(kind, scope, found, given):
    loss = {"cross_entropy": cross_entropy, "ohem": ohem_cross_entropy}[kind]
    logits, labels = given[kind][0].clone().requires_grad_(), given[kind][1]
    parts = [slice(0, 1), slice(1, 2)] if scope == "local" else [slice(None)]
    expected = sum(loss(logits[part], labels[part]) for part in parts) / len(parts)
    expected.backward()
    value, gradient = found[f"{kind} {scope}"]
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, logits.grad)


def test_the_scopes_differ_where_devices_do(found):
    assert found["ohem local"][0].item() != pytest.approx(found["ohem global"][0].item(), rel=1e-2)


def test_statistics_of_synchronised_norms_are_the_references_at_every_step(found, golden):
    for statistics, facts in zip(found["statistics"], golden("ade_syncbn")[0]["steps"], strict=True):
        assert statistics[0].tolist() == pytest.approx(facts["running_mean"], abs=1e-6)
        assert statistics[1].tolist() == pytest.approx(facts["running_var"], abs=1e-6)
