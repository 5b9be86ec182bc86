"""Labels and masks as images."""

import numpy as np
import pytest

from util import vis
from util.data.masks import Masks
from util.data.voc import VOID, palette

GREY = np.full((80, 100, 3), 128, np.uint8)


def white(image):
    return (image == 255).all(axis=2)


def test_specks_have_no_outline():
    label = np.zeros((80, 100), np.uint8)
    label[20:60, 20:60] = 8
    plain = vis.overlay(GREY, label, palette())
    label[::7, 65::7] = 8  # some fifty pixels of their own
    speckled = vis.overlay(GREY, label, palette())
    assert white(plain).sum() > 100 and np.array_equal(white(plain), white(speckled))
    # Borders run inside what they enclose.
    assert not white(plain)[label == 0].any()


def test_classes_that_touch_have_a_border_between_them():
    label = np.zeros((80, 100), np.uint8)
    label[20:60, 20:50], label[20:60, 50:80] = 8, 12
    drawn = white(vis.overlay(GREY, label, palette()))
    assert drawn[25:55, 49].all() and drawn[25:55, 50].all()


@pytest.mark.parametrize("size", [100, 2000])
def test_outlines_are_as_thick_relative_to_the_image(size):
    label = np.zeros((size, size), np.uint8)
    label[size // 4 : size // 2, size // 4 : size // 2] = 1
    across = white(vis.overlay(np.zeros((size, size, 3), np.uint8), label, palette()))[size * 3 // 8]
    assert across.sum() / size == pytest.approx(0.02 if size == 100 else 0.005, rel=0.5)


@pytest.mark.parametrize("value", [1, 2, VOID])
def test_legends_have_the_colours_of_overlays(value):
    drawn = vis.overlay(GREY, np.full((80, 100), value, np.uint8), palette())
    assert tuple(drawn[40, 50]) == vis.seen_color(palette()[value]) != tuple(palette()[value])


def prompted():
    dense = np.zeros((3, 80, 100), bool)
    dense[0, 10:30, 10:30] = dense[1, 40:70, 40:90] = dense[2, 5:9, 70:90] = True
    extra = ({"category": "cat", "score": 0.934}, {"category": "dog"}, {})
    return Masks.from_dense(dense, extra=extra).with_classes(("background", "cat", "dog"))


def test_masks_that_know_their_class_have_its_colour_and_a_note():
    masks, colors = prompted(), palette()
    own = vis.mask_colors(masks, colors)
    assert own[:2].tolist() == colors[[1, 2]].tolist() and own[2].tolist() == vis.mask_colors(masks)[2].tolist()
    assert vis.mask_notes(masks) == (("cat 0.93", 10, 10), ("dog", 40, 40))
    assert [vis.mask_note(masks, k) for k in range(3)] == ["cat 0.93", "dog", ""]
    drawn = vis.draw_masks(GREY, masks, colors)
    assert np.array_equal(drawn[20, 20], np.rint(0.45 * 128 + 0.55 * colors[1]))


def test_masks_of_an_image_have_colours_that_differ():
    masks = Masks.from_dense(np.ones((8, 2, 2), bool))
    colors = vis.mask_colors(masks)
    apart = np.abs(colors[:, None] - colors[None]).max(axis=2) + 255 * np.eye(8)
    assert apart.min() > 60 and apart[:3, :3].min() > 140
    assert vis.mask_colors(Masks.from_dense(np.zeros((0, 2, 2), bool))).shape == (0, 3)
