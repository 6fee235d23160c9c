"""Scene parsing's files: two halves, buffers of a norm of their own, ImageNet encoders, and weights for BGR."""

import pytest
import torch

from segcore import build_model, load_weights
from segcore.errors import CheckpointError
from segcore.models.checkpoints.backbones import load_backbone
from segcore.models.checkpoints.scene import SYNC_BUFFERS, from_bgr255, nest, read

NAME = "mobilenetv2dilated_c1_deepsup"
BUFFERS = {"_tmp_running_mean": 9.0, "_tmp_running_var": 9.0, "_running_iter": 3.0}


def as_released(module, counters=True):
    """A half's state dict with the synchronised norm's buffers beside each running mean, without counters if old."""
    state = {}
    for name, value in module.state_dict().items():
        if counters or not name.endswith("num_batches_tracked"):
            state[name] = value
        if name.endswith("running_mean"):
            norm = name.removesuffix("running_mean")
            state |= {norm + buffer: torch.full_like(value, fill) for buffer, fill in BUFFERS.items()}
    return state


def meta_state(name, auxiliary=True):
    with torch.device("meta"):
        return build_model(name, 7, auxiliary=auxiliary).state_dict()


@pytest.fixture
def source():
    """A network whose every entry tells it from a fresh one."""
    torch.manual_seed(3)
    net = build_model(NAME, 6, auxiliary=True)
    for value in net.state_dict().values():
        value += 1
    return net


@pytest.fixture
def files(source, tmp_path):
    """files(counters) -> an encoder's and a decoder's file."""

    def write(counters=True, net=source):
        for half in ("encoder", "decoder"):
            torch.save(as_released(getattr(net, half), counters), tmp_path / f"{half}_epoch_20.pth")
        return [tmp_path / "encoder_epoch_20.pth", tmp_path / "decoder_epoch_20.pth"]

    return write


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("counters", [True, False])
def test_a_pair_of_files_fills_the_network_in_either_order(order, counters, source, files):
    net = build_model(NAME, 6, auxiliary=True)
    report = load_weights(net, files(counters)[::order])
    wanted = source.state_dict()
    for name, value in net.state_dict().items():
        counter = name.endswith("num_batches_tracked") and not counters
        assert torch.equal(value, torch.zeros_like(value) if counter else wanted[name]), name
    norms = sum(name.endswith("running_mean") for name in wanted)
    assert report.loaded == len(wanted) - (0 if counters else norms) and len(report.dropped) == 3 * norms
    assert all(name.endswith(SYNC_BUFFERS) for name in report.dropped)
    assert {name.split(".")[0] for name in report.dropped} == {"encoder", "decoder"}


def test_a_network_without_the_deep_branch_leaves_it_out_and_reports_it(source, files):
    net = build_model(NAME, 6)
    report = load_weights(net, files())
    left_out = {name for name in report.dropped if not name.endswith(SYNC_BUFFERS)}
    assert left_out == set(source.state_dict()) - set(net.state_dict())
    assert {name.split(".")[1] for name in left_out} == {"cbr_deepsup", "conv_last_deepsup"}


def test_one_file_with_both_prefixes_fills_the_network(source, tmp_path):
    state = {f"{h}.{n}": v for h in ("encoder", "decoder") for n, v in as_released(getattr(source, h)).items()}
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
    net = build_model(NAME, 6, auxiliary=True)
    assert load_weights(net, tmp_path / "w.pth").loaded == len(net.state_dict())
    assert torch.equal(net.decoder.conv_last.weight, source.decoder.conv_last.weight)


def test_a_missing_half_is_named(files):
    encoder, decoder = files()
    net = build_model(NAME, 6)
    for given, found in (
        (encoder, r"encoder_epoch_20.pth: holds a backbone only; .*both files"),
        ([decoder], r"decoder_epoch_20.pth \(decoder\): give both"),
        ([encoder, encoder], r"encoder_epoch_20.pth: holds a backbone only; .*both files"),
    ):
        with pytest.raises(CheckpointError, match=found):
            load_weights(net, given)


