import gzip
import json

import numpy as np
import pytest
from helpers import random_label, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco

from util.data.mask_files import read_masks, repack, write_masks
from util.data.masks import Masks
from util.runtime.errors import InputError

dense_masks = hnp.arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)))


@settings(max_examples=200, deadline=None)
@given(dense=dense_masks, seed=st.integers(0, 99))
def test_agrees_with_dense_arithmetic_and_with_coco(dense, seed):
    rng = np.random.default_rng(seed)
    masks = Masks.from_dense(dense)
    label = rng.integers(0, 3, dense.shape[1:]).astype(np.uint8)
    weights = rng.random(len(dense))
    assert len(masks) == len(dense)
    assert [masks.dense(k).tolist() for k in range(len(masks))] == dense.tolist()
    assert masks.areas.tolist() == dense.sum(axis=(1, 2)).tolist()
    assert masks.overlaps(label, [0, 2]).tolist() == [[(m & (label == c)).sum() for c in (0, 2)] for m in dense]
    assert np.allclose(masks.sums(label * 0.5), (dense * (label * 0.5)).sum(axis=(1, 2)))
    assert np.array_equal(masks.union(), dense.any(axis=0))
    assert np.array_equal(masks.union(np.arange(len(dense)) % 2 == 0), dense[::2].any(axis=0))
    assert np.allclose(masks.votes(weights), np.tensordot(weights, dense, 1))
    flat = dense.reshape(len(dense), dense.shape[1] * dense.shape[2]).astype(int)
    assert np.array_equal(masks.intersections, flat @ flat.T)
    atoms = masks.atoms
    assert np.array_equal(atoms.membership[atoms.index], np.moveaxis(dense, 0, -1))
    assert len(np.unique(atoms.membership, axis=0)) == len(atoms)
    codes = [coco.encode(np.asfortranarray(m, np.uint8)) for m in dense]
    assert masks.counts() == [code["counts"].decode() for code in codes]
    assert masks.boxes.tolist() == [coco.toBbox(code).astype(int).tolist() for code in codes]
    again = Masks.from_counts(dense.shape[1:], masks.counts())
    assert again.starts.tolist() == masks.starts.tolist() and again.offsets.tolist() == masks.offsets.tolist()
    order = rng.permutation(len(dense))
    assert np.array_equal(masks.select(order).areas, masks.areas[order])


def test_uncompressed_and_mixed_codes():
    masks = Masks.from_counts((2, 3), [[0, 6], [2, 2, 2], Masks.from_dense(np.eye(2, 3, dtype=bool)[None]).counts()[0]])
    assert masks.areas.tolist() == [6, 2, 2]


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
        (sa1b(counts=[8, -2]), "no list of run lengths"),
        (sa1b(counts="zz"), "cut short"),
        (sa1b(counts="\u00e9"), "characters"),
        (sa1b(counts=[[2], 2]), "no list"),
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


def test_overlaps_refuse_another_shape():
    with pytest.raises(ValueError, match="shape"):
        random_masks(np.random.default_rng(0)).overlaps(random_label(np.random.default_rng(0))[:-1], [1])
