"""grow: an object found in part grows into the good mask that holds it; elsewhere the label stays.

Where label and mask nearly agree, the label's border is as good as the mask's, so painting masks over the label gains
nothing and costs other classes their pixels. What masks know and labels do not is the extent of an object of which only
a part was found. So: a mask of good quality that holds most of a class hands its background pixels to that class, as far
as they hang together with the class's own pixels once the mask is cut at its narrow necks. No pixel of a class changes
to another class or to background.

Sources: the rule of coverage is `max_iou_imp2`'s (SAM_WSSS, arXiv 2305.05803), SAM's predicted IoU and stability score are
those of Kirillov et al., "Segment Anything", ICCV 2023; growth from a marker inside a mask is morphological
reconstruction after opening (Vincent, IEEE Trans. Image Processing 1993).
"""

import numpy as np

from merge.merge_base import fill_holes, foreground_classes, mask_quality, opened_from
from util.voc import VOID

SEARCH = {  # values worth trying
    "coverage": (0.5, 0.7, 0.85),
    "quality": (0.6, 0.75, 0.9),
    "purity": (0.03, 0.1),
    "neck": (0.0, 0.03, 0.06),
    "hole": (0.0, 0.01),
}


def merge(label, masks, *, tags=None, cam=None, coverage=0.7, quality=0.75, purity=0.03, neck=0.06, hole=0.01):
    """Mend a label; the contract stands in `merge.merge_base`.

    Args:
        coverage: a mask must hold at least this share of its class's pixels,
        quality: have at least this quality (the lower of predicted IoU and stability score),
        purity: and its class must hold more than this share of it.
        neck: parts of a mask that hang together by necks narrower than twice this share of the square root of its area
            count as separate; 0 cuts nowhere.
        hole: background holes smaller than this share of the label's foreground are closed; 0 closes none.
    """
    result = label.copy(order="F")
    classes = foreground_classes(label)
    if len(masks) and len(classes):
        overlaps = masks.overlaps(label, classes)
        sizes = np.array([np.count_nonzero(label == value) for value in classes])
        share = overlaps / np.maximum(masks.areas, 1)[:, None]
        chosen, every = share.argmax(axis=1), np.arange(len(masks))
        pure, covered = share[every, chosen], (overlaps / sizes)[every, chosen]
        accepted = (covered >= coverage) & (mask_quality(masks, pure) >= quality) & (pure > purity)
        for k in sorted(np.flatnonzero(accepted), key=lambda k: (-pure[k], classes[chosen[k]])):
            _grow(result, label, masks, k, classes[chosen[k]], neck)
    return fill_holes(result, hole)


def _grow(result: np.ndarray, label: np.ndarray, masks, k: int, value: int, neck: float) -> None:
    """Give the free pixels of mask k to a class, as far as they hang together with its pixels in the label."""
    x, y, width, height = masks.boxes[k]
    # One pixel more, so that the mask's own shore lies inside; an object cut by the edge of the image has none there.
    box = slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)
    inside, now = masks.dense(k)[box], result[box]
    own = inside & (label[box] == value)
    free = inside & ((now == 0) | (now == VOID))
    now[free & opened_from(own, own | free, neck * np.sqrt(masks.areas[k]))] = value
