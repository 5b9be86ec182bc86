"""VGG Image Annotator, version 1 and 2: a project, or annotations as JSON or CSV (robots.ox.ac.uk/~vgg/software/via).

Regions and files have attributes that people name themselves. The class is the only one that is filled in, or the only
one whose name says so (``class``, ``label``, ``type``, ...). Polygons, circles and ellipses are pixel annotations.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from util.data.csv_rows import read_rows
from util.data.sources.base import Images, Item, Region, Source, any_fits, distinct, files_of, folder_of, outline
from util.data.table_words import is_class_word, plain_word
from util.runtime.errors import InputError
from util.runtime.files import read_json

_PIXELS = ("polygon", "circle", "ellipse")
_CORNERS = 64  # of the polygon that stands for a circle
_OF_FILES = {"caption", "public_domain", "image_url"}  # attributes that VIA makes itself


def fits(path: Path) -> bool:
    """Whether this is VIA's file, or a folder with one."""
    return any_fits(files_of(path, "*.json", "*.csv"), lambda file: bool(_entries(file)))


def read(path: Path, images: Path | None) -> Source:
    """Read all files of annotations.

    Raises:
        InputError: if several attributes may be the class.
    """
    source, found = Source(), Images(images or folder_of(path))
    for file in files_of(path, "*.json", "*.csv"):
        entries = _entries(file)
        of_region = _class_attribute(file, "region", [region for entry in entries for region in _regions(entry)])
        of_file = _class_attribute(file, "file", [_of_file(entry) for entry in entries], needed=of_region is None)
        for entry in entries:
            source.add(str(entry["filename"]), partial(_item, entry, found, of_region, of_file))
    return source


def _entries(file: Path) -> list[dict]:
    """One dictionary per image; none if the file is not VIA's."""
    if file.suffix == ".csv":
        return _of_csv(file)
    content = read_json(file)
    content = content.get("_via_img_metadata", content) if isinstance(content, dict) else {}
    entries = list(content.values()) if isinstance(content, dict) else []
    known = all(
        isinstance(entry, dict) and {"filename", "regions", "file_attributes"} <= set(entry) for entry in entries
    )
    return entries if known else []


def _of_csv(file: Path) -> list[dict]:
    rows = read_rows(file)
    head = [cell.lstrip("#") for cell in rows[0].cells] if rows else []
    if not {"filename", "region_shape_attributes", "region_attributes"} <= set(head):
        return []
    entries: dict[str, dict] = {}
    for row in rows[1:]:
        cells = dict(zip(head, row.cells, strict=False))
        where = f"{file}, line {row.number}"
        entry = entries.setdefault(cells["filename"], {"filename": cells["filename"], "regions": []})
        entry["file_attributes"] = _json(cells.get("file_attributes"), where)
        if shape := _json(cells.get("region_shape_attributes"), where):
            attributes = _json(cells.get("region_attributes"), where)
            entry["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    return list(entries.values())


def _json(cell: str | None, where: str) -> dict:
    try:
        value = json.loads(cell or "{}")
    except ValueError as error:
        raise InputError(f"{where}: {cell!r} is not JSON ({error}); export it again") from None
    return value if isinstance(value, dict) else {}


def _regions(entry: dict) -> list[dict]:
    """The regions of an image: a list, in version 1 a dictionary of numbers."""
    regions = entry["regions"] or []
    return list(regions.values() if isinstance(regions, dict) else regions)


def _of_file(entry: dict) -> dict:
    attributes = entry.get("file_attributes") or {}
    return {"region_attributes": {k: v for k, v in attributes.items() if k not in _OF_FILES}}


def _class_attribute(file: Path, what: str, holders: list[dict], needed: bool = False) -> str | None:
    """The attribute that is the class; None if there is none."""
    filled = {name: None for each in holders for name, value in _attributes(each).items() if _names(value)}
    likely = [name for name in filled if is_class_word(name) or plain_word(name) in ("type", "species", "name")]
    found = likely if len(filled) > 1 else list(filled)
    if len(found) == 1:
        return found[0]
    if len(filled) > 1 and (needed or what == "region"):
        raise InputError(
            f"{file}: the {what} attributes {', '.join(filled)} may all be the class; export with one of them, or call one class"
        )
    if needed:
        raise InputError(
            f"{file}: neither regions nor files have an attribute that is filled in, so nothing says the class"
        )
    return None


def _attributes(holder: dict) -> dict:
    attributes = holder.get("region_attributes")
    return attributes if isinstance(attributes, dict) else {}


def _names(value: object) -> list[str]:
    """The classes that the value of an attribute says: text, or the checked ones of several."""
    if isinstance(value, dict):
        return [str(name) for name, is_checked in value.items() if is_checked]
    return [value.strip()] if isinstance(value, str) and value.strip() else []


def _item(entry: dict, images: Images, of_region: str | None, of_file: str | None) -> Item:
    regions = _regions(entry)
    shown = [_names(_attributes(region).get(of_region)) for region in regions]
    names = [name for names in [*shown, _names(_attributes(_of_file(entry)).get(of_file))] for name in names]
    shapes = [region["shape_attributes"] for region in regions]
    outlined = bool(shapes) and all(shape["name"] in _PIXELS for shape in shapes) and all(len(s) == 1 for s in shown)
    draw = (lambda: [_region(*pair) for pair in zip((s[0] for s in shown), shapes, strict=True)]) if outlined else None
    return Item(str(entry["filename"]), images.find(entry["filename"]), distinct(names), draw)


def _region(name: str, shape: dict) -> Region:
    if shape["name"] == "polygon":
        return Region(name, outline(np.column_stack([shape["all_points_x"], shape["all_points_y"]])))
    radii = (shape["r"], shape["r"]) if shape["name"] == "circle" else (shape["rx"], shape["ry"])
    turn, angles = float(shape.get("theta", 0)), np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    x, y = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    points = [x * np.cos(turn) - y * np.sin(turn) + shape["cx"], x * np.sin(turn) + y * np.cos(turn) + shape["cy"]]
    return Region(name, outline(np.column_stack(points)))
