"""Image-level labels in the shapes that people bring: read rightly, or refused with both readings named."""

import json
import pickle

import numpy as np
import pytest

from util.data.image_labels import read_image_labels, write_image_labels
from util.data.npy import save_npy_dict
from util.data.sources.table import class_names
from util.data.voc import class_table, load_classes
from util.runtime.errors import InputError

VOC = load_classes()
PETS = class_table(["background", "cat", "dog", "horse"])
CAT_DOG = {"img1": (1, 2)}
TWO = {"img1": (1,), "img2": (2, 3)}

READ = {
    "commas": ("img1,cat,dog\n", CAT_DOG),
    "semicolons": ("img1;cat;dog\n", CAT_DOG),
    "tabs": ("img1\tcat\tdog\n", CAT_DOG),
    "Excel's mark": ("sep=;\nid;class\nimg1;cat;dog\n", CAT_DOG),
    "suffix": ("img1.jpg,cat,dog\n", CAT_DOG),
    "folder": ("JPEGImages/img1.jpg,cat,dog\n", CAT_DOG),
    "quoted list": ('img1,"cat,dog"\n', CAT_DOG),
    "quoted list of pandas": ("img1,\"['cat', 'dog']\"\n", CAT_DOG),
    "list within semicolons": ("img1;cat,dog\n", CAT_DOG),
    "list of words": ("image,labels\nimg1,cat dog\n", CAT_DOG),
    "bars": ("img1,cat|dog\n", CAT_DOG),
    "other case": ("img1,Cat,DOG\n", CAT_DOG),
    "numbers": ("img1,1\nimg2,2,3\n", TWO),
    "numbers with the background": ("img1,0,1\nimg2,0,2,3\n", TWO),
    "one line per label": ("img1,cat\nimg1,dog\n", CAT_DOG),
    "one line per label and header": ("filename,label\nimg1.jpg,cat\nimg1.jpg,dog\nimg1.jpg,cat\n", CAT_DOG),
    "the same line twice": ("img1,cat,dog\nimg1,dog,cat\n", CAT_DOG),
    "without classes": ("img1,cat,dog\nimg2\n", {"img1": (1, 2), "img2": ()}),
    "header": ("Image ID,Class\nimg1,cat,dog\n", CAT_DOG),
    "numbered header": ("image_id,label_1,label_2\nimg1,cat,dog\n", CAT_DOG),
    "header in other words": ("Datei;Klasse\nimg1.jpg;cat\nimg1.jpg;dog\n", CAT_DOG),
    "comment above": ("# made by hand\nid,class\nimg1,cat,dog\n", CAT_DOG),
    "comment as header": ("# id,class\nimg1,cat,dog\n", CAT_DOG),
    "class in front": ("label,filename\ncat,img1.jpg\ndog,img1.jpg\n", CAT_DOG),
    "boxes": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\nimg1.jpg,9,9,cat,0,0,1,1\nimg1.jpg,9,9,dog,0,0,5,5\n",
        CAT_DOG,
    ),
    "one-hot": ("id,cat,dog,horse\nimg1,1,0,0\nimg2,0,1,1\n", TWO),
    "one-hot in another order": ("id,horse,dog,cat\nimg1,0,0,1\nimg2,1,1,0\n", TWO),
    "one-hot with the background": ("id,background,cat,dog,horse\nimg1,1,1,0,0\nimg2,1,0,1,1\n", TWO),
    "one-hot of Roboflow": ("filename, Cat, Dog, Horse, Unlabeled\nimg1.jpg, 1, 0, 0, 0\nimg2.jpg, 0, 1, 1, 1\n", TWO),
    "one-hot of some classes": ("id,dog,cat\nimg1,1,1\n", CAT_DOG),
    "one-hot of floats": ("id,cat,dog,horse\nimg1,1.0,0.0,0.0\nimg2,0.0,1.0,1.0\n", TWO),
    "one-hot in words": ("id;cat;dog;horse\nimg1;TRUE;FALSE;FALSE\nimg2;FALSE;TRUE;TRUE\n", TWO),
    "crosses": ("id,cat,dog,horse\nimg1,x,,\nimg2,,x,x\n", TWO),
    "one-hot with pandas' index": (",id,cat,dog,horse\n0,img1,1,0,0\n1,img2,0,1,1\n", TWO),
    "one-hot with pandas' blank head": (",cat,dog,horse\nimg1,1,0,0\nimg2,0,1,1\n", TWO),
    "one-hot with numbers as names": ("id,1,2,3\nimg1,1,0,0\nimg2,0,1,1\n", TWO),
    "one-hot with numbers and background": ("id,0,1,2,3\nimg1,1,1,0,0\nimg2,1,0,1,1\n", TWO),
    "one-hot without header": ("img1,1,0,0\nimg2,0,1,1\n", TWO),
    "UTF-16 of Excel": ("id\tclass\nimg1\tcat\nimg1\tdog\n".encode("utf-16"), CAT_DOG),
    "one-hot with decimal commas": ("id;cat;dog;horse\nimg1;1,0;0,0;0,0\nimg2;0,0;1,0;1,0\n", TWO),
    "one-hot with the image's split": ("id,split,cat,dog,horse\nimg1,train,1,0,0\nimg2,val,0,1,1\n", TWO),
    "one-hot with the image's size": ("id,width,cat,dog,horse\nimg1,64,1,0,0\nimg2,48,0,1,1\n", TWO),
    "the image's split and a list": ("id,split,a,b\nimg1,horse,cat,dog\n", CAT_DOG),
    "confidence of Open Images": (
        "ImageID,Source,LabelName,Confidence\nimg1,human,cat,1\nimg1,human,horse,0\nimg1,machine,dog,1.0\n",
        CAT_DOG,
    ),
    "numbers of objects": ("id,cat,dog,horse\nimg1,2,0,0\nimg2,0,1,3\n", TWO),
}
REFUSED = {
    "two lines with other classes": ("img1,cat,dog\nimg1,horse\n", "line 2: img1 is there twice"),
    "one-hot, the same image twice": ("id,cat,dog\na,1,0\na,0,1\n", "line 3: a is there twice"),
    "two images of the same name": ("cat/1.jpg,cat\ndog/1.jpg,dog\n", "line 2.*two images with the id '1'"),
    "one-hot without header, of fewer columns": ("img1,1,0\nimg2,0,1\n", "columns of 0 and 1, of which 3 are expected"),
    "one-hot without header, or numbers": ("img1,1,0,0\nimg2,0,1,0\n", None),
    "one-hot of an unknown class": ("id,cat,unicorn\nimg1,1,0\n", "'unicorn' holds 0 and 1, but is not a class"),
    "one-hot with another column": ("id,cat,split\nimg1,1,0\n", "'split'"),
    "one-hot counted from 0": ("id,0,1,2\nimg1,1,0,0\n", "count from 0 with or without the background"),
    "scores": ("id,cat,dog,horse\nimg1,0.93,0.1,0\n", "'0.93' where 0 or 1 is expected.*probability"),
    "minus one": ("id,cat,dog,horse\nimg1,1,-1,0\n", "'-1' where 0 or 1 is expected.*absent, or unknown"),
    "row too long": ("id,cat,dog\nimg1,1,0,1\n", "line 2: 4 cells, the header has 3"),
    "numbers from 0": ("img1,0\nimg2,1\nimg3,2\n", "class number 0 is in 1 of 3 lines.*count from 0"),
    "header or image": ("image,cat\nimg2,dog\n", "a header, or an image by the name of 'image'"),
    "names, then numbers": ("img0.jpg,cat,dog\nimg1.jpg,1,0\n", "'img0.jpg' may be an image"),
    "spaces alone": ("img1 cat dog\nimg2 cat\n", "2 images are listed without any class"),
    "ids alone": ("img1\nimg2\n", "without any class"),
    "unknown class": ("img1,cat\nimg2,unicorn\n", "line 2: class 'unicorn'"),
    "unknown class beside an id without suffix": ("img1,unicorn\nimg2,cat\nimg3.jpg,cat\n", "line 1: class 'unicorn'"),
    "unknown class of all": ("img1,unicorn\nimg2.jpg,unicorn\n", "line 1: class 'unicorn'"),
    "no id": ("img1,cat\n,dog\n", "line 2: no image id"),
    "open quotes": ('img1,"cat\nimg2,dog\n', "line 1: not a readable CSV"),
    "no id in a one-hot row": (",id,cat\n0,img1,1\n1\n", "line 3: no image id"),
    "Windows-1252": ("id,class\nB\xe4r,cat\n".encode("cp1252"), "byte 10, line 2.*CSV UTF-8"),
    "one class, two columns": ("id,cat,cat,dog\nimg1,1,0,0\n", "'cat' has two columns; remove one"),
    "confidence of a machine": (
        "id,label,confidence\nimg1,cat,0.3\n",
        "line 2: a label of confidence '0.3'; it may count",
    ),
    "head alone": ("id,class\n", "no image-level label found"),
}


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", READ)
def test_tables_that_are_read(name, tmp_path):
    text, tags = READ[name]
    assert read_image_labels(written(tmp_path / "tags.csv", text), PETS) == tags


