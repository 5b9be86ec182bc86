"""The lock on an output folder, and clearing up after runs that were killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
import weakref
from pathlib import Path

from util.runtime.errors import InputError, disk_error

_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(\.\w+)?|\.probe[a-z0-9_]{8}")  # names that util.runtime.files makes


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
