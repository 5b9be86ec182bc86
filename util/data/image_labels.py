"""Image-level labels (tags): which classes an image shows."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from util.data.npy import load_npy_dict, save_npy_dict
from util.data.voc import ClassTable
from util.runtime.errors import InputError
from util.runtime.files import read_bytes, read_text, write_bytes

Tags = tuple[int, ...]


def read_image_labels(path: str | os.PathLike, classes: ClassTable) -> dict[str, Tags]:
    """Read image-level labels.

    Args:
        path: ``cls_labels.npy`` (pickled dict id -> float[C-1], background not counted), a CSV with lines
            ``id,class,class,...`` (names or indices), or a folder of VOC XML annotations.
        classes: the data set's classes, background first.

    Returns:
        id -> ascending label-map values, 1 to C-1; without the background.

    Raises:
        InputError: if it cannot be read or names an unknown class.
    """
    path = Path(path)
    if path.is_dir():
        return {xml.stem: _read_voc_xml(xml, classes) for xml in sorted(path.glob("*.xml"))} or _no_xml(path)
    if path.suffix.lower() == ".npy":
        return _read_npy(path, classes)
    return _read_csv(path, classes)


def _no_xml(path: Path):
    raise InputError(f"{path}: no .xml annotation in this folder; give VOC's Annotations, a .npy or a .csv")


def _read_npy(path: Path, classes: ClassTable) -> dict[str, Tags]:
    labels: dict[str, Tags] = {}
    for image_id, row in load_npy_dict(path).items():
        row = np.asarray(row)
        if row.shape != (len(classes) - 1,) or row.dtype.kind not in "fiub":
            raise InputError(
                f"{path}: {image_id} has an array of {row.dtype} with shape {row.shape}; "
                f"expected {len(classes) - 1} numbers, one a class without the background"
            )
        labels[str(image_id)] = tuple(int(c) + 1 for c in np.flatnonzero(row > 0))
    return labels


def _read_csv(path: Path, classes: ClassTable) -> dict[str, Tags]:
    labels: dict[str, Tags] = {}
    for number, row in enumerate(_csv_rows(path), 1):
        cells = [cell.strip() for cell in row if cell.strip()]
        if not cells or (number == 1 and cells[0].lower() in ("id", "image", "image_id")):
            continue
        try:
            tags = {classes.index(cell) for cell in cells[1:]}
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        labels[cells[0]] = tuple(sorted(tags - {0}))
    if not labels:
        raise InputError(f"{path}: no image-level label found; write lines of id,class,class,...")
    return labels


def _csv_rows(path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(read_text(path))))
    except csv.Error as error:
        raise InputError(f"{path}: not a readable CSV ({error}); write lines of id,class,class,...") from None


def _read_voc_xml(path: Path, classes: ClassTable) -> Tags:
    data = read_bytes(path)

    def refuse(*parts):
        # Entity expansion can blow up memory. Looked for by the parser, since the bytes depend on the encoding.
        raise InputError(f"{path}: holds a document type declaration, which VOC annotations never do; replace it")

    checker = expat.ParserCreate()
    checker.StartDoctypeDeclHandler = refuse
    try:
        checker.Parse(data, True)
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        raise InputError(f"{path}: not valid XML ({error}); it may be cut short, replace it") from None
    names = {(node.findtext("name") or "").strip() for node in root.iter("object")}
    try:
        return tuple(sorted({classes.index(name) for name in names} - {0}))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_image_labels(path: str | os.PathLike, labels: dict[str, Tags], classes: ClassTable) -> None:
    """Write image-level labels as ``.npy`` (id -> float32[C-1]) or ``.csv`` (id and class names), by the suffix."""
    if Path(path).suffix.lower() == ".npy":
        rows = {}
        for image_id, tags in labels.items():
            rows[image_id] = np.zeros(len(classes) - 1, np.float32)
            rows[image_id][[tag - 1 for tag in tags]] = 1
        save_npy_dict(path, rows)
    else:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([image_id, *(classes.names[tag] for tag in tags)] for image_id, tags in labels.items())
        write_bytes(path, buffer.getvalue().encode())
