"""What `grow` does to small scenes whose answer is known."""

import numpy as np
import pytest

from merge.grow import merge
from util.data.masks import Masks

HEIGHT, WIDTH = 60, 80


def box(top, bottom, left, right):
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[top:bottom, left:right] = True
    return region


OBJECT = box(10, 40, 20, 60)


def masks_of(*dense, iou=0.95, stability=0.95):
    return Masks.from_dense(np.stack(dense), np.broadcast_to(iou, len(dense)), np.broadcast_to(stability, len(dense)))


def label_of(*pairs):
    label = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    for value, region in pairs:
        label[region] = value
    return label


def test_a_head_grows_into_the_mask_of_its_object():
    head = box(10, 20, 20, 32)
    np.testing.assert_array_equal(merge(label_of((8, head)), masks_of(OBJECT)), label_of((8, OBJECT)))


@pytest.mark.parametrize(("iou", "stability"), [(0.5, 0.95), (0.95, 0.5), (np.nan, 0.95)])
def test_a_poor_or_unknown_mask_is_not_grown_into(iou, stability):
    label = label_of((8, box(10, 20, 20, 32)))
    np.testing.assert_array_equal(merge(label, masks_of(OBJECT, iou=iou, stability=stability)), label)


def test_the_more_of_a_class_a_mask_holds_the_less_quality_it_needs():
    head, apart = box(10, 20, 20, 32), box(50, 60, 20, 22)
    grown, poor = label_of((8, OBJECT)), masks_of(OBJECT, iou=0.7)
    np.testing.assert_array_equal(merge(label_of((8, head)), poor), grown)
    label = label_of((8, head | apart))  # the mask holds 6 of 7 parts
    np.testing.assert_array_equal(merge(label, poor), label)
    np.testing.assert_array_equal(merge(label, masks_of(OBJECT, iou=0.8)), label_of((8, OBJECT | apart)))


@pytest.mark.parametrize("stability", [np.nan, 0.8])
def test_a_mask_without_a_predicted_iou_is_grown_into_when_its_class_holds_a_fair_share(stability):
    unknown = masks_of(OBJECT, iou=np.nan, stability=stability)
    fair, little = label_of((8, box(10, 40, 20, 34))), label_of((8, box(10, 40, 20, 30)))
    np.testing.assert_array_equal(merge(fair, unknown), label_of((8, OBJECT)))
    np.testing.assert_array_equal(merge(little, unknown), little)
    unstable = masks_of(OBJECT, iou=np.nan, stability=0.6)
    np.testing.assert_array_equal(merge(fair, unstable), fair)


@pytest.mark.parametrize(("stability", "trims"), [(np.nan, True), (0.95, True), (0.8, False)])
def test_only_a_stable_mask_trims_without_a_predicted_iou(stability, trims):
    small, wider = box(10, 40, 20, 54), box(10, 40, 10, 60)
    result = merge(label_of((8, wider)), masks_of(small, iou=np.nan, stability=stability))
    np.testing.assert_array_equal(result, label_of((8, small if trims else wider)))


def regions(stability=1.0, left_out=0):
    """An image cut into an object of two parts, the ground below it, and the rest."""
    parts = [box(10, 20, 20, 60), box(20, 40, 20, 60), box(40, 60, 0, 80)]
    parts.append(~np.any(parts, axis=0))
    return masks_of(*parts[left_out:], iou=np.nan, stability=stability)


def test_stable_masks_that_tile_the_image_even_the_label_out():
    spilled = label_of((8, box(10, 20, 20, 60)), (8, box(20, 36, 22, 60)), (8, box(40, 50, 20, 60)))
    np.testing.assert_array_equal(merge(spilled, regions()), label_of((8, OBJECT)))
    unstable = merge(spilled, regions(stability=0.7))
    assert (unstable[box(40, 50, 20, 60)] == 8).all(), "what changes with the scale says nothing of the background"
    untiled = merge(spilled, regions(left_out=1))
    assert (untiled[box(40, 50, 20, 60)] == 8).all(), "masks here and there leave the label alone between them"


def test_the_soft_cam_shows_what_the_label_does_not():
    label = label_of((8, box(10, 20, 20, 60)))
    cam = {8: (0.9 * box(10, 20, 20, 60) + 0.88 * box(20, 40, 20, 60) + 0.2).clip(0, 1).astype(np.float32)}
    np.testing.assert_array_equal(merge(label, regions(), tags=(8,), cam=cam), label_of((8, OBJECT)))
    np.testing.assert_array_equal(merge(label, regions(), tags=(8,)), label)


