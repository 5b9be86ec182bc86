"""What people give for ``--images``: folders with subfolders, single files and patterns -> ids and files."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from util.data.ids import HEIC_SUFFIXES, IMAGE_SUFFIXES, read_id_list
from util.data.images import image_size
from util.runtime.errors import InputError
from util.runtime.files import IGNORES_CASE, check_id, walk_folders
from util.runtime.ledger import LEDGER

# What `predict.py` writes beside its ledger, as far as it is images.
OUTPUTS = ("labels", "overlays", "confidence", "legend.png")


@dataclass
class Sources:
    """Images by id.

    Attributes:
        files: id -> file, in the order of the ids. An id is the path below the folder given, without its suffix.
        problems: path -> message, for images whose result would have no place of its own.
    """

    files: dict[str, Path] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def find_sources(given: Iterable[str | os.PathLike], only: Path | None = None) -> Sources:
    """Find the images of folders, files and patterns such as ``shots/*/*.jpg``.

    Args:
        given: folders are searched with their subfolders. Hidden files and folders are left out, and so are earlier results.
        only: an id list; other images are left out.

    Raises:
        InputError: if something given does not exist, or there is no image in it, or none of the list.
    """
    sources = Sources()
    found: dict[str, Path] = {}
    ids: dict[str, str] = {}
    for name in given:
        pairs = [(unicodedata.normalize("NFC", image_id), path) for image_id, path in _find(os.fspath(name))]
        if not pairs:
            raise InputError(f"{name}: no images here ({', '.join(IMAGE_SUFFIXES)}); check the path")
        for image_id, path in pairs:
            _add(image_id, path, found, sources.problems, ids)
    if only is not None:
        listed = read_id_list(only)
        names = {image_id.rpartition("/")[2] for image_id in listed}
        sources.problems = {path: said for path, said in sources.problems.items() if Path(path).stem in names}
        sources.problems |= {f"{only}, {i}": "not among the images; check --images" for i in listed if i not in found}
        found = {image_id: found[image_id] for image_id in listed if image_id in found}
        if not found:
            raise InputError(
                f"{only}: none of its {len(listed)} ids is among the images, the first is {listed[0]}; check it"
            )
    sources.files = dict(sorted(found.items()))
    return sources


def _add(image_id: str, path: Path, found: dict[str, Path], problems: dict[str, str], ids: dict[str, str]) -> None:
    """Add an image. ``ids``: ids as the names of files are compared -> the ids."""
    key = image_id.casefold() if IGNORES_CASE else image_id
    image_id = ids.setdefault(key, image_id)
    other = found.get(image_id)
    if other is not None and os.path.samefile(other, path):
        return
    if other is not None and (path.suffix.lower() in HEIC_SUFFIXES) != (other.suffix.lower() in HEIC_SUFFIXES):
        found[image_id] = other if path.suffix.lower() in HEIC_SUFFIXES else path  # one is converted from the other
        return
    try:
        for part in image_id.split("/"):
            check_id(part)
    except InputError as error:
        problems[str(path)] = str(error)
        return
    if other is not None:
        problems[str(path)] = f"has the id {image_id!r}, as {other} has; rename one, or give its folder another --out"
        return
    found[image_id] = path


def _find(name: str) -> Iterator[tuple[str, Path]]:
    """(id, file) of one argument."""
    path = Path(name)
    if path.is_dir():
        yield from _walk(path)
    elif path.exists():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            image_size(path)  # whose message says what it is
        yield path.stem, path
    elif glob.has_magic(name):
        root = Path(*_fixed_parts(path))
        for match in sorted(map(Path, glob.glob(name, recursive=True))):
            if match.is_dir():
                continue  # a pattern says itself how deep it goes
            if match.suffix.lower() in IMAGE_SUFFIXES:
                yield match.relative_to(root).with_suffix("").as_posix(), match
    elif "://" in name:
        raise InputError(f"{name}: an address; download its images, and give their folder")
    else:
        raise InputError(f"{name}: no such file or folder; give a folder, an image, or a pattern in quotes")


def _fixed_parts(path: Path) -> Iterator[str]:
    """The parts of a pattern before the first one with a wildcard."""
    for part in path.parts:
        if glob.has_magic(part):
            return
        yield part


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in walk_folders(folder):
        own = OUTPUTS if LEDGER in names else ()
        folders[:] = [name for name in folders if name not in own]
        for path in (place / name for name in names if name not in own):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                yield path.relative_to(folder).with_suffix("").as_posix(), path
