import numpy as np
import pytest
from helpers import random_label

from util.data.voc import class_table, load_classes
from util.evaluation.metrics import ConfusionMatrix, difference
from util.evaluation.report import score_table
from util.runtime.errors import InputError

CLASSES = class_table(["background", "cat", "dog"])


def test_scores_by_hand():
    matrix = ConfusionMatrix(3)
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    matrix.update(np.array([[0, 1, 1, 255, 1]], np.uint8), truth)
    scores = matrix.scores(CLASSES)
    assert scores["per_class"]["background"] == {"iou": 1 / 2, "precision": 1.0, "recall": 1 / 2, "pixels": 2}
    assert scores["per_class"]["cat"] == {"iou": 1 / 3, "precision": 1 / 2, "recall": 1 / 2, "pixels": 2}
    assert scores["miou"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert scores["pixel_accuracy"] == 1 / 2 and scores["void"] == 1 / 4
    assert scores["miou_void_left_out"] == pytest.approx(1 / 2)
    assert "void 25.00 %" in score_table(scores)


def test_a_predicted_class_that_never_occurs_is_listed_and_costs_the_others():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 2]], np.uint8), np.array([[0, 0]], np.uint8))
    scores = matrix.scores(CLASSES)
    assert scores["predicted_but_absent"] == ["dog"]
    assert scores["miou"] == 1 / 2 and scores["classes"] == ["background"]


def test_one_matrix_over_the_set_is_no_mean_of_images():
    rng = np.random.default_rng(0)
    whole, parts = ConfusionMatrix(6), [ConfusionMatrix(6), ConfusionMatrix(6)]
    for index in range(8):
        pair = random_label(rng), random_label(rng, void=True)
        whole.update(*pair)
        parts[index % 2].update(*pair)
    parts[0].merge(parts[1])
    assert np.array_equal(parts[0].counts, whole.counts) and parts[0].images == 8


def test_only_restricts_the_mean_not_the_counting():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, 1]], np.uint8))
    scores = matrix.scores(CLASSES, [1])
    assert scores["miou"] == 1 / 2 and scores["pixel_accuracy"] == pytest.approx(2 / 3)
    assert difference(scores, scores)["miou"] == 0


@pytest.mark.parametrize(("prediction", "truth"), [([[3]], [[0]]), ([[0]], [[3]]), ([[0, 0]], [[0]])])
def test_what_does_not_fit_is_refused(prediction, truth):
    with pytest.raises(InputError):
        ConfusionMatrix(3).update(np.array(prediction, np.uint8), np.array(truth, np.uint8))


def test_class_files(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("background\r\ntea cup #ff0080\r\n\r\nspoon, 1,2,3\n")
    classes = load_classes(path)
    assert classes.names == ("background", "tea cup", "spoon")
    assert classes.colors[1:] == ((255, 0, 128), (1, 2, 3))
    with pytest.raises(InputError, match="says 4"):
        load_classes(path, 4)
    path.write_text("background\ncat\ncat\n")
    with pytest.raises(InputError, match="twice"):
        load_classes(path)


@pytest.mark.slow
def test_published_labels_score_what_is_known(voc12):
    from util.data.ids import read_id_list
    from util.evaluation.evaluate import evaluate_labels

    ids = read_id_list(voc12 / "ImageSets" / "Segmentation" / "train_1464.txt")
    labels, truth = voc12 / "pseudo_labels" / "transcam", voc12 / "SegmentationClassAug"
    scores = evaluate_labels(labels, truth, ids, load_classes(), workers=2).scores
    assert f"{100 * scores['miou']:.2f}" == "70.14" and len(scores["classes"]) == 21
