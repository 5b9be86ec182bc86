"""Masks, CAMs, lists and label maps as other tools write them: read as they were meant, or refused with what they may be."""

import json
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from util.data.cams import read_cam
from util.data.classes import load_classes
from util.data.ids import is_plain, read_id_list
from util.data.image_labels import read_image_labels
from util.data.images import list_image_ids, read_image
from util.data.labels import read_label
from util.data.mask_files import read_masks
from util.evaluation.evaluate import evaluate_labels
from util.evaluation.label_check import check_cams_fit, check_foreground
from util.runtime.errors import InputError

H, W = 48, 64
MASK = np.zeros((H, W), np.uint8)
MASK[10:30, 20:50] = 1
OTHER = np.zeros((H, W), np.uint8)
OTHER[35:45, 5:17] = 1
TALL = np.zeros((H, W), np.uint8)
TALL[:, 30:40] = 1
STACK = np.stack([MASK, OTHER]).astype(bool)
CLASSES = load_classes(num_classes=21)


def rle(mask):
    code = coco.encode(np.asfortranarray(mask))
    return {"size": code["size"], "counts": code["counts"].decode()}


# --- masks --------------------------------------------------------------------------------------------------------

# An occluded object: two outlines with unequal numbers of points.
PARTS = [[20, 10, 50, 10, 50, 30, 20, 30], [5, 35, 17, 35, 17, 45, 11, 45, 5, 45]]
JSON = {
    "COCO, an object in two parts": (
        {
            "images": [{"id": 1, "width": W, "height": H, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 1, "segmentation": PARTS}],
        },
        [MASK | OTHER],
    ),
    "a bare list of polygons": ([{"segmentation": [part]} for part in PARTS], [MASK, OTHER]),
    "Grounded SAM 2": (
        {
            "image_path": "a.jpg",
            "annotations": [{"class_name": "cat", "segmentation": rle(MASK), "score": [0.9]}],
            "img_width": W,
            "img_height": H,
        },
        [MASK],
    ),
    "a list under masks": ({"masks": [{"segmentation": rle(mask), "score": None} for mask in (MASK, OTHER)]}, STACK),
}


@pytest.mark.parametrize("kind", JSON)
def test_masks_in_json(tmp_path, kind):
    content, expected = JSON[kind]
    (tmp_path / "a.json").write_text(json.dumps(content))
    masks = read_masks(tmp_path, "a", (H, W))
    assert [masks.dense(k).tolist() for k in range(len(masks))] == [mask.astype(bool).tolist() for mask in expected]


@pytest.mark.parametrize("kind", ["savez", "list", "tuple", "1xKxHxW"])
def test_masks_in_arrays(tmp_path, kind):
    if kind == "savez":
        np.savez(tmp_path / "a.npz", *STACK)
    elif kind == "1xKxHxW":
        np.save(tmp_path / "a.npy", STACK[None])
    else:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"list": list, "tuple": tuple}[kind](STACK)))
    masks = read_masks(tmp_path, "a", (H, W))
    assert np.array_equal([masks.dense(k) for k in range(2)], STACK)


def annotation(**changes):
    return [{"segmentation": rle(MASK), "bbox": [20, 10, 30, 20], "predicted_iou": 0.9, **changes}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (annotation(predicted_iou=97.0), "scores up to 97.* from 0 to 1; divide"),
        (annotation(bbox=[0, 38, 8, 8]), "masks and bbox do not fit"),
        ([{"segmentation": rle(TALL), "bbox": [0, 30, 48, 10]}], "fit only with x and y swapped"),
        ([{"segmentation": rle(TALL), "bbox": [0, 30, 48, 40]}], "fit only with x and y swapped"),  # two corners
        ([{**annotation()[0], "image_id": 1}, {**annotation()[0], "image_id": 2}], "of 2 images.*one file per image"),
        ([{**annotation()[0], "image_id": "b"}], "not of 'a'"),
    ],
)
def test_masks_that_mean_something_else(tmp_path, content, said):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        read_masks(tmp_path, "a", (H, W))


def test_boxes_of_either_form_fit(tmp_path):
    for box in ([20, 10, 30, 20], [20, 10, 50, 30], [19.5, 9.5, 31, 21], [18, 9, 34, 24], None):
        (tmp_path / "a.json").write_text(json.dumps(annotation(bbox=box)))
        assert len(read_masks(tmp_path, "a", (H, W))) == 1


def test_masks_of_unequal_size_are_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((MASK, MASK[::2])))
    with pytest.raises(InputError, match="differ in shape"):
        read_masks(tmp_path, "a", (H, W))


def test_a_file_and_a_folder_of_one_image_are_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(annotation()))
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"both a\.json and the folder a are there"):
        read_masks(tmp_path, "a", (H, W))


