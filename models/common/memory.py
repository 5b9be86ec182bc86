"""Running out of a device's memory: as an error that names the option to change, and giving cached memory back."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch

from util.runtime.errors import InputError

# Of errors that are not torch's own: the CPU's allocator, pinned memory and a GPU that others fill, cuBLAS.
_SIGNS = ("not enough memory", "out of memory", "ALLOC_FAILED")


@contextlib.contextmanager
def memory_named(what: str, remedy: str) -> Iterator[None]:
    """Within, running out of memory is an InputError: ``what`` ran out of memory; ``remedy``, and re-run to resume."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and not any(s in str(error) for s in _SIGNS):
            raise
        reason = (str(error).splitlines() or ["out of memory"])[0][:200]
        raise InputError(f"{what} ran out of memory ({reason}); {remedy}, and re-run to resume") from None


def free_memory() -> None:
    """Give the GPU's cached memory back after it ran out."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
