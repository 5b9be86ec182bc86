"""Tables of image-level labels: CSV, text and JSON files of the shapes that people bring.

Read are lists of classes (``id,class,class,...``), one line per label, and one column per class with 0 and 1; with or
without a header; separated by commas, semicolons, tabs or spaces. Where a file can be read in two ways that give different
labels, it is refused and both are named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from util.data.csv_rows import FORM, Row
from util.data.ids import IdBook
from util.data.table_columns import FLAGS, NO_CLASS, Table, plain_number, take_apart
from util.data.voc import ClassTable
from util.runtime.errors import InputError

Tags = tuple[int, ...]

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_QUOTED_LIST = re.compile(rf"\s*(?:{_QUOTED.pattern})(?:\s*[,;|]?\s*(?:{_QUOTED.pattern}))*\s*")
_NOTHING = {"nan", "na", "n/a", "none", "null", "-", "?"}  # in the place of a class


def read_tag_table(path: str | os.PathLike, classes: ClassTable) -> dict[str, Tags]:
    """Read a CSV of image-level labels.

    Returns:
        id -> ascending label-map values, 1 to C-1.

    Raises:
        InputError: if it cannot be read, names an unknown class, or can be read in two ways.
    """
    return tags_of(take_apart(path, set(classes.names)), classes)


def tags_of(table: Table, classes: ClassTable) -> dict[str, Tags]:
    """As `read_tag_table`, of a table that was taken apart."""
    labels = _flags(table, classes) if table.flags else _lists(table, classes)
    if not any(labels.values()):
        found = f"; {len(labels)} images are listed without any class" if labels else ""
        if labels and all(" " in image for image in labels):
            found += " (are the classes separated by spaces? Here it is commas, semicolons or tabs)"
        raise InputError(f"{table.path}: no image-level label found{found}; {FORM}")
    return labels


# --- one column per class -----------------------------------------------------------------------------------------


def _flags(table: Table, classes: ClassTable) -> dict[str, Tags]:
    values = _values_of_columns(table, classes)
    labels: dict[str, Tags] = {}
    book, width = IdBook(table.path), table.width
    for row in table.rows:
        where = f", line {row.number}"
        if len(row.cells) > width:
            raise InputError(
                f"{table.path}{where}: {len(row.cells)} cells, the header has {width}; check what separates the cells"
            )
        image = book.add(_name(table, row), where)
        tags = {value for value, cell in zip(values, table.cells(row)) if _flag(table, row, cell)} - {0}
        _put(table, labels, image, tuple(sorted(tags)), row)
    return labels


def _values_of_columns(table: Table, classes: ClassTable) -> list[int]:
    """Label-map value of each column; 0 for those that do not count."""
    names, foreground = table.flags, len(classes) - 1
    if twice := sorted(name for name in set(names) if names.count(name) > 1):
        raise InputError(f"{table.path}, line 1: the class {twice[0]!r} has two columns; remove one")
    if all(name.isdecimal() for name in names) and not set(names) & set(classes.names):
        numbers = [int(name) for name in names]
        if numbers in (list(range(1, foreground + 1)), list(range(foreground + 1))):
            return numbers
        raise InputError(
            f"{table.path}: the header has the numbers {numbers[0]} to {numbers[-1]}; for {len(classes)} classes these "
            f"may count from 0 with or without the background. Write the classes' names, or 1 to {foreground}"
        )
    try:
        return [0 if name.lower() in NO_CLASS else classes.index(name) for name in names]
    except InputError as error:
        raise InputError(f"{table.path}, line 1: {error}") from None


def _flag(table: Table, row: Row, cell: str) -> bool:
    value = FLAGS.get(plain_number(cell.lower()))
    if value is None and cell.isdecimal():
        return True  # a number of objects
    if value is None:
        readings = "absent, or unknown" if cell.startswith("-") else "a probability, or a name in the wrong column"
        raise InputError(
            f"{table.path}, line {row.number}: {cell!r} where 0 or 1 is expected; it may mean {readings}. Write 0 or 1"
        )
    return value


def _put(table: Table, labels: dict[str, Tags], image: str, tags: Tags, row: Row) -> None:
    if labels.setdefault(image, tags) != tags:
        raise InputError(
            f"{table.path}, line {row.number}: {image} is there twice, with other classes; write one line per image, or "
            "one line per label; where these are two images, write their folders before the name (a/1.jpg, b/1.jpg)"
        )


# --- lists of classes ---------------------------------------------------------------------------------------------


def _lists(table: Table, classes: ClassTable) -> dict[str, Tags]:
    book = IdBook(table.path)
    rows = table.rows
    images = [book.add(_name(table, row), f", line {row.number}") for row in rows]
    parts = [[name for cell in table.cells(row) for name in split_cell(cell, classes)] for row in rows]
    numbers = all(name.isdecimal() and name not in classes.names for names in parts for name in names)
    if numbers and (found := _without_header(table, rows, parts, len(classes))) is not None:
        tags = found
    else:
        places = (f"{table.path}, line {row.number}" for row in rows)
        tags = [named_tags(names, classes, where) for names, where in zip(parts, places, strict=True)]
    if numbers:
        _check_zeros(table, parts, len(classes))
    merge = max(map(len, parts), default=0) <= 1
    labels: dict[str, Tags] = {}
    for row, image, one in zip(rows, images, tags, strict=True):
        if merge:
            labels[image] = tuple(sorted({*labels.get(image, ()), *one}))
        else:
            _put(table, labels, image, one, row)
    return labels


def _name(table: Table, row: Row) -> str:
    """The image's name in a row."""
    if len(row.cells) <= table.id_column or not row.cells[table.id_column]:
        raise InputError(f"{table.path}, line {row.number}: no image id in column {table.id_column + 1}; {FORM}")
    return row.cells[table.id_column]


