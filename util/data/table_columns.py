"""What the columns of a table of image-level labels are: the image's name, classes, or one class each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from util.data.csv_rows import Row, read_rows
from util.data.ids import SUFFIXES
from util.data.json_rows import JSON_TABLES, read_json_rows
from util.data.table_words import ends_in_class_word, is_class_word, is_id_word, plain_word
from util.data.voc import plain_name
from util.runtime.errors import InputError

FLAGS = {
    **dict.fromkeys(
        ("1", "x", "true", "yes", "y", "t", "wahr", "ja", "vrai", "oui", "vero", "si", "sí", "✓", "✔"), True
    ),
    **dict.fromkeys(("0", "", "false", "no", "n", "f", "falsch", "nein", "faux", "non", "falso", "✗", "✘"), False),
}
NO_CLASS = {"unlabeled", "unlabelled"}  # a column that Roboflow writes
_SURE_WORDS = {"confidence", "score", "probability", "prob", "present", "presence"}  # of a label, as in Open Images
_PART_WORDS = {"split", "set", "subset", "fold", "phase", "usage", "partition", "dataset"}  # of the data set
_VALID_WORDS = {"isvalid", "isval"}  # fastai's: held out or not
_JUDGED = 200  # rows by which the column of the images' names is found


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
        part: column that says which part of the data set an image is in, if there is one.
        part_is_flag: whether it says so by 1 for ``val`` and 0 for ``train``, as fastai's ``is_valid``.
    """

    path: str | os.PathLike
    rows: list[Row]
    id_column: int = 0
    columns: tuple[int, ...] | None = None
    flags: tuple[str, ...] = ()
    width: int = 0
    part: int | None = None
    part_is_flag: bool = False

    def split(self, row: Row) -> str:
        """What the table says about the part of the data set that the row's image is in; empty if nothing."""
        cell = row.cells[self.part].lower() if self.part is not None and self.part < len(row.cells) else ""
        return ("val" if FLAGS.get(plain_number(cell)) else "train") if self.part_is_flag else cell

    def cells(self, row: Row) -> list[str]:
        """The cells of a row that say something about classes."""
        if self.columns is None:
            return row.cells[self.id_column + 1 :]
        return [row.cells[column] if column < len(row.cells) else "" for column in self.columns]


def take_apart(
    path: str | os.PathLike, known: set[str] | None, is_image: Callable[[str], bool] = lambda cell: False
) -> Table:
    """Find out what the columns of a table are.

    Args:
        path: the CSV.
        known: class names; None if the table is to say what they are.
        is_image: whether there is an image of a name without a suffix.

    Raises:
        InputError: if that can be understood in two ways.
    """
    rows = read_json_rows(path) if Path(path).suffix.lower() in JSON_TABLES else read_rows(path)
    if len(rows) > 2 and len(rows[0].cells) == 1 and any(map(is_id_word, rows[1].cells)):
        rows = rows[1:]  # a title
    if not any(row.cells for row in rows):
        return Table(path, [])
    head, body = rows[0], rows[1:]
    id_column = _id_column(head, body, known, is_image)
    if id_column is None:
        return _without_id_word(path, head, body, known)
    words = [plain_word(cell) for cell in head.cells]
    part = next((k for k, word in enumerate(words) if word in _PART_WORDS | _VALID_WORDS), None)
    table = _with_header(path, head, body, id_column, known)
    part = None if part in (table.columns or ()) else part
    return replace(table, part=part, part_is_flag=part is not None and words[part] in _VALID_WORDS)


def _id_column(head: Row, body: list[Row], known: set[str] | None, is_image: Callable[[str], bool]) -> int | None:
    """The column of the images' names if the first row is a header: by its words, or else by what is below it."""
    words = [plain_word(cell) for cell in head.cells]
    by_word = next((k for k, word in enumerate(words) if is_id_word(word)), None)
    if by_word and not (words[0] == "" or any(map(is_class_word, words))):
        by_word = None  # a class by the name of "photo"
    judged = body[:_JUDGED]
    cells = [[row.cells[k] for row in judged if k < len(row.cells)] for k in range(len(words))]
    found = [[(_has_suffix(cell), is_image(cell)) for cell in column] for column in cells]
    hits = [sum(map(any, column)) for column in found]
    best = max(range(len(hits)), key=lambda k: (sum(map(sum, found[k])), k == by_word))
    if not any(hits) or any(_has_suffix(cell) or is_image(cell) for cell in head.cells):
        return by_word
    if by_word is not None:
        return best if 2 * hits[best] >= len(judged) else by_word
    if 10 * hits[best] < 9 * len(judged):
        return None
    below = {cell for row in body for k, cell in enumerate(row.cells) if k != best} | (known or set())
    names = [cell for k, cell in enumerate(head.cells) if k != best]
    return None if any(not name or name.isdecimal() or _is_class(name, below) for name in names) else best


