"""What the merge changed, where no ground truth says whether for the better: classes, areas, the most changed images."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.plan import Plan
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.labels import label_path, read_label
from util.data.voc import VOID
from util.runtime.errors import InputError
from util.runtime.files import read_json, write_bytes, write_json
from util.runtime.parallel import run_parallel

VALUES = 256  # of a label map
SHOWN = 8  # images of the contact sheet


@dataclass(frozen=True)
class Change:
    """One image before and after the merge.

    Attributes:
        share: of its pixels that have another class now, 0 to 1.
        before, after: int64[256], pixels of each value; without CAM labels, all were background before.
    """

    image_id: str
    share: float
    before: np.ndarray
    after: np.ndarray


def change_of(before: Path | None, after: Path, image_id: str) -> Change | None:
    """Compare an image's label maps in two folders; None if one of them cannot be read, which the merge reported.

    Without the first folder the label map is compared with an empty one.
    """
    try:
        new = read_label(label_path(after, image_id))
        old = np.zeros_like(new) if before is None else read_label(label_path(before, image_id))
    except InputError:
        return None
    if old.shape != new.shape:
        return None
    counts = [np.bincount(label.ravel(), minlength=VALUES) for label in (old, new)]
    return Change(image_id, float((old != new).mean()), *counts)


def write_changes(plan: Plan, ids: Path) -> None:
    """Write OUT/changes.csv (a line per image, the most changed first) and OUT/changes.json."""
    work = partial(change_of, plan.cam_labels, plan.enhanced)
    workers = plan.settings.workers
    found = [
        change for change in run_parallel(work, read_id_list(ids), workers=workers, description="changes") if change
    ]
    found.sort(key=lambda change: (-change.share, change.image_id))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "changed_share"])
    rows.writerows([change.image_id, f"{change.share:.6f}"] for change in found)
    write_bytes(plan.out / "changes.csv", text.getvalue().encode())
    before, after = (np.array([getattr(change, name) for change in found]) for name in ("before", "after"))
    table = classes_of([plan.cam_labels, plan.image_labels], plan.class_names, ids=[each.image_id for each in found])
    names = {**dict(enumerate(table.names)), VOID: "void"}
    present = [value for value in names if before[:, value].any() or after[:, value].any()]
    write_json(
        plan.out / "changes.json",
        {
            "images": len(found),
            "changed_share": float(np.mean([change.share for change in found])),
            "most_changed": [[change.image_id, change.share] for change in found[:SHOWN]],
            "classes": {
                names[value]: {
                    "share_before": float(before[:, value].sum() / before.sum()),
                    "share_after": float(after[:, value].sum() / after.sum()),
                    "images_before": int((before[:, value] > 0).sum()),
                    "images_after": int((after[:, value] > 0).sum()),
                }
                for value in present
            },
        },
    )


def most_changed(plan: Plan) -> list[str]:
    """The ids of the contact sheet."""
    if plan.settings.dry_run:
        return ["MOST_CHANGED"]
    return [image_id for image_id, _ in read_json(plan.out / "changes.json")["most_changed"]]


def table(plan: Plan) -> str:
    """The changes for a terminal, in per cent."""
    found = read_json(plan.out / "changes.json")
    method = plan.chosen()
    lines = [f"Pseudo labels of {plan.train}: {found['images']} images, no ground truth; share of the pixels"]
    if plan.cam_labels is None:
        lines.append(f"{'':<24}{method:>12} {'images':>8}")
        for name, row in found["classes"].items():
            lines.append(f"{name:<24}{100 * row['share_after']:12.2f} {row['images_after']:8}")
        lines.append(
            f"not background, void included: {100 * found['changed_share']:.2f} % of an image's pixels on average"
        )
    else:
        lines.append(f"{'':<24}{'CAM labels':>12} {method:>12} {'images':>8} {'then':>8}")
        for name, row in found["classes"].items():
            shares = f"{100 * row['share_before']:12.2f} {100 * row['share_after']:12.2f}"
            lines.append(f"{name:<24}{shares} {row['images_before']:8} {row['images_after']:8}")
        lines.append(f"changed by {method}: {100 * found['changed_share']:.2f} % of an image's pixels on average")
    if found["most_changed"]:
        image_id, share = found["most_changed"][0]
        lines.append(f"most in {image_id}: {100 * share:.2f} %; the others are in {plan.out / 'changes.csv'}")
    return "\n".join(lines)
