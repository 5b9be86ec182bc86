"""Data sets as other tools write them, one file per format; `FORMATS` is the table that they are entered in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from util.data.sources import (
    coco,
    cvat,
    hugging_face,
    image_folder,
    label_studio,
    labelme,
    roboflow,
    table,
    voc_folder,
)
from util.data.sources.base import Item, Region, Source
from util.runtime.errors import InputError

# In the order in which they are tried: the more special ones first.
FORMATS: dict[str, ModuleType] = {
    "roboflow": roboflow,
    "huggingface": hugging_face,
    "cvat": cvat,
    "voc": voc_folder,
    "coco": coco,
    "label-studio": label_studio,
    "labelme": labelme,
    "csv": table,
    "folders": image_folder,
}

__all__ = ["FORMATS", "Item", "Region", "Source", "read_source"]


def read_source(path: Path, images: Path | None = None, name: str | None = None) -> tuple[str, Source]:
    """Read a data set.

    Args:
        path: its folder, or its annotation file.
        images: the folder of its images, where that is not beside or below the annotations.
        name: of the format; None finds it out.

    Returns:
        the name of the format, and what was read; there may be problems with single images.

    Raises:
        InputError: if the format is unknown, or the annotations as a whole cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check --source")
    if name is None:
        name = next((key for key, module in FORMATS.items() if module.fits(path)), None)
    if name is None:
        raise InputError(
            f"{path}: not in a format that is known here ({', '.join(FORMATS)}); give the folder or file that the tool "
            "exported, or say --format NAME"
        )
    source: Source = FORMATS[name].read(path, images)
    if not source.items:
        first = next(iter(source.problems.items()), None)
        reason = f"; the first problem: {first[0]}: {first[1]}" if first else ""
        raise InputError(
            f"{path}: no usable image with annotations of the format {name}{reason}; check --source and --images"
        )
    return name, source
