"""Many images at once: worker processes under a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from tqdm import tqdm

from util.runtime.errors import InputError
from util.runtime.memory import keep_freed_memory
from util.runtime.signals import signals_held


def run_parallel(work: Callable, items: list, *, workers: int, description: str, chunk: int = 8) -> Iterable:
    """Yield ``work(item)`` for every item, in any order, from worker processes, under a progress bar.

    Only a few chunks are under way at a time, so memory does not grow with the number of items. With ``workers`` of 0 or
    1 everything runs in this process. ``work`` must be picklable and should turn bad input into a value.

    Raises:
        InputError: if a worker process died (out of memory, killed).
    """
    bar = tqdm(total=len(items), desc=description, unit="image", mininterval=0.5, dynamic_ncols=True)
    with bar:
        if workers <= 1 or len(items) <= chunk:
            keep_freed_memory()
            for item in items:
                yield work(item)
                bar.update()
            return
        chunks = (items[start : start + chunk] for start in range(0, len(items), chunk))
        with ProcessPoolExecutor(workers, initializer=start_worker) as pool:
            with signals_held():
                waiting = {pool.submit(_work_chunk, work, part) for part in islice(chunks, 2 * workers)}
            try:
                while waiting:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    with signals_held():
                        waiting |= {pool.submit(_work_chunk, work, part) for part in islice(chunks, len(finished))}
                    for future in finished:
                        for result in future.result():
                            yield result
                            bar.update()
            except BrokenProcessPool:
                raise InputError(
                    "a worker process died (out of memory, or killed); use fewer --workers and run again to resume"
                ) from None
            finally:
                for future in waiting:
                    future.cancel()


def batches_of(loader: Iterable) -> Iterator:
    """The batches of a torch ``DataLoader``, whose workers no signal reaches before they are ready for one."""
    with signals_held():
        return iter(loader)


def _work_chunk(work: Callable, items: list) -> list:
    return [work(item) for item in items]


def start_worker(number: int = 0) -> None:
    """Set up a worker process, of `run_parallel` or of a torch ``DataLoader`` (as its ``worker_init_fn``).

    Ctrl-C reaches the whole process group, but the parent alone decides; and a worker ends with its parent even if that
    was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
    threading.Thread(target=_join_parent, daemon=True).start()


def _join_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
