"""Hypothesis on every parser: whatever the bytes, an answer or an InputError, and the answer is right."""

import json
import pickle

import corpus
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsers import EXAMPLES, PARSERS, try_one
from pycocotools import mask as coco

from util.data.masks import Masks
from util.data.npy import load_npy_dict
from util.runtime.errors import InputError

EXAMPLES_EACH = 150
quick = settings(
    max_examples=EXAMPLES_EACH,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "drop", "insert", "double", "cut"]), st.floats(0, 1), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=5,
)


def edited(data: bytes, changes) -> bytes:
    """``data`` with some bytes changed."""
    for kind, where, more in changes:
        place = int(where * len(data))
        if kind == "flip" and place < len(data):
            data = data[:place] + bytes([data[place] ^ more[0]]) + data[place + 1 :]
        elif kind == "drop":
            data = data[:place] + data[place + len(more) :]
        elif kind == "insert":
            data = data[:place] + more + data[place:]
        elif kind == "double":
            data = data[:place] + data[place : place + 40] * 2 + data[place + 40 :]
        elif kind == "cut":
            data = data[:place]
    return data


@pytest.mark.parametrize("name", PARSERS)
def test_sound_examples_are_read(name):
    assert all(try_one(name, data) for data in EXAMPLES[name])


@pytest.mark.parametrize("name", PARSERS)
@quick
@given(data=st.binary(max_size=300))
def test_any_bytes(name, data):
    try_one(name, data)


@pytest.mark.parametrize("name", PARSERS)
@quick
@given(number=st.integers(0, 99), changes=edits)
def test_sound_examples_with_some_bytes_changed(name, number, changes):
    try_one(name, edited(EXAMPLES[name][number % len(EXAMPLES[name])], changes))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@quick
@given(place=st.integers(0, 99), value=values)
def test_any_value_anywhere_in_a_mask_file(place, value):
    content = json.loads(EXAMPLES["mask file"][0])
    spots = []

    def collect(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)):
                collect(node[key])

    collect(content)
    node, key = spots[place % len(spots)]
    node[key] = value
    try_one("mask file", json.dumps(content).encode())


@settings(quick, max_examples=300)
@given(
    code=st.text(st.sampled_from([chr(c) for c in range(48, 112)]), max_size=12),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_a_code_that_is_taken_says_what_pycocotools_reads(code, height, width):
    try:
        masks = Masks.from_counts((height, width), [code])
    except InputError:
        return
    expected = coco.decode({"size": [height, width], "counts": code.encode()})
    assert np.array_equal(masks.dense(0), expected.astype(bool))


@quick
@given(runs=st.lists(st.integers(-3, 40), max_size=8))
def test_run_lengths_are_taken_if_and_only_if_they_fill_the_image(runs):
    fits = sum(runs) == 30 and min(runs, default=0) >= 0
    try:
        masks = Masks.from_counts((5, 6), [runs])
    except InputError:
        assert not fits
        return
    assert fits
    expected = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(6, 5).T
    assert np.array_equal(masks.dense(0), expected)


def test_flags_of_a_dtype_are_not_taken_from_the_file(tmp_path):
    """numpy believes them, and ends the process where they lie."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = corpus.npy({0: values})
    flags = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    assert data.count(flags) == 2
    (tmp_path / "a.npy").write_bytes(data.replace(flags + b"\0", flags + b"\x3f"))
    assert np.array_equal(load_npy_dict(tmp_path / "a.npy")[0], values)


@pytest.mark.parametrize("protocol", range(3, 6))
def test_arrays_of_any_pickle_come_back_as_they_were(tmp_path, protocol):
    values = {
        0: np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "words": np.array(["ab", "c"]),
        "empty": np.zeros((0, 3)),
        "none": None,
        "scalar": np.float32(2.5),
        "list": [np.uint8(3), "text"],
        "nothing": np.array(5.0),
        "half": np.ones(2, np.float16),
    }
    head = corpus.npy(values).split(b"\n")[0] + b"\n"
    (tmp_path / "a.npy").write_bytes(head + pickle.dumps(np.array(values, dtype=object), protocol))
    found = load_npy_dict(tmp_path / "a.npy")
    assert set(found) == set(values)
    for key, value in values.items():
        assert type(found[key]) is type(value)
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype and np.array_equal(found[key], value) and found[key].flags.writeable
        else:
            assert found[key] == value
