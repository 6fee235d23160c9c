"""One battery for every network."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcore import build_model, load_weights
from segcore.errors import CheckpointError, RecipeError, SegcoreError
from segcore.models.bisenetv2 import DoubledCBR
from segcore.models.checkpoints.backbones import load_backbone
from segcore.models.layers import AbsoluteNorm, Outputs
from segcore.optim import parameter_groups
from tests.models.names import NAMES, SCENE

# Networks whose golden has the form of CoinCheung/BiSeNet's; the others' parity stands in their own files.
GOLDENS = ["bisenetv1", "bisenetv1_2020", "bisenetv1_old", "bisenetv1_diss"]
GOLDENS += ["bisenetv2", "bisenetv2_2020", "bisenetv2_old"]
# Networks that take any side as it is, and enlarge with their corners on the image's corners.
UNPADDED = ["bisenetv1_diss", "bisenetv1_old", "bisenetv1_old_bn", "bisenetv2_old", "stdc1", "stdc2"]
PADDED = [name for name in NAMES if name not in UNPADDED + SCENE]


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_the_inputs_size(name):
    net = build_model(name, 5).eval()
    with torch.no_grad():
        for size in [(64, 64), (96, 128), (65, 33), (50, 90)]:
            assert net(torch.randn(1, 3, *size)).shape == (1, 5, *size)


def test_a_doubled_map_need_not_be_made():
    torch.manual_seed(0)
    layer = DoubledCBR(3, 5).double()
    for images in (torch.randn(2, 3, 4, 7, dtype=torch.double), torch.randn(2, 3, 1, 1, dtype=torch.double)):
        images.requires_grad_()
        made, plain = layer(images), nn.Sequential.forward(layer, images)
        torch.testing.assert_close(made, plain)
        wanted, coefficients = (images, *layer.parameters()), torch.randn_like(plain)
        gradients = [torch.autograd.grad(out, wanted, coefficients, retain_graph=True) for out in (made, plain)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", NAMES)
def test_logits_at_another_size_are_one_interpolation_of_the_decoded_map(name):
    net = build_model(name, 5).eval()
    images = torch.randn(2, 3, 64, 96)
    aligned = name in UNPADDED
    with torch.no_grad():
        direct = net(images, size=(100, 60))
        expected = nn.functional.interpolate(net.decode(images), (100, 60), mode="bilinear", align_corners=aligned)
    torch.testing.assert_close(direct, expected)


@pytest.mark.parametrize("name", PADDED)
def test_padding_at_the_bottom_and_right_leaves_logits_over_their_pixels(name):
    net = build_model(name, 5).eval()
    images = torch.randn(1, 3, 64, 96)
    images[..., 40:, :] = 0
    images[..., 70:] = 0
    with torch.no_grad():
        torch.testing.assert_close(net(images[..., :40, :70]), net(images)[..., :40, :70])


@pytest.mark.parametrize("name", NAMES)
def test_training_returns_every_head_and_reaches_every_parameter(name):
    net = build_model(name, 4, auxiliary=True).train()
    outputs = net(torch.randn(2, 3, 64, 64))
    assert isinstance(outputs, Outputs)
    sum(t.square().mean() for t in (outputs.logits, *outputs.auxiliary, *outputs.detail)).backward()
    without = [n for n, p in net.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_of_a_training_net_equals_the_net_without_auxiliary_heads(name, tmp_path):
    full = build_model(name, 4, auxiliary=True).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in full.state_dict().items()}}, tmp_path / "w.pth")
    lean = build_model(name, 4).eval()
    report = load_weights(lean, tmp_path / "w.pth")
    assert set(report.dropped) == set(full.state_dict()) - set(lean.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(full(images), lean(images))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_stands_in_exactly_one_group(name):
    net = build_model(name, 4, auxiliary=True)
    groups = parameter_groups(net, 0.01, 5e-4, 10.0)
    names = [n for group in groups for n in group["parameter_names"]]
    assert sorted(names) == sorted(n for n, _ in net.named_parameters())


def all_heads_of_a_trained_net(net):
    """Running statistics and no dropout, but all heads: train mode outside, eval mode inside."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | AbsoluteNorm | nn.Dropout):
            module.eval()
    return net


