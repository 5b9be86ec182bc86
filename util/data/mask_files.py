"""Reading and writing an image's masks: JSON files, plain or compressed, arrays, and folders of mask images."""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from util.data.ids import id_or_none
from util.data.mask_formats import found_in_stack, parse_masks
from util.data.mask_images import SUFFIXES as MASK_SUFFIXES
from util.data.mask_images import TABLE, read_mask_folder, stack_of
from util.data.masks import Masks
from util.data.npy import PICKLES, decode_npy
from util.runtime.errors import InputError
from util.runtime.files import check_id, check_name, find_file, list_files, parse_json, read_bytes, write_bytes

EXTRA = ("point_coords", "crop_box", "category", "score", "prompt")  # what an annotation may have beside its mask
SUFFIXES = (".json", ".json.gz")  # of the mask files that this project writes
ARRAYS = (".npy", ".npz", *PICKLES)
LEAST_BOX_IOU = 0.5  # of a mask's box with that of a detector
MOST_SCORE = 20.0  # SAM's own estimates pass 1 a little, those of an untrained network more
LARGEST_JSON = 256 << 20  # bytes that a compressed mask file may unpack to


def read_masks(folder: str | os.PathLike, image_id: str, size: tuple[int, int] | None = None) -> Masks:
    """Read an image's masks in any known format.

    ``folder/<id>.json`` of SA-1B's format or one of those of `util.data.mask_formats`, the same compressed as
    ``folder/<id>.json.gz``, arrays as ``folder/<id>.npy`` or ``.npz``, else a folder ``folder/<id>/`` of mask images (see
    `util.data.mask_images`), with the ``metadata.csv`` of segment-anything's ``amg.py`` where there is one.

    Args:
        size: (height, width) that the masks must have.

    Raises:
        InputError: if nothing is there, it is damaged, belongs to another image, or has another size.
    """
    path = masks_path(folder, image_id)
    return decode_masks(None if path.is_dir() else read_bytes(path), path, image_id, size)


def masks_path(folder: str | os.PathLike, image_id: str) -> Path:
    """Where an image's masks are: a JSON file, plain or compressed, a file of arrays, or a folder of mask images.

    Raises:
        InputError: if there is none, or more than one, of which all but one may be old.
    """
    check_id(image_id)
    place, known = os.path.join(folder, image_id), (*SUFFIXES, *ARRAYS)
    found = {f"{image_id}{suffix}": place + suffix for suffix in known if os.path.isfile(place + suffix)}
    if os.path.isdir(place):
        found[f"the folder {image_id}"] = place
    if len(found) > 1:
        raise InputError(f"{folder}: both {' and '.join([*found][:2])} are there; delete the one that is old")
    if found:
        return check_name(Path(*found.values()))
    try:
        return find_file(folder, image_id, known, "masks")  # in capitals, or with letters in another form
    except InputError as error:
        raise InputError(
            f"{error} (or the folder {image_id}/ with one file per mask); make them with generate_sam_masks.py"
        ) from None


def masks_bytes(path: Path) -> bytes:
    """The bytes that an image's masks are made of, to see whether they changed."""
    if path.is_dir():
        return b"".join(map(read_bytes, list_files(path, (*MASK_SUFFIXES, TABLE))))
    return read_bytes(path)


def decode_masks(
    data: bytes | None, path: Path, image_id: str | None = None, size: tuple[int, int] | None = None
) -> Masks:
    """Masks from the bytes of the file ``path``, or from the folder ``path`` when ``data`` is None."""
    masks = read_mask_folder(path) if data is None else _decode_file(data, path, image_id, size)
    if masks is None:  # an empty folder, which says nothing of the size
        if size is None:
            raise InputError(f"{path}: the folder holds no mask; make it again")
        return Masks.from_dense(np.zeros((0, *size), bool))
    if size is not None and masks.shape != tuple(size):
        turned = " (the sides are swapped: one may be of the image before its EXIF rotation)"
        raise InputError(
            f"{path}: masks of {masks.width}x{masks.height} pixels, but the label is {size[1]}x{size[0]}"
            f"{turned if masks.shape == tuple(size)[::-1] else ''}; make both from the same image"
        )
    return masks


