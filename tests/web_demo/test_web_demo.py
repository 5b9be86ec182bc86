"""The web demo without a browser: every page in Streamlit's AppTest, bad uploads, bad checkpoints, closed folders."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image
from web_demo_data import (
    APP,
    NAMES,
    animated_gif,
    drawn,
    encoded,
    lab_options,
    png_header,
    rotated,
    write_checkpoint,
    write_merge_data,
    write_runs,
)

pytest.importorskip("torch")
testing = pytest.importorskip("streamlit.testing.v1")

import streamlit as st
from streamlit.util import calc_hash

from merge import STRATEGIES
from merge.parameters import parameters_of
from util.data.labels import read_label, write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.voc import class_table
from util.runtime import checkpoint
from util.runtime.errors import InputError
from Web_demo.src.model import inference, loading
from Web_demo.src.preprocessing import uploads
from Web_demo.src.utils import lab, options, render
from Web_demo.src.utils.files import names_below


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("network") / "last.pth")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_merge_data(folder)
    return folder


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """Starts the demo with options, in an empty folder; ``page`` is the last part of the address."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments, page=""):
        monkeypatch.setattr(sys, "argv", [str(APP), *map(str, arguments)])
        app = testing.AppTest.from_file(str(APP), default_timeout=600)
        app._page_hash = calc_hash(page) if page else ""
        app.run()
        assert not app.exception
        return app

    return start


def upload(app, *files):
    app.file_uploader[0].set_value([(name, data, "image/jpeg") for name, data in files]).run()
    assert not app.exception
    return app


def texts(app):
    return " ".join(str(element.value) for kind in ("markdown", "caption", "info") for element in app.get(kind))


def data_of(element):
    """What a component was given."""
    return json.loads(element.proto.json or "{}")


def downloads_of(app):
    """The files that the page offers to save."""
    files = [file for element in app.get("bidi_component") for file in data_of(element).get("files", [])]
    return [{**file, "content": base64.b64decode(file["content"])} for file in files]


def go_to(app, page):
    app._page_hash = calc_hash(page)
    app.run()
    assert not app.exception


def group_of(app, label):
    """The buttons below a label."""
    return next(group for group in app.get("button_group") if group.label == label)


def gallery(app):
    return next(group for group in app.get("button_group") if group.label in ("Images", "Image"))


def names_of(group):
    """What is written under the thumbnails of a gallery."""
    return [option.content.split(") ", 1)[1].replace("\\", "") for option in group.proto.options]


def uploads_in(group):
    return [name for name in names_of(group) if not name.startswith("Sample")]


def show(app, name):
    """Choose the image of a name, without its suffix, in the gallery."""
    uploaded = {image.name: image.key for image in app.session_state["images"].values()}
    app.session_state["gallery"] = next((uploaded[n] for n in uploaded if n.startswith(f"{name}.")), f"example {name}")
    app.run()
    assert not app.exception


def choose(app, label, value):
    group_of(app, label).set_value(value).run()
    assert not app.exception


def write_evaluation(folder, network, digest=None):
    """A training's folder and, beside it, its evaluation on three images, as evaluate_enhanced.py leaves it."""
    from util.runtime.files import file_digest, write_json

    ids = write_merge_data(folder / "data")
    target = folder / "training" / "last.pth"
    target.parent.mkdir()
    os.link(network, target)
    write_json(folder / "run.json", {"command": ["quickstart.py"]})
    write_json(folder / "scores" / "metrics.json", {"miou": 0.6123})
    record = {
        "command": ["evaluate_enhanced.py", "--images", str(folder / "data" / "images")],
        "made_from": {
            "checkpoint": {"file": str(target), "digest": digest or file_digest(target)},
            "gt": str(folder / "data" / "gt"),
            "list": {"file": str(folder / "data" / "list.txt"), "digest": "1"},
        },
    }
    write_json(folder / "scores" / "run.json", record)
    return target, ids


def legends(app):
    return [
        element.proto.body
        for element in app.get("html")
        if "legend" in element.proto.body and "<tr>" in element.proto.body
    ]


# --- Segment ------------------------------------------------------------------------------------------------------


def test_first_start_says_what_is_needed(demo):
    app = demo()
    assert "no trained network yet" in app.info[0].value
    assert "python quickstart.py" in texts(app) and "python prepare_folder.py" in texts(app)
    assert not app.error and not app.file_uploader


def test_checkpoints_of_the_quickstart_are_found(demo, network, tmp_path):
    (tmp_path / "quickstart" / "deeplabv3").mkdir(parents=True)
    os.link(network, tmp_path / "quickstart" / "deeplabv3" / "last.pth")
    later = tmp_path / "quickstart" / "cam" / "last.pth"
    checkpoint.save(later, {"kind": "transcam"})
    app = demo()
    assert (
        app.sidebar.selectbox[0].value.name == "last.pth" and app.sidebar.selectbox[0].value.parent.name == "deeplabv3"
    )
    assert not app.error and app.file_uploader
    captions = " ".join(caption.value for caption in app.sidebar.caption)
    assert "mobilenet" in captions and "43.21 %" in captions and "cpu" in captions
    app.sidebar.selectbox[0].set_value(later.relative_to(tmp_path)).run()
    assert "no checkpoint of DeepLabV3" in app.error[0].value.replace("\\", "") and not app.exception


def test_a_class_of_few_pixels_is_not_said_to_have_none():
    found = [inference.Found(1, 0.0004, 0.5), inference.Found(2, 0.0006, 0.5)]
    table = render.legend(found, class_table(NAMES))
    assert "<td>&lt; 0.1 %</td>" in table and "<td>0.1 %</td>" in table and ">0.0 %" not in table


def test_runs_of_one_layout_have_names_of_their_own(demo, network, tmp_path):
    """Streamlit takes options that are called the same for one: another network than the chosen one was shown."""
    for run in ("one", "two"):
        (tmp_path / "far" / run / "deeplab" / "enhanced").mkdir(parents=True)
        os.link(network, tmp_path / "far" / run / "deeplab" / "enhanced" / "last.pth")
    wanted = tmp_path / "far" / "one" / "deeplab" / "enhanced" / "last.pth"
    app = demo("--checkpoint", wanted, "--runs", tmp_path / "far" / "one", tmp_path / "far" / "two")
    shown = [str(Path(run, "deeplab/enhanced/last.pth")) for run in ("one", "two")]
    assert app.sidebar.selectbox[0].options == shown
    assert app.sidebar.selectbox[0].value == wanted


