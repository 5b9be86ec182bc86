"""Class files in the formats of other tools."""

import pytest

from util.data.voc import load_classes, palette
from util.runtime.errors import InputError

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
    "nothing": ("# only a comment\n", "0 classes"),
    "background alone": ("background\n", "1 classes"),
}


def written(path, text):
    path.write_text(text, newline="")
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
