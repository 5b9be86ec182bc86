"""Label maps as other tools write them: read by index where that is certain, refused where colours say otherwise."""

import cv2
import numpy as np
import pytest
from PIL import Image

from util.data.images import find_image, image_size, read_image
from util.data.labels import check_label_size, read_label, write_label
from util.data.voc import class_table, palette
from util.evaluation.label_check import check_foreground, check_labels, report_text
from util.runtime.errors import InputError

LABEL = np.zeros((40, 60), np.uint8)
LABEL[5:20, 5:30] = 8
LABEL[20:24, 5:30] = 255
FULL = np.full_like(LABEL, 255)


def with_palette(label, colours):
    image = Image.fromarray(label)
    image.putpalette(np.asarray(colours, np.uint8).tobytes())
    return image


SWAPPED = palette()
SWAPPED[[1, 2]] = SWAPPED[[2, 1]]
READ = {
    "16 bit": LABEL.astype(np.uint16),
    "three equal channels": np.dstack([LABEL] * 3),
    "four channels, the last full": np.dstack([LABEL] * 3 + [FULL]),
    "grey with a full alpha": np.dstack([LABEL, FULL]),
    "VOC's palette": with_palette(LABEL, palette()),
    "VOC's palette, cut short": with_palette(np.minimum(LABEL, 20), palette()[:21]),
    "a palette of other colours": with_palette(LABEL, np.roll(palette(), 1, axis=1) // 3),
    "a grey palette": with_palette(LABEL, np.repeat(np.arange(256), 3)),
    "this project's palette of other classes": with_palette(LABEL // 8, SWAPPED),
    "a palette of black and white": with_palette((LABEL > 0).astype(np.uint8), np.repeat([0, 255], 3)),
}


@pytest.mark.parametrize("kind", READ)
def test_indices_in_many_forms(tmp_path, kind):
    image = READ[kind]
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(tmp_path / "a.png")
    expected = {
        "this project's palette of other classes": LABEL // 8,
        "VOC's palette, cut short": np.minimum(LABEL, 20),
        "a palette of black and white": LABEL > 0,
    }
    assert np.array_equal(read_label(tmp_path / "a.png"), expected.get(kind, LABEL))


def test_a_label_is_turned_by_its_own_tag_as_its_image_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.dstack([LABEL] * 3)).save(tmp_path / "image.png", exif=exif)
    Image.fromarray(LABEL).save(tmp_path / "a.png", exif=exif)
    label = read_label(tmp_path / "a.png")
    assert label.shape == image_size(tmp_path / "image.png") == (60, 40)
    assert np.array_equal(label, read_image(tmp_path / "image.png")[..., 0])


def test_what_opencv_writes(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), LABEL.astype(np.uint16))
    cv2.imwrite(str(tmp_path / "three.png"), np.dstack([LABEL] * 3))
    for name in ("deep", "three"):
        assert np.array_equal(read_label(tmp_path / f"{name}.png", 21), LABEL)


