"""CVAT for images 1.1: one XML file with tags, boxes, polygons and masks. ("Segmentation mask" is VOC's layout.)"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from util.data.image_labels import read_xml
from util.data.sources.base import (
    Images,
    Item,
    Region,
    Shape,
    Source,
    any_fits,
    distinct,
    files_of,
    folder_of,
    outline,
    split_of,
)
from util.runtime.errors import InputError

_PIXELS = ("polygon", "mask")


def fits(path: Path) -> bool:
    """Whether this is CVAT's XML file, or a folder with it."""
    return any_fits(files_of(path, "*.xml")[:20], _is_cvat)


def _is_cvat(file: Path) -> bool:
    return read_xml(file).tag == "annotations"


def _tasks(path: Path) -> list[Path]:
    return [file for file in files_of(path, "*.xml") if _is_cvat(file)]


def read(path: Path, images: Path | None) -> Source:
    """Read the XML files of all tasks; classes and colours are in their heads, in the order of the task.

    Raises:
        InputError: if a file has no images.
    """
    found, source = Images(images or folder_of(path)), Source()
    for file in _tasks(path):
        root = read_xml(file)
        for label in root.iterfind("meta//labels/label"):
            name, color = (label.findtext("name") or "").strip(), (label.findtext("color") or "").strip()
            source.classes += [name] if name and name not in source.classes and name != "background" else []
            if len(color) == 7 and color.startswith("#"):
                red, green, blue = bytes.fromhex(color[1:])
                source.colors[name] = (red, green, blue)
        entries = root.findall("image")
        if not entries:
            raise InputError(f"{file}: no <image> in it; export the task as 'CVAT for images 1.1'")
        for image in entries:
            name = image.get("name") or ""
            source.add(name, partial(_item, name, image, found))
    return source


def _item(name: str, image: Element, images: Images) -> Item:
    shapes = [node for node in image if node.tag != "tag"]
    names = [node.get("label") or "" for node in image if node.get("label")]
    size = (int(image.attrib["height"]), int(image.attrib["width"]))
    outlined = bool(shapes) and all(node.tag in _PIXELS for node in shapes)
    # Later shapes and higher layers are above: the painter draws large ones first, so order is not needed.
    regions = (lambda: [_region(node) for node in shapes]) if outlined else None
    return Item(name, images.find(name), distinct(names), regions, size, split_of(image.get("subset") or ""))


def _region(node: Element) -> Region:
    name = node.attrib["label"].strip()
    if node.tag == "polygon":
        points = [[float(v) for v in pair.split(",")] for pair in node.attrib["points"].split(";")]
        return Region(name, outline(points))
    runs = [int(run) for run in node.attrib["rle"].split(",")]
    left, top, width, height = (int(float(node.attrib[side])) for side in ("left", "top", "width", "height"))
    return Region(name, _mask(runs, left, top, width, height))


def _mask(runs: list[int], left: int, top: int, width: int, height: int) -> Callable[[Shape], np.ndarray]:
    if min(runs) < 0 or sum(runs) != width * height:
        raise InputError(f"a mask of {width}x{height} pixels has runs of {sum(runs)}; export it again")

    def draw(shape: Shape) -> np.ndarray:
        part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        whole = np.zeros(shape, bool)
        if top < 0 or left < 0 or top + height > shape[0] or left + width > shape[1]:
            raise InputError("a mask leads out of the image; export it again, with the images that it was drawn on")
        whole[top : top + height, left : left + width] = part
        return whole

    return draw
