"""The rows of CSV files, whatever separates their cells."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass

from util.data.ids import IMAGE_SUFFIXES
from util.data.table_words import is_id_word
from util.runtime.errors import InputError
from util.runtime.files import read_text

FORM = "write lines of id,class,class,..."
_COMMENT = re.compile(r"#+(\s|$)")
_NAMED = re.compile(rf"(\S.*?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))(?: |:\s)\s*(\S.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, and its cells without spaces around them."""

    number: int
    cells: list[str]


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a CSV, blank ones left out; the separator is the first of tab, ``;`` and ``,`` in it.

    Where all lines are such as ``a.jpg cat dog`` or ``a.jpg: cat, dog``, they are an image's name and the rest.

    Raises:
        InputError: if it is not text or its quotes do not fit.
    """
    text = read_text(path)
    if rows := _spaced_rows(text):
        return rows
    first = text[: text.find("\n")].strip() if "\n" in text else ""
    skipped = 1 if re.fullmatch(r"sep=.", first) else 0  # Excel's own mark
    separator = first[-1] if skipped else (re.search(r"[\t;,]", re.sub(r'"[^"]*"', "", text)) or [","])[0]
    lines = io.StringIO(text, newline="")
    for _ in range(skipped):
        lines.readline()
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows, start = [], 1 + skipped
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            while cells and not cells[-1]:
                cells.pop()
            if cells and not (len(cells) == 1 and _COMMENT.match(cells[0])):
                rows.append(Row(start, cells))
            start = reader.line_num + 1 + skipped
    except csv.Error as error:
        raise InputError(f"{path}, line {start}: not a readable CSV ({error}); {FORM}") from None
    return rows


def is_list_of_images(path: str | os.PathLike) -> bool:
    """Whether a text beside images has nothing but names of images and of what they show, at least two lines."""
    try:
        rows = read_rows(path)
    except InputError:  # a text of another kind
        return False
    rows = rows[1:] if rows and is_id_word(rows[0].cells[0]) else rows
    named = all(_is_image(row.cells[0]) and len(row.cells) > 1 and not _is_image(row.cells[1]) for row in rows)
    return len(rows) > 1 and named and not all(row.cells[-1].isdecimal() for row in rows)


def _is_image(cell: str) -> bool:
    return cell.lower().endswith(IMAGE_SUFFIXES)


def _spaced_rows(text: str) -> list[Row]:
    """Rows of lines that all are an image's name, a space or colon and something that is not an image; none if they are not.

    The first may be a header.
    """
    rows: list[Row] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or _COMMENT.match(line):
            continue
        match, words = _NAMED.fullmatch(line), line.split()
        if match and not _is_image(match[2]):
            rows.append(Row(number, [match[1], match[2]]))
        elif not rows and len(words) > 1 and is_id_word(words[0]):
            rows.append(Row(number, words))
        else:
            return []
    return rows if rows and _is_image(rows[-1].cells[0]) else []
