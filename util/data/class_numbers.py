"""The names of classes that a table or label maps have as numbers."""

from __future__ import annotations

from pathlib import Path

from util.data.class_files import BACKGROUND, NamedColor, is_background, list_classes
from util.data.sources.base import Source
from util.data.sources.tidy import rename
from util.data.voc import ClassTable, load_classes, table_of
from util.runtime.errors import InputError


def classes_of_source(source: Source, names: Path | None, path: Path) -> ClassTable | None:
    """The classes that ``--class-names`` gives; numbers of the source become its names.

    Args:
        source: what was read from ``path``.
        names: ``--class-names``; the first line is the class 0 of a source with numbers.

    Returns:
        the classes, background first; None without ``names``.

    Raises:
        InputError: if the source has numbers and no names, or it is not plain which name is whose.
    """
    if not source.numbered:
        return None if names is None else load_classes(names)
    names_of_items = (name for item in source.items for name in item.classes)
    shown = {name for name in (*source.classes, *names_of_items) if name.isdecimal()}
    numbers = sorted(set(map(int, shown)))
    if names is None:
        some = ", ".join(map(str, numbers[:3]))
        raise InputError(
            f"{path}: its classes are numbers ({some}{', ...' if len(numbers) > 3 else ''}); name them with --class-names, one "
            "name per line, or write the names in their place"
        )
    known = _numbered(list_classes(names), numbers, names, any(item.regions for item in source.items))
    rename(source, {name: known[int(name)].name for name in shown})
    source.notes.append(f"class numbers: {', '.join(f'{number} {entry.name}' for number, entry in known.items())}")
    return table_of([NamedColor(BACKGROUND), *known.values()], names)


def _numbered(listed: list[NamedColor], numbers: list[int], names: Path, drawn: bool) -> dict[int, NamedColor]:
    """Number -> class, without the background, which is the 0 of label maps (``drawn``)."""
    if listed and is_background(listed[0].name):
        if numbers[0] == 0:
            raise InputError(
                f"{names}: class 0 is {listed[0].name!r} there, but an image that shows a class; if the numbers count from "
                "0, leave the background out of this file"
            )
        known = dict(enumerate(listed[1:], 1))
    elif numbers[0] == 0 or numbers[-1] == len(listed):
        known = dict(enumerate(listed, min(1, numbers[0])))
    else:
        remedy = (
            "in the place of the first name, as 0 is the background here" if drawn else "else the names into the table"
        )
        raise InputError(
            f"{names}: the images have the class numbers {numbers[0]} to {numbers[-1]}, which may count {len(listed)} names "
            f"from 0 or from 1; write 'background' as the first line if they count from 1, {remedy}"
        )
    if unnamed := [number for number in numbers if number not in known]:
        raise InputError(
            f"{names}: {len(known)} classes, {min(known, default=0)} to {max(known, default=0)}, but an image shows class "
            f"{unnamed[0]}; add its name"
        )
    return known
