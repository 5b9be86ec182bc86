"""A folder per class, as torchvision's ``ImageFolder`` and Keras' ``image_dataset_from_directory`` read them.

``cat/1.jpg``, ``dog/2.jpg``; or ``train/cat/1.jpg``, ``val/dog/2.jpg``. The same image in two folders shows both classes.
"""

from __future__ import annotations

from pathlib import Path

from util.data.sources.base import Item, Source, parts_of, split_of, walk
from util.runtime.files import file_digest


def fits(path: Path) -> bool:
    """Whether this is a folder of folders of images."""
    return path.is_dir() and any(any(walk(folder)) for part in parts_of(path) for folder in _folders(part))


def read(path: Path, images: Path | None) -> Source:
    """Read the classes from the names of the folders; ``images`` is not used."""
    source = Source()
    found: dict[tuple[Path, str, str], tuple[list[str], Path]] = {}
    for part in parts_of(path):
        for folder in _folders(part):
            for file in walk(folder):
                key = (part, file.name, file_digest(file))
                names, first = found.setdefault(key, ([], file))
                names.append(folder.name)
        for file in part.iterdir():
            if file.is_file() and file in walk(part):
                source.problems[str(file)] = "is in no class's folder; move it into one"
    for (part, _, _), (names, file) in found.items():
        split = split_of(part.name) if part != path else None
        source.items.append(Item(file.relative_to(path).as_posix(), file, tuple(dict.fromkeys(names)), split=split))
    return source


def _folders(part: Path) -> list[Path]:
    return sorted(folder for folder in part.iterdir() if folder.is_dir() and not folder.name.startswith("."))
