"""Class files in the formats of other tools."""

import numpy as np
import pytest
from helpers import run_script
from PIL import Image

from util.data.classes import classes_of, find_classes
from util.data.labels import write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.voc import load_classes, palette
from util.runtime import checkpoint
from util.runtime.errors import InputError
from util.runtime.files import write_json

NAMES = ("background", "cat", "dog")
COLORS = ((0, 0, 0), (64, 0, 0), (64, 0, 128))
VOC_COLORS = tuple(tuple(int(v) for v in row) for row in palette()[:3])

READ = {
    "names": ("background\ncat\ndog\n", VOC_COLORS),
    "CVAT's labelmap": (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:64,0,0::\ndog:64,0,128:ear,tail:sit\n",
        COLORS,
    ),
    "CVAT's labelmap without its header": ("background:0,0,0::\ncat:64,0,0::\ndog:64,0,128::\n", COLORS),
    "labelme's labels": ("__ignore__\n_background_\ncat\ndog\n", VOC_COLORS),
    "comments": ("# my classes\nbackground\n# pets\ncat\ndog\n", VOC_COLORS),
    "hexadecimal": ("background #000000\ncat #400000\ndog\t#400080\n", COLORS),
    "commas": ("background 0,0,0\ncat,64,0,0\ndog: 64, 0, 128\n", COLORS),
    "spaces": ("background 0 0 0\ncat 64 0 0\ndog 64 0 128\n", COLORS),
    "semicolons": ("background;0;0;0\ncat;64;0;0\ndog;64;0;128\n", COLORS),
    "CamVid's class_dict": ("name,r,g,b\nbackground,0,0,0\ncat,64,0,0\ndog,64,0,128\n", COLORS),
    "CamVid's label_colors": ("0 0 0\tbackground\n64 0 0\tcat\n64 0 128\tdog\n", COLORS),
    "index": ("0 background\n1 cat\n2 dog\n", VOC_COLORS),
    "index and colon": ("0: background\n1: cat\n2: dog\n", VOC_COLORS),
    "index from 1": ("1 cat\n2 dog\n", VOC_COLORS),
    "capitals": ("Background\ncat\ndog\n", VOC_COLORS),
    "CRLF, mark and blanks": ("\ufeff\r\n__background__\r\ncat\r\n\r\ndog\r\n", VOC_COLORS),
    "JSON list": ('["background", "cat", "dog"]', VOC_COLORS),
    "id2label": ('{"id2label": {"0": "background", "2": "dog", "1": "cat"}}', VOC_COLORS),
    "label2id": ('{"background": 0, "cat": 1, "dog": 2}', VOC_COLORS),
    "COCO": ('{"images": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}', VOC_COLORS),
    "COCO with the background": (
        '{"categories": [{"id": 2, "name": "dog"}, {"id": 0, "name": "background"}, {"id": 1, "name": "cat"}]}',
        VOC_COLORS,
    ),
    "CVAT's JSON": (
        '[{"name": "background", "color": "#000000"}, {"name": "cat", "color": "#400000"}, '
        '{"name": "dog", "color": [64, 0, 128]}]',
        COLORS,
    ),
    "UTF-16 of PowerShell": ("background\r\ncat\r\ndog\r\n".encode("utf-16"), VOC_COLORS),
    "YOLO's data.yaml": ("path: ../pets\nnc: 3\nnames:\n  0: background\n  1: cat\n  2: dog\n", VOC_COLORS),
    "Roboflow's data.yaml": ("train: ../train/images\nnames: ['background', 'cat', 'dog']\n", VOC_COLORS),
    "labelme's info.yaml": ("label_names:\n- _background_\n- cat\n- dog\n", VOC_COLORS),
    "TensorFlow's label map": (
        "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  name: \"dog\"\n  id: 2\n}\n",
        VOC_COLORS,
    ),
    "Supervisely's meta.json": (
        '{"classes": [{"title": "_background_", "color": "#000000"}, {"title": "cat", "color": "#400000"}, '
        '{"title": "dog", "color": "#400080"}], "tags": []}',
        COLORS,
    ),
    "a list as Python prints it": ("['background', 'cat', 'dog']\n", VOC_COLORS),
    "all on one line": ("background,cat,dog\n", VOC_COLORS),
    "quotes": ('"background"\n\'cat\',\n"dog"\n', VOC_COLORS),
    "index and stop": ("1. cat\n2. dog\n", VOC_COLORS),
    "index behind": ("background 0\ncat 1\ndog 2\n", VOC_COLORS),
    "table of name and index": ("name,id\nbackground,0\ncat,1\ndog,2\n", VOC_COLORS),
    "Roboflow's _classes.csv of masks": ("Pixel Value, Class\n0, background\n1, cat\n2, dog\n", VOC_COLORS),
}
REFUSED = {
    "no background": ("cat\ndog\n", "'cat'; the background may be missing, or have this name"),
    "no background in COCO": ('[{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]', "may be missing"),
    "background at the end": ("cat\ndog\nbackground\n", "background is class 2 of 0 to 2"),
    "CVAT's labelmap, background at the end": ("cat:64,0,0::\nbackground:0,0,0::\n", "background is class 1"),
    "twice": ("background\ncat\ncat\n", "line 3: class 'cat' is there twice"),
    "comment or class": ("background\n#tag\n", "line 2.*a comment, or a class"),
    "alpha": ("background 0 0 0 255\ncat 64 0 0 255\n", "line 1.*four a colour with alpha"),
    "colours as shares": ("background 0 0 0\ncat 0.25 0 0\n", "line 2: colour '0.25 0 0'"),
    "colour beyond": ("background\ncat 300,0,0\n", "line 2: colour '300,0,0'"),
    "negative colour": ("background\ncat -1,0,0\n", "line 2: colour"),
    "COCO's 90 ids": ('[{"id": 1, "name": "cat"}, {"id": 18, "name": "dog"}]', "indices 1 to 18 leave some out"),
    "JSON of something else": ('{"a": [1, 2]}', "not an index and a class name"),
    "JSON with one index twice": ('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "twice"),
    "cut JSON": ('["background", "ca', "not valid JSON"),
    "YOLO's data.yaml without background": ("nc: 2\nnames: [cat, dog]\n", "'cat'; the background may be missing"),
    "YAML of yes and no": ("names: [background, yes, no]\n", "true.* is not an index and a class name"),
    "YAML with anchors": ("a: &a [x, x]\nnames: [*a, *a]\n", "not valid JSON"),
    "Windows-1252": ("background\nB\xe4r\n".encode("cp1252"), "line 2.*save it as UTF-8"),
    "nothing": ("# only a comment\n", "0 classes"),
    "background alone": ("background\n", "1 classes"),
}


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", READ)
def test_class_files_that_are_read(name, tmp_path):
    text, colors = READ[name]
    classes = load_classes(written(tmp_path / "names.txt", text))
    assert (classes.names, classes.colors) == (NAMES, colors)


@pytest.mark.parametrize("name", REFUSED)
def test_class_files_that_are_refused(name, tmp_path):
    text, finding = REFUSED[name]
    with pytest.raises(InputError, match=rf"names\.txt.*{finding}"):
        load_classes(written(tmp_path / "names.txt", text))


def test_the_number_of_classes_says_whether_the_background_is_there(tmp_path):
    path = written(tmp_path / "names.txt", "Straße\nHund\n")
    assert load_classes(path, 2).names == ("Straße", "Hund")
    assert load_classes(path, 3).names == ("background", "Straße", "Hund")
    with pytest.raises(InputError, match="labels are 8-bit"):
        load_classes(num_classes=300)
    with pytest.raises(InputError, match="--num-classes"):
        load_classes(path, 7)


def test_names_with_numbers_keep_them(tmp_path):
    path = written(tmp_path / "names.txt", "background\nclass 1\nclass 2 255,0,0\nclass 3 #00ff00\n")
    classes = load_classes(path)
    assert classes.names == ("background", "class 1", "class 2", "class 3")
    assert classes.colors[2:] == ((255, 0, 0), (0, 255, 0))


def test_classes_are_found_in_any_case_unless_two_are_alike(tmp_path):
    classes = load_classes(written(tmp_path / "names.txt", "background\nCat\ndog\nDog\n"))
    assert classes.index("cat") == 1 and classes.index("Dog") == 3 and classes.index("2") == 2
    with pytest.raises(InputError, match="'DOG' is unknown"):
        classes.index("DOG")


# --- names that travel with the data ------------------------------------------------------------------------------

PETS = "background\ncat\ndog\nhorse\n"


@pytest.fixture
def pets(tmp_path):
    """Label maps with the values 1 to 3, images and tags of a person's own classes."""
    rng = np.random.default_rng(0)
    for value, image in enumerate(("p1", "p2", "p3"), 1):
        label = np.zeros((20, 30), np.uint8)
        label[5:15, 5:20] = value
        for folder in ("labels", "gt"):
            write_label(tmp_path / "data" / folder / f"{image}.png", label)
        write_masks(tmp_path / "masks" / f"{image}.json", Masks.from_dense(label[None] > 0), image, f"{image}.jpg")
        (tmp_path / "data" / "images").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "data" / "images" / f"{image}.png")
    written(tmp_path / "data" / "tags.csv", "p1,cat\np2,dog\np3,horse\n")
    written(tmp_path / "list.txt", "p1\np2\np3\n")
    return tmp_path


