"""Training and CAM generation on small images: data, resume, inference, and both scripts."""

import importlib
import json
import os
import random
import signal
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
smp = pytest.importorskip("segmentation_models_pytorch")

from models.cam.classifier import build
from models.cam.data import Augmentation, TaggedImages
from models.cam.inference import ScaledImages, multi_scale_cams, stretch
from models.cam.plain_cam import PlainCAM, feature_affinity, random_walk
from models.cam.training import ClassificationTask, average_precision
from models.common.preprocessing import IMAGENET
from models.common.recipe import Recipe
from models.common.training import Trainer
from util.data.cams import read_cam
from util.data.image_labels import write_image_labels
from util.data.labels import read_label, write_label
from util.data.voc import class_table
from util.runtime import distributed
from util.runtime.errors import InputError

CLASSES = class_table(("background", "red", "blue"))
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path):
    """Twelve grey images with a red or a blue square, their tags, ground truth and list."""
    generator = np.random.default_rng(0)
    tags = {}
    for number in range(12):
        image = generator.integers(100, 140, (48, 64, 3)).astype(np.uint8)
        top, left = generator.integers(0, 24), generator.integers(0, 40)
        value = number % 2 + 1
        image[top : top + 24, left : left + 24] = (220, 20, 20) if value == 1 else (20, 20, 220)
        truth = np.zeros((48, 64), np.uint8)
        truth[top : top + 24, left : left + 24] = value
        image_id = f"p{number:02}"
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{image_id}.png")
        write_label(tmp_path / "gt" / f"{image_id}.png", truth)
        tags[image_id] = (value,)
    write_image_labels(tmp_path / "tags.csv", tags, CLASSES)
    (tmp_path / "list.txt").write_text("\n".join(tags) + "\n")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES.names) + "\n")
    return tmp_path, tags


# --- networks and data ------------------------------------------------------------------------------------------------


def test_plain_cam_shapes_and_what_is_frozen():
    net = PlainCAM(3, "mobilenet_v2").train()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert "classifier.weight" in trained and "encoder.features.7.conv.0.0.weight" in trained
    assert not any(name.startswith("encoder.features.6.") for name in trained)
    assert all(parameter.requires_grad for parameter in PlainCAM(3, "mobilenet_v2", frozen=False).parameters())
    norms = [module for module in net.encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    with torch.inference_mode():
        output = net(torch.randn(2, 3, 64, 90))
    assert output.logits.shape == (2, 2) and output.cam.shape == (2, 2, 4, 6)
    torch.testing.assert_close(output.logits, output.conv_cam.mean(dim=(2, 3)))
    with pytest.raises(InputError, match="--encoder nonsense"):
        PlainCAM(3, "nonsense")


def test_affinity_rows_sum_to_one_and_join_what_looks_alike():
    features = torch.zeros(1, 2, 2, 4)
    features[:, 0, :, :2] = features[:, 1, :, 2:] = 1.0  # left and right halves differ
    affinity = feature_affinity([features, features])
    torch.testing.assert_close(affinity.sum(dim=2), torch.ones(1, 8))
    cam = torch.zeros(1, 1, 2, 4)
    cam[..., 0, 0], cam[..., 1, 3] = 4.0, -8.0
    walked = random_walk(cam, affinity, 3)[0, 0]
    torch.testing.assert_close(walked, torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0]]), atol=1e-5, rtol=0)
    assert torch.isfinite(feature_affinity([torch.ones(1, 2, 2, 2)])).all()


def test_augmentation_depends_on_the_generator_alone():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    augment = Augmentation(64, (40, 90))
    first, again, other = (augment(image, random.Random(seed)) for seed in (1, 1, 2))
    assert first.shape == (64, 64, 3) and np.array_equal(first, again) and not np.array_equal(first, other)


def test_average_precision_by_hand():
    scores, truth = np.array([[0.9, 1], [0.8, 2], [0.7, 3]]), np.array([[1, 0], [0, 0], [1, 0]])
    result = average_precision(scores, truth)
    assert result[0] == pytest.approx((1 + 2 / 3) / 2) and np.isnan(result[1])


# --- training ---------------------------------------------------------------------------------------------------------


