"""A CSV of image-level labels in any shape that `util.data.tag_table` reads, beside its images or above them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from util.data.ids import IdBook
from util.data.sources.base import Images, Item, Source, distinct, files_of, folder_of
from util.data.tag_table import class_names, read_tag_table, take_apart
from util.data.voc import class_table


def fits(path: Path) -> bool:
    """Whether this is a CSV, or a folder with one in it."""
    return len(files_of(path, "*.csv", "*.tsv", "*.txt" if path.is_file() else "*.csv")) == 1


def read(path: Path, images: Path | None) -> Source:
    """Read the table; its images are in ``images``, or below the table's folder."""
    file = files_of(path, "*.csv", "*.tsv", "*.txt" if path.is_file() else "*.csv")[0]
    names = class_names(file)
    table = take_apart(file, {"background", *names})
    tags = read_tag_table(file, class_table(["background", *names]))
    found, source, book = Images(images or folder_of(path)), Source(classes=names), IdBook(file)
    for row in table.rows:
        name = row.cells[table.id_column]
        known = len(book.names)
        image = book.add(name)
        if len(book.names) > known:
            classes = distinct([names[value - 1] for value in tags[image]])
            source.add(name, partial(_item, name, found, classes))
    return source


def _item(name: str, images: Images, classes: tuple[str, ...]) -> Item:
    return Item(name, images.find(name), classes)
