"""Ground truth that cannot be ground truth is refused, for scores and for training."""

import numpy as np
import pytest
from PIL import Image

from models.segmentation.data import check_pairs
from util.data.labels import write_label
from util.data.voc import class_table
from util.evaluation.evaluate import evaluate_labels, in_order
from util.runtime.errors import InputError

CLASSES = class_table(["background", "cat", "dog"])


@pytest.fixture
def data(tmp_path):
    for image_id in "ab":
        label = np.zeros((20, 30), np.uint8)
        label[:10] = 1
        write_label(tmp_path / "pred" / f"{image_id}.png", label)
        write_label(tmp_path / "gt" / f"{image_id}.png", label * 255)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.dstack([label] * 3)).save(tmp_path / "images" / f"{image_id}.png")
    return tmp_path


def test_ground_truth_of_0_and_255_is_refused_unless_one_image_shows_a_class(data):
    with pytest.raises(
        InputError, match="gt: no pixel of a foreground class in the ground truth of the 2 images.*save it"
    ):
        evaluate_labels(data / "pred", data / "gt", ["a", "b"], CLASSES, workers=1)
    with pytest.raises(
        InputError, match="gt: no pixel of a foreground class in the 2 label maps.*save it as the number"
    ):
        check_pairs(["a", "b"], data / "images", data / "gt", 3, workers=1)
    write_label(data / "gt" / "b.png", np.eye(20, 30, dtype=np.uint8))
    assert evaluate_labels(data / "pred", data / "gt", ["a", "b"], CLASSES, workers=1).scores["images"] == 2
    assert check_pairs(["a", "b"], data / "images", data / "gt", 3, workers=1)[0] == ["a", "b"]


def test_label_maps_of_other_classes_are_refused_unless_it_is_one(data):
    write_label(data / "gt" / "a.png", np.eye(20, 30, dtype=np.uint8))
    for image_id in "cd":
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(data / "images" / f"{image_id}.png")
        write_label(data / "gt" / f"{image_id}.png", np.full((20, 30), 3, np.uint8))
    ids = ["a", "c", "d"]
    assert check_pairs(ids[:2], data / "images", data / "gt", 3, workers=1)[0] == ["a"]
    with pytest.raises(
        InputError, match="2 of 3 label maps do not fit the classes; the first, .*c.png: label values 3"
    ):
        check_pairs(ids, data / "images", data / "gt", 3, workers=1)


def test_black_ground_truth_is_warned_about(data, capsys):
    for image_id in "ab":
        write_label(data / "gt" / f"{image_id}.png", np.zeros((20, 30), np.uint8))
    assert evaluate_labels(data / "pred", data / "gt", ["a", "b"], CLASSES, workers=1).scores["images"] == 2
    assert "no pixel of a foreground class" in capsys.readouterr().err
    assert check_pairs(["a", "b"], data / "images", data / "gt", 3, workers=1)[0] == ["a", "b"]
    assert "no pixel of a foreground class in the 2 label maps, only 0" in capsys.readouterr().err


def test_what_is_wrong_with_every_image_is_not_printed_for_each(capsys):
    ids = [str(number) for number in range(50)]
    with pytest.raises(InputError, match="none of the 50 images.*the first: a wrong shape"):
        in_order([(image_id, None, "a wrong shape") for image_id in ids], ids, "labels")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*(f"{image_id}: a wrong shape" for image_id in "012"), "3 and others: the same"]
