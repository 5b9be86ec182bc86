"""A GPU that runs out of memory, at each place: the work is halved, or ends with exit code 2 and the option to change.

Halved encoding and decoding are tested with the mask generator, training with the training loop.
"""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from helpers import call_script, tiny_network
from sam_reference import small_sam

import generate_cams
import generate_sam_masks
import predict
import train_deeplabv3
from models.cam import classifier, inference
from models.cam.plain_cam import PlainCAM
from models.common import refine
from models.common.training import Trainer
from models.sam import checkpoints, generator
from models.segmentation.inference import Segmenter
from util.data.image_labels import write_image_labels
from util.data.labels import write_label
from util.data.voc import class_table
from util.runtime import checkpoint, distributed

CLASSES = class_table(("background", "red", "blue"))


def no_memory(*args, **options):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.fixture
def folder(tmp_path):
    """Four images with labels and tags."""
    rng = np.random.default_rng(0)
    for number in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "images" / f"p{number}.png")
        write_label(tmp_path / "labels" / f"p{number}.png", rng.integers(0, 3, (40, 50)).astype(np.uint8))
    write_image_labels(tmp_path / "tags.csv", {f"p{number}": (1,) for number in range(4)}, CLASSES)
    (tmp_path / "list.txt").write_text("".join(f"p{number}\n" for number in range(4)))
    (tmp_path / "class_names.txt").write_text("\n".join(CLASSES.names) + "\n")
    return tmp_path


def ends_with_advice(done, *words):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "out of memory" in error and "re-run to resume" in error, error
    assert all(word in error for word in words), error


@pytest.mark.parametrize("place", ["suppress", "mask_boxes", "Candidates.join", "MaskGenerator._borders"])
def test_masks(folder, monkeypatch, capsys, place):
    """Suppression and joining of masks, and coding them; boxes are made of ever fewer points before that."""
    monkeypatch.setattr(checkpoints, "load_sam", lambda path, name: (name, small_sam()))
    (folder / "sam.pth").touch()
    owner = generator
    for name in place.split(".")[:-1]:
        owner = getattr(owner, name)
    monkeypatch.setattr(owner, place.split(".")[-1], no_memory)
    options = ["--images", folder / "images", "--model", "vit_b", "--checkpoint", folder / "sam.pth", "--device", "cpu"]
    options += ["--points-per-side", 3, "--pred-iou-thresh", 0, "--stability-score-thresh", 0, "--out", folder / "out"]
    done = call_script(generate_sam_masks, monkeypatch, capsys, *options)
    if place == "mask_boxes":
        assert done.returncode == 2 and "not even hold one point's masks" in done.stderr
    else:
        ends_with_advice(done, "--points-per-batch", "--encode-batch")


@pytest.mark.parametrize(
    "module, place, words",
    [
        (inference, "multi_scale_cams", ["CAMs of 3 images at once", "--batch-size", "--sizes"]),
        (refine, "refine_maps", ["refining", "--refine"]),
    ],
)
def test_cams(folder, monkeypatch, capsys, module, place, words):
    net = PlainCAM(3, "mobilenet_v2")
    checkpoint.save(folder / "net.pth", classifier.classifier_content(net, CLASSES, None))
    monkeypatch.setattr(module, place, no_memory)
    options = ["--checkpoint", folder / "net.pth", "--images", folder / "images", "--list", folder / "list.txt"]
    options += ["--image-labels", folder / "tags.csv", "--out", folder / "out", "--workers", 0, "--device", "cpu"]
    options += ["--sizes", 64, "--batch-size", 3, "--refine", "par"]
    ends_with_advice(call_script(generate_cams, monkeypatch, capsys, *options), *words)


def test_predictions(folder, monkeypatch, capsys):
    tiny_network(folder / "net.pth", CLASSES.names)
    monkeypatch.setattr(Segmenter, "segment", no_memory)
    options = ["--checkpoint", folder / "net.pth", "--images", folder / "images", "--out", folder / "out"]
    done = call_script(predict, monkeypatch, capsys, *options, "--device", "cpu")
    ends_with_advice(done, "--long-side", "--scales")


@pytest.mark.parametrize("place, words", [("segment", ["--val-list"]), ("step", ["--batch-size", "--crop-size"])])
def test_training_and_its_scores(folder, monkeypatch, capsys, place, words):
    monkeypatch.setattr({"segment": Segmenter, "step": Trainer}[place], place, no_memory)
    options = [
        "--images",
        folder / "images",
        "--labels",
        folder / "labels",
        "--list",
        folder / "list.txt",
        "--steps",
        1,
    ]
    options += ["--val-list", folder / "list.txt", "--val-gt", folder / "labels", "--encoder-weights", "none"]
    options += ["--crop-size", 32, "--batch-size", 2, "--workers", 0, "--device", "cpu", "--out", folder / "out"]
    ends_with_advice(call_script(train_deeplabv3, monkeypatch, capsys, *options), *words)


def test_a_gpu_that_is_named_is_the_one_that_is_used(monkeypatch):
    """What names no GPU would otherwise open a context on the first."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.init("cuda:1").device == torch.device("cuda", 1) and chosen == [torch.device("cuda", 1)]
