"""The dtype of mixed precision behind ``--amp``."""

from __future__ import annotations

import torch


def amp_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """The dtype, None for float32.

    Args:
        name: ``off``, ``bf16``, ``fp16``, or ``auto``: bfloat16 on a GPU that has it, float16 on another, off on a CPU.
    """
    if name == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