def _with_header(path: str | os.PathLike, head: Row, body: list[Row], id_column: int, known: set[str] | None) -> Table:
    words, width = [plain_word(cell) for cell in head.cells], len(head.cells)
    others = [k for k, cell in enumerate(head.cells) if k != id_column and cell]
    others = [k for k in others if words[k] not in _PART_WORDS or _all_flags(body, [k], width)]
    others = [k for k in others if not is_id_word(words[k]) or _all_flags(body, [k], width)] or others
    by_word = tuple(k for k in others if is_class_word(words[k]))
    by_word = tuple(k for k in by_word if not _all_numbers(body, k)) or by_word  # of numbers and names, the names
    by_word = by_word or tuple(k for k in others if ends_in_class_word(head.cells[k]) and not _all_numbers(body, k))
    names = [head.cells[k] for k in others]
    of_classes = [] if known is None else [k for k in others if _is_class(head.cells[k], known)]
    if of_classes and len(of_classes) == len(others):
        return _of_class_columns(path, [head, *body], id_column, of_classes, known or set())
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
    if known is None:
        numbers = [k for k in others if k not in flagged]
        if len(flagged) > 1 and all(_all_numbers(body, k) for k in numbers):  # such as the image's size
            return Table(path, body, id_column, tuple(flagged), tuple(head.cells[k] for k in flagged), width)
        _check_signs(path, head, body, others)
        _check_alike(path, head, body, others)
    columns = None if len(others) == width - 1 and id_column == 0 else tuple(others)
    return Table(path, body, id_column, columns, width=width)


def _check_signs(path: str | os.PathLike, head: Row, body: list[Row], columns: list[int]) -> None:
    """Refuse columns of -1 and 1.

    Raises:
        InputError: if they are.
    """
    values = {row.cells[k] for row in body for k in columns if k < len(row.cells)}
    if "-1" in values and values <= {"-1", "0", "1", ""}:
        raise InputError(
            f"{path}, line {head.number}: the columns {', '.join(head.cells[k] for k in columns[:3])}, ... hold -1 and 1; -1 may mean "
            "absent, or unknown. Write 0 for absent, and leave out images of which a class is unknown"
        )


def _check_alike(path: str | os.PathLike, head: Row, body: list[Row], columns: list[int]) -> None:
    """Refuse several columns that are not a list of classes, as one of them has values that no other has.

    Raises:
        InputError: if so.
    """
    values = [{row.cells[k] for row in body if k < len(row.cells)} - {""} for k in columns]
    for one in values:
        others = set().union(*(other for other in values if other is not one))
        if one and others and not one & others:
            raise InputError(
                f"{path}, line {head.number}: the columns {', '.join(head.cells[k] for k in columns)} hold different "
                "things; rename the one that holds the class to label"
            )


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
        sure = [FLAGS.get(plain_number(value)) for value in values]
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
    named = names and not any(name.lower() in FLAGS or name.isdecimal() for name in names)
    full = all(len(row.cells) == len(head.cells) for row in body)
    if not (named and body and full and _all_flags(body, columns, len(head.cells)) and len(set(names)) == len(names)):
        if known is None and full and len(body) > 1:
            _check_alike(path, Row(head.number, [f"{k + 1}" for k in range(len(head.cells))]), rows, columns)
        return Table(path, rows)
    if known is not None and not all(_is_class(name, known) for name in names):
        return Table(path, rows)
    if _has_suffix(head.cells[0]):
        raise InputError(
            f"{path}, line {head.number}: {head.cells[0]!r} may be an image that shows {', '.join(names)}, or the head of "
            "the first column, with a class for each of the others; name that column id, or write all classes by name"
        )
    return Table(path, body, 0, tuple(columns), tuple(names), len(head.cells))


def _has_suffix(cell: str) -> bool:
    return cell.lower().endswith(SUFFIXES)


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
    flags = [plain_number(row.cells[k].lower()) for row in rows for k in columns if k < len(row.cells)]
    return all(len(row.cells) <= width for row in rows) and any(flags) and all(flag in FLAGS for flag in flags)


def plain_number(cell: str) -> str:
    """``1.0`` and, as Excel writes it in much of Europe, ``1,0`` are 1."""
    return re.sub(r"(?<=^[01])[.,]0+$", "", cell)
