"""The three published strategies against a slow, plain reference written from their definitions."""

import numpy as np
import pytest
from helpers import random_label, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from merge import STRATEGIES
from merge.parameters import parameters_of, resolve_parameters
from util.data.masks import Masks
from util.runtime.errors import InputError


def reference(name, label, dense):
    result = np.zeros_like(label)
    claimed_by_earlier = [False] * len(dense)
    for value in range(1, 255):
        own = label == value
        if not own.any():
            continue
        claims, painted, covered = [], np.zeros(label.shape, bool), np.zeros(label.shape, bool)
        for k, mask in enumerate(dense):
            if claimed_by_earlier[k]:
                continue
            covered |= mask
            inside = int((own & mask).sum())
            takes = 2 * inside > int(mask.sum())
            if name == "max_iou_imp2":
                takes = takes or inside / own.sum() >= 0.85
            if takes:
                claims.append(k)
                painted |= mask
        if name != "max_iou":
            painted |= own & ~covered
        for k in claims:
            claimed_by_earlier[k] = True
        result[painted] = value
    return result


PUBLISHED = ("max_iou", "max_iou_imp", "max_iou_imp2")


@st.composite
def label_and_masks(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    values = st.sampled_from([0, 1, 2, 3, 254, 255])
    label = draw(hnp.arrays(np.uint8, (height, width), elements=values))
    count = draw(st.integers(0, 6))
    dense = [draw(hnp.arrays(bool, (height, width))) for _ in range(count)]
    # Empty, full and exact masks are where ties and the coverage rule live.
    dense += draw(st.lists(st.sampled_from([label == 1, label == 2, label >= 1, label > 255, label >= 0]), max_size=4))
    return label, np.array(dense, bool).reshape(-1, height, width)


@pytest.mark.parametrize("name", PUBLISHED)
@settings(max_examples=300, deadline=None)
@given(case=label_and_masks())
def test_equals_the_definition(name, case):
    label, dense = case
    assert np.array_equal(STRATEGIES[name](label, Masks.from_dense(dense)), reference(name, label, dense))


@pytest.mark.parametrize("name", PUBLISHED)
def test_equals_the_definition_on_larger_images(name):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        label, masks = random_label(rng, void=True), random_masks(rng, count=30)
        dense = np.stack([masks.dense(k) for k in range(len(masks))])
        assert np.array_equal(STRATEGIES[name](np.asfortranarray(label), masks), reference(name, label, dense))


def test_coverage_rule_at_its_edge():
    label = np.zeros((1, 40), np.uint8)
    label[0, :20] = 1
    for inside, claimed in ((16, False), (17, True)):
        mask = np.zeros((1, 1, 40), bool)
        mask[0, 0, 20 - inside :] = True  # most of it background, so only coverage can claim it
        result = STRATEGIES["max_iou_imp2"](label, Masks.from_dense(mask))
        assert (result[0, 39] == 1) == claimed


def test_half_of_a_mask_is_not_more_than_half():
    label = np.array([[1, 1, 0, 0]], np.uint8)
    assert not STRATEGIES["max_iou"](label, Masks.from_dense(np.ones((1, 1, 4), bool))).any()


def test_parameters_come_from_the_signature():
    strategy = STRATEGIES["max_iou_imp2"]
    assert parameters_of(strategy) == {"threshold": 0.5, "coverage": 0.85}
    assert resolve_parameters("max_iou_imp2", strategy, ["threshold=0.9"])["threshold"] == 0.9
    with pytest.raises(InputError, match="no such parameter"):
        resolve_parameters("max_iou_imp2", strategy, ["beta=1"])
    with pytest.raises(InputError, match="not a float"):
        resolve_parameters("max_iou_imp2", strategy, ["threshold=much"])
