import ntpath
import os

import numpy as np
import pytest
from PIL import Image

from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels, write_image_labels
from util.data.images import read_image
from util.data.labels import read_label, write_label
from util.data.voc import load_classes, palette
from util.runtime.errors import InputError
from util.runtime.files import check_id, relative_name


def test_id_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\xef\xbb\xbf2007_000032\r\n\r\n  2007_000039 \r\n2007_000032\n/JPEGImages/a.b.jpg /Seg/a.b.png\n"
    )
    assert read_id_list(path) == ["2007_000032", "2007_000039", "a.b"]
    path.write_text("\n \n")
    with pytest.raises(InputError, match="empty"):
        read_id_list(path)
    path.write_text("..\n")
    with pytest.raises(InputError, match="line 1"):
        read_id_list(path)


@pytest.mark.parametrize("image_id", ["..", ".", "a/b", "a\\b", ""])
def test_ids_stay_in_their_folder(image_id):
    with pytest.raises(InputError):
        check_id(image_id)


def test_labels_are_read_by_index_in_both_modes(tmp_path):
    label = np.array([[0, 1, 20], [255, 15, 0]], np.uint8)
    write_label(tmp_path / "p.png", label)
    Image.fromarray(label).save(tmp_path / "l.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    assert np.array_equal(read_label(tmp_path / "p.png", 21), label)
    assert np.array_equal(read_label(tmp_path / "l.png", 21), label)
    assert palette()[15].tolist() == [192, 128, 128] and palette()[255].tolist() == [224, 224, 192]
    with pytest.raises(InputError, match="20 with 5 classes|15, 20 with 5"):
        read_label(tmp_path / "p.png", 5)
    Image.fromarray(palette()[label]).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="mode RGB"):
        read_label(tmp_path / "rgb.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "p.png").read_bytes()[:-30])
    with pytest.raises(InputError, match="cut.png"):
        read_label(tmp_path / "cut.png")


def test_images_of_every_mode(tmp_path):
    rgb = np.full((4, 6, 3), 120, np.uint8)
    coloured = Image.fromarray(rgb)
    for mode, name in (("L", "g.png"), ("RGBA", "a.png"), ("CMYK", "c.jpg"), ("P", "p.png"), ("1", "b.png")):
        coloured.convert(mode).save(tmp_path / name)
        assert read_image(tmp_path / name).shape == (4, 6, 3)
    Image.fromarray(np.full((4, 6), 65535, np.uint16)).save(tmp_path / "16.png")
    assert (read_image(tmp_path / "16.png") == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    coloured.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (6, 4, 3)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:-40])
    with pytest.raises(InputError, match="cut.jpg"):
        read_image(tmp_path / "cut.jpg")


def test_image_level_labels_in_every_format(tmp_path):
    classes = load_classes()
    tags = {"a": (8, 15), "b": ()}
    for name in ("tags.npy", "tags.csv"):
        write_image_labels(tmp_path / name, tags, classes)
        assert read_image_labels(tmp_path / name, classes) == tags
    (tmp_path / "xml").mkdir()
    objects = "".join(f"<object><name>{name}</name></object>" for name in ("person", "cat", "cat"))
    (tmp_path / "xml" / "a.xml").write_text(f"<annotation>{objects}</annotation>")
    assert read_image_labels(tmp_path / "xml", classes) == {"a": (8, 15)}
    (tmp_path / "tags.csv").write_text("a,unicorn\n")
    with pytest.raises(InputError, match="line 1.*unicorn"):
        read_image_labels(tmp_path / "tags.csv", classes)


def test_images_and_results_on_different_drives_of_windows(monkeypatch, tmp_path):
    assert relative_name(tmp_path / "images" / "a.jpg", tmp_path / "out") == "../images/a.jpg"
    monkeypatch.setattr(os.path, "relpath", ntpath.relpath)
    monkeypatch.setattr(os.path, "abspath", ntpath.normpath)
    assert relative_name("D:/images/a.jpg", "C:/out").replace("\\", "/") == "D:/images/a.jpg"
