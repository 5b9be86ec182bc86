"""The training loop: what differs from machine to machine must not differ in the result, or is named."""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, run_two
from PIL import Image

from util.data.labels import write_label
from util.runtime import checkpoint
from util.runtime.cli import INTERRUPTED

torch = pytest.importorskip("torch")

from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.data import DataLoader, Dataset

from models.cam.plain_cam import PlainCAMOutput, feature_affinity, random_walk
from models.cam.transcam import TransCAMOutput, refine_by_attention
from models.common import precision, run
from models.common.order import StepOrder
from models.common.recipe import Recipe
from models.common.training import Trainer, _start_worker
from util.runtime.distributed import Dist, cleanup
from util.runtime.errors import InputError
from util.runtime.parallel import LostWorker, start_worker

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Empty(Dataset):
    ids = ["a", "b"]

    def __len__(self):
        return 2

    def __getitem__(self, item):
        return item[0], torch.zeros(3, 4, 4, dtype=torch.uint8)


class ConstantTask:
    def parameter_groups(self, net):
        return [{"params": list(net.parameters()), "lr": 0.1}]

    def train_mode(self, net):
        net.train()


# --- several processes --------------------------------------------------------------------------------------------

# One network in two processes: parameters that nothing reaches, fewer images than both take, one held-out image, and an
# interrupt of one of the two.
_PROCESSES = """
import json, os, signal, sys, time
from typing import NamedTuple
import numpy as np
import torch
from torch import nn
sys.path.insert(0, {root!r})
from PIL import Image
from models.cam.data import Augmentation, TaggedImages
from models.cam.training import ClassificationTask
from models.common.preprocessing import IMAGENET
from models.common.recipe import Recipe
from models.common.training import Trainer
from util.data.voc import class_table
from util.runtime import distributed
from pathlib import Path

class Output(NamedTuple):  # as the classifiers' outputs are
    logits: torch.Tensor

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.never = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 4)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, images, with_attention):
        return Output(self.head(self.norm(self.body(images)).relu().mean((2, 3))))

    def parameter_groups(self, lr):
        return [{{"params": list(self.parameters()), "lr": lr}}]


torch.set_num_threads(1)
torch.manual_seed(0)
dist = distributed.init("cpu")
folder = Path(sys.argv[1])
tags = {{f"p{{n}}": (n % 2 + 1,) for n in range(3)}}

class Interrupting(TaggedImages):
    def __getitem__(self, item):
        self.asked = getattr(self, "asked", 0) + 1
        if dist.rank == 0:  # late for every step
            time.sleep(0.05)
        if self.asked == 20 and dist.rank == 1:  # in the fifth batch of four
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(item)

augmentation = Augmentation(32, (32, 40))
data = Interrupting(list(tags), folder, tags, 3, augmentation, 0)
held_out = TaggedImages(["p0"], folder, tags, 3, augmentation, None)
recipe = Recipe(steps=8, batch_size=4, lr=1e-2, measure_every=3)
task = ClassificationTask(recipe, class_table("abc"), IMAGENET, dist, held_out)
saved = []
trainer = Trainer(Net(), task, data, recipe, dist, workers=0)
try:
    trainer.run(lambda best: saved.append(trainer.progress.step))
    end = "finished"
except KeyboardInterrupt:
    end = "interrupted"
state = {{name: value.tolist() for name, value in trainer.net.state_dict().items()}}
result = {{"end": end, "saved": saved, "history": trainer.progress.history, "state": state}}
(folder / f"{{dist.rank}}.json").write_text(json.dumps(result))
distributed.cleanup()
"""


