"""The one exception that users are meant to read."""

from __future__ import annotations

import os


class InputError(Exception):
    """Something that the user gave is wrong.

    The message says what was wrong, what was found, and what to do. Scripts print it without a traceback.
    """


def disk_error(error: OSError, path: str | os.PathLike) -> InputError:
    """An InputError for a write that failed: the run stops, since every further one would fail as well."""
    return InputError(
        f"{path}: cannot write ({error.strerror or error}); free space there or fix the disk, then re-run to resume"
    )
