"""Class-aware masks to labels: one case for each rule, worked out by hand."""

import numpy as np
import pytest

from merge import STRATEGIES
from merge.prompted import merge
from util.data.mask_files import read_masks, write_masks
from util.data.masks import Masks
from util.runtime.errors import InputError

NAMES = ("background", "cat", "dog", "person")


def masks_of(*answers, size=(6, 8)):
    """Masks from ``(rows, columns, category, score)``."""
    dense = np.zeros((len(answers), *size), bool)
    for mask, (rows, columns, *_) in zip(dense, answers):
        mask[rows, columns] = True
    extra = [{"category": category, "score": score} if category else {} for *_, category, score in answers]
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


def test_categories_and_scores_are_written_and_read(tmp_path):
    masks = masks_of((slice(0, 2), ALL, "cat", 0.75), (slice(2, 4), ALL, None, 1.0))
    write_masks(tmp_path / "a.json", masks, "a", "a.jpg")
    found = read_masks(tmp_path, "a")
    assert found.categories == ("cat", None)
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
