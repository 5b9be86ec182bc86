"""Batch norm over the batches of all processes, on GPUs and on CPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def with_synchronised_norm(net: nn.Module) -> nn.Module:
    """Let batch norm take its statistics from the batches of all processes; parameters keep their names."""
    if next(net.parameters()).device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.SyncBatchNorm:
            module.__class__ = GpuSyncBatchNorm
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlooSyncBatchNorm2d
    return net


class GpuSyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the batches of all processes, on GPUs, without making the host wait."""

    def forward(self, input: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        with _no_process_without_images():
            return super().forward(input)


@contextlib.contextmanager
def _no_process_without_images() -> Iterator[None]:
    """Within, torch's layer takes it that every process has images.

    torch 2.14 looks for those without by three boolean masks per layer, each of which makes the host wait for the GPU, but
    not while a CUDA graph is captured (pytorch issue 78549).
    """
    captures = torch.cuda.is_current_stream_capturing
    torch.cuda.is_current_stream_capturing = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_current_stream_capturing = captures


class GlooSyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on CPUs, where torch's `SyncBatchNorm` does not run."""

    def forward(self, x: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        if not self.training:
            return super().forward(x)
        parts = _SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])]))
        number = parts[-1].detach()
        mean = parts[:-1] / number
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply((centred * centred).sum((0, 2, 3))) / number
        self._keep(mean, variance * number / (number - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return  # one that keeps no statistics
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process's loss depends on every process's x.
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total
