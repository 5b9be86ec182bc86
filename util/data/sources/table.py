"""A table of image-level labels in any shape that `util.data.tag_table` reads, beside its images or above them.

Classes of a list may have spaces between them, as Kaggle's often do, where each of them is somewhere alone as well.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from util.data.class_files import is_background
from util.data.csv_rows import FORM, Row, is_list_of_images, read_rows
from util.data.ids import id_of
from util.data.json_rows import JSON_TABLES, is_json_table
from util.data.sources.base import Images, Item, Source, distinct, files_of, parts_of, split_of
from util.data.table_columns import NO_CLASS, Table, take_apart
from util.data.tag_table import split_cell, tags_of
from util.data.voc import class_table
from util.runtime.errors import InputError

_MANY = 10  # classes that hardly occur twice are descriptions, or another column
_JSON = tuple(f"*{suffix}" for suffix in JSON_TABLES)


def fits(path: Path) -> bool:
    """Whether this is a table, or a folder with one in it, or one per split (``train.csv`` and ``val.csv``)."""
    return len(_files(path)) == 1 or bool(_split_files(path))


def read(path: Path, images: Path | None) -> Source:
    """Read the table, or those of the splits; the images are in ``images``, or below a table's folder.

    Raises:
        InputError: if the tables of the splits have other columns of classes.
    """
    files, whole = _split_files(path), Source()
    for file in files or _files(path)[:1]:
        part, flags = _read(file, Images(images or file.parent))
        if files:
            split = split_of(file.stem, file.parent.name)
            part.items = [replace(item, name=_below(path, item), split=item.split or split) for item in part.items]
        if whole.classes and flags and part.classes != whole.classes:
            raise InputError(f"{file}: its classes are not those of {files[0].name}; give all tables the same columns")
        whole.classes = part.classes if flags or not whole.classes else sorted({*whole.classes, *part.classes})
        whole.items += part.items
        whole.problems |= part.problems
    whole.numbered = all(map(str.isdecimal, whole.classes))
    return whole


def _below(path: Path, item: Item) -> str:
    """The image's place below the data set's folder: images of several splits may have the same name."""
    return item.path.relative_to(path).as_posix() if item.path.is_relative_to(path) else item.name


def _split_files(path: Path) -> list[Path]:
    """The tables of the splits, in their folders or beside each other; none if there are not several that have labels."""
    if not path.is_dir():
        return []
    inner = [files[0] for part in parts_of(path) if part != path and len(files := _files(part)) == 1]
    named = _files(path)
    files = named if named and all(split_of(file.stem) for file in named) else inner
    return files if len({split_of(file.stem, file.parent.name) for file in files}) == len(files) > 1 else []


def _read(file: Path, found: Images) -> tuple[Source, bool]:
    """What one table says, and whether its columns are classes."""
    names = class_names(file, partial(_is_image, found))
    table, source = take_apart(file, {"background", *names}, partial(_is_image, found)), Source(classes=names)
    # By the whole path: images of several folders may have the same name.
    whole = [Row(row.number, [*row.cells]) for row in table.rows]
    for row in whole:
        row.cells[table.id_column : table.id_column + 1] = map(_flat, row.cells[table.id_column :][:1])
    tags = tags_of(replace(table, rows=whole), class_table(["background", *names]))
    splits = {row.cells[table.id_column]: split_of(table.split(row)) for row in table.rows}
    empty = {row.cells[table.id_column] for row in table.rows if any(map(is_background, table.cells(row)))}
    for name, split in splits.items():
        classes = distinct([names[value - 1] for value in tags[id_of(_flat(name))]])
        negative = not classes and (bool(table.flags) or name in empty)
        source.add(name, partial(_item, name, found, classes, split, negative, file.stem))
    return source, bool(table.flags)


def _files(path: Path) -> list[Path]:
    """The file itself; of a folder, its CSV files but for a contest's forms, else tables in JSON and text."""
    if path.is_file():
        return files_of(path, "*.csv", "*.tsv", "*.txt") or list(filter(is_json_table, files_of(path, *_JSON)))
    tables = [file for file in files_of(path, "*.csv", "*.tsv") if "submission" not in file.stem.lower()]
    if len(tables) > 1:
        tables = list(filter(_has_labels, tables)) or tables
    tables = tables or list(filter(is_json_table, files_of(path, *_JSON)))
    return tables or list(filter(is_list_of_images, files_of(path, "*.txt")))


