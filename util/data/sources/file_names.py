"""Images whose file names say what they show: ``cat.0.jpg``, ``Abyssinian_12.jpg``, ``0012_dog.png``, ``cat (3).jpg``.

The class is the name without the numbers, separators and brackets around it. Where every name ends in a 0 or 1 for each
class, as LUAD-HistoSeg's ``...-[1 0 1 0].png`` and BCSS-WSSS's ``...[1010].png``, the classes are the numbers of the ones,
from 0. Names are read so only with ``--format names``, for a camera names its photos in the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from util.data.ids import id_of
from util.data.sources.base import Item, Source, distinct, parts_of, read_parts, walk
from util.runtime.errors import InputError

_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_FLAGS = re.compile(r"\[([01](?:[ ,]*[01])+)\]$")
_CAMERAS = re.compile(r"(img|dsc[nf]?|dcim|pxl|image|photo|picture|screenshot|whatsapp image|frame)([\W\d_].*)?", re.I)


def fits(path: Path) -> bool:
    """False: names are classes only where ``--format`` says so."""
    return False


def read(path: Path, images: Path | None) -> Source:
    """Read the classes from the names of the images below the folder; ``images`` is not used.

    Raises:
        InputError: if the images have nothing but one class, or hardly two have the same, or if their zeros and ones differ in
            number.
    """
    if not path.is_dir():
        raise InputError(f"{path}: --format names needs the folder of the images")
    if flags := _flags_in(path):
        counts = {len(row) for row in flags.values()}
        if len(counts) > 1:
            raise InputError(
                f"{path}: names that end in {min(counts)} and in {max(counts)} zeros and ones; give one data set"
            )
        return replace(read_parts(path, parts_of(path), partial(_read_flagged, path, flags)), numbered=True)
    source = read_parts(path, parts_of(path), partial(_read_part, path))
    found = Counter(item.classes for item in source.items)
    if source.items and (len(found) == 1 or len(found) > len(source.items) / 2):
        some = ", ".join(f"{item.path.name} -> {', '.join(item.classes)}" for item in source.items[:3])
        raise InputError(
            f"{path}: the names of {len(source.items)} images give {len(found)} classes ({some}); sort the images into a "
            "folder per class, or give a table with --images"
        )
    return source


def likely_classes(path: Path) -> list[str]:
    """Up to three classes that the names of a folder's images seem to say; none where a camera may have named them."""
    if flags := _flags_in(path):
        return [f"[{next(iter(flags.values()))}]"]
    found = Counter(_class_of(file) for file in walk(path))
    names = sorted(name for name, count in found.items() if count > 1 and name and not _CAMERAS.fullmatch(name))
    return names[:3] if len(names) > 1 and sum(found[name] for name in names) == found.total() else []


def _flags_in(path: Path) -> dict[Path, str]:
    """Image -> zeros and ones at the end of its name; empty unless all images have them."""
    found = {file: _FLAGS.search(id_of(file.name)) for file in walk(path)}
    flags = {file: re.sub("[ ,]", "", match[1]) for file, match in found.items() if match}
    return flags if len(flags) == len(found) else {}


def _read_flagged(root: Path, flags: dict[Path, str], part: Path) -> Source:
    count = len(next(iter(flags.values())))
    source = Source(classes=[str(number) for number in range(count)])
    for file in walk(part):
        shown = tuple(str(number) for number, flag in enumerate(flags[file]) if flag == "1")
        source.items.append(Item(file.relative_to(root).as_posix(), file, shown, negative=not shown))
    return source


def _read_part(root: Path, part: Path) -> Source:
    source = Source()
    for file in walk(part):
        name = file.relative_to(root).as_posix()
        source.add(name, partial(_item, name, file))
    return source


def _item(name: str, file: Path) -> Item:
    shown = _class_of(file)
    if not shown:
        raise InputError(f"{file}: its name has no letters, and so no class; rename it")
    return Item(name, file, distinct([shown]))


def _class_of(file: Path) -> str:
    return _AROUND.sub("", id_of(file.name))
