"""Well-formed data that means something else than it seems: read rightly, or refused with both readings and the remedy."""

import io
import json
import shutil

import corpus_of_sources as made
import numpy as np
import pytest
from corpus_of_sources import NAMES, VOC_COLORS, image, images, label, png_bytes, put
from PIL import Image

from util.data.class_numbers import classes_of_source
from util.data.labels import read_label
from util.data.prepare import prepare
from util.data.sources import read_source
from util.data.sources.base import Images
from util.data.voc import palette
from util.runtime.errors import InputError

CVAT_COLORS = {"background": (0, 0, 0), "cat": (51, 221, 255), "dog": (250, 50, 83)}


def read(path, images=None):
    """Format, image -> classes, and the whole source."""
    name, source = read_source(path, images)
    return name, {item.name: item.classes for item in source.items}, source


def maps(root, encode=png_bytes, of=label):
    """Images and label maps of values 1 and 2, without a class file."""
    images(root / "JPEGImages")
    for name in NAMES:
        put(root / "SegmentationClass" / f"{name}.png", encode(of(name)))
    return root


def paletted(colors, **options):
    """Encodes values as a PNG with these colours."""

    def encode(values):
        buffer = io.BytesIO()
        with Image.fromarray(values) as result:
            result.putpalette(np.array(colors, np.uint8).tobytes())
            result.save(buffer, "PNG", **options)
        return buffer.getvalue()

    return encode


def label_maps(source, out, table=None):
    """Image -> label map, and the table that the values are of."""
    report, table = prepare(source, out, table, share=0)
    assert not report.problems
    return {name: read_label(out / f"SegmentationClassAug/{name}.png") for name in NAMES}, table.names


# --- VOC's layout: whose values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines, found",
    [
        ("background\ncat\ndog\n", ("background", "cat", "dog")),
        ("cat\ndog\n", ("background", "cat", "dog")),
        ("background\ncat\n", "1 classes, 1 to 1, but an image shows class 2"),
        (
            "cat\ndog\ncow\n",
            "count 3 names from 0 or from 1.*in the place of the first name, as 0 is the background here",
        ),
        (None, r"its classes are numbers \(1, 2\); name them with --class-names"),
    ],
)
def test_label_maps_without_a_class_file_have_numbers(lines, found, tmp_path):
    _, shown, source = read(maps(tmp_path / "in"))
    assert source.numbered and source.classes == ["1", "2"] and shown["c"] == ("1", "2")
    file = lines and put(tmp_path / "names.txt", lines)
    if isinstance(found, str):
        with pytest.raises(InputError, match=found):
            classes_of_source(source, file, tmp_path / "in")
        return
    table = classes_of_source(source, file, tmp_path / "in")
    written, names = label_maps(source, tmp_path / "out", table)
    assert names == found and all(np.array_equal(written[name], label(name)) for name in NAMES)


def test_numbers_of_parts_are_of_one_data_set(tmp_path):
    for part, value in (("train", 1), ("val", 3)):
        image(tmp_path / part / "JPEGImages/a.png", value)
        put(tmp_path / part / "SegmentationClass/a.png", png_bytes(np.full(made.SHAPE, value, np.uint8)))
    _, _, source = read(tmp_path)
    assert source.numbered and source.classes == ["1", "3"]


@pytest.mark.parametrize("sign", ["palette and lists", "palette", "lists"])
def test_without_xml_files_vocs_palette_and_lists_say_that_it_is_voc(sign, tmp_path):
    encode = paletted(palette()) if "palette" in sign else png_bytes
    maps(tmp_path / "in", encode)
    if "lists" in sign:
        put(tmp_path / "in/ImageSets/Segmentation/train.txt", "a\n")
    _, found, source = read(tmp_path / "in")
    assert found["c"] == (("aeroplane", "bicycle") if "and" in sign else ("1", "2"))
    assert source.numbered is ("and" not in sign) and bool(source.notes) is ("and" in sign)


def test_xml_files_say_whether_it_is_voc(tmp_path):
    """Cats and dogs are classes of VOC as well, but there their values are 8 and 12."""
    made.voc_maps(tmp_path)
    (tmp_path / "class_names.txt").unlink()
    _, _, source = read(tmp_path)
    assert source.numbered and source.classes == ["1", "2"]
    for name in NAMES:
        put(tmp_path / f"SegmentationClass/{name}.png", png_bytes(np.array([0, 8, 12], np.uint8)[label(name)]))
    _, found, source = read(tmp_path)
    assert not source.numbered and found["a"] == ("cat",) and len(source.classes) == 20
    for file in (tmp_path / "Annotations").iterdir():
        file.write_text(file.read_text().replace(">cat<", ">pony<"))
    assert read(tmp_path)[2].numbered


