"""Points and boxes for SAM from the files that people have."""

import json

import pytest

from models.sam.prompt_files import check_size, read_prompts
from models.sam.prompts import Prompt
from util.data.voc import class_table
from util.runtime.errors import InputError

CLASSES = class_table(("background", "cat", "dog"))


def test_points_and_boxes_of_a_file(tmp_path):
    rows = [
        {"point": [3, 4], "category": "dog", "object": 1},
        {"point": [5, 6], "label": 0, "object": 1},
        {"point": [7, 8]},
    ]
    (tmp_path / "points.json").write_text(json.dumps({"a": rows, "b": []}))
    found = read_prompts(tmp_path / "points.json", "points", CLASSES)
    first, second = found["a"]
    assert first.category == "dog" and first.points.tolist() == [[3, 4], [5, 6]] and first.labels.tolist() == [1, 0]
    assert second.category is None and second.points.tolist() == [[7, 8]] and found["b"] == []
    (tmp_path / "boxes.json").write_text(json.dumps({"a": [{"box": [1, 2, 3, 4], "category": "cat"}]}))
    assert read_prompts(tmp_path / "boxes.json", "boxes", CLASSES)["a"][0].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "should hold a list of prompts for each image id"),
        ({"a": {"point": [1, 2]}}, "should hold a list of prompts"),
        ({"a": [{"point": [1]}]}, "a, prompt 1: found .* write it as in"),
        ({"a": [{"point": [1, "x"]}]}, "a, prompt 1"),
        ({"a": [{"point": [1, 2], "category": "horse"}]}, "class 'horse' is unknown; the classes are cat, dog"),
        ({"a": [{"point": [1, 2], "label": 7}]}, "label 7; write 1 for a point on the object"),
        ({"images": [], "annotations": []}, "COCO's files have boxes, not points"),
        ({"shapes": [{"label": "dog"}]}, "not in labelme's format"),
    ],
)
def test_malformed_files_are_named(tmp_path, content, message):
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "p.json", "points", CLASSES)


# --- other formats ------------------------------------------------------------------------------------------------

COCO = {
    "images": [{"id": 7, "file_name": "val/a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "categories": [{"id": 18, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 5]},
        {"image_id": 7, "category_id": 18, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}
LABELME = {
    "imagePath": "a.jpg",
    "shapes": [
        {"label": "dog", "shape_type": "rectangle", "points": [[40, 25], [10, 20]], "group_id": None},
        {"label": "cat", "shape_type": "point", "points": [[3, 4]], "group_id": 1},
        {"label": "cat", "shape_type": "point", "points": [[5, 6]], "group_id": 1},
    ],
}
VOC = """<annotation><filename>a.jpg</filename><object><name>dog</name>
<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>41</xmax><ymax>26</ymax></bndbox></object></annotation>"""
FILES = {
    "boxes.json": json.dumps({"a": [{"box": [10, 20, 40, 25], "category": "dog"}]}),
    "boxes.csv": "image,xmin,ymin,xmax,ymax,class\na.jpg,10,20,40,25,dog\n",
    "excel.csv": "\ufeffsep=;\nimage;xmin;ymin;xmax;ymax;class\na.jpg;10,0;20;40;25;dog\n",
    "coco.json": json.dumps(COCO),
    "a.json": json.dumps(LABELME),
    "a.xml": VOC,
}


@pytest.mark.parametrize(
    "name, as_folder", [*((name, False) for name in FILES), ("boxes.json", True), ("a.json", True), ("a.xml", True)]
)
def test_boxes_of_every_format(tmp_path, name, as_folder):
    (tmp_path / name).write_text(FILES[name])
    found = read_prompts(tmp_path if as_folder else tmp_path / name, "boxes", CLASSES)
    assert [(p.category, p.box, p.kind) for p in found["a"]] == [("dog", (10, 20, 40, 25), "boxes")]
    assert found.get("b", []) == []


def test_points_of_labelme_and_a_table(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(LABELME))
    (tmp_path / "points.csv").write_text("id,x,y,label,object,category\na,3,4,1,p,cat\na,5,6,0,p,cat\na,7,8,,,\n\n")
    (one,) = read_prompts(tmp_path / "a.json", "points", CLASSES)["a"]
    assert one.category == "cat" and one.points.tolist() == [[3, 4], [5, 6]] and one.labels.tolist() == [1, 1]
    first, second = read_prompts(tmp_path / "points.csv", "points", CLASSES)["a"]
    assert first.labels.tolist() == [1, 0] and second.category is None and second.points.tolist() == [[7, 8]]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("b.csv", "id,x,y\na,1,2\n", "its first line should name the columns id, x0, y0, x1, y1"),
        ("b.csv", "id,x0,y0,x1,y1\na,1,2,3\n", "line 2: a,1,2,3 .*write id,x0,y0,x1,y1"),
        ("b.csv", "id,x0,y0,x1,y1\n,1,2,3,4\n", "id"),
        ("b.json", json.dumps({"a": [{"box": [100, 80, 40, 30]}]}), "corners x0, y0, x1, y1, not x, y, width, height"),
        ("b.json", json.dumps({**COCO, "categories": []}), "not in COCO's format .KeyError"),
        ("b.json", json.dumps({**COCO, "categories": [{"id": 18, "name": "truck"}]}), "class 'truck' is unknown"),
        ("b.xml", VOC.replace("<xmin>11</xmin>", ""), "bndbox has .*write numbers"),
        ("b.json", json.dumps({"x/a.jpg": [], "y/a.jpg": []}), "two images with the id 'a'"),
        ("b.csv", "id,x0,y0,x1,y1\nx/a.jpg,1,2,3,4\ny/a.jpg,1,2,3,4\n", "line 3: .*two images with the id 'a'"),
        (
            "b.json",
            json.dumps({**COCO, "images": [{"id": 1, "file_name": f} for f in ("x/a.jpg", "y/a.jpg")]}),
            "two images",
        ),
    ],
)
def test_wrong_boxes_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / name, "boxes", CLASSES)


def test_two_files_of_one_image_are_named(tmp_path):
    for name in ("a.json", "a.xml"):
        (tmp_path / name).write_text(FILES[name])
    with pytest.raises(InputError, match="a.xml: prompts of a are in another file of the folder as well"):
        read_prompts(tmp_path, "boxes", CLASSES)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no .json and no .xml file"):
        read_prompts(tmp_path, "boxes", CLASSES)


def test_prompts_outside_of_the_image_are_named():
    check_size(Prompt(box=(0, 0, 80, 60)), (60, 80))
    with pytest.raises(
        InputError, match="a box with a corner at 90, 20 is outside of the image of 80x60 pixels.*width"
    ):
        check_size(Prompt(box=(10, 10, 90, 20)), (60, 80))
