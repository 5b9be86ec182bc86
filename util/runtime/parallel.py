"""Many images at once: worker processes under a progress bar."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from typing import TypeVar

from util.runtime.errors import InputError
from util.runtime.memory import keep_freed_memory
from util.runtime.progress import Progress
from util.runtime.signals import ENDING, signals_held

MOST_WORKERS = 61 if sys.platform == "win32" else 1024  # Windows waits for at most this many processes at once
Item = TypeVar("Item")
Result = TypeVar("Result")


class LostWorker(InputError):
    """A loader's worker process is gone."""


def run_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int, description: str, chunk: int = 8
) -> Iterator[Result]:
    """Yield ``work(item)`` for every item, in any order, from worker processes, under a progress bar.

    Only a few chunks are under way at a time, so memory does not grow with the number of items. With ``workers`` of 0 or
    1 everything runs in this process. ``work`` must be picklable and should turn bad input into a value. Workers start
    by multiprocessing's start method (``multiprocessing.set_start_method``), by default Python's own for the system.

    Raises:
        InputError: if a worker process died (out of memory, killed).
    """
    with Progress(total=len(items), desc=description, unit="image") as bar:
        if workers <= 1 or len(items) <= chunk:
            keep_freed_memory()
            for item in items:
                yield work(item)
                bar.update()
            return
        workers = min(workers, -(-len(items) // chunk), MOST_WORKERS)
        with (
            ProcessPoolExecutor(workers, initializer=start_worker) as pool,
            closing(_in_turn(pool, work, items, 2 * workers, chunk)) as parts,
        ):
            try:
                for results in parts:
                    for result in results:
                        yield result
                        bar.update()
            except BrokenProcessPool:
                raise InputError(
                    "a worker process died (out of memory, or killed); use fewer --workers and re-run to resume"
                ) from None


def _in_turn(
    pool: ProcessPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item], ahead: int, chunk: int
) -> Generator[list[Result], None, None]:
    """The results of chunks as they come in, ``ahead`` of them under way."""
    chunks = (items[start : start + chunk] for start in range(0, len(items), chunk))
    waiting: set[Future[list[Result]]] = set()
    try:
        while True:
            with signals_held():
                waiting |= {pool.submit(_work_chunk, work, part) for part in islice(chunks, ahead - len(waiting))}
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()


def _work_chunk(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [work(item) for item in items]


def batches_of(loader: Iterable[Item]) -> Iterator[Item]:
    """The batches of a torch ``DataLoader``, whose workers no signal reaches before they are ready for one.

    Raises:
        LostWorker: (when a batch is asked for) if a worker ran out of memory, or of the shared memory that batches
            come through, of which Docker gives 64 MB.
    """
    with signals_held():
        batches = iter(loader)
    return _without_lost_workers(batches)


def _without_lost_workers(batches: Iterator[Item]) -> Iterator[Item]:
    try:
        yield from batches
        return
    except RuntimeError as error:
        text = str(error)
        if not any(sign in text for sign in ("DataLoader worker (pid", "shared memory", "torch_shm", "No space left")):
            raise
    # The other workers end with the iterator. It has references to itself, and the error, which is gone here, had one.
    del batches
    gc.collect()
    raise LostWorker(
        f"a loader's worker process ran out of memory ({text.strip().splitlines()[-1]}); give --workers 0, or more "
        "shared memory (Docker: --shm-size 2g; otherwise a larger /dev/shm), and re-run to resume"
    )


def start_worker(number: int = 0) -> None:
    """Set up a worker process, of `run_parallel` or of a torch ``DataLoader`` (as its ``worker_init_fn``).

    Ctrl-C, and SIGTERM from torchrun, reach the whole process group, but the parent alone decides: it may have a step to
    finish. A worker ends with its parent even if that was killed.
    """
    if hasattr(os, "setpgid") and multiprocessing.parent_process() is not None:
        os.setpgid(0, 0)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    keep_freed_memory()
    threading.Thread(target=_join_parent, daemon=True).start()


def _join_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
