"""prepare_coco.py on miniature archives of COCO 2014's structure; overlaps and crowds by hand, the rest by pycocotools."""

import hashlib
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import call_script
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import prepare_coco
from util.data import coco, coco_archives, coco_layout
from util.data.class_files import is_background
from util.data.coco_archives import ANNOTATIONS, TRAIN, VAL
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.labels import read_label
from util.data.voc import load_classes
from util.runtime.errors import InputError

# Ids with gaps, as COCO's have.
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
SIZE = (40, 60)


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def crowd(mask):
    counts = np.diff(np.flatnonzero(np.diff(np.r_[-1, mask.ravel(order="F"), -1])))
    counts = counts.tolist() if not mask[0, 0] else [0, *counts.tolist()]
    return {"size": list(mask.shape), "counts": counts}


def annotation(number, image, category, segmentation, area, iscrowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "area": area,
        "iscrowd": iscrowd,
        "bbox": [0, 0, 1, 1],
    }


def random_annotations(generator, image, first):
    result = []
    for number in range(first, first + 8):
        points = generator.uniform(0, [SIZE[1], SIZE[0]], (generator.integers(3, 8), 2)).round(2)
        result.append(
            annotation(
                number,
                image,
                int(generator.choice([1, 18, 90])),
                [points.ravel().tolist()],
                float(generator.uniform(1, 900)),
            )
        )
    mask = generator.random(SIZE) < 0.3
    return [*result, annotation(first + 8, image, 1, crowd(mask), float(mask.sum()), 1)]


def instances(split):
    generator = np.random.default_rng(len(split))
    numbers = {"train": [9, 25, 30], "val": [42, 73]}[split]
    images = [
        {"id": n, "file_name": f"COCO_{split}2014_{n:012}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in numbers
    ]
    annotations = [a for k, n in enumerate(numbers) if n != 30 for a in random_annotations(generator, n, 100 * k)]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def write_zip(path, files):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.fixture
def archives(tmp_path):
    folder, texts = tmp_path / "downloads", {"annotations/captions_train2014.json": "{}"}
    for split in ("train", "val"):
        content, files = instances(split), {f"{split}2014/": ""}
        for image in content["images"]:
            buffer = io.BytesIO()
            Image.new("RGB", SIZE[::-1], (image["id"], 9, 9)).save(buffer, "JPEG")
            files[f"{split}2014/{image['file_name']}"] = buffer.getvalue()
        write_zip(folder / f"{split}2014.zip", files)
        texts[f"annotations/instances_{split}2014.json"] = json.dumps(content)
    write_zip(folder / "annotations_trainval2014.zip", texts)
    return folder


@pytest.fixture
def prepare(archives, tmp_path, monkeypatch, capsys):
    def call(*more, source=archives, out="COCO"):
        options = ["--archives", source, "--out", tmp_path / out, "--workers", 1, *more]
        return call_script(prepare_coco, monkeypatch, capsys, *options)

    return call


def reference(content, image_number, tmp_path):
    """Plain pycocotools: smaller areas on top, crowds void below them; ids in the order of COCO's."""
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(content))
    api = COCO(path)
    order = sorted(api.getCatIds())
    label = np.zeros(SIZE, np.uint8)
    annotations = api.loadAnns(api.getAnnIds(imgIds=image_number))
    for entry in annotations:
        if entry["iscrowd"]:
            label[api.annToMask(entry) > 0] = 255
    for entry in sorted((a for a in annotations if not a["iscrowd"]), key=lambda a: -a["area"]):
        label[api.annToMask(entry) > 0] = 1 + order.index(entry["category_id"])
    return label


def test_label_maps_are_those_of_pycocotools(prepare, tmp_path):
    done = prepare("--partial")
    assert done.returncode == 0, done.stderr
    out, lists = tmp_path / "COCO", tmp_path / "COCO/ImageSets/Segmentation"
    for split in ("train", "val"):
        content = instances(split)
        names = [image["file_name"][:-4] for image in content["images"]]
        assert read_id_list(lists / f"{split}.txt") == names
        for image, name in zip(content["images"], names, strict=True):
            label = read_label(out / "SegmentationClassAug" / f"{name}.png")
            assert (label == reference(content, image["id"], tmp_path)).all()
            assert np.asarray(Image.open(out / "JPEGImages" / f"{name}.jpg"))[0, 0, 0] == pytest.approx(
                image["id"], abs=3
            )
    classes = load_classes(out / "class_names.txt")
    assert classes.names == ("background", "person", "dog", "toothbrush") and is_background(classes.names[0])
    tags = read_image_labels(out / "cls_labels.npy", classes)
    assert tags["COCO_train2014_000000000030"] == () and tags["COCO_train2014_000000000009"] == (1, 2, 3)
    assert read_id_list(lists / "trainaug.txt") == ["COCO_train2014_000000000009", "COCO_train2014_000000000025"]
    assert json.loads((out / "check.json").read_text())["counts"]["trainaug"] == 2