def make_trainer(folder, tags, data_class=TaggedImages):
    torch.manual_seed(0)
    size = dict(base_channels=16, embed_dim=24, depth=6, heads=2, drop_path=0.5)
    net = build({"method": "transcam", "num_classes": 3, "size": size})
    data = data_class(list(tags), folder / "images", tags, 3, Augmentation(32, (32, 48)), seed=3)
    recipe = Recipe(steps=6, batch_size=4, lr=1e-3, weight_decay=1e-3, seed=3, measure_every=3)
    dist = distributed.init("cpu")
    return net, Trainer(net, ClassificationTask(recipe, CLASSES, IMAGENET, dist), data, recipe, dist, workers=0)


class Interrupting(TaggedImages):
    """Sends Ctrl-C while the second batch of the second epoch is loaded."""

    def __getitem__(self, item):
        if item[1] == 1:
            self.seen = getattr(self, "seen", 0) + 1
            if self.seen == 6:
                os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(item)


def test_an_interrupted_run_goes_on_to_the_same_weights(place):
    folder, tags = place
    straight, trainer = make_trainer(folder, tags)
    trainer.run(lambda best: None)
    losses = [entry["loss"] for entry in trainer.progress.history]

    net, trainer = make_trainer(folder, tags, Interrupting)
    saved = {}

    def save(best):
        saved.update(model={n: v.clone() for n, v in net.state_dict().items()}, trainer=trainer.state())

    with pytest.raises(KeyboardInterrupt):
        trainer.run(save)
    assert saved["trainer"]["progress"]["step"] == 5 and len(saved["trainer"]["progress"]["history"]) == 1

    resumed, trainer = make_trainer(folder, tags)
    torch.rand(7)  # what else a process does with its random numbers must not matter
    resumed.load_state_dict(saved["model"])
    trainer.load_state(saved["trainer"])
    trainer.run(lambda best: None)
    assert [entry["loss"] for entry in trainer.progress.history] == pytest.approx(losses, abs=0)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


# --- inference --------------------------------------------------------------------------------------------------------


class Brightness(torch.nn.Module):
    """In the place of a classifier: class 1's map is red, class 2's is blue, a 16th of the size."""

    normalization = IMAGENET

    def forward(self, images, with_attention):
        maps = torch.nn.functional.avg_pool2d(images, 16)[:, [0, 2]]
        return SimpleNamespace(raw_cam=maps, cam=maps.clamp(min=0) ** 2 if with_attention else None)


def test_maps_land_where_the_image_has_them_whatever_its_size_and_company(place):
    folder, tags = place
    wide = np.full((40, 90, 3), 10, np.uint8)
    wide[:, 60:, 0] = 250
    Image.fromarray(wide).save(folder / "images" / "wide.png")
    data = ScaledImages(["wide", "p00", "p01"], folder / "images", (64, 100), square=False)
    items = [data[number] for number in range(3)]

    def cams(numbers, raw=False):
        chosen = [items[number] for number in numbers]
        return multi_scale_cams(
            Brightness(),
            [item[2] for item in chosen],
            [item[1] for item in chosen],
            [(1,)] * len(chosen),
            True,
            torch.device("cpu"),
            raw=raw,
        )

    alone, together = cams([0])[0], cams([0, 1, 2])[0]
    assert list(alone) == [1] and alone[1].shape == (40, 90) and alone[1].dtype == np.float32
    np.testing.assert_allclose(alone[1], together[1], atol=1e-5)
    assert alone[1].min() == 0 and alone[1].max() == pytest.approx(1)
    assert alone[1][10:30, 68:80].min() > 0.4 and alone[1][:, :45].max() < 0.2
    assert not np.allclose(cams([0], raw=True)[0][1], alone[1], atol=1e-3)


def test_stretch_clips_and_survives_empty_maps():
    maps = torch.tensor([[[-1.0, 0.0, 3.0]], [[-1.0, -2.0, -3.0]], [[1.0, 2.0, 3.0]]])
    assert stretch(maps).tolist() == [[[0, 0, 1]], [[0, 0, 0]], [[0, 0.5, 1]]]


# --- the scripts ------------------------------------------------------------------------------------------------------


