"""Every source format ends in the same layout, byte for byte, for the same content.

Fixtures are written by hand after the tools' own documentation; each names its page.
"""

import base64
import contextlib
import json
import random
import re
import shutil

import corpus_of_sources as made
import numpy as np
import pytest
from corpus_of_sources import BOXES, NAMES, PETS, SHAPE

from util.data.labels import read_label
from util.data.prepare import prepare
from util.data.sources import FORMATS, read_source
from util.data.sources.label_studio import decode_brush
from util.data.voc import class_table
from util.runtime.errors import InputError

DATA = ("JPEGImages", "SegmentationClassAug", "ImageSets", "cls_labels.npy", "class_names.txt")


def laid_out(path, out, images=None, name=None, **options):
    """Bytes of every file of the layout, by name; and the report."""
    found, source = read_source(path, images, name)
    report, _ = prepare(source, out, **options)
    files = [file for part in DATA for file in [out / part, *sorted((out / part).rglob("*"))] if file.is_file()]
    return found, {file.relative_to(out).as_posix(): file.read_bytes() for file in files}, report


@pytest.fixture
def plain(tmp_path):
    """The layout as the first format gives it, image-level labels alone."""
    return laid_out(made.folders(tmp_path / "plain"), tmp_path / "plain_out")[1]


@pytest.fixture
def outlined(tmp_path):
    """The layout with label maps."""
    return laid_out(made.coco(tmp_path / "outlined", polygons=True), tmp_path / "outlined_out")[1]


def test_the_layout_itself(plain, outlined):
    assert plain["class_names.txt"] == b"background #000000\ncat #800000\ndog #008000\n"
    ids = plain["ImageSets/Segmentation/train.txt"].split() + plain["ImageSets/Segmentation/val.txt"].split()
    assert sorted(ids) == sorted(name.encode() for name in NAMES) and len(plain) == len(NAMES) + 4
    assert {name for name in outlined if name not in plain} == {f"SegmentationClassAug/{n}.png" for n in NAMES}
    assert {name: data for name, data in outlined.items() if name in plain} == plain


def test_label_maps_hold_the_outlines(tmp_path):
    laid_out(made.coco(tmp_path / "in", polygons=True), tmp_path / "out")
    for name in NAMES:
        expected = np.zeros(SHAPE, np.uint8)
        for value, (left, top, right, bottom) in BOXES[name]:
            expected[top:bottom, left:right] = value
        assert np.array_equal(read_label(tmp_path / "out/SegmentationClassAug" / f"{name}.png"), expected)


@pytest.mark.parametrize("make", made.TAGGED)
def test_formats_with_image_level_labels(make, tmp_path, plain):
    path = made.TAGGED[make](tmp_path / "in")
    found, files, report = laid_out(path, tmp_path / "out")
    assert found == make.split()[0] and not report.problems
    assert files == plain


@pytest.mark.parametrize("make", made.OUTLINED)
def test_formats_with_pixel_annotations(make, tmp_path, outlined):
    path = made.OUTLINED[make](tmp_path / "in")
    found, files, report = laid_out(path, tmp_path / "out")
    assert found == make.split()[0] and not report.problems
    assert files == outlined


@pytest.mark.parametrize("make", made.SPLIT)
def test_splits_of_the_source_are_kept(make, tmp_path):
    files = laid_out(made.SPLIT[make](tmp_path / "in"), tmp_path / "out")[1]
    lists = {name: files[f"ImageSets/Segmentation/{name}.txt"].decode().split() for name in ("train", "val")}
    assert lists == {"train": NAMES[:4], "val": NAMES[4:]}


def test_every_format_has_a_fixture():
    assert {name.split()[0] for name in (*made.TAGGED, *made.OUTLINED, *made.SPLIT)} == {*FORMATS} - {"names"}


# --- what is wrong is named, and the rest goes on -----------------------------------------------------------------


