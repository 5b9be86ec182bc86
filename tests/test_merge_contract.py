"""What every merge strategy keeps to, whoever wrote it; a new one in ``STRATEGIES`` is tested at once."""

import sys

import numpy as np
import pytest

from merge import STRATEGIES
from util.masks import Masks

CLASSES = (3, 8, 15)


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request):
    return STRATEGIES[request.param]


def scene(seed):
    """A label of three blobs, and masks that fit them roughly, overlap, and lie on background."""
    rng = np.random.default_rng(seed)
    height, width = 40, 52
    rows, columns = np.mgrid[:height, :width]
    label = np.zeros((height, width), np.uint8)
    dense, centres = [], rng.uniform([8, 8], [height - 8, width - 8], (3, 2))
    for value, (y, x) in zip(CLASSES, centres, strict=True):
        distance = np.hypot(rows - y, columns - x)
        label[distance < rng.uniform(4, 9)] = value
        dense += [distance < rng.uniform(3, 12), distance < rng.uniform(3, 12)]
    dense.append(rows < rng.integers(3, height))
    dense = np.stack(dense)
    return np.asfortranarray(label), dense, rng.uniform(0.2, 1.0, (2, len(dense)))


def masks_of(dense, scores, order=slice(None)):
    return Masks.from_dense(dense[order], scores[0][order], scores[1][order])


@pytest.mark.parametrize("seed", range(8))
def test_shape_type_classes_and_determinism(strategy, seed):
    label, dense, scores = scene(seed)
    result = strategy(label, masks_of(dense, scores), tags=CLASSES)
    assert result.shape == label.shape and result.dtype == np.uint8
    assert set(np.unique(result)) <= {0, 255, *CLASSES}
    np.testing.assert_array_equal(result, strategy(label, masks_of(dense, scores), tags=CLASSES))


@pytest.mark.parametrize("seed", range(8))
def test_no_class_from_nowhere_without_tags(strategy, seed):
    label, dense, scores = scene(seed)
    label[label == 8] = 0
    assert set(np.unique(strategy(label, masks_of(dense, scores)))) <= {0, 3, 15, 255}


@pytest.mark.parametrize("seed", range(8))
def test_order_of_masks_does_not_matter(strategy, seed):
    label, dense, scores = scene(seed)
    order = np.random.default_rng(seed).permutation(len(dense))
    expected = strategy(label, masks_of(dense, scores))
    np.testing.assert_array_equal(strategy(label, masks_of(dense, scores, order)), expected)


@pytest.mark.parametrize("seed", range(8))
def test_class_ids_do_not_matter(strategy, seed):
    if getattr(sys.modules[strategy.__module__], "ORDER_MATTERS", False):
        pytest.skip("declares that the order of class ids matters")
    label, dense, scores = scene(seed)
    swap = np.arange(256, dtype=np.uint8)
    swap[list(CLASSES)] = CLASSES[::-1]
    expected = swap[strategy(label, masks_of(dense, scores))]
    np.testing.assert_array_equal(strategy(np.asfortranarray(swap[label]), masks_of(dense, scores)), expected)


def test_without_masks_the_label_stays(strategy):
    label, dense, scores = scene(0)
    result = strategy(label, masks_of(dense[:0], scores[:, :0]))
    if strategy.__module__ == "merge.max_iou":  # as published: what no mask covers is background
        assert not result.any()
    else:
        np.testing.assert_array_equal(result, label)


def test_void_label(strategy):
    label, dense, scores = scene(0)
    result = strategy(np.full_like(label, 255), masks_of(dense, scores))
    assert set(np.unique(result)) <= {0, 255}


def test_scores_may_be_unknown(strategy):
    label, dense, _ = scene(1)
    result = strategy(label, Masks.from_dense(dense))
    assert set(np.unique(result)) <= {0, 255, *CLASSES}


def test_inputs_stay(strategy):
    label, dense, scores = scene(2)
    masks, before = masks_of(dense, scores), label.copy()
    strategy(label, masks, tags=CLASSES)
    np.testing.assert_array_equal(label, before)
    expected = masks_of(dense, scores)
    for name in ("starts", "ends", "offsets", "predicted_iou", "stability_score"):
        np.testing.assert_array_equal(getattr(masks, name), getattr(expected, name))
