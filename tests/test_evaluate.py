import json

import numpy as np
from helpers import run_script, write_set

from util.labels import write_label


def test_label_folder_with_a_baseline(tmp_path):
    write_set(tmp_path)
    command = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out", "--boundary"]
    done = run_script("evaluate_enhanced.py", "--pred", tmp_path / "gt", "--baseline", tmp_path / "labels", *command)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["miou"] == metrics["pixel_accuracy"] == metrics["boundary_iou"] == 1
    assert "mIoU 100.00" in done.stdout and "change" in done.stdout
    assert (tmp_path / "out" / "per_image.csv").is_file() and (tmp_path / "out" / "run.json").is_file()


def test_a_missing_label_is_told_and_the_rest_scored(tmp_path):
    write_set(tmp_path)
    (tmp_path / "labels" / "img_01.png").unlink()
    command = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out"]
    done = run_script("evaluate_enhanced.py", "--pred", tmp_path / "labels", *command)
    assert done.returncode == 1 and "scores are over 5 of 6 images" in done.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 5


def test_check_tells_errors_from_warnings(tmp_path):
    ids = write_set(tmp_path)
    command = ["--labels", tmp_path / "labels", "--list", tmp_path / "list.txt", "--out", tmp_path / "out"]
    tags = tmp_path / "tags.csv"
    tags.write_text("".join(f"{image_id},1,2,5\n" for image_id in ids[1:]) + f"{ids[0]},3\n")
    write_label(tmp_path / "labels" / "extra.png", np.zeros((3, 3), np.uint8))
    write_label(tmp_path / "labels" / f"{ids[2]}.png", np.zeros((40, 52), np.uint8))
    done = run_script("check_pseudo_label.py", *command, "--image-labels", tags)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    assert report["surplus"] == ["extra"] and report["warnings"]["empty"] == [ids[2]]
    assert [ids[0], "bird"] in report["warnings"]["tagged class missing"]
    assert any(item[0] == ids[0] for item in report["warnings"]["excluded class"])
    (tmp_path / "labels" / f"{ids[1]}.png").unlink()
    write_label(tmp_path / "labels" / f"{ids[3]}.png", np.full((40, 52), 99, np.uint8))
    done = run_script("check_pseudo_label.py", *command, "--gt", tmp_path / "gt")
    assert done.returncode == 1
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    assert set(report["errors"]) == {ids[1], ids[3]} and report["scores"]["images"] == 4
