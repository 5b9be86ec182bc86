"""max_iou (SAM_WSSS, arXiv 2305.05803): a class takes every mask of which it holds more than half."""

from __future__ import annotations

import numpy as np

from merge.merge_base import claim
from util.data.masks import Masks

ORDER_MATTERS = True  # the lower class id claims a mask first, the higher paints over
SEARCH = {"threshold": (0.4, 0.5, 0.6, 0.8)}  # values worth trying


def merge(
    label: np.ndarray,
    masks: Masks,
    *,
    tags: tuple[int, ...] | None = None,
    cam: dict[int, np.ndarray] | None = None,
    threshold: float = 0.5,
) -> np.ndarray:
    """See `merge.merge_base` for the arguments that all strategies share.

    Args:
        threshold: a mask is claimed when the class holds more than this share of it.
    """
    return claim(label, masks, threshold, coverage=None, keep_uncovered=False)
