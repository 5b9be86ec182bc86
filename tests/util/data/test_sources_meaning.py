"""Data that is well-formed but means something else than it seems: read as its owner means it, or refused."""

import json
import re

import pytest
from corpus_of_sources import image, put

from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.prepare import prepare
from util.data.prepare_report import report_text
from util.data.sources import read_source
from util.data.voc import load_classes
from util.runtime.errors import InputError


def found(path, places=(), **files):
    """What is read of images at these places and of files: image -> classes, and the source."""
    for number, place in enumerate(places):
        image(path / place, number)
    for name, text in files.items():
        put(path / name.replace("_csv", ".csv"), text)
    source = read_source(path)[1]
    return {item.name: item.classes for item in source.items}, source


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "train, test",
    [
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Training", "Testing"),
        ("train", "validate"),
        ("train", "dev"),
    ],
)
def test_other_names_of_splits(train, test, tmp_path):
    classes, source = found(
        tmp_path, [f"{part}/{name}/{name}.png" for part in (train, test) for name in ("sea", "ice")]
    )
    assert set(classes.values()) == {("sea",), ("ice",)}
    assert [item.split for item in source.items if train in item.name] == ["train", "train"]
    assert {item.split for item in source.items if test in item.name} in ({"test"}, {"val"})


@pytest.mark.parametrize(
    "places, unread",
    [
        (("train/cat/a.png", "train/dog/b.png", "unlabeled/c.png", "Test/d.png"), "Test, unlabeled"),
        (("cat/a.png", "dog/b.png", "test/c.png"), "test"),
    ],
)
def test_images_without_labels_beside_classes_are_left_out(places, unread, tmp_path):
    classes, source = found(tmp_path, places)
    assert set(classes.values()) == {("cat",), ("dog",)}
    assert source.notes == [f"not read: {unread}; for masks see docs/own-data.md, If you have some ground truth"]


@pytest.mark.parametrize(
    "places, message",
    [
        (
            ("color/Apple/a.png", "color/Corn/b.png", "grey/Apple/c.png", "grey/Corn/d.png"),
            "color, grey all hold .* Apple",
        ),
        (("train/cat/1.png", "car/2.png"), "train has folders in it, .* and car has images"),
        (("photos/1.png", "photos/2.png"), "photos are not classes"),
        (("DCIM/100CANON/1.png", "DCIM/101CANON/2.png"), "100CANON, 101CANON are not classes"),
        (("img_dir/1.png", "ann_dir/1.png"), "ann_dir, img_dir are not classes"),
        (("train_images/1.png", "train_masks/1.png"), "train_images, train_masks are not classes"),
        (("cat/1.png", "cat_masks/1.png"), "cat_masks are not classes"),
    ],
)
def test_folders_that_are_not_classes(places, message, tmp_path):
    with pytest.raises(InputError, match=message):
        found(tmp_path, places)


@pytest.mark.parametrize(
    "masks", [("COVID/masks/1.png", "Normal/masks/2.png"), ("COVID/images/1_mask.png", "Normal/images/2_mask_1.png")]
)
def test_masks_beside_images_are_not_images(masks, tmp_path):
    classes, source = found(tmp_path, ("COVID/images/1.png", "Normal/images/2.png", *masks))
    assert set(classes) == {"COVID/images/1.png", "Normal/images/2.png"}
    assert source.notes == ["2 files left out as masks, by their names"]


def test_masks_may_be_worn(tmp_path):
    assert set(found(tmp_path, ("mask/1.png", "no_mask/2.png"))[0].values()) == {("mask",), ("no_mask",)}


def test_code_beside_the_only_folder_of_images(tmp_path):
    put(tmp_path / "code/train.py", "")
    assert set(found(tmp_path, ("data/cat/1.png", "data/dog/2.png"))[0].values()) == {("cat",), ("dog",)}


