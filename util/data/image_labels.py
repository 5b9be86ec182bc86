"""Image-level labels (tags): which classes an image shows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from util.data.ids import IdBook
from util.data.json_rows import is_by_class
from util.data.npy import PICKLES, load_npy_dict, save_npy_dict
from util.data.tag_table import Tags, named_tags, read_tag_table
from util.data.voc import VOID, ClassTable
from util.runtime.errors import InputError
from util.runtime.files import list_files, read_bytes, read_json, write_csv

Item = TypeVar("Item")


def read_image_labels(
    path: str | os.PathLike, classes: ClassTable, ids: Sequence[str] | None = None
) -> dict[str, Tags]:
    """Read image-level labels.

    Args:
        path: ``cls_labels.npy`` (pickled dict id -> float[C-1] of 0 and 1, background not counted, or list of class names;
            also as ``.npz``, ``.pkl`` or JSON), a table (see `util.data.tag_table`), or a folder of VOC XML annotations.
        classes: the data set's classes, background first.
        ids: the images of interest; annotations of others are not looked at. None: all.

    Returns:
        id -> ascending label-map values, 1 to C-1, without the background; not of ``ids`` that have no label.

    Raises:
        InputError: if it cannot be read, names an unknown class, can be read in two ways, or has a label for none of
            ``ids``.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, classes, ids)
    suffix = path.suffix.lower()
    if suffix in (".pt", ".pth"):
        raise InputError(
            f"{path}: a torch file, which is not read; save its dict with numpy.save('cls_labels.npy', ...)"
        )
    if suffix in (".npy", ".npz", *PICKLES, ".json"):
        content = read_json(path) if suffix == ".json" else load_npy_dict(path)
        if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
            raise InputError(f"{path}: in COCO's format; make image-level labels of it with prepare_folder.py")
        rows = isinstance(content, dict) and all(isinstance(value, list) for value in content.values())
        if suffix == ".json" and (not rows or is_by_class(content)):
            labels = read_tag_table(path, classes)
        else:
            labels = _of_dict(content, path, classes)
    else:
        labels = read_tag_table(path, classes)
    return labels if ids is None else _only(labels, ids, path)


def _only(labels: dict[str, Item], ids: Sequence[str], path: Path) -> dict[str, Item]:
    """The entries of ``ids``; InputError if there are none."""
    found = {image: labels[image] for image in ids if image in labels}
    if not found:
        numbers = {number: value for name, value in labels.items() if (number := _number(name)) is not None}
        found = {image: numbers[number] for image in ids if (number := _number(image)) in numbers}
    if ids and not found:
        raise InputError(
            f"{path}: no image-level label for any of the {len(ids)} images of the list, whose first is {ids[0]!r}; the "
            f"first of the {len(labels)} here is {next(iter(labels), None)!r}. Give the labels of these images, or write "
            "their ids alike"
        )
    return found


def _number(name: str) -> int | None:
    """The number by which tables and integer keys name an image of VOC or COCO: 9 for ``COCO_train2014_000000000009``."""
    match = re.fullmatch(r"([12]\d{3})_(\d{6})|(?:COCO_(?:train|val)2014_)?(\d{12})|([1-9]\d{0,11})", name, re.ASCII)
    return int("".join(match.groups(""))) if match else None


def tags_of_image(labels: Mapping[str, Tags], image_id: str) -> Tags:
    """The classes of an image.

    Raises:
        InputError: if it has no image-level label.
    """
    if image_id not in labels:
        raise InputError("it has no image-level label; add it to --image-labels or drop the id from the list")
    return labels[image_id]


def check_tagged(ids: Sequence[str], source: Path, labels: Path, tags: Mapping[str, Tags]) -> None:
    """Raise InputError if an id of the list ``source`` has no entry in ``tags``, which are read from ``labels``."""
    untagged = [image_id for image_id in ids if image_id not in tags]
    if untagged:
        raise InputError(
            f"{labels}: no image-level label for {len(untagged)} of the {len(ids)} ids of {source}, "
            f"the first: {untagged[0]}; add them or take them off the list"
        )