@pytest.mark.parametrize("place", ["data/labels", "data"])
def test_names_are_found_beside_the_labels_and_above(place, pets):
    written(pets / place / "class_names.txt", PETS)
    assert classes_of([None, pets / "data/labels"]).names == ("background", "cat", "dog", "horse")
    beside_the_tags = find_classes([pets / "data/tags.csv"])
    assert (beside_the_tags is not None) == (place == "data")


@pytest.mark.parametrize("text", ["# seed: 1", "[1, 2]", '{"options": "x"}', ""])
def test_run_json_of_another_tool_says_nothing(pets, text):
    (pets / "data/labels/run.json").write_text(text)
    assert find_classes([pets / "data/labels"]) is None


@pytest.mark.parametrize("key", ["options", "made_from"])
def test_names_are_found_in_run_json(key, pets):
    write_json(pets / "data/labels/run.json", {key: {"classes": ["background", "cat", "dog", "horse"]}})
    assert classes_of([pets / "data/labels"]).names[1:] == ("cat", "dog", "horse")
    write_json(pets / "data/labels/run.json", {key: {"classes": "cat,dog"}})  # of --classes
    assert find_classes([pets / "data/labels"]) is None


def test_names_that_disagree_are_an_error_that_names_both(pets):
    written(pets / "data" / "class_names.txt", PETS)
    written(pets / "data/labels/class_names.txt", "background\ndog\ncat\nhorse\n")
    with pytest.raises(
        InputError, match=r"labels.class_names.txt names .*dog, cat.*data.class_names.txt names .*cat, dog"
    ):
        classes_of([pets / "data/labels"])
    (pets / "data/labels/class_names.txt").unlink()
    with pytest.raises(InputError, match=r"--class-names .*own.txt names .*mouse.*data.class_names.txt"):
        classes_of([pets / "data/labels"], written(pets / "own.txt", "background\ncat\ndog\nmouse\n"))
    with pytest.raises(InputError, match=r"class_names.txt names 4 classes, --num-classes says 21"):
        classes_of([pets / "data/labels"], num_classes=21)
    write_json(pets / "data/gt/run.json", {"options": {"classes": list(load_classes().names)}})
    with pytest.raises(InputError, match=r"gt/run.json names background, aeroplane, .*\(21 classes\)"):
        classes_of([pets / "data/labels", pets / "data/gt"])