def test_names_that_would_be_one_are_whole_paths(tmp_path):
    runs = [tmp_path / part / "runs" for part in "ab"]
    names = names_below([folder / "cam" for folder in runs], runs)
    assert list(names.values()) == [str(folder / "cam") for folder in runs]
    assert names_below([runs[0] / "cam", runs[1] / "merge"], runs) == {
        runs[0] / "cam": "runs/cam",
        runs[1] / "merge": "runs/merge",
    }


def test_uploads_are_segmented_and_shown(demo, network):
    app = upload(
        demo("--checkpoint", network),
        ("one.jpg", encoded(drawn())),
        ("two.png", encoded(drawn(90, 70, 1), "PNG")),
    )
    assert not app.error
    assert names_of(gallery(app))[:2] == ["one.jpg", "two.png"]
    saved = {}
    for name, size in (("one", (160, 120)), ("two", (70, 90))):
        show(app, name)
        assert f"{size[0]} x {size[1]} pixels, done in" in texts(app)
        assert len(legends(app)) == 1 and NAMES[3] in legends(app)[0]
        files = downloads_of(app)
        assert [file["name"] for file in files] == [f"{name}_label.png", f"{name}_overlay.jpg"]
        assert Image.open(io.BytesIO(files[0]["content"])).size == size
        saved |= {file["name"]: file["content"] for file in files}
    app.button(key="download all").click().run()
    *_, archive = downloads_of(app)
    with zipfile.ZipFile(io.BytesIO(archive["content"])) as file:
        inside = {name: file.read(name) for name in file.namelist()}
    assert saved.items() <= inside.items()
    assert set(inside) - set(saved) == {"one.json", "two.json", "coco.json"}
    app.run()
    assert len(downloads_of(app)) == 2  # the archive is handed out once
    app.slider(key="opacity").set_value(20).run()
    assert not app.exception and downloads_of(app)[1]["content"] != saved["two_overlay.jpg"]


def test_every_view_shows_its_images(demo, network):
    app = upload(demo("--checkpoint", network), ("one.jpg", encoded(drawn())))
    for view, starts in {
        "Overlay": ["Overlay of one"],
        "Label map": ["Label map of one"],
        "Confidence": ["Confidence of"],
        "Original": ["The image one"],
        "All": ["Overlay of one", "Label map of one", "Confidence of", "The image one"],
    }.items():
        choose(app, "View", view)
        alts = [image.proto.imgs[0].alt for image in app.get("image")]
        assert [alt.startswith(start) for alt, start in zip(alts, starts, strict=True)] == [True] * len(starts)
        bars = [element.proto.body for element in app.get("html") if 'class="scale"' in element.proto.body]
        assert len(bars) == (view in ("Confidence", "All"))
        assert all(f"<span>{number} %</span>" in bar for bar in bars for number in (0, 25, 50, 75, 100))


def test_annotation_files_hold_the_label_map(demo, network):
    from pycocotools import mask

    app = upload(demo("--checkpoint", network), ("one.jpg", encoded(drawn())))
    label = np.asarray(Image.open(io.BytesIO(downloads_of(app)[0]["content"])))
    next(button for button in app.button if button.label.startswith("COCO")).click().run()
    coco = json.loads(downloads_of(app)[-1]["content"])
    assert coco["images"] == [{"id": 1, "file_name": "one.jpg", "height": 120, "width": 160}]
    again = np.zeros_like(label)
    for annotation in coco["annotations"]:
        again[mask.decode(annotation["segmentation"]) > 0] = annotation["category_id"]
    np.testing.assert_array_equal(again, label)
    next(button for button in app.button if button.label.startswith("labelme")).click().run()
    *_, file = downloads_of(app)
    content = json.loads(file["content"])
    assert file["name"] == "one.json" and content["imagePath"] == "one.jpg" and content["imageWidth"] == 160
    assert {shape["label"] for shape in content["shapes"]} == {NAMES[value] for value in np.unique(label) if value}


def test_a_class_can_be_switched_off(demo, network):
    app = upload(demo("--checkpoint", network), ("one.jpg", encoded(drawn())))
    before = downloads_of(app)[0]["content"]
    shown = group_of(app, "Classes shown")
    kept = list(shown.value)
    assert len(kept) >= 2 and "(not shown)" not in legends(app)[0]
    shown.set_value(kept[1:]).run()
    assert not app.exception
    assert legends(app)[0].count("(not shown)") == 1
    values = [set(np.unique(np.asarray(Image.open(io.BytesIO(c))))) for c in (before, downloads_of(app)[0]["content"])]
    assert values[0] - values[1] == {kept[0]}


def test_a_colour_can_be_changed_and_reset(demo, network):
    app = upload(demo("--checkpoint", network), ("one.jpg", encoded(drawn())))
    before = downloads_of(app)[0]["content"]
    picker = app.color_picker[0]
    value = NAMES.index(picker.label)
    picker.set_value("#12fe34").run()
    assert not app.exception and "rgb(18,254,52)" in legends(app)[0]
    colored = Image.open(io.BytesIO(downloads_of(app)[0]["content"]))
    assert colored.getpalette()[3 * value : 3 * value + 3] == [0x12, 0xFE, 0x34]
    np.testing.assert_array_equal(np.asarray(colored), np.asarray(Image.open(io.BytesIO(before))))
    next(button for button in app.button if button.label == "Reset colours").click().run()
    assert "rgb(18,254,52)" not in legends(app)[0] and downloads_of(app)[0]["content"] == before


def test_uploads_and_choices_outlast_other_pages(demo, network):
    app = upload(demo("--checkpoint", network), ("one.jpg", encoded(drawn())), ("cut.jpg", b"no image"))
    app.slider(key="opacity").set_value(35).run()
    choose(app, "View", "Confidence")
    before = legends(app)
    assert len(before) == 1 and "Kept from before" not in texts(app)
    with patch.object(inference, "_segment", side_effect=AssertionError):
        for page in ("lab", "results", ""):
            go_to(app, page)
    assert legends(app) == before and app.slider(key="opacity").value == 35 and not app.error
    assert group_of(app, "View").value == "Confidence"
    assert "Kept from before: one" in texts(app)
    upload(app, ("two.jpg", encoded(drawn(seed=1))))
    assert names_of(gallery(app))[:2] == ["one.jpg", "two.jpg"]
    app.button(key="remove earlier").click().run()
    assert "one.jpg" not in names_of(gallery(app)) and "Kept from before" not in texts(app)
    assert "one.jpg" not in [image.name for image in app.session_state["images"].values()]