@pytest.mark.parametrize("make", [*made.TAGGED, *made.OUTLINED])
def test_a_damaged_image_is_named_and_left_out(make, tmp_path):
    path = {**made.TAGGED, **made.OUTLINED}[make](tmp_path / "in")
    images = [
        file for file in (tmp_path / "in").rglob("*.png") if file.name.startswith("b.") and "Class" not in str(file)
    ]
    for file in images:
        file.write_bytes(file.read_bytes()[:40])
    report = laid_out(path, tmp_path / "out")[2]
    assert report.images == len(NAMES) - 1 and len(report.problems) >= 1
    assert all("b" in name and "may be cut short" in message for name, message in report.problems.items())


@pytest.mark.parametrize("make", [name for name in (*made.TAGGED, *made.OUTLINED) if name != "folders"])
def test_a_missing_image_is_named_and_left_out(make, tmp_path):
    path = {**made.TAGGED, **made.OUTLINED}[make](tmp_path / "in")
    for file in (tmp_path / "in").rglob("b.png"):
        if "Class" not in str(file):
            file.unlink()
    report = laid_out(path, tmp_path / "out")[2]
    assert report.images == len(NAMES) - 1
    assert [message for message in report.problems.values() if "no image" in message]


def edited_coco(folder, change):
    path = made.coco(folder, polygons=True)
    content = json.loads(path.joinpath("annotations.json").read_text())
    change(content)
    path.joinpath("annotations.json").write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "change, finding",
    [
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "polygon of 1 points"),
        (lambda c: c["annotations"][0].update(segmentation=[["a", "b", 1, 2, 3, 4]]), "could not convert"),
        (lambda c: c["annotations"][0].update(segmentation={"size": [9, 9], "counts": [81]}), "a region of 9x9"),
        (lambda c: c["annotations"][0].update(segmentation={"size": list(SHAPE), "counts": [5]}), "mask 0|counts|runs"),
        (lambda c: c["annotations"][0].update(category_id=77), "category 77"),
        (lambda c: c["images"][0].update(width=SHAPE[0], height=SHAPE[1]), "before its EXIF rotation"),
        (lambda c: c["images"][0].update(height="tall"), "ValueError"),
    ],
)
def test_a_damaged_annotation_is_named_and_the_rest_goes_on(change, finding, tmp_path):
    report = laid_out(edited_coco(tmp_path / "in", change), tmp_path / "out")[2]
    assert report.images == len(NAMES) - 1
    assert list(report.problems) == ["a.png"]
    assert re.search(finding, report.problems["a.png"])


def test_crowds_are_void_and_smaller_regions_are_above(tmp_path):
    def crowd(content):
        left, top, right, bottom = BOXES["a"][0][1]
        inner = [left + 2, top + 2, left + 6, top + 2, left + 6, top + 6, left + 2, top + 6]
        more = {"image_id": 1, "segmentation": [inner], "area": 16, "bbox": [left + 2, top + 2, 4, 4]}
        content["annotations"].insert(0, {**more, "id": 90, "category_id": 2, "iscrowd": 0})
        runs = [0, 40, SHAPE[0] * SHAPE[1] - 40]
        content["annotations"].append(
            {**more, "id": 91, "category_id": 1, "iscrowd": 1, "segmentation": {"size": list(SHAPE), "counts": runs}}
        )

    laid_out(edited_coco(tmp_path / "in", crowd), tmp_path / "out")
    label = read_label(tmp_path / "out/SegmentationClassAug/a.png")
    left, top, *_ = BOXES["a"][0][1]
    assert label[top + 3, left + 3] == 2 and label[top + 1, left + 1] == 1
    assert (label.ravel(order="F")[:40] == 255).all()


def test_boxes_say_what_an_image_shows_and_not_where(tmp_path):
    files = laid_out(made.coco(tmp_path / "in", polygons=False), tmp_path / "out")[1]
    assert not [name for name in files if name.startswith("SegmentationClassAug")]


