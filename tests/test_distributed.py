"""Several processes on one CPU do what one does, up to rounding."""

import csv
import os
import signal
import socket
import time
from unittest.mock import Mock

import pytest
import torch
from torch import nn

import segcore.losses
from segcore.checkpoint import load_model_file
from segcore.curve import COLUMNS
from segcore.distributed import _lost_processes, from_first, join, parse_devices, sum_over_processes, world_size
from segcore.errors import LostProcessError, ProcessError, RecipeError
from segcore.losses import network_loss
from segcore.models import build_model
from segcore.models.layers import AbsoluteNorm, Outputs
from segcore.syncbn import SyncAbsoluteNorm, SyncBatchNorm, synchronise_norms
from tests.processes import outcome, together
from tests.tiny_training import RECIPE, prepare, run


def _run(process, folder, name, changes):
    with pytest.MonkeyPatch.context() as patch:
        gather = Mock(wraps=segcore.losses.gather)
        patch.setattr("segcore.losses.gather", gather)
        run(process, folder, name, **changes)
    if process.leads:
        (folder / name / "gathered").write_text(str(gather.call_count))


def _result(folder):
    rows = list(csv.DictReader((folder / "curve.csv").open()))
    curve = torch.tensor([[float(row[column]) for column in COLUMNS[2:]] for row in rows], dtype=torch.float64)
    return curve, load_model_file(folder / "model.pt").state_dict


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("[/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 40000ms for recv", "has not answered for 40 s"),
        ("Application timeout caused pair closure", "has not answered for 40 s"),
        ("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1", "is gone"),
    ],
)
def test_a_process_that_fell_silent_is_told_from_one_that_died(error: str, said: str) -> None:
    with pytest.raises(LostProcessError, match=said), _lost_processes(40):
        raise RuntimeError(error)


# Where most pixels are hard all of them count; where few are, the largest losses are sought over all processes.
@pytest.mark.parametrize(("threshold", "sought", "numbers"), [(0.7, False, (2, 3)), (0.02, True, (2,))])
def test_any_number_of_processes_trains_as_one(threshold, sought, numbers, tmp_path):
    folder, changes = prepare(tmp_path), {"ohem_threshold": threshold}
    together(1, _run, folder, "1", changes)
    curve, state = _result(folder / "1")
    assert curve.shape == (RECIPE.iterations, 4) and curve[-5:, 0].mean() < 0.9 * curve[:5, 0].mean()
    for number in numbers:
        together(number, _run, folder, str(number), changes)
        assert (int((folder / str(number) / "gathered").read_text()) > RECIPE.iterations) == sought
        shared, weights = _result(folder / str(number))
        torch.testing.assert_close(shared, curve, rtol=0, atol=2e-6)  # the file has six decimals
        torch.testing.assert_close(weights, state, rtol=1e-7, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["bisenetv2", "stdc1", "resnet18dilated8_ppm_deepsup"])
def test_published_networks_train_in_two_processes_as_in_one(arch, tmp_path):
    folder, changes = prepare(tmp_path), {"arch": arch, "iterations": 12, "warmup": 2, "lr": 1e-5, "crop": (64, 64)}
    for number in (1, 2):
        together(number, _train_real, folder, str(number), {**changes, "channels_last": True})
    (curve, state), (shared, weights) = (_result(folder / name) for name in ("1", "2"))
    torch.testing.assert_close(shared, curve, rtol=0, atol=2e-6)
    torch.testing.assert_close(weights, state, rtol=1e-5, atol=1e-6)


def _train_real(process, folder, name, changes):
    def build(*arguments, **options):
        # In float64: in float32 a small batch's norms make a difference of the last digit one of the second.
        net = build_model(*arguments, **options).double()
        net.register_forward_pre_hook(lambda _, images: tuple(image.double() for image in images))
        return net

    run(process, folder, name, build=build, **changes)


def _shares(process, out):
    def share(masked, tied):
        torch.manual_seed(0)
        logits, edges, labels = torch.randn(3, 5, 16, 16), torch.randn(3, 1, 8, 8), torch.randint(0, 5, (3, 16, 16))
        if tied:
            logits = logits.round()
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

    values = torch.stack([share(*which) for which in ((False, False), (True, False), (False, True))])
    if process.leads:
        torch.save(values, out / f"{process.world_size}")


def test_two_processes_share_losses_as_one_has_them_also_where_pixels_tie(tmp_path):
    for number in (1, 2):
        together(number, _shares, tmp_path)
    torch.testing.assert_close(torch.load(tmp_path / "2"), torch.load(tmp_path / "1"))


# What three processes hold: images of other numbers and sizes, in one case a single value of each channel.
SHAPES = [(2, 5, 3, 7), (1, 5, 6, 2), (1, 5, 1, 1)]


