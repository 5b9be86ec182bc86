"""Images and files as people have them: suffixes, orientation, odd metadata, deep and float values, names, hidden files."""

import io
import os
import re
import struct
import unicodedata
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from util.data.ids import IMAGE_SUFFIXES
from util.data.images import find_image, image_size, is_turned, list_image_ids, read_image
from util.runtime.errors import InputError
from util.runtime.files import is_hidden, list_files

# A 60x40 image, dark but for its upper left corner, by which the tests see how an image was turned.
MARKED = np.full((40, 60, 3), 20, np.uint8)
MARKED[:20, :20] = 230
TURNED = {
    1: MARKED,
    2: MARKED[:, ::-1],
    3: MARKED[::-1, ::-1],
    4: MARKED[::-1],
    5: MARKED.transpose(1, 0, 2),
    6: np.rot90(MARKED, -1),
    7: np.rot90(MARKED, 2).transpose(1, 0, 2),
    8: np.rot90(MARKED),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_of_every_format(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(MARKED).save(path, kind, exif=exif.tobytes())
    expected = TURNED[orientation]
    assert image_size(path) == expected.shape[:2]
    assert np.abs(read_image(path).astype(int) - expected).mean() < 6
    assert is_turned(path) == (orientation >= 5 and kind != "HEIF")  # there every reader turns it


def photo(tag, kind, value, orientation=6):
    """A 60x40 JPEG with an orientation and one more EXIF entry."""
    buffer = io.BytesIO()
    Image.fromarray(MARKED).save(buffer, "JPEG")
    data = buffer.getvalue()
    inside, outside = (value.ljust(4, b"\0"), b"") if len(value) <= 4 else (struct.pack("<I", 8 + 2 + 24 + 4), value)
    turn = 0x112, struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    entry = tag, struct.pack("<HHI", tag, kind, len(value) if kind == 2 else 1) + inside
    entries = b"".join(part for _, part in sorted([turn, entry]))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + outside
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


ODD_EXIF = {
    "signed resolution": photo(0x11A, 10, struct.pack("<ii", -1, 1)),
    "division by zero": photo(0x11A, 5, struct.pack("<II", 1, 0)),
    "positioning beyond 16 bits": photo(0x213, 4, struct.pack("<I", 70000)),
    "resolution in words": photo(0x11A, 2, b"72\0"),
    "maker as a fraction": photo(0x10F, 10, struct.pack("<ii", 1, 2)),
    "GPS beyond the end": photo(0x8825, 4, struct.pack("<I", 10**9)),
    "EXIF inside EXIF beyond the end": photo(0x8769, 4, struct.pack("<I", 10**9)),
}


@pytest.mark.parametrize("name", ODD_EXIF)
def test_one_odd_exif_value_does_not_matter(tmp_path, name):
    path = tmp_path / "photo.jpg"
    path.write_bytes(ODD_EXIF[name])
    assert image_size(path) == (60, 40)
    assert np.abs(read_image(path).astype(int) - TURNED[6]).mean() < 6


@pytest.mark.parametrize("value", [0, 9, 600])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, value):
    (tmp_path / "photo.jpg").write_bytes(photo(0x10F, 2, b"me\0", orientation=value))
    assert image_size(tmp_path / "photo.jpg") == read_image(tmp_path / "photo.jpg").shape[:2] == (40, 60)


def test_exif_that_cannot_be_read_turns_nothing(tmp_path):
    data = photo(0x10F, 2, b"me\0")
    (tmp_path / "photo.jpg").write_bytes(data.replace(b"II*\0", b"IX*\0"))
    assert image_size(tmp_path / "photo.jpg") == read_image(tmp_path / "photo.jpg").shape[:2] == (40, 60)


@pytest.mark.parametrize(
    "error", [struct.error, ZeroDivisionError, KeyError, RuntimeError, AttributeError, MemoryError]
)
def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch, error):
    def load(self):
        raise error("inside")

    (tmp_path / "photo.jpg").write_bytes(ODD_EXIF["resolution in words"])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(InputError, match=rf"photo.jpg: not a readable image \({error.__name__}"):
        read_image(tmp_path / "photo.jpg")


