"""What a process does with memory that it no longer needs."""

import contextlib
import ctypes
import sys


def keep_freed_memory() -> None:
    """Let the C library keep what this process frees, instead of asking the system for it again with every image.

    Arrays and tensors of the same sizes come and go all the time, and the system clears every page that it hands out:
    that takes up to a fifth of a merge, and of a training step on a CPU. The process stays as large as it ever was.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: this much may stay unused
        mallopt(-4, 0)  # M_MMAP_MAX: large arrays come from the heap as well, or they would be handed back at once
