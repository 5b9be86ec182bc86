"""From archives of COCO 2014's structure to a score of 81 classes, with the two commands of docs/coco.md."""

import io
import json
import re

import cv2
import numpy as np
import pytest
from helpers import run_script
from PIL import Image
from pycocotools import mask as coco_mask
from scripts.test_prepare_coco import annotation, crowd, write_zip
from tiny_sams import tiny

from models.segmentation.deeplabv3 import load_checkpoint
from util.data.ids import read_id_list
from util.data.labels import read_label
from util.data.synthetic import image_of
from util.data.voc import load_classes

CATEGORY_IDS = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
# The categories that the six classes of the drawn images stand for; the others occur in no image.
SHOWN = {1: 1, 2: 18, 3: 44, 4: 62, 5: 70, 6: 90}
ENCODER = "--encoder timm-mobilenetv3_small_minimal_100 --encoder-weights none"


def annotations_of(label, image, first, has_crowd):
    """One instance for each outline; a crowd over the image's last rows."""
    found = []
    for value, category in SHOWN.items():
        contours, _ = cv2.findContours((label == value).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for polygon in (contour.ravel().tolist() for contour in contours if len(contour) >= 3):
            area = float(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects([polygon], *label.shape))))
            found.append(annotation(first + len(found), image, category, [polygon], area))
    if has_crowd and found:
        rows = np.zeros(label.shape, bool)
        rows[-4:] = True
        category = found[0]["category_id"]
        found.append(annotation(first + len(found), image, category, crowd(rows), float(rows.sum()), 1))
    return found


def write_archives(folder, counts):
    """train2014.zip, val2014.zip and annotations_trainval2014.zip; the last training image shows nothing."""
    texts = {}
    for split, count in counts.items():
        images, annotations, files = [], [], {f"{split}2014/": ""}
        for number in range(1, count + 1):
            name = f"COCO_{split}2014_{7 * number:012}.jpg"  # COCO's numbers have gaps as well
            pixels, label = image_of(f"{split}_{number}", side=64)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
            files[f"{split}2014/{name}"] = buffer.getvalue()
            images.append({"id": 7 * number, "file_name": name, "height": label.shape[0], "width": label.shape[1]})
            if split != "train" or number < count:
                annotations += annotations_of(label, 7 * number, len(annotations) + 1, number % 3 == 0)
        categories = [{"id": k, "name": f"category {k}", "supercategory": "thing"} for k in CATEGORY_IDS]
        content = {"images": images, "annotations": annotations, "categories": categories}
        texts[f"annotations/instances_{split}2014.json"] = json.dumps(content)
        texts |= {f"annotations/{kind}_{split}2014.json": "{}" for kind in ("captions", "person_keypoints")}
        write_zip(folder / f"{split}2014.zip", files)
    write_zip(folder / "annotations_trainval2014.zip", texts)


@pytest.mark.slow
def test_from_the_archives_to_a_score_of_81_classes(tmp_path):
    coco, out = tmp_path / "COCO2014", tmp_path / "run"
    write_archives(tmp_path / "downloads", {"train": 16, "val": 5})
    for part in tiny("sam"):
        part.save_pretrained(tmp_path / "sam")
    done = run_script("prepare_coco.py", "--archives", tmp_path / "downloads", "--out", coco, "--partial")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"next: python quickstart.py --voc {coco}"
    done = run_script(
        *("quickstart.py", "--voc", coco, "--sam-model", tmp_path / "sam", "--out", out, "--workers", 0),
        *("--with", f"cam={ENCODER} --epochs 20 --lr 0.005 --batch-size 4 --crop-size 64 --long-side 48 64"),
        *("--with", "labels=--sizes 64", "--with", "masks=--points-per-side 2", "--no-baseline"),
        *("--with", f"deeplab={ENCODER} --steps 2 --crop-size 64 --batch-size 2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(load_classes(coco / "class_names.txt")) == 81
    assert len(load_checkpoint(out / "deeplab/enhanced/last.pth").classes) == 81
    # The last column of the confusion counts pixels that are predicted as void.
    metrics = json.loads((out / "scores/enhanced/metrics.json").read_text())
    assert np.shape(metrics["confusion"]) == (81, 82) and metrics["images"] == 5
    printed = re.search(r"^mIoU (\S+)   pixel accuracy", done.stdout, re.M)
    assert printed and float(printed[1]) == round(100 * metrics["miou"], 2)
    assert any(read_label(path).any() for path in (out / "merge/auto").glob("*.png"))
    # The image without a class is scored, but no network sees it.
    nothing, lists = "COCO_train2014_000000000112", coco / "ImageSets/Segmentation"
    assert not read_label(coco / f"SegmentationClassAug/{nothing}.png").any()
    assert nothing in read_id_list(lists / "train.txt") and nothing not in read_id_list(out / "lists/train.txt")
    assert len(list((out / "masks").glob("COCO_*.json"))) == 16
