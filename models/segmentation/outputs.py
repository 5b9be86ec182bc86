"""What is written of a segmented image: label map, overlay, confidence, probabilities, labelme; of all: a table and a COCO file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from models.segmentation.inference import Segmentation
from models.segmentation.options import Prediction
from util.data.annotations import coco_content, labelme_content
from util.data.labels import read_label, write_label
from util.data.npy import save_npy_dict
from util.data.voc import VOID, ClassTable
from util.figures.panels import class_legend, draw_legend
from util.runtime.files import atomic_write, relative_name, write_bytes, write_csv
from util.runtime.progress import Progress
from util.vis import overlay, save_image


def class_shares(found: Segmentation) -> list[tuple[int, float, float]]:
    """(label value, share of the pixels, mean confidence), each in 0..1, for every value of a label map."""
    table = np.zeros(1 << 16, np.int64)
    step = max(1, (1 << 20) // found.label.shape[1])
    for top in range(0, len(found.label), step):  # in pieces: bincount makes 8 bytes of every pixel
        rows = slice(top, top + step)
        pairs = found.label[rows].astype(np.uint16) << 8 | found.confidence[rows]
        table += np.bincount(pairs.ravel(), minlength=1 << 16)
    counts = table.reshape(256, 256)
    pixels = counts.sum(1)
    confidence = counts @ np.arange(256) / 255
    return [(int(c), pixels[c] / found.label.size, confidence[c] / pixels[c]) for c in np.flatnonzero(pixels)]


def write_outputs(
    image_id: str,
    source: Path,
    image: np.ndarray,
    found: Segmentation,
    classes: ClassTable,
    out: Path,
    how: Prediction,
) -> list[Path]:
    """Write what is wanted of an image (uint8 HxWx3, read from ``source``) to ``out``; returns the files.

    Raises:
        OSError: if the disk is full or cannot be written.
    """
    files = [out / "labels" / f"{image_id}.png"]
    write_label(files[0], found.label, classes.palette)
    if "overlay" in how.formats:
        files.append(out / "overlays" / f"{image_id}.jpg")
        save_image(files[-1], overlay(image, found.label, classes.palette))
    if "labelme" in how.formats:
        files.append(out / "labelme" / f"{image_id}.json")
        relative = relative_name(source, files[-1].parent)
        _write_json(files[-1], labelme_content(found.label, classes, relative))
    if how.confidence:
        files.append(out / "confidence" / f"{image_id}.png")
        with atomic_write(files[-1]) as temporary:
            Image.fromarray(found.confidence).save(temporary, compress_level=1)
    if found.probabilities is not None:
        files.append(out / "probabilities" / f"{image_id}.npy")
        save_npy_dict(files[-1], {value - 1: map.astype(np.float16) for value, map in found.probabilities.items()})
    return files


def write_legend(path: Path, classes: ClassTable, entries: Mapping[str, dict]) -> None:
    """Draw the colours of the overlays, in which the background stays clear: all classes, and void where there is some."""
    void = any(value == VOID for entry in entries.values() for value, *_ in entry["classes"])
    values = [*range(1, len(classes)), *([VOID] if void else [])]
    draw_legend(path, class_legend([np.array(values, np.uint8)], classes))


def classes_text(entries: Mapping[str, dict], classes: ClassTable) -> str:
    """How many images show each class, and how much of an image it is on average, for a terminal."""
    images: dict[int, int] = {}
    shares: dict[int, float] = {}
    for entry in entries.values():
        for value, share, _ in entry["classes"]:
            images[value] = images.get(value, 0) + 1
            shares[value] = shares.get(value, 0.0) + share / len(entries)
    lines = [f"{'class':<20}{'images':>8}{'area, %':>12}"]
    for value in sorted(images):
        name = "void" if value == VOID else classes.names[value]
        lines.append(f"{name:<20}{images[value]:>8}{100 * shares[value]:>12.2f}")
    return "\n".join(lines)


def write_summary(path: Path, entries: Mapping[str, dict], classes: ClassTable) -> None:
    """Write the share of the pixels and the mean confidence of every class in every image, as CSV."""
    rows = [["image", "class", "share", "confidence"]]
    for image_id, entry in entries.items():
        for value, share, confidence in entry["classes"]:
            name = "void" if value == VOID else classes.names[value]
            rows.append([image_id, name, f"{share:.6f}", f"{confidence:.4f}"])
    write_csv(path, rows)


def write_coco(
    path: Path, entries: Mapping[str, dict], files: Mapping[str, Path], out: Path, classes: ClassTable
) -> None:
    """Write the label maps of ``out`` as one COCO file with run-length codes.

    Args:
        entries: of the ledger, see `predict_images`.
        files: id -> the image that COCO's ``file_name`` refers to, relative to ``out``.
    """
    labels = (
        (relative_name(files[image_id], out), read_label(out / "labels" / f"{image_id}.png"))
        for image_id in Progress(entries, desc=path.name, unit="image")
    )
    _write_json(path, coco_content(labels, classes))


def _write_json(path: Path, content: dict) -> None:
    write_bytes(path, json.dumps(content, separators=(",", ":")).encode())
