"""The restricted unpickler: what others' files hold is read as it was, no code is run, no size is believed."""

import io
import os
import pickle
import random
import struct

import numpy as np
import pytest
import torch

from util.data.npy import load_npy, load_npy_dict, save_npy_dict
from util.runtime.errors import InputError


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {os.environ['WSSS_EVIL']}",)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    flag = tmp_path / "ran"
    monkeypatch.setenv("WSSS_EVIL", str(flag))
    np.save(tmp_path / "evil.npy", np.array({0: Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="could run code"):
        load_npy_dict(tmp_path / "evil.npy")
    assert not flag.exists()
    np.load(tmp_path / "evil.npy", allow_pickle=True)
    assert flag.exists()  # so the file really was dangerous


def irn_cam():
    """What IRN's ``make_cam.py`` saves for an image of 48x64 with two classes."""
    cam = torch.arange(2 * 12 * 16).reshape(2, 12, 16) / 400
    keys = torch.nonzero(torch.tensor([0, 1, 0, 0, 1.0]))[:, 0]
    return {"keys": keys, "cam": cam, "high_res": np.full((2, 48, 64), 0.5, np.float32)}


def test_tensors_of_torch_come_as_arrays(tmp_path):
    cam = irn_cam()
    every = {"cut": cam["cam"][1:, ::2], "half": cam["cam"].half(), "none": torch.zeros(0), "flag": torch.tensor(True)}
    np.save(tmp_path / "a.npy", cam | every)
    found = load_npy_dict(tmp_path / "a.npy")
    for key, value in (cam | every).items():
        assert type(found[key]) is np.ndarray and np.array_equal(found[key], value) and found[key].flags.writeable
        assert found[key].dtype == np.asarray(value).dtype


def test_archives(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **{"3": np.ones((2, 3)), "11": np.zeros(4, np.uint8)})
    assert {key: value.shape for key, value in load_npy(tmp_path / "a.npz").items()} == {"3": (2, 3), "11": (4,)}
    np.savez_compressed(tmp_path / "b.npz", {3: np.ones(2)})
    assert load_npy_dict(tmp_path / "b.npz")[3].tolist() == [1, 1]
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(InputError, match="c.npz: not a readable"):
        load_npy(tmp_path / "c.npz")
    monkeypatch.setenv("WSSS_EVIL", str(tmp_path / "ran"))
    np.savez(tmp_path / "d.npz", {0: Evil()})
    with pytest.raises(InputError, match="could run code"):
        load_npy(tmp_path / "d.npz")
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("util.data.npy.LARGEST_ARCHIVE", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", np.zeros(1 << 20))
    with pytest.raises(InputError, match="unpacks to 8388[0-9]{3} bytes, more than 1 MiB"):
        load_npy(tmp_path / "a.npz")


def test_an_array_named_twice_is_read_once(tmp_path):
    shared = np.arange(1000.0)
    save_npy_dict(tmp_path / "a.npy", {"a": shared, "b": [shared]})
    found = load_npy_dict(tmp_path / "a.npy")
    assert found["a"] is found["b"][0] and np.array_equal(found["a"], shared)


class Rebuilt:
    """Pickles to a tensor over a storage of six floats, with a size, stride and offset that are made up."""

    def __init__(self, offset, size, stride):
        self.state = offset, size, stride

    def __reduce__(self):
        storage = torch.arange(6.0)._typed_storage()
        return torch._utils._rebuild_tensor_v2, (storage, *self.state, False, {})


@pytest.mark.parametrize(
    "state",
    [
        (0, (7,), (1,)),
        (4, (3,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (5, (3,), (-1,)),
        (0, (10**9,), (0,)),
        (0, (-1,), (1,)),
        (0, (2.0,), (1,)),
        (0, (1,) * 70, (1,) * 70),
        (0, (2,), (1, 1)),
    ],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path, state):
    save_npy_dict(tmp_path / "a.npy", {0: Rebuilt(0, (2, 3), (3, 1))})
    assert load_npy_dict(tmp_path / "a.npy")[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    save_npy_dict(tmp_path / "a.npy", {0: Rebuilt(*state)})
    with pytest.raises(InputError, match="a.npy: (not a readable|refused)"):
        load_npy_dict(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("array", "change"),
    [
        (np.arange(6.0), (b"K\x06", b"K\x07")),  # the shape
        (np.arange(6.0), (b"f8", b"O8")),  # the type
        (np.arange(6.0), (b"f8", b"V8")),
        (np.arange(6.0), (b"f8", b"f4")),
        (np.array(["abcd"]), (b"U4", b"U0")),
        (np.array(["abcd"]), (b"U4", b"U9")),
    ],
)
def test_what_an_array_says_of_itself_is_checked(tmp_path, array, change):
    save_npy_dict(tmp_path / "a.npy", {0: array})
    data = (tmp_path / "a.npy").read_bytes()
    assert change[0] in data
    (tmp_path / "a.npy").write_bytes(data.replace(*change))
    with pytest.raises(InputError, match="a.npy"):
        load_npy_dict(tmp_path / "a.npy")


def test_an_array_of_more_axes_than_numpy_takes_is_refused(tmp_path):
    """numpy writes beyond its own memory there."""
    array = pickle.dumps(np.zeros(1, np.uint8), 2)
    place = array.rindex(b"K\x01\x85")
    many = array[:place] + b"(" + b"K\x01" * 5000 + b"t" + array[place + 3 :]
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|O", "fortran_order": False, "shape": ()})
    (tmp_path / "a.npy").write_bytes(head.getvalue() + many)
    with pytest.raises(InputError, match="an array of shape"):
        load_npy_dict(tmp_path / "a.npy")


def test_irn_files_with_bytes_changed_are_read_or_refused(tmp_path):
    np.save(tmp_path / "a.npy", irn_cam())
    good, choose = (tmp_path / "a.npy").read_bytes(), random.Random(0)
    ends = [*range(100, 1200), *range(len(good) - 300, len(good))]
    refused = 0
    for _ in range(600):
        data = bytearray(good)
        for _ in range(choose.randint(1, 3)):
            place = choose.choice(ends)
            data[place : place + choose.randint(0, 2)] = struct.pack("<H", choose.getrandbits(16))
        (tmp_path / "b.npy").write_bytes(data)
        try:
            load_npy_dict(tmp_path / "b.npy")
        except InputError:
            refused += 1
    assert 100 < refused < 600
