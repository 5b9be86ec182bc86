"""COCO's instance annotations as label maps.

Source: Lin et al., "Microsoft COCO", ECCV 2014. Where instances overlap, the one with the smallest area (COCO's ``area``) is on
top: the rule of coco2voc (https://github.com/alicranck/coco2voc, ``annotations_to_mask``), whose label maps AFA, ToCo and
others name as their ground truth. Crowd regions are void here, under every instance; coco2voc paints their class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from util.data.masks import Masks
from util.data.voc import VOID, ClassTable, class_table
from util.runtime.errors import InputError

LARGEST_SIDE = 1 << 14  # pixels; no image of COCO comes near


@dataclass(frozen=True)
class CocoImage:
    """An image of an annotation file.

    Attributes:
        image_id: its file name without the suffix.
        height, width: pixels.
        annotations: as in the file.
    """

    image_id: str
    height: int
    width: int
    annotations: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class CocoInstances:
    """An annotation file.

    Attributes:
        classes: background first, then the categories in the order of their ids.
        values: category id -> label value, 1 to the number of categories without gaps.
        images: in the order of the file.
    """

    classes: ClassTable
    values: dict[int, int]
    images: tuple[CocoImage, ...]


def parse_instances(content: object, source: str) -> CocoInstances:
    """Understand the content of an ``instances_*.json``.

    Raises:
        InputError: naming ``source``, if it is not COCO's format.
    """
    try:
        if not isinstance(content, dict):
            raise TypeError("not an object")
        categories = sorted((int(entry["id"]), str(entry["name"])) for entry in content["categories"])
        by_image: dict[int, list[dict[str, Any]]] = {int(entry["id"]): [] for entry in content["images"]}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        images = tuple(
            CocoImage(
                str(entry["file_name"]).rpartition(".")[0],
                int(entry["height"]),
                int(entry["width"]),
                tuple(by_image[int(entry["id"])]),
            )
            for entry in content["images"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source}: not as COCO's instances are ({type(error).__name__}: {error}); download the archive again"
        ) from None
    names = ("background", *(name for _, name in categories))
    return CocoInstances(class_table(names), {number: place for place, (number, _) in enumerate(categories, 1)}, images)


def tags_of(image: CocoImage, values: Mapping[int, int]) -> tuple[int, ...]:
    """The label values of the classes that an image shows, crowds included; ascending."""
    categories = {annotation["category_id"] for annotation in image.annotations}
    return tuple(sorted(values[category] for category in categories if category in values))


def label_of(image: CocoImage, values: Mapping[int, int]) -> np.ndarray:
    """The label map of an image: uint8 HxW; see the module for overlaps and crowds.

    Raises:
        InputError: if an annotation is damaged, or pycocotools is missing.
    """
    if not (0 < image.height <= LARGEST_SIDE and 0 < image.width <= LARGEST_SIDE):
        raise InputError(f"an image of {image.width}x{image.height} pixels; download the annotations again")
    label = np.zeros((image.height, image.width), np.uint8)
    try:
        ordered = sorted(image.annotations, key=lambda annotation: float(annotation["area"]))
        for annotation in _crowds(ordered, True):
            label[_mask(annotation, image)] = VOID
        claimed = np.zeros(label.shape, bool)
        for annotation in _crowds(ordered, False):
            mask = _mask(annotation, image) & ~claimed
            label[mask] = values[annotation["category_id"]]
            claimed |= mask
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"an annotation is damaged ({type(error).__name__}: {error}); download the annotations again"
        ) from None
    return label


def _crowds(annotations: Iterable[dict[str, Any]], wanted: bool) -> list[dict[str, Any]]:
    return [annotation for annotation in annotations if bool(annotation.get("iscrowd", 0)) is wanted]


def _mask(annotation: dict[str, Any], image: CocoImage) -> np.ndarray:
    """bool HxW, as COCO's own tools draw polygons and run-length codes."""
    shape, size = annotation["segmentation"], (image.height, image.width)
    if isinstance(shape, dict):
        if tuple(shape["size"]) != size:
            raise ValueError(f"a run-length code of {shape['size']} in an image of {list(size)}")
        return Masks.from_counts(size, [shape["counts"]]).dense(0)
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise InputError("COCO's polygons are drawn by pycocotools: pip install pycocotools") from None
    parts = [[float(number) for number in part] for part in shape]
    if any(len(part) < 6 or len(part) % 2 or not all(abs(number) <= LARGEST_SIDE for number in part) for part in parts):
        raise ValueError("a polygon that is not three or more points in the image")
    if not parts:
        return np.zeros(size, bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *size))) > 0
