"""The lock on an output folder, and clearing up after runs that were killed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from util.runtime.errors import InputError, disk_error
from util.runtime.files import make_folder

LOCK_FILE = ".lock"
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(\.\w+)?|\.probe[a-z0-9_]{8}")  # names that util.runtime.files makes
# What file systems without locks answer: Lustre without flock, NFS without its lock daemon, some FUSE mounts.
_NO_LOCKS = {getattr(errno, name, None) for name in ("ENOSYS", "ENOLCK", "ENOTSUP", "EOPNOTSUPP")} - {None}


class Lock:
    """A lock that is held, or a file system that has none; `close` gives it back.

    A worker process that inherits it lets go of it at once, or it would outlive a run that was killed.

    Used as a context manager it removes the folders that were made for it where the run is refused before it has written
    anything.

    Args:
        file: None where there are no locks.

    Attributes:
        made: folders that were made for it, the inmost first.
    """

    def __init__(self, file: FileLock | None):
        self._file = file
        self.made: list[Path] = []

    def close(self) -> None:
        """Give the lock back; safe to call twice."""
        if self._file is not None:
            self._file.release()
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and issubclass(kind, InputError) and self.made:
            with contextlib.suppress(OSError):  # Windows keeps a file that is open
                (self.made[0] / LOCK_FILE).unlink()
            self.close()
            with contextlib.suppress(OSError):  # not empty
                for folder in self.made:
                    folder.rmdir()
        self.close()


def lock_file(path: Path, *, wait: bool) -> Lock:
    """Take the lock that a file stands for, which is made when missing and stays.

    Where the file system has no locks this warns and goes on without one.

    Args:
        wait: for another holder, as long as it takes.

    Raises:
        filelock.Timeout: if another run holds it and ``wait`` is False.
        OSError: if the file cannot be written.
    """
    file = FileLock(path, thread_local=False, fallback_to_soft=False)
    try:
        file.acquire(blocking=wait)
    except (OSError, NotImplementedError) as error:
        # Older versions of filelock raise NotImplementedError for ENOSYS.
        if isinstance(error, Timeout) or (isinstance(error, OSError) and error.errno not in _NO_LOCKS):
            raise
        print(
            f"warning: {path.parent}: this file system has no locks ({error}); start no second run into it",
            file=sys.stderr,
        )
        return Lock(None)
    return Lock(file)


def lock_folder(out: Path) -> Lock:
    """Make an output folder where it is missing, and take its lock; close what is returned when it is done.

    Raises:
        InputError: if another run holds it, or the folder cannot be written.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    make_folder(out)
    try:
        lock = lock_file(out / LOCK_FILE, wait=False)
    except Timeout:
        raise InputError(f"{out}: another run is writing here; wait for it or choose another --out") from None
    except OSError as error:
        raise disk_error(error, out) from None
    _remove_leftovers(out)
    lock.made = missing
    return lock


def lock_if(wanted: bool, out: Path | None) -> contextlib.AbstractContextManager:
    """`lock_folder`, or nothing where no folder is wanted or another process of this run holds the lock."""
    return lock_folder(out) if wanted and out is not None else contextlib.nullcontext()


def _remove_leftovers(out: Path) -> None:
    """Delete what writers that were killed left half done in a locked folder.

    Folders with a lock of their own look after themselves. Under ``torchrun`` other processes of this run may be
    writing already, so only what is too old to be theirs goes.
    """
    newest = time.time() - (60 if int(os.environ.get("WORLD_SIZE", 1)) > 1 else 0)
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if not os.path.exists(os.path.join(folder, name, LOCK_FILE))]
        for name in filter(_LEFTOVER.fullmatch, names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                if path.stat().st_mtime <= newest:
                    path.unlink()
