"""The one exception that users are meant to read, and words of its messages."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable
from pathlib import Path


class InputError(Exception):
    """Something that the user gave is wrong.

    The message says what was wrong, what was found, and what to do. Scripts print it without a traceback.
    """


def counted(number: int, what: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def meant(word: object, known: Iterable[object], likeness: float = 0.6) -> str:
    """``did you mean grow?`` of an unknown name, or nothing where no known one is similar."""
    near = difflib.get_close_matches(str(word), map(str, known), 1, likeness)
    return f"did you mean {near[0]}?" if near else ""


def choose_from(word: object, known: Collection[object]) -> str:
    """What to do about an unknown name: as `meant`, or the known names where none is similar."""
    return meant(word, known) or f"choose one of {', '.join(map(str, known))}"


def disk_error(error: OSError, path: str | os.PathLike) -> InputError:
    """An InputError for a write that failed: the run stops, since every further one would fail as well."""
    denied = isinstance(error, PermissionError)
    remedy = "check its permissions, and close it in other programs" if denied else "free space there or fix the disk"
    return InputError(f"{path}: cannot write ({error.strerror or error}); {remedy}, then re-run to resume")


def missing_package(error: ModuleNotFoundError) -> str:
    """The package that is not installed; empty for a module of ours."""
    name = (error.name or "").partition(".")[0]
    root = Path(__file__).resolve().parents[2]
    return "" if (root / name).exists() or (root / f"{name}.py").exists() else name
