"""auto and contrast on scenes whose answer is known."""

import numpy as np
import pytest

from merge import auto, contrast, grow, max_iou_imp2
from util.data.masks import Masks
from util.runtime.errors import InputError

SHAPE = (40, 60)


def box(rows, columns):
    mask = np.zeros(SHAPE, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


CAT, SOFA, WALL = box((10, 30), (5, 25)), box((15, 35), (35, 55)), box((0, 8), (0, 60))


def label_of(*parts):
    label = np.zeros(SHAPE, np.uint8, order="F")
    for mask, value in parts:
        label[mask] = value
    return label


def masks_of(*dense, iou=0.95, stability=0.97):
    known = None if iou is None else [iou] * len(dense)
    return Masks.from_dense(np.array(dense).reshape(-1, *SHAPE), known, [stability] * len(dense))


# --- contrast -----------------------------------------------------------------------------------------------------


def test_a_weak_cam_still_stands_out_on_its_object():
    cam = {8: (0.3 * CAT + 0.05 * SOFA + 0.05 * WALL).astype(np.float32)}
    result = contrast.merge(label_of(), masks_of(CAT, SOFA, WALL), tags=(8,), cam=cam)
    assert np.array_equal(result, np.where(CAT, 8, 0))


def test_a_single_mask_stands_out_against_the_rest_of_the_image():
    head = box((10, 18), (5, 25))
    assert np.array_equal(contrast.merge(label_of((head, 8)), masks_of(CAT)), np.where(CAT, 8, 0))


def test_a_mask_in_which_nothing_stands_out_clears_the_label_and_what_is_under_none_stays():
    spot, stray = box((0, 4), (0, 10)), box((36, 40), (0, 9))
    label, masks = label_of((CAT, 8), (spot, 8), (stray, 8)), masks_of(CAT, WALL)
    assert np.array_equal(contrast.merge(label, masks), np.where(CAT | stray, 8, 0))
    assert np.array_equal(contrast.merge(label, masks, keep=False), np.where(CAT, 8, 0))


def test_the_surer_of_two_masks_is_painted_above():
    whole = CAT | box((10, 30), (25, 50))
    label = label_of((CAT, 8), (box((10, 30), (25, 44)), 18))
    result = contrast.merge(label, masks_of(whole, CAT))
    assert (result[CAT] == 8).all() and (result[whole & ~CAT] == 18).all()


def test_a_mask_that_holds_nearly_all_of_a_class_is_its_own_unless_a_cam_knows_better():
    head, whole = box((10, 14), (5, 15)), CAT
    label, masks = label_of((head, 8)), masks_of(head, whole)
    assert np.array_equal(contrast.merge(label, masks), np.where(CAT, 8, 0))
    assert np.array_equal(contrast.merge(label, masks, coverage=1.1), label)
    cam = {8: (0.9 * head).astype(np.float32)}
    assert np.array_equal(contrast.merge(label, masks, cam=cam), label)


def test_masks_of_poor_quality_are_left_out():
    label = label_of((CAT, 8))
    assert np.array_equal(contrast.merge(label, masks_of(CAT | WALL, iou=0.5)), label)
    assert np.array_equal(contrast.merge(label, masks_of(CAT | WALL, stability=0.5)), label)
    assert np.array_equal(contrast.merge(label, masks_of(CAT | WALL), quality=0.99), label)


# --- auto ---------------------------------------------------------------------------------------------------------


def tiles(iou):
    rows, columns = np.indices(SHAPE)
    level = rows // 10 * 100 + columns // 10
    return masks_of(*(level == value for value in np.unique(level)), iou=iou, stability=0.9)


OFF = box((6, 26), (12, 32))  # half on CAT


@pytest.mark.parametrize(
    ("part", "masks", "rule"),
    [
        (CAT, tiles(None), "grow"),
        (CAT, tiles(0.9), "contrast"),
        (CAT, masks_of(CAT, SOFA, iou=0.95), "contrast-alone"),
        (CAT, masks_of(CAT, SOFA, iou=0.8), "grow"),
        (OFF, masks_of(CAT, SOFA, iou=0.8), "max_iou_imp2"),
        (OFF, masks_of(CAT, SOFA, iou=None), "max_iou_imp2"),
        (CAT, masks_of(CAT, SOFA, iou=None), "grow"),
        (CAT, masks_of(), "grow"),
    ],
    ids=["regions", "scored", "objects", "weak", "weak labels", "no scores, weak labels", "no scores", "no masks"],
)
def test_the_rule_follows_masks_and_labels(part, masks, rule):
    label = label_of((part, 8))
    signals = auto.measure(label, masks)
    assert auto.choose(signals) == rule
    assert auto.sentence(signals, rule).startswith(f"auto chooses {auto.RULES[rule]}: ")
    expected = {
        "grow": grow.merge(label, masks),
        "contrast": contrast.merge(label, masks),
        "contrast-alone": contrast.merge(label, masks, keep=False),
        "max_iou_imp2": max_iou_imp2.merge(label, masks),
    }
    for name, result in expected.items():
        assert np.array_equal(auto.merge(label, masks, rule=name), result)
    assert np.array_equal(auto.merge(label, masks), expected[rule])


def test_signals_of_images_add_up():
    one = auto.measure(label_of((CAT, 8)), masks_of(CAT, SOFA))
    two = auto.measure(label_of((OFF, 8)), masks_of(CAT, iou=None))
    assert one == auto.Signals(2400, 800, 2, 2, 2, 400, 400)
    assert two == auto.Signals(2400, 400, 1, 0, 0, 400, 208)
    assert one + two == auto.Signals(4800, 1200, 3, 2, 2, 800, 608)


def test_an_unknown_rule_is_refused():
    with pytest.raises(InputError, match="--param rule=shrink: no such rule; choose one of grow, contrast"):
        auto.merge(label_of((CAT, 8)), masks_of(CAT), rule="shrink")