def test_kept_and_new_uploads_are_limited_together(demo, network):
    files = [encoded(drawn(32, 40, seed)) for seed in range(24)]
    app = upload(demo("--checkpoint", network), *((f"{number}.jpg", data) for number, data in enumerate(files[:12])))
    go_to(app, "lab")
    go_to(app, "")
    upload(app, *((f"new {number}.jpg", data) for number, data in enumerate(files[12:])))
    assert "24 images" in app.warning[0].value and len(uploads_in(gallery(app))) == uploads.MAX_FILES


def test_what_was_worked_out_outlasts_a_click_meanwhile(demo, network):
    import streamlit.runtime.scriptrunner_utils.exceptions as stops

    app, segment = demo("--checkpoint", network), inference.segment
    asked = []

    def interrupted(segmenter, image, high_quality):
        asked.append(image.shape)
        if len(asked) == 2:
            raise stops.StopException  # as a click does
        return segment(segmenter, image, high_quality)

    with patch.object(inference, "segment", interrupted):
        upload(app, ("one.jpg", encoded(drawn())), ("two.png", encoded(drawn(90, 70, 1), "PNG")))
        assert len(legends(app)) == 1  # the first is there while the second is worked on
        app.run()
    assert len(legends(app)) == 1 and asked == [(120, 160, 3), (90, 70, 3), (90, 70, 3)]


def test_an_example_is_there_before_anything_is_clicked(demo, network):
    app = demo("--checkpoint", network)
    assert len(legends(app)) == 1 and "Drawn by the program" in texts(app)
    assert names_of(gallery(app)) == ["Sample 1.png", "Sample 2.png", "Sample 3.png", "Sample 4.png"]
    before = legends(app)
    show(app, "Sample 2")
    assert not app.exception and len(legends(app)) == 1 and legends(app) != before
    before = legends(app)
    app.sidebar.toggle[0].set_value(True).run()
    assert app.sidebar.toggle[0].label == "High quality (multi-scale)"
    assert not app.exception and legends(app) != before


def test_a_network_of_other_classes_gets_no_drawn_examples(demo, tmp_path):
    classes = ["background", *(f"thing {number}" for number in range(1, len(NAMES)))]
    app = demo("--checkpoint", write_checkpoint(tmp_path / "other.pth", classes=classes))
    assert app.file_uploader and not legends(app) and not app.error
    assert len(legends(upload(app, GOOD))) == 1


@pytest.mark.parametrize("moved", [False, True])
def test_scores_and_held_out_images_of_the_run_are_found(demo, network, tmp_path, moved):
    first = tmp_path / "first"
    checkpoint_file, ids = write_evaluation(first, network)
    if moved:
        first.rename(tmp_path / "second")
        checkpoint_file = tmp_path / "second" / checkpoint_file.relative_to(first)
    app = demo("--checkpoint", checkpoint_file)
    captions = " ".join(caption.value for caption in app.sidebar.caption)
    assert "61.23 % mIoU on 3 held-out images" in captions and "43.21" not in captions
    assert names_of(gallery(app)) == [f"{image_id}.png" for image_id in ids]
    assert "A held-out image" in texts(app) and "mIoU of this image" in texts(app)
    choose(app, "View", "Ground truth")
    assert app.get("image")[0].proto.imgs[0].alt == "Ground truth of shape_0.png"


@pytest.mark.parametrize("trained_on, expected", [("other\n", "shape_0.png"), ("shape_1\nother\n", "Sample 1.png")])
def test_without_ground_truth_the_images_that_the_classifier_held_out_are_examples(
    demo, network, tmp_path, trained_on, expected
):
    from util.runtime.files import write_json

    checkpoint_file, _ = write_evaluation(tmp_path / "run", network)
    shutil.rmtree(tmp_path / "run/scores")
    data = tmp_path / "run/data"
    (data / "train.txt").write_text(trained_on)
    write_json(
        checkpoint_file.parent / "run.json",
        {"command": ["train_deeplabv3.py", "--list", str(data / "train.txt")], "options": {"val_list": None}},
    )
    command = ["train_transcam.py", "--images", str(data / "images"), "--val-list", str(data / "list.txt")]
    write_json(tmp_path / "run/cam/run.json", {"command": command, "options": {}})
    app = demo("--checkpoint", checkpoint_file)
    assert names_of(gallery(app))[0] == expected


def test_scores_of_another_checkpoint_are_left_alone(demo, network, tmp_path):
    _, _ = write_evaluation(tmp_path / "run", network, digest="0" * 32)
    app = demo("--checkpoint", tmp_path / "run" / "training" / "last.pth")
    assert "43.21 %" in " ".join(caption.value for caption in app.sidebar.caption)
    assert names_of(gallery(app))[0] == "Sample 1.png"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"made_from": 3}', '{"made_from": {"checkpoint": {"digest": 3}}}']
)
def test_a_damaged_record_beside_a_checkpoint_is_passed_over(demo, network, tmp_path, content):
    checkpoint_file, _ = write_evaluation(tmp_path / "run", network)
    (tmp_path / "run" / "scores" / "run.json").write_text(content)
    app = demo("--checkpoint", checkpoint_file)
    assert not app.error and len(legends(app)) == 1


def test_segmentation_is_the_librarys(network):
    from models.segmentation.deeplabv3 import load_checkpoint
    from models.segmentation.options import Prediction
    from models.segmentation.predict import segment

    segmenter, image = load_checkpoint(network), drawn()
    for high_quality in (False, True):
        scales = inference.HIGH_QUALITY_SCALES if high_quality else (1.0,)
        result = inference.segment(segmenter, image, high_quality)
        np.testing.assert_array_equal(
            result.label, segment(segmenter, image, Prediction(scales=scales, flip=high_quality)).label
        )
        assert sum(entry.share for entry in result.found) == pytest.approx(1)
        assert all(0 < entry.confidence <= 1 for entry in result.found)
        pixels = np.bincount(result.label.ravel(), minlength=len(NAMES))
        assert {entry.index: round(entry.share * result.label.size) for entry in result.found} == {
            int(index): int(pixels[index]) for index in np.flatnonzero(pixels)
        }


# --- uploads ------------------------------------------------------------------------------------------------------

