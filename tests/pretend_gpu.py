"""A pretended GPU: tensors that say they are on ``cuda:0`` and compute on the CPU, and a count of what would wait for it.

Code runs on it as on a GPU, with real values, and whatever would make the host wait is counted: numbers that are read,
shapes that depend on values, copies to the host, and copies to the GPU that are not ``non_blocking``. A tensor of the CPU
among those of the GPU is an error, as it is there. Backward passes give gradients of zero: torch's engine asks the driver.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchvision  # noqa: F401 - registers its operators
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from models.common import preprocessing
from models.sam import encoder

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
COPIES = (aten._to_copy.default, aten.copy_.default)
# Shapes, or decisions of the host, that depend on values.
SHAPES = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
    aten.equal.default,
    torch.ops.torchvision.nms.default,
}
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


def depends_on_values(func: Any, args: Any) -> bool:
    """Whether an operator gives a number, or a shape that depends on values: what a GPU is waited for."""
    if func in INDEXING:
        masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
        return bool(masks) and (func is INDEXING[0] or args[2].numel() > 1)
    return func in SHAPES or func is aten._local_scalar_dense.default


class OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU; ``inner`` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnGpu:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=GPU,
        )

    def __init__(self, inner: Tensor):
        self.inner = inner

    def __repr__(self) -> str:
        return f"OnGpu({self.inner})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a tensor of the pretended GPU outside of it")


class PretendGpu(TorchDispatchMode):
    """Within, ``cuda`` is the pretended GPU.

    Attributes:
        waits: how often the host would wait for it, by kind.
        bytes_to_host: that were copied from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.bytes_to_host = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = any(isinstance(tensor, OnGpu) for tensor in tensors)
        device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if func is aten._pin_memory.default:
            return args[0]
        if func is aten.is_pinned.default:
            return True
        self._count(func, args, kwargs, here, device)
        if here and func not in COPIES and func not in INDEXING:
            assert all(isinstance(tensor, OnGpu) or not tensor.dim() for tensor in tensors), (
                f"{func}: a CPU tensor among"
            )
        plain = {
            name: False if name == "pin_memory" else "cpu" if name == "device" else _inner(value)
            for name, value in kwargs.items()
            if not (name in ("device", "pin_memory") and value is None)
        }
        out = func(*_inner(args), **plain)
        if func is aten._local_scalar_dense.default or func is aten.equal.default:
            return out
        on_gpu = (
            device.type == "cuda" if device is not None else isinstance(args[0], OnGpu) if func is COPIES[1] else here
        )
        if not on_gpu:
            return args[0] if func is COPIES[1] else out
        out = tree_map(lambda leaf: OnGpu(leaf) if isinstance(leaf, Tensor) else leaf, out)
        return return_and_correct_aliasing(func, args, kwargs, out) if here else out

    def _count(self, func: Any, args: Any, kwargs: Any, here: bool, device: torch.device | None) -> None:
        if func in COPIES:
            source, target = (args[1], args[0]) if func is COPIES[1] else (args[0], None)
            there = isinstance(target, OnGpu) if target is not None else device is not None and device.type == "cuda"
            leaves = isinstance(source, OnGpu)
            moves = leaves != there and (target is not None or device is not None)
            blocking = not (kwargs.get("non_blocking") or (func is COPIES[1] and len(args) > 2 and args[2]))
            self.bytes_to_host += source.nbytes if moves and leaves else 0
            if moves and blocking:
                self.waits["to the host" if leaves else "to the GPU"] += 1
        elif here and depends_on_values(func, args):
            self.waits["numbers" if func is aten._local_scalar_dense.default else "shapes"] += 1
        if here and func in INDEXING:
            indices = [index for index in args[1] if index is not None and index.dim()]
            self.waits["to the GPU"] += sum(not isinstance(index, OnGpu) for index in indices)


class WithBackward(TorchDispatchMode):
    """Counts on the CPU what depends on values, backward passes included; copies cannot be seen there."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits[str(func)] += depends_on_values(func, args)
        return func(*args, **(kwargs or {}))


def _inner(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.inner if isinstance(leaf, OnGpu) else leaf, value)


class _Event:
    """In the place of CUDA's streams and events."""

    def __init__(self, mode: PretendGpu):
        self.mode = mode

    def record(self, stream: object) -> None:
        pass

    def synchronize(self) -> None:
        self.mode.waits["to the host"] += 1


def _no_gradients(loss: Tensor, *more: Any, **options: Any) -> None:
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            variable.grad = torch.zeros_like(variable)
        waiting += [parent for parent, _ in node.next_functions]


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendGpu]:
    """Within, code that is given the device ``cuda`` runs without one."""
    torch._C._ensureCUDADeviceGuardSet()
    before = torch.__future__.get_swap_module_params_on_conversion()
    mode = PretendGpu()
    with pytest.MonkeyPatch.context() as patch, torch.backends.cudnn.flags(enabled=False):
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "current_stream", lambda device=None: None)
        patch.setattr(torch.cuda, "Event", lambda: _Event(mode))
        patch.setattr(torch.cuda, "synchronize", lambda device=None: _Event(mode).synchronize())
        patch.setattr(torch.Tensor, "backward", _no_gradients)
        # Views of what was made outside of inference mode cannot be wrapped inside.
        patch.setattr(torch.inference_mode, "__enter__", lambda self: torch.no_grad.__enter__(self))
        patch.setattr(torch.inference_mode, "__exit__", lambda self, *error: torch.no_grad.__exit__(self, *error))
        torch.__future__.set_swap_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)  # what `torch.tensor` makes goes to the GPU where the mode sees it
        try:
            with mode:
                yield mode
        finally:
            for kept in (encoder._distances, preprocessing._constants):
                kept.cache_clear()
            torch._C._set_only_lift_cpu_tensors(False)
            torch.__future__.set_swap_module_params_on_conversion(before)
