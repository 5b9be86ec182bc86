"""One stage = folder in, folder out: what is done, what is current, and the report of what went wrong.

Beside its results a stage keeps ``run.json`` (the command, its options, versions, what it was made from) and
``ledger.jsonl``: one line per image with the key of everything that the result depends on, and the digest of the files
written. A result counts as done only while both still agree, so an edited strategy, a changed option, a new input and a
damaged output are all made again, and nothing else is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Container, Iterable
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from util.runtime.errors import InputError, counted, disk_error
from util.runtime.files import delete_within, digest, file_digest, make_folder, read_bytes, relative_name, write_bytes
from util.runtime.locking import Lock, lock_folder
from util.runtime.progress import FailureReport
from util.runtime.provenance import Code, code_digest, write_run_json

LEDGER = "ledger.jsonl"


class Processes(Protocol):
    """Those of a run, as `util.runtime.distributed.Dist` knows them; a stage needs no torch."""

    def gather(self, value: Any) -> list[Any]:
        """Every process's ``value``, in every process."""


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
        self._report = FailureReport()
        self.done: dict[str, dict] = {}
        self._earlier: dict[str, dict] = {}  # also where all is made again: what is written then replaces it
        self._own: set[str] = set()  # images of this process that are done
        self._code = list(code)
        self.fingerprint = digest(json.dumps(options, sort_keys=True, default=str), code_digest(self._code))
        self._lock: Lock | None = None
        self._ledger: FileIO | None = None

    def __enter__(self) -> Stage:
        if self.rank:
            make_folder(self.out)
        else:
            self._lock = lock_folder(self.out)
            write_run_json(self.out / "run.json", self.options, self.made_from, fingerprint=self.fingerprint)
        self._earlier = _read_ledgers(self.out)
        self.done = {} if self.overwrite else dict(self._earlier)
        self._ledger = open(self._ledger_path(), "ab", buffering=0)
        return self

    def __exit__(self, *exception) -> None:
        if self._ledger:
            self._ledger.close()
        if self._lock:
            self._lock.close()

    def _ledger_path(self) -> Path:
        return self.out / (LEDGER if self.rank == 0 else f"ledger.{self.rank}.jsonl")

    def key(self, *parts: bytes | str) -> str:
        """Digest of the options, the code and the given parts (the input files' bytes)."""
        return digest(self.fingerprint, *parts)

    def is_current(self, image_id: str, key: str) -> bool:
        """Whether the image was done with this very key and its files are still what was written."""
        current = entry_is_current(self.done.get(image_id), key, self.out)
        if current:
            self._own.add(image_id)
        return current

    def record(self, image_id: str, key: str, paths: Iterable[str | os.PathLike]) -> None:
        """Note that an image is done; its files must be in the stage's folder already."""
        self.note({"id": image_id, "key": key, "files": describe_files(paths, self.out)})

    def note(self, entry: dict) -> None:
        """Append an entry made by `describe_files` in a worker process; what an earlier run wrote beyond its files is deleted."""
        self._delete_earlier(entry["id"], entry["files"])
        self._earlier[entry["id"]] = self.done[entry["id"]] = entry
        self._own.add(entry["id"])
        if self._ledger is None:
            raise ValueError("a stage is a context manager: enter it before anything is recorded")
        try:
            self._ledger.write((json.dumps(entry) + "\n").encode())
        except OSError as error:
            raise disk_error(error, self.out) from None

    def fail(self, image_id: str, message: str, entry_id: str | None = None) -> None:
        """Report that an image could not be done, and `discard` it; the run goes on.

        Args:
            entry_id: its id in the ledger, if that is another.
        """
        self.failures[image_id] = message
        self._report(image_id, message)
        self.discard(entry_id or image_id)

    def discard(self, image_id: str) -> None:
        """Delete what an earlier run wrote for an image: it would pass for this run's result."""
        self.done.pop(image_id, None)
        self._delete_earlier(image_id)

    def _delete_earlier(self, image_id: str, but: Container[str] = ()) -> None:
        for name in self._earlier.get(image_id, {"files": {}})["files"]:
            if name not in but:
                delete_within(self.out, name)

    def finish(self) -> int:
        """Sort the ledger, report the failures, and give the exit code: 0, or 1 if an image failed."""
        ledger = "".join(json.dumps(self.done[image_id]) + "\n" for image_id in sorted(self.done))
        if self._ledger is not None:
            self._ledger.close()
        write_bytes(self._ledger_path(), ledger.encode())
        self._ledger = None
        if self.failures:
            others = "The others are finished; fix these" if self.done.keys() - self.failures.keys() else "Fix them"
            print(
                f"{counted(len(self.failures), 'image')} could not be done, the first: {next(iter(self.failures))}. "
                f"{others} and re-run the command.",
                file=sys.stderr,
            )
        return 1 if self.failures else 0

    def finish_together(self, processes: Processes) -> int:
        """As `finish`, in every process of a run that shares out the images; the exit code is 1 if any image failed.

        The main process's ledger, which is the last that is read, then knows what the others did: its own entries for
        their images may be those of an earlier run, and would have them made again.
        """
        own = {image_id: self.done[image_id] for image_id in self._own}
        for entries in processes.gather(own):
            self.done.update(entries)
        return max(processes.gather(self.finish()))


def describe_files(paths: Iterable[str | os.PathLike], out: Path) -> dict[str, str]:
    """Relative name -> digest of files just written."""
    return {relative_name(path, out): file_digest(path) for path in paths}


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