GOOD = ("good.jpg", encoded(drawn()))
NOISE = np.random.default_rng(0).integers(0, 255, (3300, 3300, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("notes.jpg", lambda: b"these are notes, not an image" * 20, "not a JPG, PNG, WebP, HEIC, TIFF or BMP image"),
        ("cut.jpg", lambda: encoded(drawn())[:2000], "cut short"),
        ("cut.png", lambda: encoded(drawn(), "PNG")[:5000], "cut short"),
        ("nothing.png", lambda: b"", "empty"),
        ("bomb.png", lambda: png_header(20_000, 20_000), "too large"),
        ("moving.jpg", animated_gif, "but a GIF"),
        ("huge.png", lambda: encoded(NOISE, "PNG", compress_level=0), "too large"),
        (
            "stack.tif",
            lambda: encoded(drawn(), "TIFF", save_all=True, append_images=[Image.fromarray(drawn())]),
            "2 pages",
        ),
        ("IMG_1.HEIC", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "begins as a HEIC image"),
        ("new.avif", lambda: b"\0\0\0\x1cftypavif\0\0\0\0" + bytes(100), "but an AVIF image"),
        (
            "page.png",
            lambda: b"<html><script>alert(1)</script></html>",
            "not a JPG, PNG, WebP, HEIC, TIFF or BMP image",
        ),
        (
            "drawing.png",
            lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
            "not a JPG, PNG, WebP, HEIC, TIFF or BMP image",
        ),
    ],
)
def test_a_bad_upload_is_reported_and_the_others_are_shown(demo, network, name, make, message):
    data = make()
    if name == "huge.png":
        assert len(data) > 30 * 2**20
    app = upload(demo("--checkpoint", network), (name, data), GOOD)
    assert len(app.error) == 1
    text = app.error[0].value.replace("\\", "")
    assert message in text and text.startswith(name)
    assert len(legends(app)) == 1


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: encoded(Image.fromarray(drawn()).convert("CMYK"), "JPEG"), (120, 160)),
        (lambda: encoded(np.arange(120 * 160, dtype=np.uint16).reshape(120, 160) * 3, "PNG"), (120, 160)),
        (lambda: encoded(np.arange(120 * 160, dtype=np.uint16).reshape(120, 160) * 3, "TIFF"), (120, 160)),
        (lambda: encoded(drawn(), "TIFF", compression="tiff_lzw"), (120, 160)),
        (lambda: encoded(drawn(), "BMP"), (120, 160)),
        (lambda: encoded(Image.fromarray(drawn()).convert("RGBA"), "PNG"), (120, 160)),
        (lambda: encoded(Image.fromarray(drawn()).convert("P"), "PNG"), (120, 160)),
        (lambda: encoded(Image.fromarray(drawn()).convert("LA"), "PNG"), (120, 160)),
        (lambda: encoded(drawn(), "HEIF"), (120, 160)),
        (rotated, (160, 120)),
        (lambda: encoded(drawn(), "TIFF", tiffinfo={274: 6}), (160, 120)),
        (lambda: encoded(drawn(1, 1), "PNG"), (1, 1)),
        (lambda: encoded(drawn(3, 900), "PNG"), (3, 900)),
    ],
)
def test_unusual_images_are_shown_upright(demo, network, make, size):
    data = make()
    assert uploads.read_upload("x", data).image.shape == (*size, 3)
    app = upload(demo("--checkpoint", network), ("unusual.png", data))
    assert not app.error and f"{size[1]} x {size[0]} pixels, done in" in texts(app)


def test_an_exif_rotated_image_is_turned():
    upright = uploads.read_upload("x.jpg", rotated()).image
    expected = np.rot90(np.asarray(Image.open(io.BytesIO(encoded(drawn())))), -1)
    assert np.abs(upright.astype(int) - expected).mean() < 2


def odd_exif(entry):
    """A JPEG whose EXIF data hold one entry, 12 bytes of a TIFF directory."""
    body = b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    plain_file = encoded(drawn())
    segment = b"Exif\0\0" + body
    return plain_file[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + plain_file[2:]


@pytest.mark.parametrize(
    "entry",
    [
        b"\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",  # orientation 99
        b"\x12\x01\x02\0\x01\0\0\0six\0",  # orientation as text
        b"\x12\x01\x0c\0\x01\0\0\0\xff\xff\0\0",  # a float64 beyond the end of the file
        b"\x01\x02\x05\0\xff\xff\xff\xff\x01\0\0\0",  # more fractions than there are bytes
        b"\x69\x87\x04\0\x01\0\0\0\x08\0\0\0",  # a directory that holds itself
    ],
)
def test_odd_exif_data_are_passed_over(entry):
    image = uploads.read_upload("odd.jpg", odd_exif(entry))
    assert image.full_size == (120, 160) and image.image.shape == (120, 160, 3)


def test_a_photo_of_fifty_megapixels_is_decoded_in_little_memory():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (8192, 6144), (90, 120, 40)), exif=exif)
    decoded, convert = [], np.array

    def watched(image, *arguments):
        decoded.append(image.size)
        return convert(image, *arguments)

    with patch("util.data.images.np.array", watched):
        image = uploads.read_upload("phone.jpg", data)
    assert image.full_size == (8192, 6144) and image.is_scaled
    assert decoded == [(1536, 2048)]  # a quarter of each side, turned upright
    assert np.abs(image.image.astype(int) - (90, 120, 40)).max() <= 3


def test_bad_uploads_share_one_message(demo, network):
    app = upload(demo("--checkpoint", network), ("a.jpg", b""), ("b.jpg", b"notes"), GOOD)
    assert len(app.error) == 1 and all(name in app.error[0].value for name in ("a\\.jpg", "b\\.jpg"))


def test_fifty_uploads_are_too_many(demo, network):
    files = [encoded(drawn(32, 40, seed)) for seed in range(50)]
    app = upload(demo("--checkpoint", network), *((f"{number}.jpg", data) for number, data in enumerate(files)))
    assert "50 images" in app.warning[0].value and not app.error
    assert len(uploads_in(gallery(app))) == uploads.MAX_FILES


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("<script>alert(1)</script>.png", "script_.png"),
        ("<img src=x onerror=alert(1)>.png", "_img src=x onerror=alert(1)_.png"),
        ("..", "image"),
        ("", "image"),
        ("a\0b\n\u202egnp.jpg", "abgnp.jpg"),
        ("x" * 300 + ".jpeg", "x" * 75 + ".jpeg"),
        ("Ca\u0301mara.png", "C\u00e1mara.png"),
    ],
)
def test_names_are_made_harmless(demo, network, name, clean):
    assert uploads.clean_name(name) == clean


