"""Runs the project's scripts so that they can be stopped at chosen moments, and watches the folders that they write.

Most runs start warm: a server that has imported torch once forks, and the fork runs the script as a user's Python would.
A stopped run then costs what it did, not the imports.
"""

import contextlib
import csv
import ctypes
import gzip
import io
import json
import os
import runpy
import select
import signal
import struct
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PRELOADED = (
    "numpy", "cv2", "PIL.Image", "scipy", "skimage.segmentation", "matplotlib.figure", "torch", "torch.utils.data",
    "torch.utils.tensorboard", "segmentation_models_pytorch", "timm", "processor", "models.sam.regions",
    "models.cam.training", "models.cam.inference", "models.segmentation.predict", "models.segmentation.training",
)  # fmt: skip
HANGS = 120  # seconds after which a run counts as hung

# --- the server: forks itself, and the fork is the script ----------------------------------------------------------


def serve() -> None:
    """Read a request a line (JSON), answer ``started PID``, and ``ended PID CODE`` when it is over."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            __import__(name)
    print("ready", flush=True)
    waiting = b""
    while True:
        if select.select([0], [], [], 0.005)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    become(**json.loads(line))
                print(f"started {pid}", flush=True)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                print(f"ended {ended[0]} {os.waitstatus_to_exitcode(ended[1])}", flush=True)


def become(script: str, arguments: list[str], output: str, obey: bool) -> None:
    """Be the script: its output in a file, a session of its own, and with ``obey`` no rights beyond file modes."""
    code = 1
    try:
        os.setsid()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (file, 1), (file, 2)):
            os.dup2(source, target)
        if obey:
            obey_file_modes()
        sys.argv = [script, *arguments]
        try:
            runpy.run_path(script, run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


def obey_file_modes() -> None:
    """Give up root's right to read and write everything: file modes then count for root as for anybody."""
    header = struct.pack("=Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    effective, permitted, inheritable, *rest = struct.unpack("=6I", data.raw)
    keep = ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    data = struct.pack("=6I", effective & keep, permitted & keep, inheritable & keep, *rest)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def heed_interrupts() -> None:
    # Tests that are started in the background inherit that Ctrl-C is ignored, and would hand it on to the scripts.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Server:
    """Starts scripts, warm or cold."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT,
            preexec_fn=heed_interrupts,
        )  # fmt: skip
        self._environment = environment
        self._codes: dict[int, int] = {}
        self._pending = b""
        if self._line() != "ready":
            raise RuntimeError("the server of warm starts did not come up")

    def _line(self) -> str:
        while b"\n" not in self._pending:
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise RuntimeError("the server of warm starts ended")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def start(self, script: str, arguments: list, output: Path, *, obey: bool = False, cold: bool = False) -> "Run":
        """Start ``script`` with its output in a file; ``cold`` with a Python of its own, as a user does."""
        arguments = [str(argument) for argument in arguments]
        if cold:
            with open(output, "wb") as file:
                process = subprocess.Popen(
                    [sys.executable, str(ROOT / script), *arguments], stdin=subprocess.DEVNULL, stdout=file,
                    stderr=file, env=self._environment, start_new_session=True, preexec_fn=heed_interrupts,
                )  # fmt: skip
            return Run(process.pid, output, lambda: process.poll())
        request = {"script": str(ROOT / script), "arguments": arguments, "output": str(output), "obey": obey}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while not (line := self._line()).startswith("started"):
            self._note(line)
        pid = int(line.split()[1])
        return Run(pid, output, lambda: self._code(pid))

    def _note(self, line: str) -> None:
        _, pid, code = line.split()
        self._codes[int(pid)] = int(code)

    def _code(self, pid: int) -> int | None:
        while pid not in self._codes and (
            b"\n" in self._pending or select.select([self._process.stdout], [], [], 0)[0]
        ):
            self._note(self._line())
        return self._codes.get(pid)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Run:
    """A script that runs.

    Attributes:
        pid: of the script; also of its process group.
        output: file with all that it prints.
        poll: its exit code, or None while it runs; minus the signal's number if a signal ended it.
    """

    pid: int
    output: Path
    poll: callable

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait(self) -> int:
        """Its exit code.

        Raises:
            AssertionError: if it hangs, or leaves processes behind.
        """
        end = time.monotonic() + HANGS
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"hung for {HANGS} s:\n{self.text[-3000:]}")
            time.sleep(0.003)
        while time.monotonic() < end:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return code
            time.sleep(0.003)
        os.killpg(self.pid, signal.SIGKILL)
        raise AssertionError(f"ended with {code}, but left processes behind for {HANGS} s:\n{self.text[-3000:]}")

    def send(self, number: int) -> None:
        """A signal as it comes in practice: Ctrl-C to all processes of the run, the others to the script alone."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGINT else os.kill)(self.pid, number)


# --- what happens in a folder --------------------------------------------------------------------------------------

_CREATE, _MODIFY, _MOVED_TO, _DELETE, _CLOSE_WRITE = 0x100, 0x2, 0x80, 0x200, 0x8
_IS_FOLDER, _OVERFLOW = 0x40000000, 0x4000


class Watch:
    """Linux's inotify on a folder and all folders in it.

    Attributes:
        happenings: how many changes were seen.
        in_place: files that were made or changed under their final name, where a reader could have met a part.
    """

    def __init__(self, folder: Path):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._folders: dict[int, Path] = {}
        self.happenings = 0
        self.in_place: set[str] = set()
        self._add(folder)

    def _add(self, folder: Path) -> None:
        mask = _CREATE | _MODIFY | _MOVED_TO | _DELETE | _CLOSE_WRITE
        number = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
        if number < 0:
            return  # gone again
        self._folders[number] = folder
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                self._add(path)

    def look(self, seconds: float = 0) -> None:
        """Take in what happened since the last look; wait up to ``seconds`` for something to happen."""
        if not select.select([self._handle], [], [], seconds)[0]:
            return
        data = os.read(self._handle, 1 << 20)
        place = 0
        while place < len(data):
            number, mask, _, length = struct.unpack_from("iIII", data, place)
            name = data[place + 16 : place + 16 + length].rstrip(b"\0").decode()
            place += 16 + length
            assert not mask & _OVERFLOW, "more happened than could be watched"
            path = self._folders.get(number, Path("?")) / name
            if name == ".lock":
                continue
            self.happenings += 1
            if mask & _IS_FOLDER:
                if mask & (_CREATE | _MOVED_TO):
                    self._add(path)
            elif mask & (_CREATE | _MODIFY) and not may_grow(path):
                self.in_place.add(str(path))

    def close(self) -> None:
        os.close(self._handle)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def may_grow(path: Path) -> bool:
    """Whether a file is no result: temporary, a journal that is read line by line, or TensorBoard's log."""
    return path.name.startswith(".") or path.suffix == ".jsonl" or path.name.startswith("events.out.tfevents")


# --- what lies in a folder -----------------------------------------------------------------------------------------


def results(folder: Path) -> dict[str, object]:
    """Relative name -> content of every result; what tells times and commands is left out.

    Raises:
        AssertionError: if a file is incomplete.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not may_grow(path):
            found[str(path.relative_to(folder))] = content(path)
    return found


def content(path: Path) -> object:
    """What a result file says, for comparison.

    Raises:
        AssertionError: if it is incomplete.
    """
    data = path.read_bytes()
    if path.suffix == ".png":
        assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82"), f"{path} is half-written"
    elif path.suffix == ".jpg":
        assert data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9"), f"{path} is half-written"
    elif path.suffix == ".gz":
        gzip.decompress(data)
    elif path.suffix == ".npy":
        from util.data.npy import load_npy_dict

        load_npy_dict(path)
    elif path.suffix == ".pth":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None, f"{path} is damaged"
        return weights(path)
    elif path.suffix == ".json":
        value = json.loads(data)
        return "(command and time)" if path.name == "run.json" else without_times(value)
    elif path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(data.decode())))
        times = [column for column, name in enumerate(rows[0]) if name == "ms"]
        return [[cell for column, cell in enumerate(row) if column not in times] for row in rows]
    return data


def without_times(value: object) -> object:
    """A JSON value less the fields that tell how long something took."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if "seconds" not in name}
    if isinstance(value, list):
        return [without_times(part) for part in value]
    return value


def weights(path: Path) -> object:
    """A checkpoint with its tensors as bytes."""
    import torch

    def plain(value):
        if isinstance(value, torch.Tensor):
            return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(part) for part in value]
        return value

    return plain(torch.load(path, map_location="cpu", weights_only=True))


