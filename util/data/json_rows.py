"""Tables of image-level labels in JSON, as the rows that a CSV of the same content has.

A dictionary of image and class or classes, or of class and images; a list of objects, or JSON Lines, with a field for the
image and one for its classes, or one per class, also as the only such list in a dictionary; and lists of objects with a
label each (Create ML's ``annotations``).
"""

from __future__ import annotations

import os
import re
from itertools import chain, islice
from pathlib import Path
from typing import Any

from util.data.csv_rows import Row
from util.data.ids import IMAGE_SUFFIXES
from util.data.table_words import is_class_word, is_id_word
from util.runtime.errors import InputError
from util.runtime.files import parse_json, read_json, read_text

LINES = (".jsonl", ".ndjson")
JSON_TABLES = (".json", *LINES)
_LISTS = {"annotations", "regions", "boxes", "instances"}  # of objects with a class each


def is_json_table(path: Path) -> bool:
    """Whether a file is one of these, judged by its first entries; images with a number each have no classes by name."""
    content = _content(path)
    if isinstance(content, dict):
        if is_by_class(content):
            return True
        named = not all(isinstance(value, int) for value in content.values())
        return named and all(name.lower().endswith(IMAGE_SUFFIXES) for name in islice(content, 20))
    return _are_records(content)


def read_json_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a JSON table; the number of a row is that of its entry, from 1, and a list is ``cat|dog``.

    Raises:
        InputError: if it is not such a table, or an entry does not say what is a class.
    """
    content = _content(Path(path))
    if isinstance(content, dict) and is_by_class(content):
        images = [(name, image) for name, images in content.items() for image in images]
        return [Row(number, [image, _name(name, str(path))]) for number, (name, image) in enumerate(images, 1)]
    if isinstance(content, dict) and not all(isinstance(value, dict) for value in content.values()):
        pairs = enumerate(content.items(), 1)
        return [Row(number, [name, _cell(value, f"{path}, {name}")]) for number, (name, value) in pairs]
    if isinstance(content, dict):
        content = [{"id": name, **value} for name, value in content.items()]
    if not all(isinstance(entry, dict) for entry in content):
        raise InputError(f'{path}: not a table of image-level labels; write {{"a.jpg": ["cat", "dog"], ...}}')
    heads = list(dict.fromkeys(chain.from_iterable(content)))
    used = [head for head in heads if not _is_aside(head, content)]
    rows = [Row(0, ["labels" if head in _LISTS else head for head in used])]
    for number, entry in enumerate(content, 1):
        rows.append(Row(number, [_cell(entry.get(head), f"{path}, entry {number}, {head!r}") for head in used]))
    return rows


def _content(path: Path) -> dict | list:
    if path.suffix.lower() in LINES:
        return [parse_json(line.encode(), path) for line in read_text(path).splitlines() if line.strip()]
    content = read_json(path)
    if isinstance(content, dict):
        records = [value for value in content.values() if isinstance(value, list) and _are_records(value)]
        content = records[0] if len(records) == 1 else content
    if not isinstance(content, dict | list):
        raise InputError(f"{path}: holds a {type(content).__name__}; expected a dictionary or a list")
    return content


def _are_records(entries: list) -> bool:
    return bool(entries) and all(isinstance(entry, dict) and any(map(is_id_word, entry)) for entry in entries[:20])


def is_by_class(content: dict) -> bool:
    """Whether it has a list of images for each class."""
    lists = [value for value in content.values() if isinstance(value, list) and value]
    named = all(
        isinstance(name, str) and name.lower().endswith(IMAGE_SUFFIXES) for value in lists for name in value[:20]
    )
    return bool(lists) and len(lists) == len(content) and named


def _is_aside(head: str, entries: list[dict]) -> bool:
    """Whether a field is structured and not of classes, such as a size or a box."""
    if head in _LISTS or is_class_word(head) or is_id_word(head):
        return False
    return any(isinstance(entry.get(head), dict | list) for entry in entries)


def _cell(value: Any, where: str) -> str:
    """A value as a cell of a CSV."""
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(int(value) if isinstance(value, bool) else value).strip()
    if isinstance(value, dict):  # class -> 0 or 1
        if not all(isinstance(flag, int | float) and flag in (0, 1) for flag in value.values()):
            raise InputError(f"{where}: {str(value)[:60]} is not of 0 and 1; write a list of the classes' names")
        value = [name for name, flag in value.items() if flag]
    return "|".join(_name(part, where) for part in value if part is not None)


def _name(part: object, where: str) -> str:
    """A class of a list: a name, or an object with one."""
    if isinstance(part, dict):
        found = [part[head] for head in part if is_class_word(head) or head == "name"]
        part = found[0] if len(found) == 1 else part
    if not isinstance(part, str | int) or re.search(r"[,;|]", str(part)):
        what = "a comma, semicolon or bar in it, which separate classes" if isinstance(part, str) else "no single label"
        raise InputError(f"{where}: {str(part)[:60]!r} has {what}; write a list of the classes' names")
    return str(part).strip()
