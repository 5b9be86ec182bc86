"""How scripts end: `util.runtime.cli.run`."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

SWALLOWED = """
import os, signal
from util.runtime.cli import run

def main():
    try:
        os.kill(os.getpid(), signal.{name})
        while True:
            pass
    except BaseException:  # as some packages do while they are imported
        pass
    raise RecursionError("what was left half-way")

run(main)
"""


def end_of(code: str) -> subprocess.CompletedProcess:
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have it ignored
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, env=environment, timeout=60
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_a_library_swallows_is_still_one(name):
    done = end_of(SWALLOWED.format(name=name))
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted; run the same command again to resume")


def test_what_is_unforeseen_keeps_its_traceback():
    done = end_of("from util.runtime.cli import run\ndef main():\n    raise RecursionError('why')\nrun(main)\n")
    assert done.returncode == 3 and "RecursionError: why" in done.stderr
