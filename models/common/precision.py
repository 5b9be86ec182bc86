"""Mixed precision: the dtype behind ``--amp`` and ``--precision``, and whether it pays."""

from __future__ import annotations

import sys

import torch

from util.runtime.distributed import Dist

DTYPES = {"off": None, "fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(option: str, name: str, dist: Dist) -> str:
    """What ``auto`` stands for, and a warning where the choice is slower than float32.

    Args:
        option: as it is called on the command line, for the warning.
        name: a key of ``DTYPES``, or ``auto``: bf16 on a GPU that has it, fp16 on another, off on a CPU.

    Returns:
        a key of ``DTYPES``.
    """
    if name == "auto":
        if dist.device.type != "cuda":
            return "off"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if dist.is_main and not has_kernels(DTYPES[name], dist.device):
        text = f"{option} {name}: this processor only emulates it, and may be ten times slower; leave {option} out"
        print(text, file=sys.stderr)
    return name


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Within, a network computes in this dtype as far as that is safe; None: in that of its weights."""
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def use_tf32(name: str, dist: Dist) -> None:
    """With ``auto`` on a GPU, let what mixed precision leaves in float32 use TF32; for this process.

    Not where float32 is promised: in the affinities and the walk of CAMs.
    """
    if name == "auto" and dist.device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def has_kernels(dtype: torch.dtype | None, device: torch.device) -> bool:
    """Whether the device computes in this dtype. Processors without such kernels emulate it, and are slower by it."""
    known = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    if device.type != "cpu" or dtype not in known:
        return True
    is_supported = getattr(torch.ops.mkldnn, known[dtype], None)  # None in torch for Apple's processors
    return is_supported is not None and is_supported()