@pytest.mark.parametrize("place", ["class_dict.csv", "labels.txt", "classes.txt", "SegmentationClass/classes.txt"])
@pytest.mark.parametrize("background", [True, False])
def test_other_class_files_beside_label_maps(place, background, tmp_path):
    lines = {"background": "0,0,0", "cat": "128,0,0", "dog": "0,128,0"}
    text = "name,r,g,b\n" + "".join(f"{name},{color}\n" for name, color in lines.items())
    if "csv" not in place:
        text = "\n".join(lines) + "\n"
    if not background:
        text = "".join(line for line in text.splitlines(True) if "background" not in line)
    maps(tmp_path)
    put(tmp_path / place, text)
    _, found, source = read(tmp_path)
    assert source.classes == ["cat", "dog"] and found["a"] == ("cat",)
    put(tmp_path / place, text + ("cow,1,1,1\n" if "csv" in place else "cow\n"))
    if background:
        assert read(tmp_path)[2].classes == ["cat", "dog", "cow"]
    else:
        with pytest.raises(InputError, match="values go up to 2: 'cat' may be 1, or 0"):
            read(tmp_path)


def test_class_files_that_disagree_are_named(tmp_path):
    maps(tmp_path)
    put(tmp_path / "labelmap.txt", "background\ncat\ndog\n")
    put(tmp_path / "SegmentationClass/classes.txt", "background\ndog\ncat\n")
    with pytest.raises(InputError, match=r"labelmap.txt and .*classes.txt have other classes"):
        read(tmp_path)


def with_colors(root, colors=CVAT_COLORS):
    put(root / "labelmap.txt", "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in colors.items()))
    return root


@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
def test_a_palette_of_the_class_files_colours_is_read_by_colour(options, tmp_path):
    """Its value 1 is the dog's colour."""
    encode = paletted([*(CVAT_COLORS[name] for name in ("background", "dog", "cat")), (224, 224, 192)], **options)

    def swapped(name):
        values = np.array([0, 2, 1], np.uint8)[label(name)]
        values[0, 0] = 3
        return values

    _, _, source = read(with_colors(maps(tmp_path / "in", encode, swapped)))
    written, _ = label_maps(source, tmp_path / "out")
    for name in NAMES:
        expected = label(name)
        expected[0, 0] = 255
        assert np.array_equal(written[name], expected)


def test_a_palette_with_some_of_the_class_files_colours_is_refused(tmp_path):
    encode = paletted([CVAT_COLORS["background"], CVAT_COLORS["dog"], (9, 99, 199)])
    _, found, source = read(with_colors(maps(tmp_path / "in", encode)))
    assert "c" not in found and "value 1 has the colour of dog, but #0963c7 is of no class" in source.problems["c"]


def test_grey_colours_of_the_class_file_are_colours(tmp_path):
    colors = {"background": (0, 0, 0), "sky": (255, 255, 255), "sea": (128, 128, 128), "sand": (2, 2, 2)}
    images(tmp_path / "in/JPEGImages")
    put(tmp_path / "in/class_names.txt", "".join(f"{name} {r},{g},{b}\n" for name, (r, g, b) in colors.items()))
    for name in NAMES:
        pixels = np.array([0, 255, 2], np.uint8)[label(name)]
        mode = np.dstack([pixels] * 3 + [np.full_like(pixels, 255)] * (name == "a"))
        put(tmp_path / "in/SegmentationClass" / f"{name}.png", png_bytes(mode))
    written, _ = label_maps(read(tmp_path / "in")[2], tmp_path / "out")
    assert all(np.array_equal(written[name], np.array([0, 1, 3], np.uint8)[label(name)]) for name in NAMES)


def test_three_equal_channels_of_indices_are_read_by_index(tmp_path):
    maps(tmp_path / "in", lambda values: png_bytes(np.dstack([values] * 3)))
    written, _ = label_maps(read(with_colors(tmp_path / "in"))[2], tmp_path / "out")
    assert all(np.array_equal(written[name], label(name)) for name in NAMES)


def test_colours_that_say_nothing_are_refused(tmp_path):
    made.cvat_masks(tmp_path)
    with_colors(tmp_path, {**VOC_COLORS, "dog": VOC_COLORS["cat"]})
    with pytest.raises(InputError, match="cat and dog have the same in the class file"):
        read(tmp_path)
    (tmp_path / "labelmap.txt").unlink()
    with pytest.raises(InputError, match="it holds colours, and no class file says whose"):
        read(tmp_path)


@pytest.mark.parametrize("lines", [None, "background\nobject\n"])
def test_masks_of_0_and_255_are_refused(lines, tmp_path):
    maps(tmp_path, of=lambda name: np.where(label(name), 255, 0).astype(np.uint8))
    if lines:
        put(tmp_path / "class_names.txt", lines)
    with pytest.raises(InputError, match=r"SegmentationClass: .*only 0 and 255, and 255 is void.*write 1 for it"):
        read(tmp_path)


def test_xml_files_of_other_programs_are_not_looked_at(tmp_path):
    made.voc_xml(tmp_path)
    put(tmp_path / ".idea/misc.xml", "<project/>")
    name, found, source = read(tmp_path)
    assert name == "voc" and len(found) == len(NAMES) and not source.problems
    put(tmp_path / "A/pom.xml", "<project/>")
    name, found, _ = read(tmp_path)
    assert name == "voc" and len(found) == len(NAMES)


# --- YOLO ----------------------------------------------------------------------------------------------------------


def listed(root, **files):
    """YOLO's lines with these files instead of ``data.yaml``; ``__`` is a folder, the last ``_`` the suffix."""
    made.yolo(root)
    (root / "data.yaml").unlink()
    for name, text in files.items():
        put(root / ".".join(name.replace("__", "/").rsplit("_", 1)), text)
    return root


def test_class_lists_of_parts_that_differ_are_named(tmp_path):
    listed(tmp_path, train__classes_txt="cat\ndog\n", valid__classes_txt="dog\ncat\n")
    with pytest.raises(InputError, match=r"train.classes.txt has the classes 0 cat, 1 dog, .*valid.*0 dog, 1 cat"):
        read(tmp_path)
    put(tmp_path / "data.yaml", "names: [cat, dog]\n")
    with pytest.raises(InputError, match=r"data.yaml has the classes .*valid.classes.txt has them as 0 dog, 1 cat"):
        read(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"classes_txt": "0: cat\n1: dog\n"},
        {"train__labels__classes_txt": "cat\ndog\n"},
        {"labels__classes_txt": "cat\ndog\n"},
        {"predefined_classes_txt": "cat\ndog\n"},
        {"predefined_classes_txt": "dog\nperson\n", "classes_txt": "cat\ndog\n"},
        {"config__data_yaml": "names: [cat, dog]\n"},
    ],
)
def test_names_of_yolo_are_found(files, tmp_path):
    _, found, source = read(listed(tmp_path, **files))
    assert source.classes == ["cat", "dog"] and found["images/a.png"] == ("cat",)


