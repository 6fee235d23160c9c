"""STDC-Seg: parity with the reference, and its released files with two names for everything and norms of their own."""

import numpy as np
import pytest
import torch
from torch import nn

from segcore import build_model, load_weights
from segcore.errors import CheckpointError
from segcore.models.checkpoints.backbones import load_backbone
from segcore.models.checkpoints.stdc import translate

NAMES = ["stdc1", "stdc2"]
TOLERANCE = {"stdc1": 2e-4, "stdc2": 5e-4}  # their float32 noise is 4e-5 and 1e-4; a wrong norm is off by 1.5e-3


@pytest.fixture
def released(golden, refweights, tmp_path):
    """released(name, change) -> a file as the authors release it, after `change(state)`."""

    def write(name, change=lambda state: None, where=lambda state: state):
        state = {k: torch.from_numpy(v) for k, v in refweights.state_dict(golden(name)[0]).items()}
        change(state)
        torch.save(where(state), tmp_path / "released.pth")
        return tmp_path / "released.pth"

    return write


def outputs_of(name, path, refweights):
    """All heads' outputs with running statistics: train mode outside, eval mode inside."""
    net = build_model(name, 19, auxiliary=True)
    load_weights(net, path)
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        images = torch.from_numpy(refweights.image(0, (1, 3, 128, 256)))
        outputs = net(images)
        lowres = net.decode(images)
    values = (outputs.logits, *outputs.auxiliary, *outputs.detail, lowres)
    return dict(zip(("logits", "aux16", "aux32", "boundary8", "logits_lowres"), values, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_released_file_gives_the_references_outputs(name, released, golden, refweights):
    description, arrays = golden(name)
    outputs = outputs_of(name, released(name), refweights)
    for key, value in outputs.items():
        step = description["outputs"][key]["stride"]
        worst = np.abs(value[:, :, ::step, ::step].numpy() - arrays[key]).max()
        assert worst <= TOLERANCE[name], (key, worst)
    assert np.array_equal(outputs["logits"][0, :, ::4, ::4].argmax(0), arrays["argmax"])


def test_negative_scales_count_as_positive_ones(released, golden, refweights):
    names = golden("stdc1")[0]["negative_scale"]["names"]

    def negate(state):
        for name in names:
            state[name][::2] *= -1

    straight = outputs_of("stdc1", released("stdc1"), refweights)
    negated = outputs_of("stdc1", released("stdc1", negate), refweights)
    assert all(torch.equal(straight[key], negated[key]) for key in straight)


def test_a_file_trained_with_ordinary_norms_keeps_its_scales(released):
    norm = "ffm.convblk.bn"

    def ordinary(state):
        for name in [name for name in state if name.endswith("running_var")]:
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
        state[f"{norm}.weight"] *= -1

    net = build_model("stdc1")
    load_weights(net, released("stdc1", ordinary))
    assert (net.ffm.convblk.bn.weight < 0).all() and net.ffm.convblk.bn.num_batches_tracked == 7


def test_copies_win_wherever_they_stand_in_the_file():
    first, second = torch.zeros(1), torch.ones(1)
    names = ("cp.backbone.x8.0.2.conv_list.0.conv.weight", "cp.backbone.features.2.conv_list.0.conv.weight")
    for order in (1, -1):
        state, unused = translate(dict([(names[0], second), (names[1], first)][::order]))
        assert state == {names[1]: second} and unused == ()


def test_our_own_names_pass_unchanged():
    state = build_model("stdc1", 4, auxiliary=True).state_dict()
    converted, unused = translate(state)
    assert unused == () and converted.keys() == state.keys() and all(converted[k] is state[k] for k in state)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_what_is_left_out_of_a_released_file_is_reported(auxiliary, released):
    net = build_model("stdc1", auxiliary=auxiliary)
    report = load_weights(net, released("stdc1"))
    tops = {".".join(name.split(".")[: 3 if name.startswith("cp.") else 1]) for name in report.dropped}
    expected = {f"cp.backbone.{part}" for part in ("conv_last", "fc", "bn", "linear")}
    expected |= {"conv_out_sp2", "conv_out_sp4", "conv_out_sp16"}
    assert tops == expected | (set() if auxiliary else {"conv_out16", "conv_out32", "conv_out_sp8"})
    assert report.loaded == len(net.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("ffm.conv1.weight"), "missing ffm.conv1.weight"),
        (lambda s: s.pop("cp.arm16.bn_atten.weight"), "missing cp.arm16.bn_atten.weight"),
        (lambda s: s.update({"conv_out_sp32.conv.conv.weight": torch.zeros(1)}), "surplus conv_out_sp32"),
        (lambda s: s.update({"cp.backbone.features.9.conv.weight": torch.zeros(1)}), "surplus cp.backbone.features.9"),
    ],
)
def test_any_other_difference_is_refused_by_name(change, message, released):
    with pytest.raises(CheckpointError, match=message):
        load_weights(build_model("stdc1"), released("stdc1", change))


