"""Grouped convolutions on CPUs, where torch's own kernels are slow in some cases and wrong in one.

In torch 2.14 (oneDNN 3.12) on processors with AVX-512 and bfloat16:

- the weights' gradient of a dilated convolution with few channels a group in bfloat16 is garbage, up to infinity, where
  the map is 30 or more pixels wide; depthwise, it takes 20 to 100 times as long as without dilation;
- in every precision a dilation near the size of the map is convolved with zeros mostly, and slowly;
- the input's gradient of a strided depthwise convolution in bfloat16 takes 10 to 90 times as long as in float32.

Mobile encoders that run at stride 16 have layers of the first and the last kind, DeepLabV3+'s decoder of the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from models.common.precision import has_kernels
from util.runtime.errors import InputError


def use_own_convolutions(net: nn.Module) -> nn.Module:
    """Let those of the network's convolutions be this module's that gain by it; parameters keep their names.

    Returns:
        ``net``.
    """
    for module in net.modules():
        # segmentation-models-pytorch's own padding, which it replaces by nothing where it dilates.
        unpadded = isinstance(getattr(module, "static_padding", None), nn.Identity)
        if not isinstance(module, nn.Conv2d) or not (type(module) is nn.Conv2d or unpadded):
            continue
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            continue
        depthwise = module.groups == module.in_channels == module.out_channels > 1
        if depthwise and _keeps_size(module):
            module.__class__ = DilatedDepthwiseConv2d
        elif _is_dilated_in_groups(module) or (depthwise and max(module.stride) > 1):
            module.__class__ = Float32GradientConv2d
    return net


def check_mixed_precision(net: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Raise InputError where training would take gradients from the kernel that gives garbage."""
    if device.type != "cpu" or dtype != torch.bfloat16:
        return
    for module in net.modules():
        own = isinstance(module, (DilatedDepthwiseConv2d, Float32GradientConv2d))
        if isinstance(module, nn.Conv2d) and not own and _is_dilated_in_groups(module):
            raise InputError(
                f"--amp bf16: this encoder has dilated convolutions in groups ({type(module).__name__}) whose gradients "
                "torch gets wrong on a CPU; use --amp off or another encoder"
            )


def _is_dilated_in_groups(module: nn.Conv2d) -> bool:
    return module.groups > 1 and max(module.dilation) > 1 and max(module.kernel_size) > 1


def _keeps_size(module: nn.Conv2d) -> bool:
    """Whether it is dilated, alike in both directions, and its output is as large as its input."""
    (dilation, other), (height, width) = module.dilation, module.kernel_size
    return (
        dilation == other > 1
        and height == width > 1
        and height % 2 == 1
        and tuple(module.stride) == (1, 1)
        and tuple(module.padding) == (dilation * (height // 2),) * 2
    )


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A dilated depthwise convolution that keeps the size of the map.

    A dilation of d takes the map apart into d x d coarse ones, of every d-th row and column each, that never meet: they
    are convolved without dilation. Source: Chen et al., "DeepLab", arXiv 1606.00915, section 3.1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        return _on_cpu(self, _Dilated, x, self.dilation[0]) if x.device.type == "cpu" else super().forward(x)


class Float32GradientConv2d(nn.Conv2d):
    """A convolution in groups whose gradients are computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """float BxCxHxW -> BxDxhxw."""
        if x.device.type != "cpu":
            return super().forward(x)
        return _on_cpu(self, _Float32Gradient, x, self.stride, self.padding, self.dilation, self.groups)


def _on_cpu(module: nn.Conv2d, function: type[torch.autograd.Function], x: Tensor, *settings) -> Tensor:
    weight = module.weight
    if torch.is_autocast_enabled("cpu"):
        x, weight = (value.to(torch.get_autocast_dtype("cpu")) for value in (x, weight))
    result = function.apply(x, weight, *settings)
    return result if module.bias is None else result + module.bias.to(result.dtype)[:, None, None]


class _Dilated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, dilation):
        dilation = min(dilation, max(x.shape[2:]))  # beyond, all taps but the centre see nothing just the same
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _convolved(_phases(x, dilation), weight, x.shape, dilation)

    @staticmethod
    def backward(ctx, gradient):
        (x, weight), dilation = ctx.saved_tensors, ctx.dilation
        phases = _phases(gradient, dilation)
        if min(phases.shape[2:]) >= 3:
            seen, written = _phases(x, dilation), phases
            if not has_kernels(x.dtype, x.device):  # there, torch rounds the sum to bfloat16 after every phase
                seen, written = seen.float(), written.float()
            to_weight = conv2d_weight(seen, weight.shape, written, padding=weight.shape[2] // 2, groups=len(weight))
            to_weight = to_weight.to(weight.dtype)
        else:  # many tiny maps take longer than the few taps that see anything
            to_weight = torch.zeros_like(weight)
            for row, column, source, target in _taps(x.shape[2:], weight.shape[2], dilation):
                to_weight[:, 0, row, column] = (gradient[target] * x[source]).sum((0, 2, 3))
        return _convolved(phases, weight.flip(2, 3), x.shape, dilation), to_weight, None


def _phases(x: Tensor, dilation: int) -> Tensor:
    """BxCxHxW -> (dilation * dilation * B)xCxhxw, of every so-many-th row and column each, the map filled up with 0."""
    batch, channels, height, width = x.shape
    rows, columns = -(-height // dilation), -(-width // dilation)
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, columns * dilation - width, 0, rows * dilation - height))
    x = x.reshape(batch, rows, dilation, columns, dilation, channels).permute(2, 4, 0, 1, 3, 5)
    return x.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)


def _convolved(phases: Tensor, weight: Tensor, shape: Sequence[int], dilation: int) -> Tensor:
    """Convolve the phases and put them together again: BxCxHxW, of the given shape."""
    batch, channels, height, width = shape
    x = F.conv2d(phases, weight, padding=weight.shape[2] // 2, groups=channels).permute(0, 2, 3, 1)
    x = x.reshape(dilation, dilation, batch, *x.shape[1:]).permute(2, 3, 0, 4, 1, 5)
    x = x.reshape(batch, x.shape[1] * dilation, -1, channels)[:, :height, :width]
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _taps(size: Sequence[int], kernel: int, dilation: int) -> Iterator[tuple[int, int, tuple, tuple]]:
    """For every tap that sees anything: its row and column, what it sees, and where that is added."""
    height, width = size
    for row in range(kernel):
        for column in range(kernel):
            down, right = ((place - kernel // 2) * dilation for place in (row, column))
            if abs(down) < height and abs(right) < width:
                seen = np.s_[:, :, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
                written = np.s_[:, :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
                yield row, column, seen, written


class _Float32Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, *how):
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return F.conv2d(x, weight, None, *how)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        exact = gradient.float()
        to_x = conv2d_input(x.shape, weight.float(), exact, *ctx.how).to(x.dtype) if ctx.needs_input_grad[0] else None
        return to_x, conv2d_weight(x.float(), weight.shape, exact, *ctx.how).to(weight.dtype), None, None, None, None
