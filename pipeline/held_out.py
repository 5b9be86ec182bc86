"""Held-out images without ground truth: how often the network sees the given class, and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.plan import Plan
from util.data.classes import classes_of
from util.data.contact_sheet import draw_contact_sheet
from util.data.image_labels import read_image_labels
from util.data.labels import label_path, read_label
from util.data.voc import VOID
from util.runtime.errors import InputError
from util.runtime.files import write_json


def show_held_out(plan: Plan, ids: Sequence[str], labels: Path) -> None:
    """Draw the images with their predicted label maps, and write how many of these agree with the image-level labels."""
    classes = classes_of([plan.image_labels, plan.images], plan.class_names, ids=ids)
    tags = read_image_labels(plan.image_labels, classes)
    shown = {image_id: tags.get(image_id, ()) for image_id in ids}
    title = f"{plan.data_name('held-out images')}: colours as predicted, above them the image-level labels as given"
    draw_contact_sheet(plan.held_out_sheet, plan.images, labels, shown, classes, len(ids), 0, title)
    found = {image_id: largest for image_id in ids if (largest := largest_class(labels, image_id)) is not None}
    as_given = sum(largest in shown[image_id] for image_id, largest in found.items())
    write_json(plan.held_out_sheet.with_suffix(".json"), {"images": len(found), "as_given": as_given})


def largest_class(labels: Path, image_id: str) -> int | None:
    """The class of the most pixels, 0 where there is background alone; None for an image without a label map."""
    try:
        label = read_label(label_path(labels, image_id))
    except InputError:  # which predict.py has reported
        return None
    counts = np.bincount(label.ravel(), minlength=VOID + 1)
    counts[[0, VOID]] = 0
    return int(counts.argmax())


def held_out_line(found: dict, plan: Plan) -> str:
    """The count for a terminal."""
    return (
        f"DeepLabV3+ on {found['images']} held-out images: in {found['as_given']} of them the largest area is of a class that "
        f"the image is labelled with; look at {plan.held_out_sheet}"
    )
