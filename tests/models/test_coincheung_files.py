"""Files of CoinCheung/BiSeNet: every generation is known by its keys and by how its shapes relate."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from segcore import build_model, load_weights
from segcore.errors import CheckpointError
from segcore.models.checkpoints.backbones import load_backbone
from segcore.models.checkpoints.coincheung import read

NETWORKS = ["bisenetv1", "bisenetv1_2020", "bisenetv1_2021", "bisenetv1_old", "bisenetv1_old_bn", "bisenetv1_diss"]
NETWORKS += ["bisenetv2", "bisenetv2_2020", "bisenetv2_old"]
COUNTER = "num_batches_tracked"


def state_of(name, num_classes=19, auxiliary=True, device="meta"):
    with torch.device(device):
        return build_model(name, num_classes, auxiliary=auxiliary).state_dict()


def without_counters(state):
    return {name: value for name, value in state.items() if not name.endswith(COUNTER)}


def with_counters(state):
    """As PyTorch writes it: every norm's counter after its variance."""
    full = {}
    for name, value in without_counters(state).items():
        full[name] = value
        if name.endswith("running_var"):
            full[name.replace("running_var", COUNTER)] = torch.tensor(7)
    return full


def without_auxiliary(state):
    return {name: value for name, value in state.items() if not name.startswith(("conv_out16", "conv_out32", "aux"))}


@pytest.mark.parametrize("strip", [with_counters, without_counters])
@pytest.mark.parametrize("num_classes", [1, 19, 64, 1216])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_generation_is_told_for_any_number_of_classes(name, num_classes, strip):
    release = read(strip(state_of(name, num_classes)))
    old = {"bisenetv1_old", "bisenetv1_old_bn"}
    assert set(release.networks) == (old if name in old else {name})


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("bisenetv1", 222),
        ("bisenetv1_2020", 218),
        ("bisenetv1_2021", 218),
        ("bisenetv1_old", 180),
        ("bisenetv1_old_bn", 215),
        ("bisenetv1_diss", 160),
        ("bisenetv2", 383),
        ("bisenetv2_2020", 383),
        ("bisenetv2_old", 359),
    ],
)
def test_number_of_entries(name, entries):
    assert len(state_of(name)) == entries


def test_counters_say_which_form_of_the_old_norm_is_likelier():
    state = state_of("bisenetv1_old")
    assert read(state).networks == ("bisenetv1_old", "bisenetv1_old_bn")
    assert read(with_counters(state)).networks == ("bisenetv1_old_bn", "bisenetv1_old")


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [
        ("bisenetv1_2020", 19, ("bisenetv1_2020", "bisenetv1_2021")),
        ("bisenetv1_2021", 128, ("bisenetv1_2020", "bisenetv1_2021")),
        ("bisenetv1_2021", 19, ("bisenetv1_2021",)),
    ],
)
def test_without_auxiliary_heads_rows_of_64_times_a_number_leave_two_generations(name, num_classes, expected):
    assert read(without_auxiliary(state_of(name, num_classes))).networks == expected


def test_rows_that_leave_two_generations_fit_the_right_one_alone(tmp_path):
    state = without_auxiliary(state_of("bisenetv1_2020", 2, device="cpu"))
    torch.save(state, tmp_path / "w.pth")
    load_weights(build_model("bisenetv1_2020", 2), tmp_path / "w.pth")
    load_weights(build_model("bisenetv1_2021", 128), tmp_path / "w.pth")  # what it would be, were it of July 2021
    with pytest.raises(CheckpointError, match="conv_out.conv_out.weight"):
        load_weights(build_model("bisenetv1_2021", 2), tmp_path / "w.pth")


@pytest.mark.parametrize("strip", [with_counters, without_counters])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_loads_with_and_without_counters(name, strip, tmp_path):
    source = build_model(name, 3, auxiliary=True)
    for value in source.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1)
    state = strip(source.state_dict())
    torch.save(state, tmp_path / "w.pth")
    net = build_model(name, 3)
    report = load_weights(net, tmp_path / "w.pth")
    ours = net.state_dict()
    for key, value in ours.items():
        expected = state.get(key, torch.tensor(0))
        assert torch.equal(value, expected), key
    assert set(report.dropped) == set(state) - set(ours)
    assert report.loaded == len(set(state) & set(ours))


