"""Data as people have it: wrapped in folders and archives, linked, split, with names that clash; understood, or refused by name."""

import base64
import json
import re
import shutil
import unicodedata
import zipfile

import corpus_of_sources as made
import numpy as np
import pytest
from corpus_of_sources import BOXES, NAMES, image, images, put
from helpers import run_script
from PIL import Image

from util.data.class_numbers import classes_of_source
from util.data.labels import read_label
from util.data.mask_formats import pasted
from util.data.prepare import prepare
from util.data.sources import read_source
from util.data.unpack import unpacked
from util.runtime.errors import InputError


def read(path, images=None):
    """Format, image -> classes, and the whole source."""
    name, source = read_source(path, images)
    return name, {item.name: item.classes for item in source.items}, source


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_data_set_within_a_single_folder_is_found(tmp_path):
    made.folders(tmp_path / "download/pets/images of pets")
    put(tmp_path / "download/pets/LICENSE.txt", "free")
    name, found, _ = read(tmp_path / "download")
    assert name == "folders" and found["cat/a.png"] == ("cat",) and found["cat/c.png"] == ("cat", "dog")


def test_a_class_may_be_called_train(tmp_path):
    for number, name in enumerate(("car", "train", "boat")):
        image(tmp_path / name / f"{number}.png", number)
    assert set(read(tmp_path)[1].values()) == {("boat",), ("car",), ("train",)}


def test_a_folder_of_background_has_images_without_a_class(tmp_path):
    for number, place in enumerate(("background/1.png", "cat/2.png")):
        image(tmp_path / place, number)
    name, found, source = read(tmp_path)
    assert name == "folders" and found == {"background/1.png": (), "cat/2.png": ("cat",)}
    assert prepare(source, tmp_path / "out", share=0)[1].names == ("background", "cat")


def test_splits_without_classes_are_not_classes(tmp_path):
    for part in ("train", "test"):
        image(tmp_path / part / "1.png", 1)
    with pytest.raises(InputError, match="not in a format"):
        read(tmp_path)
    image(tmp_path / "train/cat/2.png", 2)
    (tmp_path / "train/1.png").unlink()
    _, found, source = read(tmp_path)
    assert found == {"train/cat/2.png": ("cat",)} and "not read" in source.notes[0] and "test" in source.notes[0]


@pytest.mark.parametrize(
    "folders", [("images", "masks"), ("images", "labels"), ("JPEGImages", "Annotations"), ("jpg",)]
)
def test_images_and_label_maps_are_not_classes(folders, tmp_path):
    for folder in folders:
        image(tmp_path / folder / "1.png", 1)
    with pytest.raises(InputError, match="are not classes.*SegmentationClass"):
        read(tmp_path)


def test_the_same_image_under_two_names_shows_both_classes(tmp_path):
    for place, number in (("cat/1.png", 1), ("dog/9.png", 1), ("dog/2.png", 2)):
        image(tmp_path / place, number)
    assert read(tmp_path)[1] == {"cat/1.png": ("cat", "dog"), "dog/9.png": ("cat", "dog"), "dog/2.png": ("dog",)}


