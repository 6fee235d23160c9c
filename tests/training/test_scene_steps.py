"""Three updates of a scene-parsing network against the reference's, in float64."""

import numpy as np
import pytest
import torch

from segcore import build_model
from segcore.evaluate.confusion import confusion_matrix, pixel_accuracy
from segcore.losses import network_loss
from segcore.models.checkpoints.scene import translate
from segcore.models.checkpoints.state import load_state
from segcore.norms import norms
from segcore.optim import make_optimizer, parameter_groups, poly, set_learning_rate


@pytest.fixture
def net(golden, refweights):
    """On one device the reference's norms have a momentum of 0.001."""
    net = build_model("resnet50dilated8_c1_deepsup", 150, auxiliary=True).double()
    arrays = refweights.state_dict(golden("ade20k_resnet50dilated8_c1_deepsup")[0])
    state, _ = translate({name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()})
    load_state(net, state, "golden")
    for norm in norms(net):
        norm.momentum = 0.001
    return net.train()


@pytest.mark.parametrize("updates", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_updates_are_the_references_to_the_last_digits(updates, net, golden, refweights):
    description, arrays = golden("ade_train_steps")
    images = torch.from_numpy(refweights.image(description["input"]["seed"], description["input"]["shape"])).double()
    labels = torch.from_numpy(np.where(arrays["label"] < 0, 255, arrays["label"]).astype(np.int64))
    optimizer = make_optimizer("sgd", parameter_groups(net, 0.02, 1e-4, 1.0), 0.9)
    for facts in description["steps"][:updates]:
        assert set_learning_rate(optimizer, poly(facts["iteration"], 100, 0)) == pytest.approx(facts["lr"], rel=1e-12)
        outputs = net(images)
        losses = network_loss(outputs, labels, kind="cross_entropy", auxiliary_weight=0.4)
        optimizer.zero_grad()
        losses.total.backward()
        assert losses.total.item() == pytest.approx(facts["loss"], rel=1e-10)
        matrix = confusion_matrix(labels.numpy(), outputs.logits.argmax(1).numpy(), 150)
        assert pixel_accuracy(matrix) == pytest.approx(facts["accuracy"], rel=1e-6)
        compare(facts["grad_l2"], {name: net.get_parameter(name).grad for name in facts["grad_l2"]})
        optimizer.step()
        compare(facts["weight_l2_after"], {name: net.get_parameter(name) for name in facts["weight_l2_after"]})
        assert net.encoder.bn1.running_mean.norm().item() == pytest.approx(facts["bn1_running_mean_l2"], rel=1e-10)
        assert net.encoder.bn1.running_var.norm().item() == pytest.approx(facts["bn1_running_var_l2"], rel=1e-10)


def compare(expected, tensors):
    """Of norms by name."""
    assert {name: tensor.norm().item() for name, tensor in tensors.items()} == pytest.approx(expected, rel=1e-9)
