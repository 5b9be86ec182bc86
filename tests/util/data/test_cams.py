"""Soft CAMs of TransCAM, IRN and numpy archives; values that cannot be CAMs are refused."""

import numpy as np
import pytest
import torch

from util.data.cams import read_cam, write_cam
from util.data.merge_inputs import Inputs
from util.data.npy import load_npy_dict, save_npy_dict
from util.data.voc import load_classes
from util.runtime.errors import InputError

MAP = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)


def test_soft_cams(tmp_path):
    cam = {3: np.linspace(-0.5, 1, 6, dtype=np.float32).reshape(2, 3)}
    write_cam(tmp_path, "a", cam)
    assert list(load_npy_dict(tmp_path / "a.npy")) == [2]
    again = read_cam(tmp_path, "a")
    assert list(again) == [3] and again[3].min() == 0 and again[3].max() == 1


def test_files_of_irn(tmp_path):
    keys = torch.nonzero(torch.tensor([0, 0, 1.0, 0, 1]))[:, 0]
    np.save(tmp_path / "a.npy", {"keys": keys, "cam": torch.rand(2, 12, 16), "high_res": np.stack([MAP, 1 - MAP])})
    cam = read_cam(tmp_path, "a")
    assert list(cam) == [3, 5] and np.array_equal(cam[3], MAP) and np.array_equal(cam[5], 1 - MAP)
    np.save(tmp_path / "b.npy", {"keys": keys.numpy(), "cam": torch.from_numpy(MAP)[None].repeat(2, 1, 1).half()})
    assert np.allclose(read_cam(tmp_path, "b")[5], MAP, atol=1e-3) and read_cam(tmp_path, "b")[5].dtype == np.float32


@pytest.mark.parametrize(
    "arrays", [{"2": MAP, "4": MAP / 2}, {"keys": np.array([2, 4]), "high_res": np.stack([MAP, MAP / 2])}]
)
def test_archives(tmp_path, arrays):
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    cam = read_cam(tmp_path, "a")
    assert list(cam) == [3, 5] and np.array_equal(cam[3], MAP) and np.array_equal(cam[5], MAP / 2)


def test_an_archive_of_a_dict(tmp_path):
    np.savez(tmp_path / "a.npz", {2: MAP})
    assert np.array_equal(read_cam(tmp_path, "a")[3], MAP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: MAP * 15.3}, "class 0 has values up to 15.3, where soft CAMs run from 0 to 1. They may be scores.*save"),
        ({0: MAP * 255}, "values up to 255.*shares of 255"),
        ({0: (MAP * 255).astype(np.uint8)}, "class 0 has uint8.*expected finite float"),
        ({"cat": MAP}, "key 'cat' is not a class index"),
        (
            {"keys": np.array([1, 2]), "high_res": MAP[None]},
            r"keys of shape \(2,\) and high_res of shape \(1, 48, 64\)",
        ),
        ({"keys": np.array([1, 1]), "cam": np.stack([MAP] * 2)}, "name a class twice"),
        ({"keys": np.array([1]), "map": MAP[None]}, "found keys, map, none of high_res, attn_highres, cam; save"),
        ({0: MAP - 3}, "values from -3 to -2.*scores .logits"),
        ({0: MAP * 4 - 3}, "values from -3 to 1.*scores .logits"),
        (
            {"keys": np.array([0, 3, 5]), "high_res": np.stack([1 - MAP, MAP, MAP / 2])},
            "key 0 is what the others leave: that of the background.*lower the keys by 1",
        ),
    ],
)
def test_what_cannot_be_soft_cams(tmp_path, content, message):
    save_npy_dict(tmp_path / "a.npy", content)
    with pytest.raises(InputError, match=f"a.npy: .*{message}"):
        read_cam(tmp_path, "a")


def test_files_of_clip_es(tmp_path):
    content = {"keys": np.array([0, 4]), "attn_highres": np.stack([MAP, MAP / 2]).astype(np.float16)}
    np.save(tmp_path / "a.npy", content)
    cam = read_cam(tmp_path, "a")
    assert list(cam) == [1, 5] and np.allclose(cam[5], MAP / 2, atol=1e-3)


def test_an_array_without_classes(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([MAP] * 20))
    with pytest.raises(InputError, match="holds an array of float32 .*does not say what class each map is of"):
        read_cam(tmp_path, "a")


def test_a_little_above_one_is_clipped(tmp_path):
    save_npy_dict(tmp_path / "a.npy", {0: MAP * 1.04})
    assert read_cam(tmp_path, "a")[1].max() == 1


def test_small_maps_are_refused_with_the_command_that_enlarges_them(tmp_path):
    write_cam(tmp_path, "a", {1: MAP})
    inputs = Inputs(None, tmp_path, load_classes(), cam_path=tmp_path)
    height, width = MAP.shape
    with pytest.raises(InputError, match=r"generate_cams.py --cams .* --out DIR enlarges them: give DIR/cams"):
        inputs.cam("a", (4 * height, 4 * width))
