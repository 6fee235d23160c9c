"""Scene parsing: parity with the reference, the published sizes and costs, and which pairs there are."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segcore import build_model, load_weights, model_names
from segcore.errors import RecipeError
from segcore.models.checkpoints.scene import SYNC_BUFFERS, read
from segcore.models.layers import Outputs
from segcore.models.pairs import DECODERS, ENCODERS, PAIRS

QUICK = ["resnet18dilated8_ppm_deepsup", "mobilenetv2dilated_c1_deepsup", "resnet50_upernet"]
# Their golden files are thinned: names without the synchronised norm's buffers, every third class.
SLOW = [
    "resnet50dilated8_c1",
    "resnet50dilated8_c1_deepsup",
    "resnet50dilated8_ppm_deepsup",
    "resnet50dilated16_ppm",
    "resnet101dilated8_ppm_deepsup",
    "resnet101_upernet",
    "resnext101_upernet",
    "hrnetv2_c1",
]
# Parameters of encoder and decoder in training, and their 10⁹ multiply-accumulates at 512×512 without the deep branch.
COSTS = {
    "resnet50dilated8_c1": (23_631_808, 9_515_158, 106.7, 39.0),
    "resnet50dilated8_c1_deepsup": (23_631_808, 14_311_724, 106.7, 39.0),
    "resnet50dilated16_ppm": (23_631_808, 23_150_742, 39.5, 19.5),
    "resnet50dilated8_ppm_deepsup": (23_631_808, 27_947_308, 106.7, 77.7),
    "resnet101dilated8_ppm_deepsup": (42_623_936, 27_947_308, 184.3, 77.7),
    "resnet50_upernet": (23_631_808, 40_590_486, 28.4, 216.3),
    "resnet101_upernet": (42_623_936, 40_590_486, 47.8, 216.3),
    "resnext101_upernet": (42_256_576, 40_590_486, 48.8, 216.3),
    "resnet50_upernet_lite": (23_631_808, 18_265_750, 28.4, 57.3),
    "resnet18dilated8_ppm_deepsup": (11_324_992, 13_241_644, 55.6, 48.6),
    "mobilenetv2dilated_c1_deepsup": (1_811_712, 370_220, 7.7, 1.0),
    "hrnetv2_c1": (65_325_120, 1_193_910, 84.7, 19.6),
}
# Entries of released files, eight for each norm; those of our own lack the three buffers.
ENCODER_ENTRIES = {"resnet18": 207, "resnet50": 495, "resnet101": 954, "mobilenetv2dilated": 459, "hrnetv2": 2745}
DECODER_ENTRIES = {"c1": 11, "c1_deepsup": 22, "ppm": 47, "ppm_deepsup": 58, "upernet": 110}


def meta(name, auxiliary=True):
    """The network without memory."""
    with torch.device("meta"):
        return build_model(name, 150, auxiliary=auxiliary)


def with_running_statistics(net):
    """Train mode, so that every head answers, but with what inference uses inside."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout2d):
            module.eval()
    return net


