"""Many processes: a pretended group of eight, and two real ones."""

import inspect
import json
import re

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from helpers import run_two, tiny_network
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.modules import _functions
from torch.testing._internal.distributed.fake_pg import FakeStore

from models.cam.data import Augmentation, TaggedImages
from models.cam.plain_cam import PlainCAMOutput
from models.cam.training import ClassificationTask
from models.common.preprocessing import IMAGENET
from models.common.recipe import Recipe
from models.common.sync_norm import GpuSyncBatchNorm, with_synchronised_norm
from models.common.training import Trainer
from models.segmentation import deeplabv3
from util.data.voc import class_table
from util.runtime.distributed import Dist, cleanup

CPU, WORLD = torch.device("cpu"), 8


@pytest.fixture
def rank_of_eight():
    """Joins a group of eight processes, of which there is no other: collectives return at once."""

    def join(rank, device=CPU):
        cleanup()
        torch.distributed.init_process_group("fake", rank=rank, world_size=WORLD, store=FakeStore())
        return Dist(rank, WORLD, rank, device)

    yield join
    cleanup()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, images, with_attention):
        maps = self.head(self.norm(self.body(images)).relu())
        return PlainCAMOutput(maps.mean((2, 3)), maps, None)

    def parameter_groups(self, lr):
        return [{"params": list(self.parameters()), "lr": lr}]


@pytest.mark.parametrize("rank", range(WORLD))
def test_each_of_eight_trains_on_five_images_and_scores_three(rank_of_eight, tmp_path, monkeypatch, rank):
    """Fewer images than a step of all of them takes, and fewer held-out images than processes."""
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda net, *args, **options: net)
    dist = rank_of_eight(rank)
    tags = {f"p{number}": (number % 2 + 1,) for number in range(5)}
    for image_id in tags:
        Image.fromarray(np.full((32, 40, 3), 99, np.uint8)).save(tmp_path / f"{image_id}.png")
    augmentation = Augmentation(32, (32, 40))
    data = TaggedImages(list(tags), tmp_path, tags, 3, augmentation, 0)
    held_out = TaggedImages(list(tags)[:3], tmp_path, tags, 3, augmentation, None)
    recipe = Recipe(steps=3, batch_size=2, lr=1e-2, measure_every=2)
    task = ClassificationTask(recipe, class_table("abc"), IMAGENET, dist, held_out)
    trainer = Trainer(Net(), task, data, recipe, dist, workers=0)
    trainer.run(lambda best: None)
    assert trainer.progress.step == 3
    assert [entry["step"] for entry in trainer.progress.history] == [2, 3]
    assert all(np.isfinite(entry["map"]) for entry in trainer.progress.history)


@pytest.mark.parametrize("count", [3, 8, 21])
def test_what_is_left_is_shared_evenly_and_once(count):
    """All that is left may have been one process's."""
    left = [{f"p{number}": number for number in range(count)}, *({} for _ in range(WORLD - 1))]

    class Knowing(Dist):
        def gather(self, value):
            return [list(part.items()) for part in left]

    shares = [Knowing(rank, WORLD, rank, CPU).share(left[rank]) for rank in range(WORLD)]
    assert {key: value for share in shares for key, value in share.items()} == left[0]
    assert sum(map(len, shares)) == count and max(map(len, shares)) - min(map(len, shares)) <= 1


def test_synchronised_norm_on_gpus_looks_for_no_process_without_images(monkeypatch):
    """torch's layer does so by three boolean masks, for which the host waits, unless a CUDA graph is captured."""
    source = inspect.getsource(_functions.SyncBatchNorm.forward)
    assert re.search(r"is_current_stream_capturing\(\)\):(\n +#.*)+\s+(#.*\s+)*mask = ", source), (
        "else ours is not needed"
    )
    seen = []

    def forward(module, images):
        seen.append(torch.cuda.is_current_stream_capturing())
        if images is None:
            raise ValueError
        return images

    monkeypatch.setattr(nn.SyncBatchNorm, "forward", forward)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    GpuSyncBatchNorm(4)(torch.zeros(1))
    with pytest.raises(ValueError):
        GpuSyncBatchNorm(4)(None)
    assert seen == [True, True] and not torch.cuda.is_current_stream_capturing()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("encoder", ["timm-mobilenetv3_small_minimal_100", "tu-resnetv2_18", "resnet18"])
def test_synchronised_norms_keep_the_activations_that_timm_puts_into_them(device, encoder):
    net = deeplabv3.build(3, encoder).eval()
    images = torch.randn(1, 3, 64, 64)
    expected, names = net(images), list(net.state_dict())
    net = with_synchronised_norm(net, torch.device(device))
    assert not any(type(module) in (nn.BatchNorm2d, BatchNormAct2d) for module in net.modules())
    assert torch.equal(net(images), expected) and list(net.state_dict()) == names


@pytest.mark.slow
def test_results_of_a_changed_option_are_made_once(tmp_path):
    """The ledgers of all processes agree: the second run of the same command makes nothing."""
    tiny_network(tmp_path / "net.pth", ["background", "red", "blue"])
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"p{number}.png")

    def made(*options):
        data = ("--checkpoint", tmp_path / "net.pth", "--images", tmp_path / "images", "--out", tmp_path / "out")
        done = run_two("predict.py", *data, "--device", "cpu", *options)
        assert done.returncode == 0, done.stderr[-3000:]
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "labels").iterdir()}

    first, changed = made(), made("--flip")
    assert len(first) == 5 and not {*first.values()} & {*changed.values()}
    assert made("--flip") == changed
    entries = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    assert sorted(entry["id"] for entry in entries) == [f"p{number}" for number in range(5)]