def split_cell(cell: str, classes: ClassTable | None) -> list[str]:
    """The class names in a cell: one, or a list in quotes such as ``cat,dog``, ``cat|dog`` or ``['cat', 'dog']``."""
    if not cell or (classes is not None and cell in classes.names):
        return [cell] if cell else []
    inner = re.sub(r"^[\[({]|[\])}]$", "", cell)
    parts = re.split(r"[,;|]", inner)
    if inner != cell and _QUOTED_LIST.fullmatch(inner):  # Python's, or numpy's, which has no commas
        parts = [one or other for one, other in _QUOTED.findall(inner)]
    parts = [part.strip(" \"'") for part in parts]
    if len(parts) == 1 and classes is not None and " " in parts[0] and parts[0] not in classes.names:
        words = parts[0].split()
        parts = words if all(word in classes.names or word.isdecimal() for word in words) else parts
    return [part for part in parts if part and (part.lower() not in _NOTHING or classes and part in classes.names)]


def named_tags(names: Iterable[str], classes: ClassTable, where: object) -> Tags:
    """Label-map values of classes by name, without the background; an InputError says ``where`` one is unknown."""
    try:
        return tuple(sorted({classes.index(name) for name in names} - {0}))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _without_header(table: Table, rows: list[Row], parts: list[list[str]], count: int) -> list[Tags] | None:
    """Tags of rows of 0 and 1 if these are one per class; None if they are class numbers.

    Raises:
        InputError: if they may be either, or neither.
    """
    widths = {len(names) for names in parts}
    binary = {n for names in parts for n in names} <= {"0", "1"}
    repeated = next((row for row, names in zip(rows, parts) if len(set(names)) < len(names)), None)
    if not binary or len(widths) > 1 or not widths <= {count - 1, count} or count == 2:
        odd = repeated or (rows[0] if binary and max(widths, default=0) > 1 and count > 2 else None)
        if odd is not None and table.columns is None:
            raise InputError(
                f"{table.path}, line {odd.number}: class numbers that may be columns of 0 and 1, of which {count - 1} are "
                "expected (one per class, without the background); name the columns in a header, or write class names"
            )
        return None
    shift = 0 if widths == {count} else 1
    one_hot = [tuple(k + shift for k, n in enumerate(names) if n == "1" and k + shift) for names in parts]
    by_number = [tuple(sorted({int(n) for n in names} - {0})) for names in parts]
    if repeated is None and one_hot != by_number:
        raise InputError(
            f"{table.path}: every line has {len(parts[0])} numbers 0 or 1: they may be class numbers, or one column per "
            "class; write the classes' names, or name the columns in a header"
        )
    return one_hot


def _check_zeros(table: Table, parts: list[list[str]], count: int) -> None:
    """Refuse class numbers that may count from 0, the background left out."""
    largest = max((int(name) for names in parts for name in names), default=0)
    zeros = sum("0" in names for names in parts)
    flags = {name for names in parts for name in names} <= {"0", "1"}
    if zeros and zeros < len(parts) and largest < count - 1 and not (flags and len(parts[0]) >= count - 1 > 1):
        raise InputError(
            f"{table.path}: the class number 0 is in {zeros} of {len(parts)} lines. It may be the background, or the first "
            f"class of a count from 0; write the classes' names, or count from 1 to {count - 1}"
        )
