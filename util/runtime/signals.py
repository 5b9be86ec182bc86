"""Ctrl-C, SIGTERM, and processes that end with the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

# What asks a script to end; Windows has Ctrl-Break as well, and no other signal for a process that was started.
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM waiting while work is handed to a pool, or workers are started.

    Interrupted half-way, a pool may wait for itself for ever, and a worker that is forked meanwhile handles signals only
    once `start_worker` has set it up. Blocking them is not enough: other threads would still take them.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python runs no handlers
        yield
        return
    held = []
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in before:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def end_with_parent(name: str) -> None:
    """Have this process sent a signal when the one that started it ends, however that comes about (Linux only).

    A started script must not go on writing, or wait for what will not come, when nobody can pass a signal on to it.

    Args:
        name: of the signal, such as ``SIGTERM``; Windows does not have them all.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, getattr(signal, name))


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported in a frame or in one that called it."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib."):
        frame = frame.f_back
    return frame is not None
