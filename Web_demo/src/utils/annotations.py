"""Results as the files of annotation tools: COCO and labelme."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from util.data.annotations import coco_annotations, coco_categories, labelme_content
from util.data.voc import ClassTable


def coco_file(labels: Sequence[tuple[str, np.ndarray]], classes: ClassTable) -> bytes:
    """The bytes of a COCO file of (name of the image, label map uint8 HxW)."""
    images: list[dict] = []
    found: list[dict] = []
    for number, (name, label) in enumerate(labels, 1):
        images.append({"id": number, "file_name": name, "height": label.shape[0], "width": label.shape[1]})
        found += coco_annotations(label, number, len(found) + 1)
    content = {"images": images, "annotations": found, "categories": coco_categories(classes, void=False)}
    return json.dumps(content, separators=(",", ":")).encode()


def labelme_file(name: str, label: np.ndarray, classes: ClassTable) -> bytes:
    """The bytes of a labelme file of a label map (uint8 HxW) that belongs to the image of that name."""
    return json.dumps(labelme_content(label, classes, name), separators=(",", ":")).encode()