def test_png_with_much_metadata(tmp_path):
    Image.fromarray(MARKED).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for kind, body in (
        (b"zTXt", b"history\0\0" + zlib.compress(b"x" * (5 << 20))),
        (b"tEXt", b"log\0" + b"y" * (2 << 20)),
    ):
        chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
        assert np.array_equal(read_image(tmp_path / "a.png"), MARKED)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 1000], [30000, 65535]], np.uint16), [[0, 4], [117, 255]]),
        (np.array([[0, 7], [100, 255]], np.uint16), [[0, 7], [100, 255]]),
        (np.array([[0, 0.25], [0.5, 1]], np.float32), [[0, 64], [128, 255]]),
        (np.array([[-0.02, 0.25], [0.5, 1.03]], np.float32), [[0, 64], [128, 255]]),
        (np.array([[0, 7], [100, 255]], np.float32), [[0, 7], [100, 255]]),
        (np.array([[0, 7], [100, 255]], np.int32), [[0, 7], [100, 255]]),
        (np.array([[-3, 0], [5, 7]], np.float32), "from -3 to 7, which may be of 0..1 or of 0..255; save"),
        (np.array([[0, 0.5], [2, 5]], np.float32), "from 0 to 5, which may be"),
        (np.array([[0, 1], [np.nan, 1]], np.float32), "from nan to nan"),
        (np.array([[0, 1], [2, 1e6]], np.float32), "from 0 to 1e[+]06"),
        (np.array([[0, 1], [2, 10**6]], np.int32), "integer values from 0 to 1e[+]06"),
        (np.array([[0, 300], [1000, 4095]], np.uint16), "up to 4095: an image of 10 to 14 bits, or a dark one"),
        (np.array([[0, 300], [1000, 16383]], np.uint16), "up to 16383: an image of 10 to 14 bits"),
    ],
)
def test_deep_and_float_greys(tmp_path, values, expected):
    Image.fromarray(values).save(tmp_path / "a.tif")
    if isinstance(expected, str):
        with pytest.raises(InputError, match=f"a.tif: .*{expected}"):
            read_image(tmp_path / "a.tif")
    else:
        assert (read_image(tmp_path / "a.tif") == np.array(expected)[..., None]).all()


@pytest.mark.parametrize(
    "suffix",
    [
        "jpg",
        "JPG",
        "Jpg",
        "jPeG",
        "jfif",
        "JFIF",
        "jpe",
        "png",
        "bmp",
        "webp",
        "tif",
        "TIFF",
        "avif",
        "gif",
        "jp2",
        "ppm",
    ],
)
def test_suffixes_in_any_case_are_listed_and_found(tmp_path, suffix):
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000", "ppm": "PPM"}
    Image.fromarray(MARKED).save(tmp_path / f"a.{suffix}", kinds.get(suffix.lower(), suffix.upper()))
    assert list_image_ids(tmp_path) == ["a"]
    assert read_image(find_image(tmp_path, "a")).shape == (40, 60, 3)


def test_an_image_that_nobody_can_see_is_refused(tmp_path):
    Image.fromarray(np.dstack([MARKED, np.zeros_like(MARKED[..., :1])])).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="transparent all over.*save it without that channel"):
        read_image(tmp_path / "a.png")


def test_a_fourth_band_is_not_transparency(tmp_path):
    """Near infrared, as tools for satellite images write it behind red, green and blue."""
    band = np.full((40, 60, 1), 90, np.uint8)
    band[:, 40:] = 0  # water
    Image.fromarray(np.dstack([MARKED, band])).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="fourth channel may be a band such as near infrared; save it with three"):
        read_image(tmp_path / "a.tif")
    band[:, :30] = 255
    Image.fromarray(np.dstack([MARKED, band])).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png")[:, 40:] == 255).all(), "white where it is transparent, with soft edges"


