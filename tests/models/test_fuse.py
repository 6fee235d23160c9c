"""Networks for inference: fewer operations, the same logits."""

import pytest
import torch
from torch import nn

from segcore import build_model
from segcore.errors import SegcoreError
from segcore.models.fuse import NORMS, fuse
from tests.models.names import NAMES


def _lived_in(name: str, auxiliary: bool) -> nn.Module:
    """A network whose norms are as if it had been trained."""
    torch.manual_seed(0)
    net = build_model(name, 5, auxiliary=auxiliary)
    for module in net.modules():
        if isinstance(module, NORMS):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            with torch.no_grad():
                module.weight[::2] *= -1
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


@pytest.mark.parametrize("name", NAMES)
def test_the_fused_network_gives_the_same_logits_and_has_no_auxiliary_heads(name):
    net = _lived_in(name, auxiliary=True)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    fused = fuse(net)
    images = torch.randn(2, 3, 70, 101)
    with torch.no_grad():
        expected, ours = net(images), fused(images)
    assert (ours - expected).abs().max() <= 1e-4 * expected.std()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    lean = build_model(name, 5)
    convolutions = [m for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == sum(isinstance(m, nn.Conv2d) for m in lean.modules())
    assert sum(isinstance(m, NORMS) for m in fused.modules()) <= 1


def test_a_norm_whose_input_is_used_twice_is_not_folded_silently():
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            nn.init.constant_(self.bn.weight, 3.0)

        def forward(self, x):
            x = self.conv(x)
            return x + self.bn(x)

    with pytest.raises(SegcoreError, match="cannot be fused"):
        fuse(Both())
