"""Soft CAMs to label maps, and the threshold sweep."""

import numpy as np
import pytest

from models.cam.labels import ThresholdSweep, label_from_cams
from util.data.voc import load_classes
from util.evaluation.metrics import ConfusionMatrix
from util.runtime.errors import InputError

CLASSES = load_classes(num_classes=4)


def random_case(generator, shape=(13, 17)):
    cam = {value: generator.random(shape, np.float32) for value in (1, 3)}
    cam[1][0, :3] = 0.5  # exactly at a threshold
    truth = generator.choice(np.array([0, 1, 2, 3, 255], np.uint8), shape)
    return cam, truth


def test_label_by_hand():
    cam = {2: np.float32([[0.2, 0.6, 0.5]]), 1: np.float32([[0.1, 0.9, 0.5]])}
    assert label_from_cams(cam, 0.3, (1, 3)).tolist() == [[0, 1, 1]]  # the lower class wins a tie
    assert label_from_cams(cam, 0.5, (1, 3)).tolist() == [[0, 1, 0]]  # at the threshold is background
    assert not label_from_cams({}, 0.3, (1, 3)).any()
    with pytest.raises(InputError, match="3x1 pixels, the image 2x1"):
        label_from_cams(cam, 0.3, (1, 2))


def test_sweep_equals_scoring_the_labels_of_every_threshold():
    generator = np.random.default_rng(0)
    cases = [random_case(generator) for _ in range(3)] + [({}, np.zeros((4, 5), np.uint8))]
    sweep = ThresholdSweep(4, (0.0, 0.25, 0.5, 0.9))
    for cam, truth in cases:
        sweep.update(cam, truth)
    for threshold, counts in zip((0.0, 0.25, 0.5, 0.9), sweep.counts, strict=True):
        matrix = ConfusionMatrix(4)
        for cam, truth in cases:
            matrix.update(label_from_cams(cam, threshold, truth.shape), truth)
        assert np.array_equal(counts, matrix.counts), threshold
    best, miou = sweep.best(CLASSES)
    scores = [score["miou"] for score in sweep.scores(CLASSES)]
    assert miou == max(scores) and best == (0.0, 0.25, 0.5, 0.9)[int(np.argmax(scores))]


def test_sweep_refuses_ground_truth_of_other_classes():
    with pytest.raises(InputError, match="holds 9 with 4 classes"):
        ThresholdSweep(4).update({}, np.full((2, 2), 9, np.uint8))
