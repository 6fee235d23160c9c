"""One update: parts of a batch, clipping, the average, precision, and a glance at the validation images."""

import csv
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from segcore.checkpoint import ResumeState, load_model_file
from segcore.curve import Curve
from segcore.data.transforms import normalise
from segcore.errors import RecipeError
from segcore.evaluate.confusion import confusion_matrix, miou
from segcore.losses import network_loss
from segcore.machine import cpu_has_bf16
from segcore.models import build_model
from segcore.models.layers import Outputs
from segcore.steps import Run
from segcore.train import train
from segcore.validation import quick_miou
from tests.training.conftest import ALONE, RECIPE, stop_after


def test_two_parts_give_the_step_of_one_where_there_are_no_norms():
    images, labels = torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4, 8, 8))

    def part(net, chosen):
        return network_loss(Outputs(net(images[chosen])), labels[chosen], kind="cross_entropy")

    states = []
    for parts in ([slice(0, 4)], [slice(0, 2), slice(2, 4)]):
        torch.manual_seed(0)
        net = torch.nn.Conv2d(3, 5, 3, padding=1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        run = Run(net, net, optimizer, torch.amp.GradScaler("cpu", enabled=False), Curve(1), torch.float32)
        step = run.update([partial(part, net, chosen) for chosen in parts], stop=False)
        assert step.finite and not step.stop
        states.append([step.losses, *net.state_dict().values()])
    for one, two in zip(*states, strict=True):
        torch.testing.assert_close(one, two)


def _scaled(enabled, factors=(1.0,)):
    """A network after updates whose losses are multiplied by these factors, with float16's scaler or without."""
    torch.manual_seed(0)
    images, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 5, (2, 8, 8))
    net = torch.nn.Conv2d(3, 5, 3, padding=1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)
    run = Run(net, net, optimizer, scaler, Curve(1), torch.float32, clip_norm=0.5)

    def part(factor):
        losses = network_loss(Outputs(net(images)), labels, kind="cross_entropy")
        return losses._replace(total=losses.total * factor)

    return run, [run.update([partial(part, factor)], stop=False).finite for factor in factors]


def test_a_scaled_update_is_the_plain_one_and_its_factor_goes_on_after_a_stop():
    (plain, _), (scaled, _) = _scaled(False), _scaled(True)
    torch.testing.assert_close(scaled.net.state_dict(), plain.net.state_dict())
    assert scaled.state(1)["scaler"]["scale"] == 2.0**16 and not plain.state(1)["scaler"]


def test_an_overflow_is_left_out_halves_the_factor_and_is_no_fault():
    run, finite = _scaled(True, (1e35, 1.0))
    plain, _ = _scaled(False)
    assert finite == [False, True] and run.bad == 0 and run.scaler.get_scale() == 2.0**15
    torch.testing.assert_close(run.net.state_dict(), plain.net.state_dict())
    again, _ = _scaled(True, ())
    assert again.restore(run.state(2)) == 2 and again.scaler.get_scale() == 2.0**15


def test_clipping_bounds_the_step(job):
    states = []
    for name, clip in (("free", None), ("cut", 1e-6)):
        wanted = job(name, iterations=1, warmup=0, clip_norm=clip, weight_decay=0.0)
        train(wanted, ALONE)
        states.append(load_model_file(wanted.out / "model.pt").state_dict)
    torch.manual_seed(1)
    fresh = build_model("bisenetv2", 11, auxiliary=True).state_dict()
    names = [name for name in fresh if name.endswith("weight")]
    moved = [sum((state[name] - fresh[name]).square().sum() for name in names).sqrt() for state in states]
    assert moved[1] <= 1.01e-6 * RECIPE.lr * RECIPE.head_lr_factor < moved[0]