def test_a_name_with_html_is_shown_as_text(demo, network):
    app = upload(demo("--checkpoint", network), ("<b>![x](http://127.0.0.1/x.png)$y$ :red[z].png", encoded(drawn())))
    heading = next(m.value for m in app.markdown if m.value.startswith("**"))
    assert "\\!" not in heading or "<" not in heading.replace("\\<", "")
    for mark in ("![", "](", "$y$", ":red["):
        assert mark not in heading


def test_an_image_with_path_parts_and_no_suffix_is_shown_by_its_last_part(demo, network):
    app = upload(demo("--checkpoint", network), ("../../etc/passwd", encoded(drawn())))
    assert not app.error and len(legends(app)) == 1
    assert [m.value for m in app.markdown if m.value.startswith("**")] == ["**passwd**"]


def test_names_in_an_archive_differ():
    assert uploads.distinct_names(["a", "A", "a", "b"]) == ["a", "A (2)", "a (3)", "b"]


def test_a_large_image_is_scaled_down_and_its_label_map_up():
    image = uploads.as_input("large.jpg", np.zeros((3000, 4000, 3), np.uint8), "key")
    height, width = image.image.shape[:2]
    assert height * width <= uploads.MAX_WORK_PIXELS and width / height == pytest.approx(4 / 3, rel=0.01)
    label = np.zeros((height, width), np.uint8)
    label[: height // 2] = 3
    mask = Image.open(io.BytesIO(render.label_file(label, np.zeros((256, 3), np.uint8), image.full_size)))
    assert mask.size == (4000, 3000) and mask.mode == "P"
    assert np.mean(np.asarray(mask) == 3) == pytest.approx(0.5, abs=0.01)


# --- checkpoints --------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def evil_checkpoint(path):
    import torch

    torch.save({"kind": "deeplabv3plus", "model": Evil(str(path.parent / "was_run"))}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no checkpoint" * 100), "not a"),
        (lambda path: path.write_bytes(b""), "not a"),
        (evil_checkpoint, "could run code"),
        (lambda path: checkpoint.save(path, {"kind": "transcam", "model": {}}), "no checkpoint of DeepLabV3"),
        (lambda path: write_checkpoint(path, config={"encoder": "resnet18", "output_stride": 16}), "another network"),
        (lambda path: write_checkpoint(path, config={"encoder": "tu-hf-hub:some/one", "output_stride": 16}), "encoder"),
        (lambda path: write_checkpoint(path, config={"encoder": ["resnet18"], "output_stride": 16}), "encoder"),
        (lambda path: write_checkpoint(path, config={}), "missing"),
        (lambda path: write_checkpoint(path, classes=["background", 5]), "classes"),
        (lambda path: write_checkpoint(path, palette=[[0, 0, 700]] * 7), "palette"),
        (lambda path: write_checkpoint(path, model=[1, 2, 3]), "model"),
    ],
)
def test_a_foreign_or_malicious_checkpoint_is_refused(demo, tmp_path, make, message):
    path = tmp_path / "foreign.pth"
    make(path)
    app = demo("--checkpoint", path)
    assert len(app.error) == 1 and message in app.error[0].value.replace("\\", "")
    assert not app.file_uploader and not (tmp_path / "was_run").exists()


def test_a_network_that_answers_with_no_numbers_does_not_end_the_demo(demo, network, tmp_path):
    content = checkpoint.load(network)
    content["model"] = {
        name: value * float("nan") if value.is_floating_point() else value for name, value in content["model"].items()
    }
    checkpoint.save(tmp_path / "nan.pth", content)
    app = upload(demo("--checkpoint", tmp_path / "nan.pth"), GOOD)
    assert len(legends(app)) == 1


