import csv
import json

import numpy as np
import pytest
from helpers import call_script, run_script, write_set
from PIL import Image

import evaluate_enhanced
from util.data.labels import read_label, write_label
from util.data.voc import class_table, load_classes
from util.evaluation.evaluate import evaluate_labels
from util.evaluation.published import published_of_image, published_of_images, published_scores


def test_label_folder_with_a_baseline(tmp_path):
    write_set(tmp_path)
    command = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out", "--boundary"]
    done = run_script("evaluate_enhanced.py", "--pred", tmp_path / "gt", "--baseline", tmp_path / "labels", *command)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["miou"] == metrics["pixel_accuracy"] == metrics["boundary_iou"] == 1
    assert "mIoU 100.00" in done.stdout and "change" in done.stdout
    assert (tmp_path / "out" / "per_image.csv").is_file() and (tmp_path / "out" / "run.json").is_file()


def test_a_missing_label_is_reported_and_the_rest_scored(tmp_path):
    write_set(tmp_path)
    (tmp_path / "labels" / "img_01.png").unlink()
    command = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out"]
    done = run_script("evaluate_enhanced.py", "--pred", tmp_path / "labels", *command)
    assert done.returncode == 1 and "scores are over 5 of 6 images" in done.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 5


def test_a_baseline_of_fewer_images_has_no_change(tmp_path):
    ids = write_set(tmp_path)
    (tmp_path / "labels" / f"{ids[1]}.png").unlink()
    command = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out"]
    done = run_script("evaluate_enhanced.py", "--pred", tmp_path / "gt", "--baseline", tmp_path / "labels", *command)
    assert done.returncode == 1 and "no change is shown" in done.stdout and "Traceback" not in done.stderr


def test_a_baseline_of_0_and_255_is_refused(tmp_path):
    for image_id in write_set(tmp_path):
        write_label(tmp_path / "masks" / f"{image_id}.png", np.full((4, 4), 255, np.uint8))
    command = ["--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out"]
    done = run_script("evaluate_enhanced.py", "--pred", tmp_path / "gt", "--baseline", tmp_path / "masks", *command)
    assert done.returncode == 2 and "no pixel of a foreground class" in done.stderr


def test_a_check_of_labels_none_of_which_can_be_read_ends_without_scores(tmp_path):
    for image_id in write_set(tmp_path):
        (tmp_path / "labels" / f"{image_id}.png").write_bytes(b"no image")
    command = ["--labels", tmp_path / "labels", "--gt", tmp_path / "gt", "--list", tmp_path / "list.txt"]
    done = run_script("check_pseudo_label.py", *command, "--num-classes", 6)
    assert done.returncode == 1 and "6 errors" in done.stdout and "Traceback" not in done.stderr


