"""Mask files: round trips, damage, compression, and what other tools write."""

import base64
import gzip
import io
import json
import pickle

import numpy as np
import pytest
from helpers import random_masks
from PIL import Image
from pycocotools import mask as coco

from util.data.mask_files import read_masks, repack, write_masks
from util.data.mask_formats import polygon_runs
from util.runtime.errors import InputError


def test_round_trip_of_a_file(tmp_path):
    masks = random_masks(np.random.default_rng(3))
    write_masks(tmp_path / "a.json", masks, "a", "a.jpg")
    again = read_masks(tmp_path, "a", masks.shape)
    assert again.counts() == masks.counts()
    assert np.allclose(again.predicted_iou, masks.predicted_iou)


def test_png_folders_and_amg_metadata(tmp_path):
    masks = random_masks(np.random.default_rng(3), count=11)
    (tmp_path / "a").mkdir()
    rows = ["id,area,predicted_iou,stability_score"]
    for k in range(len(masks)):
        Image.fromarray(masks.dense(k).astype(np.uint8) * 255).save(tmp_path / "a" / f"{k}.png")
        rows.append(f"{k},{masks.areas[k]},{masks.predicted_iou[k]},{masks.stability_score[k]}")
    assert np.isnan(read_masks(tmp_path, "a").predicted_iou).all()
    (tmp_path / "a" / "metadata.csv").write_text("\n".join(rows))
    again = read_masks(tmp_path, "a", masks.shape)
    assert again.counts() == masks.counts()
    assert np.allclose(again.stability_score, masks.stability_score)


def sa1b(**changes):
    image = {"image_id": "a", "width": 3, "height": 2, "file_name": "a.jpg"}
    annotation = {"segmentation": {"size": [2, 3], "counts": [2, 2, 2]}, "predicted_iou": 0.9}
    content = {"image": image, "annotations": [annotation]}
    image.update({k: v for k, v in changes.items() if k in image})
    annotation["segmentation"].update({k: v for k, v in changes.items() if k in ("size", "counts")})
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (sa1b(counts=[2, 2, 3]), "add up"),
        (sa1b(counts=[8, -2]), "not a list of run lengths"),
        (sa1b(counts="zz"), "cut short"),
        (sa1b(counts="\u00e9"), "characters"),
        (sa1b(counts=[[2], 2]), "not a list"),
        (sa1b(size=[3, 2]), "masks of"),
        (sa1b(image_id="b", file_name="b.jpg"), "not of 'a'"),
        (sa1b(width=-3), "damaged"),
        (sa1b()[:40], "not valid JSON"),
        ("[]", "SA-1B"),
        ('{"image": {}, "annotations": [1]}', "SA-1B"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_masks(tmp_path, "a")
    assert "a.json" in str(error.value)


def test_compressed_files_hold_the_same_masks_in_fewer_bytes(tmp_path):
    masks = random_masks(np.random.default_rng(5), count=9)
    for suffix in (".json", ".json.gz"):
        write_masks(tmp_path / f"a{suffix}", masks, "a", "a.jpg")
    plain, packed = (tmp_path / "a.json").read_bytes(), (tmp_path / "a.json.gz").read_bytes()
    assert gzip.decompress(packed) == plain and len(packed) < len(plain)
    with pytest.raises(InputError, match="both a.json and a.json.gz are there; delete the one that is old"):
        read_masks(tmp_path, "a")
    (tmp_path / "a.json").unlink()
    assert read_masks(tmp_path, "a", masks.shape).counts() == masks.counts()
    repack(tmp_path / "a.json.gz", tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == plain
    repack(tmp_path / "b.json", tmp_path / "b.json.gz")
    assert (tmp_path / "b.json.gz").read_bytes() == packed, "the same masks are the same bytes at any time"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "not a whole gzip file"),
        (lambda data: data[:30], "not a whole gzip file"),
        (lambda data: data[:20] + b"\xff" * 9 + data[29:], "not a whole gzip file"),
        (lambda data: data + b"more", "not a whole gzip file"),
        (lambda data: data + data, "not a whole gzip file"),
        (lambda data: gzip.compress(b"[" * 50), "not valid JSON"),
        (lambda data: gzip.compress(data), "not valid JSON"),
    ],
)
def test_damaged_compressed_files_are_named(tmp_path, change, message):
    (tmp_path / "a.json.gz").write_bytes(change(gzip.compress(sa1b().encode())))
    with pytest.raises(InputError, match=message) as error:
        read_masks(tmp_path, "a")
    assert "a.json.gz" in str(error.value)