def _norms(process, out, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(), nn.Sequential(AbsoluteNorm(5)), nn.BatchNorm2d(5, momentum=None))
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    parts = [(torch.randn(2, *shape) + 3).to(dtype) for shape in SHAPES]
    if process.world_size == 1:  # norms do not care where a value stands
        parts = [torch.cat([part.movedim(2, 1).flatten(2) for part in parts], 2)[:, None, :, None]]
    net = synchronise_norms(net.to(torch.promote_types(dtype, torch.float32)), process.device)
    for _ in range(2):
        net.zero_grad()
        x, coefficients = parts[process.rank]
        x = x.clone().requires_grad_()
        (net(x) * coefficients).sum().backward()
    gradients = [sum_over_processes(parameter.grad) for parameter in net.parameters()]
    of_x = x.grad.movedim(1, 0).flatten(1)
    torch.save((of_x, gradients, net.state_dict()), out / f"{process.world_size}-{process.rank}")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_norms_of_every_kind_over_uneven_shares_are_those_of_one_process(dtype, tmp_path):
    for number in (1, 3):
        together(number, _norms, tmp_path, dtype)
    [(of_x, gradients, state)] = [torch.load(tmp_path / "1-0")]
    parts = [torch.load(tmp_path / f"3-{rank}") for rank in range(3)]
    exact = {} if dtype is torch.float64 else {"rtol": 1e-5, "atol": 1e-5}  # moments are float32 for a bf16 x, too
    for _, others, statistics in parts:
        torch.testing.assert_close(statistics, state, **exact)
        # Against the largest of all: what the next norm undoes has a gradient of nothing but the rounding of bf16.
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        torch.testing.assert_close(others, gradients, **(exact and {"rtol": 0, "atol": 0.05 * largest}))
    shared = torch.cat([part[0] for part in parts], 1)
    torch.testing.assert_close(shared, of_x, **(exact and {"rtol": 0.05, "atol": 0.05}))


@pytest.mark.parametrize(("kind", "expected"), [(nn.BatchNorm2d, SyncBatchNorm), (AbsoluteNorm, SyncAbsoluteNorm)])
def test_a_synchronised_norm_alone_is_the_plain_one(kind, expected):
    torch.manual_seed(0)
    plain, frozen = kind(5), kind(5).double().eval()
    parameters = list(frozen.parameters())
    parameters[0].requires_grad_(False)
    synced, same = synchronise_norms(nn.Sequential(kind(5), frozen), torch.device("cpu"))
    assert type(synced) is type(same) is expected
    x = torch.randn(4, 5, 6, 7)
    torch.testing.assert_close(synced(x), plain(x))
    torch.testing.assert_close(synced.state_dict(), plain.state_dict())
    assert all(a is b for a, b in zip(same.parameters(), parameters, strict=True)) and not same.training


def test_no_norm_of_a_network_is_left_out():
    for name in ("bisenetv1_old", "bisenetv2", "stdc1", "mobilenetv2dilated_c1_deepsup", "hrnetv2_c1"):
        with torch.device("meta"):
            net = synchronise_norms(build_model(name, auxiliary=True), torch.device("cpu"))
        norms = [type(module) for module in net.modules() if hasattr(module, "running_mean")]
        assert norms and set(norms) <= {SyncBatchNorm, SyncAbsoluteNorm}


def _ask_first(process, out):
    answer = from_first(lambda: {"from": process.rank, "values": torch.arange(3.0)})
    torch.save(answer, out / str(process.rank))


def test_what_the_first_process_reads_all_have(tmp_path):
    together(2, _ask_first, tmp_path)
    first, second = (torch.load(tmp_path / rank) for rank in "01")
    assert first["from"] == second["from"] == 0 and torch.equal(first["values"], second["values"])
    assert from_first(lambda: "alone") == "alone"


def _fall_silent(process, out):
    total = sum_over_processes(torch.ones(1))
    if not process.leads:
        os.kill(os.getpid(), signal.SIGSTOP)
    (out / "begun").write_text(str(time.time()))
    sum_over_processes(total)


def test_a_silent_process_ends_the_others_after_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGCORE_TIMEOUT", "2")
    codes = outcome(2, _fall_silent, tmp_path, said=tmp_path / "said", others=1)
    assert codes == [75, None] and time.time() - float((tmp_path / "begun").read_text()) < 120
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert "has not answered for 2 s ($SEGCORE_TIMEOUT); started again" in line


@pytest.fixture
def place(monkeypatch):
    """Describes a group of one process, as torchrun does."""
    for name, value in {"LOCAL_RANK": 0, "RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, str(value))
    return monkeypatch


def test_a_group_without_description_a_taken_port_and_a_wrong_timeout_are_named(place):
    with pytest.raises(ProcessError, match="LOCAL_RANK is set but MASTER_PORT not; start with torchrun"), join("cpu"):
        pass
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        place.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ProcessError, match=r"port \d+ is taken on this machine"), join("cpu"):
            pass
    place.setenv("SEGCORE_TIMEOUT", "soon")
    with pytest.raises(ProcessError, match="SEGCORE_TIMEOUT is 'soon'"), join("cpu"):
        pass


def test_more_processes_than_gpus_are_refused(place):
    place.setattr(torch.cuda, "device_count", lambda: 2)
    place.setenv("LOCAL_RANK", "2")
    with pytest.raises(ProcessError, match="no GPU for process 3 of this machine, which shows 2"), join("cuda"):
        pass


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