def test_overlap_and_crowd_by_hand():
    parts = (
        annotation(1, 1, 1, box(0, 0, 6, 4), 24.0),
        annotation(2, 1, 18, box(2, 1, 4, 3), 4.0),  # smaller: on top, wherever it is in the file
        annotation(3, 1, 90, box(3, 0, 8, 2), 10.0),
        annotation(4, 1, 1, crowd(np.add.outer(np.arange(4), np.zeros(9)) >= 2), 18.0, 1),
    )
    expected = [
        [1, 1, 1, 3, 3, 3, 3, 3, 0],
        [1, 1, 2, 2, 3, 3, 3, 3, 0],
        [1, 1, 2, 2, 1, 1, 255, 255, 255],
        [1, 1, 1, 1, 1, 1, 255, 255, 255],
    ]
    for order in (parts, parts[::-1]):
        image = coco.CocoImage("x", 4, 9, order)
        assert coco.label_of(image, {1: 1, 18: 2, 90: 3}).tolist() == expected
        assert coco.tags_of(image, {1: 1, 18: 2, 90: 3}) == (1, 2, 3)
    code = coco_mask.encode(np.asfortranarray(np.eye(4, 9, dtype=np.uint8)))
    packed = annotation(5, 1, 1, {"size": [4, 9], "counts": code["counts"].decode()}, 4.0)
    assert (coco.label_of(coco.CocoImage("x", 4, 9, (packed,)), {1: 1}) == np.eye(4, 9)).all()


def test_published_counts_are_demanded_and_runs_resumed(prepare, tmp_path):
    done = prepare()
    assert done.returncode == 1 and "the published data has 82,783" in done.stdout and "--partial" in done.stderr
    label = tmp_path / "COCO/SegmentationClassAug/COCO_val2014_000000000042.png"
    before, content = label.stat().st_mtime_ns, label.read_bytes()
    other = label.with_name("COCO_val2014_000000000073.png")
    other.write_bytes(b"damaged")
    assert prepare("--partial").returncode == 0
    assert label.stat().st_mtime_ns == before and label.read_bytes() == content and read_label(other).shape == SIZE
    assert (coco_layout.COUNTS["train"], coco_layout.COUNTS["val"], coco_layout.COUNTS["classes"]) == (
        82_783,
        40_504,
        81,
    )


def test_unpacked_folders_are_used_as_well(prepare, archives, tmp_path):
    for file in archives.glob("*.zip"):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(tmp_path / "unpacked")
    assert prepare("--partial").returncode == 0
    assert prepare("--partial", source=tmp_path / "unpacked", out="second").returncode == 0
    for name in ("SegmentationClassAug/COCO_val2014_000000000042.png", "cls_labels.npy", "class_names.txt"):
        assert (tmp_path / "COCO" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.slow
def test_downloads_what_is_missing_and_refuses_other_files(prepare, archives, tmp_path, monkeypatch):
    def own(wrong):
        """The archives with the sums of the miniatures, one of them wrong."""
        for archive in (ANNOTATIONS, VAL, TRAIN):
            md5 = hashlib.md5((archives / archive.file).read_bytes()).hexdigest()
            yield replace(archive, md5="0" * 32 if archive is wrong else md5, folders=(archives.as_uri(),))

    for wrong in (VAL, None):
        for name, archive in zip(("ANNOTATIONS", "VAL", "TRAIN"), stand_ins := tuple(own(wrong)), strict=True):
            for module in (coco_archives, coco_layout):
                monkeypatch.setattr(module, name, archive)
        monkeypatch.setattr(coco_layout, "ARCHIVES", stand_ins)
        done = prepare("--partial", "--download", "--mirror", (tmp_path / "empty").as_uri(), source=tmp_path / "fresh")
        assert done.returncode == (2 if wrong else 0), done.stderr
        assert (tmp_path / "fresh/val2014.zip").exists() is (wrong is None)
    assert sorted(path.name for path in (tmp_path / "fresh").glob("*.zip")) == sorted(a.file for a in stand_ins)


def test_bad_input_is_named_and_the_rest_goes_on(prepare, archives, tmp_path):
    done = prepare(source=tmp_path / "nowhere")
    assert done.returncode == 2 and "3 archives missing" in done.stderr and "13,510,573,713 bytes" in done.stderr
    content = instances("val")
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    content["images"].append({"id": 99, "file_name": "COCO_val2014_missing.jpg", "height": 40, "width": 60})
    texts = {
        f"annotations/instances_{s}2014.json": json.dumps(c)
        for s, c in (("train", instances("train")), ("val", content))
    }
    write_zip(archives / "annotations_trainval2014.zip", texts)
    done = prepare("--partial")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "COCO_val2014_000000000042: an annotation is damaged" in done.stderr and "COCO_val2014_missing" in done.stderr
    )
    assert (tmp_path / "COCO/SegmentationClassAug/COCO_val2014_000000000073.png").is_file()
    for text, message in (("{", "not valid JSON"), ("[]", "not as COCO's"), ('{"images": []}', "categories")):
        write_zip(archives / "annotations_trainval2014.zip", {"annotations/instances_train2014.json": text})
        assert message in prepare("--partial").stderr
    write_zip(archives / "annotations_trainval2014.zip", {})
    assert "instances_train2014.json is not in it" in prepare("--partial").stderr
    (archives / "annotations_trainval2014.zip").write_bytes(b"PK cut short")
    done = prepare("--partial")
    assert done.returncode == 2 and "damaged" in done.stderr and "252,872,794" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"segmentation": {"size": [4, 8], "counts": [32]}},
        {"segmentation": {"size": [4, 9], "counts": [1, 2]}},
        {"segmentation": {"size": [4, 9], "counts": "#"}},
        {"segmentation": [[1e9, 0, 1, 1, 2, 2]]},
        {"segmentation": [["a", 0, 1, 1, 2, 2]]},
        {"segmentation": None},
        {"area": "large"},
        {"category_id": 7},
    ],
)
def test_damaged_annotations_are_input_errors(wrong):
    image = coco.CocoImage("x", 4, 9, ({**annotation(1, 1, 1, box(0, 0, 6, 4), 24.0), **wrong},))
    with pytest.raises(InputError):
        coco.label_of(image, {1: 1})