def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("util.data.mask_files.LARGEST_JSON", 1 << 20)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * ((1 << 20) + 1)))
    with pytest.raises(InputError, match="a.json.gz: unpacks to more than 1 MiB"):
        read_masks(tmp_path, "a")
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(sa1b().encode().ljust(1 << 20)))
    assert len(read_masks(tmp_path, "a")) == 1, "as much as is allowed"


def test_size_of_another_image_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(sa1b())
    with pytest.raises(InputError, match="3x2 pixels, but the label is 5x4"):
        read_masks(tmp_path, "a", (4, 5))


def test_real_masks_equal_pycocotools(voc12):
    for path in sorted((voc12 / "sam_masks").glob("*.json"))[:40]:
        annotations = json.loads(path.read_text())["annotations"]
        masks = read_masks(voc12 / "sam_masks", path.stem)
        assert masks.counts() == [a["segmentation"]["counts"] for a in annotations]
        assert masks.areas.tolist() == [int(coco.area(a["segmentation"])) for a in annotations]


# --- what other tools write ---------------------------------------------------------------------------------------

H, W = 48, 64
MASK = np.zeros((H, W), bool)
MASK[10:30, 20:50] = True  # 600 pixels
CODE = coco.encode(np.asfortranarray(MASK.astype(np.uint8)))
CODE = {"size": [H, W], "counts": CODE["counts"].decode()}
RUNS = np.diff(np.r_[0, np.flatnonzero(np.diff(MASK.ravel(order="F").astype(int))) + 1, MASK.size]).tolist()
PLAIN = {"size": [H, W], "counts": RUNS}
ROWS = np.diff(np.r_[0, np.flatnonzero(np.diff(MASK.ravel().astype(int))) + 1, MASK.size]).tolist()
BOX = [[20, 10], [50, 10], [50, 30], [20, 30]]
IMAGE = {"id": 7, "width": W, "height": H, "file_name": "a.jpg"}