@pytest.mark.parametrize("name", GOLDENS)
def test_parity_with_the_reference(name, golden, refweights, tmp_path):
    description, arrays = golden(name)
    net = build_model(name, 19, auxiliary=True)
    state = {k: torch.from_numpy(v) for k, v in refweights.state_dict(description).items()}
    assert list(net.state_dict()) == list(state), "names and order are those of the released file"
    torch.save(state, tmp_path / "released.pth")
    assert load_weights(net, tmp_path / "released.pth").dropped == ()
    (tmp_path / "released.pth").unlink()
    all_heads_of_a_trained_net(net)
    for key, source in description["inputs"].items():
        images = torch.from_numpy(refweights.image(source["seed"], source["shape"]))
        with torch.no_grad():
            outputs = net(images)
        for head, logits in zip(description["heads"], (outputs.logits, *outputs.auxiliary), strict=True):
            step = 4 if head == "main" else 16
            parts = {f"{key}_{head}": logits[:, :, ::step, ::step]}
            # With pixel shuffle the strided arrays miss most places within a block; a window has them all.
            parts |= {f"{key}_{head}_window": logits[:, :, 32:64, 64:96]}
            for part, ours in parts.items():
                if part in arrays:
                    # The reference returns more than the input where a side is no multiple of 32.
                    theirs = arrays[part][:, :, : ours.shape[2], : ours.shape[3]]
                    worst = np.abs(ours.numpy() - theirs).max()
                    assert worst <= 1e-4 * description["outputs"][key][head]["std"], (part, worst)
        ours, theirs = outputs.logits.argmax(1).numpy(), arrays[f"{key}_argmax"]
        differing = (ours != theirs[:, : ours.shape[1], : ours.shape[2]]).sum()
        assert differing <= description["outputs"][key]["argmax"]["pixels_with_top2_gap_below_1e-3"]


@pytest.mark.parametrize("name", GOLDENS)
def test_parameters_and_their_groups_are_the_references(name, golden):
    description, _ = golden(name)
    with torch.device("meta"):
        nets = {aux: build_model(name, auxiliary=aux) for aux in (True, False)}
    count = {aux: sum(p.numel() for p in net.parameters()) for aux, net in nets.items()}
    expected = description["parameters"]
    assert count == {True: expected["train"], False: expected["inference"]}
    children = {child: sum(p.numel() for p in part.parameters()) for child, part in nets[True].named_children()}
    assert children == expected["by_child"]

    theirs = {"wd": (1, True), "nowd": (1, False), "lr_mul_wd": (10, True), "lr_mul_nowd": (10, False)}
    factor = 10.0 if "lr_mul_wd" in description["param_groups"] else 1.0  # 2020's V2 has one rate for all
    groups = parameter_groups(nets[True], 1.0, 5e-4, factor)
    ours = {n: (group["base_lr"], group["weight_decay"] > 0) for group in groups for n in group["parameter_names"]}
    assert ours == {n: theirs[g] for n, g in description["param_group_of"].items()}


def test_2020s_heads_learn_ten_times_as_fast_since_june_2021(golden):
    theirs = golden("bisenetv2_2020")[0]["param_groups_since_2021_06"]
    with torch.device("meta"):
        groups = parameter_groups(build_model("bisenetv2_2020", auxiliary=True), 1.0, 5e-4, 10.0)
    ours = {group["name"]: (len(group["params"]), sum(p.numel() for p in group["params"])) for group in groups}
    names = {"backbone": "wd", "backbone, no decay": "nowd", "heads": "lr_mul_wd", "heads, no decay": "lr_mul_nowd"}
    assert ours == {name: (theirs[g]["tensors"], theirs[g]["elements"]) for name, g in names.items()}


@pytest.mark.parametrize("name", GOLDENS)
def test_multiply_accumulates_are_the_references(name, golden, monkeypatch):
    # As the network is published; our way through a doubled map needs 4/9 of its products.
    monkeypatch.setattr(DoubledCBR, "forward", nn.Sequential.forward)
    for size, expected in golden(name)[0]["macs"].items():
        with torch.device("meta"):
            images = torch.empty(1, 3, *map(int, size.split("x")))
            nets = build_model(name).eval(), all_heads_of_a_trained_net(build_model(name, auxiliary=True))
        counts = []
        for net in nets:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                net(images)
            counts.append(counter.get_total_flops() // 2)
        assert counts == [expected["inference"], expected["train_heads"]]


@pytest.mark.parametrize(
    ("name", "num_classes", "training", "inference"),
    [
        ("bisenetv1_2021", 19, 13_392_441, 13_242_259),
        ("bisenetv1_old_bn", 19, 13_392_384, 13_242_240),
        ("bisenetv1", 150, 13_476_418, 13_309_206),
        ("bisenetv1", 171, 13_484_545, 13_314_603),
        ("bisenetv1_2020", 150, 18_972_288, 15_704_576),
        ("bisenetv1_2020", 171, 19_754_496, 16_049_984),
        ("bisenetv2", 150, 5_544_446, 3_492_902),
        ("bisenetv2", 171, 5_594_615, 3_514_427),
        ("bisenetv2_2020", 150, 182_999_696, 13_179_152),
        ("bisenetv2_2020", 171, 207_893_600, 14_556_752),
    ],
)
def test_number_of_parameters(name, num_classes, training, inference):
    with torch.device("meta"):
        nets = [build_model(name, num_classes, auxiliary=aux) for aux in (True, False)]
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == [training, inference]


@pytest.mark.parametrize("name", NAMES)
def test_every_head_names_the_convolution_that_tells_classes_apart(name):
    with torch.device("meta"):
        five, six = (build_model(name, n, auxiliary=True) for n in (5, 6))
    names = {convolution: n for n, convolution in six.named_modules()}
    found = {f"{names[convolution]}.{kind}" for convolution in six.classifiers() for kind in ("weight", "bias")}
    shapes = {n: p.shape for n, p in five.named_parameters()}
    assert {n for n, p in six.named_parameters() if p.shape != shapes[n]} == found & set(shapes)


def test_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match="bisenetv2"):
        build_model("bisenet2")


