"""Label maps written for annotation tools come back as they were: COCO exactly, labelme's polygons nearly."""

import json

import numpy as np
from helpers import random_label
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from util.data.annotations import coco_content, labelme_content
from util.data.voc import class_table

CLASSES = class_table(["background", "cat", "dog", "horse", "cow", "sheep"])
LABELS = st.one_of(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 0, 1, 1, 2, 255])),
    st.integers(0, 10_000).map(lambda seed: random_label(np.random.default_rng(seed), 60, 80, void=seed % 3 == 0)),
)


def from_coco(annotations, shape):
    """Plain pycocotools."""
    label = np.zeros(shape, np.uint8)
    for annotation in annotations:
        mask = coco_mask.decode(annotation["segmentation"])
        assert mask.sum() == annotation["area"]
        assert coco_mask.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
        label[mask > 0] = annotation["category_id"]
    return label


def from_labelme(content):
    """As labelme's ``shape_to_mask`` fills polygons; name -> mask."""
    masks = {}
    for shape in content["shapes"]:
        assert shape["shape_type"] == "polygon" and len(shape["points"]) >= 3
        mask = Image.new("L", (content["imageWidth"], content["imageHeight"]))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
        masks[shape["label"]] = masks.get(shape["label"], False) | (np.asarray(mask) > 0)
    return masks


@given(LABELS)
def test_coco_is_exact(label):
    content = json.loads(json.dumps(coco_content([("a.jpg", label), ("b.jpg", label)], CLASSES)))
    annotations, size = content["annotations"], {"height": label.shape[0], "width": label.shape[1]}
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", **size}, {"id": 2, "file_name": "b.jpg", **size}]
    for number in (1, 2):
        own = [annotation for annotation in annotations if annotation["image_id"] == number]
        assert (from_coco(own, label.shape) == label).all()
    assert [annotation["id"] for annotation in annotations] == list(range(1, 1 + len(annotations)))
    void = [{"id": 255, "name": "void"}] if (label == 255).any() else []
    assert content["categories"] == [{"id": k, "name": CLASSES.names[k]} for k in range(1, len(CLASSES))] + void


@settings(deadline=None)
@given(LABELS)
def test_labelme_polygons_have_an_iou_of_at_least_99_per_cent(label):
    content = json.loads(json.dumps(labelme_content(label, CLASSES, "../a.jpg")))
    masks = from_labelme(content)
    expected = {"__ignore__" if v == 255 else CLASSES.names[v]: label == v for v in np.unique(label) if v}
    assert masks.keys() == expected.keys()
    for name, mask in expected.items():
        assert (mask & masks[name]).sum() >= 0.99 * (mask | masks[name]).sum()


def test_holes_are_cut_and_polygons_are_coarse():
    y, x = np.ogrid[:300, :400]
    radius = np.hypot(y - 150, x - 200)
    label = ((radius < 140) & (radius > 60)).astype(np.uint8)
    shapes = labelme_content(label, CLASSES, "a.jpg")["shapes"]
    assert len(shapes) == 2 and max(len(shape["points"]) for shape in shapes) < 150
