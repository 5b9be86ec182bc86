"""One stage = folder in, folder out: resume, staleness, locking and the report of what went wrong.

Beside its results a stage keeps ``run.json`` (the command, its options, versions, what it was made from) and
``ledger.jsonl``: a line an image with the key of everything that the result depends on, and the digest of the files
written. A result counts as done only while both still agree, so an edited strategy, a changed option, a new input and a
damaged output are all made again, and nothing else is.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import errno
import fcntl
import inspect
import json
import multiprocessing
import os
import platform
import re
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from util.errors import InputError
from util.files import digest, file_digest, make_folder, read_bytes, write_bytes, write_json
from util.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parent.parent
Code = Callable | ModuleType | str | os.PathLike  # whatever source a result depends on
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "torch", "torchvision", "segment-anything", "timm",
            "segmentation-models-pytorch", "scikit-image")  # fmt: skip


# --- what a result depends on -------------------------------------------------------------------------------------


@cache
def project_imports(path: Path) -> frozenset[Path]:
    """The project's files that a Python file imports, itself included, all the way down.

    Only written imports count, so a strategy depends on what it uses and not on the other strategies. An import of
    ``package.module`` runs the ``__init__.py`` of every package on the way, so these count as well; the ``__init__.py`` of
    a package that the importing file is in itself counts only where a name is taken from it.
    """
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        try:
            tree = ast.parse(read_bytes(current))
        except SyntaxError as error:
            raise InputError(f"{current}, line {error.lineno}: not valid Python ({error.msg}); fix it") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    waiting += _files_of(alias.name.split("."), current)
            elif isinstance(node, ast.ImportFrom):
                package = _absolute(node, current)
                for alias in node.names:
                    waiting += _files_of([*package, alias.name], current)
    return frozenset(found)


def _absolute(node: ast.ImportFrom, file: Path) -> list[str]:
    """The dotted name that ``from NAME import ...`` takes from, as a list; relative ones are resolved."""
    name = node.module.split(".") if node.module else []
    if not node.level:
        return name
    try:
        return [*file.parents[node.level - 1].relative_to(ROOT).parts, *name]
    except (ValueError, IndexError):  # outside the project
        return []


def _files_of(name: list[str], importer: Path) -> Iterator[Path]:
    """The project's files that importing a dotted name runs; the name may end in something inside a module."""
    folder = ROOT
    for part in name:
        module, init = folder / f"{part}.py", folder / part / "__init__.py"
        folder = folder / part
        if module.is_file():
            yield module
            return
        if init.is_file():
            if folder not in importer.parents:
                yield init
        elif not folder.is_dir():  # a name inside the package's own __init__.py
            if folder.parent != ROOT and (init := folder.parent / "__init__.py").is_file():
                yield init
            return
    if (init := folder / "__init__.py").is_file():  # the package itself
        yield init


def code_digest(code: Iterable[Code]) -> str:
    """Digest of the source of the given code and of the project's files that it imports."""
    every = sorted(set().union(*(project_imports(source_file(part)) for part in code)))
    return digest(*(part for file in every for part in (file.name, read_bytes(file))))


def source_file(code: Code) -> Path:
    """The file that a function, class or module is written in; a path stays a path."""
    if isinstance(code, str | os.PathLike):
        return Path(code).resolve()
    return Path(inspect.getsourcefile(inspect.unwrap(code))).resolve()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on, where installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


# --- the stage ----------------------------------------------------------------------------------------------------


class Stage:
    """An output folder that is being filled.

    Use as a context manager: it locks the folder, so that a second run into it is refused.

    Args:
        out: the folder; made when missing.
        options: what changes the result (JSON values). Workers, device and the like do not belong here.
        code: functions, classes, modules or files whose source (with the project's files that they import) changes the result.
        made_from: what the result was made from, for ``run.json`` only.
        overwrite: count nothing as done.
        rank: of a ``torchrun`` process; each rank keeps its own ledger file, rank 0 the lock and ``run.json``.

    Attributes:
        failures: id -> message, for the images that could not be done.
    """

    def __init__(
        self,
        out: str | os.PathLike,
        options: dict,
        *,
        code: Iterable[Code] = (),
        made_from: dict | None = None,
        overwrite: bool = False,
        rank: int = 0,
    ):
        self.out = Path(out)
        self.options = options
        self.made_from = made_from or {}
        self.overwrite = overwrite
        self.rank = rank
        self.failures: dict[str, str] = {}
        self.done: dict[str, dict] = {}
        self._code = list(code)
        self.fingerprint = digest(json.dumps(options, sort_keys=True, default=str), code_digest(self._code))
        self._lock = self._ledger = None

    def __enter__(self) -> Stage:
        make_folder(self.out)
        if self.rank == 0:
            self._lock = lock_folder(self.out)
            write_run_json(self.out / "run.json", self.options, self.made_from, fingerprint=self.fingerprint)
        self.done = {} if self.overwrite else _read_ledgers(self.out)
        self._ledger = open(self._ledger_path(), "ab", buffering=0)
        return self

    def __exit__(self, *exception) -> None:
        if self._ledger:
            self._ledger.close()
        if self._lock:
            self._lock.close()

    def _ledger_path(self) -> Path:
        return self.out / ("ledger.jsonl" if self.rank == 0 else f"ledger.{self.rank}.jsonl")

    def key(self, *parts: bytes | str) -> str:
        """Digest of the options, the code and the given parts (the input files' bytes)."""
        return digest(self.fingerprint, *parts)

    def is_current(self, image_id: str, key: str) -> bool:
        """Whether the image was done with this very key and its files are still what was written."""
        return entry_is_current(self.done.get(image_id), key, self.out)

    def record(self, image_id: str, key: str, paths: Iterable[str | os.PathLike]) -> None:
        """Note that an image is done; its files must lie in the stage's folder already."""
        self.note({"id": image_id, "key": key, "files": describe_files(paths, self.out)})

    def note(self, entry: dict) -> None:
        """Append an entry made by `describe_files` in a worker process."""
        self.done[entry["id"]] = entry
        try:
            self._ledger.write((json.dumps(entry) + "\n").encode())
        except OSError as error:
            raise disk_error(error, self.out) from None

    def fail(self, image_id: str, message: str) -> None:
        """Report that an image could not be done; the run goes on."""
        self.failures[image_id] = message
        tqdm.write(f"{image_id}: {message}", file=sys.stderr)

    def finish(self) -> int:
        """Sort the ledger, sum up the failures, and give the exit code: 0, or 1 if an image failed."""
        ledger = "".join(json.dumps(self.done[image_id]) + "\n" for image_id in sorted(self.done))
        self._ledger.close()
        write_bytes(self._ledger_path(), ledger.encode())
        self._ledger = None
        if self.failures:
            print(
                f"{len(self.failures)} image(s) could not be done, the first: {next(iter(self.failures))}. "
                "The others are finished; mend these and run the same command again.",
                file=sys.stderr,
            )
        return 1 if self.failures else 0