def compact(path):
    """Background and cat, numbered 0 and 1, in VOC's colours of them."""
    with_palette(LABEL // 8 % 31, [palette()[0], palette()[8]]).save(path, "PNG")


REFUSED = {
    "requantised": (
        lambda path: Image.fromarray(palette()[LABEL]).quantize(16).save(path, "PNG"),
        "the colour that VOC gives to .*colours are right.*values are right; save",
    ),
    "adaptive": (
        lambda path: Image.fromarray(palette()[LABEL]).convert("P", palette=Image.Palette.ADAPTIVE).save(path, "PNG"),
        "the colour that VOC gives to",
    ),
    "numbered in VOC's colours": (compact, "value 1 has the colour that VOC gives to 8"),
    "VOC's colours": (
        lambda path: Image.fromarray(palette()[LABEL]).save(path),
        r"found mode RGB; save .*\(these are VOC's, of the values 0, 8, 255; util.data.voc.palette",
    ),
    "other colours": (
        lambda path: Image.fromarray(np.dstack([LABEL, LABEL // 2, LABEL])).save(path),
        "found mode RGB; save the class indices, not their colours$",
    ),
    "an alpha that varies": (lambda path: Image.fromarray(np.dstack([LABEL, LABEL])).save(path), "found mode LA"),
    "-1 in 16 bits": (
        lambda path: Image.fromarray(np.where(LABEL == 255, np.uint16(65535), LABEL)).save(path),
        "values from 0 to 65535 .*mode I;16; class indices are 0 to 254",
    ),
    "repacked by an optimiser": (
        lambda path: with_palette(LABEL // 8 % 31, np.repeat([0, 8], 3)).save(path, "PNG"),
        "value 1 has the grey level 8.*levels are the classes, or the values are; save",
    ),
    "JPEG": (lambda path: Image.fromarray(LABEL).save(path, "JPEG"), "JPEG, whose compression changes class indices"),
    "WebP": (lambda path: Image.fromarray(np.dstack([LABEL] * 3)).save(path, "WEBP", lossless=True), "WEBP, whose"),
    "floats": (lambda path: Image.fromarray(LABEL.astype(np.float32)).save(path, "TIFF"), "found mode F"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_certain_is_refused(tmp_path, kind):
    write, message = REFUSED[kind]
    write(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"a.png: .*{message}"):
        read_label(tmp_path / "a.png", 21)


def test_colours_of_few_classes_are_read_by_index(tmp_path):
    """With two classes, VOC's colour of the eighth means nothing."""
    compact(tmp_path / "a.png")
    assert np.unique(read_label(tmp_path / "a.png", 2)).tolist() == [0, 1]


def test_what_this_project_writes_is_read_whatever_its_colours(tmp_path):
    table = class_table(["background", "cat", "dog"]).palette
    table[[1, 2]] = palette()[[8, 12]]
    write_label(tmp_path / "a.png", LABEL // 8 % 31, table)
    assert np.array_equal(read_label(tmp_path / "a.png", 21), LABEL // 8 % 31)


def test_a_label_of_the_unrotated_photo_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, kind in (("a.jpg", "JPEG"), ("b.tif", "TIFF")):
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images" / name, kind, exif=exif)
        write_label(tmp_path / "labels" / f"{name[0]}.png", LABEL)
        image = find_image(tmp_path / "images", name[0])
        with pytest.raises(InputError, match="60x40 pixels, its image 40x60; .*EXIF orientation.*Turn the label"):
            check_label_size(LABEL.shape, tmp_path / "labels" / f"{name[0]}.png", image_size(image), image)
    report = check_labels(
        tmp_path / "labels", ["a", "b"], class_table(["background", *"abcdefgh"]), tmp_path / "images"
    )
    assert all("EXIF orientation" in report["errors"][name] for name in "ab")
    Image.fromarray(np.zeros((60, 40, 3), np.uint8)).save(tmp_path / "images" / "c.png")
    with pytest.raises(InputError, match="make the label at the size of the image"):
        check_label_size(LABEL.shape, "c.png", (60, 40), tmp_path / "images" / "c.png")


def test_labels_of_0_and_255_only_are_reported(tmp_path):
    write_label(tmp_path / "a.png", np.where(LABEL == 8, 255, 0).astype(np.uint8))
    write_label(tmp_path / "b.png", np.zeros_like(LABEL))
    warnings = check_labels(tmp_path, ["a", "b"], class_table(["background", "cat"]))["warnings"]
    assert warnings["0 and 255 only"] == ["a"] and warnings["empty"] == ["b"]


def test_label_maps_are_looked_at_until_one_shows_a_class(tmp_path, capsys):
    write_label(tmp_path / "a.png", np.where(LABEL == 8, 255, 0).astype(np.uint8))
    write_label(tmp_path / "b.png", np.zeros_like(LABEL))
    write_label(tmp_path / "c.png", LABEL)
    (tmp_path / "d.png").touch()
    check_foreground(tmp_path, ["missing", "a", "c", "d"])
    check_foreground(tmp_path, ["missing"])
    assert capsys.readouterr().err == ""
    check_foreground(tmp_path, ["b", "d"])
    assert "no pixel of a foreground class in the 1 label maps, only 0" in capsys.readouterr().err
    with pytest.raises(InputError, match="in the 2 label maps, only 0 .background. and 255.*number of its class"):
        check_foreground(tmp_path, ["a", "b"])


def test_hidden_files_are_not_surplus(tmp_path):
    for name in ("a", "._a", "._b"):
        write_label(tmp_path / f"{name}.png", LABEL)
    report = check_labels(tmp_path, ["a"], class_table(["background", *"abcdefgh"]))
    assert not report["surplus"] and not report["errors"]


def test_of_many_errors_some_are_named_and_all_are_counted(tmp_path):
    text = report_text(
        check_labels(tmp_path, [str(number) for number in range(30)], class_table(["background", "cat"]))
    )
    assert "30 labels: 30 errors" in text and text.count("no label map for") == 20 and "error    10 more" in text


def test_each_image_counts_alike_in_the_shares_of_the_classes(tmp_path):
    for name, side in (("large", 40), ("small", 4)):
        write_label(tmp_path / f"{name}.png", np.full((side, side), int(name == "small"), np.uint8))
    report = check_labels(tmp_path, ["large", "small"], class_table(["background", "cat"]))
    assert report["shares"] == {"background": 0.5, "cat": 0.5, "void": 0} and report["pixels"]["cat"] == 16
    assert "cat                        1      50.000" in report_text(report)
