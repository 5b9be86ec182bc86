"""COCO JSON: detection (boxes) or segmentation (polygons, run-length codes), one file or one per split."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from util.data.masks import Masks
from util.data.sources.base import (
    Images,
    Item,
    Region,
    Source,
    any_fits,
    distinct,
    files_of,
    folder_of,
    outline,
    split_of,
    union,
)
from util.runtime.errors import InputError, counted
from util.runtime.files import read_json

_PATTERNS = ("*.json", "annotations/*.json", "*/_annotations.coco.json")


def fits(path: Path) -> bool:
    """Whether this is a COCO file, or a folder with COCO files in it or in ``annotations``."""
    return any_fits(files_of(path, *_PATTERNS), lambda file: _is_coco(read_json(file)))


def read(path: Path, images: Path | None) -> Source:
    """Read all COCO files; a category that no annotation has is left out if it is the parent of the others (Roboflow's).

    Raises:
        InputError: if files disagree about the categories.
    """
    source = Source()
    files = files_of(path, *_PATTERNS)
    # COCO's own folder holds the same images' captions and keypoints as well.
    for file in [file for file in files if file.name.startswith("instances_")] or files:
        try:
            content = read_json(file)
        except InputError as error:
            source.problems[str(file)] = str(error)
            continue
        if isinstance(content, dict) and _is_coco(content):
            _read_file(file, content, Images(images or _folder(file, path)), source)
    source.items = _apart(source.items)
    return source


def _apart(items: list[Item]) -> list[Item]:
    """Items with their folders in front of their names where several images have one name."""
    counts = Counter(item.name for item in items)
    same = [item.path.parent for item in items if counts[item.name] > 1]
    base = os.path.commonpath(same) if same else ""
    return [
        replace(item, name=item.path.relative_to(base).as_posix()) if counts[item.name] > 1 else item for item in items
    ]


def _is_coco(content: object) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
    )


def _folder(file: Path, path: Path) -> Path:
    if file.name == "_annotations.coco.json":
        return file.parent
    return file.parent.parent if file.parent.name == "annotations" else folder_of(path)


def _read_file(file: Path, content: dict, images: Images, source: Source) -> None:
    try:
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        names = _by_id(file, "categories", [(entry["id"], str(entry["name"]).strip()) for entry in categories])
        parents = {entry.get("supercategory") for entry in categories if entry.get("supercategory") != entry["name"]}
        parents -= {"none", None}
        used = {_id(annotation["category_id"]) for annotation in content["annotations"]}
        by_image: dict[str, list[dict]] = {}
        for annotation in content["annotations"]:
            by_image.setdefault(_id(annotation["image_id"]), []).append(annotation)
        entries = [(_id(entry["id"]), str(entry["file_name"]), entry) for entry in content["images"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not as COCO's format has it ({type(error).__name__}: {error}); export it again"
        ) from None
    listed = _by_id(file, "images", [(key, name) for key, name, _ in entries])
    classes = list(distinct([name for key, name in names.items() if key in used or name not in parents]))
    if source.classes and classes != source.classes:
        raise InputError(
            f"{file}: its categories are {', '.join(classes)}, another file's {', '.join(source.classes)}; export both with "
            "the same categories, or give one file"
        )
    source.classes = classes
    split = split_of(file.stem, file.parent.name)
    for key, name, entry in entries:
        found = by_image.get(key, [])
        source.add(name, partial(_item, name, entry, found, names, images, split, file.stem))
    if lost := [key for key in by_image if key not in listed]:
        source.problems[str(file)] = (
            f"{counted(sum(len(by_image[key]) for key in lost), 'annotation')} of images that the file does not list "
            f"(image_id {', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}); export it again"
        )


def _id(value: object) -> str:
    """An id as text: converters write 7 as ``"7"`` or 7.0 in one place and not in another."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _by_id(file: Path, what: str, entries: list[tuple[object, str]]) -> dict[str, str]:
    """Id -> name of the categories or images of a file.

    Raises:
        InputError: if two of them have one id.
    """
    found: dict[str, str] = {}
    for key, name in entries:
        if found.setdefault(_id(key), name) != name:
            raise InputError(
                f"{file}: the {what} {found[_id(key)]} and {name} have the same id {key}, so an annotation may be of either; "
                "give each its own id"
            )
    return found


def _item(
    name: str, entry: dict, annotations: list[dict], names: dict[str, str], images: Images, split: str | None, of: str
) -> Item:
    unknown = [a["category_id"] for a in annotations if _id(a["category_id"]) not in names]
    if unknown:
        raise InputError(f"an annotation has the category {unknown[0]}, which the file does not name; export it again")
    classes = distinct([names[_id(a["category_id"])] for a in annotations])
    size = (int(entry["height"]), int(entry["width"])) if entry.get("height") and entry.get("width") else None
    outlined = bool(annotations) and all(a.get("segmentation") for a in annotations)
    regions = (lambda: [_region(a, names) for a in annotations]) if outlined else None
    return Item(name, images.find(name, of), classes, regions, size, split)


def _region(annotation: dict, names: dict[str, str]) -> Region:
    name = (
        None if annotation.get("iscrowd") else names[_id(annotation["category_id"])]
    )  # a crowd's pixels are not counted
    code = annotation["segmentation"]
    if isinstance(code, dict):
        height, width = (int(side) for side in code["size"])
        return Region(name, lambda shape: Masks.from_counts((height, width), [code["counts"]]).dense(0))
    return Region(name, union([outline(points) for points in code]))