def _plain(data: bytes, path: Path) -> bytes:
    """The JSON of a mask file; compressed ones are known by their first bytes."""
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
    if about.get("score", 0) is None:
        del about["score"]
    elif "score" in about:
        (about["score"],) = np.ravel(about["score"]).astype(float).tolist()  # Grounded SAM 2 writes [0.9]
    return about


def _unpacked(value: Any) -> Any:
    """What ``np.savez(file, masks)`` or ``np.savez(file, *masks)`` was given; a tuple as a list."""
    if isinstance(value, dict) and len(value) == 1 and "rle_mask" not in value:
        (value,) = value.values()
    elif isinstance(value, dict) and value and all(re.fullmatch(r"arr_\d+", str(name)) for name in value):
        value = list(value.values())
    return list(value) if isinstance(value, tuple) else value


def _decode_file(data: bytes, path: Path, image_id: str | None, size: tuple[int, int] | None) -> Masks:
    if path.suffix.lower() in ARRAYS:
        value = _unpacked(decode_npy(data, path))
        is_stack = not isinstance(value, dict | list) or (value and all(isinstance(v, np.ndarray) for v in value))
        found = found_in_stack(stack_of(value, path, size)) if is_stack else parse_masks(value, path, size)
    else:
        found = parse_masks(parse_json(_plain(data, path), path), path, size)
    try:
        iou, stability = (
            [np.nan if about.get(name) is None else float(about[name]) for about in found.about]
            for name in ("predicted_iou", "stability_score")
        )
        extra = [_about(about) for about in found.about]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not in SA-1B's mask format ({type(error).__name__}: {error}); make it with generate_sam_masks.py"
        ) from None
    if (most := np.nanmax([0.0, *iou, *stability])) > MOST_SCORE:
        raise InputError(
            f"{path}: scores up to {most:g}, where SAM's run from 0 to 1; divide them by 100 if they are per cent"
        )
    # SA-1B itself numbers its images; there the file name decides.
    own = image_id is None or not found.names or image_id in map(str, found.names)
    if not own and image_id not in map(id_or_none, found.names):
        raise InputError(
            f"{path}: holds the masks of {found.names[0]!r}, not of {image_id!r}; put each file under its own id"
        )
    try:
        masks = Masks.from_counts((found.height, found.width), found.codes, iou, stability, extra)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    _check_boxes(masks, found.about, path)
    return masks


def _check_boxes(masks: Masks, about: list[dict], path: Path) -> None:
    """Raise InputError if most masks are elsewhere than the boxes that the file has beside them."""
    given = [
        (box, each["bbox"])
        for box, each in zip(masks.boxes, about)
        if box[2] and len(each.get("bbox") or ()) == 4  # the mask is not empty
    ]
    if not given:
        return
    found, told = (np.array([pair[side] for pair in given], float) for side in (0, 1))
    corners = np.hstack([told[:, :2], told[:, 2:] - told[:, :2]])  # where these are two corners
    here, swapped = (_are_alike(boxes, told) | _are_alike(boxes, corners) for boxes in (found, found[:, [1, 0, 3, 2]]))
    if 2 * here.sum() >= len(given):
        return
    how = "fit only with x and y swapped" if 2 * swapped.sum() > len(given) else "do not fit"
    raise InputError(
        f"{path}: masks and bbox {how}: the masks may be transposed, or of another image; make the file again, or leave out bbox"
    )


def _are_alike(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """bool N: whether boxes Nx4 (x, y, width, height) have an IoU of at least LEAST_BOX_IOU, or differ by two pixels at most.

    segment-anything's own are a pixel too narrow, and of no width for the smallest masks.
    """
    low = np.maximum(one[:, :2], two[:, :2])
    both = np.clip(np.minimum(one[:, :2] + one[:, 2:], two[:, :2] + two[:, 2:]) - low, 0, None).prod(axis=1)
    either = one[:, 2:].prod(axis=1) + np.clip(two[:, 2:], 0, None).prod(axis=1) - both
    return (both >= LEAST_BOX_IOU * np.maximum(either, 1e-9)) | (np.abs(one - two).max(axis=1) <= 2)


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
