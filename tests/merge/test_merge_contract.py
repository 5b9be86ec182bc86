"""What every merge strategy keeps to, whoever wrote it; a new one in ``STRATEGIES`` is tested at once."""

import sys

import numpy as np
import pytest

from merge import STRATEGIES
from util.data.masks import Masks

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


@pytest.mark.parametrize("seed", range(4))
def test_regions_that_tile_the_image(strategy, seed):
    """Masks as ``--model regions`` makes them: two scales, measured stability, no predicted IoU."""
    label, _, _ = scene(seed)
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(label.shape)
    levels = [(rows // size) * 100 + columns // size for size in (13, 7)]
    dense = np.stack([level == value for level in levels for value in np.unique(level)])
    stability = np.where(rng.random(len(dense)) < 0.8, 1.0, 0.5)
    cam = {value: ((label == value) * rng.uniform(0.5, 1, label.shape)).astype(np.float32) for value in CLASSES}

    def merged(label, order=slice(None), **given):
        return strategy(label, Masks.from_dense(dense[order], None, stability[order]), **given)

    for given in ({}, {"tags": CLASSES, "cam": cam}):
        expected = merged(label, **given)
        assert expected.shape == label.shape and expected.dtype == np.uint8
        assert set(np.unique(expected)) <= {0, 255, *CLASSES}
        np.testing.assert_array_equal(merged(label, rng.permutation(len(dense)), **given), expected)
    if not getattr(sys.modules[strategy.__module__], "ORDER_MATTERS", False):
        swap = np.arange(256, dtype=np.uint8)
        swap[list(CLASSES)] = CLASSES[::-1]
        swapped = {int(swap[value]): values for value, values in cam.items()}
        result = merged(np.asfortranarray(swap[label]), tags=CLASSES, cam=swapped)
        np.testing.assert_array_equal(result, swap[merged(label, tags=CLASSES, cam=cam)])


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


@pytest.mark.parametrize("seed", range(8))
def test_a_lost_tag_may_come_back_and_nothing_else(strategy, seed):
    label, dense, scores = scene(seed)
    label[label == 8] = 0
    scores = np.maximum(scores, 0.9)
    result = strategy(label, masks_of(dense, scores), tags=CLASSES)
    assert set(np.unique(result)) <= {0, 255, *CLASSES}
    order = np.random.default_rng(seed).permutation(len(dense))
    np.testing.assert_array_equal(strategy(label, masks_of(dense, scores, order), tags=CLASSES), result)
    np.testing.assert_array_equal(strategy(label, masks_of(dense, scores), tags=CLASSES[::-1]), result)


@pytest.mark.parametrize("seed", range(4))
def test_soft_cams_may_be_given_in_any_order(strategy, seed):
    label, dense, scores = scene(seed)
    rng = np.random.default_rng(seed)
    cam = {value: ((label == value) * rng.uniform(0.5, 1, label.shape)).astype(np.float32) for value in CLASSES}
    result = strategy(label, masks_of(dense, scores), tags=CLASSES, cam=cam)
    assert set(np.unique(result)) <= {0, 255, *CLASSES}
    other = {value: cam[value] for value in CLASSES[::-1]}
    np.testing.assert_array_equal(strategy(label, masks_of(dense, scores), tags=CLASSES, cam=other), result)


def test_memory_order_of_the_label_does_not_matter(strategy):
    label, dense, scores = scene(3)
    expected = strategy(label, masks_of(dense, scores))
    np.testing.assert_array_equal(strategy(np.ascontiguousarray(label), masks_of(dense, scores)), expected)


def test_an_empty_mask_changes_nothing(strategy):
    label, dense, scores = scene(4)
    expected = strategy(label, masks_of(dense, scores))
    more = np.concatenate([dense[:2], np.zeros_like(dense[:1]), dense[2:]])
    widened = np.insert(scores, 2, 0.99, axis=1)
    np.testing.assert_array_equal(strategy(label, masks_of(more, widened)), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_thin_images(strategy, shape):
    label = np.zeros(shape, np.uint8, order="F")
    label[-1, -1] = 3
    result = strategy(label, Masks.from_dense(np.ones((1, *shape), bool), [0.9], [0.9]), tags=(3,))
    assert result.shape == shape and set(np.unique(result)) <= {0, 3, 255}


def test_a_label_of_background_only_stays_without_tags(strategy):
    label, dense, scores = scene(5)
    assert not strategy(np.zeros_like(label), masks_of(dense, np.ones_like(scores))).any()


def test_values_worth_trying_are_of_known_parameters_and_work(strategy):
    from merge.parameters import parameters_of, search_space

    label, dense, scores = scene(6)
    defaults = parameters_of(strategy)
    for name, values in search_space({"it": strategy}, [])["it"].items():
        for value in values:
            assert type(value) is type(defaults[name])
            result = strategy(label, masks_of(dense, scores), **{name: value})
            assert result.shape == label.shape and set(np.unique(result)) <= {0, 255, *CLASSES}