def call(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
    return importlib.import_module(script).main() or 0


def common(folder):
    return [
        "--images",
        folder / "images",
        "--list",
        folder / "list.txt",
        "--image-labels",
        folder / "tags.csv",
        "--class-names",
        folder / "classes.txt",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]


@pytest.mark.slow
def test_from_tags_to_labels_and_every_kind_of_rerun(place, monkeypatch, capsys):
    folder, tags = place
    train = [
        *common(folder),
        "--method",
        "cam",
        "--encoder",
        "resnet18",
        "--encoder-weights",
        "none",
        "--epochs",
        "2",
        "--batch-size",
        "4",
        "--crop-size",
        "32",
        "--long-side",
        "32",
        "48",
        "--val-list",
        folder / "list.txt",
        "--out",
        folder / "run",
    ]
    assert call(monkeypatch, "train_transcam", *train) == 0
    history = json.loads((folder / "run" / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2] and history[-1]["loss"] < history[0]["loss"]
    assert {"last.pth", "best.pth", "run.json"} <= set(os.listdir(folder / "run"))
    assert call(monkeypatch, "train_transcam", *train) == 0  # trained already: nothing to do
    assert "6 of 6 steps" in capsys.readouterr().out
    with pytest.raises(InputError, match="epochs: 2, now 3"):
        call(monkeypatch, "train_transcam", *train, "--epochs", "3")

    (folder / "images" / "p05.png").write_bytes(b"no image")
    cams = [
        *common(folder),
        "--checkpoint",
        folder / "run" / "last.pth",
        "--sizes",
        "64",
        "--out",
        folder / "cams",
        "--refine",
        "par",
    ]
    assert (
        call(monkeypatch, "generate_cams", *cams, "--bg-threshold", "0.05") == 1
    )  # p05 is reported, the others are done
    assert "p05" in capsys.readouterr().err
    labels = folder / "cams" / "labels"
    assert {path.stem for path in labels.glob("*.png")} == set(tags) - {"p05"}
    label = read_label(labels / "p00.png", 3)
    assert label.shape == (48, 64) and set(np.unique(label)) <= {0, *tags["p00"]}
    soft = read_cam(folder / "cams" / "cams", "p00")
    refined = read_cam(folder / "cams" / "cams_par", "p00")
    assert list(soft) == list(refined) == [1] and soft[1].max() == refined[1].max() == pytest.approx(1)
    assert not np.allclose(soft[1], refined[1], atol=1e-3)

    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / "images" / "p05.png")
    before = {path: path.stat().st_mtime_ns for path in (folder / "cams" / "cams").glob("*.npy")}
    damaged = folder / "cams" / "cams_par" / "p01.npy"
    damaged.write_bytes(b"")
    assert call(monkeypatch, "generate_cams", *cams, "--bg-threshold", "0.9") == 0
    after = {path: path.stat().st_mtime_ns for path in (folder / "cams" / "cams").glob("*.npy")}
    assert {path.stem for path in set(after) - set(before)} == {"p05"}
    # Another threshold leaves the CAMs alone, and p05 is made with the others of its batch.
    assert {path.stem for path, time in before.items() if after[path] != time} == {"p04", "p06", "p07"}
    assert damaged.stat().st_size > 0
    assert (read_label(labels / "p00.png") > 0).sum() < (label > 0).sum()

    sweep = [*cams, "--sweep", "--gt", folder / "gt"]
    assert call(monkeypatch, "generate_cams", *sweep) == 0
    found = json.loads((folder / "cams" / "sweep.json").read_text())
    assert found["miou"] == max(point["miou"] for point in found["curve"]) and found["images"] == 12
    assert f"--bg-threshold {found['best']}" in capsys.readouterr().out


def test_transcam_from_scratch_to_labels_with_tags_of_every_kind(place, monkeypatch):
    folder, tags = place
    (folder / "list.txt").write_text("p00\np01\np02\np03\n")
    train = [
        *common(folder),
        "--arch",
        "tiny",
        "--weights",
        "none",
        "--epochs",
        "1",
        "--batch-size",
        "2",
        "--crop-size",
        "32",
        "--long-side",
        "32",
        "48",
        "--out",
        folder / "run",
    ]
    assert call(monkeypatch, "train_transcam", *train) == 0
    write_image_labels(folder / "tags.npy", tags, CLASSES)
    (folder / "Annotations").mkdir()
    for image_id, (value,) in tags.items():
        objects = f"<object><name>{CLASSES.names[value]}</name></object>"
        (folder / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")

    def cams(name, *more):
        arguments = [*common(folder), "--checkpoint", folder / "run" / "last.pth", "--sizes", "32", "48"]
        assert call(monkeypatch, "generate_cams", *arguments, "--out", folder / name, *more) == 0
        return {image_id: read_cam(folder / name / "cams", image_id) for image_id in ("p00", "p01", "p02", "p03")}

    by_csv = cams("csv")
    for name, path in (("npy", "tags.npy"), ("xml", "Annotations")):
        for image_id, cam in cams(name, "--image-labels", folder / path).items():
            assert list(cam) == list(by_csv[image_id]) == list(tags[image_id])
            assert all(np.array_equal(cam[value], by_csv[image_id][value]) for value in cam)
    raw = cams("raw", "--raw")
    assert not np.allclose(raw["p00"][1], by_csv["p00"][1], atol=1e-3)
    assert raw["p00"][1].shape == (48, 64) and (folder / "raw" / "labels" / "p03.png").exists()


def test_an_id_without_tags_stops_training_with_its_name(place, monkeypatch):
    folder, _ = place
    with open(folder / "list.txt", "a") as file:
        file.write("p99\n")
    with pytest.raises(InputError, match="1 of the 13 ids .* the first: p99"):
        call(monkeypatch, "train_transcam", *common(folder), "--method", "cam", "--out", folder / "run")


def test_ground_truth_is_refused_where_labels_are_made(place, monkeypatch, capsys):
    folder, _ = place
    with pytest.raises(SystemExit):
        call(monkeypatch, "generate_cams", *common(folder), "--checkpoint", "x", "--out", "y", "--gt", folder / "gt")
    assert "made without ground truth" in capsys.readouterr().err


def test_soft_cams_of_another_repository_become_labels(place, monkeypatch, capsys):
    """Kept as IRN keeps them, at a quarter of the size, with a map of a class that the image does not show."""
    folder, tags = place
    generator, irn = np.random.default_rng(0), folder / "irn"
    irn.mkdir()
    for image_id, (value,) in tags.items():
        maps = generator.random((2, 12, 16)).astype(np.float32)
        np.save(irn / f"{image_id}.npy", {"keys": np.array([value - 1, value % 2]), "cam": maps})
    given = [*common(folder), "--cams", irn, "--bg-threshold", "0.4", "--out", folder / "out"]
    assert call(monkeypatch, "generate_cams", *given, "--refine", "par") == 0
    for image_id, (value,) in tags.items():
        cam, source = read_cam(folder / "out/cams", image_id), read_cam(irn, image_id)[value]
        assert list(cam) == [value]
        assert np.array_equal(cam[value], cv2.resize(source, (64, 48), interpolation=cv2.INTER_LINEAR))
        assert set(np.unique(read_label(folder / f"out/labels/{image_id}.png"))) <= {0, value}
    assert call(monkeypatch, "generate_cams", *given, "--sweep", "--gt", folder / "gt") == 0
    label = folder / "out/labels/p00.png"
    before = label.stat().st_mtime_ns
    assert call(monkeypatch, "generate_cams", *given, "--refine", "par") == 0 and label.stat().st_mtime_ns == before
    np.save(irn / "p00.npy", {tags["p00"][0] - 1: np.ones((48, 64), np.float32)})
    assert call(monkeypatch, "generate_cams", *given) == 0 and (read_label(label) == tags["p00"][0]).all()

    capsys.readouterr()
    np.save(irn / "p01.npy", {tags["p01"][0] - 1: np.ones((40, 40), np.float32)})
    (irn / "p02.npy").unlink()
    assert call(monkeypatch, "generate_cams", *given) == 1
    said = capsys.readouterr().err
    assert "p01: the soft CAM of class" in said and "other proportions" in said and "p02: " in said
    assert not (folder / "out/cams/p02.npy").exists() and not (folder / "out/labels/p02.png").exists()
    with pytest.raises(InputError, match="these are results of --out"):
        call(monkeypatch, "generate_cams", *common(folder), "--cams", folder / "out/cams", "--out", folder / "out")
    for image_id, (value,) in tags.items():  # counted from 1, with the background's map
        np.save(irn / f"{image_id}.npy", {0: np.zeros((48, 64), np.float32), value: np.ones((48, 64), np.float32)})
    with pytest.raises(InputError, match="counted from 1|none of"):
        call(monkeypatch, "generate_cams", *given)
    with pytest.raises(SystemExit):
        call(monkeypatch, "generate_cams", *given, "--sizes", "64")
    assert "--sizes, --shape, --raw and --no-flip are for the network" in capsys.readouterr().err
