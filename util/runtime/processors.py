"""How many processors there are for this process."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def processors() -> int:
    """How many processors this process may use: its share, where ``torchrun`` started several on this machine."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here, _granted()) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def default_workers() -> int:
    """One worker per processor; at most 8 where workers are spawned, as each imports torch again and takes 0.3 GB."""
    return min(processors(), 8) if sys.platform in ("win32", "darwin") else processors()


def _granted() -> int:
    """How many processors' time a container gets; neither Python nor torch looks at the limit of Docker or Kubernetes."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # versions 2 and 1
        with contextlib.suppress(OSError, ValueError):  # without a limit a word, or -1
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in names).split())
            if quota > 0 and period > 0:
                return math.ceil(quota / period)
    return sys.maxsize