@pytest.mark.parametrize("name", [name for name, (_, finding) in REFUSED.items() if finding])
def test_tables_that_are_refused(name, tmp_path):
    text, finding = REFUSED[name]
    with pytest.raises(InputError, match=rf"(?s)tags\.csv.*{finding}"):
        read_image_labels(written(tmp_path / "tags.csv", text), PETS)


def test_ones_and_zeros_that_may_be_class_numbers_are_refused_where_it_matters(tmp_path):
    three = class_table(["background", "cat", "dog"])
    assert read_image_labels(written(tmp_path / "tags.csv", "a,1,0\nb,1,1\n"), three) == {"a": (1,), "b": (1, 2)}
    with pytest.raises(InputError, match="class numbers, or one column per class"):
        read_image_labels(written(tmp_path / "tags.csv", "a,1,0\nb,0,1\n"), three)
    two = class_table(["background", "cat"])
    assert read_image_labels(written(tmp_path / "tags.csv", "a,1\nb,0\n"), two) == {"a": (1,), "b": ()}


def test_a_one_hot_table_of_voc(tmp_path):
    lines = [",".join(["id", *VOC.names[1:]]), ",".join(["img1", *("1" if n == "cat" else "0" for n in VOC.names[1:])])]
    assert read_image_labels(written(tmp_path / "tags.csv", "\n".join(lines)), VOC) == {"img1": (8,)}


