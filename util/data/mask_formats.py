"""What the JSON files of segment-anything, COCO, labelme and transformers say of the masks of one image."""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from util.data.images import open_image
from util.data.mask_images import mask_of_image, stack_of
from util.runtime.errors import InputError

KNOWN = "SA-1B, amg.py --convert-to-rle, COCO of one image, labelme, transformers"
MOST_CROSSINGS = 1 << 26  # of the outline of one mask with the columns of pixels


@dataclass(frozen=True)
class Found:
    """What a file holds.

    Attributes:
        height, width: of the image.
        codes: COCO run-length codes, compressed or lists of int, one per mask.
        about: one dict per mask, with SA-1B's names.
        names: the image's id, file name and the like, as far as the file has them.
    """

    height: int
    width: int
    codes: list
    about: list[dict]
    names: list[Any] = field(default_factory=list)


def parse_masks(content: Any, path: Path, size: tuple[int, int] | None) -> Found:
    """The masks of a JSON file, by its content.

    Args:
        size: (height, width) of the image, for files that do not say it.

    Raises:
        InputError: if it is of no known format, holds a whole data set, or is damaged.
    """
    kind, parse = "SA-1B's mask", _of_sa1b
    if isinstance(content, list):
        kind, parse = "amg.py's", _of_list
    elif isinstance(content, dict) and "image" not in content:
        for key, other, name in (
            ("images", _of_coco, "COCO's"),
            ("shapes", _of_labelme, "labelme's"),
            ("rle_mask", _of_transformers, "transformers' mask"),
            ("masks", _of_transformers, "transformers' mask"),
            ("annotations", _of_grounded_sam, "Grounded SAM 2's"),
        ):
            if key in content:
                kind, parse = name, other
                break
    try:
        return parse(content, path, size)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(
            f"{path}: not in {kind} format ({type(error).__name__}: {error}); formats that are read: {KNOWN}. "
            "Make it with generate_sam_masks.py"
        ) from None


def _of_sa1b(content: Any, path: Path, size: tuple[int, int] | None) -> Found:
    image, annotations = content["image"], content["annotations"]
    found = _of_annotations(annotations, (int(image["height"]), int(image["width"])), path)
    found.names.extend(name for name in (image.get("image_id"), image.get("file_name")) if name is not None)
    return found


def _of_list(content: list, path: Path, size: tuple[int, int] | None) -> Found:
    """A list of annotations, as amg.py writes it or segment-anything's generator gives it, or of codes."""
    if content and isinstance(content[0], dict) and {"box", "confidence"} <= content[0].keys():
        raise InputError(
            f"{path}: objects as Ultralytics writes them; save result.masks.data as {path.stem}.npy, an array KxHxW of 0 and 1"
        )
    annotations = [{"segmentation": item} if "counts" in item else item for item in content]
    first = annotations[0]["segmentation"] if annotations else None
    own = _size_of(first, size)
    if own is None:
        raise ValueError("a list that does not say the size of its image as SA-1B's format does")
    images = {annotation["image_id"] for annotation in annotations if "image_id" in annotation}
    if len(images) > 1:
        raise InputError(
            f"{path}: annotations of {len(images)} images, where the masks of one belong; write one file per image, <id>.json"
        )
    found = _of_annotations(annotations, (int(own[0]), int(own[1])), path)
    found.names.extend(name for name in images if isinstance(name, str))
    return found


def _size_of(segmentation: Any, size: tuple[int, int] | None) -> Sequence[int] | None:
    """Of a mask that says it: run lengths, an array, or nested lists, unless these may be polygons."""
    if isinstance(segmentation, dict):
        return segmentation.get("size", size)
    if isinstance(segmentation, list) and (size is not None or len({len(row) for row in segmentation}) > 1):
        return size
    return size if segmentation is None else np.shape(segmentation)


def _of_grounded_sam(content: dict, path: Path, size: tuple[int, int] | None) -> Found:
    """Annotations with the size beside them, as Grounded SAM 2 writes them."""
    height, width = (content.get(side, content.get(f"img_{side}")) for side in ("height", "width"))
    return _of_list(content["annotations"], path, (int(height), int(width)) if height and width else size)


