"""Makes a script stand still at a chosen moment: the Nth time that it is about to change its results, or to import.

Python imports this module at its start where ``PYTHONPATH`` names its folder; forked and started processes count together.
A run that waits at its moment can be killed, or have its disk changed, without a race against the clock.
"""

import fcntl
import json
import os
import sys

VARIABLE = "WSSS_MOMENT"


def install(folder: str, log: str, kind: str, number: int) -> None:
    """Count the changes in ``folder`` (``kind`` "change") or imports ("import"), one byte each in the file ``log``.

    Before number ``number`` (0: never) the process waits until somebody has opened and closed the FIFO ``log``.gate. Names
    that files were moved to go to ``log``.placed. Every process holds a shared lock on ``log`` as long as it lives.
    """
    counter = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    placed = os.open(f"{log}.placed", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    fcntl.flock(counter, fcntl.LOCK_SH)

    def watch(event: str, arguments: tuple) -> None:
        path = changed_path(event, arguments)
        if path.startswith(folder + "/") and not path.endswith("/.lock") and "tfevents" not in path:
            if event == "os.rename":
                os.write(placed, path.encode() + b"\n")
        elif event != kind:
            return
        if (event == "import") == (kind == "import"):
            os.write(counter, b".")
            if number and os.fstat(counter).st_size >= number:
                wait_at_gate(f"{log}.gate")

    sys.addaudithook(watch)


def changed_path(event: str, arguments: tuple) -> str:
    """The path that is about to be made, changed or removed, or nothing."""
    if event == "open":
        path, writes = arguments[0], (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    elif event in ("os.rename", "os.link"):
        path, writes = arguments[1], True
    else:
        path, writes = arguments[0] if arguments else "", event in ("os.mkdir", "os.remove", "os.rmdir")
    return os.fsdecode(path) if writes and not isinstance(path, int) else ""


def wait_at_gate(gate: str) -> None:
    try:
        os.rename(gate, f"{gate}.reached")  # one process alone gets through
    except FileNotFoundError:
        return
    with open(f"{gate}.reached", "rb") as file:
        file.read()


if VARIABLE in os.environ:
    install(**json.loads(os.environ[VARIABLE]))
