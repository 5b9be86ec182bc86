"""How the benchmarks measure: jobs that take turns in this process, and scripts of the project as commands."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def take_turns(
    jobs: dict[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 0,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds that each job took in each round.

    Args:
        jobs: take turns, so that what else the machine does meets all of them; every other round in reverse, so that
            none is always first.
        warm_up: rounds before those that count: a GPU starts, and chooses its kernels, in the first.
        clock: processor time of this process, or `on_device` where the work is a GPU's.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(warm_up + rounds):
        for name, job in list(jobs.items())[:: -1 if number % 2 else 1]:
            begun = clock()
            job()
            if number >= warm_up:
                seconds[name].append(clock() - begun)
    return seconds


def best_times(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor time of each job."""
    return {name: min(values) for name, values in take_turns(jobs, rounds).items()}


def on_device() -> float:
    """The time by the clock, once the GPU has done all that it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def with_peaks(jobs: dict[str, Callable[[], object]], peaks: dict[str, int]) -> dict[str, Callable[[], object]]:
    """The same jobs, which leave in ``peaks`` the bytes of a GPU's memory that each held at most; 0 on a CPU."""
    import torch

    def watched(name: str, job: Callable[[], object]) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        job()
        peaks[name] = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0

    return {name: partial(watched, name, job) for name, job in jobs.items()}


@dataclass(frozen=True)
class Measured:
    """What a command took: seconds by the clock, bytes at the peak of its largest process."""

    seconds: float
    peak: int


# A process starts with its parent's peak: only a small one between us and the script shows the script's own.
_LAUNCHER = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=2)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begun, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def measure(*command) -> Measured:
    """Run a script of the project with its options, and measure it; its output is thrown away.

    Raises:
        SystemExit: if it fails, with what it printed last.
    """
    script = [sys.executable, str(ROOT / command[0]), *map(str, command[1:])]
    done = subprocess.run([sys.executable, "-S", "-c", _LAUNCHER, *script], capture_output=True, text=True)
    seconds, peak, code = done.stdout.split()
    if int(code):
        raise SystemExit(f"{' '.join(script)}\nended with {code}:\n{done.stderr[-2000:]}")
    return Measured(float(seconds), int(peak) * 1024)


def output_of(script: str, *options) -> str:
    """What another benchmark prints.

    Raises:
        SystemExit: if it fails.
    """
    done = subprocess.run([sys.executable, str(ROOT / script), *map(str, options)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout
