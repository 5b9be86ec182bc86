"""grow: objects found in part grow into the good mask that holds them, labels that overshoot are trimmed to it.

Where label and mask nearly agree, the label's border is as good as the mask's. What masks know and labels do not is the
extent of an object that was found in part, or with its surroundings. Only masks of good quality count, each for the class
that holds most of it:

1. Growth: a mask that holds most of a class, or most of which the class holds, hands its background to the class, as far
   as it is connected with the class's own pixels once the mask is cut at its narrow necks.
2. Trimming: where the good masks of a class hold only a part of it, though more than half, the rest is background.
3. Rescue: the one class that the image's tags name and the label lost gets the best mask that the label leaves free.
4. Holes: small holes in the label are closed.

None of these turns one class into another. Masks without a predicted IoU may be anything, so the label has to vouch for
them; where such masks tile the image and hardly change with the scale of the segmentation, they even the label out first,
as in `cam_level`.

Sources: the rule of coverage is `max_iou_imp2`'s (SAM_WSSS, arXiv 2305.05803); predicted IoU and stability score are
those of Kirillov et al., "Segment Anything", ICCV 2023; the frame as a sign of background is Zhu et al., "Saliency
Optimization from Robust Background Detection", CVPR 2014; cutting at necks is erosion and reconstruction from a marker
(Vincent, IEEE Trans. Image Processing 1993); trust in stable regions is Matas et al., BMVC 2002. What each rule adds, and
what was tried and left out, is in docs/experiments.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from merge import cam_level
from merge.merge_base import class_sizes
from merge.morphology import cut_at_necks, fill_holes, frame_share
from util.data.masks import Masks
from util.data.voc import VOID

SEARCH = {"coverage": (0.55, 0.65, 0.75), "quality": (0.7, 0.75, 0.8), "trim": (0.0, 0.7, 0.8, 0.9)}  # worth trying

LEAST_SHARE = 0.03, 0.3  # of a mask, for its class to grow into it by coverage: with a predicted IoU, and without
TRIMMING_SHARE = 0.7  # of a mask, for it to stand for its class when that is trimmed
STABLE = 0.9  # the least stability score that trims without a predicted IoU


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    coverage: float = 0.65,
    quality: float = 0.75,
    majority: float = 0.5,
    trim: float = 0.8,
    neck: float = 0.06,
    hole: float = 0.01,
    void: bool = False,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        coverage: a mask is grown into when its quality times the share of its class's pixels that it holds reaches this,
        majority: or when its quality is good and its class holds this share of it.
        quality: what good quality is, the quality of a mask being the lower of predicted IoU and stability score. A mask
            without a predicted IoU needs a stability of this for growth of either kind, and a majority of this; without
            both scores it counts as stable.
        trim: a class is trimmed when its good masks hold less than this share of it; 0 trims nothing.
        neck: parts of a mask that are connected by necks narrower than twice this share of the square root of its area
            count as separate; 0 cuts nowhere.
        hole: background holes smaller than this share of the label's foreground are closed; 0 closes none.
        void: make what is in dispute void (255) instead of background, for training: trimmed pixels, and what a neck cuts
            off a mask that grew.
    """
    label, masks = _evened_out(label, masks, tags, cam)
    result = label.copy(order="F")
    disputed = VOID if void else 0
    classes, sizes = class_sizes(label)
    framed = frame_share(masks)
    if len(masks) and len(classes):
        found = _Evidence.of(label, masks, classes, sizes, quality)
        if trim:
            own = found.trimming()
            for column, value in enumerate(classes):
                _trim(result, label == value, masks, own & (found.chosen == column), trim, disputed)
        for k in found.ordered(found.growing(framed, coverage, majority, quality)):
            _grow(result, label, masks, k, classes[found.chosen[k]], neck, disputed)
    if tags is not None:
        _rescue(result, label, masks, [tag for tag in tags if not (label == tag).any()], framed, quality)
    return fill_holes(result, hole)


@dataclass(frozen=True)
class _Evidence:
    """What speaks for each of K masks being a part of a class.

    Attributes:
        masks: the masks.
        scored: bool K, whether the mask has a predicted IoU.
        score: float64 K, the lower of predicted IoU and stability score.
        good: bool K, whether the score is good.
        chosen: int64 K, the class (number in the list of classes) that holds most of the mask.
        pure: float64 K, the share of the mask that it holds.
        covered: float64 K, the share of the class that is in the mask.
        clear: bool K, whether no other class holds as much of the mask.
    """

    masks: Masks
    scored: np.ndarray
    score: np.ndarray
    good: np.ndarray
    chosen: np.ndarray
    pure: np.ndarray
    covered: np.ndarray
    clear: np.ndarray

    @classmethod
    def of(cls, label: np.ndarray, masks: Masks, classes: np.ndarray, sizes: np.ndarray, quality: float) -> _Evidence:
        overlaps = masks.overlaps(label, classes)
        share = overlaps / np.maximum(masks.areas, 1)[:, None]
        chosen, every = share.argmax(axis=1), np.arange(len(masks))
        pure, covered = share[every, chosen], (overlaps / sizes)[every, chosen]
        score = np.nan_to_num(np.fmin(masks.predicted_iou, masks.stability_score), nan=1.0)
        clear = (share == pure[:, None]).sum(axis=1) == 1
        return cls(masks, ~np.isnan(masks.predicted_iou), score, score >= quality, chosen, pure, covered, clear)

    def trimming(self) -> np.ndarray:
        """bool K: the masks that stand for their class when it is trimmed."""
        return self.clear & self.good & (self.pure >= TRIMMING_SHARE) & (self.scored | (self.score >= STABLE))

    def growing(self, framed: np.ndarray, coverage: float, majority: float, quality: float) -> np.ndarray:
        """bool K: the masks that their class grows into.

        A mask along the frame of the image is background rather than object, so a class must hold a larger share of it
        than it holds of the frame.
        """
        least = np.maximum(framed, np.where(self.scored, *LEAST_SHARE))
        whole = (self.score * self.covered >= coverage) & (self.scored | self.good) & (self.pure > least)
        needed = np.where(self.scored, majority, np.maximum(majority, quality))
        return self.clear & (whole | self.good & (self.pure >= needed))

    def ordered(self, chosen: np.ndarray) -> list[int]:
        """The indices of the chosen masks, the purest first; the order of the masks in the file does not matter."""
        found = np.flatnonzero(chosen).tolist()
        return sorted(found, key=lambda k: (-self.pure[k], -self.covered[k], *self.masks.boxes[k]))


def _evened_out(
    label: np.ndarray, masks: Masks, tags: tuple[int, ...] | None, cam: dict[int, np.ndarray] | None
) -> tuple[np.ndarray, Masks]:
    """Label and masks, the label evened out by masks without a predicted IoU where these fit the image, and these gone.

    They fit when they tile it, and most of it is in masks that hardly change with the scale of the segmentation. On
    ordinary images most regions change with the scale.
    """
    scored = ~np.isnan(masks.predicted_iou)
    regions = masks.select(~scored)
    stability = np.nan_to_num(regions.stability_score)
    if regions.union().mean() < 0.95 or regions.union(stability >= 0.95).mean() < 0.6:
        return label, masks
    stable = regions.select(stability >= 0.8)
    found = cam_level.merge(label, stable, tags=tags, cam=cam)
    return np.asfortranarray(np.where(stable.union(), found, label)), masks.select(scored)


def _grow(result: np.ndarray, label: np.ndarray, masks: Masks, k: int, value: int, neck: float, disputed: int) -> None:
    """Give the free pixels of mask k to a class, as far as they are connected with its pixels in the label."""
    x, y, width, height = masks.boxes[k]
    # One pixel more, so that the mask's own border is inside; an object cut by the edge of the image has none there.
    box = slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)
    inside, now = masks.dense(k)[box], result[box]
    own = inside & (label[box] == value)
    free = inside & ((now == 0) | (now == VOID))
    reached = cut_at_necks(own, own | free, neck * np.sqrt(masks.areas[k]))
    now[free & reached] = value
    if disputed:
        now[free & ~reached] = disputed


def _trim(result: np.ndarray, own: np.ndarray, masks: Masks, chosen: np.ndarray, trim: float, disputed: int) -> None:
    """Take a class's pixels outside its good masks from it, where those hold half of it and less than ``trim``."""
    if chosen.any():
        outside = own & ~masks.union(chosen)
        if 0.5 <= 1 - np.count_nonzero(outside) / np.count_nonzero(own) < trim:
            result[outside] = disputed


def _rescue(
    result: np.ndarray, label: np.ndarray, masks: Masks, lost: Sequence[int], framed: np.ndarray, quality: float
) -> None:
    """Give the best free mask to the one class that vanished; with several, nothing shows which mask is whose."""
    if len(lost) != 1 or not len(masks):
        return
    taken = np.asfortranarray((label > 0) & (label < VOID), np.uint8)
    share = masks.overlaps(taken, [1])[:, 0] / np.maximum(masks.areas, 1)
    score = np.nan_to_num(np.fmin(masks.predicted_iou, masks.stability_score))
    score[np.isnan(masks.predicted_iou) | (share > 0.1) | (framed > 0.1) | (masks.areas > label.size / 2)] = 0
    best = max(range(len(masks)), key=lambda k: (score[k], *masks.boxes[k]))
    if score[best] >= max(quality, 1e-6):
        result[masks.dense(best) & ((result == 0) | (result == VOID))] = lost[0]
