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
from util.runtime.files import read_text, text_if_readable

FORM = "write lines of id,class,class,..."


_SPACED = re.compile(rf"(\S.*?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))\s+(\S.*?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, and its cells without spaces around them."""

    number: int
    cells: list[str]


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a CSV, blank ones left out; the separator is the first of tab, ``;`` and ``,`` in it.

    Without any of these, lines such as ``a.jpg cat dog`` are an image's name and the rest.

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
            if cells and not (len(cells) == 1 and re.match(r"#+(\s|$)", cells[0])):  # a comment
                rows.append(Row(start, cells))
            start = reader.line_num + 1 + skipped
    except csv.Error as error:
        raise InputError(f"{path}, line {start}: not a readable CSV ({error}); {FORM}") from None
    return rows


def is_spaced_table(path: str | os.PathLike) -> bool:
    """Whether a file has nothing but lines such as ``a.jpg cat dog``, at least two, and some of them with names."""
    rows = _spaced_rows(text_if_readable(path))
    return len(rows) > 1 and not all(row.cells[-1].isdecimal() for row in rows)


def _spaced_rows(text: str) -> list[Row]:
    """Rows of lines that all are an image's name, a space and something that is not one; none if they are not.

    The first may be a header.
    """
    if re.search(r"[\t;,]", text):
        return []
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not re.match(r"#+(\s|$)", line)]
    first = lines[0][1].split() if lines else []
    head = [Row(lines[0][0], first)] if len(first) > 1 and is_id_word(first[0]) else []
    rows = []
    for number, line in lines[len(head) :]:
        match = _SPACED.fullmatch(line)
        if match is None or match[2].lower().endswith(IMAGE_SUFFIXES):
            return []
        rows.append(Row(number, [match[1], match[2]]))
    return head + rows
