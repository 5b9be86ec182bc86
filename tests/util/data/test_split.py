"""The held-out part of a list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from util.data.split import stratified


def singles(tags):
    return [[image_id] for image_id in tags]


def test_every_class_is_held_out_by_its_share():
    tags = {f"i{k:03}": (1 + (k % 3 == 0) + (k % 50 == 7),) for k in range(300)}
    train, val = stratified(tags, singles(tags), 0.2, 0)
    for value in (1, 2, 3):
        count = sum(value in shown for shown in tags.values())
        assert sum(value in tags[i] for i in val) == max(1, round(0.2 * count))
    assert sorted(train + val) == sorted(tags)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shown=st.lists(st.sets(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=60),
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_repeatable_and_never_hold_out_a_whole_class(shown, share, seed):
    tags = {f"i{k:03}": tuple(sorted(values)) for k, values in enumerate(shown)}
    train, val = stratified(tags, singles(tags), share, seed)
    assert sorted([*train, *val]) == sorted(tags)
    assert (train, val) == stratified(tags, singles(tags), share, seed)
    for value in range(1, 6):
        count = sum(value in s for s in tags.values())
        held = sum(value in tags[i] for i in val)
        assert held <= max(1, round(share * count)) and (count == 0 or held < count)


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_together(seed):
    tags = {f"i{k:02}": (1 + k % 2,) for k in range(40)}
    ids = [sorted(tags)[k] for k in np.random.default_rng(seed).permutation(40)]
    groups = [ids[:3], *([i] for i in ids[3:])]
    train, val = stratified(tags, groups, 0.25, seed)
    assert set(ids[:3]) <= set(train) or set(ids[:3]) <= set(val)


def test_another_seed_gives_another_part():
    tags = {f"i{k:02}": (1,) for k in range(40)}
    assert stratified(tags, singles(tags), 0.2, 0) != stratified(tags, singles(tags), 0.2, 1)
