"""Hugging Face's ``imagefolder`` with ``metadata.csv`` or ``metadata.jsonl``: a line per image with ``file_name`` and labels.

Labels that are numbers have their names in the head of ``README.md``: ``dataset_info``, ``features``, ``class_label``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from util.data.csv_rows import read_rows
from util.data.sources.base import Images, Item, Source, distinct, files_of, parse_yaml, parts_of, split_of
from util.data.tag_table import split_cell
from util.runtime.errors import InputError
from util.runtime.files import parse_json, read_text

_FILES = ("metadata.jsonl", "metadata.csv")
_COLUMNS = ("label", "labels", "class", "classes", "category", "categories", "tags")


def fits(path: Path) -> bool:
    """Whether there is a metadata file in the folder, or in each of its splits."""
    return path.is_dir() and any(map(_is_metadata, _files(path)))


def read(path: Path, images: Path | None) -> Source:
    """Read the metadata of all splits."""
    source, names = Source(), _class_labels(path)
    source.classes = list(distinct([name for column in names.values() for name in column.values()]))
    for part in [path] if files_of(path, *_FILES) else parts_of(path):
        for file in files_of(part, *_FILES):
            found = Images(images or part)
            for number, row in enumerate(_rows(file), 1):
                name = str(row.get("file_name") or f"{file.name}, entry {number}")
                split = split_of(part.name if part != path else Path(name).parts[0] if "/" in name else "")
                source.add(name, partial(_item, name, row, found, split, file, names))
    return source


def _files(path: Path) -> list[Path]:
    return [file for part in {path, *parts_of(path)} for file in files_of(part, *_FILES)]


def _is_metadata(file: Path) -> bool:
    """Whether it is JSON, or a table with images' names, and not one of something else beside images."""
    return file.suffix != ".csv" or "file_name" in [cell for row in read_rows(file)[:1] for cell in row.cells]


def _class_labels(path: Path) -> dict[str, dict[str, str]]:
    """Column -> number -> name of the classes, from the head of ``README.md``; empty without.

    A single feature with names is that of the column of the classes, whatever it is called.
    """
    file = path / "README.md"
    head = re.match(r"---\r?\n(.*?\n)---", read_text(file), re.DOTALL) if file.is_file() else None
    found: dict[str, dict[str, str]] = {}
    for feature, names in _names_in(parse_yaml(head[1], file)) if head else ():
        found.setdefault(feature, {str(number): str(name) for number, name in names.items()})
    return found if len(found) == 1 else {column: names for column, names in found.items() if column in _COLUMNS}


def _names_in(content: object, feature: str = "") -> Iterator[tuple[str, dict]]:
    """The features of a data set that are a ``class_label``, with the names of their numbers."""
    if isinstance(content, dict):
        feature = str(content.get("name", feature))
        names = content["class_label"].get("names") if isinstance(content.get("class_label"), dict) else None
        if isinstance(names, (list, dict)):
            yield feature, dict(enumerate(names)) if isinstance(names, list) else names
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _names_in(part, feature)


def _rows(file: Path) -> list[dict]:
    if file.suffix == ".csv":
        table = read_rows(file)
        return [dict(zip(table[0].cells, row.cells, strict=False)) for row in table[1:]]
    rows = [parse_json(line.encode(), file) for line in read_text(file).splitlines() if line.strip()]
    objects = [row for row in rows if isinstance(row, dict)]
    if len(objects) < len(rows):
        raise InputError(f"{file}: every line must be a JSON object with file_name; write it again")
    return objects


def _item(name: str, row: dict, images: Images, split: str | None, file: Path, labels: dict) -> Item:
    if not row.get("file_name"):
        raise InputError(f"{file}: no file_name here; add that column")
    found = [(column, row[column]) for column in _COLUMNS if row.get(column) is not None]
    objects = row.get("objects")
    if isinstance(objects, str) and objects:
        objects = json.loads(objects)
    for entry in objects if isinstance(objects, list) else [objects]:  # columns of all, or a dictionary for each
        if isinstance(entry, dict):
            found += [(column, entry[column]) for column in _COLUMNS if entry.get(column) is not None]
    if not found and not any(column in row for column in (*_COLUMNS, "objects")):
        raise InputError(f"{file}: no column {', '.join(_COLUMNS)} or objects; name the column of the classes label")
    only = next(iter(labels.values())) if len(labels) == 1 else {}
    names = [labels.get(column, only).get(part, part) for column, value in found for part in _names(value)]
    numbers = [part for part in names if part.isdecimal()]
    if numbers:
        raise InputError(
            f"{file}: the label {numbers[0]} is a number; write the names of the classes, or add the README.md that names them"
        )
    return Item(name, images.find(name), distinct(names), None, None, split)


def _names(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(part) for part in value]
    return split_cell(str(value), None)
