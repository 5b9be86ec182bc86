"""Roboflow's exports: ``train``, ``valid`` and ``test`` with COCO, VOC or ``_classes.csv`` files beside the images."""

from __future__ import annotations

from pathlib import Path

from util.data.sources import coco, table, voc_folder
from util.data.sources.base import Item, Source, files_of, parts_of, split_of
from util.runtime.errors import InputError

_MARKS = ("README.roboflow.txt", "README.dataset.txt", "_annotations.coco.json", "_classes.csv")


def fits(path: Path) -> bool:
    """Whether a folder has one of the files that only Roboflow writes, itself or in its splits."""
    return path.is_dir() and any((folder / mark).is_file() for folder in {path, *parts_of(path)} for mark in _MARKS)


def read(path: Path, images: Path | None) -> Source:
    """Read the splits by what is beside their images.

    Raises:
        InputError: if that is none of the known, or the splits have other classes.
    """
    whole = Source()
    for part in parts_of(path):
        if files_of(part, "_annotations.coco.json"):
            source = coco.read(part, images)
        elif files_of(part, "_classes.csv"):
            source = table.read(part / "_classes.csv", images)
        elif files_of(part, "*.xml"):
            source = voc_folder.read(part, images)
        else:
            raise InputError(
                f"{part}: no _annotations.coco.json, _classes.csv or .xml here; export from Roboflow as COCO, Pascal VOC or "
                "multi-label classification"
            )
        if whole.classes and source.classes and whole.classes != source.classes:
            raise InputError(
                f"{part}: its classes are {', '.join(source.classes)}; the other splits' are "
                f"{', '.join(whole.classes)}. Export them together"
            )
        split = split_of(part.name) if part != path else None
        whole.classes = whole.classes or source.classes
        whole.items += [Item(**{**vars(item), "split": split}) for item in source.items]
        whole.problems |= source.problems
    return whole