def test_what_is_connected_by_a_neck_stays_background_or_becomes_void():
    neck, far = box(24, 26, 60, 66), box(10, 40, 66, 78)
    head, mask = box(10, 40, 20, 40), OBJECT | neck | far
    result = merge(label_of((8, head)), masks_of(mask))
    assert (result[OBJECT] == 8).all() and not result[far].any()
    result = merge(label_of((8, head)), masks_of(mask), void=True)
    assert (result[OBJECT] == 8).all() and (result[far] == 255).all() and not result[~mask].any()
    assert (merge(label_of((8, head)), masks_of(mask), neck=0.0)[far] == 8).all()


def test_another_class_inside_the_mask_keeps_its_pixels():
    other = box(25, 35, 45, 55)
    label = label_of((8, box(10, 20, 20, 50)), (15, other))
    np.testing.assert_array_equal(merge(label, masks_of(OBJECT)), label_of((8, OBJECT), (15, other)))


def test_void_inside_the_mask_is_settled_and_outside_it_stays():
    label = label_of((255, box(0, 45, 50, 70)), (8, box(10, 40, 20, 50)))
    result = merge(label, masks_of(OBJECT))
    assert (result[OBJECT] == 8).all()
    assert (result[(label == 255) & ~OBJECT] == 255).all()


def test_a_mask_along_the_frame_is_background():
    ground = np.ones((HEIGHT, WIDTH), bool)
    label = label_of((8, OBJECT))
    np.testing.assert_array_equal(merge(label, masks_of(ground)), label)


def test_a_label_that_overshoots_is_trimmed_and_one_that_nearly_fits_is_not():
    small, wide = box(10, 40, 20, 54), box(10, 40, 20, 60)
    wider = box(10, 40, 10, 60)
    np.testing.assert_array_equal(merge(label_of((8, wider)), masks_of(small)), label_of((8, small)))
    np.testing.assert_array_equal(merge(label_of((8, wide)), masks_of(small)), label_of((8, wide)))
    np.testing.assert_array_equal(merge(label_of((8, wider)), masks_of(small), trim=0.0), label_of((8, wider)))
    disputed = merge(label_of((8, wider)), masks_of(small), void=True)
    assert (disputed[wider & ~small] == 255).all() and (disputed[small] == 8).all()


def test_no_trimming_by_a_part_of_the_object():
    part = box(10, 20, 20, 60)
    np.testing.assert_array_equal(merge(label_of((8, OBJECT)), masks_of(part)), label_of((8, OBJECT)))


def test_a_lost_class_gets_the_best_free_mask():
    other = box(45, 55, 5, 40)
    masks = Masks.from_dense(np.stack([OBJECT, other]), [0.95, 0.85], [0.9, 0.9])
    empty = label_of()
    np.testing.assert_array_equal(merge(empty, masks, tags=(8,)), label_of((8, OBJECT)))
    np.testing.assert_array_equal(
        merge(label_of((15, OBJECT)), masks, tags=(8, 15)), label_of((15, OBJECT), (8, other))
    )
    assert not merge(empty, masks).any(), "no tags, no rescue"
    assert not merge(empty, masks, tags=(8, 15)).any(), "two lost classes: nothing shows which mask is whose"
    assert not merge(empty, masks_of(OBJECT, iou=0.5), tags=(8,)).any()


def test_small_holes_close_and_large_ones_do_not():
    pin, window = box(12, 13, 22, 24), box(20, 35, 30, 50)
    label = label_of((8, OBJECT), (0, pin | window))
    expected = label_of((8, OBJECT), (0, window))
    np.testing.assert_array_equal(merge(label, masks_of(box(0, 2, 0, 2))), expected)
    np.testing.assert_array_equal(merge(label, masks_of(box(0, 2, 0, 2)), hole=0.0), label)


def test_a_mask_that_two_classes_hold_alike_speaks_for_neither():
    left, right = box(10, 40, 20, 30), box(10, 40, 50, 60)
    label = label_of((8, left), (15, right))
    np.testing.assert_array_equal(merge(label, masks_of(OBJECT)), label)