def differences(found: dict, expected: dict) -> list[str]:
    """Names of results that are missing, surplus or different."""
    return sorted(name for name in {*found, *expected} if found.get(name, b"") != expected.get(name, b""))


def final_files(folder: Path) -> list[Path]:
    """Result files, the last written last."""
    names = results_names(folder)
    return sorted((folder / name for name in names), key=lambda path: (path.stat().st_mtime_ns, path.name))


def results_names(folder: Path) -> list[str]:
    """Relative names of result files, whatever is in them."""
    names = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and not may_grow(path) and path.name != "run.json":
            names.append(str(path.relative_to(folder)))
    return names


# --- the table -----------------------------------------------------------------------------------------------------


@dataclass
class Count:
    """What a script went through: runs, faults by name, and what came of it."""

    runs: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    half_written: int = 0
    mismatches: int = 0

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1


TABLE: dict[str, Count] = {}


def table_text() -> str:
    """What the scripts went through so far: a line each, and their sum."""
    every = Count()
    for count in TABLE.values():
        every.runs += count.runs
        every.half_written += count.half_written
        every.mismatches += count.mismatches
        for name, number in count.faults.items():
            every.faults[name] = every.faults.get(name, 0) + number
    heads = [f"{name:>{len(name) + 2}}" for name in every.faults]
    lines = [f"{'script':<22}{'runs':>6}{''.join(heads)}{'half-written':>14}{'mismatches':>12}"]
    for label, count in [*TABLE.items(), ("all", every)]:
        cells = [f"{count.faults.get(name, 0):>{len(name) + 2}}" for name in every.faults]
        lines.append(f"{label:<22}{count.runs:>6}{''.join(cells)}{count.half_written:>14}{count.mismatches:>12}")
    return "\n".join(lines)


if __name__ == "__main__":
    serve()