def test_links_are_followed_once(tmp_path):
    image(tmp_path / "elsewhere/1.png", 1)
    image(tmp_path / "in/dog/2.png", 2)
    try:
        (tmp_path / "in/cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "in/dog/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "in/dog/loop").symlink_to(tmp_path / "in/dog", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")
    _, found, _ = read(tmp_path / "in")
    assert found == {"cat/1.png": ("cat", "dog"), "dog/2.png": ("dog",)}


def test_folders_in_the_folders_of_classes_are_noted(tmp_path):
    for number, place in enumerate(("animal/cat/1.png", "animal/dog/2.png", "vehicle/car/3.png")):
        image(tmp_path / place, number)
    _, found, source = read(tmp_path)
    assert set(found.values()) == {("animal",), ("vehicle",)}
    assert "animal, vehicle; if they are the inner ones (car, cat, dog, ...)" in source.notes[0]


def test_capital_suffixes_and_names_in_any_script(tmp_path):
    image(tmp_path / "Hündin/Ä 1.PNG", 1)
    image(tmp_path / "猫" / f"{unicodedata.normalize('NFD', 'é')}.JPG", 2)
    found, source = read_source(tmp_path)
    report, table = prepare(source, tmp_path / "out", share=0)
    assert report.images == 2 and not report.problems and set(table.names) == {"background", "Hündin", "猫"}
    assert {path.name for path in (tmp_path / "out/JPEGImages").iterdir()} == {"Ä 1.png", "é.jpg"}


# --- names of files -----------------------------------------------------------------------------------------------


def named(root, *names):
    for number, name in enumerate(names):
        image(root / name, number)
    return root


def test_classes_in_the_names_of_files_are_read_where_that_is_said(tmp_path):
    root = named(tmp_path, "cat.0.png", "cat (1).png", "german_shepherd_12.png", "0003_german_shepherd.png")
    with pytest.raises(InputError, match=r"with their classes \(cat, german_shepherd\), say --format names"):
        read_source(root)
    name, source = read_source(root, name="names")
    shown = {item.name: item.classes[0] for item in source.items}
    assert name == "names" and shown == {
        "cat.0.png": "cat",
        "cat (1).png": "cat",
        "german_shepherd_12.png": "german_shepherd",
        "0003_german_shepherd.png": "german_shepherd",
    }


def test_zeros_and_ones_in_the_names_of_files(tmp_path):
    """As in LUAD-HistoSeg and BCSS-WSSS."""
    root = named(tmp_path / "luad", "10-20-[1 0 1].png", "10-30-[0 1 0].png", "xmin5_MPP-0.25+0[000].png")
    with pytest.raises(InputError, match=r"with their classes \(\[101\]\), say --format names"):
        read_source(root)
    _, source = read_source(root, name="names")
    assert source.classes == ["0", "1", "2"]  # also where no image shows one, as the numbers start at 0
    assert source.numbered and [(item.classes, item.negative) for item in source.items] == [
        (("0", "2"), False),
        (("1",), False),
        ((), True),
    ]
    named(root, "10-40-[0 1].png")
    with pytest.raises(InputError, match="names that end in 2 and in 3 zeros and ones"):
        read_source(root, name="names")


def test_images_named_by_class_beside_annotations_of_another_kind(tmp_path):
    """As in the Oxford-IIIT Pets, whose trimaps have three values."""
    named(tmp_path / "images", "Abyssinian_1.png", "Abyssinian_2.png", "beagle_1.png", "beagle_2.png")
    put(tmp_path / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\n")
    with pytest.raises(InputError, match=r"\(Abyssinian, beagle\), say --source .*images --format names"):
        read(tmp_path)


def test_names_of_a_camera_are_not_classes(tmp_path):
    root = named(tmp_path / "camera", "IMG_1.png", "IMG_2.png", "DSC_1.png", "DSC_2.png")
    with pytest.raises(InputError, match="Images alone do not say what they show"):
        read_source(root)
    for place, names in (("one", ("IMG_1.png", "IMG_2.png")), ("all", ("a1.png", "b1.png", "c2.png", "c3.png"))):
        with pytest.raises(InputError, match="sort the images into a folder per class"):
            read_source(named(tmp_path / place, *names), name="names")
    _, source = read_source(named(tmp_path / "few", "7.png", "a1.png", "a2.png", "b1.png", "b2.png"), name="names")
    assert len(source.items) == 4 and "has no letters" in source.problems["7.png"]


# --- ZIP files ----------------------------------------------------------------------------------------------------


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
        archive.writestr("__MACOSX/._a.png", b"\0\5\x16\7")
    return path


def test_zip_files_are_read_as_the_folders_in_them(tmp_path):
    source = zipped(made.cvat(tmp_path / "project"), tmp_path / "project.zip")
    for name, options in (("zip", [source]), ("folder", [tmp_path / "project"])):
        done = run_script("prepare_folder.py", "--out", tmp_path / name, "--source", *options)
        assert done.returncode == 0, done.stderr
    for part in ("SegmentationClassAug/a.png", "JPEGImages/a.png", "cls_labels.npy", "class_names.txt"):
        assert (tmp_path / "zip" / part).read_bytes() == (tmp_path / "folder" / part).read_bytes()
    assert not (tmp_path / "zip/.source").exists()
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    done = run_script("prepare_folder.py", "--out", tmp_path / "cut", "--source", source)
    assert done.returncode == 2 and "cannot be unpacked" in done.stderr and not (tmp_path / "cut/.source").exists()


def test_a_zip_file_of_windows_explorer_says_how_its_names_were_read(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("ma_/1.txt", "")
    data = (tmp_path / "a.zip").read_bytes().replace(b"ma_/", b"ma\x87/")  # as in code page 850, of Western Europe
    (tmp_path / "a.zip").write_bytes(data)
    with unpacked(tmp_path / "a.zip", tmp_path / "out") as folder:
        assert (folder / "maç/1.txt").is_file()
    assert "names such as maç/1.txt; if they should read otherwise" in capsys.readouterr().err


def test_names_in_a_zip_file_that_cannot_be_here(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a" * 300, "")
    with (
        pytest.raises(InputError, match=r"a.zip: this system has no files of the name .*choose a shorter --out"),
        unpacked(tmp_path / "a.zip", tmp_path / "out"),
    ):
        pass


def test_a_table_and_a_zip_file_of_its_images(tmp_path):
    made.table(tmp_path / "in")
    zipped(tmp_path / "in/images", tmp_path / "images.zip")
    shutil.rmtree(tmp_path / "in/images")
    source = ("--source", tmp_path / "in/tags.csv", "--images", tmp_path / "images.zip")
    done = run_script("prepare_folder.py", "--out", tmp_path / "out", *source)
    assert done.returncode == 0, done.stderr
    assert "6 images" in done.stdout


# --- tables -------------------------------------------------------------------------------------------------------


def tabled(root, text, names=("1", "2", "3")):
    for number, name in enumerate(names):
        image(root / f"{name}.png", number)
    return put(root / "tags.csv", text)


def test_images_of_one_name_in_several_folders(tmp_path):
    tabled(tmp_path, "path,label\ncat/1.png,cat\ndog\\1.png,dog\ndog/2.png,dog\n", ("cat/1", "dog/1", "dog/2"))
    _, source = read_source(tmp_path)
    prepare(source, tmp_path / "out", share=0)
    ids = (tmp_path / "out/ImageSets/Segmentation/train.txt").read_text().split()
    assert ids == ["2", "cat_1", "dog_1"] and not source.problems


@pytest.mark.parametrize(
    "rows, found",
    [
        ("1,cat dog\n2,cat\n3,dog\n", [("cat", "dog"), ("cat",), ("dog",)]),
        ("1,hot dog\n2,dog\n3,hot dog\n", [("hot dog",), ("dog",), ("hot dog",)]),
        ("1,polar bear\n2,brown bear\n3,panda\n", [("polar bear",), ("brown bear",), ("panda",)]),
        ("1,cat dog\n2,dog bird\n3,bird\n", "'dog bird' may be one class, or a list of 2"),
        ("1,16 0\n2,16\n3,0\n", [("0", "16"), ("16",), ("0",)]),
        ("1,500,cat\n2,375,dog\n3,281,dog\n", "the columns width, kind hold different things; rename the one"),
        ("1,crop/water\n2,water/crop\n3,crop\n", "'crop/water' may be a list of 2 classes; write | between them"),
        ("1,animal/cat\n2,animal/dog\n3,plant\n", [("animal/cat",), ("animal/dog",), ("plant",)]),
        ("1,\"['a, b', 'c']\"\n2,['c']\n3,\"['a, b' 'c']\"\n", [("a, b", "c"), ("c",), ("a, b", "c")]),
    ],
)
def test_classes_with_spaces_and_columns_of_other_things(rows, found, tmp_path):
    source = tabled(tmp_path, f"image_id,{'width,' if rows.count(',') > 3 else ''}kind\n{rows}")
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            read(source)
    else:
        assert list(read(source)[1].values()) == found


def test_of_several_tables_one_has_to_be_given(tmp_path):
    tabled(tmp_path, "id,label\n1,cat\n")
    put(tmp_path / "sample_submission.csv", "id,label\n2,dog\n")
    assert read(tmp_path)[1] == {"1": ("cat",)}
    put(tmp_path / "sizes.csv", "id,width\n1,30\n")
    with pytest.raises(InputError, match=r"Of sample_submission.csv, sizes.csv, tags.csv give the one with the labels"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name, text, finding",
    [
        ("labels.json", '{"1.png": ["cat, tabby"]}', "has a comma, semicolon or bar"),
        ("labels.json", '{"1.png": [{"box": [1, 2]}]}', "has no single label"),
        ("labels.json", '[{"image": "1.png", "labels": {"cat": 0.7}}]', "is not of 0 and 1"),
        ("labels.jsonl", '{"image": "1.png", "label": "cat"}\n{', "not valid JSON"),
        ("labels.txt", "1.png 0.5\n2.png 4\n", "its classes are numbers such as 0.5; write the classes' names"),
        ("labels.json", '{"1.png": [0, 1, 0]}', "may be class numbers, or one column of 0 and 1 per class"),
        ("labels.csv", "1.png,0,1,0\n2.png,1,1,0\n", "may be class numbers, or one column of 0 and 1 per class"),
        ("labels.json", '{"data": [["1.png", "cat"]]}', 'A table in JSON is {"1.jpg": '),
        ("labels.xlsx", "PK", r"Save labels.xlsx as CSV \(UTF-8\)"),
        ("train.txt", "/JPEGImages/1.png /SegmentationClass/1.png\n", "Images alone|not in a format"),
        ("Liesmich.txt", "Fotos von März".encode("cp1252"), "not in a format"),
    ],
)
def test_lists_that_say_no_class_are_refused(name, text, finding, tmp_path):
    image(tmp_path / "1.png", 1)
    file = put(tmp_path / name, text)
    with pytest.raises(InputError, match=finding):
        read(file if name.startswith("labels") else tmp_path)


@pytest.mark.parametrize(
    "text", ["1.png: cat, dog\n2.png: cat\n", "1.png;cat;dog\n2.png;cat\n", "1.png\tcat\tdog\n2.png\tcat\n"]
)
def test_texts_beside_images_are_tables_whatever_separates_their_cells(text, tmp_path):
    images(tmp_path, ("a",))
    for number in (1, 2):
        image(tmp_path / f"{number}.png", number)
    put(tmp_path / "labels.txt", text)
    assert read(tmp_path)[:2] == ("csv", {"1.png": ("cat", "dog"), "2.png": ("cat",)})


def test_a_column_whose_last_word_is_label_has_the_classes(tmp_path):
    """As in NIH's chest X-rays."""
    rows = "1.png,Mass|Nodule,0,70\n2.png,Mass,1,35\n"
    tabled(tmp_path, f"Image Index,Finding Labels,Follow-up #,Patient Age\n{rows}", ("1", "2"))
    assert read(tmp_path)[1] == {"1.png": ("Mass", "Nodule"), "2.png": ("Mass",)}
    tabled(tmp_path, "image_id,num_objects,kind\n1.png,3,cat\n2.png,4,dog\n", ("1", "2"))
    with pytest.raises(InputError, match="num_objects, kind hold different things; rename the one"):
        read(tmp_path)


@pytest.mark.parametrize(
    "names, numbers, found",
    [
        ("cat\ndog\nhorse\n", (0, 1, 2), ["cat", "dog", "horse"]),
        ("cat\ndog\nhorse\n", (1, 2, 3), ["cat", "dog", "horse"]),
        ("background\ncat\ndog\nhorse\n", (1, 2, 3), ["cat", "dog", "horse"]),
        ('{"cat": 0, "dog": 1, "horse": 2}', (2, 0, 0), ["horse", "cat", "cat"]),
        ('{"1": "cat", "2": "dog", "3": "horse"}', (2, 1, 1), ["dog", "cat", "cat"]),
        ("cat\ndog\nhorse\n", (1, 2, 1), "count 3 names from 0 or from 1"),
        ("background\ncat\ndog\nhorse\n", (0, 1, 2), "leave the background out of this file"),
        ("cat\ndog\n", (0, 1, 2), "2 classes, 0 to 1, but an image shows class 2; add its name"),
        (None, (0, 1, 2), r"its classes are numbers \(0, 1, 2\); name them with --class-names"),
    ],
)
def test_class_numbers_have_their_names_elsewhere(names, numbers, found, tmp_path):
    rows = "".join(f"{k + 1},{number}\n" for k, number in enumerate(numbers))
    _, source = read_source(tabled(tmp_path, f"image_id,label\n{rows}"))
    file = names and put(tmp_path / "names.txt", names)
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            classes_of_source(source, file, tmp_path)
        return
    table = classes_of_source(source, file, tmp_path)
    assert table.names == ("background", "cat", "dog", "horse")
    assert [item.classes for item in source.items] == [(name,) for name in found]
    assert prepare(source, tmp_path / "out", table, share=0)[0].images == 3


def test_what_is_beside_a_folder_per_class_is_not_a_table(tmp_path):
    made.folders(tmp_path)
    put(tmp_path / "class_indices.json", '{"cat": 0, "dog": 1}')
    put(tmp_path / "notes.txt", "cat.png is mine\n")
    put(tmp_path / "train.txt", "cat/a.png 0\ndog/b.png 1\n")
    put(tmp_path / "numbers.json", '{"cat/a.png": 0, "dog/b.png": 1}')
    put(tmp_path / "readme.txt", "Größe".encode("cp1252"))
    assert read(tmp_path)[0] == "folders"


def test_folders_that_are_images_and_images_in_two_folders(tmp_path):
    for number in range(12):
        image(tmp_path / f"patches/p{number}/p{number}.png", number)
    with pytest.raises(InputError, match="12 folders with 12 images are not classes"):
        read(tmp_path / "patches")
    for name, number in (("train/a/1", 1), ("train/a/2", 2), ("train/b/1", 1), ("train/b/3", 3), ("masks/1", 9)):
        image(tmp_path / f"twice/{name}.png", number)
    _, found, source = read(tmp_path / "twice")
    assert found["train/a/1.png"] == ("a", "b")
    assert any(note.startswith("in the folders of several classes, and taken to show all") for note in source.notes)
    assert any(note.startswith("not read: masks") for note in source.notes)
    with pytest.raises(InputError, match="--images .*: the images are in the folders of classes"):
        read_source(tmp_path / "twice", tmp_path / "twice/masks")


# --- tools --------------------------------------------------------------------------------------------------------


def changed_labelme(folder, **changes):
    made.labelme(folder)
    content = json.loads((folder / "a.json").read_text())
    put(folder / "a.json", json.dumps({**content, **changes}))
    return content


def test_labelme_paths_of_windows_and_images_inside_the_files(tmp_path):
    changed_labelme(tmp_path / "in", imagePath="..\\pets\\a.png")
    assert read(tmp_path / "in")[2].items[0].path == tmp_path / "in/a.png"
    pixels = (tmp_path / "in/a.png").read_bytes()
    changed_labelme(tmp_path / "in", imageData=base64.b64encode(pixels).decode())
    (tmp_path / "in/a.png").unlink()
    report, _ = prepare(read(tmp_path / "in")[2], tmp_path / "out")
    assert report.images == len(NAMES) and not report.problems
    assert (tmp_path / "out/JPEGImages/a.png").read_bytes() == pixels


def test_labelme_files_apart_from_their_images_and_in_splits(tmp_path):
    made.labelme(tmp_path / "in/json")
    for file in (tmp_path / "in/json").glob("*.png"):
        put(tmp_path / "in/images" / file.name, file.read_bytes())
        file.unlink()
    assert read(tmp_path / "in")[0] == "labelme" and len(read(tmp_path / "in")[1]) == len(NAMES)
    for part in ("train", "val"):
        made.labelme(tmp_path / "parts" / part)
    items = read(tmp_path / "parts")[2].items
    assert all(item.path.parent.name == item.split for item in items) and len(items) == 2 * len(NAMES)


def test_of_several_attributes_of_via_one_has_to_be_the_class(tmp_path):
    file = made.via(tmp_path, "boxes") / "via_project.json"
    text = file.read_text()
    file.write_text(text.replace('"remark": ""', '"remark": "sleeps"'))
    assert read(tmp_path)[1]["a.png"] == ("cat",)
    file.write_text(text.replace('"remark": ""', '"remark": "sleeps"').replace('"type"', '"what"'))
    with pytest.raises(InputError, match="region attributes what, remark may all be the class"):
        read(tmp_path)
    file.write_text(text.replace('"type"', '"what"').replace("cat", "").replace("dog", ""))
    with pytest.raises(InputError, match="neither regions nor files have an attribute that is filled in"):
        read(tmp_path)
    file.write_text(
        re.sub(r'"regions": \[.*?\], "file_attributes": {', '"regions": [], "file_attributes": {"kind": "cat", ', text)
    )
    assert set(read(tmp_path)[1].values()) == {("cat",)}


def test_circles_and_ellipses_of_via_are_drawn(tmp_path):
    circle = {"name": "circle", "cx": 20, "cy": 20, "r": 10}
    ellipse = {"name": "ellipse", "cx": 40, "cy": 20, "rx": 12, "ry": 4, "theta": np.pi / 2}
    regions = [{"shape_attributes": shape, "region_attributes": {"class": "cat"}} for shape in (circle, ellipse)]
    content = {"a.png9": {"filename": "a.png", "size": 9, "regions": regions, "file_attributes": {}}}
    image(tmp_path / "a.png", 0)
    put(tmp_path / "via.json", json.dumps(content))
    prepare(read(tmp_path)[2], tmp_path / "out", share=0)
    found = read_label(tmp_path / "out/SegmentationClassAug/a.png") == 1
    rows, columns = (np.arange(count) + 0.5 for count in made.SHAPE)
    expected = (rows[:, None] - 20) ** 2 + (columns - 20) ** 2 <= 100
    expected |= ((columns - 40) / 4) ** 2 + ((rows[:, None] - 20) / 12) ** 2 <= 1
    assert np.count_nonzero(found ^ expected) <= 8  # of some 460: a polygon of 64 corners


def test_all_tasks_of_cvat_are_read(tmp_path):
    made.cvat(tmp_path)
    text = (tmp_path / "annotations.xml").read_text()
    first, *rest = text.split("<image ")
    for name, parts in (("annotations.xml", rest[:4]), ("second.xml", rest[4:])):
        tail = "" if parts[-1].endswith("</annotations>") else "</annotations>"
        put(tmp_path / name, first + "".join(f"<image {part}" for part in parts) + tail)
    assert len(read(tmp_path)[1]) == len(NAMES)


def test_the_annotations_of_coco_itself(tmp_path):
    made.coco_files(tmp_path)
    content = json.loads((tmp_path / "annotations/instances_train2017.json").read_text())
    people = {**content, "categories": [{"id": 1, "name": "person", "keypoints": []}]}
    put(tmp_path / "annotations/person_keypoints_train2017.json", json.dumps(people))
    put(tmp_path / "annotations/captions_train2017.json", json.dumps({"images": content["images"], "annotations": []}))
    name, found, _ = read(tmp_path)
    assert name == "coco" and len(found) == len(NAMES) and set(found["c.png"]) == {"cat", "dog"}


def test_voc_annotations_of_one_name_in_several_splits(tmp_path):
    for part, name in (("train", "cat"), ("val", "dog")):
        image(tmp_path / part / "1.png", len(part))
        put(tmp_path / part / "1.xml", f"<annotation><object><name>{name}</name></object></annotation>")
    items = read(tmp_path)[2].items
    assert [(item.split, item.classes, item.path.parent.name) for item in items] == [
        ("train", ("cat",), "train"),
        ("val", ("dog",), "val"),
    ]


# --- YOLO ---------------------------------------------------------------------------------------------------------


def test_yolo_outlines_hold_their_pixels(tmp_path):
    _, source = read_source(made.yolo(tmp_path / "in", polygons=True))
    prepare(source, tmp_path / "out")
    expected = np.zeros(made.SHAPE, np.uint8)
    for value, (left, top, right, bottom) in BOXES["c"]:
        expected[top:bottom, left:right] = value
    assert np.array_equal(read_label(tmp_path / "out/SegmentationClassAug/c.png"), expected)


def test_oriented_boxes_and_poses_say_what_and_not_where(tmp_path):
    images(tmp_path / "images", ["a", "b"])
    put(tmp_path / "classes.txt", "cat\ndog\n")
    for name in ("a", "b"):
        put(tmp_path / "labels" / f"{name}.txt", "1 0.1 0.1 0.5 0.2 0.4 0.6 0.1 0.5\n")
    _, found, source = read(tmp_path)
    assert set(found.values()) == {("dog",)} and source.items[0].regions is None and "four points" in source.notes[0]
    put(tmp_path / "data.yaml", "names: [cat, dog]\nkpt_shape: [2, 3]\n")
    put(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.6 2\n")
    _, found, source = read(tmp_path)
    assert found["images/a.png"] == ("cat",) and source.items[0].regions is None


def test_yolo_labels_apart_from_their_images_and_images_without_objects(tmp_path):
    made.yolo(tmp_path / "in")
    shutil.move(tmp_path / "in/images", tmp_path / "photos")
    put(tmp_path / "in/labels/b.txt", "\n")
    (tmp_path / "in/labels/d.txt").unlink()
    name, found, _ = read(tmp_path / "in/data.yaml", tmp_path / "photos")
    assert name == "yolo" and found["a.png"] == ("cat",) and found["b.png"] == found["d.png"] == ()


@pytest.mark.parametrize(
    "line, finding",
    [
        ("2 0.5 0.5 0.1 0.1", "class 2 of 2 classes"),
        ("0 30 20 10 10", "30 is not a share of the image"),
        ("0 0.5 0.5", "is not 'class x y width height'"),
        ("cat 0.5 0.5 0.1 0.1", "is not 'class x y width height'"),
        ("0 nan 0.5 0.1 0.1", "is not 'class x y width height'"),
        ("0 0.5 0.5 0.1 0.1 0.9 17", "17 is not a coordinate of an outline; if these are predictions"),
    ],
)
def test_damaged_lines_of_yolo_are_named(line, finding, tmp_path):
    made.yolo(tmp_path)
    put(tmp_path / "labels/c.txt", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    _, found, source = read(tmp_path)
    assert len(found) == len(NAMES) - 1
    assert finding in source.problems["images/c.png"] and "line 2" in source.problems["images/c.png"]


def test_yolo_without_names_is_refused(tmp_path):
    made.yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(InputError, match=r"no data.yaml with names.*classes.txt"):
        read(tmp_path)
    put(tmp_path / "data.yaml", "names: [cat\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read(tmp_path)


def test_masks_of_roboflow_are_checked(tmp_path):
    made.roboflow_masks(tmp_path)
    Image.fromarray(np.full(made.SHAPE, 7, np.uint8)).save(tmp_path / "train/a_mask.png")
    (tmp_path / "train/b_mask.png").unlink()
    _, found, source = read(tmp_path)
    assert len(found) == len(NAMES) - 2
    assert "pixel value 7 is not in" in source.problems["a.png"] and "its mask is missing" in source.problems["b.png"]


def test_masks_of_roboflow_with_a_palette_hold_their_classes(tmp_path):
    made.roboflow_masks(tmp_path)
    expected = read(tmp_path)[1]
    for path in tmp_path.glob("*/*_mask.png"):
        with Image.open(path) as mask:
            mask = mask.convert("P")
        mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])  # no red in the second class
        mask.save(path)
    assert read(tmp_path)[1] == expected


def test_class_names_of_hugging_face_are_those_of_the_column(tmp_path):
    made.hugging_face_numbers(tmp_path)
    expected, file = read(tmp_path)[1], tmp_path / "README.md"
    first = (
        "  - name: kind\n    dtype:\n      class_label:\n        names:\n          '0': animal\n          '1': plant\n"
    )
    file.write_text(file.read_text().replace("  - name: labels", f"{first}  - name: labels"))
    assert read(tmp_path)[1] == expected and read(tmp_path)[2].classes == ["cat", "dog"]
    file.write_text(file.read_text().replace("- name: labels", "- name: others"))
    with pytest.raises(InputError, match="the label 0 is a number"):
        read(tmp_path)


def test_masks_of_labelme_may_reach_beyond_the_image():
    part = np.arange(1, 7).reshape(2, 3) > 2
    assert pasted(part, np.array([-1.0, -1.0]), (2, 2)).tolist() == [[True, True], [False, False]]
    assert pasted(part, np.array([1.0, 0.0]), (1, 3)).tolist() == [[False, False, False]]
    assert pasted(part, np.array([-9.0, 5.0]), (2, 2)).sum() == 0


def test_names_are_made_for_every_system(tmp_path):
    """Names that differ in case alone are one file on Windows and macOS; some characters are no part of any there."""
    for number, place in enumerate(("cat/IMG_1.png", "dog/img_1.png", "dog/at 10:30?.png", "cat/nul.png")):
        image(tmp_path / "in" / place, number)
    report = prepare(read_source(tmp_path / "in")[1], tmp_path / "out", share=0)[0]
    names = sorted(path.name for path in (tmp_path / "out/JPEGImages").iterdir())
    assert names == ["at_10_30_.png", "cat_IMG_1.png", "dog_img_1.png", "nul_.png"] and not report.problems
    assert report.renamed["dog_img_1"] == "dog/img_1.png"
    image(tmp_path / "same/cat/A.png", 1)
    image(tmp_path / "same/cat/a.jpg", 2)
    report = prepare(read_source(tmp_path / "same")[1], tmp_path / "one", share=0)[0]
    assert len(list((tmp_path / "one/JPEGImages").iterdir())) == 1 and "taken by" in next(
        iter(report.problems.values())
    )
