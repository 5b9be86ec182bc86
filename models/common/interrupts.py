"""Ctrl-C and SIGTERM while training."""

from __future__ import annotations

import signal
import threading
from typing import Any

from util.runtime.signals import ENDING


class Interrupts:
    """Within, a first Ctrl-C or SIGTERM only sets a mark, so that no step is left half done; a second ends all.

    Outside the main thread, where Python handles no signals, nothing changes.

    Attributes:
        asked: whether this process was asked to stop.
        agreed: whether any process was, as all of them know it after the last step.
    """

    def __init__(self) -> None:
        self.asked = self.agreed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self.asked = self.agreed = False
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in ENDING}
        return self

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
