"""Class-aware masks to labels: one case for each rule, worked out by hand."""

import inspect

import numpy as np
import pytest

from merge import STRATEGIES
from merge.parameters import parameters_of
from merge.prompted import merge
from models.sam.text import TextGenerator
from util.data.mask_files import read_masks, write_masks
from util.data.masks import LEAST_SCORE, Masks
from util.runtime.errors import InputError

NAMES = ("background", "cat", "dog", "person")


def masks_of(*answers, size=(6, 8)):
    """Masks from ``(rows, columns, category, score)``, perhaps with the kind of their prompt."""
    dense = np.zeros((len(answers), *size), bool)
    for mask, (rows, columns, *_) in zip(dense, answers):
        mask[rows, columns] = True
    keys = ("category", "score", "prompt")
    extra = [dict(zip(keys, about)) if about[0] else {} for _, _, *about in answers]
    return Masks.from_dense(dense, extra=extra).with_classes(NAMES)


ALL = slice(None)
EMPTY = np.zeros((6, 8), np.uint8)


def test_a_mask_paints_its_class_and_the_label_stays_elsewhere():
    label = np.full((6, 8), 3, np.uint8)
    result = merge(label, masks_of((slice(0, 2), ALL, "cat", 0.9)))
    assert (result[:2] == 1).all() and (result[2:] == 3).all()
    assert (merge(label, masks_of((slice(0, 2), ALL, "cat", 0.9)), keep=False)[2:] == 0).all()


def test_low_scores_other_tags_and_masks_without_category_do_not_count():
    masks = masks_of((slice(0, 2), ALL, "cat", 0.4), (slice(2, 4), ALL, "dog", 0.9), (slice(4, 6), ALL, None, 1.0))
    assert (merge(EMPTY, masks, tags=(1, 3)) == 0).all()
    assert (merge(EMPTY, masks, tags=(1, 2)) == np.repeat([0, 0, 2, 2, 0, 0], 8).reshape(6, 8)).all()


def test_a_clearly_smaller_mask_is_in_front():
    masks = masks_of((slice(0, 3), slice(0, 3), "cat", 0.6), (ALL, ALL, "dog", 0.99))
    assert (merge(EMPTY, masks)[:3, :3] == 1).all()


def test_of_masks_alike_in_size_the_better_score_wins():
    masks = masks_of((slice(0, 4), ALL, "cat", 0.6), (slice(2, 6), ALL, "dog", 0.9))
    assert (merge(EMPTY, masks)[:, 0] == [1, 1, 2, 2, 2, 2]).all()


def test_two_classes_alike_in_size_and_score_leave_void():
    masks = masks_of((slice(0, 4), ALL, "cat", 0.9), (slice(2, 6), ALL, "dog", 0.88))
    assert (merge(EMPTY, masks)[:, 0] == [1, 1, 255, 255, 2, 2]).all()


def test_a_mask_that_a_cam_asked_for_must_fit_the_label():
    label = np.zeros((6, 8), np.uint8)
    label[0] = label[5] = 1

    def painted(kind, category="cat", rows=5, **parameters):
        mask = masks_of((slice(0, rows), ALL, category, 0.9, kind))
        return bool((merge(label, mask, **parameters)[:rows] == NAMES.index(category)).all())

    assert not painted("cam")  # 8 of the mask's 40 pixels are the cat's, and 8 of the cat's 16 are in the mask
    assert painted("tags") and painted("boxes")  # who asked knew
    assert painted("cam", rows=3)  # 8 of 24
    assert painted("cam", coverage=0.5) and painted("cam", agreement=0.2) and painted("cam", agreement=0)
    assert painted("cam", "dog")  # the label has no dog, and says nothing of it


def test_masks_of_one_class_are_united():
    masks = masks_of((slice(0, 4), ALL, "cat", 0.9), (slice(2, 6), ALL, "cat", 0.6))
    assert (merge(EMPTY, masks) == 1).all()


def test_without_prompted_masks_nothing_changes():
    label = np.arange(48, dtype=np.uint8).reshape(6, 8) % 4
    assert (merge(label, masks_of((ALL, ALL, None, 1.0))) == label).all()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("prompted", "s2c")])
def test_other_strategies_ignore_categories(name):
    label = np.zeros((6, 8), np.uint8)
    label[:3, :5] = 1
    masks = masks_of((slice(0, 4), slice(0, 6), "dog", 0.9), (slice(3, 6), ALL, "person", 0.8))
    plain = Masks.from_dense(np.stack([masks.dense(k) for k in range(2)]))
    assert (STRATEGIES[name](label, masks) == STRATEGIES[name](label, plain)).all()


def test_what_the_text_stage_writes_counts():
    assert parameters_of(merge)["score"] == LEAST_SCORE
    assert inspect.signature(TextGenerator).parameters["threshold"].default == LEAST_SCORE
    masks = masks_of((slice(0, 2), ALL, "cat", LEAST_SCORE), (slice(2, 4), ALL, "cat", np.nextafter(LEAST_SCORE, 1)))
    assert (merge(EMPTY, masks)[:, 0] == [0, 0, 1, 1, 0, 0]).all()  # as the stage: a higher score


def test_categories_and_scores_are_written_and_read(tmp_path):
    masks = masks_of((slice(0, 2), ALL, "cat", 0.75, "tags"), (slice(2, 4), ALL, None, 1.0))
    write_masks(tmp_path / "a.json", masks, "a", "a.jpg")
    found = read_masks(tmp_path, "a")
    assert found.categories == ("cat", None) and found.prompts == ("tags", None)
    assert found.scores[0] == 0.75 and np.isnan(found.scores[1])
    assert found.with_classes(NAMES).classes.tolist() == [1, -1]


def test_an_unknown_category_is_named():
    with pytest.raises(InputError, match="'dog'.*not a class here.*cat"):
        masks_of((ALL, ALL, "dog", 1.0)).with_classes(("background", "cat"))


@pytest.mark.parametrize("about", ['"category": 3', '"score": "high"'])
def test_malformed_categories_are_named(tmp_path, about):
    write_masks(tmp_path / "a.json", masks_of((ALL, ALL, None, 1.0)), "a", "a.jpg")
    text = (tmp_path / "a.json").read_text().replace('"id":0', f'{about},"id":0')
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json: not in SA-1B's mask format"):
        read_masks(tmp_path, "a")