@pytest.mark.slow
def test_two_processes_agree_on_interrupts_scores_and_weights_whatever_each_of_them_has(tmp_path):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{number}.png")
    script = tmp_path / "processes.py"
    script.write_text(_PROCESSES.format(root=str(ROOT)))
    done = run_two(script, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["end"] == second["end"] == "interrupted"
    assert first["saved"] == second["saved"] == [3, 5], "both after the step in which one of them was asked"
    assert [entry["step"] for entry in first["history"]] == [3] and first["history"][0]["map"] == 1.0
    assert first == second


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "setpgid"), reason="process groups are POSIX's")
def test_torchrun_passes_an_interrupt_on_and_the_state_is_saved_with_loader_workers_at_work(tmp_path):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{number}.png")
        write_label(tmp_path / "labels" / f"p{number}.png", pixels[..., 0] // 128)
    (tmp_path / "list.txt").write_text("".join(f"p{number}\n" for number in range(4)))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        ROOT / "train_deeplabv3.py",
    ]
    command += [
        "--images",
        tmp_path,
        "--labels",
        tmp_path / "labels",
        "--list",
        tmp_path / "list.txt",
        "--out",
        tmp_path / "out",
    ]
    # EfficientNet's last layers are not used: their parameters must not stop DistributedDataParallel at the second step.
    command += ["--encoder", "efficientnet-b0", "--encoder-weights", "none", "--crop-size", "32", "--batch-size", "2"]
    command += ["--workers", "1", "--device", "cpu", "--num-classes", "2", "--steps", "100000", "--save-minutes", "0"]
    with open(tmp_path / "log", "wb") as log:
        run = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        while not (tmp_path / "out" / "last.pth").exists():
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.2)
        run.terminate()
        run.wait(600)
    finally:
        run.kill()
    text = (tmp_path / "log").read_text()
    assert text.count(INTERRUPTED) == 1 and "DataLoader worker" not in text, text[-3000:]
    assert checkpoint.load(tmp_path / "out" / "last.pth")["training"]["progress"]["step"] >= 11


def test_a_set_smaller_than_a_batch_of_all_processes_still_gives_full_batches():
    for rank in range(8):
        batches = list(StepOrder(5, 4, 3, seed=0, rank=rank, world=8))
        assert [len(batch) for batch in batches] == [4, 4, 4]


class ProcessGroups(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        return torch.tensor([os.getpid(), os.getpgid(0)])


@pytest.mark.skipif(not hasattr(os, "setpgid"), reason="process groups are POSIX's")
@pytest.mark.parametrize("start", [_start_worker, start_worker], ids=["training", "others"])
def test_loader_workers_are_not_in_the_group_that_torchrun_signals(start):
    for ((process, group),) in DataLoader(ProcessGroups(), num_workers=1, worker_init_fn=start):
        assert process == group != os.getpgid(0)


def test_a_barrier_of_gpus_names_its_gpu(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.distributed, "barrier", lambda device_ids: asked.append(device_ids))
    Dist(1, 2, 1, GPU).barrier()
    Dist(1, 2, 1, CPU).barrier()
    Dist(0, 1, 0, CPU).barrier()
    assert asked == [[1], None]


class OlderWrapper:
    """As DistributedDataParallel is before torch 2.13."""

    def __init__(
        self, module, device_ids=None, gradient_as_bucket_view=False, static_graph=False, broadcast_buffers=True
    ):
        self.broadcast_buffers = broadcast_buffers


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.filterwarnings("error")
def test_no_step_of_several_processes_sends_buffers_whatever_torch_calls_that(monkeypatch, older):
    if older:
        monkeypatch.setattr(nn.parallel, "DistributedDataParallel", OlderWrapper)
    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        recipe = Recipe(steps=2, batch_size=2, lr=0.1)
        trainer = Trainer(Constant(), ConstantTask(), Empty(), recipe, Dist(0, 2, 0, CPU), workers=0)
        assert trainer._running.broadcast_buffers is False
    finally:
        cleanup()


# --- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native, expected", [(True, "bf16"), (False, "fp16")])
def test_a_gpu_that_emulates_bfloat16_gets_float16(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert precision.choose_precision("--amp", "auto", Dist(0, 1, 0, GPU)) == expected


def test_what_refines_cams_is_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 5, size, size, generator=generator).bfloat16() for size in (8, 4)]
    cam = torch.randn(2, 3, 4, 4, generator=generator).bfloat16()
    attention = torch.rand(2, 17, 17, generator=generator)
    affinity = feature_affinity(features)
    expected = random_walk(cam, affinity), refine_by_attention(cam, attention)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(feature_affinity(features), affinity)
        plain = PlainCAMOutput(cam.mean((2, 3)), cam, affinity).cam
        refined = TransCAMOutput(cam.mean((2, 3)), cam.mean((2, 3)), cam, attention).cam
    assert plain.dtype == refined.dtype == torch.float32
    assert torch.equal(plain, expected[0]) and torch.equal(refined, expected[1][:, 1:])


