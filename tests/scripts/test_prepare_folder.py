"""`prepare_folder.py` as a command. What the formats hold is tested in tests/util/data/test_sources.py."""

import json
import os
import shlex

import numpy as np
import pytest
from helpers import run_script
from PIL import Image

from util.data.classes import classes_of
from util.data.ids import read_id_list


@pytest.fixture
def photos(tmp_path):
    """A folder per class: 10 cats, 10 dogs."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (20 + number, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{name} {number}.JPG")
    return tmp_path / "photos"


def test_from_a_folder_to_the_command_that_trains_on_it(photos, tmp_path):
    out = tmp_path / "my pets"
    run = run_script("prepare_folder.py", "--source", photos, "--out", out)
    assert run.returncode == 0, run.stderr
    command = shlex.split(run.stdout.split("next: ")[1])
    assert command[:4] == ["python", "quickstart.py", "--voc", str(out)]
    lists = {
        name: read_id_list(out / f"ImageSets/Segmentation/{name}.txt", out / "JPEGImages") for name in ("train", "val")
    }
    assert {name: len(ids) for name, ids in lists.items()} == {"train": 16, "val": 4}
    assert sorted(image[:3] for image in lists["val"]) == ["cat", "cat", "dog", "dog"]
    assert os.path.samefile(out / "JPEGImages/cat 0.jpg", photos / "cat/cat 0.JPG")
    assert classes_of([out / "JPEGImages"]).names == ("background", "cat", "dog")
    report = json.loads((out / "report.json").read_text())
    assert report["sizes"] == {"smallest": [30, 20], "median": [30, 25], "largest": [30, 29]}
    assert Image.open(out / "contact_sheet.png").width > 500
    assert "cat                            8       2" in run.stdout


@pytest.mark.parametrize("source", ["missing", "empty", "readme.txt"])
def test_a_source_that_is_refused_leaves_no_folder(tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme.txt").write_text("not annotations")
    run = run_script("prepare_folder.py", "--source", tmp_path / source, "--out", tmp_path / "data/pets")
    assert run.returncode == 2 and "error:" in run.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_copies_and_another_seed(photos, tmp_path):
    for out, options in (("a", []), ("b", ["--copy"]), ("c", ["--seed", 1]), ("d", ["--val-share", 0])):
        assert run_script("prepare_folder.py", "--source", photos, "--out", tmp_path / out, *options).returncode == 0
    a, b, c = ((tmp_path / out / "ImageSets/Segmentation/val.txt").read_text() for out in "abc")
    assert a == b != c and not (tmp_path / "d/ImageSets/Segmentation/val.txt").exists()
    assert not os.path.samefile(tmp_path / "b/JPEGImages/cat 0.jpg", photos / "cat/cat 0.JPG")
    again = run_script("prepare_folder.py", "--source", photos, "--out", tmp_path / "b")
    assert again.returncode == 0 and (photos / "cat/cat 0.JPG").stat().st_size > 0


def test_large_images_are_made_smaller_with_their_label_maps_and_the_sources_stay(tmp_path):
    source = tmp_path / "photos"
    (source / "JPEGImages").mkdir(parents=True)
    (source / "SegmentationClass").mkdir()
    pixels = np.zeros((800, 1200, 3), np.uint8)
    pixels[:, 600:] = 200
    label = (pixels[..., 0] > 0).astype(np.uint8)
    for name, step in (("large", 1), ("small", 4)):
        Image.fromarray(pixels[::step, ::step]).save(source / f"JPEGImages/{name}.jpg")
        Image.fromarray(label[::step, ::step]).save(source / f"SegmentationClass/{name}.png")
    (source / "class_names.txt").write_text("background\ncat\n")
    command = ("prepare_folder.py", "--source", source, "--out", tmp_path / "out", "--val-share", 0)
    run = run_script(*command)
    assert run.returncode == 0, run.stderr
    assert "1 of 2 images have a side above 1000 pixels, and about 8 MB of CAMs each" in run.stdout  # 2 x float32
    run = run_script(*command, "--max-side", 600)
    assert run.returncode == 0 and "side above" not in run.stdout, run.stderr
    made = Image.open(tmp_path / "out/JPEGImages/large.jpg")
    map_of_it = np.array(Image.open(tmp_path / "out/SegmentationClassAug/large.png"))
    assert made.size == (600, 400) and map_of_it.shape == (400, 600)
    assert ((np.array(made)[..., 0] > 100) == map_of_it).mean() > 0.99
    assert Image.open(source / "JPEGImages/large.jpg").size == (1200, 800)
    assert os.path.samefile(tmp_path / "out/JPEGImages/small.jpg", source / "JPEGImages/small.jpg")


def test_bad_images_are_named_and_the_others_are_ready(photos, tmp_path):
    (photos / "cat/cat 3.JPG").write_bytes(b"not an image")
    (photos / "dog/dog 4.JPG").write_bytes((photos / "dog/dog 4.JPG").read_bytes()[:300])
    (photos / "dog/cat 5.JPG").write_bytes((photos / "dog/dog 5.JPG").read_bytes())
    (photos / "dog/._dog 5.JPG").write_bytes(b"\0\5")
    run = run_script("prepare_folder.py", "--source", photos, "--out", tmp_path / "out")
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "cat/cat 3.JPG: " in run.stderr and "dog/dog 4.JPG: " in run.stderr and "dog 5" not in run.stderr
    assert "2 images could not be used" in run.stderr and "19 images (train" in run.stdout
    assert (
        "images renamed, as others have the same name, or lists would misread it (2): cat/cat 5.JPG -> cat_cat 5; "
        in run.stdout
    )


def test_class_names_that_cost_images_are_the_last_that_is_said(photos, tmp_path):
    (tmp_path / "names.txt").write_text("background\ncat\nhorse\n")
    command = (
        "prepare_folder.py",
        "--source",
        photos,
        "--out",
        tmp_path / "out",
        "--class-names",
        tmp_path / "names.txt",
    )
    run = run_script(*command)
    assert run.returncode == 0 and run.stderr.splitlines()[-1] == (
        f"warning: 10 of 20 images are in no list, as {tmp_path / 'names.txt'} names none of their classes: dog (10 images); "
        "no image shows its horse. If these are the same, correct the names and re-run"
    )
    assert "classes left out by --class-names (1): dog (10 images)" in run.stdout
    (tmp_path / "names.txt").write_text("background\nhorse\n")
    run = run_script(*command)
    assert run.returncode == 2
    assert "no image shows a class of --class-names; they show cat (10 images), dog (10 images)" in run.stderr


@pytest.mark.parametrize(
    "options, finding",
    [
        (["--source", "/nowhere"], "/nowhere: no such file or folder"),
        (["--source", "{photos}", "--format", "coco"], "no usable image with annotations of the format coco"),
        (["--source", "{photos}", "--format", "magic"], "magic"),
        (["--source", "{photos}", "--val-share", "2"], "at most 0.9"),
        (["--source", "{photos}", "--out", "{photos}/out"], "choose another --out"),
        (["--source", "{photos}/cat/cat 0.JPG"], "not in a format"),
        (["--source", "{photos}", "--class-names", "{photos}/none.txt"], "none.txt: no such file"),
    ],
)
def test_what_cannot_be_right_is_refused(options, finding, photos, tmp_path):
    options = [option.format(photos=photos) for option in options]
    run = run_script("prepare_folder.py", "--out", tmp_path / "out", *options)
    assert run.returncode == 2 and finding in run.stderr and "Traceback" not in run.stderr


def test_heic_images_beside_their_jpegs_are_left_out_and_others_are_taken(photos, tmp_path):
    Image.new("RGB", (60, 40), "red").save(photos / "cat" / "cat 0.heic")
    run = run_script("prepare_folder.py", "--source", photos, "--out", tmp_path / "first")
    assert run.returncode == 0, run.stderr
    assert "note: 1 HEIC image left out: each is there in another format" in run.stdout
    assert (tmp_path / "first/JPEGImages/cat 0.jpg").is_file()
    Image.new("RGB", (60, 40), "green").save(photos / "cat" / "new.heic")
    run = run_script("prepare_folder.py", "--source", photos, "--out", tmp_path / "second")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "second/JPEGImages/new.heic").is_file()
