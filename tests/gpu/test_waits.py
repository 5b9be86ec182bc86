"""How often the host waits for a GPU, counted on one that is pretended."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pretend_gpu import GPU, WithBackward, pretended_gpu
from sam_reference import changed, small_sam
from torch import nn

from models.cam.inference import multi_scale_cams
from models.cam.plain_cam import PlainCAM
from models.cam.training import ClassificationTask
from models.common.preprocessing import IMAGENET
from models.common.recipe import Recipe
from models.common.training import LOG_STEPS, NotFinite, Trainer
from models.sam.generator import MaskGenerator
from models.segmentation.inference import PixelNetwork, Segmenter
from models.segmentation.losses import LOSSES
from models.segmentation.recipe import SegmentationRecipe
from models.segmentation.training import SegmentationTask, trainer_of
from util.data.voc import load_classes
from util.runtime.distributed import Dist

ALONE = Dist(0, 1, 0, GPU)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # that there is no GPU


class Named:
    """What the loop asks of a data set whose batches are given to it."""

    ids = [f"p{number}" for number in range(4)]

    def __len__(self):
        return 4


def noise(side=32):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, side, side), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 21, (4, side, side), generator=generator, dtype=torch.uint8)


class Narrow(nn.Module):
    """DeepLabV3+'s parts, narrow."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.Dropout2d(), nn.BatchNorm2d(8), nn.ReLU())
        self.segmentation_head = nn.Sequential(nn.Conv2d(8, 21, 1), nn.Upsample(scale_factor=2, mode="bilinear"))

    def forward(self, pixels):
        return self.segmentation_head(self.decoder(self.encoder(pixels)))


def segmentation_trainer(net, dist=ALONE, **changes):
    recipe = SegmentationRecipe(**{"steps": 100, "batch_size": 4, **changes})
    task = SegmentationTask(recipe, load_classes(), {}, IMAGENET, dist)
    trainer = trainer_of(net, task, Named(), workers=0)
    task.train_mode(net)
    return trainer


def ten_steps(trainer, gpu, *batch):
    """Ten steps, after ten that set things up."""
    for step in range(2 * LOG_STEPS):
        if step == LOG_STEPS:
            gpu.waits.clear()
        trainer.step(torch.arange(4), *batch)
        trainer.progress.step += 1


# --- training ------------------------------------------------------------------------------------------------------

RECIPES = [{"loss": loss} for loss in LOSSES] + [{"ema": 0.9, "clip_norm": 1.0, "optimizer": "adamw", "amp": "fp16"}]


@pytest.mark.parametrize("changes", RECIPES, ids=str)
def test_ten_training_steps_wait_once(changes):
    with pretended_gpu() as gpu:
        trainer = segmentation_trainer(Narrow().to(GPU), **changes)
        ten_steps(trainer, gpu, *noise())
    most = 11 if changes.get("loss") == "online-mined" else 1  # how many pixels it keeps depends on how many are void
    print(f"\nDeepLabV3+, {changes}, 10 steps: {dict(gpu.waits)}")
    assert 0 < gpu.waits.total() <= most
    assert trainer.progress.step == trainer.progress.loss_count == 2 * LOG_STEPS


def test_ten_steps_of_a_classifier_wait_once():
    recipe = Recipe(steps=100, batch_size=4, lr=1e-3)
    with pretended_gpu() as gpu:
        net = PlainCAM(21, "resnet18").to(GPU)
        trainer = Trainer(
            net, ClassificationTask(recipe, load_classes(), IMAGENET, ALONE), Named(), recipe, ALONE, workers=0
        )
        ten_steps(trainer, gpu, noise()[0], torch.ones(4, 20), torch.ones(4), [""] * 4)
    print(f"\nclassifier, 10 steps: {dict(gpu.waits)}")
    assert gpu.waits.total() == 1


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("loss", ["cross-entropy", "symmetric", "bootstrapped"])
def test_no_backward_pass_waits(loss, amp):
    dist = Dist(0, 1, 0, torch.device("cpu"))
    trainer = segmentation_trainer(Narrow(), dist, loss=loss, amp=amp, ema=0.9, clip_norm=1.0, warm_up=0.5)
    trainer.read_steps = LOG_STEPS
    with WithBackward() as seen:
        ten_steps(trainer, seen, *noise())
    assert not seen.waits.total(), seen.waits


@pytest.mark.parametrize("bad", [3, 10, 11])
def test_a_loss_that_is_not_a_number_is_seen_before_anything_is_saved(bad):
    """Losses are looked at every ten steps, and before every save."""

    class Sometimes(Named):
        def __getitem__(self, item):
            return item[0], torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(32, 32, dtype=torch.uint8)

    recipe = SegmentationRecipe(steps=20, batch_size=4, measure_every=12)
    dist = Dist(0, 1, 0, torch.device("cpu"))
    task = SegmentationTask(recipe, load_classes(), {}, IMAGENET, dist)
    trainer = trainer_of(Narrow(), task, Sometimes(), workers=0)
    trainer.read_steps = LOG_STEPS
    exact, saved = task.loss, []
    task.loss = lambda output, *targets: exact(
        output * float("nan" if trainer.progress.step + 1 == bad else 1), *targets
    )
    with pytest.raises(NotFinite, match=rf"not a number at step {bad}, in the batch of p\d, p\d, p\d, p\d\."):
        trainer.run(lambda best: saved.append(trainer.progress.step))
    assert not saved and trainer.progress.step == (9 if bad <= 10 else 12)
    assert trainer.progress.loss_count == bad - 1


