"""Tables of image-level labels: CSV, text and JSON files of the shapes that people bring.

Read are lists of classes (``id,class,class,...``), one line per label, and one column per class with 0 and 1; with or
without a header; separated by commas, semicolons, tabs or spaces. Where a file can be read in two ways that give different
labels, it is refused and both are named.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from util.data.csv_rows import FORM, Row, read_rows
from util.data.ids import SUFFIXES, IdBook
from util.data.json_rows import JSON_TABLES, read_json_rows
from util.data.table_words import ends_in_class_word, is_class_word, is_id_word, plain_word
from util.data.voc import ClassTable, plain_name
from util.runtime.errors import InputError

Tags = tuple[int, ...]

_FLAGS = {"1": True, "true": True, "yes": True, "x": True, "0": False, "false": False, "no": False, "": False}
NO_CLASS = {"unlabeled", "unlabelled"}  # a column that Roboflow writes
_SURE_WORDS = {"confidence", "score", "probability", "prob", "present", "presence"}  # of a label, as in Open Images
_PART_WORDS = {"split", "set", "subset", "fold", "phase", "usage", "partition", "dataset"}  # of the data set


@dataclass(frozen=True)
class Table:
    """A table taken apart, its classes not yet looked up.

    Attributes:
        path: of the file.
        rows: without the header.
        id_column: of the image's name.
        columns: of the classes' names or flags; None: all after the image's name.
        flags: class name of each of ``columns``, if these hold 0 and 1; else empty.
        width: of the header, where there is one.
    """

    path: str | os.PathLike
    rows: list[Row]
    id_column: int = 0
    columns: tuple[int, ...] | None = None
    flags: tuple[str, ...] = ()
    width: int = 0

    def cells(self, row: Row) -> list[str]:
        """The cells of a row that say something about classes."""
        if self.columns is None:
            return row.cells[self.id_column + 1 :]
        return [row.cells[column] if column < len(row.cells) else "" for column in self.columns]


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
        raise InputError(f"{table.path}: no image-level label found{found}; {FORM}")
    return labels


# --- the header ---------------------------------------------------------------------------------------------------


def take_apart(path: str | os.PathLike, known: set[str] | None) -> Table:
    """Find out what the columns of a table are.

    Args:
        path: the CSV.
        known: class names; None if the table is to say what they are.

    Raises:
        InputError: if that can be understood in two ways.
    """
    rows = read_json_rows(path) if Path(path).suffix.lower() in JSON_TABLES else read_rows(path)
    if not rows:
        return Table(path, rows)
    head, body = rows[0], rows[1:]
    words = [plain_word(cell) for cell in head.cells]
    id_column = next((k for k, word in enumerate(words) if is_id_word(word)), None)
    if id_column is not None and id_column > 0 and not (words[0] == "" or any(map(is_class_word, words))):
        id_column = None  # a class by the name of "photo"
    if id_column is None:
        return _without_id_word(path, head, body, known)
    width = len(head.cells)
    others = [k for k, cell in enumerate(head.cells) if k != id_column and cell]
    others = [k for k in others if words[k] not in _PART_WORDS or _all_flags(body, [k], width)]
    by_word = tuple(k for k in others if is_class_word(words[k]))
    by_word = by_word or tuple(k for k in others if ends_in_class_word(head.cells[k]) and not _all_numbers(body, k))
    names = [head.cells[k] for k in others]
    of_classes = [] if known is None else [k for k in others if _is_class(head.cells[k], known)]
    if of_classes and len(of_classes) == len(others):
        return _of_class_columns(path, rows, id_column, of_classes, known or set())
    if by_word:
        open_end = id_column == 0 and by_word == tuple(range(1, width))
        body = _without_absent(path, body, [k for k in others if words[k] in _SURE_WORDS])
        return Table(path, body, id_column, None if open_end else by_word, width=width)
    flagged = [k for k in others if body and _all_flags(body, [k], width)]
    if flagged and (flagged == others or of_classes):
        if known is None or all(name.isdecimal() for name in names):
            return Table(path, body, id_column, tuple(others), tuple(names), width)
        unknown = [head.cells[k] for k in flagged if k not in of_classes]
        if unknown:
            raise InputError(
                f"{path}, line {head.number}: the column {unknown[0]!r} holds 0 and 1, but is not a class; the classes are "
                f"{', '.join(sorted(known))}. Rename it, remove it, or give its class with --class-names"
            )
    if of_classes:  # and others with something else, such as the image's size
        return Table(path, body, id_column, tuple(of_classes), tuple(head.cells[k] for k in of_classes), width)
    columns = None if len(others) == width - 1 and id_column == 0 else tuple(others)
    return Table(path, body, id_column, columns, width=width)


def _without_absent(path: str | os.PathLike, rows: list[Row], columns: list[int]) -> list[Row]:
    """The rows of a table of one line per label, less those whose confidence says that the class is absent.

    Raises:
        InputError: if that is a matter of degree.
    """
    if not columns:
        return rows
    kept = []
    for row in rows:
        values = [row.cells[k].lower() if k < len(row.cells) else "" for k in columns]
        sure = [_FLAGS.get(_plain_number(value)) for value in values]
        if None in sure:
            raise InputError(
                f"{path}, line {row.number}: a label of confidence {values[sure.index(None)]!r}; it may count, or be too low. "
                "Remove the lines that do not count, and that column"
            )
        if all(sure):
            kept.append(row)
    return kept


def _without_id_word(path: str | os.PathLike, head: Row, body: list[Row], known: set[str] | None) -> Table:
    """A table whose first row does not say which column is the image's name: one of class columns, or no header."""
    rows, columns = [head, *body], list(range(1, len(head.cells)))
    names = head.cells[1:]
    named = names and not any(name.lower() in _FLAGS or name.isdecimal() for name in names)
    full = all(len(row.cells) == len(head.cells) for row in body)
    if _is_foreign_header(head, body, known):
        return Table(path, body, width=len(head.cells))
    if not (named and body and full and _all_flags(body, columns, len(head.cells)) and len(set(names)) == len(names)):
        return Table(path, rows)
    if known is not None and not all(_is_class(name, known) for name in names):
        return Table(path, rows)
    if _has_suffix(head):
        raise InputError(
            f"{path}, line {head.number}: {head.cells[0]!r} may be an image that shows {', '.join(names)}, or the head of "
            "the first column, with a class for each of the others; name that column id, or write all classes by name"
        )
    return Table(path, body, 0, tuple(columns), tuple(names), len(head.cells))


