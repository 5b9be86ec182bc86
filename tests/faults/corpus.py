"""Files that are wrong in every way that files are found to be wrong; all of them made here, none stored.

Each entry of a table is ``name: (content, finding)``: what to write (bytes, or a function of the path), and a pattern
that the message about it must match. A finding of None marks content that is odd but fine. What a reader says of what it
understands is in the tables of tests/util/data; here are those that stand for the rest.
"""

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def png(array: np.ndarray, **options) -> bytes:
    """An image or label as the bytes of a PNG file."""
    return encoded(array, "PNG", **options)


def encoded(array: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def palette_png(index: np.ndarray, colours: np.ndarray) -> bytes:
    """A label or mask as a PNG with a palette."""
    image, buffer = Image.fromarray(index), io.BytesIO()
    image.putpalette(colours.tobytes())
    image.save(buffer, "PNG")
    return buffer.getvalue()


def turned(array: np.ndarray) -> list[bytes]:
    """An image with an EXIF orientation, in every format that has one."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    return [encoded(array, kind, exif=exif) for kind in ("JPEG", "TIFF", "PNG", "WEBP", "AVIF")]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size in its header and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def flipped(data: bytes) -> bytes:
    """One byte in the middle changed."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


class Command:
    """Pickles to a call that makes the file ``executed`` in the current folder."""

    def __reduce__(self):
        return (open, ("executed", "w"))


class Unfilled:
    """Pickles to an array of 400 MB whose values do not follow."""

    def __reduce__(self):
        return (np.zeros(1).__reduce__()[0], (np.ndarray, (50_000_000,), b"d"))


class Shared:
    """Pickles to an array whose bytes all arrays of the kind share."""

    state = np.zeros((48, 64), np.float32).__reduce__()[2]

    def __reduce__(self):
        return (*np.zeros(1).__reduce__()[:2], self.state)


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def unreadable_loop(path: Path) -> None:
    path.symlink_to(path.name)


def absent(path: Path) -> None:
    pass


def put(path: Path, content) -> None:
    """Write an entry's content to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)


_RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
_JPEG, _PNG = encoded(_RGB, "JPEG"), png(_RGB)


def unreadable(good: bytes) -> dict:
    """Files that are not an image, or less than the PNG that they were."""
    return {
        "empty": (b"", "an empty file"),
        "text": (b"not an image\n", "no format"),
        "page of a web server": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        "zeros": (bytes(4096), "no format"),
        "cut PNG": (good[: len(good) // 2], "truncated"),
        "damaged PNG": (flipped(good), "broken"),
        "head of a PNG": (good[:8], "not a readable|truncated"),
        "no pixels": (png_of_size(0, 0), "no format|not a readable"),
        "bomb": (png_of_size(60000, 60000), "too large|beyond"),
        "pixels missing": (png_of_size(64, 48), "truncated|not enough|not a readable"),
        "program": (b"\x7fELF" + bytes(range(256)) * 8, "no format"),
        "folder": (folder, "no image|no label"),
        "dangling link": (dangling, "no image|no label"),
        "link to itself": (unreadable_loop, "no image|no label"),
        "missing": (absent, "no image|no label"),
    }


IMAGES = unreadable(_PNG) | {
    "cut JPEG": (_JPEG[: len(_JPEG) // 2], "truncated"),
    "head of a JPEG": (_JPEG[:20], "truncated|not a readable"),
    "transparent": (png(np.dstack([_RGB, _RGB[..., :1] * 0])), "transparent all over"),
    "12 bits": (encoded(_RGB[..., 0].astype(np.uint16) * 16, "PNG"), "10 to 14 bits"),
    "cut TIFF": (encoded(_RGB, "TIFF")[:5000], "truncated|no format|not a readable|not enough"),
    "cut BMP": (encoded(_RGB, "BMP")[:5000], "truncated"),
    "cut WebP": (encoded(_RGB, "WEBP")[:100], "no format|truncated|not a readable|decode"),
}
# What its header already shows, which is all that a check of sizes reads.
_HEADS = ("empty", "text", "zeros", "head of a JPEG", "head of a PNG", "no pixels", "bomb", "folder", "missing")
HEADS = {name: IMAGES[name] for name in _HEADS}

_LABEL = np.zeros((48, 64), np.uint8)
_LABEL[10:30, 20:50] = 2
_DEEP = encoded(np.zeros((48, 64), np.uint16), "PNG")


LABELS = unreadable(png(_LABEL)) | {
    "colours": (png(_RGB), "mode RGB"),
    "colours with alpha": (png(np.dstack([_RGB, _RGB[..., :1]])), "mode RGBA"),
    "16 bit": (_DEEP, None),
    "value of no class": (png(_LABEL + 7), "7, 9 with 7 classes"),
    "just below void": (png(_LABEL // 2 * 254), "254 with 7 classes"),
    "all values": (png(np.arange(48 * 64, dtype=np.uint64).reshape(48, 64).astype(np.uint8)), "7, 8"),
}
OTHER_SIZE = png(np.zeros((20, 30), np.uint8))
LABELS_OF_ANOTHER_SIZE = {
    "other size": (OTHER_SIZE, "30x20"),
    "transposed": (png(_LABEL.T.copy()), "48x64"),
    "one pixel": (png(_LABEL[:1, :1]), "1x1"),
}


def _sa1b(change=None, **image) -> bytes:
    """A mask file of one mask, the left half of a 48x64 image, with one thing changed."""
    code, scores = {"size": [48, 64], "counts": [0, 48 * 32, 48 * 32]}, {"predicted_iou": 0.9, "stability_score": 0.95}
    mask = {"segmentation": code, "bbox": [0, 0, 31, 47], "area": 48 * 32, **scores, "id": 0}
    image = {"image_id": "bad", "width": 64, "height": 48, "file_name": "bad.jpg", **image}
    content = {"image": image, "annotations": [mask]}
    if change:
        change(content)
    return json.dumps(content).encode()


def _counts(counts) -> bytes:
    return _sa1b(lambda content: content["annotations"][0]["segmentation"].update(counts=counts))


def _size(size) -> bytes:
    return _sa1b(lambda content: content["annotations"][0]["segmentation"].update(size=size))


def _field(name, value) -> bytes:
    return _sa1b(lambda content: content["annotations"][0].update({name: value}))


MASKS = {
    "empty": (b"", "not valid JSON"),
    "cut": (_sa1b()[:-40], "not valid JSON"),
    "not UTF-8": (b"\xff\xfe" + _sa1b(), "not valid JSON"),
    "deep": (b"[" * 100_000, "not valid JSON"),
    "deep and closed": (b"[" * 3000 + b"]" * 3000, "format|not valid JSON"),
    "endless number": (b'{"image": ' + b"9" * 5000 + b"}", "not valid JSON|format"),
    "list": (b"[3]", "format"),
    "labelme of text": (b'{"shapes": [{"points": [["a", "b"]]}]}', "format"),
    "no annotations": (b'{"image": {"width": 3, "height": 2}}', "format"),
    "no segmentation": (_sa1b(lambda content: content["annotations"][0].pop("segmentation")), "format"),
    "polygons": (_field("segmentation", [[0, 0, 9, 9]]), "format"),
    "no height": (_sa1b(lambda content: content["image"].pop("height")), "format"),
    "height in words": (_sa1b(height="tall"), "format"),
    "height of nothing": (_sa1b(height=0), "pixels"),
    "negative height": (_sa1b(height=-48), "pixels"),
    "endless height": (_sa1b(height=10**12), "pixels"),
    "infinite height": (_sa1b(height=float("inf")), "format"),
    "height of NaN": (_sa1b(height=float("nan")), "format"),
    "size of lists": (_size([[48], [64]]), "format"),
    "counts missing": (_sa1b(lambda c: c["annotations"][0]["segmentation"].pop("counts")), "format"),
    "counts of null": (_counts(None), "mask 0"),
    "counts of words": (_counts(["a"]), "mask 0"),
    "counts of fractions": (_counts([0.5, 3071.5]), "mask 0"),
    "endless count": (_counts([10**30]), "mask 0"),
    "empty code": (_counts(""), "mask 0"),
    "code of a NUL": (_counts("\0"), "characters"),
    "endless code": (_counts("o" * 30 + "0"), "40 bits"),
    "code as Python prints bytes": (_counts("b'd0e3000'"), "mask 0|add up|cut short"),
    "scores of null": (_field("predicted_iou", None), None),
    "score in words": (_field("predicted_iou", "high"), "format"),
    "of a path": (_sa1b(image_id="../../etc/passwd", file_name="/etc/passwd"), "etc/passwd"),
    "of a whole data set": (b'{"images": [], "annotations": [], "categories": []}', "format"),
    "folder": (folder, "no masks"),
    "dangling link": (dangling, "no masks"),
    "missing": (absent, "no masks"),
}


def masks_as(**files) -> Callable[[Path], None]:
    """A folder of PNG files, as others write them, in the place of a mask file; see `NAMES`."""

    def write(path: Path) -> None:
        for name, data in files.items():
            put(path.with_suffix("") / NAMES.get(name, name), data)

    return write


NAMES = {"zero": "0.png", "one": "1.png", "table": "metadata.csv", "text": "readme.txt"}
_MASK = png(np.pad(np.full((48, 32), 255, np.uint8), ((0, 0), (0, 32))))
_OBJECTS = png(np.arange(48 * 64).reshape(48, 64).astype(np.uint8) % 5)
_WORDS = b"id,predicted_iou,stability_score\n0,high,low\n"
MASK_FOLDERS = {
    "folder of text": (masks_as(zero=b"no image"), "0.png.*(no format|not a readable)"),
    "folder of a cut PNG": (masks_as(zero=_MASK[: len(_MASK) // 2]), "0.png.*not a readable"),
    "folder of a bomb": (masks_as(zero=png_of_size(60000, 60000)), "0.png"),
    "folder of two sizes": (masks_as(zero=_MASK, one=OTHER_SIZE), "1.png.*size"),
    "folder of another size": (masks_as(zero=OTHER_SIZE), "30x20"),
    "folder with a table of words": (masks_as(zero=_MASK, table=_WORDS), "metadata"),
    "folder with a table without scores": (masks_as(zero=_MASK, table=b"id,area\n0,3\n"), "metadata"),
    "folder with a table not UTF-8": (masks_as(zero=_MASK, table=b"id\xff\xfe"), "metadata"),
    "folder of a folder": (masks_as(zero=folder), "0.png"),
    "folder of numbers of objects": (masks_as(zero=_OBJECTS), "several objects"),
    "folder without masks": (masks_as(text=b"masks"), "none of them a mask"),
}


def npy(value, kind=object) -> bytes:
    """A value as ``numpy.save`` writes it."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(value, dtype=kind), allow_pickle=True)
    return buffer.getvalue()


def npz(*unnamed, **arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, *unnamed, **arrays)
    return buffer.getvalue()


_MAP = np.zeros((48, 64), np.float32)
_GOOD_NPY, _HEAD = npy({0: _MAP}), npy(None).split(b"\n")[0] + b"\n"
_ENDLESS = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }"
NPY = {
    "empty": (b"", "not a readable"),
    "cut": (_GOOD_NPY[:-100], "not a readable"),
    "damaged": (_GOOD_NPY[:10] + b"\xff" * 20 + _GOOD_NPY[30:], "not a readable"),
    "version of the future": (b"\x93NUMPY\x09\x00" + _GOOD_NPY[8:], "not a readable"),
    "head that lies": (_GOOD_NPY.replace(b"'|O'", b"'<f8'"[:4] + b"'", 1), "holds an array|not a readable"),
    "archive": (npz(a=_MAP), "not a readable"),
    "array": (npy(_MAP, np.float32), "holds an array"),
    "endless array": (_HEAD[:8] + b"\x76\x00" + _ENDLESS.ljust(117) + b"\n", "holds an array"),
    "list": (npy(None).replace(b"N.", b"]."), "holds a list|holds a NoneType|not a readable"),
    "command": (npy({0: Command()}), "could run code"),
    "command of a module": (_HEAD + b"cos\nsystem\n(S'touch executed'\ntR.", "could run code"),
    "memo that nothing fills": (_HEAD + b"\x80\x04}r" + struct.pack("<I", 600_000_000) + b".", "places of memory"),
    "length beyond the end": (_HEAD + b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"ab.", "not a readable"),
    "array that is never filled": (npy({0: Unfilled()}), "says that it holds"),
    "dates": (npy({0: np.zeros((48, 64), "M8[s]")}), "holds an array of 'M8'"),
    "array of objects": (npy({0: np.array([_MAP, None], dtype=object)}), "array of objects"),
    "many arrays of the same bytes": (npy({key: Shared() for key in range(9)}), "says that it holds"),
    "bare pickle": (pickle.dumps({0: 1}), "not a readable"),
    "folder": (folder, "cannot be read|no soft CAM|no format|no .xml"),
    "missing": (absent, "no soft CAM|no such file"),
}
CAMS = NPY | {
    "negative key": (npy({-1: _MAP}), "-1"),
    "key beyond": (npy({254: _MAP}), "254"),
    "not finite": (npy({0: _MAP * np.nan}), "finite"),
    "three axes": (npy({0: _MAP[None]}), "shape"),
    "two sizes": (npy({0: _MAP, 1: _MAP[:5]}), "size"),
    "other size": (npy({0: _MAP[:5, :5]}), "5x5|size"),
}

