"""What can be said of a network on held-out images that have image-level labels alone."""

import numpy as np

from pipeline.held_out import held_out_line, largest_class, show_held_out
from pipeline.options import parse
from pipeline.planning import make_plan
from util.data.ids import read_id_list
from util.data.image_labels import write_image_labels
from util.data.images import find_image, image_size
from util.data.labels import write_label
from util.data.synthetic import CLASSES, write_data_set
from util.runtime.files import read_json


def test_images_whose_largest_area_is_of_a_given_class_are_counted(tmp_path):
    voc, labels = tmp_path / "VOC", tmp_path / "labels"
    write_data_set(voc, {"train": 2, "val": 5}, side=64)
    plan = make_plan(parse(None, ["--voc", str(voc), "--out", str(tmp_path / "run"), "--device", "cpu"]))
    ids = read_id_list(voc / "ImageSets/Segmentation/val.txt")
    write_image_labels(plan.image_labels, {image_id: (1, 2) for image_id in ids}, CLASSES)
    for image_id, value in zip(ids[:4], (1, 2, 3, 0)):
        label = np.zeros(image_size(find_image(plan.images, image_id)), np.uint8)
        label[:3], label[0, :5], label[10:] = value, 3 if value else 0, 255
        write_label(labels / f"{image_id}.png", label)
    assert [largest_class(labels, image_id) for image_id in ids] == [1, 2, 3, 0, None]
    show_held_out(plan, ids, labels)
    found = read_json(tmp_path / "run/held_out.json")
    assert found == {"images": 4, "as_given": 2}
    assert held_out_line(found, plan).startswith("DeepLabV3+ on 4 held-out images: in 2 of them")
    assert (tmp_path / "run/held_out.png").stat().st_size > 1000
