"""Runs the project's scripts so that they stop at chosen moments, and compares what they leave.

Most runs start warm, forked from a server that has imported torch: a stopped run then costs what it did, not the imports.
"""

import contextlib
import csv
import ctypes
import fcntl
import gzip
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import warm
from moments.sitecustomize import VARIABLE, install
from warm import ROOT

HANGS = 600  # seconds after which a run counts as hung, also on a busy machine
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENVIRONMENT = {"PYTHONPATH": f"{Path(install.__code__.co_filename).parent}:{ROOT}", "OMP_NUM_THREADS": "1"}


def stop_at(moment: dict, obey: bool) -> None:
    """Prepare a process to stand still at a moment; with ``obey`` without rights beyond file modes."""
    if obey:
        obey_file_modes()
    os.environ |= {**ENVIRONMENT, VARIABLE: json.dumps(moment)}
    install(**moment)


def obey_file_modes() -> None:
    """Give up root's right to read and write everything: file modes then count for root as for anybody."""
    header, data = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    keep = ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    sets = [value & keep if place < 3 else value for place, value in enumerate(struct.unpack("=6I", data.raw))]
    if libc.capset(header, struct.pack("=6I", *sets)):
        raise OSError(ctypes.get_errno(), "capset")


def heed_interrupts() -> None:
    # Tests that are started in the background inherit that Ctrl-C is ignored, and would hand it on to the scripts.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Run:
    """A script that runs.

    Attributes:
        pid: of the script; also of its process group.
        log: file that its processes count in; `moments.sitecustomize` says how.
        output: file with all that it prints.
        poll: its exit code, or None while it runs; minus the signal's number if a signal ended it.
    """

    pid: int
    log: Path
    output: Path
    poll: Callable[[], int | None]

    @classmethod
    def start(
        cls,
        script: str,
        arguments: list,
        log: Path,
        out: Path,
        *,
        number: int = 0,
        kind: str = "change",
        obey: bool = False,
        cold: bool = False,
        launcher: Sequence = (),
    ) -> "Run":
        """Start a script.

        Args:
            out: the folder that it writes.
            number, kind: it stands still before this change in ``out``, or before this import.
            obey: take away root's rights.
            cold: with a Python of its own.
            launcher: what Python runs in the script's place.
        """
        arguments = [str(argument) for argument in arguments]
        moment = {"folder": str(out), "log": str(log), "kind": kind, "number": number}
        os.mkfifo(f"{log}.gate")
        log.touch()
        output = log.with_suffix(".txt")
        if not cold and not launcher:
            process = warm.start(ROOT / script, arguments, (output, output), partial(stop_at, moment, obey))
            return cls(process.pid, log, output, lambda: process.exitcode)
        environment = {**os.environ, **ENVIRONMENT, VARIABLE: json.dumps(moment)}
        with open(output, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, *map(str, launcher), str(ROOT / script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        return cls(process.pid, log, output, process.poll)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    @contextlib.contextmanager
    def standing(self):
        """Whether it came to its moment, where it stands until the end of the ``with`` block; else it has ended."""
        gate = None
        with self._hangs_not():
            while gate is None and self.poll() is None:
                with contextlib.suppress(OSError):  # not there yet, or nobody waits at it
                    gate = os.open(f"{self.log}.gate.reached", os.O_WRONLY | os.O_NONBLOCK)
                time.sleep(0.002)
        try:
            yield gate is not None
        finally:
            if gate is not None:
                os.close(gate)

    def wait(self) -> int:
        """Its exit code, once all of its processes have ended.

        Raises:
            AssertionError: if it hangs, or leaves processes behind.
        """
        with self._hangs_not(), open(self.log, "rb") as log:
            while (code := self.poll()) is None:
                time.sleep(0.003)
            fcntl.flock(log, fcntl.LOCK_EX)
            return code

    @contextlib.contextmanager
    def _hangs_not(self):
        def hung(number, frame):
            os.killpg(self.pid, signal.SIGKILL)
            raise AssertionError(f"hung for {HANGS} s, or left processes behind:\n{self.text[-3000:]}")

        before = signal.signal(signal.SIGALRM, hung)
        signal.alarm(HANGS)
        try:
            yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def send(self, number: int) -> None:
        """A signal as it comes in practice: Ctrl-C to all processes of the run, the others to the script alone."""
        (os.killpg if number == signal.SIGINT else os.kill)(self.pid, number)


# --- what is in a folder -------------------------------------------------------------------------------------------


def result_files(folder: Path) -> list[Path]:
    """Result files: none that is temporary, a journal that is read line by line, or TensorBoard's log."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix != ".jsonl"
        and "tfevents" not in path.name
    ]


def results(folder: Path) -> dict[str, object]:
    """Relative name -> content of every result; what depends on the time and the command is left out.

    Raises:
        AssertionError: if a file is incomplete.
    """
    return {str(path.relative_to(folder)): content(path) for path in result_files(folder)}


def content(path: Path) -> object:
    data = path.read_bytes()
    if path.suffix == ".png":
        assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82"), f"{path} is half-written"
    elif path.suffix == ".jpg":
        assert data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"), f"{path} is half-written"
    elif path.suffix == ".gz":
        gzip.decompress(data)
    elif path.suffix == ".pth":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None, f"{path} is damaged"
        return weights(path)
    elif path.suffix == ".json":
        value = json.loads(data)
        return "(command and time)" if path.name == "run.json" else comparable(value)
    elif path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(data.decode())))
        return [[cell for cell, head in zip(row, rows[0]) if head != "ms"] for row in rows]
    return data


def comparable(value: object) -> object:
    """A JSON value less the fields that give how long something took, or the way from one folder to another."""
    if isinstance(value, dict):
        left_out = ("imagePath", "file_name", *(name for name in value if "seconds" in name))
        return {name: comparable(part) for name, part in value.items() if name not in left_out}
    return [comparable(part) for part in value] if isinstance(value, list) else value


def weights(path: Path) -> object:
    """A checkpoint with its tensors as bytes."""
    import torch

    def plain(value):
        if isinstance(value, torch.Tensor):
            return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    return plain(torch.load(path, map_location="cpu", weights_only=True))


def differences(found: dict, expected: dict) -> list[str]:
    """Names of results that are missing, surplus or different."""
    return sorted(name for name in {*found, *expected} if found.get(name, b"") != expected.get(name, b""))