def _of_coco(content: dict, path: Path, size: tuple[int, int] | None) -> Found:
    images = content["images"]
    if len(images) != 1:
        raise InputError(
            f"{path}: a file of COCO's format for {len(images)} images, where the masks of one belong; write one file per "
            "image, <id>.json, with its entry of images and its annotations"
        )
    others = {a["image_id"] for a in content["annotations"]} - {images[0]["id"]}
    if others:
        raise ValueError(f"annotations of image {min(others)!r}, where the file has image {images[0]['id']!r} only")
    return _of_sa1b({"image": {"image_id": images[0]["id"], **images[0]}, **content}, path, size)


def _of_labelme(content: dict, path: Path, size: tuple[int, int] | None) -> Found:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    shape = (int(height), int(width)) if height and width else size
    if shape is None:
        raise ValueError("no imageHeight and imageWidth")
    groups: dict[object, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, item in enumerate(content["shapes"]):
        group = item.get("group_id")
        groups.setdefault(number if group is None else f"group {group}", []).append(_shape_runs(item, *shape, path))
    codes = [_counts(runs, *shape) for runs in groups.values()]
    return Found(*shape, codes, [{}] * len(codes), [content["imagePath"]] if content.get("imagePath") else [])


def _of_transformers(content: dict, path: Path, size: tuple[int, int] | None) -> Found:
    """The output of its pipeline ``mask-generation``, with ``output_rle_mask`` or with arrays; scores by SAM's names as well."""
    if "masks" in content and any(isinstance(mask, dict) for mask in content["masks"]):
        found = _of_list(list(content["masks"]), path, size)
    elif "rle_mask" in content:
        found = _of_list([{"segmentation": code} for code in content["rle_mask"]], path, size)
    else:
        found = found_in_stack(stack_of(content["masks"], path, size))
    about = [dict(entry) for entry in found.about]
    for name, keys in (
        ("predicted_iou", ("predicted_iou", "iou_preds", "scores")),
        ("stability_score", ("stability_score",)),
    ):
        rows = (np.ravel(content[key]).astype(float).tolist() for key in keys if key in content)
        if not (scores := next(filter(None, rows), None)):
            continue
        if len(scores) != len(about):
            raise ValueError(f"{len(scores)} scores of {len(about)} masks")
        for entry, score in zip(about, scores):
            entry[name] = score
    return Found(found.height, found.width, found.codes, about)


def found_in_stack(stack: np.ndarray) -> Found:
    """Masks of bool KxHxW."""
    codes = [_counts([_edges(mask.ravel(order="F"))], *mask.shape) for mask in stack]
    return Found(stack.shape[1], stack.shape[2], codes, [{}] * len(codes))


def _of_annotations(annotations: list[dict], shape: tuple[int, int], path: Path) -> Found:
    height, width = shape
    if not 0 < height * width <= 2**31 - 1 or height < 0:
        raise InputError(f"{path}: says the image is {width}x{height} pixels; the file is damaged, make it again")
    codes, sizes, outlines = [], set(), []
    for annotation in annotations:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            codes.append(_code_of(segmentation["counts"]))
            sizes.add(tuple(segmentation.get("size", shape)))
            if isinstance(codes[-1], list) and "bbox" in annotation:
                _check_order(codes[-1], annotation["bbox"], shape, path)
        elif _is_dense(segmentation, shape):
            codes += found_in_stack(stack_of(segmentation, path)).codes
        elif isinstance(segmentation, list):
            outlines.append([np.reshape(np.asarray(outline, float), (-1, 2)) for outline in segmentation])
            codes.append(_counts([polygon_runs(outline, height, width) for outline in outlines[-1]], height, width))
        else:
            raise ValueError(f"a segmentation that is an array of shape {np.shape(segmentation)}, not {shape}")
    points = [outline for mask in outlines for outline in mask]
    if points and all((each >= 0).all() and (each <= 1).all() for each in points) and min(shape) > 2:
        raise InputError(
            f"{path}: polygons whose points are all from 0 to 1: shares of the image's width and height, as YOLO has them, "
            "or masks of one pixel; give them in pixels"
        )
    if sizes - {shape}:
        others = ", ".join(sorted(map(str, sizes - {shape})))[:200]
        raise InputError(f"{path}: image {height}x{width}, but masks of {others}; make the file again")
    return Found(height, width, codes, annotations)


def _is_dense(segmentation: Any, shape: tuple[int, int]) -> bool:
    """Whether it is an array or nested lists HxW; polygons in several parts are lists of unequal length."""
    if not isinstance(segmentation, list):
        return np.shape(segmentation) == shape
    return len(segmentation) == shape[0] and all(np.ndim(row) == 1 and len(row) == shape[1] for row in segmentation)


def _code_of(counts: Any) -> Any:
    """Counts as they were meant: ``str`` of bytes, which Python writes as ``b'...'``, less what it adds."""
    quoted = isinstance(counts, str) and re.fullmatch(r"b'[^']*'", counts)
    return ast.literal_eval(counts).decode() if quoted else counts


def _check_order(counts: list, box: Any, shape: tuple[int, int], path: Path) -> None:
    """Raise InputError if run lengths fit their box only when read along rows, where COCO's go along columns."""
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != shape[0] * shape[1]:
        return  # they are no run lengths
    bounds = np.cumsum(counts)[: len(counts) // 2 * 2].reshape(-1, 2)
    first, last = bounds[bounds[:, 1] > bounds[:, 0]][[0, -1], [0, 1]] if any(counts[1::2]) else (0, 0)
    left, top, width, height = map(float, box)
    column, row = ((first // side + (last - 1) // side) / 2 for side in shape)  # the middle, by either order
    if last and abs(column - left - width / 2) > 2 and abs(row - top - height / 2) <= 2:
        raise InputError(
            f"{path}: run lengths that fit their bbox only when they are read along the rows of the image; COCO's go along "
            "its columns. Write them in that order (pycocotools.mask.encode does)"
        )


def pasted(part: np.ndarray, corner: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A bool mask of ``shape`` with a smaller one at ``corner`` (x, y), as labelme has masks; what reaches beyond is cut off."""
    left, top = np.round(corner).astype(int)
    whole = np.zeros(shape, bool)
    inside = whole[max(0, top) : max(0, top + part.shape[0]), max(0, left) : max(0, left + part.shape[1])]
    inside |= part[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]]
    return whole


def _shape_runs(item: dict, height: int, width: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The runs of a shape of labelme."""
    kind, points = item.get("shape_type") or "polygon", np.reshape(np.asarray(item["points"], float), (-1, 2))
    if kind == "mask":
        with open_image(base64.b64decode(item["mask"]), path, "mask") as image:
            part = mask_of_image(image, path)
        return _edges(pasted(part, points[0], (height, width)).ravel(order="F"))
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif kind == "circle":
        angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind != "polygon":
        raise InputError(f"{path}: a shape of the kind {kind!r}, which has no area; delete it, or draw a polygon")
    return polygon_runs(points, height, width)


def polygon_runs(points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels whose centres are inside an outline, as runs along COCO's order.

    Args:
        points: float Nx2, x and y, where the first pixel spans 0 to 1.

    Returns:
        int64 R and int64 R: starts and ends, ascending, without overlap; see `util.data.masks.Masks`.

    Raises:
        ValueError: for fewer than three points, or points that are not finite.
    """
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    if not np.isfinite(points).all():
        raise ValueError("a polygon with a point that is not finite")
    x, y = np.clip(points, -1e9, 1e9).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    # The columns whose centres an edge crosses: one end belongs to it and one does not, so that each is crossed an even
    # number of times.
    first = np.clip(np.ceil(np.minimum(x, to_x) - 0.5), 0, width).astype(np.int64)
    number = np.clip(np.ceil(np.maximum(x, to_x) - 0.5), 0, width).astype(np.int64) - first
    if number.sum() > MOST_CROSSINGS:
        raise ValueError(f"a polygon that crosses the image {number.sum()} times")
    edge = np.repeat(np.arange(len(x)), number)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(number) - number - first, number)
    slope = (to_y - y)[edge] / (to_x - x)[edge]
    row = np.ceil(y[edge] + (column + 0.5 - x[edge]) * slope - 0.5)
    position = column * height + np.clip(row, 0, height).astype(np.int64)
    position = position[np.lexsort((row, column))]
    starts, ends = position[::2], position[1::2]
    return starts[starts < ends], ends[starts < ends]


def _edges(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of True in bool N."""
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    return edges[::2], edges[1::2]


def _counts(runs: Sequence[tuple[np.ndarray, np.ndarray]], height: int, width: int) -> list[int]:
    """The run lengths of a mask with all the pixels of several."""
    starts, ends = (np.concatenate([np.zeros(0, np.int64), *(part[side] for part in runs)]) for side in (0, 1))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    apart = np.append(True, starts[1:] > ends[:-1])[: len(starts)]
    starts, ends = starts[apart], ends[np.append(apart[1:], True)[: len(ends)]]
    bounds = np.stack([starts, ends], axis=1).ravel()
    return np.diff(bounds, prepend=0, append=height * width).tolist()