def test_names_that_clash_get_their_folder_and_copies_stay_together(tmp_path):
    folder = tmp_path / "in"
    for number in range(12):
        made.image(folder / "cat" / f"{number}.png", number)
        made.image(folder / "dog" / f"{number}.png", number if number in (3, 5) else 100 + number)
    shutil.copy(folder / "cat/0.png", folder / "cat/again.png")
    _, files, report = laid_out(folder, tmp_path / "out")
    assert {"JPEGImages/cat_1.png", "JPEGImages/dog_1.png", "JPEGImages/3.png"} <= set(files)  # 3 shows both
    assert ["again", "cat_0"] in [sorted(group) for group in report.duplicates]
    lists = [files[f"ImageSets/Segmentation/{name}.txt"].decode().split() for name in ("train", "val")]
    assert all(("again" in ids) == ("cat_0" in ids) for ids in lists)
    assert report.classes == {"cat": {"train": 11, "val": 2}, "dog": {"train": 10, "val": 2}}


def test_classes_can_be_chosen(tmp_path):
    table = class_table(["background", "dog"])
    _, files, report = laid_out(made.coco(tmp_path / "in", polygons=True), tmp_path / "out", classes=table)
    assert report.left_out == {"cat": sum(any(v == 1 for v, _ in BOXES[n]) for n in NAMES)}
    assert set(np.unique(read_label(tmp_path / "out/SegmentationClassAug/a.png"))) == {
        0,
        255,
    }  # a cat's pixels are void
    assert files["class_names.txt"].startswith(b"background #000000\ndog ")


def test_images_without_a_class_are_in_no_list(tmp_path):
    folder = made.hugging_face(tmp_path / "in", "jsonl")
    made.image(folder / "z.png", 50)
    with open(folder / "metadata.jsonl", "a") as file:
        file.write('{"file_name": "z.png", "labels": []}\n')
    _, files, report = laid_out(folder, tmp_path / "out")
    assert report.unlabelled == ["z"] and report.images == len(NAMES)
    assert b"z" not in files["ImageSets/Segmentation/train.txt"] + files["ImageSets/Segmentation/val.txt"]


@pytest.mark.parametrize(
    "content, finding",
    [
        ({}, "not in a format"),
        ({"a.json": "[]"}, "not in a format"),
        ({"notes.txt": "cat"}, "not in a format"),
        ({"a.jpg": "", "b.JPG": ""}, "not in a format.*Images alone.*a folder per class"),
        ({"tags.csv": "id,label\na,cat\n"}, "no usable image.*no image 'a'"),
        ({"a.json": "{"}, "not valid JSON"),
        ({"metadata.jsonl": '{"label": "cat"}\n'}, "no file_name"),
        ({"metadata.csv": "file_name,label\na.png,3\n"}, "no usable image.*'a.png'|is a number"),
    ],
)
def test_sources_that_are_refused(content, finding, tmp_path):
    (tmp_path / "in").mkdir()
    for name, text in content.items():
        (tmp_path / "in" / name).write_text(text)
    with pytest.raises(InputError, match=rf"(?s){finding}"):
        laid_out(tmp_path / "in", tmp_path / "out")


# --- Label Studio's brush, labelme's masks ------------------------------------------------------------------------