@pytest.mark.parametrize("family", ["bisenetv1", "bisenetv2"])
def test_another_generations_file_is_refused_by_name(family, tmp_path):
    names = [name for name in NETWORKS if name.startswith(family)]
    nets = {name: build_model(name, 2) for name in names}
    for name in names:
        state = state_of(name, 2, device="cpu")
        torch.save(state, tmp_path / "w.pth")
        known = read(state).networks
        assert name in known
        for other in set(names) - set(known):
            with pytest.raises(CheckpointError, match=f"holds weights of .*{name}.*, not of {other}$"):
                load_weights(nets[other], tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("bisenetv1", "cp.resnet.conv1.weight"),
        ("bisenetv1", "ffm.conv.weight"),
        ("bisenetv1_2020", "ffm.conv1.weight"),
        ("bisenetv1_old", "cp.resnet.bn1.running_var"),
        ("bisenetv1_diss", "conv_out.conv_out.weight"),
        ("bisenetv2", "detail.S1.0.conv.weight"),
        ("bisenetv2_2020", "head.conv_out.0.weight"),
        ("bisenetv2_old", "head.conv.bn.weight"),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused_by_its_name(name, key, tmp_path):
    state = dict(state_of(name, 2, auxiliary=False, device="cpu"))
    del state[key]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=f"missing {key}"):
        load_weights(build_model(name, 2), tmp_path / "w.pth")


def test_a_counter_of_no_norm_is_surplus(tmp_path):
    state = {**state_of("bisenetv2", 2, device="cpu"), f"detail.S9.bn.{COUNTER}": torch.tensor(0)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="surplus detail.S9.bn"):
        load_weights(build_model("bisenetv2", 2), tmp_path / "w.pth")


class TestBackbone:
    """torchvision's resnet18-5c106cde.pth is flat and has a classifier but no counters."""

    def file(self, tmp_path, strip=without_counters, **surplus):
        net = resnet18()
        nn.init.normal_(net.layer1[0].bn1.weight)
        state = {**strip(net.state_dict()), **surplus}
        torch.save(state, tmp_path / "resnet18.pth")
        return state, tmp_path / "resnet18.pth"

    @pytest.mark.parametrize("strip", [with_counters, without_counters])
    @pytest.mark.parametrize("name", ["bisenetv1", "bisenetv1_2020", "bisenetv1_old", "bisenetv1_diss"])
    def test_it_fills_the_context_paths_encoder_and_nothing_else(self, name, strip, tmp_path):
        state, path = self.file(tmp_path, strip)
        net = build_model(name, 2)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        report = load_backbone(net, path)
        for key, value in net.state_dict().items():
            own = key.removeprefix("cp.resnet.")
            assert torch.equal(value, before[key] if own == key else state.get(own, torch.tensor(0))), key
        classifier = {key for key in report.dropped if not key.endswith(COUNTER)}
        assert classifier == {"fc.weight", "fc.bias"}
        assert report.loaded + len(report.dropped) == len(state)

    def test_a_deeper_resnet_or_another_network_is_refused(self, tmp_path):
        _, path = self.file(tmp_path, **{"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)})
        with pytest.raises(CheckpointError, match="surplus layer1.2.conv1.weight"):
            load_backbone(build_model("bisenetv1", 2), path)
        with pytest.raises(CheckpointError, match="lacks bga, detail, segment"):
            load_backbone(build_model("bisenetv2", 2), path)

    def test_an_incomplete_one_changes_nothing(self, tmp_path):
        state, path = self.file(tmp_path)
        del state["layer4.1.conv2.weight"]
        torch.save(state, path)
        net = build_model("bisenetv1", 2)
        before = net.cp.resnet.conv1.weight.clone()
        with pytest.raises(CheckpointError, match="missing layer4.1.conv2.weight"):
            load_backbone(net, path)
        assert torch.equal(net.cp.resnet.conv1.weight, before)