@pytest.mark.parametrize(
    "name, text", [("data_yaml", "names: {0: cat, 5: dog}\n"), ("classes_txt", "1: cat\n2: dog\n")]
)
def test_numbers_of_yolo_are_kept(name, text, tmp_path):
    listed(tmp_path, **{name: text})
    for number, line in (("a", 0), ("b", 5), ("c", 1), ("d", 2)):
        put(tmp_path / f"labels/{number}.txt", f"{line} 0.5 0.5 0.1 0.1\n")
    _, found, source = read(tmp_path)
    known = {"a": "cat", "b": "dog"} if "yaml" in name else {"c": "cat", "d": "dog"}
    for image_name in "abcd":
        if image_name in known:
            assert found[f"images/{image_name}.png"] == (known[image_name],)
        else:
            assert "of 2 classes (" in source.problems[f"images/{image_name}.png"]
    assert source.classes == ["cat", "dog"]


def test_numbers_of_a_list_that_do_not_count_up_are_refused(tmp_path):
    with pytest.raises(InputError, match="do not count up from 0 or 1; write data.yaml"):
        read(listed(tmp_path, classes_txt="0: cat\n5: dog\n"))
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"looked for .*\*/\*/classes.txt.*predefined_classes.txt"):
        read(tmp_path)


def test_boxes_of_cub_are_not_yolo(tmp_path):
    for number, name in enumerate(("001.Albatross", "002.Auklet")):
        image(tmp_path / "images" / name / f"{number}.png", number)
    put(tmp_path / "bounding_boxes.txt", "1 60.0 27.0 325.0 304.0\n2 139.0 30.0 153.0 264.0\n")
    put(tmp_path / "parts/part_locs.txt", "1 1 0.0 0.0 0\n1 2 312.0 182.0 1\n")
    put(tmp_path / "classes.txt", "1 001.Albatross\n2 002.Auklet\n")
    try:
        assert read(tmp_path)[0] != "yolo"
    except InputError as error:
        assert "YOLO" not in str(error) and "data.yaml" not in str(error)


# --- COCO ----------------------------------------------------------------------------------------------------------