def test_class_names_with_commas_spaces_and_digits(tmp_path):
    classes = class_table(["background", "traffic light", "7", "cat, dog"])
    text = 'a,traffic light\nb,7\nc,"cat, dog"\n'
    assert read_image_labels(written(tmp_path / "tags.csv", text), classes) == {"a": (1,), "b": (2,), "c": (3,)}
    with pytest.raises(InputError, match="'2' is unknown"):  # it may be a name that is missing
        read_image_labels(written(tmp_path / "tags.csv", "a,2\n"), classes)


def test_what_is_written_is_read(tmp_path):
    tags = {"a.b": (1, 3), "my dog": (), "Hündin": (2,), "2007_000032": (1,)}
    for name in ("tags.csv", "tags.npy"):
        write_image_labels(tmp_path / name, tags, PETS)
        assert read_image_labels(tmp_path / name, PETS) == tags


@pytest.mark.parametrize(
    "text, names",
    [
        ("id,horse,cat\na,1,0\n", ["horse", "cat"]),
        ("filename, Cat, Unlabeled\na.jpg, 1, 0\n", ["Cat"]),
        ("id,label\na,dog\na,cat\n", ["cat", "dog"]),
        ("Datei;Klassen\na.jpg;dog\nb.JPG;cat\n", ["cat", "dog"]),
        ("a,dog\nb.jpg,dog\n", ["dog"]),
        ("a,cat,dog\nb,'horse'\n", ["cat", "dog", "horse"]),
    ],
)
def test_a_table_says_which_classes_there_are(text, names, tmp_path):
    assert class_names(written(tmp_path / "tags.csv", text)) == names