@pytest.fixture
def network(tmp_path):
    """A folder as `write_set` makes it, with images, and the path of a checkpoint with random weights."""
    torch = pytest.importorskip("torch")
    from models.segmentation import deeplabv3
    from util.runtime import checkpoint

    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for image_id in write_set(tmp_path):
        Image.fromarray(rng.integers(0, 256, (40, 52, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{image_id}.png")
    torch.manual_seed(0)
    net = deeplabv3.build(6, "mobilenet_v2")
    # Statistics of noise in batch norm, without which an untrained network sees one class everywhere.
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    net(torch.randn(4, 3, 64, 64))
    names = ["background", *(f"class {number}" for number in range(1, 6))]
    config = {"encoder": "mobilenet_v2", "output_stride": 16}
    checkpoint.save(
        tmp_path / "net.pth",
        deeplabv3.checkpoint_content(net.state_dict(), config, class_table(names), None),
    )
    return tmp_path


def evaluate_network(folder, out, *more):
    """The arguments of an evaluation of the network of `network`."""
    data = ["--images", folder / "images", "--gt", folder / "gt", "--list", folder / "list.txt"]
    return ["--checkpoint", folder / "net.pth", *data, "--workers", 1, "--device", "cpu", "--out", folder / out, *more]


def test_scales_mirroring_and_post_processing_change_predictions(network, monkeypatch, capsys):
    rich = ["--scales", 0.5, 1, "--flip", "--postprocess", "pixel-adaptive"]
    for out, options in (("plain", []), ("alone", rich)):
        done = call_script(evaluate_enhanced, monkeypatch, capsys, *evaluate_network(network, out, *options))
        assert done.returncode == 0 and "boundary IoU" in done.stdout
    scores = {name: json.loads((network / name / "metrics.json").read_text()) for name in ("plain", "alone")}
    for values in scores["alone"]["per_class"].values():
        assert {"iou", "precision", "recall"} <= set(values)
    assert scores["alone"]["images"] == 6 and 0 <= scores["alone"]["boundary_iou"] <= 1
    assert 0 < scores["alone"]["pixel_accuracy"] < 1
    for image_id in (network / "list.txt").read_text().split():
        labels = {out: read_label(network / out / "predictions" / "labels" / f"{image_id}.png", 6) for out in scores}
        assert labels["alone"].shape == (40, 52)
        assert (labels["alone"] != labels["plain"]).any()
        assert (network / "alone" / "predictions" / "overlays" / f"{image_id}.jpg").is_file()


def test_network_goes_on_after_a_image_that_cannot_be_read(network, monkeypatch, capsys):
    (network / "images" / "img_02.png").write_bytes(b"no image")
    done = call_script(evaluate_enhanced, monkeypatch, capsys, *evaluate_network(network, "out"))
    assert done.returncode == 1 and "img_02" in done.stderr
    assert json.loads((network / "out" / "metrics.json").read_text())["images"] == 5


@pytest.mark.parametrize(
    "swapped, message",
    [
        (["--gt", "images", "--images", "gt"], "fit the list"),
        (["--class-names", "few.txt"], "the command asks for background, thing"),
        (["--gt", "other"], "label values 9 with 6 classes"),
        (["--classes", "cat"], "cat"),
    ],
)
def test_ground_truth_that_does_not_fit_is_refused_before_the_network_runs(
    network, monkeypatch, capsys, swapped, message
):
    for path in (network / "images").iterdir():
        path.rename(path.with_suffix(".jpg"))
    (network / "few.txt").write_text("background\nthing\n")
    for image_id in (network / "list.txt").read_text().split():
        write_label(network / "other" / f"{image_id}.png", np.full((40, 52), 9, np.uint8))
    more = [network / word if (network / word).exists() else word for word in swapped]
    done = call_script(evaluate_enhanced, monkeypatch, capsys, *evaluate_network(network, "out", *more))
    assert done.returncode == 2 and message in done.stderr
    assert not (network / "out/predictions").exists()


def test_the_change_from_a_baseline_has_an_interval_and_absent_classes_are_named(tmp_path, monkeypatch, capsys):
    write_set(tmp_path)
    (tmp_path / "names.txt").write_text("background\na\nb\nc\nd\ne\nf\n")
    labels = ["--pred", tmp_path / "gt", "--baseline", tmp_path / "labels", "--gt", tmp_path / "gt"]
    more = ["--list", tmp_path / "list.txt", "--class-names", tmp_path / "names.txt", "--classes", "a,b,f"]
    command = [*labels, *more, "--workers", 0, "--out", tmp_path / "out"]
    done = call_script(evaluate_enhanced, monkeypatch, capsys, *command)
    assert done.returncode == 0
    found = json.loads((tmp_path / "out/metrics.json").read_text())["baseline"]
    low, high = found["interval_95"]
    assert 0 < low <= found["change"] <= high and found["miou"] + found["change"] == 1
    assert (
        f"change of mIoU {100 * found['change']:+.2f}, 95 % interval over the images {100 * low:+.2f} .. "
        in done.stdout
    )
    assert "not in the ground truth, and so not in the means: f\n" in done.stdout


def test_check_distinguishes_errors_from_warnings(tmp_path):
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


def test_the_published_score_by_hand():
    """Two classes: sums of the first, then of both; three digits; void in the ground truth left out."""
    counts = np.zeros((3, 4), np.int64)
    counts[1] = [0, 6, 0, 4]  # ten pixels of class 1, four of them predicted as void
    counts[2] = [5, 2, 3, 0]
    iou, precision, recall = published_of_image(counts)
    assert iou == round((6 / (10 + 8 - 6) + 9 / (20 + 11 - 9)) / 2, 3)
    assert precision == round((6 / 8 + 9 / 11) / 2, 3) and recall == round((6 / 10 + 9 / 20) / 2, 3)


def test_the_published_score_stands_beside_ours(tmp_path):
    write_set(tmp_path)
    command = ["--pred", tmp_path / "labels", "--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--workers", 1]
    plain = run_script("evaluate_enhanced.py", *command, "--out", tmp_path / "plain")
    done = run_script("evaluate_enhanced.py", *command, "--out", tmp_path / "out", "--as-published")
    assert done.returncode == plain.returncode == 0, done.stderr
    assert "which is not mIoU" in done.stdout and "which is not mIoU" not in plain.stdout
    ours = list(csv.reader((tmp_path / "plain" / "per_image.csv").open()))
    both = list(csv.reader((tmp_path / "out" / "per_image.csv").open()))
    assert [row[:-3] for row in both] == ours
    names = ["as_published_iou", "as_published_precision", "as_published_recall"]
    assert both[0][-3:] == names
    scores = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for name, column in zip(names, zip(*(row[-3:] for row in both[1:]))):
        mean = scores["as_published"][name.removeprefix("as_published_")]
        assert mean == pytest.approx(np.mean([float(value) for value in column]))
        assert 0 < mean < 1 and all(len(value) == 5 for value in column)


@pytest.mark.slow
def test_the_ancestor_s_file_is_computed_again(voc12):
    rows = csv.DictReader((voc12.parent / "facts" / "ancestor_max_iou_imp2_per_image.csv").open())
    expected = {
        row["name"]: tuple(float(row[f"pseudo_{name}"]) for name in ("mIoU", "mprecision", "mrecall")) for row in rows
    }
    result = evaluate_labels(
        voc12 / "pseudo_labels" / "transcam", voc12 / "SegmentationClassAug", list(expected), load_classes(), workers=2
    )
    assert published_of_images(result) == expected
    scores = published_scores(result)
    assert [f"{scores[name]:.3f}" for name in ("iou", "precision", "recall")] == ["0.711", "0.805", "0.847"]