def coco_parts(root, folders=("train", "val"), files=("train.json", "val.json")):
    """Two files whose images are all called 1.png: cats in the first, dogs in the second."""
    for number, (folder, file) in enumerate(zip(folders, files)):
        image(root / folder / "1.png", number)
        content = {
            "images": [{"id": 1, "file_name": "1.png"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": number}],
            "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        }
        put(root / "annotations" / file, json.dumps(content))
    return root


@pytest.mark.parametrize(
    "folders, files",
    [
        (("train", "val"), ("train.json", "val.json")),
        (("train2017", "val2017"), ("instances_train2017.json", "instances_val2017.json")),
        (("train2014", "train2017"), ("instances_train2014.json", "instances_train2017.json")),
        (("north/images", "south/images"), ("north.json", "south.json")),
    ],
)
def test_images_of_one_name_belong_to_the_file_of_their_split(folders, files, tmp_path):
    _, found, source = read(coco_parts(tmp_path / "in", folders, files))
    assert found == {f"{folders[0]}/1.png": ("cat",), f"{folders[1]}/1.png": ("dog",)}
    report, _ = prepare(source, tmp_path / "out", share=0)
    assert report.images == 2 and not report.problems


def test_an_image_of_one_split_is_not_the_missing_one_of_another(tmp_path):
    coco_parts(tmp_path)
    shutil.move(tmp_path / "train/1.png", tmp_path / "train/2.png")
    _, found, source = read(tmp_path)
    assert found == {"1.png": ("dog",)} and "no image '1.png'" in source.problems["1.png"]
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match="1.png is the image of several entries"):
        read(tmp_path)


def test_a_damaged_annotation_is_one_image(tmp_path):
    made.voc_xml(tmp_path)
    first = min((tmp_path / "Annotations").glob("*.xml"))
    first.write_text("<annotation><object>")
    name, found, source = read(tmp_path)
    assert name == "voc" and first.stem not in found and "not valid XML" in source.problems[first.stem]


@pytest.mark.parametrize("make", ["labelme", "coco"])
def test_a_damaged_json_file_among_others_ends_nothing(make, tmp_path):
    made.labelme(tmp_path) if make == "labelme" else made.coco(tmp_path, polygons=True)
    damaged = min(tmp_path.glob("*.json")) if make == "labelme" else tmp_path / "a_first.json"
    damaged.write_text('{"shapes": [')
    name, _, source = read(tmp_path)
    assert name == make and source.items and "not valid JSON" in source.problems[str(damaged)]


def changed(root, change):
    made.coco(root, polygons=True)
    content = json.loads((root / "annotations.json").read_text())
    change(content)
    put(root / "annotations.json", json.dumps(content))
    return root


def test_a_category_that_is_its_own_parent_is_a_class(tmp_path):
    def change(content):
        content["categories"] = [{**entry, "supercategory": entry["name"]} for entry in content["categories"]]
        content["categories"].append({"id": 3, "name": "cow", "supercategory": "cow"})

    assert read(changed(tmp_path, change))[2].classes == ["cat", "dog", "cow"]


@pytest.mark.parametrize("key, what", [("categories", "categories cat and dog"), ("images", "images a.png and b.png")])
def test_one_id_for_two_is_refused(key, what, tmp_path):
    with pytest.raises(InputError, match=f"the {what} have the same id 1"):
        read(changed(tmp_path, lambda content: content[key][1].update(id=1)))


def test_annotations_of_no_image_are_counted(tmp_path):
    def change(content):
        for annotation in content["annotations"]:
            annotation["image_id"] = str(annotation["image_id"])
        content["annotations"] += [{**content["annotations"][0], "image_id": number} for number in (77, 78, 78)]

    _, found, source = read(changed(tmp_path, change))
    assert found["c.png"] == ("cat", "dog")
    (message,) = source.problems.values()
    assert "3 annotations of images that the file does not list (image_id 77, 78)" in message


# --- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files, name, found",
    [
        (("A.JPG",), "a.jpg", "A.JPG"),
        (("A.JPG", "a.jpg"), "a.jpg", "a.jpg"),
        (("A.JPG", "a.JPG", "b.jpg"), "A.jpg", "A.JPG"),  # by its id
        (("A.JPG", "A.Jpg"), "a.jpg", None),
        (("x/a.png", "masks/a.png"), "a.png", "x/a.png"),
        (("x/a.jpg", "y/annotations/a.png"), "a", "x/a.jpg"),
        (("masks/a.png",), "a.png", "masks/a.png"),
        (("x/train/a.png", "x/val/a.png"), "val/a.png", "x/val/a.png"),
        (("x/train/a.png", "x/val/b.png"), "val/a.png", None),  # that of val is missing
        (("x/a.png", "y/a.png"), "a.png", None),
    ],
)
def test_images_are_found_by_what_is_known_of_them(files, name, found, tmp_path):
    for file in files:
        put(tmp_path / file, b"")
    if len(list(tmp_path.rglob("*.*"))) < len(files):
        pytest.skip("this file system does not distinguish upper and lower case")
    if found is None:
        with pytest.raises(InputError, match="2 images are called a.png|no image"):
            Images(tmp_path).find(name)
        return
    assert Images(tmp_path).find(name) == tmp_path / found
