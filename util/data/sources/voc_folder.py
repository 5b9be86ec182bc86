"""PASCAL VOC's layout: ``Annotations/*.xml``, ``SegmentationClass/*.png``, ``ImageSets``; or XML files beside the images.

``labelmap.txt`` (CVAT's "Segmentation mask") or ``class_names.txt`` say which classes and colours the label maps have;
else they are VOC's.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.ids import id_of, read_id_list
from util.data.image_labels import read_xml
from util.data.images import read_image
from util.data.labels import read_label
from util.data.sources.base import (
    Images,
    Item,
    Region,
    Shape,
    Source,
    distinct,
    files_of,
    folder_of,
    parts_of,
    read_parts,
    split_of,
)
from util.data.voc import VOID, ClassTable, load_classes
from util.runtime.errors import InputError

_XML = ("*.xml", "Annotations/*.xml", "*/*.xml")
_MAPS = ("SegmentationClass/*.png",)
_CLASS_FILES = ("labelmap.txt", "class_names.txt")


def fits(path: Path) -> bool:
    """Whether there are VOC annotations or label maps in this folder."""
    xml = files_of(path, *_XML)
    return bool(files_of(path, *_MAPS)) or bool(xml) and read_xml(xml[0]).tag == "annotation"


def read(path: Path, images: Path | None) -> Source:
    """Read annotations and label maps, by id; where they are in folders ``train``, ``val``, ..., each of these by itself."""
    return read_parts(path, [part for part in parts_of(path) if fits(part)] or [path], partial(_read_part, images))


def _read_part(images: Path | None, path: Path) -> Source:
    found = Images(images or next((f for f in [path / "JPEGImages"] if f.is_dir()), folder_of(path)))
    file = next((path / name for name in _CLASS_FILES if (path / name).is_file()), None)
    maps = {id_of(file.name): file for file in files_of(path, *_MAPS)}
    table = load_classes(file) if file or maps else None
    source = Source(classes=list(table.names[1:]) if table else [])
    if table and file:
        source.colors = dict(zip(table.names, table.colors, strict=True))
    splits = _splits(path)
    annotations = {id_of(file.name): file for file in files_of(path, *_XML)}
    for image in sorted({*annotations, *maps}):
        xml, label = annotations.get(image), maps.get(image)
        source.add(image, partial(_item, image, xml, label, found, table, splits.get(image)))
    return source


def _splits(path: Path) -> dict[str, str]:
    """id -> split, by the lists in ``ImageSets``."""
    splits: dict[str, str] = {}
    for name in ("train", "val", "test"):
        for folder in ("Segmentation", "Main"):
            file = path / "ImageSets" / folder / f"{name}.txt"
            if file.is_file():
                splits |= dict.fromkeys(read_id_list(file), name)
                break
    return splits


def _item(
    image: str, xml: Path | None, label: Path | None, images: Images, table: ClassTable | None, split: str | None
) -> Item:
    classes: tuple[str, ...] = ()
    size = None
    if xml is not None:
        root = read_xml(xml)
        classes = distinct([node.findtext("name") or "" for node in root.iter("object")])
        height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
        size = (height, width) if height and width else None
        if split is None:
            split = split_of(xml.parent.name)
    if label is None or table is None:
        return Item(image, images.find(image), classes, None, size, split)
    regions = _regions(_label(label, table), table)
    shown = [table.names[value] for value in np.unique(_label(label, table)) if 0 < value < len(table)]
    return Item(image, images.find(image), distinct([*classes, *shown]), lambda: regions, None, split)


def _label(path: Path, table: ClassTable) -> np.ndarray:
    """A label map by index, or, where it has colour channels, by the classes' colours."""
    pixels = read_image(path)
    if (pixels[..., :1] == pixels).all() or _has_palette(path):
        return read_label(path, len(table))
    colors = pixels.astype(np.int64) @ (65536, 256, 1)
    label = np.full(colors.shape, 254, np.uint8)
    for value, color in [*enumerate(table.colors), (VOID, (224, 224, 192))]:
        label[colors == np.dot(color, (65536, 256, 1))] = value
    unknown = colors[label == 254]
    if unknown.size:
        raise InputError(f"{path}: the colour #{unknown[0]:06x} is of no class; add it to {' or '.join(_CLASS_FILES)}")
    return label


def _where(label: np.ndarray, value: int, shape: Shape) -> np.ndarray:
    return label == value


def _has_palette(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode == "P"


def _regions(label: np.ndarray, table: ClassTable) -> list[Region]:
    values = [int(value) for value in np.unique(label) if value]
    return [Region(None if v == VOID else table.names[v], partial(_where, label, v)) for v in values]