def test_the_other_size_of_network_is_refused(released):
    with pytest.raises(CheckpointError, match="holds weights of stdc1, not of stdc2"):
        load_weights(build_model("stdc2"), released("stdc1"))


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_an_imagenet_file_fills_the_backbone_and_nothing_else(name, copies, released, golden, refweights):
    """With and without the second names: whether the released file has them was not known when this was written."""
    description, arrays = golden(f"{name}_backbone")

    def only_features(state):
        if not copies:
            for second, first in description["aliases"].items():
                state[first] = state.pop(second)

    net = build_model(name)
    head = net.conv_out.conv_out.weight.clone()
    path = released(f"{name}_backbone", only_features, where=lambda state: {"state_dict": state, "epoch": 3})
    report = load_backbone(net, path)
    assert {dropped.split(".")[0] for dropped in report.dropped} == {"conv_last", "fc", "bn", "linear"}
    assert torch.equal(head, net.conv_out.conv_out.weight)
    with torch.no_grad():
        maps = net.eval().cp.backbone(torch.from_numpy(refweights.image(0, description["input"]["shape"])))
    for key, value in zip(("feat8", "feat16", "feat32"), maps, strict=True):
        step = description["outputs"][key]["channel_stride"]
        np.testing.assert_allclose(value[:, ::step], arrays[key], atol=1e-4)


def test_a_backbone_file_of_another_family_or_with_more_in_it_is_refused(released, tmp_path):
    bisenet, stdc = build_model("bisenetv2"), build_model("stdc1")
    path = released("stdc1_backbone", where=lambda state: {"state_dict": state})
    with pytest.raises(CheckpointError, match="lacks bga, detail, segment"):
        load_backbone(bisenet, path)
    torch.save({name: getattr(bisenet, name).state_dict() for name in bisenet.backbone}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="lacks cp.backbone"):
        load_backbone(stdc, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="surplus extra"):
        load_backbone(stdc, released("stdc1_backbone", lambda state: state.update(extra=torch.zeros(1))))


@pytest.mark.parametrize(
    ("name", "training", "inference"), [("stdc1", 8_572_896, 8_275_104), ("stdc2", 12_603_360, 12_305_568)]
)
def test_number_of_parameters(name, training, inference):
    count = {aux: sum(p.numel() for p in build_model(name, auxiliary=aux).parameters()) for aux in (True, False)}
    assert count == {True: training, False: inference}


def test_fresh_weights_spread_as_in_the_reference():
    torch.manual_seed(0)
    net = build_model("stdc1")
    inside, outside = net.cp.backbone.features[7].conv_list[0].conv.weight, net.ffm.convblk.conv.weight
    assert inside.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)  # fan-out 512, gain of ReLU
    assert outside.std().item() == pytest.approx((1 / 384) ** 0.5, rel=0.02)  # fan-in 384, gain 1
