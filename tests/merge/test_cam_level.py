"""The strategy cam_level on a scene whose answer is known."""

import numpy as np

from merge.cam_level import merge
from util.data.masks import Masks


def scene():
    """An object of a bright head and a dim body on glowing ground; masks of the three and of the whole image."""
    head, body, ground = (np.zeros((40, 60), bool) for _ in range(3))
    head[10:20, 10:18], body[10:20, 18:40], ground[20:26, 14:36] = True, True, True
    masks = Masks.from_dense(np.stack([head, body, ground, np.ones((40, 60), bool)]))
    return head, body, ground, masks


def test_the_body_is_found_at_its_own_level_and_the_ground_is_not():
    head, body, ground, masks = scene()
    cam = 0.9 * head + 0.5 * body + 0.3 * ground + np.random.default_rng(0).uniform(-0.05, 0.05, head.shape)
    label = np.where(cam > 0.7, 4, 0).astype(np.uint8)
    result = merge(label, masks, tags=(4,), cam={4: np.clip(cam, 0, 1).astype(np.float32)})
    assert (result == np.where(head | body, 4, 0)).all()


def test_ground_that_glows_less_than_the_object_is_dropped_from_the_label():
    head, body, ground, masks = scene()
    cam = {4: (0.95 * (head | body) + 0.75 * ground).astype(np.float32)}
    label = np.where(cam[4] > 0.5, 4, 0).astype(np.uint8)
    assert (merge(label, masks, tags=(4,), cam=cam) == np.where(head | body, 4, 0)).all()


def test_each_place_goes_to_the_class_that_is_nearest_to_its_level():
    head, body, ground, masks = scene()
    cam = {2: (0.9 * head + 0.3 * body).astype(np.float32), 5: (0.2 * head + 0.4 * body).astype(np.float32)}
    label = (5 * head + 2 * body).astype(np.uint8)
    label[10:12] = np.where(head, 2, np.where(body, 5, 0))[10:12]
    result = merge(label, masks, tags=(2, 5), cam=cam)
    assert (result == 2 * head + 5 * body).all()


def test_classes_that_the_tags_exclude_and_empty_maps_give_nothing():
    head, body, _, masks = scene()
    label = np.where(head, 4, 0).astype(np.uint8)
    result = merge(label, masks, tags=(3,), cam={4: head.astype(np.float32), 3: np.zeros(head.shape, np.float32)})
    assert not result.any()


def test_what_does_not_hang_together_with_the_label_is_no_part_of_it():
    head, body, _, _ = scene()
    far = np.zeros(head.shape, bool)
    far[30:38, 45:58] = True
    masks = Masks.from_dense(np.stack([head, body, far]))
    cam = {4: (0.9 * (head | body | far)).astype(np.float32)}
    assert (
        merge(np.where(head, 4, 0).astype(np.uint8), masks, tags=(4,), cam=cam) == np.where(head | body, 4, 0)
    ).all()


def test_a_class_that_would_grow_beyond_belief_stays_as_it_is():
    head, body, _, _ = scene()
    label = np.zeros(head.shape, np.uint8)
    label[12:15, 12:16] = 4
    masks = Masks.from_dense(np.stack([head & (label == 0), body, label == 4]))
    cam = {4: (0.9 * (head | body)).astype(np.float32)}
    assert (merge(label, masks, tags=(4,), cam=cam) == label).all()
    assert (merge(label, masks, tags=(4,), cam=cam, growth=100) == np.where(head | body, 4, 0)).all()


def test_void_stays_where_no_class_is_found():
    head, body, _, masks = scene()
    label = np.where(head, 4, 255).astype(np.uint8)
    result = merge(label, masks, tags=(4,), cam={4: (head | body).astype(np.float32)})
    assert (result == np.where(head | body, 4, 255)).all()


def test_without_a_cam_the_label_takes_its_place():
    head, body, ground, masks = scene()
    label = np.where(head | body, 4, 0).astype(np.uint8)
    label[20:22, 14:36] = 4  # spills onto the ground
    assert (merge(label, masks) == np.where(head | body, 4, 0)).all()
