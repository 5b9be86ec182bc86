import numpy as np
import pytest

from models.sam.regions import region_masks


def two_halves(height=80, width=100) -> np.ndarray:
    image = np.full((height, width, 3), 30, np.uint8)
    image[:, width // 2 :] = (220, 60, 60)
    return image


def test_finds_the_two_halves():
    masks = region_masks(two_halves())
    assert masks.shape == (80, 100)
    left = np.zeros((80, 100), bool)
    left[:, :50] = True
    for half in (left, ~left):
        ious = [(masks.dense(k) & half).sum() / (masks.dense(k) | half).sum() for k in range(len(masks))]
        assert max(ious) > 0.95
    # The same two regions at each scale: kept once (beside slivers along the smoothed border), as stable as can be.
    large = masks.areas > 1000
    assert large.sum() == 2
    assert (masks.stability_score[large] == 1).all()
    assert np.isnan(masks.predicted_iou).all()


def test_scores_areas_and_duplicates_on_noise():
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    image = np.kron(coarse, np.ones((12, 12, 1), np.uint8))
    masks = region_masks(image)
    assert len(masks) > 10
    assert (np.diff(masks.areas) <= 0).all() and masks.areas.min() > 0
    assert masks.stability_score.min() >= 0 and masks.stability_score.max() <= 1
    shared = np.stack([masks.sums(masks.dense(k)) for k in range(len(masks))])
    union = masks.areas[:, None] + masks.areas[None] - shared
    iou = shared / union
    assert (iou[~np.eye(len(masks), dtype=bool)] <= 0.9).all()
    assert masks.union().all()  # every pixel is in a region


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 2), (3, 900)])
def test_odd_sizes(size):
    masks = region_masks(two_halves(*size))
    assert masks.shape == size and len(masks) >= 1 and masks.union().all()