@pytest.fixture
def released(golden, refweights, tmp_path):
    """released(name) -> encoder's and decoder's file as the authors release them."""
    files = [tmp_path / "encoder_epoch_20.pth", tmp_path / "decoder_epoch_20.pth"]

    def write(name):
        state = refweights.state_dict(golden(f"ade20k_{name}")[0])
        for file in files:
            half = file.name.split("_")[0] + "."
            torch.save({n[8:]: torch.from_numpy(v) for n, v in state.items() if n.startswith(half)}, file)
        return files

    yield write
    for file in files:  # hundreds of megabytes
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_released_pair_of_files_gives_the_references_outputs(name, released, golden, refweights):
    description, arrays = golden(f"ade20k_{name}")
    net = build_model(name, 150, auxiliary=True)
    names = [n for n, _, _ in description["state_dict"] if not n.endswith(SYNC_BUFFERS)]
    assert list(net.state_dict()) == names, "names and order are those of the released files"
    load_weights(net, released(name))
    images = torch.from_numpy(refweights.image(0, (1, 3, 96, 128)))
    with torch.no_grad():
        outputs = with_running_statistics(net)(images)
        scores = net.eval()(images), net(images, size=(75, 101))
    classes = 3 if "thinned" in description else 1
    raw = dict(zip(("log_softmax", "log_softmax_deepsup"), (outputs.logits, *outputs.auxiliary), strict=False))
    assert set(raw) == {key for key in arrays if key.startswith("log_softmax")}
    for key, logits in raw.items():
        theirs = arrays[key]
        step = logits.shape[-1] // theirs.shape[-1]
        ours = logits.log_softmax(1)[:, ::classes, ::step, ::step].numpy()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * theirs.std(), err_msg=key)
    for logits, suffix, step in zip(scores, ("", "_75x101"), (8, 16), strict=True):
        ours = logits.softmax(1)
        if f"prob{suffix}" in arrays:
            thinned = ours[:, ::classes, ::step, ::step].numpy()
            np.testing.assert_allclose(thinned, arrays[f"prob{suffix}"], rtol=0, atol=2e-4)
        first, second = ours.topk(2, dim=1).values[0]
        differ = ours[0].argmax(0).numpy() != arrays[f"argmax{suffix}"]
        assert not differ[(first - second > 2e-4).numpy()].any()


@pytest.mark.parametrize("name", COSTS)
def test_parameters_and_arithmetic_are_the_published_ones(name):
    net = meta(name)
    found = [sum(p.numel() for p in half.parameters()) for half in (net.encoder, net.decoder)]
    images = torch.empty(1, 3, 512, 512, device="meta")
    with FlopCounterMode(display=False) as encoder:
        maps = net.eval().encoder(images)
    with FlopCounterMode(display=False) as decoder:
        net.decoder(maps)
    found += [round(counter.get_total_flops() / 2e9, 1) for counter in (encoder, decoder)]
    assert tuple(found) == COSTS[name]


def test_entries_are_as_many_as_released():
    def entries(part):
        return len(part.state_dict()) + 3 * sum(isinstance(m, nn.BatchNorm2d) for m in part.modules())

    found = {name: entries(meta(f"{name}_c1").encoder) for name in ENCODER_ENTRIES}
    assert found == ENCODER_ENTRIES
    encoders = {decoder: "resnet50" if decoder == "upernet" else "resnet50dilated8" for decoder in DECODER_ENTRIES}
    assert {d: entries(meta(f"{e}_{d}").decoder) for d, e in encoders.items()} == DECODER_ENTRIES


