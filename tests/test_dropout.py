"""Dropout whose masks belong to a sample, whoever computes it."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from segcore.dropout import SeededDropout, SeededDropout2d, entries_of, seed_dropout
from segcore.models import build_model


@pytest.fixture(params=[nn.Dropout, nn.Dropout2d])
def net(request):
    """Two layers of a kind, one after the other; what is not zero shows where neither took it."""
    return seed_dropout(nn.Sequential(request.param(0.3), nn.Sequential(request.param(0.3))), 1).train()


ONES = torch.ones(4, 6, 5, 7)


def _masks(net, entries, images=ONES):
    with entries_of(entries):
        return net(images[: len(entries)])


def test_masks_belong_to_the_entry_however_a_batch_is_split_or_laid_out(net):
    whole = _masks(net, range(8, 12))
    assert torch.equal(_masks(net, range(9, 12, 2)), whole[1::2])
    assert torch.equal(_masks(net, range(8, 12)), whole)
    assert torch.equal(_masks(net, range(8, 12), ONES.to(memory_format=torch.channels_last)), whole)
    assert torch.equal(_masks(net, range(8, 12), ONES.double()).float(), whole)


def test_entries_layers_and_seeds_have_masks_of_their_own(net):
    images = torch.ones(2, 64, 8, 8)
    first = _masks(net[0], [0, 1], images)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, _masks(net[1], [0, 1], images))
    assert not torch.equal(first, _masks(seed_dropout(nn.Sequential(type(net[0]).__base__(0.3)), 2), [0, 1], images))


def test_the_share_is_right_and_the_mean_stays(net):
    with entries_of(range(50)):
        out = net[0](torch.ones(50, 400, 2, 2))
    assert (out == 0).float().mean() == pytest.approx(0.3, abs=0.02) and out.mean() == pytest.approx(1, abs=0.03)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    whole_channels = (out == 0).flatten(2).float().mean(2)
    assert (whole_channels % 1 == 0).all() == isinstance(net[0], SeededDropout2d)


def test_gradients_pass_where_values_do(net):
    images = ONES.clone().requires_grad_()
    out = _masks(net, range(4), images)
    out.sum().backward()
    assert torch.equal(images.grad, out)


def test_eval_mode_and_other_users_see_an_ordinary_dropout(net):
    assert torch.equal(net.eval()(ONES), ONES)
    net.train()
    torch.manual_seed(0)
    first = net(ONES)
    assert not torch.equal(net(ONES), first)
    torch.manual_seed(0)
    assert torch.equal(net(ONES), first)


def test_as_many_entries_as_images(net):
    with entries_of(range(3)), pytest.raises(ValueError):
        net(ONES)


def test_compiled_in_one_piece_and_once_for_all_iterations(net):
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(nn.Sequential(nn.Conv2d(6, 6, 1), net), backend=counter, fullgraph=True)
    for iteration in range(3):
        entries = range(4 * iteration, 4 * iteration + 4)
        assert torch.equal(_masks(compiled, entries), _masks(compiled._orig_mod, entries))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["bisenetv2", "resnet18dilated8_ppm_deepsup"])
def test_every_dropout_of_a_network_is_replaced_and_no_name_changes(name):
    with torch.device("meta"):
        net = build_model(name, auxiliary=True)
        names = list(net.state_dict())
        seed_dropout(net, 1)
    layers = [module for module in net.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)]
    assert all(isinstance(layer, SeededDropout | SeededDropout2d) for layer in layers)
    assert [layer.number for layer in layers] == list(range(len(layers))) and len(layers) > 1
    assert list(net.state_dict()) == names