def test_voc_is_assumed_only_where_nothing_is_said_and_not_in_silence(pets, capsys):
    assert classes_of([pets / "data/labels"], ids=["p1"]).names == load_classes().names
    assert "taken to be VOC's" in capsys.readouterr().err
    assert len(classes_of([pets / "data/labels"], ids=["2007_000032"])) == 21
    assert len(classes_of([pets / "data/labels"], num_classes=4)) == 4
    assert capsys.readouterr().err == ""


def _commands(p):
    labels, gt, data = p / "data/labels", p / "data/gt", p / "data"
    merge = ["--pseudo-path", labels, "--sam-path", p / "masks", "--image-list", p / "list.txt", "--gt-dir", gt]
    return {
        "main.py": [*merge, "--image-labels", data / "tags.csv", "--method", "max_iou", "--workers", 1],
        "evaluate_enhanced.py": ["--pred", labels, "--gt", gt, "--list", p / "list.txt", "--workers", 1],
        "check_pseudo_label.py": [
            *("--labels", labels, "--gt", gt, "--list", p / "list.txt", "--image-labels", data / "tags.csv"),
            *("--workers", 1),
        ],
    }


@pytest.mark.parametrize("script", ["main.py", "evaluate_enhanced.py", "check_pseudo_label.py"])
def test_a_cat_is_never_called_an_aeroplane(script, pets):
    written(pets / "data" / "class_names.txt", PETS)
    run = run_script(script, *_commands(pets)[script], "--out", pets / "out")
    text = run.stdout + "".join(path.read_text() for path in pets.glob("out/**/*.json"))
    assert run.returncode == 0, run.stderr
    assert all(name in text for name in ("cat", "dog", "horse"))
    assert not any(name in text for name in ("aeroplane", "bicycle", "bird"))


def test_names_travel_through_the_merge(pets):
    written(pets / "data" / "class_names.txt", PETS)
    assert run_script("main.py", *_commands(pets)["main.py"], "--mode", "merge", "--out", pets / "out").returncode == 0
    (pets / "data" / "class_names.txt").unlink()
    command = ["--pred", pets / "out/max_iou", "--gt", pets / "data/gt", "--list", pets / "list.txt", "--workers", 1]
    run = run_script("evaluate_enhanced.py", *command, "--out", pets / "scores")
    assert run.returncode == 0 and "horse" in run.stdout and "bird" not in run.stdout


def test_tags_that_label_maps_contradict_are_refused(pets):
    run = run_script("main.py", *_commands(pets)["main.py"], "--out", pets / "out")  # "cat" is 8 in VOC
    assert run.returncode == 2
    assert "p1 shows 1 (aeroplane) and is tagged cat. Give the class names" in run.stderr


@pytest.mark.slow
def test_networks_learn_the_names_beside_their_labels(pets):
    written(pets / "data" / "class_names.txt", PETS)
    common = ["--images", pets / "data/images", "--list", pets / "list.txt", "--workers", 0, "--crop-size", 32]
    common += ["--encoder", "timm-mobilenetv3_small_minimal_100", "--encoder-weights", "none", "--batch-size", 3]
    for script, options in {
        "train_deeplabv3.py": ["--labels", pets / "data/labels", "--steps", 1],
        "train_transcam.py": ["--method", "cam", "--image-labels", pets / "data/tags.csv", "--epochs", 1],
    }.items():
        run = run_script(script, *common, *options, "--out", pets / script)
        assert run.returncode == 0, run.stderr
        assert checkpoint.load(pets / script / "last.pth")["classes"] == ["background", "cat", "dog", "horse"]
