"""The rules of other papers: small cases by hand, and slow readings of their text on generated masks."""

import numpy as np
import pytest

from merge import fma_wsss, s2c, sam4udass, seco
from util.data.masks import Masks

ALL = slice(None)


def masks_of(*parts, iou=None, size=(6, 8), classes=None):
    """Masks from ``(rows, columns)``."""
    dense = np.zeros((len(parts), *size), bool)
    for mask, part in zip(dense, parts):
        mask[part] = True
    extra = [{"category": str(value), "class": value} for value in classes] if classes else ()
    return Masks.from_dense(dense, iou, extra=extra)


def label_of(*parts, size=(6, 8)):
    """A label from ``(rows, columns, class)``."""
    label = np.zeros(size, np.uint8)
    for rows, columns, value in parts:
        label[rows, columns] = value
    return label


def scene(seed):
    """A label of up to three blobs, masks of different sizes, their predicted IoUs, and a soft CAM for each class."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:30, :40]
    label, dense, cam = np.zeros((30, 40), np.uint8), [], {}
    for value in (2, 7, 15):
        y, x = rng.uniform(0, 30), rng.uniform(0, 40)
        distance = np.hypot(rows - y, columns - x)
        label[distance < rng.uniform(3, 9)] = value
        cam[value] = np.exp(-distance / rng.uniform(5, 15)).astype(np.float32)
    for _ in range(9):
        dense.append(np.hypot(rows - rng.uniform(0, 30), columns - rng.uniform(0, 40)) < rng.uniform(3, 16))
    label[:, 0] = 255
    areas = [int(mask.sum()) for mask in dense]
    dense = np.stack([dense[k] for k in sorted({area: k for k, area in enumerate(areas)}.values())])
    return label, dense, rng.uniform(0.5, 1, len(dense)), cam


# --- FMA-WSSS -----------------------------------------------------------------------------------------------------


def test_fma_gives_each_mask_the_stretched_maximum():
    cam = {3: np.zeros((6, 8), np.float32), 5: np.zeros((6, 8), np.float32)}
    cam[3][:, :2], cam[3][:, 2:4], cam[5][:, 4:6] = 0.4, 0.1, 0.2
    masks = masks_of((ALL, slice(0, 2)), (ALL, slice(2, 4)), (ALL, slice(4, 6)))
    # Stretched, class 3 is 1, 0.25 and 0 in the three masks, class 5 is 0, 0 and 1; the background is 0, 0.75 and 0.
    expected = np.repeat([3, 3, 0, 0, 5, 5, 0, 0], 6).reshape(8, 6).T
    np.testing.assert_array_equal(fma_wsss.merge(label_of(), masks, tags=(3, 5), cam=cam), expected)
    # 0.75 ** 5 = 0.237 of background is less than 0.25.
    expected[:, 2:4] = 3
    np.testing.assert_array_equal(fma_wsss.merge(label_of(), masks, tags=(3, 5), cam=cam, power=5.0), expected)


def test_fma_paints_the_surer_mask_last_and_background_under_none():
    label = label_of((ALL, slice(0, 4), 3), (0, 6, 5))
    masks = masks_of((ALL, slice(0, 4)), (ALL, slice(2, 8)), (slice(4, 6), slice(4, 8)))
    # Class 3: 1, 1/3 and 0 before stretching; so the second mask is background of 2/3, below the first one's 1.
    result = fma_wsss.merge(label, masks, tags=(3,))
    np.testing.assert_array_equal(result, label_of((ALL, slice(0, 4), 3)))
    few = masks.select([0, 2])
    assert fma_wsss.merge(label, few, tags=(3, 5))[0, 6] == 0
    assert fma_wsss.merge(label, few, tags=(3, 5), keep=True)[0, 6] == 5


# --- S2C ----------------------------------------------------------------------------------------------------------


def test_s2c_lets_confidence_times_activation_decide():
    cam = {3: np.full((6, 8), 0.5, np.float32), 5: np.full((6, 8), 0.6, np.float32)}
    parts = (ALL, slice(0, 5)), (ALL, slice(3, 8))
    surer = s2c.merge(label_of(), masks_of(*parts, iou=[0.9, 0.7], classes=[3, 5]), tags=(3, 5), cam=cam)
    np.testing.assert_array_equal(surer[0], [3, 3, 3, 3, 3, 5, 5, 5])  # 0.45 against 0.42
    other = s2c.merge(label_of(), masks_of(*parts, iou=[0.7, 0.9], classes=[3, 5]), tags=(3, 5), cam=cam)
    np.testing.assert_array_equal(other[0], [3, 3, 3, 5, 5, 5, 5, 5])


def test_s2c_makes_the_rest_background_and_leaves_classes_out_that_the_tags_do_not_name():
    masks = masks_of((slice(0, 2), ALL), (slice(2, 4), ALL), classes=[3, 5])
    label = label_of((ALL, ALL, 3))
    assert [set(row) for row in s2c.merge(label, masks, tags=(3,))] == [{3}] * 2 + [{0}] * 4
    assert [set(row) for row in s2c.merge(label, masks, tags=(3,), keep=True)] == [{3}] * 6


def test_s2c_without_categories_lets_the_background_compete():
    label = label_of((slice(0, 2), ALL, 3))
    masks = masks_of((slice(0, 3), ALL), (slice(2, 6), ALL), iou=[0.9, 0.8])
    # Row 2: class 3 has 0.9 * 2/3 = 0.6, the background 0.8.
    assert [set(row) for row in s2c.merge(label, masks)] == [{3}] * 2 + [{0}] * 4
    assert [set(row) for row in s2c.merge(label, masks, quality=0.85)] == [{3}] * 3 + [{0}] * 3


# --- SAM4UDASS and SeCo -------------------------------------------------------------------------------------------


def sam4udass_slowly(label, dense, alpha):
    result = label.copy()
    for mask in sorted(dense, key=lambda mask: -mask.sum()):
        votes = sorted(((int((label[mask] == c).sum()), c) for c in np.unique(label) if c != 255), reverse=True)
        votes = [vote for vote in votes if vote[0]]
        if votes:
            small = votes[0][1] == 0 and len(votes) > 1 and votes[1][0] / votes[0][0] >= alpha
            result[mask] = votes[1][1] if small else votes[0][1]
    return result


def seco_slowly(label, dense, iou, share):
    result = np.full_like(label, 255)
    for k in np.argsort(-iou):
        inside = label[dense[k] & (label != 255)]
        votes = {c: np.mean(inside == c) for c in np.unique(inside)}
        if votes and max(votes.values()) > share:
            result[dense[k]] = max(votes, key=votes.get)
    return result


@pytest.mark.parametrize("seed", range(20))
def test_sam4udass_and_seco_as_they_read(seed):
    label, dense, iou, _ = scene(seed)
    masks = Masks.from_dense(dense, iou)
    for alpha in (0.1, 0.2, 0.5):
        np.testing.assert_array_equal(sam4udass.merge(label, masks, alpha=alpha), sam4udass_slowly(label, dense, alpha))
    for share in (0.2, 0.6):
        np.testing.assert_array_equal(seco.merge(label, masks, share=share), seco_slowly(label, dense, iou, share))


def test_sam4udass_a_small_class_takes_a_mask_that_is_mostly_background():
    label = label_of((slice(0, 1), ALL, 3))
    masks = masks_of((ALL, ALL))
    assert (sam4udass.merge(label, masks) == 3).all()  # 8 of 48 pixels: exactly 0.2 of the background's 40
    assert (sam4udass.merge(label, masks, alpha=0.21) == 0).all()


def test_seco_leaves_void_where_no_mask_is_sure_or_the_label_on_request():
    label = label_of((slice(0, 2), ALL, 3), (slice(2, 4), ALL, 5))
    masks = masks_of((ALL, slice(0, 4)))
    assert set(np.unique(seco.merge(label, masks, share=0.4))) == {255}
    np.testing.assert_array_equal(seco.merge(label, masks, share=0.4, keep=True), label)


@pytest.mark.parametrize("rule", [fma_wsss, s2c, sam4udass, seco])
def test_masks_of_low_quality_are_left_out(rule):
    label, dense, iou, cam = scene(3)
    good = Masks.from_dense(dense[iou >= 0.75], iou[iou >= 0.75])
    every = Masks.from_dense(dense, iou)
    expected = rule.merge(label, good, tags=(2, 7, 15), cam=cam)
    np.testing.assert_array_equal(rule.merge(label, every, tags=(2, 7, 15), cam=cam, quality=0.75), expected)
    assert (rule.merge(label, every, tags=(2, 7, 15), cam=cam) != expected).any()