def _is_foreign_header(head: Row, body: list[Row], known: set[str] | None) -> bool:
    """Whether the first row names columns in words that are not known here, such as ``Datei;Klasse``.

    It does if it alone has no image's name, and its other cells are found in no other row and are not classes.
    """
    if _has_suffix(head) or not body or not all(map(_has_suffix, body)):
        return False
    others = {cell for row in body for cell in row.cells[1:]} | (known or set())
    names = head.cells[1:]
    return bool(names) and all(names) and not any(name.isdecimal() or _is_class(name, others) for name in names)


def _has_suffix(row: Row) -> bool:
    return row.cells[0].lower().endswith(tuple(SUFFIXES))


def _of_class_columns(
    path: str | os.PathLike, rows: list[Row], id_column: int, columns: list[int], known: set[str]
) -> Table:
    """A table whose header names classes: these hold flags, or else the first row is an image by the name of "image"."""
    head, body = rows[0], rows[1:]
    names = tuple(head.cells[k] for k in columns)
    if body and all(_is_class(cell, known) for row in body for cell in row.cells[1:]) and id_column == 0:
        raise InputError(
            f"{path}, line {head.number}: this may be a header, or an image by the name of {head.cells[0]!r} that shows "
            f"{', '.join(names)}; remove the line, or write the image's name with its suffix"
        )
    return Table(path, body, id_column, tuple(columns), names, len(head.cells))


def _is_class(name: str, known: set[str]) -> bool:
    return name in known or plain_name(name) in {*NO_CLASS, "background", *map(plain_name, known)}


def _all_numbers(rows: list[Row], column: int) -> bool:
    """Whether a column has nothing but numbers, such as one of the number of objects."""
    return all(row.cells[column].isdecimal() for row in rows if column < len(row.cells))


def _all_flags(rows: list[Row], columns: list[int], width: int) -> bool:
    """Whether these columns of rows of at most ``width`` cells have nothing but 0 and 1 in them."""
    flags = [_plain_number(row.cells[k].lower()) for row in rows for k in columns if k < len(row.cells)]
    return all(len(row.cells) <= width for row in rows) and any(flags) and all(flag in _FLAGS for flag in flags)


def _plain_number(cell: str) -> str:
    """``1.0`` and, as Excel writes it in much of Europe, ``1,0`` are 1."""
    return re.sub(r"(?<=^[01])[.,]0+$", "", cell)


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
    value = _FLAGS.get(_plain_number(cell.lower()))
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
            "one line per label"
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
        tags = [_tags(table, row, names, classes) for row, names in zip(rows, parts, strict=True)]
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
    parts = [part.strip(" \"'") for part in re.split(r"[,;|]", inner)]
    if len(parts) == 1 and classes is not None and " " in parts[0] and parts[0] not in classes.names:
        words = parts[0].split()
        parts = words if all(word in classes.names or word.isdecimal() for word in words) else parts
    return [part for part in parts if part]


def _tags(table: Table, row: Row, names: list[str], classes: ClassTable) -> Tags:
    try:
        return tuple(sorted({classes.index(name) for name in names} - {0}))
    except InputError as error:
        raise InputError(f"{table.path}, line {row.number}: {error}") from None


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