def png_text(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def labelme(*shapes, **more):
    return {"version": "5.4.1", "imagePath": "a.jpg", "imageHeight": H, "imageWidth": W, **more, "shapes": list(shapes)}


OTHERS = {
    "amg.py": [{"segmentation": CODE, "predicted_iou": 0.9, "stability_score": 0.8, "point_coords": [[30.0, 20.0]]}],
    "a list of codes": [CODE],
    "a list of uncompressed codes": [PLAIN],
    "COCO of one image": {"images": [IMAGE], "annotations": [{"image_id": 7, "iscrowd": 1, "segmentation": PLAIN}]},
    "COCO polygons": {"images": [IMAGE], "annotations": [{"image_id": 7, "segmentation": [sum(BOX, [])]}]},
    "COCO polygon in parts": {
        "images": [{**IMAGE, "file_name": "data/train/a.jpg"}],
        "annotations": [
            {"image_id": 7, "segmentation": [[20, 10, 40, 10, 40, 30, 20, 30], [35, 10, 50, 10, 50, 30, 35, 30]]}
        ],
    },
    "SA-1B with polygons": {"image": IMAGE, "annotations": [{"segmentation": [sum(BOX, [])]}]},
    "labelme polygon": labelme({"label": "x", "points": BOX, "shape_type": "polygon"}),
    "labelme polygon, as old versions wrote it": labelme({"label": "x", "points": BOX}),
    "labelme rectangle": labelme({"label": "x", "points": [BOX[2], BOX[0]], "shape_type": "rectangle"}),
    "labelme mask": labelme(
        {"label": "x", "points": [[20, 10], [49, 29]], "shape_type": "mask", "mask": png_text(MASK[10:30, 20:50])}
    ),
    "labelme group of two": labelme(
        {"label": "x", "points": [[20, 10], [35, 30]], "shape_type": "rectangle", "group_id": 1},
        {"label": "x", "points": [[35, 10], [50, 30]], "shape_type": "rectangle", "group_id": 1},
    ),
    "labelme on Windows": labelme({"label": "x", "points": BOX}, imagePath="..\\\\images\\\\a.jpg"),
    "labelme without a size": labelme({"label": "x", "points": BOX}, imageHeight=None, imageWidth=None),
    "transformers, codes": {"rle_mask": [PLAIN], "scores": [0.9]},
    "transformers, arrays": {"masks": [MASK.tolist()], "scores": [[0.9]]},
    "transformers, arrays of 0 and 1": {"masks": MASK.astype(int)[None].tolist()},
    "codes as Python prints bytes": [{"segmentation": {**CODE, "counts": str(CODE["counts"].encode())}}],
    "codes without a size": {"image": IMAGE, "annotations": [{"segmentation": {"counts": RUNS}}]},
    "scores of null": [{"segmentation": CODE, "predicted_iou": None, "stability_score": None}],
    "arrays in annotations": [{"segmentation": MASK.astype(int).tolist(), "area": 600}],
    "uncompressed codes with a box": [{"segmentation": PLAIN, "bbox": [20, 10, 30, 20]}],
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_files_of_other_tools(tmp_path, kind, suffix):
    data = json.dumps(OTHERS[kind]).encode()
    (tmp_path / f"a{suffix}").write_bytes(data if suffix == ".json" else gzip.compress(data))
    masks = read_masks(tmp_path, "a", (H, W))
    assert len(masks) == 1 and np.array_equal(masks.dense(0), MASK)
    scored = kind in ("amg.py", "transformers, codes", "transformers, arrays")
    assert masks.predicted_iou.tolist() == [0.9] if scored else np.isnan(masks.predicted_iou).all()


def test_what_amg_writes_for_an_image_without_masks(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    assert read_masks(tmp_path, "a", (H, W)).shape == (H, W) and len(read_masks(tmp_path, "a", (H, W))) == 0


REFUSED = {
    "COCO of a data set": (
        {"images": [IMAGE, {**IMAGE, "id": 8}], "annotations": []},
        "for 2 images.*one file per image",
    ),
    "COCO of another image": ({"images": [{**IMAGE, "file_name": "b.jpg"}], "annotations": []}, "not of 'a'"),
    "COCO annotation of another image": (
        {"images": [IMAGE], "annotations": [{"image_id": 8}]},
        "annotations of image 8",
    ),
    "COCO boxes": ({"images": [IMAGE], "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}, "COCO's format"),
    "labelme of another image": (labelme({"points": BOX}, imagePath="b.jpg"), "not of 'a'"),
    "labelme line": (labelme({"points": BOX[:2], "shape_type": "line"}), "kind 'line', which has no area; delete"),
    "labelme polygon of two points": (labelme({"points": BOX[:2]}), "a polygon of 2 points"),
    "logits": ({"masks": [[[-3.0, 2.5]]]}, "logits or probabilities"),
    "numbers of objects": ({"masks": [[[0, 1, 2]]]}, "numbers of several objects"),
    "scores of others": ({"rle_mask": [PLAIN], "scores": [0.9, 0.8]}, "2 scores of 1 masks"),
    "another size": (labelme({"points": BOX}, imageHeight=20), "64x20 pixels, but the label is 64x48"),
    "sides swapped": (labelme({"points": BOX}, imageHeight=W, imageWidth=H), "EXIF rotation.*make both from the same"),
    "a polygon of NaN": (
        {"image": IMAGE, "annotations": [{"segmentation": [[0, 0, 9, float("nan"), 4, 4]]}]},
        "not finite",
    ),
    "shares of the size, as YOLO has them": (
        {"image": IMAGE, "annotations": [{"segmentation": [[0.31, 0.2, 0.78, 0.2, 0.78, 0.62]]}]},
        "YOLO.*or masks of one pixel; give them in pixels",
    ),
    "codes along rows": (
        [{"segmentation": {**PLAIN, "counts": ROWS}, "bbox": [20, 10, 30, 20]}],
        "only when they are read along the rows",
    ),
    "an array of another shape": (
        [{"segmentation": CODE}, {"segmentation": [[0, 1], [1, 1], [0, 0]]}],
        r"formats that are read",
    ),
    "unknown": ({"regions": {}}, "formats that are read: SA-1B, amg.py"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, kind):
    content, message = REFUSED[kind]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as error:
        read_masks(tmp_path, "a", (H, W))
    assert "a.json" in str(error.value) and "TypeError" not in str(error.value)


def test_polygons_have_the_area_of_their_shape_and_agree_with_coco():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = rng.integers(5, 12)
        angles = (np.arange(count) + rng.uniform(0, 0.8, count)) * 2 * np.pi / count
        points = [200, 150] + rng.uniform(60, 140, (len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        starts, ends = polygon_runs(points, 300, 400)
        flat = np.zeros(300 * 400, bool)
        for start, end in zip(starts, ends):
            flat[start:end] = True
        x, y = points.T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        assert abs(flat.sum() - area) < 0.02 * area + 60
        theirs = coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], 300, 400))).astype(bool)
        ours = flat.reshape(300, 400, order="F")
        assert (ours ^ theirs).sum() < 0.03 * theirs.sum() + 60


def test_polygons_are_cut_at_the_border_of_the_image():
    starts, ends = polygon_runs(np.array([[-1e12, -5], [1e12, -5], [1e12, 3], [-1e12, 3.0]]), 10, 8)
    assert (ends - starts).tolist() == [3] * 8
    assert len(polygon_runs(np.array([[20.0, 20], [30, 20], [30, 30]]), 10, 8)[0]) == 0


STACKS = {
    "KxHxW bool": MASK[None],
    "HxW": MASK,
    "KxHxW of 0 and 1": MASK[None].astype(np.uint8),
    "of 0 and 255": MASK[None] * np.uint8(255),
    "of 0.0 and 1.0": MASK[None].astype(np.float32),
    "Kx1xHxW": MASK[None, None],
    "HxWxK": MASK[..., None],
}


@pytest.mark.parametrize("kind", STACKS)
def test_arrays(tmp_path, kind):
    np.save(tmp_path / "a.npy", STACKS[kind])
    assert np.array_equal(read_masks(tmp_path, "a", (H, W)).dense(0), MASK)


def test_arrays_with_scores(tmp_path):
    import torch

    two = np.stack([MASK, ~MASK])
    np.save(tmp_path / "a.npy", {"masks": [*two], "scores": torch.tensor([0.5, 0.25])})
    np.savez_compressed(tmp_path / "b.npz", masks=two, scores=np.float32([0.5, 0.25]))
    np.savez(tmp_path / "c.npz", two)
    np.savez(tmp_path / "d.npz", masks=two, iou_preds=np.float32([0.5, 0.25]), stability_score=np.float32([0.75, 1]))
    assert read_masks(tmp_path, "d", (H, W)).stability_score.tolist() == [0.75, 1]
    assert len(read_masks(tmp_path, "c", (H, W))) == 2
    for name in "abd":
        masks = read_masks(tmp_path, name, (H, W))
        assert np.array_equal([masks.dense(0), masks.dense(1)], two) and masks.predicted_iou.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("suffix", [".npy", ".pkl"])
def test_what_the_generator_of_segment_anything_gives(tmp_path, suffix):
    masks = [
        {"segmentation": each, "area": int(each.sum()), "predicted_iou": 0.5, "point_coords": [[1.0, 2.0]]}
        for each in (MASK, ~MASK)
    ]
    if suffix == ".npy":
        np.save(tmp_path / "a.npy", masks)
    else:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(masks))
    found = read_masks(tmp_path, "a", (H, W))
    assert found.areas.tolist() == [600, H * W - 600] and found.predicted_iou.tolist() == [0.5, 0.5]
    assert np.array_equal(found.dense(0), MASK)


def test_a_name_in_capitals_is_found_and_another_format_is_named(tmp_path):
    (tmp_path / "a.JSON").write_text(json.dumps([CODE]))
    (tmp_path / "b.png").touch()
    assert len(read_masks(tmp_path, "a")) == 1
    with pytest.raises(
        InputError, match="no masks for b .*; b.png is not read here.*the folder b/ with one file per mask"
    ):
        read_masks(tmp_path, "b")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 1, 2]]), "numbers of several objects"),
        (np.array([[0.1, 0.7]]), "logits or probabilities"),
        (np.array([[np.nan, 1]]), "save masks of 0 and 1"),
        (np.zeros((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\); expected masks of shape KxHxW"),
        (np.array([["a"]]), "<U1"),
    ],
)
def test_arrays_that_are_not_masks(tmp_path, values, message):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(InputError, match=f"a.npy: .*{message}"):
        read_masks(tmp_path, "a")