def test_the_network_is_loaded_once_and_again_when_it_was_written_anew(network, capfd):
    st.cache_resource.clear()
    first = loading.load_segmenter(loading.stamp_of(network), "cpu")
    assert loading.load_segmenter(loading.stamp_of(network), "cpu") is first
    os.utime(network, ns=(1, 1))
    assert loading.load_segmenter(loading.stamp_of(network), "cpu") is not first
    assert capfd.readouterr().err.count("loaded ") == 2


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpont", "a.pth"], "--checkpont is not an option; did you mean --checkpoint?"),
        (["--checkpoint", "nowhere.pth"], "no such file"),
        (["--pseudo-path", "nowhere", "--sam-path", "nowhere"], "should be the folder"),
        (["--pseudo-path", "."], "go together"),
        (["--runs", "nowhere"], "should be the folder"),
        (["--help"], "--sam-path"),
    ],
)
def test_wrong_options_are_reported_on_the_page(demo, arguments, message):
    app = demo(*arguments)
    assert message in app.code[0].value


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--help"], 0, "--pseudo-path DIR"),
        (["--checkpoint", "nowhere.pth"], 2, "error: --checkpoint nowhere.pth: no such file"),
    ],
)
def test_options_are_checked_in_the_terminal(tmp_path, arguments, code, text):
    """Before the server shows a page."""
    command = [sys.executable, "-m", "streamlit", "run", APP, "--server.headless", "true", "--server.port", "0", "--"]
    done = subprocess.run([*map(str, command), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == code and text in done.stdout + done.stderr
    assert "The demo is at" not in done.stdout and "Traceback" not in done.stderr


def test_underscores_are_taken_as_everywhere(tmp_path):
    args = options.parse(["--pseudo_path", str(tmp_path), "--sam_path", str(tmp_path)])
    assert args.pseudo_path == tmp_path


def test_the_demo_stays_on_this_machine_and_sends_no_statistics():
    tomllib = pytest.importorskip("tomllib")
    config = tomllib.loads((APP.parent / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1" and config["browser"]["gatherUsageStats"] is False
    assert config["server"]["maxUploadSize"] << 20 == uploads.MAX_BYTES


# --- Strategy lab -------------------------------------------------------------------------------------------------


def test_the_lab_says_what_it_needs(demo):
    app = demo(page="lab")
    assert "--pseudo-path" in texts(app) and not app.error


def test_the_lab_shows_every_strategy_with_its_score(demo, folders):
    app = demo(*lab_options(folders), page="lab")
    assert not app.error and len(app.get("image")) == 4 + len(STRATEGIES)
    (legend,) = (
        part.proto.body for part in app.get("html") if "palette" in part.proto.body and "<li>" in part.proto.body
    )
    assert "void" not in legend, "there is none"
    room = lab.Lab(options.parse([str(a) for a in lab_options(folders)]))
    scene = room.read("shape_0")
    alts = [image.proto.imgs[0].alt for image in app.get("image")]
    table = app.dataframe[0].value
    for name, strategy in STRATEGIES.items():
        label = strategy(scene.label, scene.masks)
        changed = 100 * np.mean(label != scene.label)
        expected = f", {changed:.1f} % changed," if changed else ", unchanged,"
        assert any(image.startswith(f"{name}: mIoU") and expected in image for image in alts), name
        _, per_class = lab.image_scores(label, scene.truth, room.classes)
        for value, iou in per_class.items():
            assert table.loc[name, NAMES[value]] == pytest.approx(100 * iou, abs=0.051)


def test_changes_are_marked_by_kind():
    before, after = np.array([[0, 1, 1, 1, 255]], np.uint8), np.array([[1, 0, 2, 1, 1]], np.uint8)
    image = np.full((1, 5, 3), 100, np.uint8)
    drawn = lab.differences_image(image, after, before, before != 255)[0].tolist()
    added, removed, another, kept = [230, 140, 0], [0, 114, 178], [148, 82, 180], [146] * 3
    assert drawn == [added, removed, another, kept, kept]


def test_the_legend_of_the_lab_names_void_where_there_is_some(demo, tmp_path):
    write_merge_data(tmp_path, count=1)
    file = tmp_path / "labels/shape_0.png"
    label = read_label(file).copy()
    label[:9, :9] = 255
    write_label(file, label)
    app = demo(*lab_options(tmp_path), page="lab")
    assert any("void</li>" in part.proto.body for part in app.get("html"))


def test_the_lab_shows_what_prompted_masks_know(demo, tmp_path):
    folders = tmp_path / "prompted"
    write_merge_data(folders)
    room = lab.Lab(options.parse([str(a) for a in lab_options(folders)]))
    shape = room.read("shape_0").label.shape
    prompted = Masks.from_dense(np.ones((1, *shape), bool), extra=[{"category": NAMES[2], "score": 0.934}])
    write_masks(folders / "masks" / "shape_0.json", prompted, "shape_0", "shape_0.png")
    app = demo(*lab_options(folders), page="lab")
    choice = next(box for box in app.selectbox if box.label == "Masks")
    assert choice.options == ["all 1", f"0: {NAMES[2]} 0.93, {shape[0] * shape[1]} pixels"]
    choice.set_value(0).run()
    assert not app.exception and f"{NAMES[2]} 0.93" in "".join(part.proto.body for part in app.get("html"))
    scene = room.read("shape_0")
    assert (lab.apply(scene, "prompted", STRATEGIES["prompted"], {}) == 2).all()


def write_merge(run, *more, absolute=False):
    """A data set with labels and masks, and the records of what made the masks and merged them; ``run``'s ids."""
    from util.runtime.files import write_json

    ids = write_merge_data(run / "data", count=2)
    place = run.absolute() if absolute else run
    masks = {
        "command": ["generate_sam_masks.py", "--images", str(place / "data/images")],
        "options": {"model": "regions"},
    }
    write_json(run / "data/masks/run.json", masks)
    given = ["--labels", place / "data/labels", "--sam_path", place / "data/masks", f"--list={place / 'data/list.txt'}"]
    given += ["--class-names", place / "data/class_names.txt", "--out", place / "merge", *more]
    write_json(run / "merge/grow/run.json", {"command": ["main.py", *map(str, given)]})
    return ids


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("absolute", [False, True])
def test_the_lab_finds_what_was_merged(demo, tmp_path, moved, absolute):
    ids = write_merge(Path("runs/first"), absolute=absolute)
    if moved:
        Path("runs/first").rename("runs/second")
    app = demo(page="lab")
    assert not app.error and app.selectbox(key="lab image").options == ids
    panels = [image.proto.imgs[0].alt for image in app.get("image")]
    assert re.fullmatch(r"\d+ regions", panels[2]) and "SAM" not in texts(app)
    assert panels[0] == ids[0] and np.ptp(lab_of(app, tmp_path).read(ids[0]).image) > 0, "the images are found as well"


def lab_of(app, folder):
    """The lab of the only merge below a folder."""
    from Web_demo.src.utils.merges import find_merges

    (found,) = find_merges([folder]).values()
    return lab.Lab(Namespace(**vars(options.parse([])) | found))


def test_the_lab_offers_all_merges(demo, tmp_path):
    for name, more in (("one", ()), ("two", ("--gt", "runs/two/data/gt"))):
        write_merge(Path("runs") / name, *more)
    # Of the commands that merged the same, the one that names the ground truth counts.
    shutil.copytree("runs/two/merge/grow", "runs/two/merge/later")
    later = Path("runs/two/merge/later/run.json")
    later.write_text(later.read_text().replace("--gt", "--data-name"))
    app = demo(page="lab")
    labels = [f"runs/{name}/data/labels" for name in ("one", "two")]
    assert sorted(app.selectbox(key="lab merge").options) == labels
    for name, scored in (("one", False), ("two", True)):
        app.selectbox(key="lab merge").set_value(f"runs/{name}/data/labels").run()
        assert not app.exception and not app.error and bool(app.dataframe) == scored


def test_merges_of_the_same_labels_have_names_of_their_own(demo, tmp_path):
    write_merge(Path("runs/one"))
    shutil.copytree("runs/one/data/masks", "runs/one/other")
    shutil.copytree("runs/one/merge", "runs/one/again")
    record = Path("runs/one/again/grow/run.json")
    record.write_text(record.read_text().replace("data/masks", "other").replace("one/merge", "one/again"))
    names = demo(page="lab").selectbox(key="lab merge").options
    assert sorted(name.rpartition("/")[2] for name in names) == ["masks", "other"]


def test_the_lab_steps_tunes_and_ranks(demo, folders):
    app = demo(*lab_options(folders), page="lab")
    app.button[1].click().run()
    assert app.selectbox(key="lab image").value == "shape_1"
    app.button[0].click().run()
    app.button[0].click().run()
    assert app.selectbox(key="lab image").value == "shape_2"
    app.selectbox(key="lab strategy").set_value("max_iou").run()
    before = app.dataframe[0].value.loc["max_iou"].tolist()
    slider = next(slider for slider in app.slider if slider.label.startswith("threshold"))
    assert (slider.min, slider.max) == (0.4, 0.8)  # SEARCH in merge/max_iou.py
    rank(app)
    assert "change of the image's mIoU in points" in texts(app)
    best = group_of(app, "Best")
    assert len(best.options) == 3 and all("![](data:image/jpeg" in option for option in best.options)
    assert "Worst" not in [group.label for group in app.get("button_group")]
    slider = next(slider for slider in app.slider if slider.label.startswith("threshold"))
    slider.set_value(0.8).run()
    assert not app.exception and app.dataframe[0].value.loc["max_iou"].tolist() != before
    rank(app)
    worst = group_of(app, "Worst")
    assert len(worst.options) == 3 and "Best" not in [group.label for group in app.get("button_group")]
    worst.set_value("shape_0").run()
    assert app.selectbox(key="lab image").value == "shape_0"
    app.selectbox(key="mask of shape_0").set_value(1).run()
    facts = next(element.proto.body for element in app.get("html") if "facts" in element.proto.body)
    assert "stability" in facts and "0.800" in facts
    for view, meaning in (("Changes", "Blue: removed"), ("Errors", "Blue: missed")):
        choose(app, "Show", view)
        assert meaning in texts(app) and not app.error


def rank(app):
    next(button for button in app.button if button.label.startswith("Find")).click().run()
    assert not app.exception


def test_without_ground_truth_the_images_that_change_most_are_found(demo, folders):
    arguments = lab_options(folders)
    place = arguments.index("--gt-dir")
    app = demo(*arguments[:place], *arguments[place + 2 :], page="lab")
    app.selectbox(key="lab strategy").set_value("max_iou").run()
    rank(app)
    assert "share of the pixels that changed" in texts(app)
    changed = [float(option.split()[-2].replace("\\", "")) for option in group_of(app, "Most changed").options]
    assert len(changed) == 3 and changed == sorted(changed, reverse=True) and changed[-1] > 0


def test_images_without_change_are_listed_nowhere(folders):
    room = lab.Lab(options.parse([str(a) for a in lab_options(folders)]))
    *_, found = lab.sweep(room, "nothing", lambda label, masks, *, tags=None, cam=None: label, {})
    assert len(found.changed) == 3 and found.changes() == []


@pytest.mark.parametrize(
    ("default", "worth_trying", "expected"),
    [
        (0.5, (0.4, 0.8), (0.4, 0.8)),
        (0.1, (0.4, 0.8), (0.1, 0.8)),
        (3, (1, 2), (1, 3)),
        (0.5, (), (0.0, 1.0)),
        (0.5, ("a", "b"), (0.0, 1.0)),
        (3, (), (0, 12)),
        (2.5, (), (0.0, 10.0)),
        (-1, (), None),
    ],
)
def test_sliders_span_what_the_strategys_file_gives(default, worth_trying, expected):
    from Web_demo.src.pages.lab.page import slider_range

    assert slider_range(default, worth_trying) == expected


def test_every_parameter_is_explained_by_its_strategys_file():
    for name, strategy in STRATEGIES.items():
        assert set(parameters_of(strategy)) <= set(lab.parameter_notes(strategy)), name
    notes = lab.parameter_notes(STRATEGIES["auto"])
    assert list(notes) == ["rule"] and notes["rule"].endswith("decided by this image alone.")


def test_an_empty_default_is_called_so(demo, folders):
    app = demo(*lab_options(folders), page="lab")
    app.selectbox(key="lab strategy").set_value("auto").run()
    assert [part.label for part in app.text_input] == ["rule (default: empty)"]
    assert "`" not in " ".join(caption.value for caption in app.caption)


def test_sweep_gives_the_stages_scores(folders):
    from util.evaluation.evaluate import evaluate_labels

    room = lab.Lab(options.parse([str(a) for a in lab_options(folders)]))
    *steps, found = lab.sweep(room, "max_iou", STRATEGIES["max_iou"], {"threshold": 0.5})
    assert steps == sorted(steps) and not found.failures
    expected = evaluate_labels(folders / "labels", folders / "gt", room.ids, room.classes, workers=1)
    assert found.before.scores == expected.scores
    gains = [change.gain for change in found.changes()]
    assert gains == sorted(gains, reverse=True) and gains[0] > 0


def test_auto_is_decided_by_all_images_as_in_the_merge_stage(demo, folders, monkeypatch):
    from pipeline.automatic import decide
    from util.runtime.distributed import Dist

    arguments = [str(a) for a in lab_options(folders)]
    room = lab.Lab(options.parse(arguments))
    assert room.rule == decide(room.inputs, room.ids, workers=0, dist=Dist(0, 1, 0, None))
    apply, seen = lab.apply, {}

    def noted(scene, name, strategy, parameters):
        seen[name] = parameters
        return apply(scene, name, strategy, parameters)

    monkeypatch.setattr(lab, "apply", noted)
    app = demo(*arguments, page="lab")
    assert not app.exception and seen["auto"] == {"rule": room.rule}


def test_a_strategy_that_fails_is_reported_and_the_others_are_shown(demo, folders, monkeypatch):
    def broken(label, masks, *, tags=None, cam=None, depth=3):
        return label + masks.nothing

    version, table = lab.strategies()
    monkeypatch.setattr(lab, "_loaded", (version, {**table, "broken": broken}))
    app = demo(*lab_options(folders), page="lab")
    assert len(app.error) == 1 and "strategy broken failed" in app.error[0].value.replace("\\", "")
    assert len(app.get("image")) == 4 + len(STRATEGIES)


def test_an_edited_strategy_is_read_again(tmp_path, monkeypatch):
    import shutil

    import merge

    shutil.copytree(ROOT / "merge", tmp_path / "merge")
    monkeypatch.setattr(merge, "__file__", str(tmp_path / "merge" / "__init__.py"))
    monkeypatch.setattr(merge, "__path__", [str(tmp_path / "merge")])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(lab, "_loaded", None)
    first = lab.strategies()
    assert lab.strategies() is first
    file = tmp_path / "merge" / "max_iou.py"
    text = file.read_text()
    file.write_text(text.replace("threshold: float = 0.5", "threshold: float = 0.25"))
    version, table = lab.strategies()
    assert version != first[0] and table["max_iou"].__kwdefaults__["threshold"] == 0.25
    assert sys.modules["merge"] is merge and STRATEGIES["max_iou"].__kwdefaults__["threshold"] == 0.5
    file.write_text(text + "\ndef broken(:\n")
    broken = lab.strategies()[1]
    assert {"grow", "max_iou_imp"} <= broken.keys()
    with pytest.raises(InputError, match="max_iou.py, line"):
        broken["max_iou"]()
    file.write_text(text)
    assert lab.strategies()[1]["max_iou"].__kwdefaults__["threshold"] == 0.5


@pytest.mark.parametrize("kind", ["labels", "masks", "images", "gt"])
def test_the_lab_reads_nothing_outside_its_folders(demo, tmp_path, kind):
    data = tmp_path / "data"
    write_merge_data(data, count=1)
    file = next((data / kind).glob("shape_0.*"))
    secret = tmp_path / "secret" / file.name
    secret.parent.mkdir()
    file.rename(secret)
    file.symlink_to(secret)
    app = demo(*lab_options(data), page="lab")
    assert "leads out of the folders" in app.error[0].value and not app.get("image")


def test_the_lab_reads_no_mask_folder_that_leads_out(tmp_path):
    data = tmp_path / "data"
    write_merge_data(data, count=1)
    (data / "masks" / "shape_0.json").unlink()
    (data / "masks" / "shape_0").mkdir()
    Image.fromarray(np.zeros((72, 96), np.uint8)).save(tmp_path / "secret.png")
    (data / "masks" / "shape_0" / "0.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="leads out"):
        lab.Lab(options.parse([str(a) for a in lab_options(data)])).read("shape_0")


def test_the_lab_reads_no_id_with_path_parts(tmp_path):
    write_merge_data(tmp_path, count=1)
    write_label(tmp_path / "secret.png", read_label(tmp_path / "labels" / "shape_0.png"))
    with pytest.raises(InputError, match="not a plain file name"):
        lab.Lab(options.parse([str(a) for a in lab_options(tmp_path)])).read("../secret")


# --- Results ------------------------------------------------------------------------------------------------------


def test_results_say_what_they_need(demo):
    assert "There are no results yet" in demo(page="results").info[0].value


@pytest.fixture(scope="module")
def runs(tmp_path_factory, folders):
    return write_runs(tmp_path_factory.mktemp("runs"), folders)


def test_results_are_drawn(demo, runs):
    app = demo("--runs", runs, page="results")
    for folder in ("merge", "training"):
        app.selectbox(key="run").set_value(runs / folder).run()
        assert not app.exception and not app.error
        if folder == "merge":
            table = app.dataframe[0].value
            assert table["method"].tolist() == ["perfect", "input"]
            assert re.fullmatch(r"\+\d+\.\d\d \.\. \+\d+\.\d\d", table["95 % interval"][0])
            assert table["95 % interval"][1] == ""
            assert [metric.value for metric in app.metric] == ["100.00 %"] * 4
            assert len(app.get("vega_lite_chart")) >= 4
        else:
            loss, _ = specs(app)  # and not how long the training waited for data
            assert loss["encoding"]["y"]["title"] == "loss" and "loss" not in texts(app)
            assert loss["encoding"]["x"]["axis"]["tickMinStep"] == 10, "no ticks between the steps"
            assert app.json


def specs(app):
    """What the charts draw, as Vega-Lite."""
    return [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]


def encodings(spec):
    """The encodings of a chart's layers."""
    return [layer["encoding"] for layer in spec.get("layer", [spec])]


def test_every_axis_has_a_title(demo, runs):
    app = demo("--runs", runs, page="results")
    drawn = 0
    for folder in ("merge", "training"):
        app.selectbox(key="run").set_value(runs / folder).run()
        for spec in specs(app):
            for name in ("x", "y"):
                titles = [encoding[name].get("title") for encoding in encodings(spec) if name in encoding]
                assert titles and all(titles), spec
            drawn += 1
    assert drawn >= 6


def test_table_and_charts_have_one_order(demo, runs):
    app = demo("--runs", runs, page="results")
    app.selectbox(key="run").set_value(runs / "merge").run()
    methods = app.dataframe[0].value["method"].tolist()
    comparison, classes, of_method, confusion = specs(app)[:4]
    assert [encoding["y"]["sort"] for encoding in encodings(comparison) if "y" in encoding] == [methods, methods]
    order = app.dataframe[1].value["class"].tolist()
    assert (encodings(classes)[0]["y"]["sort"], encodings(classes)[0]["x"]["sort"]) == (methods, order)
    assert all(encodings(chart)[0]["y"]["sort"] == order for chart in (of_method, confusion))


def test_scores_say_what_they_are_of(demo, runs):
    app = demo("--runs", runs, page="results")
    app.selectbox(key="run").set_value(runs / "merge").run()
    assert texts(app).replace("\\", "").count("3 images, mean over") == 2
    app.selectbox(key="run").set_value(runs / "training").run()
    assert "Best: 0.2, 60.00 %" in texts(app)


def test_columns_of_void_are_there_where_a_method_leaves_void(demo, runs, tmp_path):
    text = (runs / "merge" / "compare.json").read_text()
    for folder, void in (("without", 0.0), ("with", 0.25)):
        content = json.loads(text)
        content["methods"]["perfect"]["void"] = void
        (tmp_path / "runs" / folder).mkdir(parents=True)
        (tmp_path / "runs" / folder / "compare.json").write_text(json.dumps(content))
    app = demo(page="results")
    for folder, there in (("without", False), ("with", True)):
        app.selectbox(key="run").set_value(Path("runs") / folder).run()
        assert ("void" in app.dataframe[0].value) == there == ("Void: " in texts(app))


def test_classes_of_strategies_are_compared_in_numbers(demo, runs):
    app = demo("--runs", runs, page="results")
    app.selectbox(key="run").set_value(runs / "merge").run()
    cells, _, numbers = encodings(specs(app)[1])
    assert cells["color"]["condition"]["value"] == "#0072b2" and cells["color"]["value"] == "#d55e00"
    assert numbers["text"]["field"] == "IoU" and numbers["text"]["format"] == ".1f"


def test_the_confusion_matrix_has_numbers(demo, runs):
    app = demo("--runs", runs, page="results")
    app.selectbox(key="run").set_value(runs / "merge").run()
    layers = specs(app)[3]["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["rect", "rect", "text"]
    # Nothing is as good as white on light pages, and as black on dark ones.
    assert layers[0]["encoding"]["opacity"]["scale"] == {"domain": [0, 1], "range": [0, 1]}
    text = layers[2]["encoding"]["text"]
    number = {"field": "share", "format": ".1f", "type": "quantitative"}
    # What would be 0.0 is left out, so that the errors are seen.
    assert text["value"] == "" and number.items() <= text["condition"].items()


@pytest.mark.parametrize("name", ["compare.json", "metrics.json", "sweep.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"input": 3, "per_class": 3, "curve": 3}', "\x00"])
def test_a_broken_result_is_reported(demo, tmp_path, name, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).write_text(content)
    app = demo(page="results")
    assert len(app.error) == 1 and name in app.error[0].value.replace("\\", "")