def test_the_average_is_what_is_exported_and_it_resumes(job):
    whole, killed = (job(name, ema=0.9, iterations=6) for name in ("whole", "killed"))
    train(whole, ALONE)
    stop_after(killed, 3)
    assert train(killed, ALONE)["resumed_from"] == 3
    assert (killed.out / "model.pt").read_bytes() == (whole.out / "model.pt").read_bytes()
    last, average = ResumeState(whole.resume).load()["net"], load_model_file(whole.out / "model.pt").state_dict
    assert not torch.equal(last["head.conv_out.1.weight"], average["head.conv_out.1.weight"])
    torch.testing.assert_close(last["head.conv_out.1.weight"], average["head.conv_out.1.weight"], rtol=0.2, atol=0.1)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_everything_at_once_runs_and_resumes(job, compiled):
    """bf16 where there is some, parts, clipping, average, validation, both layouts, compiled."""
    if compiled and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    options = {"accumulate": 2, "clip_norm": 1.0, "ema": 0.9, "validate_every": 2, "precision": "bf16"}
    options |= {"batch_size": 4, "channels_last": compiled, "compile": compiled}
    options |= {"optimizer": "adamw", "auxiliary_weight": 0.0}
    whole, stopped = (replace(job(name, **options), validation=job().samples) for name in ("whole", "stopped"))
    facts = train(whole, ALONE)
    assert facts["precision"] == ("bfloat16" if cpu_has_bf16() else "float32") and facts["images"] == 16
    stop_after(stopped, 2)
    train(stopped, ALONE)
    for name in ("model.pt", "curve.csv", "validation.csv", "best-ss.pt"):
        assert (stopped.out / name).read_bytes() == (whole.out / name).read_bytes(), name


def test_validation_keeps_the_best_and_says_how_it_was_chosen(job):
    wanted = replace(job(validate_every=1, validate_images=3), validation=job().samples)
    train(wanted, ALONE)
    rows = list(csv.DictReader((wanted.out / "validation.csv").open()))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    best = load_model_file(wanted.out / "best-ss.pt")
    top = max(rows, key=lambda row: float(row["miou"]))
    assert best.provenance["iteration"] == int(top["iteration"]) and best.provenance["selected_on"] == "val, 3 images"
    plain = replace(job("plain"), validation=None)
    train(plain, ALONE)
    assert (plain.out / "model.pt").read_bytes() == (wanted.out / "model.pt").read_bytes()
    assert not (plain.out / "best-ss.pt").exists()


def test_the_quick_score_is_the_published_one(samples):
    net = build_model("bisenetv2", 11).eval()
    matrix = 0
    for image, label in map(samples.pair, range(len(samples))):
        logits = net(torch.from_numpy(normalise(image, (0.5,) * 3, (0.25,) * 3))[None])
        matrix = matrix + confusion_matrix(label, logits[0].argmax(0).numpy(), 11)
    assert quick_miou(net, samples, (0.5,) * 3, (0.25,) * 3, ALONE) == pytest.approx(miou(matrix)[0], abs=1e-9)


def test_half_precision_on_a_cpu_runs_as_float32_and_says_so(job, capsys):
    assert train(job(precision="fp16", iterations=2), ALONE)["precision"] == "float32"
    assert "runs as float32" in capsys.readouterr().out


def test_finetuning_starts_from_the_other_weights(job):
    first, second = job("first"), job("second", iterations=1, warmup=0, lr=1e-12, weight_decay=0.0)
    train(first, ALONE)
    train(replace(second, finetune=first.out / "model.pt"), ALONE)
    one, two = (load_model_file(each.out / "model.pt").state_dict for each in (first, second))
    torch.testing.assert_close(one["detail.S1.0.conv.weight"], two["detail.S1.0.conv.weight"])


def test_finetuning_from_another_network_is_refused_by_name(job):
    first = job("first", arch="stdc1", iterations=1, warmup=0)
    train(first, ALONE)
    with pytest.raises(RecipeError, match="holds a stdc1, and the recipe trains a bisenetv2"):
        train(replace(job("second"), finetune=first.out / "model.pt"), ALONE)
