"""Batch norm over the batches of all processes, on GPUs and on CPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import Tensor, nn


def with_synchronised_norm(net: nn.Module, device: torch.device) -> nn.Module:
    """Let batch norm take its statistics from the batches of all processes; parameters keep their names."""
    if device.type == "cuda":
        net = convert_sync_batchnorm(net)  # torch's own would drop the activations that timm's norms hold
    ours = {
        nn.SyncBatchNorm: GpuSyncBatchNorm,
        SyncBatchNormAct: GpuSyncBatchNormAct,
        nn.BatchNorm2d: GlooSyncBatchNorm2d,
        BatchNormAct2d: GlooSyncBatchNormAct2d,
    }
    for module in net.modules():
        module.__class__ = ours.get(type(module), type(module))
    return net


class GpuSyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the batches of all processes, on GPUs, without making the host wait."""

    def forward(self, input: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        with _no_process_without_images():
            return super().forward(input)


class GpuSyncBatchNormAct(SyncBatchNormAct):
    """The same with timm's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        with _no_process_without_images():
            return super().forward(x)


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
        return _normalised(self, x) if self.training else super().forward(x)


class GlooSyncBatchNormAct2d(BatchNormAct2d):
    """The same with timm's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        return self.act(self.drop(_normalised(self, x))) if self.training else super().forward(x)


def _normalised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    parts = _SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])]))
    number = parts[-1].detach()
    mean = parts[:-1] / number
    centred = x - mean[:, None, None]
    variance = _SumOverProcesses.apply((centred * centred).sum((0, 2, 3))) / number
    _keep(norm, mean, variance * number / (number - 1))
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return centred * scale[:, None, None] + norm.bias[:, None, None]


@torch.no_grad()
def _keep(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return  # one that keeps no statistics
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance, share)


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
