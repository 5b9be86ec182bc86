"""Everything that takes bytes from outside, by name, with a sound example of what it reads."""

import base64
import gzip
import json
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import corpus
import numpy as np

from util.data import cams, ids, image_labels, images, labels, mask_files, mask_images, masks, npy, voc
from util.runtime.errors import InputError

SCRATCH = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()) / f"parsers.{os.getpid()}"
CLASSES = voc.class_table(("background", "cat", "dog"))


def _from_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        SCRATCH.mkdir(exist_ok=True)
        path = SCRATCH / name
        path.write_bytes(data)
        return read(path)

    return parse


def _code(data: bytes) -> masks.Masks:
    return masks.Masks.from_counts((48, 64), [data])


def _masks(data: bytes) -> masks.Masks:
    """A mask file, and all that the merge stage asks of it, as long as the image is small."""
    found = mask_files.decode_masks(data, Path("bad.json"), "bad")
    if found.height * found.width <= 1 << 16:
        assert found.union().shape == found.shape
        assert (found.areas >= 0).all() and (found.areas <= found.height * found.width).all()
        assert all(found.dense(k).sum() == area for k, area in enumerate(found.areas))
        assert masks.Masks.from_counts(found.shape, found.counts()).areas.tolist() == found.areas.tolist()
    return found


def _mask_image(data: bytes) -> object:
    with images.open_image(data, "a.png", "mask", max_pixels=1 << 20) as image:
        return mask_images.mask_of_image(image, Path("a.png"))


def _voc_xml(path: Path) -> object:
    return image_labels.read_image_labels(path.parent, CLASSES)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "run-length code": _code,
    "mask file": _masks,
    "npy": _from_file(npy.load_npy_dict, "a.npy"),
    "id list": _from_file(ids.read_id_list, "list.txt"),
    "VOC XML": _from_file(_voc_xml, "a.xml"),
    "CSV of tags": _from_file(lambda path: image_labels.read_image_labels(path, CLASSES), "tags.csv"),
    "class names": _from_file(voc.load_classes, "names.txt"),
    "image": lambda data: images.decode_image(data, "a.png", max_pixels=1 << 20),
    "label map": lambda data: labels.decode_label(data, "a.png", 21),
    "mask image": _mask_image,
    "masks of arrays": lambda data: mask_files.decode_masks(data, Path("bad.npz"), "bad"),
    "masks in a pickle": lambda data: mask_files.decode_masks(data, Path("bad.pkl"), "bad", (48, 64)),
    "tags in a pickle": _from_file(lambda path: image_labels.read_image_labels(path, CLASSES), "tags.pkl"),
    "soft CAM": _from_file(lambda path: cams.read_cam(path.parent, "cam"), "cam.npy"),
}

_PIXELS = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
_DENSE = np.zeros((2, 48, 64), bool)
_DENSE[0, 3:40, 5:50] = _DENSE[1, ::2] = True
_GOOD = masks.Masks.from_dense(_DENSE, [0.9, 0.8], [0.95, 0.9])
_EYE = base64.b64encode(corpus.png(np.eye(3, dtype=bool))).decode()
_SA1B = {
    "image": {"image_id": "bad", "width": 64, "height": 48, "file_name": "bad.jpg"},
    "annotations": [
        {"segmentation": {"size": [48, 64], "counts": code}, "predicted_iou": 0.9, "stability_score": 0.9}
        for code in (*_GOOD.counts(), [0, 1000, 2072])
    ],
}
_COCO = {
    "images": [{"id": 1, "width": 64, "height": 48, "file_name": "bad.jpg"}],
    "annotations": [{"image_id": 1, "segmentation": [[1, 2, 30, 4, 20, 40]]}],
}
_LABELME = {
    **{"imagePath": "bad.jpg", "imageHeight": 48, "imageWidth": 64},
    "shapes": [
        {"points": [[1, 2], [30, 4]], "shape_type": "rectangle", "group_id": 1},
        {"points": [[10, 20], [15, 20]], "shape_type": "circle"},
        {"points": [[3, 3], [5, 5]], "shape_type": "mask", "mask": _EYE},
    ],
}
EXAMPLES: dict[str, list[bytes]] = {
    "run-length code": [code.encode() for code in _GOOD.counts()],
    "mask file": [
        *(json.dumps(content).encode() for content in (_SA1B, _COCO, _LABELME)),
        b'{"masks": [[[0, 1], [1, 1]]], "scores": [0.5]}',
        b'[{"segmentation": {"size": [2, 2], "counts": [1, 3]}}]',
        gzip.compress(b'{"image": {"image_id": "bad", "width": 8, "height": 6}, "annotations": []}', mtime=0),
    ],
    "npy": [corpus.npy({0: np.zeros((2, 3), np.float32)}), corpus.npy({"a": np.ones(2, np.float32)})],
    "id list": [
        b'["a", "b"]',
        b'"a.jpg",x\n# c\n',
        "a\n".encode("utf-16"),
        b"/JPEGImages/a.jpg /SegmentationClassAug/a.png\n",
    ],
    "VOC XML": [b"<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"],
    "CSV of tags": [b"id,class\na,cat,dog\nb,1\n"],
    "class names": [
        b"nc: 2\nnames:\n  0: background\n  1: cat\n",
        b"item {\n  id: 1\n  name: 'cat'\n}\n",
        b"background\ncat #ff0000\ndog 0,255,0\n",
    ],
    "image": [
        corpus.png(_PIXELS),
        *(corpus.encoded(_PIXELS, kind) for kind in ("JPEG", "BMP", "WEBP", "TIFF")),
        *corpus.turned(_PIXELS),
    ],
    "label map": [
        corpus.png(_PIXELS[..., 0] % 21),
        corpus.png(_PIXELS[..., 0].astype(np.uint16) % 21),
        corpus.png(np.dstack([_PIXELS[..., 0] % 21] * 3)),
        corpus.palette_png(_PIXELS[..., 0] % 4, voc.palette() ^ 21),
    ],
    "mask image": [
        corpus.png(_DENSE[0]),
        corpus.png(_DENSE[0].astype(np.uint16)),
        corpus.png(np.dstack([255 * _DENSE[0].astype(np.uint8)] * 4)),
        corpus.palette_png(_DENSE[0].astype(np.uint8), voc.palette()),
        corpus.encoded(_DENSE[0], "TIFF"),
    ],
    "masks in a pickle": [pickle.dumps([{"segmentation": _DENSE[0], "predicted_iou": 0.9}]), pickle.dumps(_DENSE)],
    "tags in a pickle": [pickle.dumps({"a": ["cat"], "b": np.array([0, 1])})],
    "soft CAM": [
        corpus.npy({1: np.eye(3, dtype=np.float32)}),
        corpus.npy({"keys": np.array([1]), "attn_highres": np.eye(3, dtype=np.float16)[None]}),
    ],
    "masks of arrays": [corpus.npz(masks=_DENSE, scores=np.ones(2)), corpus.npz(_DENSE[0])],
}


def try_one(name: str, data: bytes) -> bool:
    """Whether the parser takes the data. It may say InputError, naming the remedy, and nothing else."""
    try:
        PARSERS[name](data)
    except InputError as error:
        assert len(str(error)) > 20
        return False
    return True
