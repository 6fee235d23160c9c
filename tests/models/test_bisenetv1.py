"""BiSeNetV1's generations against each other and against torchvision, and the in-place activated norm."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from segcore import build_model, load_weights
from segcore.models.bisenetv1 import ResNet18
from segcore.models.layers import AbsoluteNorm


@pytest.fixture
def norm_and_arrays(golden):
    _, arrays = golden("bisenetv1_old")
    norm = AbsoluteNorm(8)
    norm.load_state_dict({key: torch.from_numpy(arrays[f"abn_{key}"]) for key in norm.state_dict()})
    return norm, arrays


def old_weights(golden, refweights):
    return {k: torch.from_numpy(v) for k, v in refweights.state_dict(golden("bisenetv1_old")[0]).items()}


def test_the_norm_is_the_references_for_negative_zero_and_tiny_scales(norm_and_arrays):
    norm, arrays = norm_and_arrays
    assert (norm.weight < 0).any() and (norm.weight == 0).any()
    with torch.no_grad():
        ours = norm.eval()(torch.from_numpy(arrays["abn_x"]))
    np.testing.assert_allclose(ours, arrays["abn_none"], atol=1e-6)
    np.testing.assert_allclose(nn.functional.leaky_relu(ours, 0.01), arrays["abn_leaky_relu"], atol=1e-6)


def test_the_norms_gradient_is_that_of_its_formula_in_training():
    torch.manual_seed(0)
    norm = AbsoluteNorm(6).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(4, 6, 3, 5, dtype=torch.float64, requires_grad=True)
    coefficients = torch.randn_like(x)
    gradients = torch.autograd.grad((norm(x) * coefficients).sum(), (x, norm.weight, norm.bias))

    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    scale, shift = (p.view(1, 6, 1, 1) for p in (norm.weight.abs() + 1e-5, norm.bias))
    expected = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
    theirs = torch.autograd.grad((expected * coefficients).sum(), (x, norm.weight, norm.bias))
    for ours, other in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(ours, other)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean.flatten())
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3)))


def test_the_form_for_half_precision_has_ordinary_norms_and_relu(golden, refweights, tmp_path):
    description, arrays = golden("bisenetv1_old")
    state = old_weights(golden, refweights)
    torch.save(state, tmp_path / "w.pth")
    net = build_model("bisenetv1_old_bn").eval()
    load_weights(net, tmp_path / "w.pth")
    full = build_model("bisenetv1_old_bn", auxiliary=True).state_dict()
    assert len(full) == description["relu_variant"]["n_entries"]
    assert [name for name in full if not name.endswith("num_batches_tracked")] == list(state)
    for key, source in description["inputs"].items():
        with torch.no_grad():
            ours = net(torch.from_numpy(refweights.image(source["seed"], source["shape"])))[:, :, ::4, ::4]
        worst = np.abs(ours - arrays[f"{key}_main_relu"]).max()
        assert worst <= 1e-4 * description["outputs"][key]["main_relu"]["std"]


def test_july_2021_is_the_old_form_with_a_bias_and_another_enlargement(golden, refweights):
    """It has no golden of its own: tied to the old form's, which has."""
    state = old_weights(golden, refweights)
    nets = {name: build_model(name, auxiliary=True).eval() for name in ("bisenetv1_2021", "bisenetv1_old_bn")}
    for net in nets.values():
        rest = net.load_state_dict(state, strict=False)
        assert rest.unexpected_keys == []
    bias = nets["bisenetv1_2021"].conv_out.conv_out.bias
    nn.init.normal_(bias)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = {name: net.decode(images) for name, net in nets.items()}
        torch.testing.assert_close(maps["bisenetv1_2021"], maps["bisenetv1_old_bn"] + bias[:, None, None])
        eightfold = nn.functional.interpolate(maps["bisenetv1_2021"], scale_factor=8, mode="bilinear")
        assert torch.equal(nets["bisenetv1_2021"](images), eightfold)


def test_the_encoder_is_torchvisions():
    theirs, ours = resnet18().eval(), ResNet18().eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.running_mean, std=0.3)
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    kept = []
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage.register_forward_hook(lambda module, inputs, output: kept.append(output))
    images = torch.randn(1, 3, 70, 100)
    with torch.no_grad():
        theirs(images)
        for a, b in zip(ours(images), kept, strict=True):
            assert torch.equal(a, b)


def test_only_the_relus_after_norms_leak():
    net = build_model("bisenetv1_old", 3)
    kinds = {type(module) for module in net.modules()}
    assert nn.BatchNorm2d not in kinds and nn.ReLU not in kinds and {AbsoluteNorm, nn.LeakyReLU} <= kinds
    with torch.no_grad():
        assert min(stage.min() for stage in net.cp.resnet(torch.randn(2, 3, 64, 64))) == 0  # after a true ReLU


def test_fresh_weights_spread_as_in_the_reference():
    torch.manual_seed(0)
    net = build_model("bisenetv1_2020", 19)
    spreads = {  # 1 / sqrt(fan-in) outside the encoder, there sqrt(2 / fan-out)
        net.sp.conv2.conv: (64 * 9) ** -0.5,
        net.ffm.convblk.conv: 256**-0.5,
        net.conv_out.conv_out: 1 / 16,
        net.cp.resnet.layer4[1].conv2: (2 / (512 * 9)) ** 0.5,
    }
    for convolution, spread in spreads.items():
        assert convolution.weight.std().item() == pytest.approx(spread, rel=0.02)
    assert not net.conv_out.conv_out.bias.any()