def _has_labels(file: Path) -> bool:
    """Whether a table has more than one column: ``test.csv`` of a contest has the images' names alone."""
    return any(len(row.cells) > 1 for row in read_rows(file)[1:20])


def _flat(name: str) -> str:
    return re.sub(r"[/\\]+", "_", name.strip("./\\"))


def _is_image(images: Images, name: str) -> bool:
    try:
        return bool(images.find(name))
    except InputError:
        return False


def _item(name: str, images: Images, classes: tuple[str, ...], split: str | None, negative: bool, of: str) -> Item:
    return Item(name, images.find(name, of), classes, split=split, negative=negative)


def class_names(path: str | os.PathLike, is_image: Callable[[str], bool] = lambda cell: False) -> list[str]:
    """The foreground classes that a table names: in the order of its columns if these are classes, else sorted.

    They may all be numbers. ``is_image``: as `take_apart` has it.

    Raises:
        InputError: as `util.data.tag_table.read_tag_table`, and if the classes can be read in two ways, or are descriptions.
    """
    table = take_apart(path, None, is_image)
    if table.flags:
        return [name for name in table.flags if name.lower() not in {*NO_CLASS, "background"}]
    names = _single(table, {name for row in table.rows for cell in table.cells(row) for name in split_cell(cell, None)})
    if not names:
        raise InputError(f"{path}: names no class; {FORM}")
    if len(names) > len(table.rows) / 2 >= _MANY:
        raise InputError(
            f"{path}: {len(names)} classes for {len(table.rows)} lines, such as {min(names)!r}; if another column holds the "
            "class, rename that one to label"
        )
    if all(map(str.isdecimal, names)):
        _check_numbers(table, names)
        return sorted(names, key=int)
    numbers = sorted(name for name in names if re.fullmatch(r"-?\d+(\.\d+)?", name))
    if len(numbers) == len(names):
        raise InputError(
            f"{path}: its classes are numbers such as {numbers[0]}; write the classes' names in their place, or, in a column per "
            "class, 1 (present) or 0 (absent)"
        )
    if numbers and table.columns is None:
        raise InputError(
            f"{path}: behind the images' names are both {numbers[0]!r} and {min(names - set(numbers))!r}; rename the "
            "column that holds the class to label, or remove the others"
        )
    return sorted(name for name in names if name.lower() != "background")


def _check_numbers(table: Table, names: set[str]) -> None:
    """Refuse numbers that may be one column per class."""
    for row in table.rows:
        found = [number for cell in table.cells(row) for number in split_cell(cell, None)]
        if len(found) > 1 and (names == {"0", "1"} or len(set(found)) < len(found)):
            raise InputError(
                f"{table.path}, line {row.number}: {','.join(found)} may be class numbers, or one column of 0 and 1 per class; "
                "name the columns in a header, or write the classes' names"
            )


def _check_combined(table: Table, names: set[str]) -> None:
    """Refuse names such as ``crop/water``, where each part is in several of them."""
    parts = {name: [part.strip() for part in re.split(r"[/+&]", name)] for name in sorted(names)}
    count = Counter(part for found in parts.values() for part in set(found))
    for name, found in parts.items():
        if len(found) > 1 and all(count[part] > 1 for part in found):
            raise InputError(f"{table.path}: {name!r} may be a list of {len(found)} classes; write | between them")


def _single(table: Table, names: set[str]) -> set[str]:
    """The names; taken apart where they are lists with spaces between, whose words are all somewhere alone.

    Raises:
        InputError: if they may be lists, or names of several words.
    """
    _check_combined(table, names)
    words = Counter(word for name in names for word in set(name.split()))
    lists = sorted(name for name in names if " " in name)
    if all(word in names for name in lists for word in name.split()):
        return set(words)
    for name in lists:
        if all(words[word] > 1 for word in name.split()):
            raise InputError(
                f"{table.path}: {name!r} may be one class, or a list of {len(name.split())}; write | between the classes of a "
                "list, or _ between the words of a class"
            )
    return names
