"""max_iou_imp2 (SAM_WSSS, arXiv 2305.05803): `max_iou_imp`, and a mask that holds nearly all of a class is its own.

The second rule fixes partial activation: an object of which the CAM found only the head is whole in one mask.
"""

from __future__ import annotations

import numpy as np

from merge.merge_base import claim
from util.data.masks import Masks

ORDER_MATTERS = True  # the lower class id claims a mask first, the higher paints over
SEARCH = {"threshold": (0.4, 0.5, 0.6, 0.8), "coverage": (0.7, 0.85, 0.95)}  # values worth trying


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    threshold: float = 0.5,
    coverage: float = 0.85,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        threshold: a mask is claimed when the class holds more than this share of it,
        coverage: or when the mask holds at least this share of the class.
    """
    return claim(label, masks, threshold, coverage=coverage, keep_uncovered=True)
