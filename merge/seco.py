"""seco: each mask takes its most frequent class when that holds enough of it; the rest is void; see SeCo.

Masks are painted in the order of SAM's generator, which is that of falling predicted IoU.

Source: Zhao et al., "Semantic Connectivity-Driven Pseudo-Labeling for Cross-Domain Segmentation", arXiv 2312.06331, semantic
alignment of its pixel semantic aggregation; code at github.com/DZhaoXd/SeCo (no licence). There it serves classes without a
shape of their own; things are prompted again, which needs a SAM and not only its masks (``generate_sam_masks.py --prompt``).
"""

from __future__ import annotations

import numpy as np

from merge.merge_base import foreground_classes
from merge.painting import good_masks, paint
from util.data.masks import Masks
from util.data.voc import VOID

SEARCH = {"share": (0.2, 0.4, 0.5, 0.6, 0.8)}  # values worth trying
ORDER_MATTERS = True  # of classes with equally many pixels in a mask, the lower class id wins


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    share: float = 0.2,
    quality: float = 0.0,
    keep: bool = False,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        share: of a mask's pixels without void, which its most frequent class must exceed.
        quality: masks of a lower predicted IoU are left out; the authors' generator leaves out those below 0.88.
        keep: whether pixels that no mask paints keep their label, instead of becoming void.
    """
    masks = good_masks(masks, quality)
    values = np.append(0, foreground_classes(label)).astype(np.int64)
    if not len(masks) or len(values) == 1:
        return label.copy(order="F")
    counts = masks.overlaps(label, values)
    known = np.maximum(counts.sum(axis=1), 1)
    winners = values[counts.argmax(axis=1)]
    order = np.lexsort((winners, -masks.areas, -np.nan_to_num(masks.predicted_iou)))
    below = label if keep else np.full_like(label, VOID)
    return paint(below, masks, winners, order[(counts.max(axis=1) / known > share)[order]])
