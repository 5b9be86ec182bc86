"""The generated data set: layout, exactness, repeatability, and the difficulties that it promises."""

import json

import numpy as np
import pytest
from scipy import ndimage

from models.sam.regions import region_masks
from util.data import synthetic as shapes
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.images import find_image, read_image
from util.data.labels import label_path, read_label
from util.data.voc import load_classes
from util.runtime.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    shapes.write_data_set(folder, {"train": 6, "val": 3}, side=80, seed=4)
    return folder


def test_layout_is_what_the_stages_read(data):
    classes = load_classes(data / "class_names.txt")
    assert classes.names == shapes.CLASSES.names
    ids = [i for name in ("train", "val") for i in read_id_list(data / "ImageSets/Segmentation" / f"{name}.txt")]
    assert len(set(ids)) == 9
    tags = read_image_labels(data / "cls_labels.npy", classes)
    assert tags == read_image_labels(data / "cls_labels.csv", classes)
    for image_id in ids:
        image = read_image(find_image(data / "JPEGImages", image_id))
        label = read_label(label_path(data / "SegmentationClassAug", image_id), len(classes))
        assert image.shape[:2] == label.shape and sorted(label.shape) == [60, 80]
        assert tags[image_id] == tuple(np.unique(label)[1:])


def test_same_seed_same_files_and_longer_lists_begin_alike(data, tmp_path):
    shapes.write_data_set(tmp_path, {"val": 4, "train": 2}, side=80, seed=4)
    for name in ("train_0001", "val_0002"):
        for part in (f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png"):
            assert (data / part).read_bytes() == (tmp_path / part).read_bytes()
    shapes.write_data_set(tmp_path / "other", {"train": 2}, side=80, seed=5)
    assert (data / "JPEGImages/train_0001.jpg").read_bytes() != (
        tmp_path / "other/JPEGImages/train_0001.jpg"
    ).read_bytes()


def test_what_is_up_to_date_stays_and_what_is_damaged_is_made_again(data):
    whole = (data / "JPEGImages/val_0000.jpg").read_bytes()
    untouched = (data / "JPEGImages/val_0001.jpg").stat().st_mtime_ns
    (data / "JPEGImages/val_0000.jpg").write_bytes(whole[:100])
    shapes.write_data_set(data, {"train": 6, "val": 3}, side=80, seed=4)
    assert (data / "JPEGImages/val_0000.jpg").read_bytes() == whole
    assert (data / "JPEGImages/val_0001.jpg").stat().st_mtime_ns == untouched
    assert json.loads((data / "run.json").read_text())["options"] == {"side": 80, "seed": 4}


@pytest.mark.parametrize("counts, side", [({"train": 0}, 80), ({}, 80), ({"train": 1}, 30)])
def test_what_cannot_be_made_is_refused(tmp_path, counts, side):
    with pytest.raises(InputError):
        shapes.write_data_set(tmp_path, counts, side=side)


@pytest.fixture(scope="module")
def drawn():
    return [shapes.image_of(f"look_{number}", seed=1) for number in range(40)]


def test_classes_objects_and_overlaps_vary(drawn):
    labels = [label for _, label in drawn]
    shown = [set(np.unique(label)) - {0} for label in labels]
    assert set().union(*shown) == set(range(1, 7))
    assert any(len(values) == 1 for values in shown) and any(len(values) > 1 for values in shown)
    foreground = np.mean([(label > 0).mean() for label in labels])
    assert 0.1 < foreground < 0.4
    touching = 0
    for label in labels:
        pairs = np.stack([label[:, 1:], label[:, :-1]]).reshape(2, -1)
        touching += bool(((pairs[0] != pairs[1]) & (pairs > 0).all(axis=0)).any())
    assert touching >= 2


def test_bodies_are_plain_and_heads_are_not(drawn):
    """The colours of an object are mostly those of its body; the marks make the rest, in one small place."""
    shares = []
    for image, label in drawn:
        parts, count = ndimage.label(label > 0)
        for part in range(1, count + 1):
            inside = parts == part
            if len(np.unique(label[inside])) > 1 or inside.sum() < 500:
                continue
            far = np.linalg.norm(image - np.median(image[inside], axis=0), axis=2) > 70
            shares.append((far & inside).sum() / inside.sum())
    assert len(shares) > 20
    assert 0.02 < np.median(shares) < 0.3


def test_the_ground_shows_the_class_most_of_the_time():
    rng = np.random.default_rng(0)
    canvas = shapes._Canvas(rng, 60, 80)
    grounds = [(one.value, one.ground) for one in (shapes._shape(rng, canvas, 3) for _ in range(200))]
    share = np.mean([ground == value - 1 for value, ground in grounds])
    assert 0.6 < share < 0.85


def test_regions_without_a_network_find_most_objects(drawn):
    overlaps = []
    for image, label in drawn[:12]:
        masks = region_masks(image)
        dense = np.array([masks.dense(k) for k in range(len(masks))])
        parts, count = ndimage.label(label > 0)
        for part in range(1, count + 1):
            inside = parts == part
            if len(np.unique(label[inside])) == 1 and inside.sum() > 500:
                shared = (dense & inside).sum(axis=(1, 2))
                overlaps.append((shared / (dense | inside).sum(axis=(1, 2))).max())
    assert np.mean(overlaps) > 0.6
