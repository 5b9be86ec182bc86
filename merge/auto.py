"""auto: `grow` where labels are better than masks, `contrast` where masks are better, `max_iou_imp2` where both are poor.

The merge stage decides once for a data set, by what masks and labels show without ground truth: whether the masks tile the
images without a predicted IoU (regions, not a SAM's), how many are good, how much they cover, and how far each is inside or
outside the labels as a whole. The bounds lie between the kinds of masks and labels in docs/strategies.md.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from merge import contrast, grow, max_iou_imp2
from util.data.masks import Masks
from util.data.voc import VOID
from util.runtime.errors import InputError

RULES = {
    "grow": "grow",
    "contrast": "contrast",
    "contrast-alone": "contrast, and what is under no mask is background",
    "max_iou_imp2": "max_iou_imp2",
}
ORDER_MATTERS = contrast.ORDER_MATTERS
GOOD, TO_ASK = 0.85, 0.75  # quality of a good mask, and of one that is asked how it agrees with the labels
TILED, MOSTLY, SPARSE, AGREED = 0.95, 0.5, 0.45, 0.83
LEAST_INSIDE = 0.05  # of a mask inside the label, for the mask to be asked


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    rule: str = "",
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        rule: a key of `RULES`; the merge stage sets it for the whole data set. Empty: decided by this image alone.
    """
    rule = rule or choose(measure(label, masks))
    if rule == "grow":
        return grow.merge(label, masks, tags=tags, cam=cam)
    if rule == "max_iou_imp2":
        return max_iou_imp2.merge(label, masks)
    if rule in RULES:
        return contrast.merge(label, masks, tags=tags, cam=cam, keep=rule == "contrast")
    raise InputError(f"--param rule={rule}: no such rule; choose one of {', '.join(RULES)}")


@dataclass(frozen=True)
class Signals:
    """What images show of their masks, as sums, so that those of several images add up.

    Attributes:
        pixels, covered: of the images, and those under a mask.
        masks, scored, good: how many masks there are, have a predicted IoU, and are good.
        asked, agreeing: pixels of the masks that touch the label, and for each of these masks the pixels inside the label or
            those outside, whichever are more.
    """

    pixels: int = 0
    covered: int = 0
    masks: int = 0
    scored: int = 0
    good: int = 0
    asked: int = 0
    agreeing: int = 0

    def __add__(self, other: Signals) -> Signals:
        return Signals(*(one + two for one, two in zip(astuple(self), astuple(other))))

    def share(self, part: str, whole: str) -> float:
        """The ratio of two sums; 0 where there is nothing."""
        return getattr(self, part) / max(getattr(self, whole), 1)


def measure(label: np.ndarray, masks: Masks) -> Signals:
    """The signals of one image (label uint8 HxW)."""
    quality = np.fmin(masks.predicted_iou, masks.stability_score)
    scored = ~np.isnan(masks.predicted_iou)
    foreground = np.asfortranarray((label > 0) & (label < VOID), np.uint8)
    inside = masks.overlaps(foreground, [1])[:, 0]
    asked = (inside > LEAST_INSIDE * masks.areas) & ~(quality < TO_ASK)
    return Signals(
        label.size,
        int(np.count_nonzero(masks.union())),
        len(masks),
        int(np.count_nonzero(scored)),
        int(np.count_nonzero(scored & (quality >= GOOD))),
        int(masks.areas[asked].sum()),
        int(np.maximum(inside, masks.areas - inside)[asked].sum()),
    )


def choose(signals: Signals) -> str:
    """A key of `RULES` for images with these signals."""
    covered = signals.share("covered", "pixels")
    if not signals.masks or (not signals.scored and covered >= TILED):
        return "grow"
    if signals.share("good", "masks") >= MOSTLY:
        return "contrast-alone" if covered < SPARSE else "contrast"
    return "grow" if signals.share("agreeing", "asked") >= AGREED else "max_iou_imp2"


def sentence(signals: Signals, rule: str) -> str:
    """What was chosen and why, for the terminal."""
    good, covered, agreeing = (
        f"{100 * signals.share(*pair):.0f} %"
        for pair in (("good", "masks"), ("covered", "pixels"), ("agreeing", "asked"))
    )
    return (
        f"auto chooses {RULES[rule]}: {good} of the masks are good (predicted IoU and stability score of at least {GOOD}), masks "
        f"cover {covered} of the images, and agree with the labels in {agreeing} of their area"
    )
