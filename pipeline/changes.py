"""What the merge changed, where no ground truth says whether for the better: classes, areas, the most changed images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.plan import Plan
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.labels import label_path, read_label
from util.data.mask_files import read_masks
from util.data.masks import Masks
from util.data.voc import VOID
from util.runtime.errors import InputError
from util.runtime.files import read_json, write_csv, write_json
from util.runtime.parallel import run_parallel

VALUES = 256  # of a label map
SHOWN = 8  # images of the contact sheet


@dataclass(frozen=True)
class Change:
    """One image before and after the merge.

    Attributes:
        share: of its pixels that have another class now, 0 to 1.
        before, after: int64[256], pixels of each value; without CAM labels, all were background before.
        agreed_before, agreed_after: see `agreement`.
    """

    image_id: str
    share: float
    before: np.ndarray
    after: np.ndarray
    agreed_before: tuple[int, int]
    agreed_after: tuple[int, int]


def agreement(label: np.ndarray, masks: Masks) -> tuple[int, int]:
    """How far the edges of a label map are those of masks, measured on the masks that hold a pixel of a class.

    Args:
        label: uint8 HxW.
        masks: of the image.

    Returns:
        how many of their pixels have their mask's most frequent value, and how many pixels they have.
    """
    values = np.unique(label)
    counts = masks.overlaps(label, values)
    touched = counts[:, (values > 0) & (values < VOID)].any(1)
    return int(counts[touched].max(1, initial=0).sum()), int(counts[touched].sum())


def change_of(before: Path | None, after: Path, mask_folder: Path, image_id: str) -> Change | None:
    """Compare an image's label maps in two folders; None if a file cannot be read, which the merge reported.

    Without the first folder the label map is compared with an empty one.
    """
    try:
        new = read_label(label_path(after, image_id))
        old = np.zeros_like(new) if before is None else read_label(label_path(before, image_id))
        masks = read_masks(mask_folder, image_id, new.shape)
    except InputError:
        return None
    if old.shape != new.shape:
        return None
    before_counts, after_counts = (np.bincount(label.ravel(), minlength=VALUES) for label in (old, new))
    share = float((old != new).mean())
    return Change(image_id, share, before_counts, after_counts, agreement(old, masks), agreement(new, masks))


def write_changes(plan: Plan, ids: Path) -> None:
    """Write OUT/changes.csv (a line per image, the most changed first) and OUT/changes.json."""
    work = partial(change_of, plan.cam_labels, plan.merged, plan.masks)
    workers = plan.settings.workers
    found = [
        change
        for change in run_parallel(work, read_id_list(ids, plan.images), workers=workers, description="changes")
        if change
    ]
    if not found:
        raise InputError("no image could be merged, see above; check the labels and the masks")
    found.sort(key=lambda change: (-change.share, change.image_id))
    rows = ([change.image_id, f"{change.share:.6f}"] for change in found)
    write_csv(plan.out / "changes.csv", [["id", "changed_share"], *rows])
    before, after = (np.array([getattr(change, name) for change in found]) for name in ("before", "after"))
    # Each image counts alike, or photos of 12 megapixels would hide the others.
    shares = [(side / side.sum(1, keepdims=True)).mean(0) for side in (before, after)]
    table = classes_of([plan.cam_labels, plan.image_labels], plan.class_names, ids=[each.image_id for each in found])
    names = {**dict(enumerate(table.names)), VOID: "void"}
    present = [value for value in names if before[:, value].any() or after[:, value].any()]
    write_json(
        plan.out / "changes.json",
        {
            "images": len(found),
            "changed_share": float(np.mean([change.share for change in found])),
            "agreement": {
                name: _ratio([getattr(change, f"agreed_{name}") for change in found]) for name in ("before", "after")
            },
            "most_changed": [[change.image_id, change.share] for change in found[:SHOWN]],
            "classes": {
                names[value]: {
                    "share_before": float(shares[0][value]),
                    "share_after": float(shares[1][value]),
                    "images_before": int((before[:, value] > 0).sum()),
                    "images_after": int((after[:, value] > 0).sum()),
                }
                for value in present
            },
        },
    )


def _ratio(pairs: list[tuple[int, int]]) -> float | None:
    """Hits of all pairs by pixels of all; None without a pixel."""
    hits, pixels = np.sum(pairs, 0)
    return float(hits / pixels) if pixels else None


def most_changed(plan: Plan) -> list[str]:
    """The ids of the contact sheet."""
    if plan.settings.dry_run:
        return ["<the most changed images>"]
    return [image_id for image_id, _ in read_json(plan.out / "changes.json")["most_changed"]]


def table(plan: Plan) -> str:
    """The changes for a terminal, in per cent."""
    found = read_json(plan.out / "changes.json")
    method = plan.shown()
    title = f"Pseudo labels of {plan.train}: {found['images']} images, no ground truth"
    if plan.cam_labels is None:
        lines = [f"{title}; mean share of an image, %", f"{'':<24}{method:>12} {'images':>8}"]
        for name, row in found["classes"].items():
            lines.append(f"{name:<24}{100 * row['share_after']:12.2f} {row['images_after']:8}")
        lines.append(
            f"not background, void included: {100 * found['changed_share']:.2f} % of an image's pixels on average"
        )
    else:
        lines = [title, *_changed_lines(found, method)]
    if found["most_changed"]:
        image_id, share = found["most_changed"][0]
        lines.append(f"most in {image_id}: {100 * share:.2f} %; the others are in {plan.out / 'changes.csv'}")
    return "\n".join(lines)


def _changed_lines(found: dict, method: str) -> list[str]:
    """The classes before and after the merge, the area that it changed, and the agreement of labels and masks."""
    lines = [
        f"{f'CAM labels -> {method}':<32}{'mean share of an image, %':>25}   {'images that show it':>20}",
    ]
    for name, row in found["classes"].items():
        shares = f"{100 * row['share_before']:.2f} -> {100 * row['share_after']:.2f}"
        images = f"{row['images_before']} -> {row['images_after']}"
        lines.append(f"{name:<32}{shares:>25}   {images:>20}")
    lines.append(f"changed by {method}: {100 * found['changed_share']:.2f} % of an image's pixels on average")
    if found["agreement"]["before"] is not None and found["agreement"]["after"] is not None:
        before, after = (100 * found["agreement"][name] for name in ("before", "after"))
        lines.append(
            f"agreement with the masks: {before:.2f} % -> {after:.2f} %; at 100 % labels end exactly where masks do, and a merge "
            "should raise it. It is the share of pixels that have their mask's most frequent class"
        )
    return lines
