"""Running statistics that are averages, and norms that stand still."""

import copy

import pytest
import torch
from torch import nn

from segcore import build_model
from segcore.models.layers import AbsoluteNorm, Outputs
from segcore.norms import RunningAverage, fix_bn, norms


@pytest.fixture
def steps(golden, refweights):
    """The golden's six steps, each with the images of both devices in one batch, and its norm."""
    description, _ = golden("ade_syncbn")

    def batch(step):
        devices = [(1 + d) * refweights.image(100 + 10 * step + d, (2, 4, 3, 5)) + step for d in (0, 1)]
        return torch.cat([torch.from_numpy(x) for x in devices]) * (1e-4 if step == 3 else 1)

    return [(batch(facts["step"]), facts) for facts in description["steps"]]


def test_statistics_are_the_references_at_every_step(steps):
    net = nn.Sequential(nn.BatchNorm2d(4))
    average = RunningAverage(net)
    for images, facts in steps:
        net(images.requires_grad_()).sum().backward()
        average.step()
        assert net[0].running_mean.tolist() == pytest.approx(facts["running_mean"], abs=1e-6)
        assert net[0].running_var.tolist() == pytest.approx(facts["running_var"], abs=1e-6)
        momentum = average.momentum(0.001).item()
        assert momentum == pytest.approx(facts["equivalent_momentum"], rel=1e-9)
        assert 1 / momentum == pytest.approx(facts["running_iter"], rel=1e-6)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, AbsoluteNorm])
def test_statistics_are_those_of_a_norm_with_that_momentum(kind):
    net, plain = nn.Sequential(kind(3)), kind(3)
    average, iteration = RunningAverage(net, rate=0.1), 1.0
    for seed in range(40):
        images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        iteration = 1 + 0.9 * iteration
        plain.momentum = 1 / iteration
        torch.testing.assert_close(net(images), plain(images))
        average.step()
        torch.testing.assert_close(net[0].running_mean, plain.running_mean)
        torch.testing.assert_close(net[0].running_var, plain.running_var)


def test_loaded_statistics_are_the_first_sample():
    net = nn.Sequential(nn.BatchNorm2d(1))
    net[0].running_mean.fill_(5.0)
    average = RunningAverage(net)
    for _ in range(10):
        net(torch.full((2, 1, 4, 4), 5.0))
        average.step()
    assert net[0].running_mean.item() == pytest.approx(5.0)  # the reference, which drops them, has 4.53


def test_a_resumed_average_goes_on_in_the_same_bits(steps):
    straight = nn.Sequential(nn.BatchNorm2d(4))
    average = RunningAverage(straight)
    for number, (images, _) in enumerate(steps):
        if number == 3:
            kept = copy.deepcopy((straight.state_dict(), average.state_dict()))
        straight(images)
        average.step()
    resumed = nn.Sequential(nn.BatchNorm2d(4))
    average = RunningAverage(resumed)
    resumed.load_state_dict(kept[0])
    average.load_state_dict(kept[1])
    for images, _ in steps[3:]:
        resumed(images)
        average.step()
    assert all(map(torch.equal, straight.state_dict().values(), resumed.state_dict().values()))


def test_putting_the_buffers_back_undoes_a_step(steps):
    net = nn.Sequential(nn.BatchNorm2d(4))
    average = RunningAverage(net)
    before = [buffer.clone() for buffer in net.buffers()]
    net(torch.full_like(steps[0][0], torch.nan))
    average.step()
    for buffer, value in zip(net.buffers(), before, strict=True):
        buffer.copy_(value)
    for images, _ in steps:
        net(images)
        average.step()
    assert net[0].running_mean.tolist() == pytest.approx(steps[-1][1]["running_mean"], abs=1e-6)


def test_the_state_dict_has_no_further_names():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    names = list(net.state_dict())
    RunningAverage(net)
    assert list(net.state_dict()) == names


def test_a_compiled_network_is_compiled_once(steps):
    compiled = []

    def count(module, _):
        compiled.append(module)
        return module.forward

    net = nn.Sequential(nn.BatchNorm2d(4))
    average, fast = RunningAverage(net), torch.compile(net, backend=count)
    for images, _ in steps:
        fast(images)
        average.step()
    assert net[0].running_mean.tolist() == pytest.approx(steps[-1][1]["running_mean"], abs=1e-6)
    assert len(compiled) == 1


def test_hrnets_encoder_forgets_faster_than_its_decoder():
    with torch.device("meta"):
        net = build_model("hrnetv2_c1", 3, auxiliary=True)
    rates = RunningAverage(net).rates
    assert {rates[norm] for norm in norms(net.encoder)} == {0.1}
    assert {rates[norm] for norm in norms(net.decoder)} == {0.001}


def test_fixed_norms_keep_their_statistics_and_learn_scale_and_shift():
    net = build_model("resnet18dilated8_ppm_deepsup", 3, auxiliary=True).train()
    before = copy.deepcopy(net.state_dict())
    fix_bn(net)
    images = torch.randn(1, 3, 32, 32)
    outputs = net(images)
    assert isinstance(outputs, Outputs) and len(outputs.auxiliary) == 1
    assert torch.equal(net(images).logits, outputs.logits), "dropout is off"
    (outputs.logits.square().mean() + outputs.auxiliary[0].square().mean()).backward()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(norm.weight.grad.any() and norm.bias.grad.any() for norm in norms(net))
    assert not any(isinstance(m, nn.Dropout2d) and m.training for m in net.modules())
