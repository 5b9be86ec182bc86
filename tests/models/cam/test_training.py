"""What a training of a classifier depends on."""

import pytest
from PIL import Image

from models.cam.data import Augmentation, TaggedImages
from models.cam.training import contents_digest


@pytest.mark.parametrize("change, is_other", [("color", True), ("tags", True), ("removed", True), ("nothing", False)])
def test_other_images_under_the_same_names_are_another_training(tmp_path, change, is_other):
    tags = {"a": (1,), "b": (2,)}

    def digest():
        return contents_digest(TaggedImages(list(tags), tmp_path, tags, 3, Augmentation(32, (32, 32)), 0))

    for name in tags:
        Image.new("RGB", (9, 7), "red").save(tmp_path / f"{name}.png")
    before = digest()
    if change == "color":
        Image.new("RGB", (9, 7), "blue").save(tmp_path / "b.png")
    elif change == "tags":
        tags["b"] = (1, 2)
    elif change == "removed":
        (tmp_path / "b.png").unlink()
    assert (digest() != before) is is_other