class TestWeights:
    def net(self):
        return build_model("bisenetv2", 4)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("detail.S1.0.conv.weight"), "missing detail.S1.0.conv.weight"),
            (lambda s: s.update(extra=torch.zeros(1)), "surplus extra"),
            (lambda s: s.update({"detail.S1.0.bn.weight": torch.zeros(3)}), r"detail.S1.0.bn.weight is \(3,\)"),
        ],
    )
    def test_a_key_that_does_not_fit_is_named(self, change, message, tmp_path):
        state = dict(self.net().state_dict())
        change(state)
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=message):
            load_weights(self.net(), tmp_path / "w.pth")

    def test_a_refused_file_changes_nothing(self, tmp_path):
        net = self.net()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        state = {k: v + 1 for k, v in net.state_dict().items()}
        state["surplus"] = torch.zeros(1)
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(CheckpointError):
            load_weights(net, tmp_path / "w.pth")
        assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())

    def test_code_in_a_file_is_refused_and_not_run(self, tmp_path):
        import pickle

        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "sprung"), "w"))

        (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Trap()}))
        with pytest.raises(CheckpointError, match="w.pth"):
            load_weights(self.net(), tmp_path / "w.pth")
        assert not (tmp_path / "sprung").exists()

    def test_missing_truncated_and_foreign_files(self, tmp_path):
        whole = tmp_path / "w.pth"
        torch.save(self.net().state_dict(), whole)
        (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:1000])
        torch.save([1, 2], tmp_path / "list.pth")
        for name in ("none.pth", "cut.pth", "list.pth"):
            with pytest.raises(SegcoreError, match=name):
                load_weights(self.net(), tmp_path / name)

    def test_nested_backbone_fills_the_backbone_and_nothing_else(self, tmp_path):
        source, target = self.net(), build_model("bisenetv2", 7)
        children = {name: getattr(source, name).state_dict() for name in ("detail", "segment", "bga")}
        torch.save({**children, "fc": {"weight": torch.zeros(2)}}, tmp_path / "b.pth")
        report = load_backbone(target, tmp_path / "b.pth")
        assert report.dropped == ("fc",)
        assert torch.equal(target.detail.S1[0].conv.weight, source.detail.S1[0].conv.weight)
        torch.save({"detail": children["detail"]}, tmp_path / "half.pth")
        with pytest.raises(CheckpointError, match="lacks bga, segment"):
            load_backbone(target, tmp_path / "half.pth")


class TestFinetuning:
    """From weights for other classes, or from a backbone alone, and only if asked for."""

    @pytest.mark.parametrize("name", NAMES)
    def test_another_class_count_leaves_the_classifiers_fresh_and_says_so(self, name, tmp_path):
        source, target = build_model(name, 6, auxiliary=True), build_model(name, 4, auxiliary=True)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        fresh = {key: value.clone() for key, value in target.state_dict().items()}
        with pytest.raises(CheckpointError, match="the model wants"):
            load_weights(target, tmp_path / "w.pth")
        report = load_weights(target, tmp_path / "w.pth", finetune=True)
        classifiers = {id(p) for convolution in target.classifiers() for p in convolution.parameters()}
        assert set(report.fresh) == {n for n, p in target.named_parameters() if id(p) in classifiers}
        for key, value in target.state_dict().items():
            assert torch.equal(value, fresh[key] if key in report.fresh else source.state_dict()[key]), key

    def test_heads_that_the_file_lacks_stay_fresh(self, tmp_path):
        source, target = build_model("bisenetv2", 4), build_model("bisenetv2", 4, auxiliary=True)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        report = load_weights(target, tmp_path / "w.pth", finetune=True)
        assert {key.split(".")[0] for key in report.fresh} == {"aux2", "aux3", "aux4", "aux5_4"}

    def test_a_file_that_lacks_more_is_refused_all_the_same(self, tmp_path):
        state = build_model("bisenetv2", 6).state_dict()
        state.pop("detail.S1.0.conv.weight")
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match="missing detail.S1.0.conv.weight"):
            load_weights(build_model("bisenetv2", 4), tmp_path / "w.pth", finetune=True)

    def test_a_backbone_alone_is_no_network(self, tmp_path):
        source, target = build_model("bisenetv2", 4), build_model("bisenetv2", 4)
        torch.save({name: getattr(source, name).state_dict() for name in source.backbone}, tmp_path / "b.pth")
        with pytest.raises(CheckpointError, match="holds a backbone only"):
            load_weights(target, tmp_path / "b.pth")
        report = load_weights(target, tmp_path / "b.pth", finetune=True)
        assert {key.split(".")[0] for key in report.fresh} == {"head"}
        assert torch.equal(target.bga.conv[0].weight, source.bga.conv[0].weight)
