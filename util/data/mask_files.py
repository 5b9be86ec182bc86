"""Reading and writing masks: SA-1B's JSON, plain or compressed, and folders of PNG files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from util.data.masks import Masks
from util.runtime.errors import InputError
from util.runtime.files import check_id, parse_json, read_bytes, write_bytes

EXTRA = ("point_coords", "crop_box", "category", "score")  # what an annotation may have beside its mask
SUFFIXES = (".json", ".json.gz")  # of mask files
LARGEST_JSON = 256 << 20  # bytes that a compressed mask file may unpack to


def read_masks(folder: str | os.PathLike, image_id: str, size: tuple[int, int] | None = None) -> Masks:
    """Read an image's masks in any known format.

    ``folder/<id>.json`` in SA-1B's format, the same compressed as ``folder/<id>.json.gz``, else a folder
    ``folder/<id>/`` of 0/255 PNG files, with the ``metadata.csv`` of segment-anything's ``amg.py`` where there is one.

    Args:
        size: (height, width) that the masks must have.

    Raises:
        InputError: if nothing is there, it is damaged, belongs to another image, or has another size.
    """
    path = masks_path(folder, image_id)
    return decode_masks(None if path.is_dir() else read_bytes(path), path, image_id, size)


def masks_path(folder: str | os.PathLike, image_id: str) -> Path:
    """Where an image's masks lie: a JSON file, plain or compressed, or a folder of PNG files.

    Raises:
        InputError: if there is none, or both files, of which one may be old.
    """
    check_id(image_id)
    files = [path for suffix in SUFFIXES if (path := Path(folder) / f"{image_id}{suffix}").is_file()]
    if len(files) > 1:
        raise InputError(f"{folder}: both {files[0].name} and {files[1].name} are there; delete the one that is old")
    if files:
        return files[0]
    if (pngs := Path(folder) / image_id).is_dir():
        return pngs
    names = ", ".join(f"{image_id}{suffix}" for suffix in SUFFIXES)
    raise InputError(
        f"{folder}: no masks for {image_id} (looked for {names} and the folder {image_id}/); "
        "make them with generate_sam_masks.py"
    )


def masks_bytes(path: Path) -> bytes:
    """The bytes that an image's masks are made of, for telling whether they changed."""
    if path.is_dir():
        return b"".join(read_bytes(file) for file in sorted(path.iterdir()) if file.suffix in (".png", ".csv"))
    return read_bytes(path)


def decode_masks(
    data: bytes | None, path: Path, image_id: str | None = None, size: tuple[int, int] | None = None
) -> Masks:
    """Masks from the bytes of a JSON file, plain or compressed, or from the folder ``path`` when ``data`` is None."""
    masks = _read_folder(path) if data is None else _parse_sa1b(_plain(data, path), path, image_id)
    if size is not None and masks is not None and masks.shape != tuple(size):
        raise InputError(
            f"{path}: masks of {masks.width}x{masks.height} pixels, but the label is {size[1]}x{size[0]}; "
            "make both from the same picture"
        )
    if masks is None:  # an empty folder says nothing of the size
        if size is None:
            raise InputError(f"{path}: the folder holds no mask; make it again")
        return Masks.from_dense(np.zeros((0, *size), bool))
    return masks


