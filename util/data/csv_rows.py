"""The rows of CSV files, whatever separates their cells."""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass

from util.runtime.errors import InputError
from util.runtime.files import read_text

FORM = "write lines of id,class,class,..."


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, and its cells without spaces around them."""

    number: int
    cells: list[str]


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a CSV, blank ones left out; the separator is the first of tab, ``;`` and ``,`` in it.

    Raises:
        InputError: if it is not text or its quotes do not fit.
    """
    text = read_text(path)
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
