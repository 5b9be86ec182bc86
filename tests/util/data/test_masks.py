import numpy as np
import pytest
from helpers import random_label, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from util.data.masks import Masks

dense_masks = hnp.arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)))


@settings(max_examples=200, deadline=None)
@given(dense=dense_masks, seed=st.integers(0, 99))
def test_agrees_with_dense_arithmetic_and_with_coco(dense, seed):
    rng = np.random.default_rng(seed)
    masks = Masks.from_dense(dense)
    label = rng.integers(0, 3, dense.shape[1:]).astype(np.uint8)
    assert len(masks) == len(dense)
    assert [masks.dense(k).tolist() for k in range(len(masks))] == dense.tolist()
    assert masks.areas.tolist() == dense.sum(axis=(1, 2)).tolist()
    assert masks.overlaps(label, [0, 2]).tolist() == [[(m & (label == c)).sum() for c in (0, 2)] for m in dense]
    assert np.allclose(masks.sums(label * 0.5), (dense * (label * 0.5)).sum(axis=(1, 2)))
    assert np.array_equal(masks.union(), dense.any(axis=0))
    assert np.array_equal(masks.union(np.arange(len(dense)) % 2 == 0), dense[::2].any(axis=0))
    atoms = masks.atoms
    assert np.array_equal(atoms.membership[atoms.index], np.moveaxis(dense, 0, -1))
    assert len(np.unique(atoms.membership, axis=0)) == len(atoms.membership)
    codes = [coco.encode(np.asfortranarray(m, np.uint8)) for m in dense]
    assert masks.counts() == [code["counts"].decode() for code in codes]
    assert masks.boxes.tolist() == [coco.toBbox(code).astype(int).tolist() for code in codes]
    again = Masks.from_counts(dense.shape[1:], masks.counts())
    assert again.starts.tolist() == masks.starts.tolist() and again.offsets.tolist() == masks.offsets.tolist()
    order = rng.permutation(len(dense))
    assert np.array_equal(masks.select(order).areas, masks.areas[order])


def test_uncompressed_and_mixed_codes():
    masks = Masks.from_counts((2, 3), [[0, 6], [2, 2, 2], Masks.from_dense(np.eye(2, 3, dtype=bool)[None]).counts()[0]])
    assert masks.areas.tolist() == [6, 2, 2]


def test_overlaps_refuse_another_shape():
    with pytest.raises(ValueError, match="shape"):
        random_masks(np.random.default_rng(0)).overlaps(random_label(np.random.default_rng(0))[:-1], [1])
