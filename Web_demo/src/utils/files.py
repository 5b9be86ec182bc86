"""Looking through folders, and keeping to them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from util.runtime.errors import InputError
from util.runtime.files import is_hidden

MAX_DEPTH = 5


def walk_files(folders: Iterable[Path], depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Files below the folders, in the order of their names; hidden ones and links to folders are passed over.

    Args:
        folders: that do not exist are passed over.
        depth: how many folders deep to look.
    """
    for folder in folders:
        for root, below, names in os.walk(folder):
            deep = len(Path(root).relative_to(folder).parts) >= depth
            below[:] = [] if deep else sorted(name for name in below if not is_hidden(name))
            yield from (Path(root) / name for name in sorted(names) if not is_hidden(name))


def keep_inside(path: Path, folders: Iterable[Path]) -> Path:
    """Return the path if it is in one of the folders, links followed.

    Raises:
        InputError: if it leads out of all of them.
    """
    real = path.resolve()
    if not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise InputError(
            f"{path.name}: leads out of the folders that the demo was started with, so it is not read; "
            "copy the file here, or start the demo with the folder that holds it"
        )
    return path
