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

from util.data.csv_rows import FORM, Row, is_list_of_images
from util.data.ids import id_of
from util.data.json_rows import JSON_TABLES, is_json_table
from util.data.sources.base import Images, Item, Source, distinct, files_of, folder_of, split_of
from util.data.table_columns import NO_CLASS, Table, take_apart
from util.data.tag_table import split_cell, tags_of
from util.data.voc import class_table
from util.runtime.errors import InputError

_MANY = 10  # classes that hardly occur twice are descriptions, or another column
_JSON = tuple(f"*{suffix}" for suffix in JSON_TABLES)


def fits(path: Path) -> bool:
    """Whether this is a table, or a folder with one in it."""
    return len(_files(path)) == 1


def read(path: Path, images: Path | None) -> Source:
    """Read the table; its images are in ``images``, or below the table's folder."""
    file = _files(path)[0]
    found = Images(images or folder_of(path))
    names = class_names(file, partial(_is_image, found))
    table, source = take_apart(file, {"background", *names}, partial(_is_image, found)), Source(classes=names)
    source.numbered = all(map(str.isdecimal, names))
    # By the whole path: images of several folders may have the same name.
    whole = [Row(row.number, [*row.cells]) for row in table.rows]
    for row in whole:
        row.cells[table.id_column : table.id_column + 1] = map(_flat, row.cells[table.id_column :][:1])
    tags = tags_of(replace(table, rows=whole), class_table(["background", *names]))
    splits = {row.cells[table.id_column]: split_of(table.split(row)) for row in table.rows}
    for name, split in splits.items():
        classes = distinct([names[value - 1] for value in tags[id_of(_flat(name))]])
        negative = bool(table.flags) and not classes
        source.add(name, partial(_item, name, found, classes, split, negative))
    return source


def _files(path: Path) -> list[Path]:
    """The file itself; of a folder, its CSV files (but a contest's form for answers), else tables in JSON and text."""
    if path.is_file():
        return files_of(path, "*.csv", "*.tsv", "*.txt") or list(filter(is_json_table, files_of(path, *_JSON)))
    tables = [file for file in files_of(path, "*.csv", "*.tsv") if "submission" not in file.stem.lower()] or list(
        filter(is_json_table, files_of(path, *_JSON))
    )
    return tables or list(filter(is_list_of_images, files_of(path, "*.txt")))


def _flat(name: str) -> str:
    return re.sub(r"[/\\]+", "_", name.strip("./\\"))


def _is_image(images: Images, name: str) -> bool:
    try:
        return bool(images.find(name))
    except InputError:
        return False


def _item(name: str, images: Images, classes: tuple[str, ...], split: str | None, negative: bool) -> Item:
    return Item(name, images.find(name), classes, split=split, negative=negative)


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
            f"{path}: {len(names)} classes for {len(table.rows)} lines, such as {min(names)!r}; call the column that holds the class "
            "label, where that is another one"
        )
    if all(map(str.isdecimal, names)):
        _check_numbers(table, names)
        return sorted(names, key=int)
    numbers = sorted(name for name in names if re.fullmatch(r"-?\d+(\.\d+)?", name))
    if len(numbers) == len(names):
        raise InputError(
            f"{path}: its classes are numbers such as {numbers[0]}; write the classes' names in their place"
        )
    if numbers and table.columns is None:
        raise InputError(
            f"{path}: behind the images' names are both {numbers[0]!r} and {min(names - set(numbers))!r}; call the column "
            "that holds the class label, or remove the others"
        )
    return sorted(names - {"background"})


def _check_numbers(table: Table, names: set[str]) -> None:
    """Refuse numbers that may be one column per class."""
    for row in table.rows:
        found = [number for cell in table.cells(row) for number in split_cell(cell, None)]
        if len(found) > 1 and (names == {"0", "1"} or len(set(found)) < len(found)):
            raise InputError(
                f"{table.path}, line {row.number}: {','.join(found)} may be class numbers, or one column of 0 and 1 per class; "
                "name the columns in a header, or write the classes' names"
            )


def _single(table: Table, names: set[str]) -> set[str]:
    """The names; taken apart where they are lists with spaces between, whose words are all somewhere alone.

    Raises:
        InputError: if they may be lists, or names of several words.
    """
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
