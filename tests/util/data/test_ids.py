"""Ids: what lists hold, as people write them."""

import unicodedata

import numpy as np
import pytest

from util.data.ids import IdBook, id_of, read_id_list
from util.data.images import find_image, list_image_ids
from util.data.mask_files import masks_path
from util.runtime.errors import InputError

NFD = unicodedata.normalize("NFD", "Hündin")

READ = {
    "suffix alone": ("2007_000032.jpg\n", ["2007_000032"]),
    "upper case suffix": ("IMG_1.JPG\n", ["IMG_1"]),
    "two columns of files": ("images/a.webp labels/a.png\n", ["a"]),
    "tif with a folder": ("images/a.tif\n", ["a"]),
    "backslashes and CRLF": ("JPEGImages\\2007_000032.jpg\r\n", ["2007_000032"]),
    "drive letter": ("C:\\data\\my photos\\a 1.jpg\n", ["a 1"]),
    "HEIC": ("IMG_1.HEIC\nIMG_2.heic\n", ["IMG_1", "IMG_2"]),
    "annotations": ("Annotations/a.xml\n", ["a"]),
    "spaces": ("screenshot 2020-12-16\nscreenshot 2020-12-17\n", ["screenshot 2020-12-16", "screenshot 2020-12-17"]),
    "spaces and suffix": ("my dog.jpg\nmy cat.jpg\n", ["my dog", "my cat"]),
    "spaces and two columns": ("images/my dog.jpg labels/my dog.png\n", ["my dog"]),
    "spaces and numbers": ("photo 0\nphoto 1\n", ["photo 0", "photo 1"]),
    "tabs": ("my dog\tcat,dog\nb\tcat\n", ["my dog", "b"]),
    "TransCAM": ("/JPEGImages/a.b.jpg /SegmentationClassAug/a.b.png\n", ["a.b"]),
    "two columns of paths without suffix": ("JPEGImages/a Labels/a\n", ["a"]),
    "file and class": ("a.jpg 3\nb.jpg 17\n", ["a", "b"]),
    "VOC's ids and classes": ("2007_000032 1 15\n2007_000039 20\n", ["2007_000032", "2007_000039"]),
    "VOC Main, all of the class": ("2007_000032  1\n2007_000039  1\n", ["2007_000032", "2007_000039"]),
    "VOC Main, one space": ("2007_000032 1\n2007_000039 1\n", ["2007_000032", "2007_000039"]),
    "decomposed letters": (f"{NFD}\nHündin\n", ["Hündin"]),
    "the same file twice": ("./a.jpg\na.jpg\na\n", ["a"]),
    "dots": ("a.b\nv1.0.jpg\n", ["a.b", "v1.0"]),
    "hidden name": (".jpg\n", [".jpg"]),
    "byte-order mark": ("\ufeffa.jpg\n", ["a"]),
    "UTF-16 of PowerShell": ("a.jpg\r\nb.jpg\r\n".encode("utf-16"), ["a", "b"]),
    "two files joined, each with a mark": ("a\n\ufeffb\n", ["a", "b"]),
    "DOS's end of a text": ("a\r\nb\r\n\x1a", ["a", "b"]),
    "old Mac lines": ("a\rb\r", ["a", "b"]),
    "comments": ("# train split\na\n## b\nb\n", ["a", "b"]),
    "a name with a hash": ("#1.jpg\n#2.jpg\n", ["#1", "#2"]),
    "quotes": ("\"a b.jpg\"\n'c'\n", ["a b", "c"]),
    "trailing commas": ("a,\nb,\n", ["a", "b"]),
    "Python's quotes and commas": ("'a b',\n'c',\n", ["a b", "c"]),
    "CSV of files and classes": ("a.jpg,cat\nb.jpg,dog\n", ["a", "b"]),
    "CSV of VOC's ids": ("2007_000032,aeroplane\n2007_000039,tvmonitor\n", ["2007_000032", "2007_000039"]),
    "pairs with semicolons": ("a.jpg;a.png\nb.jpg; b.png\n", ["a", "b"]),
    "a name with a comma": ("Berlin, 2020\nParis, 2021\n", ["Berlin, 2020", "Paris, 2021"]),
    "JSON": ('["images/a.jpg", "b"]\n', ["a", "b"]),
    "JSON of pairs": ('[["a.jpg", "a.png"], ["b.jpg", "b.png"]]', ["a", "b"]),
    "JSON of COCO's numbers": ("[139, 285]", ["139", "285"]),
    "a list as Python prints it": ("['a.jpg', 'b.jpg']", ["a", "b"]),
    "a name with brackets": ("[1] a.jpg\n[2] b.jpg\n", ["[1] a", "[2] b"]),
    "numbered lines": ("1 2007_000032\n2 2007_000039\n", ["2007_000032", "2007_000039"]),
    "Windows folder with a space": ("C:\\Users\\Jan Meier\\img\\a.jpg\n", ["a"]),
    "folder with a space": ("data/My Images/a\ndata/My Images/b\n", ["a", "b"]),
    "Windows pairs with spaces": ("C:\\My VOC\\a.jpg D:\\My VOC\\a.png\n", ["a"]),
}
REFUSED = {
    "same name in two folders": ("cat/1.jpg\ndog/1.jpg\n", "line 2.*'cat/1.jpg' and 'dog/1.jpg'.*another name"),
    "same name, two suffixes": ("a.jpg\na.png\n", "line 2.*'a.jpg' and 'a.png'"),
    "clash in columns": ("cat/1.jpg x/1.png\ndog/1.jpg x/1.png\n", "two images with the id '1'"),
    "VOC Main": ("2007_000032 -1\n2007_000039  1\n", "all 2 images, or the 1 that end in 1"),
    "VOC Main with difficult ones": ("2007_000032  0\n2007_000039  1\n", "all 2 images, or the 1"),
    "VOC Main of other ids": ("a -1\nb  1\n", "all 2 images, or the 1"),
    "files and 0/1": ("a.jpg 0\nb.jpg 1\n", "a column, or a part of names"),
    "names that end in a number": ("cat 1\ndog 1\n", "a column, or a part of names"),
    "way out": ("a\n..\n", "line 2.*'..'"),
    "folder": ("images/\n", "line 1"),
    "nothing": ("\n \n", "empty"),
}


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("head", ["id", "image_id", "filename,label", "Image\tClass"])
def test_a_header_is_no_image_where_no_file_has_that_name(tmp_path, head):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).touch()
    path = written(tmp_path / "list.txt", f"{head}\na\nb\n")
    assert read_id_list(path, tmp_path / "images") == ["a", "b"]
    assert len(read_id_list(path)) == 3
    for name in ("id", "image_id", "filename", "Image"):
        (tmp_path / "images" / f"{name}.jpg").touch()
    assert len(read_id_list(path, tmp_path / "images")) == 3