def test_losses_are_the_same_however_seldom_they_are_looked_at():
    found = []
    for every in (1, LOG_STEPS):
        torch.manual_seed(0)
        trainer = segmentation_trainer(Narrow(), Dist(0, 1, 0, torch.device("cpu")))
        trainer.read_steps = every
        losses = []
        for _ in range(LOG_STEPS):
            losses.append(trainer.step(torch.arange(4), *noise()).item())
            trainer.progress.step += 1
        found.append((losses, trainer.progress))
    assert found[0] == found[1] and found[0][1].loss_sum == pytest.approx(sum(found[0][0]))


# --- masks, label maps, CAMs ---------------------------------------------------------------------------------------


def blobs(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def counted(gpu, work):
    """``work``, with what each call waits for in the list that comes with it."""
    seen = []

    def call(*args):
        before = gpu.waits.copy()
        result = work(*args)
        seen.append(gpu.waits - before)
        return result

    return call, seen


@pytest.mark.parametrize("crops", [0, 1])
def test_a_point_batch_waits_twice_and_an_image_a_few_times_more(monkeypatch, crops):
    options = changed(crop_n_layers=crops)
    expected = next(MaskGenerator(small_sam(), options).generate([blobs(60, 90)]))
    with pretended_gpu() as gpu:
        generator = MaskGenerator(small_sam().to(GPU), options)
        search, batches = counted(gpu, generator._search_points)
        monkeypatch.setattr(generator, "_search_points", search)
        gpu.waits.clear()
        masks = next(generator.generate([blobs(60, 90)]))
    rest = gpu.waits.total() - sum(batch.total() for batch in batches)
    print(
        f"\nSAM, point batch: {dict(batches[0])}; image of {1 + 4 * crops} crops but for them: {rest}, {dict(gpu.waits)}"
    )
    assert max(batch.total() for batch in batches) == 2
    assert rest <= 5 + 14 * crops
    assert len(masks) == len(expected) > 10 and masks.counts() == expected.counts()


def test_an_image_is_segmented_with_one_wait_and_two_bytes_of_each_pixel():
    image = blobs(60, 90)
    with pretended_gpu() as gpu:
        segmenter = Segmenter(PixelNetwork(Narrow(), IMAGENET), load_classes(), {"working_size": 64}, None, GPU)
        for views in ({}, {"flip": True}, {"scales": (0.5, 1.0), "flip": True}, {"allowed": (0, 3, 5)}):
            gpu.waits.clear()
            gpu.bytes_to_host = 0
            found = segmenter.segment(image, **views)
            print(
                f"\nsegmentation, {views}: {dict(gpu.waits)}, {gpu.bytes_to_host / image[..., 0].size} bytes per pixel"
            )
            assert gpu.waits.total() == 1 and gpu.bytes_to_host == 2 * 60 * 90
            expected = on_cpu(segmenter).segment(image, **views)
            assert (found.label == expected.label).mean() > 0.999
            assert np.abs(found.confidence.astype(int) - expected.confidence).max() <= 1


def on_cpu(segmenter):
    """The same network where it can be checked."""
    net = Narrow()
    net.load_state_dict({name: value.cpu() for name, value in segmenter.net.net.state_dict().items()})
    return Segmenter(PixelNetwork(net, IMAGENET), segmenter.classes, segmenter.config, None, torch.device("cpu"))


@pytest.mark.parametrize("method", ["cam", "raw"])
@pytest.mark.parametrize("images", [1, 4])
def test_a_batch_of_cams_waits_once(images, method):
    sizes = [(48, 64), (96, 128)]
    inputs = [[torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes] for _ in range(images)]
    tags = [(8, 15), (), (3,), (20, 1)][:images]
    net = PlainCAM(21, "mobilenet_v2").eval()
    cpu = torch.device("cpu")
    expected = multi_scale_cams(net, inputs, [(48, 64)] * images, tags, True, cpu, raw=method == "raw")
    with pretended_gpu() as gpu:
        net.to(GPU)
        for _ in range(2):  # the first sets things up
            gpu.waits.clear()
            found = multi_scale_cams(net, inputs, [(48, 64)] * images, tags, True, GPU, raw=method == "raw")
    print(f"\nCAMs of {images} image(s): {dict(gpu.waits)}")
    assert gpu.waits.total() == 1
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for value in one:
            np.testing.assert_allclose(one[value], other[value], atol=1e-4)
