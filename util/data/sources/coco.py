"""COCO JSON: detection (boxes) or segmentation (polygons, run-length codes), one file or one per split."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from util.data.masks import Masks
from util.data.sources.base import Images, Item, Region, Source, distinct, files_of, folder_of, outline, split_of, union
from util.runtime.errors import InputError
from util.runtime.files import read_json

_PATTERNS = ("*.json", "annotations/*.json", "*/_annotations.coco.json")


def fits(path: Path) -> bool:
    """Whether this is a COCO file, or a folder with COCO files in it or in ``annotations``."""
    return any(_is_coco(read_json(file)) for file in files_of(path, *_PATTERNS))


def read(path: Path, images: Path | None) -> Source:
    """Read all COCO files; a category that no annotation has is left out if it is the parent of the others (Roboflow's).

    Raises:
        InputError: if files disagree about the categories.
    """
    source = Source()
    files = files_of(path, *_PATTERNS)
    # COCO's own folder holds the same images' captions and keypoints as well.
    for file in [file for file in files if file.name.startswith("instances_")] or files:
        content = read_json(file)
        if isinstance(content, dict) and _is_coco(content):
            _read_file(file, content, Images(images or _folder(file, path)), source)
    return source


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
        names = {
            entry["id"]: str(entry["name"]).strip() for entry in sorted(content["categories"], key=lambda e: e["id"])
        }
        used = {annotation["category_id"] for annotation in content["annotations"]}
        parents = {entry.get("supercategory") for entry in content["categories"]} - {"none", None}
        by_image: dict[object, list[dict]] = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        entries = [(entry["id"], str(entry["file_name"]), entry) for entry in content["images"]]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{file}: not as COCO's format has it ({type(error).__name__}: {error}); export it again"
        ) from None
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
        source.add(name, partial(_item, name, entry, found, names, images, split))


def _item(name: str, entry: dict, annotations: list[dict], names: dict, images: Images, split: str | None) -> Item:
    unknown = [a["category_id"] for a in annotations if a["category_id"] not in names]
    if unknown:
        raise InputError(f"an annotation has the category {unknown[0]}, which the file does not name; export it again")
    classes = distinct([names[a["category_id"]] for a in annotations])
    size = (int(entry["height"]), int(entry["width"])) if entry.get("height") and entry.get("width") else None
    outlined = bool(annotations) and all(a.get("segmentation") for a in annotations)
    regions = (lambda: [_region(a, names) for a in annotations]) if outlined else None
    return Item(name, images.find(name), classes, regions, size, split)


def _region(annotation: dict, names: dict) -> Region:
    name = None if annotation.get("iscrowd") else names[annotation["category_id"]]  # a crowd's pixels are not counted
    code = annotation["segmentation"]
    if isinstance(code, dict):
        height, width = (int(side) for side in code["size"])
        return Region(name, lambda shape: Masks.from_counts((height, width), [code["counts"]]).dense(0))
    return Region(name, union([outline(points) for points in code]))
