"""Label maps as the files of annotation tools: COCO (run-length codes, exact) and labelme (polygons)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from PIL import Image, ImageDraw

from util.data.masks import Masks
from util.data.voc import VOID, ClassTable

LABELME_VERSION = "5.5.0"  # the version whose file format this is
LABELME_VOID = "__ignore__"  # labelme's own name for pixels of no class
# Polygons are made as coarse as these deviations in pixels allow while the region stays what it is.
DEVIATIONS = (3.0, 2.0, 1.0, 0.5, 0.0)
SMALLEST_IOU = 0.995


def coco_content(labels: Iterable[tuple[str, np.ndarray]], classes: ClassTable) -> dict:
    """A COCO file of label maps, with one annotation for each class that an image shows but the background.

    Args:
        labels: of each image its name, as the file should have it, and its label map (uint8 HxW).
        classes: become the categories, under their label values; void is one more where there is some.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    for number, (name, label) in enumerate(labels, 1):
        height, width = label.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for value in np.flatnonzero(np.bincount(label.ravel())[1:]) + 1:
            mask = Masks.from_dense((label == value)[None])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(value),
                    "segmentation": {"size": [height, width], "counts": mask.counts()[0]},
                    "area": int(mask.areas[0]),
                    "bbox": mask.boxes[0].tolist(),
                    "iscrowd": 0,
                }
            )
    names = dict(enumerate(classes.names[1:], 1))
    if any(annotation["category_id"] == VOID for annotation in annotations):
        names[VOID] = "void"
    categories = [{"id": value, "name": name} for value, name in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def labelme_content(label: np.ndarray, classes: ClassTable, image_path: str | os.PathLike) -> dict:
    """A labelme file for a label map: polygons of all classes but the background, larger regions first.

    Points are pixel indices, which labelme fills with the border included. It knows no holes: a region with holes is cut
    through them into pieces without.

    Args:
        label: uint8 HxW.
        classes: the names; void is labelme's ``__ignore__``.
        image_path: of the image, as the file should name it.
    """
    height, width = label.shape
    shapes = []
    for value in np.flatnonzero(np.bincount(label.ravel(), minlength=VOID + 1)):
        if value:
            name = LABELME_VOID if value == VOID else classes.names[value]
            shapes += [(area, name, points.tolist()) for area, points in polygons(label == value)]
    shapes.sort(key=lambda shape: -shape[0])
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [
            {"label": name, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}}
            for _, name, points in shapes
        ],
        "imagePath": os.fspath(image_path),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def polygons(mask: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(area in pixels, int Nx2 points x, y) of polygons without holes that together cover a bool HxW mask.

    Each has an IoU of at least ``SMALLEST_IOU`` with its piece of the mask, and at least three points.
    """
    count, components, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    for number in range(1, count):
        left, top, width, height = (int(boxes[number, place]) for place in range(4))
        piece = components[top : top + height, left : left + width] == number
        for area, points in _without_holes(piece):
            yield area, points + (left, top)


def _without_holes(piece: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """As `polygons`, for one connected region; points are int Nx2."""
    contours, family = cv2.findContours(piece.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = [contour for contour, (*_, parent) in zip(contours, family[0]) if parent >= 0]
    if holes:
        largest = max(holes, key=cv2.contourArea)[:, 0, 1]
        row = int(largest.min() + largest.max() + 1) // 2
        for part, offset in ((piece[:row], 0), (piece[row:], row)):
            for area, points in polygons(np.ascontiguousarray(part)):
                yield area, points + (0, offset)
        return
    area = int(np.count_nonzero(piece))
    for deviation in DEVIATIONS:
        points = cv2.approxPolyDP(contours[0], deviation, closed=True)[:, 0]
        points = np.concatenate([points, points[-1:].repeat(max(0, 3 - len(points)), axis=0)])
        if deviation == 0 or _iou(points, piece, area) >= SMALLEST_IOU:
            yield area, points
            return


def _iou(points: np.ndarray, piece: np.ndarray, area: int) -> float:
    """Of a polygon, filled as labelme does, with a piece of a mask of that area."""
    height, width = piece.shape
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon(points.ravel().tolist(), fill=1, outline=1)
    filled = np.asarray(canvas)
    shared = int(np.count_nonzero(filled & piece))
    return shared / (int(np.count_nonzero(filled)) + area - shared)