_XML = "<annotation><filename>bad.jpg</filename><object><name>{}</name></object></annotation>"
_UTF16_XML = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a [<!ENTITY b "xxxx">]><annotation>&b;</annotation>'
XML = {
    "empty": (b"", "not valid XML"),
    "text": (b"cat\n", "not valid XML"),
    "cut": (_XML.format("ringed").encode()[:-20], "not valid XML"),
    "unknown class": (_XML.format("unicorn").encode(), "'unicorn'"),
    "object without a name": (b"<annotation><object/></annotation>", "''|name"),
    "entities": (
        b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 99 + b'"><!ENTITY c "&b;&b;&b;">]><annotation>&c;</annotation>',
        "document type",
    ),
    "outside file": (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>', "document"),
    "entities in UTF-16": (_UTF16_XML.encode("utf-16"), "document type"),
    "deep": (b"<a>" * 200_000, "not valid XML"),
    "folder": (folder, "cannot be read"),
}
CSV = {
    "empty": (b"", "no image-level label"),
    "unknown class": (b"train_0000,unicorn\n", "line 1.*'unicorn'"),
    "index beyond": (b"train_0000,ringed\ntrain_0001,99\n", "line 2.*'99'"),
    "UTF-16 cut short": (b"\xff\xfet\0r\0\0", "not a UTF-8"),
    "NUL": (b"train_0000,rin\0ged\n", "line 1|unknown"),
    "endless field": (b"train_0000," + b"x" * 200_000 + b"\n", "line 1|field"),
    "missing": (absent, "no such file"),
    "other images": (b"train_0000,ringed\n", "'good_1'.*'train_0000'"),
    "UTF-16 without a mark": ("train_0000;ringed\n".encode("utf-16-le"), "line 1|not a plain"),
}

LISTS = {
    "missing": (absent, "no such file"),
    "folder": (folder, "cannot be read"),
    "empty": (b"", "list is empty"),
    "image": (_PNG, "not a UTF-8"),
    "UTF-16 without a mark": ("train_0000\n".encode("utf-16-le"), "line 1.*not a plain file name"),
    "Windows-1252": ("Bär\n".encode("cp1252"), "byte 1, line 1.*UTF-8"),
    "UTF-16, comments, quotes and CSV": ('# train\r\n"good_1.jpg",x\r\ngood_2.jpg;y\r\n'.encode("utf-16"), None),
    "NUL": (b"train\x000000\n", "line 1.*not a plain file name"),
    "endless id": (b"x" * 5000 + b"\n", "line 1.*x{20,}"),
}
# Lists whose every id is missing: reported image by image.
STRANGE_IDS = {
    "paths": (b"../../etc/passwd\n/etc/shadow\n", "passwd"),
    "unknown": (b"nobody\n", "nobody"),
    "other letters": ("naïve 漢字\n".encode(), "na"),
    "option": (b"--help\n", "--help"),
}
CLASS_NAMES = {
    "missing": (absent, "no such file"),
    "empty": (b"", "0 classes"),
    "too many": ("\n".join(f"c{k}" for k in range(300)).encode(), "300 classes"),
    "image": (_PNG, "not a UTF-8"),
    "folder": (folder, "cannot be read"),
}


def saved(value) -> bytes:
    """A value as ``torch.save`` writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def checkpoints() -> dict:
    """Checkpoints of nothing; a function, since they need torch."""
    import torch

    good = saved({"model": {"weight": torch.zeros(3)}})
    return {
        "missing": (absent, "no checkpoint here"),
        "folder": (folder, "a folder"),
        "empty": (b"", "not a"),
        "text": (b"weights\n", "not a"),
        "page of a web server": (b"<!DOCTYPE html><html>404</html>", "not a"),
        "cut": (good[: len(good) // 2], "not a"),
        "damaged": (flipped(good), "not a|damaged|belong to another|expected"),
        "zeros": (bytes(1000), "not a"),
        "command": (saved(Command()), "could run code"),
        "command in a dict": (saved({"model": {"weight": Command()}}), "could run code"),
        "bare pickle of a command": (pickle.dumps(Command()), "not a|could run code"),
        "whole module": (saved(torch.nn.Linear(2, 2)), "could run code"),
        "tensor": (saved(torch.zeros(3)), "holds a Tensor"),
        "list": (saved([1, 2]), "holds a list"),
        "empty dict": (saved({}), "expected|Expected|no checkpoint"),
        "keys of numbers": (saved({1: torch.zeros(2)}), "expected|Expected|another|no checkpoint"),
        "other network": (saved({"layer.weight": torch.zeros(3)}), "expected|Expected|no checkpoint"),
        "values of text": (saved({"layer.weight": "zeros"}), "expected|Expected|no checkpoint"),
        "archive of numpy": (npz(a=_MAP), "not a"),
        "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "a file of Keras"),
        "packed once more": (npz(a=_MAP).replace(b"a.npy", b"a.pth"), "a ZIP archive that holds a.pth"),
    }
