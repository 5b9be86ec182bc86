"""What a person with a GPU runs: ``pytest -m gpu -n 0``. With WSSS_TEST_DEVICE=cpu it is rehearsed without one."""

import os
import signal
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from helpers import ROOT, run_script
from sam_reference import OPTIONS, small_sam
from segment_anything import sam_model_registry

import train_deeplabv3
from models.common.preprocessing import IMAGENET
from models.common.training import Trainer
from models.sam.generator import MaskGenerator
from models.segmentation import deeplabv3
from models.segmentation.recipe import SegmentationRecipe
from models.segmentation.training import SegmentationTask, trainer_of
from util.data.synthetic import write_data_set
from util.data.voc import load_classes
from util.runtime import checkpoint
from util.runtime.distributed import Dist

DEVICE = os.environ.get("WSSS_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data_set(folder, {"train": 8, "val": 4}, side=96)
    return folder


@pytest.fixture
def forbidden():
    """Within, whatever makes the host wait for the GPU is an error."""
    if DEVICE != "cpu":
        torch.cuda.set_sync_debug_mode("error")
    yield
    if DEVICE != "cpu":
        torch.cuda.set_sync_debug_mode("default")


def succeeds(script, *options):
    done = run_script(script, *options)
    assert done.returncode == 0, f"{script}:\n{done.stdout[-1500:]}{done.stderr[-3000:]}"


def training_options(data, out, *more):
    lists = data / "ImageSets" / "Segmentation"
    return [
        *("--images", data / "JPEGImages", "--labels", data / "SegmentationClassAug", "--list", lists / "train.txt"),
        *("--encoder-weights", "none", "--crop-size", 64, "--batch-size", 2, "--workers", 1, "--out", out, *more),
    ]


def test_each_script_once(data, tmp_path):
    """In the order in which they need each other."""
    images, lists = ["--images", data / "JPEGImages"], data / "ImageSets" / "Segmentation"
    listed, tags = ["--list", lists / "train.txt"], ["--image-labels", data / "cls_labels.npy"]
    device, truth = ["--device", DEVICE], ["--gt", data / "SegmentationClassAug"]
    cls, deeplab, masks = tmp_path / "cls", tmp_path / "deeplab", tmp_path / "masks"
    small = ["--crop-size", 64, "--batch-size", 4, "--workers", 1, "--epochs", 1]
    tiny = ["--arch", "tiny", "--weights", "none"]
    held_out = ["--val-list", lists / "val.txt"]
    for method, more in {"cam": ["--encoder-weights", "none"], "transcam": tiny}.items():
        out = cls / method
        options = [
            *images,
            *listed,
            *held_out,
            *tags,
            *device,
            *small,
            "--method",
            method,
            *more,
            "--long-side",
            64,
            96,
        ]
        succeeds("train_transcam.py", *options, "--out", out)
        options = [*images, *listed, *tags, *device, "--sizes", 64, 96, "--refine", "par", "--workers", 1]
        succeeds("generate_cams.py", "--checkpoint", out / "last.pth", *options, "--out", out / "cams")
    options = ["--model", "regions"]
    if DEVICE != "cpu":  # where it takes minutes
        torch.save(sam_model_registry["vit_b"]().state_dict(), tmp_path / "vit_b.pth")
        options = [
            "--model",
            "vit_b",
            "--checkpoint",
            tmp_path / "vit_b.pth",
            "--points-per-side",
            4,
            "--encode-batch",
            2,
        ]
        options += ["--pred-iou-thresh", 0, "--stability-score-thresh", 0, "--box-nms-thresh", 1]
    succeeds("generate_sam_masks.py", *images, *listed, *device, *options, "--out", masks)
    merge = ["--pseudo-path", cls / "cam" / "cams" / "labels", "--sam-path", masks, "--image-list", lists / "train.txt"]
    succeeds("main.py", "--mode", "merge", "--method", "max_iou_imp2", *merge, "--out", tmp_path / "merged")
    validation = [*held_out, "--val-gt", data / "SegmentationClassAug", "--val-every", 1, "--steps", 4]
    succeeds("train_deeplabv3.py", *training_options(data, deeplab, *validation, *device))
    options = ["--checkpoint", deeplab / "best.pth", *images, *device, "--amp", "auto", "--flip"]
    succeeds("predict.py", *options, "--out", tmp_path / "predictions")
    evaluation = [*truth, "--list", lists / "val.txt", "--postprocess", "pixel-adaptive"]
    succeeds("evaluate_enhanced.py", *options, *evaluation, "--out", tmp_path / "scores")
    assert (tmp_path / "scores" / "metrics.json").is_file()


@pytest.mark.parametrize("encoder", ["efficientnet-b0", "resnet18"])
def test_two_gpus_train_together(data, tmp_path, encoder):
    if DEVICE == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    options = training_options(data, tmp_path, "--encoder", encoder, "--steps", 12, "--device", DEVICE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(ROOT / "train_deeplabv3.py"), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    content = checkpoint.load(tmp_path / "last.pth")
    assert content["training"]["progress"]["step"] == 12
    assert all(value.isfinite().all() for value in content["model"].values())


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_training_step_never_waits(amp, forbidden):
    device = torch.device(DEVICE)
    dist = Dist(0, 1, 0, device)
    recipe = SegmentationRecipe(steps=100, batch_size=2, amp=amp, ema=0.9, clip_norm=1.0)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    labels = torch.randint(0, 21, (2, 64, 64), dtype=torch.uint8)
    if DEVICE != "cpu":
        torch.cuda.set_sync_debug_mode("default")
        images, labels = images.pin_memory(), labels.pin_memory()
    net = deeplabv3.build(21, "resnet18").to(device)
    task = SegmentationTask(recipe, load_classes(), {}, IMAGENET, dist)
    trainer = trainer_of(net, task, range(2), workers=0)
    trainer.read_steps = 100
    task.train_mode(net)
    for step in range(6):
        if step == 2 and DEVICE != "cpu":
            torch.cuda.set_sync_debug_mode("error")
        trainer.step(torch.arange(2), images, labels)
        trainer.progress.step += 1


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_point_batch_waits_only_where_it_means_to(precision, forbidden, monkeypatch):
    """Its two waits are copies into pinned memory that are waited for by name; whatever else waits is an error."""
    if DEVICE != "cpu":
        torch.cuda.set_sync_debug_mode("default")
    generator = MaskGenerator(small_sam().to(DEVICE), OPTIONS, precision=precision)
    image = torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8).numpy()
    list(generator.generate([image]))  # sets things up
    search, batches = generator._search_points, []

    def strictly(*arguments):
        if DEVICE != "cpu":
            torch.cuda.set_sync_debug_mode("error")
        batches.append(search(*arguments))
        if DEVICE != "cpu":
            torch.cuda.set_sync_debug_mode("default")
        return batches[-1]

    monkeypatch.setattr(generator, "_search_points", strictly)
    list(generator.generate([image]))
    assert len(batches) == 5


def test_masks_are_those_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # torch's default would move one or two masks
    image = torch.randint(0, 256, (60, 90, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    expected, found = (next(MaskGenerator(small_sam().to(d), OPTIONS).generate([image])) for d in ("cpu", DEVICE))
    assert abs(len(found) - len(expected)) <= 0.05 * len(expected)


def test_a_resumed_run_ends_with_the_same_bits_when_deterministic(data, tmp_path, monkeypatch):
    def train(out):
        options = training_options(data, tmp_path / out, "--encoder", "resnet18", "--steps", 20, "--device", DEVICE)
        monkeypatch.setattr(sys, "argv", ["train_deeplabv3.py", *map(str, options), "--deterministic", "--ema", "0.9"])
        return train_deeplabv3.main()

    step = Trainer.step

    def stop(trainer, *batch):
        loss = step(trainer, *batch)
        if trainer.progress.step == 12:
            signal.raise_signal(signal.SIGINT)
        return loss

    try:
        assert train("straight") == 0
        monkeypatch.setattr(Trainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train("stopped")
        monkeypatch.setattr(Trainer, "step", step)
        assert train("stopped") == 0
    finally:
        torch.use_deterministic_algorithms(False)
    one, other = (checkpoint.load(tmp_path / name / "last.pth") for name in ("straight", "stopped"))
    for name, value in one["training"]["net"].items():
        assert torch.equal(value, other["training"]["net"][name]), name
