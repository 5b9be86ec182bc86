"""Looking through folders, and keeping to them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from util.runtime.errors import InputError
from util.runtime.files import is_hidden

MAX_DEPTH = 5


def walk_files(folders: Iterable[Path]) -> Iterator[Path]:
    """Files at most `MAX_DEPTH` folders below these, in the order of their names.

    Hidden ones, links to folders and folders that do not exist are passed over.
    """
    for folder in folders:
        for root, below, names in os.walk(folder):
            deep = len(Path(root).relative_to(folder).parts) >= MAX_DEPTH
            below[:] = [] if deep else sorted(name for name in below if not is_hidden(name))
            yield from (Path(root) / name for name in sorted(names) if not is_hidden(name))


def names_below(paths: Iterable[Path], folders: Iterable[Path]) -> dict[Path, str]:
    """What to call files and folders in a list: path -> where it is in the one of ``folders`` that holds it, whose name
    comes first. Where two would have one name, they have their whole paths: Streamlit takes options of one name for one.
    """
    above = [folder.absolute() for folder in folders]
    names = {}
    for path in paths:
        whole = Path(os.path.abspath(path))
        start = next((folder.parent for folder in above if whole.is_relative_to(folder)), Path.cwd())
        names[path] = str(whole.relative_to(start)) if whole.is_relative_to(start) else "/".join(whole.parts[-3:])
    often = Counter(names.values())
    return {path: name if often[name] == 1 else os.path.abspath(path) for path, name in names.items()}


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
