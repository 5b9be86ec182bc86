"""Roboflow's exports: ``train``, ``valid`` and ``test`` with COCO, VOC, YOLO, ``_classes.csv``, mask or class-folder data.

"Semantic Segmentation Masks" are ``<name>_mask.png`` beside the images, with the pixel values of ``_classes.csv``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from util.data.csv_rows import read_rows
from util.data.labels import read_label
from util.data.sources import coco, image_folder, table, voc_folder, yolo
from util.data.sources.base import Item, Region, Source, distinct, files_of, parts_of, read_parts, walk, where
from util.runtime.errors import InputError

_MARKS = ("README.roboflow.txt", "README.dataset.txt", "_annotations.coco.json", "_classes.csv")
_MASK = "_mask"


def fits(path: Path) -> bool:
    """Whether a folder has one of the files that only Roboflow writes, itself or in its splits."""
    return path.is_dir() and any((folder / mark).is_file() for folder in {path, *parts_of(path)} for mark in _MARKS)


def read(path: Path, images: Path | None) -> Source:
    """Read the splits by what is beside their images.

    Raises:
        InputError: if that is none of the known, or the splits have other classes.
    """
    for module in (yolo, image_folder):
        if not _data_files(path) and module.fits(path):
            source: Source = module.read(path, images)
            return source
    parts = [part for part in parts_of(path) if _data_files(part) or any(walk(part))]
    return read_parts(path, parts, partial(_read_part, images))


def _data_files(path: Path) -> list[Path]:
    return [file for part in {path, *parts_of(path)} for file in files_of(part, *_MARKS[2:], "*.xml")]


def _read_part(images: Path | None, part: Path) -> Source:
    if files_of(part, "_annotations.coco.json"):
        return coco.read(part, images)
    if files_of(part, "_classes.csv"):
        rows = read_rows(part / "_classes.csv")
        if rows and rows[0].cells[0].lower() == "pixel value":
            try:
                return _read_masks(part, {int(row.cells[0]): row.cells[1] for row in rows[1:]})
            except (ValueError, IndexError) as error:
                raise InputError(
                    f"{part / '_classes.csv'}: not pixel values and classes ({error}); export it again"
                ) from None
        return table.read(part / "_classes.csv", images)
    if files_of(part, "*.xml"):
        return voc_folder.read(part, images)
    raise InputError(
        f"{part}: no _annotations.coco.json, _classes.csv, .xml or labels of YOLO here; export from Roboflow as COCO, Pascal "
        "VOC, YOLO or multi-label classification"
    )


def _read_masks(part: Path, names: dict[int, str]) -> Source:
    source = Source(classes=list(distinct([names[value] for value in sorted(names) if value])))
    images = {file.stem: file for file in walk(part) if not file.stem.endswith(_MASK)}
    for stem, image in images.items():
        source.add(image.name, partial(_item, image, part / f"{stem}{_MASK}.png", names))
    return source


def _item(image: Path, file: Path, names: dict[int, str]) -> Item:
    if not file.is_file():
        raise InputError(f"{file}: its mask is missing; export it again")
    values = read_label(file)
    shown = [int(value) for value in np.unique(values) if value]
    unknown = [value for value in shown if value not in names]
    if unknown:
        raise InputError(f"{file}: the pixel value {unknown[0]} is not in _classes.csv; export it again")
    regions = [Region(names[value], where(values, value)) for value in shown]
    return Item(image.name, image, distinct([names[value] for value in shown]), lambda: regions, values.shape)