def check_differ(ids: Sequence[str], source: Path, classes: ClassTable, tags: Mapping[str, Tags]) -> None:
    """Raise InputError if the images of the training list ``source`` all show the same, which teaches a classifier nothing."""
    shown = {tags[image_id] for image_id in ids}
    if len(shown) > 1 or len(ids) < 2:
        return
    names = ", ".join(classes.names[value] for value in next(iter(shown))) or "none of the classes"
    raise InputError(
        f"{source}: each of its {len(ids)} images shows {names}, so there is nothing that a classifier could tell apart; add images "
        "of other classes, and some that show none (in prepare_folder.py's folder background, or as a row of zeros)"
    )


def _read_folder(path: Path, classes: ClassTable, ids: Sequence[str] | None) -> dict[str, Tags]:
    files = list_files(path, (".xml",))
    if not files:
        raise InputError(f"{path}: no .xml annotation in this folder; give VOC's Annotations, a .npy or a .csv")
    book = IdBook(path)
    named = {book.add(file.name): file for file in files}
    if ids is not None:
        named = _only(named, ids, path)
    return {image: named_tags(object_names(read_xml(file)), classes, file) for image, file in named.items()}


def _of_dict(content: dict, path: Path, classes: ClassTable) -> dict[str, Tags]:
    book, labels = IdBook(path), {}
    for name, row in content.items():
        image = book.add(name)
        if isinstance(row, list | tuple) and row and all(isinstance(value, str) for value in row):
            labels[image] = named_tags(row, classes, f"{path}, {image}")
        else:
            labels[image] = tuple(int(c) + 1 for c in np.flatnonzero(_row(path, name, row, len(classes) - 1) > 0))
    return labels


def _row(path: Path, name: object, row: object, count: int) -> np.ndarray:
    """The numbers of one image, checked."""
    row = row if isinstance(row, np.ndarray) else np.array(row, dtype=None if _is_flat(row) else object)
    row = row.ravel() if max(row.shape, default=0) == row.size else row  # 1xC and Cx1
    if row.shape != (count,) or row.dtype.kind not in "fiub":
        more = "; one of them may be the background, take it out" if row.shape == (count + 1,) else ""
        raise InputError(
            f"{path}: {name} has an array of {row.dtype} with shape {row.shape}; expected {count} numbers, one per class "
            f"without the background{more}"
        )
    wrong = row[~((row >= 0) & (row == np.floor(row)) & (row != VOID))] if row.dtype.kind in "fiu" else row[:0]
    if wrong.size:
        unknown = wrong[0] < 0 or wrong[0] == VOID
        readings = "the class may be absent, or unknown" if unknown else "it may be a score, or the file is damaged"
        raise InputError(f"{path}: {name} has the value {wrong[0]:g}: {readings}; write 0 or 1")
    return row


def _is_flat(row: object) -> bool:
    return isinstance(row, list | tuple) and all(isinstance(value, int | float) for value in row)


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an annotation file.

    Raises:
        InputError: if it cannot be read, is not XML, or declares a document type.
    """
    data = read_bytes(path)

    def refuse(*parts):
        # Entity expansion can blow up memory. Looked for by the parser, since the bytes depend on the encoding.
        raise InputError(f"{path}: holds a document type declaration, which VOC annotations never do; replace it")

    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = refuse
    try:
        checker.Parse(data, True)
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        raise InputError(f"{path}: not valid XML ({error}); it may be cut short, replace it") from None


def object_names(root: ElementTree.Element) -> list[str]:
    """The names of the objects in one of VOC's XML files."""
    return [(node.findtext("name") or "").strip() for node in root.iter("object")]


def write_image_labels(path: str | os.PathLike, labels: dict[str, Tags], classes: ClassTable) -> None:
    """Write image-level labels as ``.npy`` (id -> float32[C-1]) or ``.csv`` (id and class names), by the suffix."""
    if Path(path).suffix.lower() == ".npy":
        rows = {}
        for image_id, tags in labels.items():
            rows[image_id] = np.zeros(len(classes) - 1, np.float32)
            rows[image_id][[tag - 1 for tag in tags]] = 1
        save_npy_dict(path, rows)
    else:
        write_csv(path, ([image_id, *(classes.names[tag] for tag in tags)] for image_id, tags in labels.items()))