def test_a_single_bright_pixel_makes_no_image_of_16_bits(tmp_path):
    values = np.full((40, 60), 900, np.uint16)
    values[3, 4] = 65535
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="nearly all up to 900: an image of 10 to 14 bits"):
        read_image(tmp_path / "a.tif")
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([values] * 3))
    with pytest.raises(InputError, match="colours of 16 bits that are nearly all dark"):
        read_image(tmp_path / "a.png")


def test_the_same_name_in_another_format_is_named(tmp_path):
    for name in ("a.dng", "b_gtFine_labelIds.png", "b_label.png", "bc_label.png"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"no image for a .*; a\.dng is not read here"):
        find_image(tmp_path, "a")
    with pytest.raises(InputError, match=r"no image for b .*; b_gtFine_labelIds.png, b_label.png is not read here"):
        find_image(tmp_path, "b")
    with pytest.raises(InputError, match=r"no image for c .*; a file here is a.dng\); add"):
        find_image(tmp_path, "c")


def test_a_file_that_was_added_later_is_found(tmp_path):
    Image.fromarray(MARKED).save(tmp_path / "a.Jpg", "JPEG")
    find_image(tmp_path, "a")
    with pytest.raises(InputError, match="no image for b .*add it or drop"):
        find_image(tmp_path, "b")
    os.utime(tmp_path, ns=(0, 0))
    Image.fromarray(MARKED).save(tmp_path / "b.Jpg", "JPEG")
    assert find_image(tmp_path, "b").name == "b.Jpg"


def test_accents_of_macos_are_found(tmp_path):
    Image.fromarray(MARKED).save(tmp_path / (unicodedata.normalize("NFD", "caf\u00e9") + ".jpg"))
    (image_id,) = list_image_ids(tmp_path)
    assert image_id == "caf\u00e9" and read_image(find_image(tmp_path, image_id)).shape == (40, 60, 3)


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("a.heic", b"random", "not a readable image (no format that is known here)"),
        (
            "a.heic",
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "begins as a HEIC image, but is not a readable image; it may be cut short, replace it",
        ),
        (
            "a.jpg",
            b"\xff\xd8\xff",
            "begins as a JPEG image, but is not a readable image; it may be cut short, replace it",
        ),
        (
            "a.png",
            b"\x89PNG\r\n\x1a\n",
            "begins as a PNG image, but is not a readable image; it may be cut short, replace it",
        ),
        ("a.jpg", b"random", "not a readable image"),
    ],
)
def test_what_is_no_image_is_named_by_its_beginning(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=re.escape(f"{name}: {said}")):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.heic", "a.HEIC", "a.jpg"])
def test_heic_is_read_whatever_its_suffix(tmp_path, name):
    Image.fromarray(MARKED).save(tmp_path / name, "HEIF")
    assert list_image_ids(tmp_path) == ["a"]
    assert np.abs(read_image(find_image(tmp_path, "a")).astype(int) - MARKED).mean() < 6


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(InputError, match="a.jpg: a pointer of Git LFS.*run git lfs pull"):
        read_image(tmp_path / "a.jpg")


def test_a_name_that_is_not_utf8_is_one_image_that_fails(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(ODD_EXIF["resolution in words"])
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (tmp_path / "good.jpg").write_bytes(ODD_EXIF["resolution in words"])
    bad, good = list_image_ids(tmp_path)
    assert read_image(find_image(tmp_path, good)).shape == (60, 40, 3)
    with pytest.raises(InputError, match=r"b'caf\\xe9.jpg' is not UTF-8; rename"):
        find_image(tmp_path, bad)


def test_hidden_files_are_passed_over(tmp_path):
    names = ["._a.jpg", ".DS_Store", "Thumbs.db", "thumbs.db", "desktop.ini", ".hidden.jpg", "$RECYCLE.BIN", "@eaDir"]
    assert all(map(is_hidden, names)) and not is_hidden("a.jpg")
    for name in [*names, "a.jpg", "b.JPG", "c.txt"]:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_files(tmp_path)] == ["a.jpg", "b.JPG", "c.txt"]
    assert [path.name for path in list_files(tmp_path, IMAGE_SUFFIXES)] == ["a.jpg", "b.JPG"]
    assert list_image_ids(tmp_path) == ["a", "b"]