@pytest.mark.parametrize("name", READ)
def test_lists_that_are_read(name, tmp_path):
    text, ids = READ[name]
    assert read_id_list(written(tmp_path / "list.txt", text)) == ids


@pytest.mark.parametrize("name", REFUSED)
def test_lists_that_are_refused(name, tmp_path):
    text, finding = REFUSED[name]
    with pytest.raises(InputError, match=rf"list\.txt.*{finding}"):
        read_id_list(written(tmp_path / "list.txt", text))


@pytest.mark.parametrize(
    "text, files, ids",
    [
        ("cat 1\ndog 1\n", ["cat 1.jpg", "dog 1.jpg"], ["cat 1", "dog 1"]),
        ("cat 1\ndog 1\n", ["cat.jpg", "dog.jpg"], ["cat", "dog"]),
        ("a.jpg 0\nb.jpg 1\n", ["a.jpg 0.png", "b.jpg 1.png"], ["a.jpg 0", "b.jpg 1"]),
        ("my.jpg copy.jpg\n", ["my.jpg copy.jpg"], ["my.jpg copy"]),
        ("a.jpg\n", ["a.jpg.png"], ["a.jpg"]),
        (f"{NFD} 1\n", ["Hündin 1.png"], ["Hündin 1"]),
        ("x/a y/b\n", ["a.png"], ["a"]),
    ],
)
def test_a_line_that_is_a_file_is_never_split(text, files, ids, tmp_path):
    for file in files:
        written(tmp_path / "images" / file, "") if (tmp_path / "images").mkdir(exist_ok=True) is None else None
    assert read_id_list(written(tmp_path / "list.txt", text), tmp_path / "images") == ids


@pytest.mark.parametrize(
    "name, expected",
    [
        (2007000032, "2007_000032"),
        (np.int32(2007000032), "2007_000032"),
        (np.int64(2011003271), "2011_003271"),
        (139, "139"),
        ("2007000032", "2007000032"),
        (np.str_("a.jpg"), "a"),
    ],
)
def test_integers_take_the_form_of_voc(name, expected):
    assert id_of(name) == expected


@pytest.mark.parametrize("name", [None, 2.5, True, b"a", ("a",), -1.0])
def test_what_is_not_a_name_is_refused(name):
    with pytest.raises(InputError, match="expected a file name"):
        id_of(name)


def test_a_clash_names_both_and_the_file(tmp_path):
    book = IdBook(tmp_path / "tags.csv")
    assert book.add("cat/1.jpg", ", line 1") == book.add("1.jpg", ", line 2") == "1"
    with pytest.raises(InputError, match=r"tags.csv, line 3: 'cat/1.jpg' and 'dog/1.jpg'"):
        book.add("dog/1.jpg", ", line 3")


def test_files_are_found_in_any_normal_form_and_case(tmp_path):
    for name in (f"{NFD}.jpg", "a.Jpg", "b.JPEG", "._a.jpg", ".DS_Store"):
        written(tmp_path / name, "")
    assert list_image_ids(tmp_path) == ["Hündin", "a", "b"]
    assert [find_image(tmp_path, i).name for i in ("Hündin", "a", "b")] == [f"{NFD}.jpg", "a.Jpg", "b.JPEG"]
    for name in (f"{NFD}.json.gz", "a.JSON.Gz"):
        (tmp_path / name).touch()
    assert [masks_path(tmp_path, i).name for i in ("Hündin", "a")] == [f"{NFD}.json.gz", "a.JSON.Gz"]
    written(tmp_path / "a.png", "")
    with pytest.raises(InputError, match="'a.Jpg' and 'a.png' are two images"):
        list_image_ids(tmp_path)


def test_a_missing_list_names_the_one_that_may_be_meant_unless_there_are_many(tmp_path):
    (tmp_path / "train.txt").write_text("a\n")
    with pytest.raises(InputError, match=r"trainaug.txt: no such file \(did you mean train.txt\?\); check the path"):
        read_id_list(tmp_path / "trainaug.txt")
    for number in range(100):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(InputError, match="trainaug.txt: no such file; check the path"):
        read_id_list(tmp_path / "trainaug.txt")