@pytest.mark.parametrize(
    "encoder", ["resnet18", "resnet18dilated8", "resnet50dilated16", "mobilenetv2dilated", "hrnetv2"]
)
def test_maps_and_logits_have_the_strides_and_channels_the_tables_name(encoder):
    images = torch.empty(1, 3, 75, 161, device="meta")

    def at(stride):
        return (-(-75 // stride), -(-161 // stride))

    channels, strides, _ = ENCODERS[encoder]
    for decoder in ("c1", "upernet_lite"):
        if (name := f"{encoder}_{decoder}") in PAIRS:
            net = meta(name).eval()
            maps = net.encoder(images)
            assert [tuple(m.shape[1:]) for m in maps] == [(c, *at(s)) for c, s in zip(channels, strides, strict=True)]
            assert net.decode(images).shape == (1, 150, *at(PAIRS[name].stride))


@pytest.mark.parametrize(
    ("name", "stride", "multiple"),
    [
        ("resnet50dilated8_ppm_deepsup", 8, 8),
        ("mobilenetv2dilated_c1_deepsup", 8, 8),
        ("resnet101dilated16_ppm", 16, 16),
        ("resnet50_upernet", 4, 32),
        ("hrnetv2_c1", 4, 32),
        ("resnet18_c1", 32, 32),
    ],
)
def test_stride_of_labels_and_padding_of_batches_follow_from_the_pair(name, stride, multiple):
    assert (PAIRS[name].stride, PAIRS[name].multiple) == (stride, multiple)


def test_every_pair_is_a_network_and_builds():
    assert set(PAIRS) <= set(model_names()) and len(PAIRS) == 64
    for name in PAIRS:
        net = meta(name)
        assert net.arch == name and name in read(net.state_dict()).networks
        assert len(net.classifiers()) == 1 + name.endswith("deepsup")
        assert all(classifier.out_channels == 150 for classifier in net.classifiers())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18_upernet", "256, 512, 1024, 2048 channels .* resnet18 gives 64, 128, 256, 512"),
        ("resnet18dilated8_upernet_lite", "resnet18dilated8 gives 64"),
        ("mobilenetv2dilated_upernet", "mobilenetv2dilated gives 24, 32"),
        ("hrnetv2_upernet", "hrnetv2 gives 720"),
        ("hrnetv2_c1_deepsup", "gives only one; take c1$"),
        ("resnet50_ppm_deepsup", "strides 16 and 32; take resnet50dilated8"),
        ("resnet50dilated_ppm_deepsup", "did you mean 'resnet50dilated8_ppm_deepsup'"),
        ("resnet34_c1", "did you mean 'resnet"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_with_the_reason(name, reason):
    with pytest.raises(RecipeError, match=reason) as refused:
        build_model(name)
    assert len(str(refused.value)) < 300 and name in str(refused.value)


def test_every_pair_either_fits_or_says_why_not():
    for name in (f"{encoder}_{decoder}" for encoder in ENCODERS for decoder in DECODERS):
        if name not in PAIRS:
            with pytest.raises(RecipeError, match=f"there is no network '{name}': "):
                build_model(name)


def test_names_need_no_torch():
    code = "import sys, segcore; segcore.model_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "name", ["resnet18_c1", "resnet18dilated8_ppm", "resnet50_upernet_lite", "mobilenetv2dilated_c1", "hrnetv2_c1"]
)
def test_odd_sizes_run_unpadded(name):
    net = build_model(name, 5).eval()
    for size in ((33, 47), (50, 90), (1, 7)):
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            logits, own = net(images), net.decode(images)
        assert logits.isfinite().all()
        assert torch.equal(logits, F.interpolate(own, size, mode="bilinear", align_corners=False))


@pytest.mark.parametrize(
    "name", ["resnet18dilated8_ppm_deepsup", "resnet50_upernet_lite", "mobilenetv2dilated_c1_deepsup", "hrnetv2_ppm"]
)
def test_training_returns_logits_at_their_own_stride_and_reaches_every_parameter(name):
    net = meta(name).train()
    outputs = net(torch.empty(2, 3, 33, 47, device="meta"))
    assert isinstance(outputs, Outputs) and outputs.detail == ()
    stride = PAIRS[name].stride
    shapes = [tuple(logits.shape) for logits in (outputs.logits, *outputs.auxiliary)]
    assert shapes == [(2, 150, -(-33 // stride), -(-47 // stride))] * (1 + name.endswith("deepsup"))
    sum(logits.square().mean() for logits in (outputs.logits, *outputs.auxiliary)).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_fresh_weights_spread_as_in_the_reference():
    torch.manual_seed(0)
    net = build_model("resnet18dilated8_ppm", 4)
    encoder, decoder = net.encoder.layer4[1].conv1.weight, net.decoder.conv_last[0].weight
    assert encoder.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.02)  # fan-out
    assert decoder.std().item() == pytest.approx((2 / (9 * 2560)) ** 0.5, rel=0.02)  # fan-in
    assert (net.encoder.bn1.bias == 0).all() and (net.decoder.conv_last[1].bias == 1e-4).all()


def test_grouped_convolutions_spread_by_their_own_outputs():
    torch.manual_seed(0)
    weight = build_model("resnext101_c1", 4).encoder.layer1[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 128 / 32)) ** 0.5, rel=0.05)