def brush_code(values):
    """Encodes as Label Studio does: 8-bit words, run lengths of 3, 4, 8 or 16 bits; single values as they are."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in (3, 4, 8, 16))
    place = 0
    while place < len(values):
        end = place
        while end < len(values) and values[end] == values[place] and end - place < 65536:
            end += 1
        bits += f"1{3:02b}{end - place - 1:016b}{values[place]:08b}" if end - place > 4 else ""
        if end - place <= 4:
            bits += f"0{0:02b}{end - place - 1:03b}" + "".join(f"{value:08b}" for value in values[place:end])
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def test_brush_strokes_of_label_studio(tmp_path):
    rng = np.random.default_rng(0)
    values = np.repeat(rng.integers(0, 256, 200), rng.integers(1, 60, 200)).astype(np.uint8)
    code = brush_code(values)
    assert np.array_equal(decode_brush(bytes(code), len(values)), values)
    for wrong, count in ((code[:-9], len(values)), (code, len(values) + 4), ([], 4)):
        with pytest.raises(ValueError):
            decode_brush(bytes(wrong), count)


def test_masks_circles_and_void_of_labelme(tmp_path):
    folder = made.labelme(tmp_path / "in")
    content = json.loads((folder / "a.json").read_text())
    part = made.png_bytes(np.full((4, 5), 255, np.uint8))
    content["shapes"] = [
        {"label": "cat", "points": [[2, 3], [6, 6]], "shape_type": "mask", "mask": base64.b64encode(part).decode()},
        {"label": "dog", "points": [[30, 20], [35, 20]], "shape_type": "circle"},
        {"label": "__ignore__", "points": [[0, 30], [9, 30], [9, 35], [0, 35]], "shape_type": "polygon"},
    ]
    (folder / "a.json").write_text(json.dumps(content))
    laid_out(folder, tmp_path / "out")
    label = read_label(tmp_path / "out/SegmentationClassAug/a.png")
    assert (label[3:7, 2:7] == 1).all() and (label == 1).sum() == 20
    assert (label[30:36, 0:10] == 255).all() and label[20, 30] == 2 and abs((label == 2).sum() - 97) <= 4


def test_a_table_and_its_images_apart(tmp_path, plain):
    folder = made.table(tmp_path / "in")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(folder / "tags.csv", tmp_path / "elsewhere" / "tags.csv")
    assert laid_out(tmp_path / "elsewhere/tags.csv", tmp_path / "out", folder)[1] == plain
    assert PETS == ["cat", "dog"]


def test_colours_of_the_source_are_kept(tmp_path):
    folder = made.cvat(tmp_path / "in")
    text = (folder / "annotations.xml").read_text()
    assert "#800000" in text
    (folder / "annotations.xml").write_text(text.replace("#800000", "#fa3253"))
    files = laid_out(folder, tmp_path / "out")[1]
    assert files["class_names.txt"] == b"background #000000\ncat #fa3253\ndog #008000\n"


def damaged(data, rng):
    """Some bytes changed, or a value replaced by another."""
    values = list(re.finditer(rb'-?\d+\.?\d*|"[^"]*"', data))
    if values and rng.random() < 0.6:
        one = rng.choice(values)
        return data[: one.start()] + rng.choice(ODD_VALUES) + data[one.end() :]
    place = rng.randrange(len(data))
    return data[:place] + rng.choice([b"", b"\xff", *ODD_VALUES]) + data[place + rng.randrange(5) :]


ODD_VALUES = [
    b"null",
    b"[]",
    b"{}",
    b"-1",
    b"1e400",
    b"true",
    b"99999999999",
    b"NaN",
    b'"x"',
    b"0",
    b"[null]",
    b'{"a":1}',
]


@pytest.mark.parametrize("make", {**made.TAGGED, **made.OUTLINED, **made.SPLIT})
def test_whatever_an_annotation_holds_it_is_read_or_refused(make, tmp_path):
    path = {**made.TAGGED, **made.OUTLINED, **made.SPLIT}[make](tmp_path / "in")
    kinds = (".json", ".jsonl", ".csv", ".xml", ".txt")
    files = sorted(file for file in (tmp_path / "in").rglob("*") if file.suffix in kinds)
    rng = random.Random(make)
    for _ in range(12 if files else 0):
        file = rng.choice(files)
        data = file.read_bytes()
        file.write_bytes(damaged(data, rng))
        with contextlib.suppress(InputError):  # anything else is a traceback
            laid_out(path, tmp_path / "out")
        file.write_bytes(data)