def test_a_class_that_every_image_shows_needs_others(tmp_path):
    source = found(tmp_path / "s", ("cat/1.png", "cat/2.png"))[1]
    report = prepare(source, tmp_path / "a")[0]
    assert "every training image shows cat" in report_text(report, tmp_path) and not report.teaches
    for number in (3, 4):
        image(tmp_path / f"s/background/{number}.png", number)
    report = prepare(found(tmp_path / "s")[1], tmp_path / "b", share=0.5)[0]
    assert "every training image" not in report_text(report, tmp_path)
    assert (
        report.teaches
        and report.negatives == 2
        and report.lists == {"train": 2, "val": 2}
        and report.classes == {"cat": {"train": 1, "val": 1}}
    )


@pytest.mark.parametrize(
    "name, is_asked",
    [("Normal", True), ("no_tumor", True), ("good", True), ("PASS", True), ("io", True), ("goose", False)],
)
def test_a_class_that_may_mean_nothing_is_asked_about(tmp_path, name, is_asked):
    source = found(tmp_path / "s", ("tumor/1.png", f"{name}/2.png"))[1]
    assert (
        f"{name}: if such images show none" in report_text(prepare(source, tmp_path / "a")[0], tmp_path)
    ) is is_asked


def test_prepared_again_nothing_of_before_stays(tmp_path):
    """A photo may come back in another format, without its label map, and in another part; what others put there stays."""
    source, out = tmp_path / "s", tmp_path / "out"
    for name, value in (("1.jpg", 1), ("2.jpg", 2)):
        image(source / f"train/{name}", value)
    image(source / "test/3.jpg", 3)
    shapes = {"shapes": [{"label": "cat", "points": [[1, 1], [9, 1], [9, 9]]}], "imagePath": "1.jpg"}
    for place in ("train/1", "train/2", "test/3"):
        put(source / f"{place}.json", json.dumps({**shapes, "imagePath": f"{place[-1]}.jpg"}))
    prepare(read_source(source)[1], out)
    assert (out / "JPEGImages/1.jpg").exists() and (out / "SegmentationClassAug/1.png").exists()
    assert (out / "ImageSets/Segmentation/test.txt").exists()
    own = out / "SegmentationClassAug/drawn.png"
    own.write_bytes(b"by hand")
    again = tmp_path / "again"
    for number in (1, 2):
        image(again / f"cat/{number}.png", number)
    prepare(found(again)[1], out)
    assert sorted(path.name for path in (out / "JPEGImages").iterdir()) == ["1.png", "2.png"]
    assert [path.name for path in (out / "SegmentationClassAug").iterdir()] == [own.name]
    assert not (out / "ImageSets/Segmentation/test.txt").exists()


# --- tables -------------------------------------------------------------------------------------------------------

THREE = ("img/1.png", "img/2.png", "img/3.png")


@pytest.mark.parametrize("empty, is_negative", [("background", True), ("Background", True), ("", False)])
def test_an_image_of_the_class_background_shows_none(tmp_path, empty, is_negative):
    source = found(tmp_path / "s", THREE, tags_csv=f"image,label\n1.png,cat\n2.png,cat\n3.png,{empty}\n")[1]
    report = prepare(source, tmp_path / "a", share=0)[0]
    assert (report.negatives, report.unlabelled) == ((1, []) if is_negative else (0, ["3"]))
    assert list(report.classes) == ["cat"]