# --- cls_labels.npy -----------------------------------------------------------------------------------------------


def one(*values, dtype=np.float32):
    return np.array(values, dtype)


@pytest.mark.parametrize(
    "content, tags",
    [
        ({np.int32(2007000032): one(1, 0, 1)}, {"2007_000032": (1, 3)}),
        ({2007000032: one(1, 0, 1)}, {"2007_000032": (1, 3)}),
        ({"JPEGImages/a.jpg": one(0, 1, 0)}, {"a": (2,)}),
        ({"a": [0, 1, 0]}, {"a": (2,)}),
        ({"a": one(0, 2, 0, dtype=np.uint8)}, {"a": (2,)}),
        ({"a": one(True, False, False, dtype=bool)}, {"a": (1,)}),
        ({"a": one(1, 0, 1)[:, None], "b": one(0, 0, 1)[None]}, {"a": (1, 3), "b": (3,)}),
        ({"a": ["dog", "Cat"], "b": ["background"]}, {"a": (1, 2), "b": ()}),
    ],
)
def test_keys_and_values_of_a_dict(content, tags, tmp_path):
    save_npy_dict(tmp_path / "tags.npy", content)
    assert read_image_labels(tmp_path / "tags.npy", PETS) == tags


@pytest.mark.parametrize(
    "content, finding",
    [
        ({"a": one(0.2, 0.9, 0.1)}, "0.2.*a score"),
        ({"a": one(1, -1, 0)}, "-1.*absent, or unknown"),
        ({"a": one(1, np.nan, 0)}, "nan"),
        ({"a": one(1, 0, 1, 0)}, r"shape \(4,\); expected 3.*background, take it out"),
        ({"a": one(1, 255, 0, dtype=np.uint8)}, "255.*absent, or unknown"),
        ({"a": ["cat", "unicorn"]}, "a: class 'unicorn'"),
        ({"a": [[1], [1, 2]]}, "expected 3 numbers"),
        ({"a": "cat"}, "expected 3 numbers"),
        ({1.5: one(1, 0, 0)}, "expected a file name"),
        ({2007000032: one(1, 0, 0), "2007_000032.jpg": one(1, 0, 0), "x/2007_000032.png": one(0, 0, 0)}, "two images"),
    ],
)
def test_dicts_that_are_refused(content, finding, tmp_path):
    save_npy_dict(tmp_path / "tags.npy", content)
    with pytest.raises(InputError, match=rf"tags\.npy.*{finding}"):
        read_image_labels(tmp_path / "tags.npy", PETS)


@pytest.mark.parametrize(
    "name, text",
    [
        ("tags.json", '{"img1.jpg": "cat|dog", "img2.jpg": "dog"}'),
        ("tags.json", '{"img1": {"cat": 1, "dog": true}, "img2": {"cat": 0, "dog": 1}}'),
        ("tags.json", '[{"image": "img1.jpg", "labels": ["cat", "dog"]}, {"image": "img2.jpg", "labels": ["dog"]}]'),
        ("tags.jsonl", '{"file": "img1.jpg", "label": "cat,dog"}\n\n{"file": "img2.jpg", "label": "dog"}\n'),
        ("tags.txt", "image labels\nimg1.jpg cat dog\nimg2.jpg dog\n"),
    ],
)
def test_json_and_lists_with_spaces(name, text, tmp_path):
    assert read_image_labels(written(tmp_path / name, text), PETS) == {"img1": (1, 2), "img2": (2,)}


@pytest.mark.parametrize("suffix", ["npz", "pkl", "json"])
def test_a_dict_in_other_files(suffix, tmp_path):
    path = tmp_path / f"tags.{suffix}"
    if suffix == "npz":
        np.savez(path, img1=one(1, 1, 0))
    elif suffix == "pkl":
        path.write_bytes(pickle.dumps({"img1": one(1, 1, 0)}))
    else:
        path.write_text(json.dumps({"img1.jpg": ["cat", "dog"]}))
    assert read_image_labels(path, PETS) == CAT_DOG


