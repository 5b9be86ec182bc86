"""Data sets as other tools write them, one file per format; `FORMATS` is the table that they are entered in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from util.data.ids import IMAGE_SUFFIXES, SUFFIXES
from util.data.json_rows import JSON_TABLES
from util.data.sources import (
    coco,
    cvat,
    file_names,
    hugging_face,
    image_folder,
    label_studio,
    labelme,
    roboflow,
    table,
    via,
    voc_folder,
    yolo,
)
from util.data.sources.base import Source, walk
from util.data.sources.tidy import tidy
from util.runtime.errors import InputError
from util.runtime.files import is_hidden

# In the order in which they are tried: the more special ones first.
FORMATS: dict[str, ModuleType] = {
    "roboflow": roboflow,
    "huggingface": hugging_face,
    "cvat": cvat,
    "voc": voc_folder,
    "coco": coco,
    "label-studio": label_studio,
    "labelme": labelme,
    "via": via,
    "yolo": yolo,
    "csv": table,
    "folders": image_folder,
    "names": file_names,
}

# Files that may say what images show: a folder of images beside one of these is not taken for the whole data set.
_ANNOTATIONS = {*JSON_TABLES, ".csv", ".tsv", ".xml", ".yaml", ".yml", ".xlsx", ".xls", ".parquet", ".npy", ".mat"}


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
    given = name
    name, path = _find_out(path, name)
    source: Source = FORMATS[name].read(path, images)
    tidy(source)
    if given is None and name == "csv" and path.is_dir():
        _check_folders(path, source)
    if not source.items:
        first = next(iter(source.problems.items()), None)
        reason = f"; the first problem: {first[0]}: {first[1]}" if first else ""
        raise InputError(
            f"{path}: no usable image with annotations of the format {name}{reason}; check --source and --images"
        )
    return name, source


def _check_folders(path: Path, source: Source) -> None:
    """Refuse a table beside folders that may be the classes, unless both say the same."""
    folders = image_folder.class_folders(path)
    if len(folders) > 1 and any(item.classes != (item.path.parent.name,) for item in source.items):
        raise InputError(
            f"{path}: has folders that may be classes ({', '.join(folders[:3])}), and a table that says something else; say "
            "--format folders, or --format csv"
        )


def _find_out(path: Path, name: str | None) -> tuple[str, Path]:
    """The format (``name``, if that is given), and the folder that is in it: ``path``, or the only folder in it, or in that."""
    given = path
    while True:
        fitting = next((key for key, module in FORMATS.items() if name in (key, None) and module.fits(path)), None)
        if fitting is not None:
            return fitting, path
        inner = [place for place in path.iterdir() if not is_hidden(place.name)] if path.is_dir() else []
        folders = [place for place in inner if place.is_dir() and any(walk(place))]
        beside = {place.suffix.lower() for place in inner if place.is_file()}
        if len(folders) != 1 or beside & {*_ANNOTATIONS, *IMAGE_SUFFIXES}:
            break
        path = folders[0]
    if name is not None:
        return name, given
    raise InputError(
        f"{given}: not in a format that is known here ({', '.join(FORMATS)}); give the folder or file that the tool "
        f"exported, or say --format NAME{_hint(path, inner)}"
    )


def _hint(path: Path, inner: list[Path]) -> str:
    """What may help with a folder of these files, or with this file."""
    files = [place for place in inner if place.is_file()] or [path]
    tables = sorted(place.name for place in files if place.suffix.lower() in (".csv", ".tsv"))
    sheets = [place.name for place in files if place.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers")]
    if sheets:
        return f". Save {sheets[0]} as CSV (UTF-8)"
    if tables:
        return f". Of {', '.join(tables)} give the one with the labels"
    if any(place.suffix.lower() in JSON_TABLES for place in files):
        return '. A table in JSON is {"1.jpg": ["cat", "dog"], ...}, or a list of {"image": "1.jpg", "labels": ["cat"]}'
    if not inner or not all(place.suffix.lower() in SUFFIXES for place in inner):
        return ""
    named = file_names.likely_classes(path)
    if named:
        return f". If the files' names begin or end with their classes ({', '.join(named)}), say --format names"
    return ". Images alone do not say what they show: sort them into a folder per class, or give a table with --images"
