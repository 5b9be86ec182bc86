"""Between the host and a GPU by way of pinned memory, so that neither waits for the other more often than it must."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device; a GPU goes on working meanwhile."""
    values = torch.from_numpy(array)
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def to_host(*tensors: Tensor) -> list[np.ndarray]:
    """Tensors of one device as arrays; a GPU is waited for once, whatever their number."""
    if not tensors or tensors[0].device.type != "cuda":
        return [values.numpy() for values in tensors]
    copies = [torch.empty(values.shape, dtype=values.dtype, pin_memory=True) for values in tensors]
    for copy, values in zip(copies, tensors, strict=True):
        copy.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(tensors[0].device))
    copied.synchronize()  # a stream's own would be an error where waits are forbidden, in pytest -m gpu
    return [copy.numpy() for copy in copies]
