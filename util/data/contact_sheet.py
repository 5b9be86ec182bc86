"""A contact sheet: some images of a data set with their labels, to see at a glance whether these are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from util.data.images import find_image, read_image
from util.data.labels import read_label
from util.data.voc import ClassTable
from util.figures.panels import Panel, class_legend, draw_panels
from util.vis import overlay

PER_ROW = 6


def draw_contact_sheet(
    path: Path,
    images: Path,
    labels: Path,
    tags: Mapping[str, Sequence[int]],
    classes: ClassTable,
    count: int,
    seed: int,
    title: str = "",
) -> None:
    """Draw up to ``count`` images, as many of each class as there is room for, with label maps and legend where they exist.

    Args:
        path: of the PNG.
        images, labels: folders of images and of label maps; the latter may not exist.
        tags: id -> classes that it shows.
        seed: of the choice.
        title: above all images.
    """
    panels: list[Panel] = []
    shown: list[np.ndarray] = []
    for image_id in _choice(tags, count, seed):
        image = read_image(find_image(images, image_id))
        label = labels / f"{image_id}.png"
        if label.is_file():
            shown.append(read_label(label, len(classes)))
            image = overlay(image, shown[-1], classes.palette)
        given = ", ".join(classes.names[tag] for tag in tags[image_id])
        panels.append(Panel(f"{image_id}\ngiven: {given or 'no class'}", image))
    rows = [panels[k : k + PER_ROW] for k in range(0, len(panels), PER_ROW)]
    draw_panels(path.with_suffix(""), rows, class_legend(shown, classes) if shown else None, title, formats=("png",))


def _choice(tags: Mapping[str, Sequence[int]], count: int, seed: int) -> list[str]:
    """Ids, drawn in turn from each class."""
    ids = sorted(tags)
    order = [ids[k] for k in np.random.default_rng(seed).permutation(len(ids))]
    untagged = (-1,)
    classes = sorted({tag for values in tags.values() for tag in values or untagged})
    queues = {tag: [image_id for image_id in order if tag in (tags[image_id] or untagged)] for tag in classes}
    chosen: dict[str, None] = {}
    while len(chosen) < min(count, len(ids)) and any(queues.values()):
        for queue in queues.values():
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen[queue.pop(0)] = None
    return list(chosen)
