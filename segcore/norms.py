"""What a training may ask of a network's batch norms: running statistics that are averages, or norms that stand still.

Both are those of CSAILVision/semantic-segmentation-pytorch, section 5.2; they work on any network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningAverage:
    """Running statistics as a plain average over the first thousand forward passes, forgetting slowly after that.

    The reference's synchronised norm keeps tmp = (1 - rate)·tmp + batch and iter = (1 - rate)·iter + 1, and its running
    statistics are tmp / iter. That is a norm whose momentum is 1 / iter: 0.50, 0.33, 0.25, … down to `rate`. There a
    network starts from mean 0 and variance 1 whatever was loaded; here the statistics found at the start, fresh or
    loaded, are the first sample.

    The momentum must not be changed in the norms themselves, for `torch.compile` makes new code for every value. So
    they get momentum 1, their buffers hold what one forward pass says, and `step` mixes it in. The averages and the
    count are buffers of the network without a place in its state dict: who puts all buffers back puts them back too.
    Make this after norms are synchronised, and before the network is wrapped for several processes.

    Args:
        net: its norms are taken over, in place.
        rate: what the momentum goes down to. A module with an attribute `norm_rate` has one of its own.
    """

    def __init__(self, net: nn.Module, rate: float = 0.001) -> None:
        self.net = net
        own = {norm: part.norm_rate for part in net.modules() if hasattr(part, "norm_rate") for norm in norms(part)}
        self.rates = {norm: own.get(norm, rate) for norm in norms(net)}
        device = next(net.parameters()).device
        net.register_buffer("norm_samples", torch.ones((), dtype=torch.float64, device=device), persistent=False)
        for norm in self.rates:
            norm.momentum = 1.0
            norm.register_buffer("average_mean", norm.running_mean.clone(), persistent=False)
            norm.register_buffer("average_var", norm.running_var.clone(), persistent=False)

    @torch.no_grad()
    def step(self) -> None:
        """Takes in what a forward pass left in the norms; call it once for each, after its backward pass.

        Not before: autograd keeps the buffers for the gradients, and refuses those that were changed meanwhile.
        """
        self.net.norm_samples += 1
        momenta = {rate: self.momentum(rate) for rate in set(self.rates.values())}
        for norm, rate in self.rates.items():
            for average, latest in _statistics(norm):
                average.lerp_(latest, momenta[rate].to(average.dtype))
                latest.copy_(average)

    def momentum(self, rate: float) -> Tensor:
        """Weight of the last sample, float64: 1 / iter, where iter = Σ (1 - rate)^k over k = 0 … samples - 1."""
        return rate / (1 - (1 - rate) ** self.net.norm_samples)

    def state_dict(self) -> dict[str, int]:
        """For the resume state, beside the network's own: the number of samples."""
        return {"samples": int(self.net.norm_samples)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from a kept state; the network's must have been loaded before."""
        self.net.norm_samples.fill_(state["samples"])
        for norm in self.rates:
            for average, latest in _statistics(norm):
                average.copy_(latest)


def fix_bn(net: nn.Module) -> None:
    """Puts all of a network's parts, dropout too, in eval mode; scale and shift of the norms go on learning.

    The network itself stays in train mode, so that it gives the outputs of all its heads. `net.train()` undoes it.
    """
    for part in net.children():
        part.eval()


def norms(net: nn.Module) -> list[nn.Module]:
    """The modules that keep running statistics."""
    return [module for module in net.modules() if getattr(module, "running_mean", None) is not None]


def _statistics(norm: nn.Module) -> tuple[tuple[Tensor, Tensor], ...]:
    """(average, latest) of mean and variance."""
    return (norm.average_mean, norm.running_mean), (norm.average_var, norm.running_var)
