"""Processes: the shards of a list, devices, and DeepLabV3+ trained by two processes as by one with twice the batch."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, run_script, run_two

from util.runtime import distributed
from util.runtime.errors import InputError

torch = pytest.importorskip("torch")


def test_shards_cover_everything_once():
    items = list(range(11))
    shards = [distributed.Dist(rank, 4, rank, torch.device("cpu")).shard(items) for rank in range(4)]
    assert sorted(sum(shards, [])) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_alone_without_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    dist = distributed.init("cpu")
    assert (dist.rank, dist.world, dist.is_main, dist.device.type) == (0, 1, True, "cpu")
    assert dist.gather("x") == ["x"] and dist.broadcast("y") == "y"
    dist.barrier()
    distributed.cleanup()


@pytest.mark.parametrize("capability, name", [((7, 0), "cuda"), ((7, 0), "auto"), ((7, 5), "cuda"), ((12, 0), "auto")])
def test_a_gpu_that_torch_was_not_built_for_is_named(monkeypatch, capability, name):
    gpu = {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "Tesla V100",
        "get_arch_list": ["sm_75", "sm_120"],
    }
    for function, answer in {**gpu, "get_device_capability": capability}.items():
        monkeypatch.setattr(torch.cuda, function, lambda *device, answer=answer: answer)
    if capability == (7, 0):
        with pytest.raises(InputError, match=r"Tesla V100: this torch .* CUDA 12\.6.* --device cpu"):
            distributed.choose_device(name)
    else:
        assert distributed.choose_device(name).type == "cuda"


@pytest.mark.parametrize("driver, hidden, reported", [(True, False, True), (True, True, False), (False, False, False)])
def test_a_gpu_that_torch_does_not_find_is_reported(monkeypatch, capsys, driver, hidden, reported):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(distributed.shutil, "which", lambda name: "nvidia-smi.exe" if driver else None)
    for name in ("RANK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert distributed.choose_device("auto").type == "cpu"
    assert ("the CPU is used" in capsys.readouterr().err) == reported


@pytest.mark.parametrize(
    "device, world, fails, left",
    [
        ("cuda", 4, True, False),
        ("cuda", 4, False, True),
        ("cuda", 1, True, True),
        ("cpu", 4, True, True),
    ],
)
def test_a_process_that_fails_among_gpus_does_not_wait_for_the_others(monkeypatch, device, world, fails, left):
    called = []
    monkeypatch.setattr(distributed, "cleanup", lambda: called.append(True))
    with contextlib.suppress(InputError), distributed.Dist(1, world, 1, torch.device(device)):
        if fails:
            raise InputError("the disk is full")
    assert bool(called) == left


_FAILS = """
import atexit, torch
from util.runtime.cli import run
from util.runtime.distributed import Dist
from util.runtime.errors import InputError

def main():
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    atexit.register(print, "the end of Python was waited for")
    with Dist(0, 2, 0, torch.device("cuda")):
        raise InputError("the disk is full")

run(main)
"""


def test_it_says_why_and_ends_at_once():
    done = subprocess.run([sys.executable, "-c", _FAILS], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: the disk is full\n")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "tpu:0", ""])
def test_unknown_device_is_an_input_error(name):
    with pytest.raises(InputError, match="--device"):
        distributed.choose_device(name)


# Steps of a narrow network on fixed images; every process prints nothing and saves what it has.
_STEPS = """
import sys
import torch
from torch import nn
sys.path.insert(0, {root!r})
from models.common.preprocessing import IMAGENET
from models.segmentation.recipe import SegmentationRecipe
from models.segmentation.training import SegmentationTask, trainer_of
from timm.layers.norm_act import BatchNormAct2d
from util.data.voc import class_table
from util.runtime import distributed

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), BatchNormAct2d(8))
        self.segmentation_head = nn.Sequential(nn.Conv2d(8, 4, 1), nn.Upsample(scale_factor=2, mode="bilinear"))

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))

class Images(torch.utils.data.Dataset):
    ids = [str(n) for n in range(24)]

    def __len__(self):
        return 24

    def __getitem__(self, item):
        generator = torch.Generator().manual_seed(item[0])
        image = torch.randint(0, 256 // (1 + item[0] % 3), (3, 16, 16), generator=generator, dtype=torch.uint8)
        label = torch.randint(0, 4, (16, 16), generator=generator, dtype=torch.uint8)
        label[: item[0] % 12] = 255   # so that processes differ in their number of valid pixels
        return item[0], image, label

torch.set_num_threads(1)
torch.manual_seed(0)
dist = distributed.init("cpu")
net = Net()
sync = sys.argv[3] == "sync"
recipe = SegmentationRecipe(steps=6, batch_size=int(sys.argv[2]), lr=0.05, warm_up=1 / 3, clip_norm=1.0)
task = SegmentationTask(recipe, class_table("abcd"), {{}}, IMAGENET, dist)
trainer = trainer_of(net, task, Images(), workers=0, sync_norm=sync)
if not sync:
    net.train = lambda mode=True: nn.Module.train(net, False)   # fixed statistics: gradients alone are compared
losses = []
trainer.run(lambda best: None, log=lambda name, value, step: losses.append(value) if name == "loss" else None)
torch.save({{"net": net.state_dict(), "loss": losses}}, sys.argv[1] + str(dist.rank))
distributed.cleanup()
"""


def _train(script: Path, out: Path, batch: int, norm: str, processes: int) -> list[dict]:
    done = (run_script if processes == 1 else run_two)(script, out, batch, norm)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(f"{out}{rank}", weights_only=True) for rank in range(processes)]


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["sync", "fixed"])
def test_two_processes_equal_one_with_twice_the_batch(tmp_path, norm):
    script = tmp_path / "steps.py"
    script.write_text(_STEPS.format(root=str(ROOT)))
    (one,) = _train(script, tmp_path / "one", 8, norm, 1)
    two = _train(script, tmp_path / "two", 4, norm, 2)
    for rank in two:
        assert rank["loss"] == pytest.approx(one["loss"], rel=1e-4)
        for name, value in one["net"].items():
            torch.testing.assert_close(rank["net"][name], value, rtol=1e-3, atol=1e-5, msg=name)
