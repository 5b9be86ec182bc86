"""The size that images go through a network at, tiles, and label maps in strips of rows."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from util.data.voc import class_table

torch = pytest.importorskip("torch")

import torch.nn.functional as F

from models.common.preprocessing import IMAGENET
from models.segmentation import inference
from models.segmentation.inference import PixelNetwork, Segmenter, typical_side, working_size
from models.segmentation.tiling import tiles

CPU = torch.device("cpu")


class ColourNet(torch.nn.Module):
    """Three classes by the strongest channel, seen at a quarter of the size; notes the sizes of its inputs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, pixels):
        self.seen.append(tuple(pixels.shape[2:]))
        coarse = F.avg_pool2d(pixels, 4)
        return F.interpolate(4 * coarse, size=pixels.shape[2:], mode="bilinear", align_corners=False)


def segmenter_of(net=None, **config):
    return Segmenter(PixelNetwork(net or ColourNet(), IMAGENET), class_table(["a", "b", "c"]), config, None, CPU)


def blobs(height, width, seed=0):
    """An image with large patches of red, green and blue."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@given(st.integers(1, 400), st.integers(1, 400), st.integers(16, 100), st.floats(0, 0.3), st.sampled_from([1, 4]))
def test_inner_parts_of_tiles_cover_every_pixel_once(height, width, side, overlap, align):
    covered = np.zeros((height, width), int)
    for tile in tiles(height, width, side, overlap, align):
        covered[tile.inner] += 1
        for outer, inner, length in zip(tile.outer, tile.inner, (height, width), strict=True):
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= length
            assert outer.stop - outer.start <= side and outer.start % align == 0
            margin = int(side * overlap)
            assert inner.start == 0 or inner.start - outer.start >= margin
            assert inner.stop == length or outer.stop - inner.stop >= margin
    assert (covered == 1).all()


def test_images_of_any_size_go_through_at_the_size_of_training():
    segmenter = segmenter_of(working_size=96)
    small = blobs(72, 96)
    large = np.array(Image.fromarray(small).resize((960, 720), Image.Resampling.BICUBIC))
    labels = [segmenter.segment(image).label for image in (small, large)]
    assert segmenter.net.net.seen == [(80, 96), (80, 96)]
    assert labels[1].shape == (720, 960)
    reduced = np.array(Image.fromarray(labels[1]).resize((96, 72), Image.Resampling.NEAREST))
    assert (reduced == labels[0]).mean() > 0.97
    segmenter.long_side = None
    segmenter.segment(large)
    assert segmenter.net.net.seen[-1] == (720, 960)
    segmenter.segment(large, scales=(0.5,))
    assert segmenter.net.net.seen[-1] == (368, 480)


@pytest.mark.parametrize("views", [{}, {"scales": (0.5, 1.0), "flip": True}])
@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_strips_give_what_the_whole_gives(monkeypatch, views, rows):
    """Label maps and confidences in strips of rows are those of probabilities made in one piece by torch."""
    image = blobs(61, 83)
    segmenter = segmenter_of(working_size=40)
    monkeypatch.setitem(inference.STRIP_BYTES, "cpu", rows * 4 * 3 * 83)
    found = segmenter.segment(image, **views)
    expected = torch.zeros(3, 61, 83)
    every = segmenter._views(image, segmenter._factors(image, views.get("scales", (1.0,))), views.get("flip", False))
    for view in every:
        expected += F.interpolate(view, size=(61, 83), mode="bilinear", align_corners=False)[0].softmax(0) / len(every)
    np.testing.assert_allclose(segmenter.predict(image, **views), expected, atol=1e-5)
    assert (found.label == expected.argmax(0).numpy()).all()
    assert np.abs(found.confidence - 255 * expected.max(0).values.numpy()).max() <= 0.51


def test_too_large_an_input_is_cut_into_tiles(monkeypatch):
    image = blobs(300, 420)
    segmenter = segmenter_of()
    whole = segmenter.segment(image)
    monkeypatch.setattr(inference, "LARGEST_INPUT", 128)
    tiled = segmenter.segment(image)
    assert max(map(max, segmenter.net.net.seen[1:])) == 128 and len(segmenter.net.net.seen) > 9
    assert (tiled.label == whole.label).all() and np.abs(tiled.confidence.astype(int) - whole.confidence).max() <= 1


@pytest.mark.parametrize("size", [{}, {"working_size": 40}])
def test_only_allowed_classes_are_chosen(size):
    image = blobs(50, 60)
    free, bound = segmenter_of(**size).segment(image), segmenter_of(**size).segment(image, allowed={0, 2})
    assert set(np.unique(free.label)) == {0, 1, 2} and set(np.unique(bound.label)) == {0, 2}
    kept = free.label != 1
    assert (free.label == bound.label)[kept].all() and (bound.confidence >= free.confidence)[kept].all()


def test_working_size_is_typical_long_side_times_typical_scale(tmp_path):
    for name, size in (("a", (300, 400)), ("b", (500, 100)), ("c", (20, 600))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    assert typical_side(tmp_path, ["a", "b", "c"]) == 500
    assert working_size(500, (0.5, 2.0)) == 500
    assert working_size(500, (0.4, 0.8)) == round(500 * 0.32**0.5)


def test_a_large_image_enters_the_network_as_its_small_version_does():
    small = blobs(72, 96)
    large = np.array(Image.fromarray(small).resize((768, 576), Image.Resampling.BICUBIC))
    for factor in (1.0, 0.7):  # of the small version's size
        expected = small if factor == 1 else cv2.resize(small, (67, 50), interpolation=cv2.INTER_AREA)  # as in training
        entered = inference._resized(large, factor / 8, detail=1 / 8)
        assert entered.shape == expected.shape
        assert np.abs(entered.astype(int) - expected).mean() < 0.2  # 1.8 by a triangle filter
        assert (inference._resized(small, factor) == expected).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [{}, {"working_size": 40}])
def test_an_image_that_cannot_be_written_to_needs_no_warning(size):
    image = blobs(50, 60)
    image.setflags(write=False)
    assert segmenter_of(**size).segment(image).label.shape == (50, 60)