SEVERAL = {
    "two colours of one brightness": MASK[..., None] * np.uint8([128, 0, 0]) + OTHER[..., None] * np.uint8([0, 128, 0]),
    "two levels": MASK * np.uint8(255) + OTHER * np.uint8(127),
    "levels near the top": MASK * np.uint8(255) + OTHER * np.uint8(254),
    "1 inside of a border of 255": cv2.dilate(MASK, np.ones((3, 3))) * np.uint8(255) - MASK * np.uint8(254),
    "16 bits in three channels": np.repeat(MASK[..., None], 3, axis=2).astype(np.uint16),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_images_of_several_objects_are_not_one_mask(tmp_path, kind):
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/0.png"), SEVERAL[kind])
    with pytest.raises(InputError, match=r"0\.png: .*save"):
        read_masks(tmp_path, "a", (H, W))


def test_a_mask_with_soft_borders_is_one(tmp_path):
    (tmp_path / "a").mkdir()
    large = cv2.resize(255 * MASK, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    cv2.imwrite(str(tmp_path / "a/0.png"), large)
    assert abs(int(read_masks(tmp_path, "a").areas[0]) - 9 * int(MASK.sum())) < 200


def test_pages_are_not_one_mask(tmp_path):
    (tmp_path / "a").mkdir()
    pages = [Image.fromarray(255 * mask) for mask in (MASK, OTHER)]
    pages[0].save(tmp_path / "a/0.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="2 images in one file"):
        read_masks(tmp_path, "a", (H, W))


def test_the_table_of_amg_and_its_images_fit(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("000", "001"):
        Image.fromarray(255 * MASK).save(tmp_path / "a" / f"{name}.png")
    table = tmp_path / "a/metadata.csv"
    table.write_text("\ufeffid,predicted_iou,stability_score\n0,0.9,0.8\n1,0.7,0.6\n", encoding="utf-8")
    assert read_masks(tmp_path, "a", (H, W)).predicted_iou.tolist() == [0.9, 0.7]
    (tmp_path / "a/001.png").unlink()  # an interrupted copy
    with pytest.raises(InputError, match="names 2 masks, and 1 are here; 1 is in one of them alone"):
        read_masks(tmp_path, "a", (H, W))


# --- soft CAMs ----------------------------------------------------------------------------------------------------

CAM = MASK.astype(np.float32)


@pytest.mark.parametrize("cam", [{"keys": [7, 11], "cam": [CAM, CAM[::2]]}, {7: [[0.1, 0.2], [0.3]]}])
def test_maps_of_unequal_size_are_named(tmp_path, cam):
    np.save(tmp_path / "a.npy", np.array(cam, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_cam(tmp_path, "a")


def test_an_image_without_classes(tmp_path):
    np.save(tmp_path / "a.npy", {"keys": np.zeros(0, int), "cam": np.zeros((0, H, W), np.float32)}, allow_pickle=True)
    assert read_cam(tmp_path, "a") == {}


def test_two_files_of_cams_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", {7: CAM}, allow_pickle=True)
    np.savez(tmp_path / "a.npz", **{"7": CAM})
    with pytest.raises(InputError, match=r"both a\.npy and a\.npz"):
        read_cam(tmp_path, "a")


@pytest.mark.parametrize(
    ("cams", "said"),
    [
        ({"a": [7], "b": [11]}, None),
        ({"a": range(20), "b": range(20)}, None),
        ({"a": [8], "b": [12]}, "counted from 1, the classes of 2 of 2"),
        ({"a": [0, 8], "b": [0, 12]}, "counted from 1, the classes of 2 of 2"),  # a map of the background
        ({"a": [1], "b": [2]}, "none of 2 soft CAMs has a class that its image shows"),
    ],
)
def test_cams_of_other_classes_are_refused(tmp_path, cams, said):
    for image_id, keys in cams.items():
        np.save(tmp_path / f"{image_id}.npy", dict.fromkeys(keys, CAM), allow_pickle=True)
    shown = {"a": {8}, "b": {12}}
    if said is None:
        return check_cams_fit(tmp_path, ["a", "b"], shown.__getitem__, CLASSES)
    with pytest.raises(InputError, match=said):
        check_cams_fit(tmp_path, ["a", "b"], shown.__getitem__, CLASSES)


# --- lists and image-level labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "files", "said"),
    [
        ("2007_000032,2007_000033", [], "2007_000033"),
        ("2007_000032 2007_000033\n2007_000039", [], "2007_000033"),
        ("a.jpg b.jpg", [], "b.jpg"),
        ("cat dog", ["cat.jpg", "dog.jpg"], "dog"),
        ('{"train": ["a"]}', [], "a JSON object"),
    ],
)
def test_lists_that_would_lose_images_are_refused(tmp_path, text, files, said):
    (tmp_path / "images").mkdir()
    for name in files:
        (tmp_path / "images" / name).touch()
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=said):
        read_id_list(tmp_path / "list.txt", tmp_path / "images")


def test_columns_are_not_a_second_image(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("x1.jpg", "x2.jpg", "x1_mask.jpg"):
        (tmp_path / "images" / name).touch()
    for text, ids in (
        (",id\n0,x1\n1,x2\n", ["x1", "x2"]),  # pandas
        ("x1.jpg x1_mask.jpg\nx2.jpg x2_mask.jpg\n", ["x1", "x2"]),
        ("img/x1.jpg seg/x1.png\n", ["x1"]),
    ):
        (tmp_path / "list.txt").write_text(text)
        assert read_id_list(tmp_path / "list.txt", tmp_path / "images") == ids
    assert is_plain("photo 1") and not is_plain("2007_000032 2007_000033")


def test_image_level_labels_by_class(tmp_path):
    (tmp_path / "tags.json").write_text('{"cat": ["a.jpg", "b.jpg"], "dog": ["b.jpg"]}')
    assert read_image_labels(tmp_path / "tags.json", CLASSES) == {"a": (8,), "b": (8, 12)}


@pytest.mark.parametrize("text", ["[]", "[{}]"])
def test_an_empty_table_is_named(tmp_path, text):
    (tmp_path / "tags.json").write_text(text)
    with pytest.raises(InputError, match="no image-level label found"):
        read_image_labels(tmp_path / "tags.json", CLASSES)


# --- label maps ---------------------------------------------------------------------------------------------------


def test_a_label_map_of_16_bits_in_three_channels_is_not_empty(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat(8 * MASK[..., None], 3, axis=2).astype(np.uint16))
    with pytest.raises(InputError, match="16 bits"):
        read_label(tmp_path / "a.png")


def test_label_maps_without_background_are_warned_about(tmp_path, capsys):
    for image_id in "ab":
        Image.fromarray(1 + 7 * MASK).save(tmp_path / f"{image_id}.png")
    check_foreground(tmp_path, ["a", "b"])
    assert "no pixel of 0 in the first 2 label maps" in capsys.readouterr().err
    Image.fromarray(8 * MASK).save(tmp_path / "b.png")
    check_foreground(tmp_path, ["a", "b"])
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("shift", "said"), [(0, ""), (1, "lowered by 1"), (-1, "raised by 1")])
def test_scores_of_another_numbering_are_warned_about(tmp_path, capsys, shift, said):
    for folder, value in (("gt", 0), ("pred", shift)):
        (tmp_path / folder).mkdir()
        for image_id, label in (("a", 3 + 5 * MASK), ("b", 7 + 5 * OTHER)):
            Image.fromarray((label.astype(int) + value).astype(np.uint8)).save(tmp_path / folder / f"{image_id}.png")
    evaluate_labels(tmp_path / "pred", tmp_path / "gt", ["a", "b"], CLASSES, workers=0)
    assert said in (err := capsys.readouterr().err) and bool(said) == ("agree better" in err)


def test_the_numbering_of_the_foreground_is_warned_about_whatever_the_background_is(tmp_path, capsys):
    for folder, value in (("gt", 0), ("pred", 1)):
        (tmp_path / folder).mkdir()
        for image_id, label in (("a", (3 + value) * MASK), ("b", (7 + value) * OTHER)):
            Image.fromarray(label.astype(np.uint8)).save(tmp_path / folder / f"{image_id}.png")
    evaluate_labels(tmp_path / "pred", tmp_path / "gt", ["a", "b"], CLASSES, workers=0)
    assert capsys.readouterr().err.count("the classes above 0 of") == 1


# --- images -------------------------------------------------------------------------------------------------------


def test_colours_of_12_bits_are_not_read_as_black(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 4096, (H, W, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), rgb)
    with pytest.raises(InputError, match="10 to 14 bits"):
        read_image(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), 16 * rgb)
    assert read_image(tmp_path / "b.png").max() > 250


def test_pages_are_not_one_image_but_smaller_versions_are(tmp_path):
    page = Image.fromarray(255 * MASK)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(255 * OTHER)])
    with pytest.raises(InputError, match="2 pages of one size"):
        read_image(tmp_path / "a.tif")
    page.save(tmp_path / "b.tif", save_all=True, append_images=[page.resize((32, 24))])
    assert read_image(tmp_path / "b.tif").shape == (H, W, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty file"),
        (b"%PDF-1.7", "a PDF document"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"II*\0" + bytes(8), "TIFF image of bands"),
    ],
)
def test_what_a_file_is_is_said(tmp_path, data, said):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / "a.jpg")


def test_a_converted_image_stands_for_its_heic(tmp_path):
    for name in ("x.heic", "x.jpg", "y.HEIC"):
        Image.fromarray(255 * MASK).convert("RGB").save(
            tmp_path / name, "HEIF" if "." + name[2:].lower() == ".heic" else "JPEG"
        )
    assert list_image_ids(tmp_path) == ["x", "y"]