def test_files_of_another_family_or_network_are_refused(files, tmp_path):
    encoder, decoder = files()
    before = build_model("bisenetv2", 6)
    torch.save(before.state_dict(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other.pth \(no half of a scene-parsing network\)"):
        load_weights(build_model(NAME, 6), [encoder, tmp_path / "other.pth"])
    with pytest.raises(CheckpointError, match="holds weights of mobilenetv2dilated_c1_deepsup, not of bisenetv2"):
        load_weights(before, [encoder, decoder])
    with pytest.raises(CheckpointError, match="holds weights of bisenetv2, not of mobilenetv2dilated_c1_deepsup"):
        load_weights(build_model(NAME, 6), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds weights of .*c1_deepsup, not of mobilenetv2dilated_ppm"):
        load_weights(build_model("mobilenetv2dilated_ppm", 6), [encoder, decoder])


def test_halves_that_do_not_belong_together_are_refused(files, tmp_path):
    encoder, _ = files()
    torch.save(as_released(build_model("resnet18dilated8_c1_deepsup", 6, auxiliary=True).decoder), tmp_path / "d.pth")
    with pytest.raises(CheckpointError, match=r"decoder.cbr.0.weight is \(128, 512, 3, 3\)"):
        load_weights(build_model(NAME, 6), [encoder, tmp_path / "d.pth"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("features.3.conv.0.weight"), "missing encoder.features.3.conv.0.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "surplus encoder.extra"),
    ],
)
def test_any_other_difference_is_refused_by_name(change, message, files):
    encoder, decoder = files()
    state = torch.load(encoder)
    change(state)
    torch.save(state, encoder)
    with pytest.raises(CheckpointError, match=message):
        load_weights(build_model(NAME, 6), [encoder, decoder])


DILATIONS = ("", "dilated8", "dilated16")


@pytest.mark.parametrize(
    ("name", "auxiliary", "networks"),
    [
        (NAME, True, {NAME}),
        (NAME, False, {NAME, "mobilenetv2dilated_c1"}),
        ("hrnetv2_ppm", True, {"hrnetv2_ppm"}),
        ("resnet101_upernet", False, {f"resnet101{dilation}_upernet" for dilation in DILATIONS}),
        ("resnext101_upernet_lite", True, {f"resnext101{dilation}_upernet_lite" for dilation in DILATIONS}),
        ("resnet18dilated8_ppm_deepsup", True, {f"resnet18dilated{stride}_ppm_deepsup" for stride in (8, 16)}),
        (
            "resnet50_c1",
            True,
            {f"resnet50{d}_c1" for d in DILATIONS} | {"resnet50dilated8_c1_deepsup", "resnet50dilated16_c1_deepsup"},
        ),
    ],
)
def test_keys_and_shapes_tell_the_networks_apart_as_far_as_they_can(name, auxiliary, networks):
    """Dilation does not show, nor whether a decoder without a deep branch was trained with one."""
    state = meta_state(name, auxiliary)
    release = read(state)
    assert set(release.networks) == networks
    assert release.state == state and list(release.state) == list(state) and release.dropped == ()


def test_other_families_are_none_of_this():
    for name in ("bisenetv2", "stdc1"):
        state = build_model(name).state_dict()
        assert read(state) is None and nest(state) == {}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18dilated8_c1", ["fc.weight", "fc.bias"]),
        ("mobilenetv2dilated_c1", ["features.18.0.weight", "features.18.1.running_var", "classifier.1.weight"]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_an_imagenet_file_fills_the_encoder_and_nothing_else(name, head, nested, tmp_path):
    source, net = build_model(name, 4).encoder, build_model(name, 4)
    state = as_released(source, counters=False) | {entry: torch.zeros(2) for entry in head}
    torch.save({"state_dict": state} if nested else state, tmp_path / "imagenet.pth")
    before = {key: value.clone() for key, value in net.decoder.state_dict().items()}
    report = load_backbone(net, tmp_path / "imagenet.pth")
    assert {entry for entry in report.dropped if not entry.endswith(SYNC_BUFFERS)} == set(head)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in net.encoder.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in net.decoder.state_dict().items())


def test_the_head_of_an_hrnet_file_is_left_out():
    state = {k.removeprefix("encoder."): v for k, v in meta_state("hrnetv2_c1").items() if k.startswith("encoder.")}
    head = ["incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.weight", "final_layer.0.bias", "classifier.weight"]
    content = nest(state | dict.fromkeys(head, torch.zeros(1)))
    assert content["encoder"].keys() == state.keys() and list(content)[1:] == head


def test_an_encoder_of_another_size_and_a_decoder_are_no_backbone(files, tmp_path):
    encoder, decoder = files()
    net = build_model("resnet18_c1", 4)
    with pytest.raises(CheckpointError, match="not a backbone file, it lacks encoder"):
        load_backbone(net, decoder)
    with pytest.raises(CheckpointError, match="missing conv1.weight"):
        load_backbone(net, encoder)
    torch.save({"encoder": net.encoder.state_dict()}, tmp_path / "ours.pth")
    assert load_backbone(net, tmp_path / "ours.pth").dropped == ()


@pytest.mark.parametrize("name", ["resnet18dilated8_ppm", "mobilenetv2dilated_c1", "hrnetv2_c1"])
def test_weights_for_bgr_give_the_same_logits_on_rgb(name):
    """Up to the border, whose zeros are the mean colour before and after."""
    torch.manual_seed(1)
    old, new = build_model(name, 5).eval(), build_model(name, 5).eval()
    before = old.state_dict()
    first = next(iter(before))
    before[first] /= 100  # as weights for 0 … 255 are
    state, mean, std = from_bgr255(before)
    assert std == (0.229, 0.224, 0.225) and mean[0] == pytest.approx(122.7717 / 255)
    new.load_state_dict(state)
    rgb = torch.randint(0, 256, (1, 3, 64, 96)).float()
    bgr_mean = torch.tensor((102.9801, 115.9465, 122.7717)).view(1, 3, 1, 1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        theirs, ours = old(rgb.flip(1) - bgr_mean), new((rgb / 255 - mean) / std)
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.std()
    assert [key for key in state if not torch.equal(state[key], before[key])] == [first]


def test_an_encoder_alone_converts_and_anything_else_is_refused():
    encoder = build_model("mobilenetv2dilated_c1", 5).encoder.state_dict()
    weight = encoder["features.0.0.weight"]
    converted = from_bgr255(encoder)[0]["features.0.0.weight"]
    for colour, std in enumerate((0.229, 0.224, 0.225)):
        torch.testing.assert_close(converted[:, colour], weight[:, 2 - colour] * 255 * std)
    with pytest.raises(CheckpointError, match="no convolution on three colours"):
        from_bgr255(build_model("bisenetv2").state_dict())