def write_run_json(path: str | os.PathLike, options: dict, made_from: dict | None = None, **more) -> None:
    """Write ``run.json``: the command, its resolved options, versions, what it was made from, and the time."""
    write_json(
        path,
        {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "options": options,
            "made_from": made_from or {},
            "versions": versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        },
    )


def lock_folder(out: Path):
    """Take the folder's lock; keep the returned file open as long as it is needed.

    Raises:
        InputError: if another run holds it.
    """
    try:
        file = open(out / ".lock", "w")
    except OSError as error:
        raise disk_error(error, out) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise InputError(f"{out}: another run is writing here; wait for it or choose another --out") from None
        raise InputError(f"{out}: cannot be locked ({error.strerror}); choose a folder on a local disk") from None
    _locks.add(file)
    _remove_leftovers(out)
    return file


# A worker process inherits the open lock file, and would keep the lock as long as it outlives a run that was killed.
_locks: weakref.WeakSet = weakref.WeakSet()


def _close_inherited_locks() -> None:
    for file in list(_locks):
        file.close()


os.register_at_fork(after_in_child=_close_inherited_locks)

_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(\.\w+)?|\.probe[a-z0-9_]{8}")  # names that util.files makes


def _remove_leftovers(out: Path) -> None:
    """Delete what writers that were killed left half done in a locked folder.

    Folders with a lock of their own look after themselves. Under ``torchrun`` other processes of this run may be
    writing already, so only what is too old to be theirs goes.
    """
    newest = time.time() - (60 if int(os.environ.get("WORLD_SIZE", 1)) > 1 else 0)
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not os.path.exists(os.path.join(folder, name, ".lock"))]
        for name in filter(_LEFTOVER.fullmatch, names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                if path.stat().st_mtime <= newest:
                    path.unlink()


def describe_files(paths: Iterable[str | os.PathLike], out: Path) -> dict[str, str]:
    """Relative name -> digest of files just written."""
    return {os.path.relpath(path, out): file_digest(path) for path in paths}


def entry_is_current(entry: dict | None, key: str, out: Path) -> bool:
    """Whether a ledger entry has this key and its files still have their digests."""
    if not entry or entry.get("key") != key:
        return False
    try:
        return all(file_digest(out / name) == recorded for name, recorded in entry["files"].items())
    except InputError:
        return False


def _read_ledgers(out: Path) -> dict[str, dict]:
    done: dict[str, dict] = {}
    for path in sorted(out.glob("ledger*.jsonl")):
        for line in read_bytes(path).splitlines():
            try:
                entry = json.loads(line)
                if isinstance(entry["files"], dict) and isinstance(entry["key"], str):
                    done[str(entry["id"])] = entry
            except (ValueError, KeyError, TypeError):
                continue  # the line that a killed run did not finish
    return done


def disk_error(error: OSError, path: str | os.PathLike) -> InputError:
    """An InputError for a write that failed: the run stops, since every further one would fail as well."""
    return InputError(
        f"{path}: cannot write ({error.strerror or error}); free or mend the disk, then run again to resume"
    )


# --- many images at once ------------------------------------------------------------------------------------------


def default_workers() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
            with _signals_held():
                waiting = {pool.submit(_work_chunk, work, part) for part in islice(chunks, 2 * workers)}
            try:
                while waiting:
                    finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    with _signals_held():
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


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM waiting while work is handed to a pool, or workers are started.

    Broken off half-way a pool may wait for itself for ever, and a worker forked meanwhile takes signals only once
    `start_worker` has told it how. To block them would not do: other threads would still take them.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python runs no handlers
        yield
        return
    held = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def batches_of(loader: Iterable) -> Iterator:
    """The batches of a torch ``DataLoader``, whose workers no signal reaches before they are ready for one."""
    with _signals_held():
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


def end_with_parent(number: int) -> None:
    """Have this process sent a signal when the one that started it ends, however that comes about (Linux only).

    A started script must not go on writing, or wait for what will not come, when nobody can pass a signal on to it.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, number)


def _join_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
