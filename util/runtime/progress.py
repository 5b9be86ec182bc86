"""Progress bars: one moving line on a terminal, one line per minute in a log file; and failures above them."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sized
from typing import Any

from tqdm import tqdm

LOG_SECONDS = 60.0  # between two lines where nothing can move
REPEATED = 3  # images that a message is printed for


class FailureReport:
    """Prints what is wrong with an image. What is wrong with many is not printed for each."""

    def __init__(self) -> None:
        self._printed: Counter[str] = Counter()

    def __call__(self, image_id: str, message: str) -> None:
        kind = message.replace(image_id, "")
        self._printed[kind] += 1
        if self._printed[kind] <= REPEATED:
            tqdm.write(f"{image_id}: {message}", file=sys.stderr)
        elif self._printed[kind] == REPEATED + 1:
            tqdm.write(f"{image_id} and others: the same", file=sys.stderr)


class Progress(tqdm):
    """`tqdm.tqdm` with this project's manner; takes the same arguments.

    Nothing is shown where there is nothing to do. Without a terminal each state is a line of its own: the first, one per
    minute, and the last.
    """

    def __init__(self, *arguments: Any, **options: Any):
        self._moves = (options.get("file") or sys.stderr).isatty()
        self._written_at = float("-inf")
        self._is_closing = False
        manner = {"dynamic_ncols": True, "mininterval": 0.5} if self._moves else {"ncols": 100}
        total = options.get("total", len(arguments[0]) if arguments and isinstance(arguments[0], Sized) else None)
        options["disable"] = options.get("disable", False) or total == 0
        super().__init__(*arguments, **{**manner, **options})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the state, or in a log file write it when the time has come."""
        if self._moves:
            return super().display(msg, pos)
        now = time.monotonic()
        if msg != "" and (self._is_closing or now - self._written_at >= LOG_SECONDS):
            self._written_at = now
            self.fp.write(f"{msg or self}{'' if self._is_closing else chr(10)}")  # closing ends the line itself
            self.fp.flush()
        return False

    def clear(self, nolock: bool = False) -> None:
        """Make room for another line; a log file needs none."""
        if self._moves:
            super().clear(nolock)

    def close(self) -> None:
        """Show the last state."""
        self._is_closing = True
        super().close()