@pytest.mark.parametrize(
    "text, classes",
    [
        ("id,filename,label\n1,3.png,cat\n2,1.png,dog\n3,2.png,cat\n", {"1": "dog", "2": "cat", "3": "cat"}),
        ("image_id,file_name,kind\n1,3.png,cat\n2,1.png,dog\n", {"1": "dog", "3": "cat"}),
        ("species,image\ncat,1.png\ndog,2.png\n", {"1": "cat", "2": "dog"}),
        ("id_code,diagnosis\n1,cat\n2,dog\n3,cat\n", {"1": "cat", "2": "dog", "3": "cat"}),
        ("name,class_id,class_name,x\n1.png,0,cat,5\n2.png,1,dog,5\n", {"1": "cat", "2": "dog"}),
        ("name,objects,label\n1.png,3,cat\n2.png,1,dog\n", {"1": "cat", "2": "dog"}),
        ("My cats\nimage,label\n1.png,cat\n2.png,dog\n", {"1": "cat", "2": "dog"}),
        ("Bild;cat;dog\n1.png;ja;nein\n2.png;nein;ja\n", {"1": "cat", "2": "dog"}),
        ("Bild;cat;dog\n1.png;WAHR;FALSCH\n2.png;FALSCH;WAHR\n", {"1": "cat", "2": "dog"}),
        ("image,width,cat,dog\n1.png,640,1,0\n2.png,480,0,1\n", {"1": "cat", "2": "dog"}),
        ("image,label\n1.png,cat\n2.png,none\n3.png,nan\n", {"1": "cat", "2": "", "3": ""}),
        ("image,label\n1.png,Cat\n2.png,cat\n3.png,cat\n", {"1": "cat", "2": "cat", "3": "cat"}),
        ("image,label\n1.png,K\u00e4fer\n2.png,Ka\u0308fer\u200b\n", {"1": "K\u00e4fer", "2": "K\u00e4fer"}),
    ],
)
def test_columns_of_tables(text, classes, tmp_path):
    names = found(tmp_path, THREE, t_csv=text)[0]
    assert {name.removesuffix(".png"): ",".join(shown) for name, shown in names.items()} == classes


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "image,cat,dog\n1.png,1,-1\n2.png,-1,1\n",
            "the columns cat, dog, ... hold -1 and 1; -1 may mean absent, or unknown",
        ),
        ("image,animal,location\n1.png,cat,garden\n2.png,dog,park\n", "animal, location hold different things"),
        ("image,text\n" + "".join(f"{k}.png,a cat number {k}\n" for k in range(24)), "24 classes for 24 lines"),
    ],
)
def test_columns_that_may_not_be_classes(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        found(tmp_path, THREE, t_csv=text)


@pytest.mark.parametrize(
    "text",
    ["filename,label,split\n1.png,cat,test\n2.png,dog,train\n", "fname,labels,is_valid\n1.png,cat,1\n2.png,dog,0\n"],
)
def test_a_column_of_the_split_is_kept(text, tmp_path):
    first, second = found(tmp_path, THREE, t_csv=text)[1].items
    assert first.split in ("test", "val") and second.split == "train"


@pytest.mark.parametrize("tables", [("train/labels.csv", "test/labels.csv"), ("train_labels.csv", "test_labels.csv")])
def test_a_table_per_split(tables, tmp_path):
    for file, rows in zip(tables, ("1.png,cat\n2.png,dog\n", "1.png,cow\n")):
        put(tmp_path / file, f"image,label\n{rows}")
    put(tmp_path / "sample_submission.csv", "image,label\n1.png,cat\n")
    classes, source = found(tmp_path, ("train/1.png", "train/2.png", "test/1.png"))
    assert classes == {"train/1.png": ("cat",), "train/2.png": ("dog",), "test/1.png": ("cow",)} and not source.problems
    assert {item.name: item.split for item in source.items} == {name: name.split("/")[0] for name in classes}
    assert source.classes == ["cat", "cow", "dog"]


def test_a_list_of_images_to_be_guessed_is_not_a_table_of_labels(tmp_path):
    put(tmp_path / "test.csv", "image\n3.png\n")
    put(tmp_path / "train.csv", "image,label\n1.png,cat\n2.png,dog\n")
    assert found(tmp_path, THREE)[0] == {"1.png": ("cat",), "2.png": ("dog",)}


RECORDS = [{"file_name": f"{k}.png", "labels": shown} for k, shown in enumerate(("cat", "dog", ["cat", "dog"]), 1)]


@pytest.mark.parametrize(
    "content",
    [{"cat": ["1.png", "3.png"], "dog": ["2.png", "3.png"]}, {"info": {}, "images": RECORDS}, RECORDS],
    ids=["by class", "under a key", "records"],
)
def test_shapes_of_json(content, tmp_path):
    put(tmp_path / "t.json", json.dumps(content))
    assert found(tmp_path, THREE)[0] == {"1.png": ("cat",), "2.png": ("dog",), "3.png": ("cat", "dog")}


def test_objects_of_hugging_face_as_a_list(tmp_path):
    for number in (1, 2):
        image(tmp_path / f"{number}.png", number)
    objects = ('[{"category": "cat"}, {"category": "dog"}]', '[{"category": "cat"}]')
    lines = (f'{{"file_name": "{number}.png", "objects": {text}}}\n' for number, text in enumerate(objects, 1))
    put(tmp_path / "metadata.jsonl", "".join(lines))
    assert found(tmp_path)[0] == {"1.png": ("cat", "dog"), "2.png": ("cat",)}


def test_a_table_beside_folders_of_classes(tmp_path):
    places = ("cat/1.png", "dog/2.png", "dog/3.png")
    with pytest.raises(InputError, match=r"folders that may be classes \(cat, dog\), and a table"):
        found(tmp_path / "a", places, credits_csv="file,author\n1.png,Ann\n2.png,Bob\n")
    assert read_source(tmp_path / "a", name="folders")[0] == "folders"
    classes, source = found(tmp_path / "b", places, t_csv="path,label\ncat/1.png,cat\ndog/1.png,dog\ndog/2.png,dog\n")
    assert classes == {"cat/1.png": ("cat",), "dog/2.png": ("dog",)}
    assert "there is no such image" in source.problems["dog/1.png"]  # and it does not get the cat's
    answers = {"metadata_csv": "id,photographer\n1,Ann\n", "sample_submission_csv": "file,kind\n2.png,cat\n"}
    with pytest.raises(InputError, match="and a table"):
        found(tmp_path / "c", places, **answers)
    (tmp_path / "c/metadata.csv").unlink()
    assert read_source(tmp_path / "c")[0] == "folders"


# --- what is written is read ----------------------------------------------------------------------------------------

NAMES = (
    "a",
    "a.jpg",
    "c.png",
    "cat 1",
    "bird 0",
    " lead",
    "trail ",
    "# note",
    "x, y",
    "[1]",
    "'q'",
    "t\tab",
    "5 2007_000001",
)


def test_ids_that_lists_would_misread_are_renamed(tmp_path):
    for number, name in enumerate(NAMES):
        image(tmp_path / "s/cat" / f"{name}.png", number)
    image(tmp_path / "s/dog/z.png", 99)
    source = read_source(tmp_path / "s")[1]
    report, table = prepare(source, tmp_path / "out", share=0)
    ids = {path.stem for path in (tmp_path / "out/JPEGImages").iterdir()}
    assert len(ids) == len(NAMES) + 1 and not report.problems
    assert {"a", "a_jpg", "c_png", "cat 1", "bird 0"} < ids and report.renamed["a_jpg"] == "cat/a.jpg.png"
    assert set(read_id_list(tmp_path / "out/ImageSets/Segmentation/train.txt", tmp_path / "out/JPEGImages")) == ids
    assert set(read_image_labels(tmp_path / "out/cls_labels.npy", table)) == ids
    assert load_classes(tmp_path / "out/class_names.txt").names == table.names


@pytest.mark.parametrize("name", ["#cat", "names: x"])
def test_class_names_that_class_files_would_misread_are_refused(name, tmp_path):
    source = found(tmp_path / "s", THREE, t_csv=f"image,label\n1.png,{name}\n2.png,dog\n")[1]
    with pytest.raises(InputError, match=re.escape("rename it in --source")):
        prepare(source, tmp_path / "out")
