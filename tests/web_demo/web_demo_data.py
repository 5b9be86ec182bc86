"""What the tests of the web demo work with: a small network, images, a merge stage's folders, and bad files."""

import io
import struct
import zlib

import numpy as np
from helpers import ROOT
from PIL import Image

from util.data.labels import write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.data.synthetic import CLASSES, image_of
from util.runtime import checkpoint

APP = ROOT / "Web_demo" / "src" / "app.py"
NAMES = CLASSES.names


def write_checkpoint(path, **changes):
    """A DeepLabV3+ that was never trained, with a head so strong that its masks show many classes."""
    import torch

    from models.segmentation import deeplabv3

    torch.manual_seed(3)
    net = deeplabv3.build(len(CLASSES), "mobilenet_v2")
    net.segmentation_head[0].weight.data.mul_(50_000)
    config = {"encoder": "mobilenet_v2", "output_stride": 16}
    score = {"miou": 0.4321, "pixel_accuracy": 0.9}
    content = deeplabv3.checkpoint_content(net.state_dict(), config, CLASSES, score)
    checkpoint.save(path, {**content, **changes})
    return path


def drawn(height=120, width=160, seed=0):
    """uint8 HxWx3."""
    return np.asarray(Image.fromarray(image_of("photo", seed=seed, side=160)[0]).resize((width, height)))


def encoded(pixels, format="JPEG", **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG of one colour and of any size, in a few hundred kilobytes at most: rows of one bit a pixel, all zero."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width // 8 + 2) * height), 9)
    start = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def rotated():
    """A JPEG that lies on its side and says so in its EXIF data; upright it is 120 wide and 160 high."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(drawn(), exif=exif)


def animated_gif():
    """Two images in one GIF."""
    frames = [Image.fromarray(drawn(seed=seed)) for seed in (0, 1)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def write_merge_data(folder, count=3):
    """labels/, masks/, images/, gt/ and list.txt of generated images; the labels are eroded ground truth."""
    rng = np.random.default_rng(0)
    ids = [f"shape_{number}" for number in range(count)]
    (folder / "images").mkdir(parents=True)
    for image_id in ids:
        pixels, truth = image_of(image_id, seed=0, side=96)
        Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
        label = np.where(rng.random(truth.shape) < 0.3, 0, truth).astype(np.uint8)
        masks = np.stack([truth == value for value in np.unique(truth)])
        write_label(folder / "gt" / f"{image_id}.png", truth)
        write_label(folder / "labels" / f"{image_id}.png", label)
        write_masks(
            folder / "masks" / f"{image_id}.json",
            Masks.from_dense(masks, np.linspace(0.5, 0.9, len(masks)), np.full(len(masks), 0.8)),
            image_id,
            f"{image_id}.png",
        )
    (folder / "list.txt").write_text("\n".join(ids) + "\n")
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    return ids


def lab_options(folder):
    """The demo's options for `write_merge_data`."""
    return [
        "--pseudo-path",
        folder / "labels",
        "--sam-path",
        folder / "masks",
        "--images-path",
        folder / "images",
        "--gt-dir",
        folder / "gt",
        "--image-list",
        folder / "list.txt",
        "--class-names",
        folder / "class_names.txt",
    ]


def write_runs(out, folders):
    """A comparison with scores, and a training's curves, of `write_merge_data`'s folders; returns ``out``."""
    from util.data.voc import load_classes
    from util.evaluation.comparison import compare_labels, write_comparison
    from util.evaluation.evaluate import evaluate_labels, write_evaluation
    from util.runtime.files import write_json

    classes = load_classes(folders / "class_names.txt")
    ids = ["shape_0", "shape_1", "shape_2"]
    before = evaluate_labels(folders / "labels", folders / "gt", ids, classes, workers=1)
    after = evaluate_labels(folders / "gt", folders / "gt", ids, classes, workers=1)
    comparison = compare_labels(before, {"perfect": after}, {"perfect": 0.01})
    write_comparison(comparison, out / "merge", "drawn train")
    write_evaluation(after, out / "merge" / "perfect.metrics.json", out / "merge" / "perfect.per_image.csv")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(out / "training") as writer:
        for step in range(5):
            writer.add_scalar("loss", 1 / (step + 1), 10 * step)
            writer.add_scalar("share of time waiting for data", 0.5, 10 * step)
    write_json(
        out / "training" / "sweep.json", {"curve": [{"threshold": 0.1, "miou": 0.5}, {"threshold": 0.2, "miou": 0.6}]}
    )
    write_json(out / "training" / "run.json", {"command": ["train"]})
    return out
