"""The one exception that users are meant to read."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class InputError(Exception):
    """Something that the user gave is wrong.

    The message says what was wrong, what was found, and what to do. Scripts print it without a traceback.
    """


def choose_from(word: object, known: Iterable[object]) -> str:
    """What to do about an unknown name: ``did you mean grow?``, or the known names where none is similar."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(word), names, 1)
    return f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}"


def disk_error(error: OSError, path: str | os.PathLike) -> InputError:
    """An InputError for a write that failed: the run stops, since every further one would fail as well."""
    return InputError(
        f"{path}: cannot write ({error.strerror or error}); free space there or fix the disk, then re-run to resume"
    )