def _plain(data: bytes, path: Path) -> bytes:
    """The JSON of a mask file; compressed ones are told by their first bytes."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, LARGEST_JSON)
    except zlib.error as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); make it again") from None
    if unpacker.unconsumed_tail:
        raise InputError(f"{path}: unpacks to more than {LARGEST_JSON >> 20} MiB, which no masks take; make it again")
    if not unpacker.eof or unpacker.unused_data:
        raise InputError(f"{path}: not a whole gzip file (its end is missing, or not its own); make it again")
    return plain


def repack(source: Path, target: Path) -> None:
    """Write the mask file ``source`` as ``target``, compressed or plain as its name says."""
    _write_json_bytes(target, _plain(read_bytes(source), source))


def _write_json_bytes(path: Path, data: bytes) -> None:
    # No time and no name inside, so that the same masks are the same bytes.
    write_bytes(path, gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)


def _about(annotation: dict) -> dict:
    """What an annotation has beside its mask.

    Raises:
        TypeError or ValueError: if its category is not a name or its score is not a number.
    """
    about = {key: annotation[key] for key in EXTRA if key in annotation}
    if not isinstance(about.get("category", ""), str):
        raise TypeError(f"category {about['category']!r} is not the name of a class")
    if "score" in about:
        about["score"] = float(about["score"])
    return about


def _parse_sa1b(data: bytes, path: Path, image_id: str | None) -> Masks:
    content = parse_json(data, path)
    try:
        image, annotations = content["image"], content["annotations"]
        height, width = int(image["height"]), int(image["width"])
        segmentations = [annotation["segmentation"] for annotation in annotations]
        codes = [segmentation["counts"] for segmentation in segmentations]
        sizes = {tuple(segmentation["size"]) for segmentation in segmentations}
        iou = [float(a.get("predicted_iou", np.nan)) for a in annotations]
        stability = [float(a.get("stability_score", np.nan)) for a in annotations]
        extra = [_about(annotation) for annotation in annotations]
        owner = image.get("image_id")
        file_name = image.get("file_name")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not in SA-1B's mask format ({type(error).__name__}: {error}); make it with generate_sam_masks.py"
        ) from None
    if not 0 < height * width <= 2**31 - 1 or height < 0:
        raise InputError(f"{path}: says the image is {width}x{height} pixels; the file is damaged, make it again")
    if sizes - {(height, width)}:
        others = ", ".join(sorted(map(str, sizes - {(height, width)})))[:200]
        raise InputError(f"{path}: image {height}x{width}, but masks of {others}; make the file again")
    # SA-1B itself numbers its images; there the file name tells.
    names = {str(owner), Path(str(file_name)).stem}
    if image_id is not None and (owner is not None or file_name) and image_id not in names:
        raise InputError(f"{path}: holds the masks of {owner!r}, not of {image_id!r}; put each file under its own id")
    try:
        return Masks.from_counts((height, width), codes, iou, stability, extra)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_folder(path: Path) -> Masks | None:
    files = sorted((f for f in path.iterdir() if f.suffix == ".png"), key=lambda f: (len(f.stem), f.stem))
    dense = []
    for file in files:
        try:
            with Image.open(file) as image:
                dense.append(np.asarray(image.convert("L")) > 127)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{file}: not a readable mask ({error}); make it again") from None
        if dense[-1].shape != dense[0].shape:
            raise InputError(f"{file}: differs in size from {files[0].name}; make the folder again")
    if not dense:
        return None
    scores = _amg_metadata(path / "metadata.csv")
    known = [scores.get(file.stem, (np.nan, np.nan)) for file in files]
    return Masks.from_dense(np.stack(dense), [k[0] for k in known], [k[1] for k in known])


def _amg_metadata(path: Path) -> dict[str, tuple[float, float]]:
    """id -> (predicted IoU, stability score), from the table that ``amg.py`` writes."""
    if not path.is_file():
        return {}
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(path).decode()))
        return {row["id"]: (float(row["predicted_iou"]), float(row["stability_score"])) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the metadata.csv of amg.py ({error}); make it again") from None


def write_masks(path: str | os.PathLike, masks: Masks, image_id: str, file_name: str) -> None:
    """Write masks as SA-1B JSON, atomically, compressed if ``path`` ends in ``.gz``; unknown scores are left out."""
    annotations = []
    for k, code in enumerate(masks.counts()):
        annotation = {
            "segmentation": {"size": [masks.height, masks.width], "counts": code},
            "bbox": [int(v) for v in masks.boxes[k]],
            "area": int(masks.areas[k]),
            **{
                name: float(values[k])
                for name, values in (
                    ("predicted_iou", masks.predicted_iou),
                    ("stability_score", masks.stability_score),
                )
                if not np.isnan(values[k])
            },
            **(masks.extra[k] if masks.extra else {}),
            "id": k,
        }
        annotations.append(annotation)
    image = {"image_id": image_id, "width": masks.width, "height": masks.height, "file_name": file_name}
    content = {"image": image, "annotations": annotations}
    _write_json_bytes(Path(path), json.dumps(content, separators=(",", ":")).encode())
