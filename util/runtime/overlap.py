"""Reading ahead and writing behind in threads, so that a network need not wait for either."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], ahead: int = 2
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Each item with the future of ``read(item)``, in their order; what follows is read meanwhile.

    Args:
        ahead: how many items are read in advance, each of which is held in memory.
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(max(2, ahead))
    try:
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


class Behind:
    """A thread that does what it is given, in that order, while the caller goes on; use as a context manager.

    What a piece of work raises is raised by a later call, or at the end. Where the caller fails, work that has not been
    begun is dropped.

    Args:
        most: pieces of work that may wait; a call waits for more to be done.
    """

    def __init__(self, most: int = 4):
        self._most, self._pool = most, ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> Behind:
        return self

    def __call__(self, work: Callable[..., object], *arguments: Any) -> None:
        """Have ``work(*arguments)`` done."""
        while self._waiting and (len(self._waiting) >= self._most or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(work, *arguments))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)
