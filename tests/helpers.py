"""Small data for the tests: random labels, masks and folders of them, and a way to run a script."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warm

from util.data.labels import write_label
from util.data.mask_files import write_masks
from util.data.masks import Masks
from util.runtime.cli import run

ROOT = Path(__file__).resolve().parent.parent
PYTHONPATH = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # with what --as-windows adds


PREPARE = {"quickstart.py": warm.fork_stages}


def run_script(name, *args, cwd=None, prepare=None, cold=False):
    """Run a script of the project as a user would; gives the finished process with its texts.

    It is forked from a process that has imported torch, unless it is to start ``cold``, with a Python of its own.
    ``prepare`` is called in the forked process before the script.
    """
    if warm.CAN_FORK and not cold:
        return warm.finish(ROOT / name, args, prepare or PREPARE.get(name), cwd)
    if prepare:
        pytest.skip("what is changed in a script needs a forked process")
    command = [sys.executable, str(ROOT / name), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd)


def run_two(name, *args):
    """Run a script as torchrun runs it on two processes; gives what the first printed."""
    if warm.CAN_FORK:
        return warm.finish_two(ROOT / name, args)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run([*launcher, str(ROOT / name), *map(str, args)], capture_output=True, text=True, timeout=600)


def blob(rng, height, width):
    """A bool ellipse at a random place."""
    y, x = np.ogrid[:height, :width]
    cy, cx = rng.integers(height), rng.integers(width)
    ry, rx = rng.integers(2, max(3, height // 2)), rng.integers(2, max(3, width // 2))
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def random_label(rng, height=40, width=52, classes=(1, 2, 5), void=False):
    """uint8 HxW with overlapping blobs."""
    label = np.zeros((height, width), np.uint8)
    for value in classes:
        label[blob(rng, height, width)] = value
    if void:
        label[rng.random(label.shape) < 0.05] = 255
    return label


def random_masks(rng, height=40, width=52, count=12):
    """Masks of random blobs with random scores."""
    dense = np.zeros((count, height, width), bool)
    for k in range(count):
        dense[k] = blob(rng, height, width)
    return Masks.from_dense(dense, rng.random(count), rng.random(count))


def write_set(folder, count=6, seed=0):
    """Folders labels/, masks/, gt/ and list.txt with random content; returns the ids."""
    rng = np.random.default_rng(seed)
    ids = [f"img_{index:02}" for index in range(count)]
    for image_id in ids:
        write_label(folder / "labels" / f"{image_id}.png", random_label(rng))
        write_label(folder / "gt" / f"{image_id}.png", random_label(rng, void=True))
        write_masks(folder / "masks" / f"{image_id}.json", random_masks(rng), image_id, f"{image_id}.jpg")
    (folder / "list.txt").write_text("\n".join(ids) + "\n")
    return ids


def tiny_network(path, names, encoder="mobilenet_v2", **config):
    """Save a checkpoint of DeepLabV3+ with random weights that sees more than one class in patches and noise."""
    import torch
    from torch.nn.functional import interpolate

    from models.segmentation import deeplabv3
    from util.data.voc import class_table
    from util.runtime import checkpoint

    torch.manual_seed(0)
    net = deeplabv3.build(len(names), encoder)
    # Statistics of patches in batch norm, without which an untrained network sees one class everywhere.
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    net(interpolate(torch.randn(8, 3, 6, 6), size=(96, 96), mode="bilinear") + 0.3 * torch.randn(8, 3, 96, 96))
    config = {"encoder": encoder, "output_stride": 16, **config}
    checkpoint.save(path, deeplabv3.checkpoint_content(net.state_dict(), config, class_table(names), None))


def call_script(script, monkeypatch, capsys, *options):
    """Run the ``main`` of an imported script in this process, as a user would; gives the same as `run_script`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, options)])
    capsys.readouterr()
    try:
        run(script.main)
    except SystemExit as ended:
        texts = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, ended.code, texts.out, texts.err)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
