"""An average of the weights of the last steps, which is often better than the last weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """An exponential moving average of a network's weights and batch norm statistics."""

    def __init__(self, net: nn.Module, decay: float):
        self.net, self.decay = copy.deepcopy(net).requires_grad_(False), decay
        pairs = list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, *, first: bool = False) -> None:
        """Move towards the network as it is now; all the way at the first step."""
        own, other = map(list, zip(*self._floats, strict=True))
        torch._foreach_lerp_(own, other, 1.0 if first else 1 - self.decay)
        for mine, theirs in self._counters:
            mine.copy_(theirs)