# --- resuming and memory ------------------------------------------------------------------------------------------


def test_a_resumed_run_has_the_same_precision_and_number_of_processes_but_may_have_moved(tmp_path):
    args = argparse.Namespace(
        images=tmp_path, out=tmp_path, workers=3, device="auto", overwrite=False, amp="auto", lr=0.1, seed=0
    )
    recipe = run.resolve(Recipe(steps=4, batch_size=2, lr=0.1, amp="auto"), Dist(0, 1, 0, CPU))
    assert recipe.amp == "off"

    def options(recipe=recipe, world=1, **changes):
        changed = argparse.Namespace(**{**vars(args), **changes})
        return run.resume_options(changed, recipe, Dist(0, world, 0, CPU), run.__file__)

    before = options()
    assert before["amp"] == "off" and before == options(images=Path("/elsewhere"), workers=0, device="cuda:0")
    for other in (options(world=2), options(replace(recipe, amp="bf16")), options(replace(recipe, steps=5))):
        assert other != before


def test_a_resumed_run_has_the_same_weights_to_start_from_wherever_they_are(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    torch.save({"w": torch.zeros(1)}, tmp_path / "c.pth")
    recipe = Recipe(steps=4, batch_size=2, lr=0.1)
    first, same, other = (
        run.resume_options(argparse.Namespace(encoder_weights=str(file)), recipe, Dist(0, 1, 0, CPU), run.__file__)
        for file in (tmp_path / "a.pth", tmp_path / "b.pth", tmp_path / "c.pth")
    )
    assert first == same != other
    with pytest.raises(InputError, match="none.pth: no checkpoint here"):
        run.resume_options(
            argparse.Namespace(encoder_weights=f"{tmp_path}/none.pth"), recipe, Dist(0, 1, 0, CPU), run.__file__
        )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_names_the_option_to_change(monkeypatch, error):
    def fail(trainer, *batch):
        raise error

    monkeypatch.setattr(Trainer, "step", fail)
    recipe = Recipe(steps=2, batch_size=2, lr=0.1)
    trainer = Trainer(Constant(), ConstantTask(), Empty(), recipe, Dist(0, 1, 0, CPU), workers=0)
    with pytest.raises(InputError, match="2 images per step.*lower --batch-size"):
        trainer.run(lambda best: None)


@pytest.mark.parametrize("asked", [True, False])
def test_an_interrupt_that_ends_a_worker_that_is_not_set_up_yet_saves_all_the_same(monkeypatch, asked):
    saved = []
    recipe = Recipe(steps=2, batch_size=2, lr=0.1)
    trainer = Trainer(Constant(), ConstantTask(), Empty(), recipe, Dist(0, 1, 0, CPU), workers=0)

    def lose():
        trainer.interrupts.asked = asked
        raise LostWorker("a loader's worker process ran out of memory")
        yield

    monkeypatch.setattr(trainer, "_batches", lose)
    with pytest.raises(KeyboardInterrupt if asked else LostWorker):
        trainer.run(saved.append)
    assert saved == ([False] if asked else [])


def test_other_errors_of_a_step_stay_what_they_are(monkeypatch):
    def fail(trainer, *batch):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "step", fail)
    recipe = Recipe(steps=2, batch_size=2, lr=0.1)
    trainer = Trainer(Constant(), ConstantTask(), Empty(), recipe, Dist(0, 1, 0, CPU), workers=0)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer.run(lambda best: None)


@pytest.mark.parametrize(
    "every, expected", [(0, [10]), (4, [4, 8, 10]), (2.5, [3, 5, 8, 10]), (0.3, list(range(1, 11)))]
)
def test_measurements_are_due_at_the_ends_of_epochs(every, expected):
    recipe = Recipe(steps=10, batch_size=2, lr=0.1, measure_every=every)
    assert [step for step in range(1, 11) if recipe.measures_after(step)] == expected