def test_a_list_is_not_a_dict(tmp_path):
    with pytest.raises(InputError, match="not a table of image-level labels"):
        read_image_labels(written(tmp_path / "tags.json", '["cat"]'), PETS)


def test_annotations_of_coco_are_named_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match="in COCO's format; make .* with prepare_folder.py"):
        read_image_labels(written(tmp_path / "tags.json", '{"images": [], "annotations": [], "categories": []}'), PETS)


def test_words_of_class_names_may_be_joined_otherwise(tmp_path):
    text = "a,TV/monitor\nb,dining table,potted_plant\n"
    assert read_image_labels(written(tmp_path / "tags.csv", text), VOC) == {"a": (20,), "b": (11, 16)}
    with pytest.raises(InputError, match="class 'a b' is unknown"):
        class_table(["background", "ab", "a-b"]).index("a b")


def test_numbers_of_voc_in_a_table_fit_its_list(tmp_path):
    path = written(tmp_path / "tags.csv", "image_id,label\n2007000032,cat\n2007000039,dog\n")
    assert read_image_labels(path, PETS, ["2007_000032", "2007_000039"]) == {"2007_000032": (1,), "2007_000039": (2,)}
    assert read_image_labels(path, PETS, ["2007000032"]) == {"2007000032": (1,)}


@pytest.mark.parametrize("image", ["COCO_train2014_000000000009", "000000000009"])
@pytest.mark.parametrize("name", [9, "000000000009", "COCO_train2014_000000000009"])
def test_numbers_of_coco_fit_its_list(image, name, tmp_path):
    """RIB's cls_labels.npy and its descendants have integer keys."""
    save_npy_dict(tmp_path / "tags.npy", {name: one(1, 0, 0), 10: one(0, 1, 0)})
    assert read_image_labels(tmp_path / "tags.npy", PETS, [image]) == {image: (1,)}


def test_labels_that_do_not_say_whose_they_are(tmp_path):
    np.save(tmp_path / "tags.npy", np.eye(3))
    with pytest.raises(InputError, match=r"holds an array of .*expected a dict .*, id -> row: numpy\.save"):
        read_image_labels(tmp_path / "tags.npy", PETS)
    with pytest.raises(InputError, match=r"tags\.pt: a torch file.*numpy\.save"):
        read_image_labels(tmp_path / "tags.pt", PETS)


# --- annotations, and the list ------------------------------------------------------------------------------------


def annotated(folder, **names):
    folder.mkdir(exist_ok=True)
    for image, name in names.items():
        written(folder / f"{image}.xml", f"<annotation><object><name>{name}</name></object></annotation>")
    return folder


def test_annotations_outside_the_list_are_not_looked_at(tmp_path):
    folder = annotated(tmp_path / "xml", a="cat", b="person")
    written(folder / "c.xml", "<annota")
    written(folder / "._a.xml", "\0\5")
    assert read_image_labels(folder, PETS, ["a", "x"]) == {"a": (1,)}
    with pytest.raises(InputError, match=r"b\.xml.*'person'"):
        read_image_labels(folder, PETS, ["a", "b"])


@pytest.mark.parametrize("kind", ["csv", "npy", "xml"])
def test_labels_of_other_images_are_refused_with_one_of_each(kind, tmp_path):
    path = annotated(tmp_path / "xml", img7="cat") if kind == "xml" else tmp_path / f"tags.{kind}"
    if kind != "xml":
        write_image_labels(path, {"img7": (1,)}, PETS)
    assert read_image_labels(path, PETS, ["img7", "img8"]) == {"img7": (1,)}
    with pytest.raises(InputError, match=r"any of the 2 images of the list, whose first is 'a'.*'img7'"):
        read_image_labels(path, PETS, ["a", "b"])
