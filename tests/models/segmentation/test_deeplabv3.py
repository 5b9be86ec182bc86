"""DeepLabV3+: the network, its losses and data, training that resumes, bad input, and prediction."""

import random
import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from util.data.labels import read_label, write_label
from util.data.voc import class_table
from util.runtime.errors import InputError

torch = pytest.importorskip("torch")

import torch.nn.functional as F

import train_deeplabv3
from models.common.order import StepOrder
from models.common.preprocessing import IMAGENET
from models.common.training import Trainer
from models.segmentation import (
    deeplabv3,
    losses,
    predict,
)
from models.segmentation import training as segmentation_training
from models.segmentation.data import CropAugmentation
from models.segmentation.options import Prediction
from models.segmentation.recipe import SegmentationRecipe
from util.evaluation.boundary import BoundaryIoU, inner_band
from util.runtime import (
    checkpoint,
    distributed,
)

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    """Eight images with a bright square of class 1 or 2, their labels, and a list of them."""
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(8):
        label = np.zeros((48, 64), np.uint8)
        top, left = generator.integers(4, 20, 2)
        label[top : top + 20, left : left + 24] = 1 + number % 2
        image = generator.integers(0, 60, (48, 64, 3), dtype=np.uint8)
        image[label == 1, 0] += 180
        image[label == 2, 2] += 180
        Image.fromarray(image).save(tmp_path / "images" / f"p{number}.png")
        write_label(tmp_path / "labels" / f"p{number}.png", label)
    (tmp_path / "list.txt").write_text("".join(f"p{number}\n" for number in range(8)))
    return tmp_path


def train(folder, monkeypatch, *more, out="run", steps=4):
    arguments = [
        "--images",
        folder / "images",
        "--labels",
        folder / "labels",
        "--list",
        folder / "list.txt",
        "--num-classes",
        3,
        "--encoder",
        "mobilenet_v2",
        "--encoder-weights",
        "none",
        "--steps",
        steps,
        "--batch-size",
        2,
        "--crop-size",
        32,
        "--workers",
        0,
        "--device",
        "cpu",
        "--out",
        folder / out,
        *more,
    ]
    monkeypatch.setattr(sys, "argv", ["train_deeplabv3.py", *map(str, arguments)])
    return train_deeplabv3.main()


# --- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoder", "stride"), [("resnet18", 8), ("resnet18", 16), ("mobilenet_v2", 8)])
def test_output_stride(encoder, stride):
    net = deeplabv3.build(3, encoder, None, stride).eval()
    features = []
    net.encoder.register_forward_hook(lambda module, inputs, outputs: features.append(outputs[-1].shape[-1]))
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)
    assert features == [64 // stride]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "no_such_net"}, "no_such_net"),
        ({"output_stride": 4}, "8 or 16"),
        ({"encoder_weights": "no_such_set"}, "no_such_set"),
    ],
)
def test_wrong_choices_are_input_errors(changes, message):
    with pytest.raises(InputError, match=message):
        deeplabv3.build(**{"num_classes": 3, "encoder": "resnet18"} | changes)


def test_weights_of_another_encoder_are_refused(tmp_path):
    torch.save(deeplabv3.build(3, "resnet18").encoder.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(InputError, match="belong to another network"):
        deeplabv3.build(3, "mobilenet_v2", str(tmp_path / "resnet.pth"))
    net = deeplabv3.build(3, "resnet18", str(tmp_path / "resnet.pth"))
    assert torch.equal(
        net.encoder.state_dict()["conv1.weight"], torch.load(tmp_path / "resnet.pth", weights_only=True)["conv1.weight"]
    )


# --- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", losses.LOSSES)
def test_void_takes_no_part(name):
    loss = losses.LOSSES[name]
    logits = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.randint(0, 4, (2, 6, 5), generator=torch.Generator().manual_seed(1))
    labels[:, :2] = 255
    total, count = loss(logits, labels)
    total.backward()
    assert not logits.grad[:, :, :2].any() and logits.grad[:, :, 2:].any()
    assert 0 < count <= 2 * 4 * 5
    total, count = loss(logits, torch.full_like(labels, 255))
    total.backward()
    assert total == 0 and count == 0


def test_losses_against_their_definitions():
    logits = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (2, 6, 5), generator=torch.Generator().manual_seed(1))
    each = F.cross_entropy(logits, labels, reduction="none")
    probability = logits.softmax(1)
    given = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    reverse = -(probability * torch.where(given > 0, 0.0, -4.0)).sum(1)
    own = -logits.log_softmax(1).max(1).values
    expected = {
        "cross-entropy": each.sum(),
        "symmetric": (each + 0.5 * reverse).sum(),
        "bootstrapped": (0.8 * each + 0.2 * own).sum(),
        "online-mined": each.flatten().sort().values[:54].sum(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses.LOSSES[name](logits, labels)[0], value, msg=name)


# --- data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 30), (90, 40), (200, 300)])
def test_crops_keep_image_and_label_together(size):
    rows, columns = np.mgrid[: size[0], : size[1]]
    label = ((rows > columns) + 1).astype(np.uint8)
    image = np.repeat((100 * label)[..., None], 3, 2)
    augment = CropAugmentation(64, jitter=0)
    for seed in range(20):
        crop, crop_label = augment(image, label, random.Random(seed))
        assert crop.shape == (64, 64, 3) and crop_label.shape == (64, 64)
        assert set(np.unique(crop_label)) <= {1, 2, 255}
        solid = cv2.erode((crop_label == 2).astype(np.uint8), np.ones((7, 7))) > 0
        assert (crop[solid] == 200).all()


def test_a_long_side_makes_large_and_small_images_look_alike():
    """An image and the same at nine times the area give the same crop; without it, a part of the large one."""
    rows, columns = np.mgrid[:60, :80]
    small = ((rows // 20 + columns // 20) % 2 + 1).astype(np.uint8)
    large = small.repeat(3, 0).repeat(3, 1)
    for seed in range(5):
        crops = [
            CropAugmentation(64, (0.8, 0.8), 0, long_side=80)(
                np.repeat((100 * label)[..., None], 3, 2), label, random.Random(seed)
            )[1]
            for label in (small, large)
        ]
        assert np.mean(crops[0] != crops[1]) < 0.06, "but for the edges"
    assert (
        CropAugmentation(64, (0.8, 0.8), 0)(np.zeros((180, 240, 3), np.uint8), large, random.Random(0))[1] < 3
    ).all()


def test_order_is_shared_and_continues():
    def batches(start=0, rank=0, world=1, batch=4):
        order = StepOrder(10, batch, 9, 3, rank, world)
        order.start = start
        return list(order)

    whole = batches()
    assert batches(start=5) == whole[5:]
    first = sum(whole, [])
    for epoch in range(3):
        assert sorted(number for number, at in first if at == epoch) == list(range(10))
    halves = [batches(rank=rank, world=2, batch=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


# --- training ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_interrupted_and_killed_runs_end_with_the_same_weights(folder, monkeypatch):
    assert train(folder, monkeypatch, "--save-minutes", 0, "--ema", 0.9, out="straight", steps=20) == 0
    step = Trainer.step

    def stopping(at, error):
        def stop(trainer, *batch):
            loss = step(trainer, *batch)
            if trainer.progress.step == at:
                error()
            return loss

        return stop

    def kill():
        raise RuntimeError("killed")

    import signal

    runs = [(5, lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt, 6), (13, kill, RuntimeError, 10)]
    for at, stop, error, saved in runs:
        monkeypatch.setattr(Trainer, "step", stopping(at, stop))
        with pytest.raises(error):
            train(folder, monkeypatch, "--save-minutes", 0, "--ema", 0.9, out="stopped", steps=20)
        assert checkpoint.load(folder / "stopped" / "last.pth")["training"]["progress"]["step"] == saved
    monkeypatch.setattr(Trainer, "step", step)
    assert train(folder, monkeypatch, "--save-minutes", 0, "--ema", 0.9, out="stopped", steps=20) == 0
    one, other = (checkpoint.load(folder / name / "last.pth") for name in ("straight", "stopped"))
    histories = [content["training"]["progress"]["history"] for content in (one, other)]
    assert histories[0] == histories[1] and [entry["step"] for entry in histories[0]] == list(range(1, 21))
    for part in ("model", "training"):
        flat = {"model": lambda c: c["model"], "training": lambda c: c["training"]["net"]}[part]
        for name, value in flat(one).items():
            assert torch.equal(value, flat(other)[name]), name
    assert not torch.equal(
        one["model"]["segmentation_head.0.weight"], one["training"]["net"]["segmentation_head.0.weight"]
    )


def test_interrupted_where_it_was_to_be_scored_it_is_scored_when_it_goes_on(folder, monkeypatch):
    import signal

    held_out = ["--val-list", folder / "list.txt", "--val-gt", folder / "labels", "--val-every", 2]
    step = Trainer.step
    for at in (2, 4):  # in between, and after the last step

        def stop(trainer, *batch, at=at):
            loss = step(trainer, *batch)
            if trainer.progress.step == at - 1:  # counted by the caller
                signal.raise_signal(signal.SIGINT)
            return loss

        monkeypatch.setattr(Trainer, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(folder, monkeypatch, *held_out, out="run")
        assert checkpoint.load(folder / "run" / "last.pth")["training"]["progress"]["step"] == at
        monkeypatch.setattr(Trainer, "step", step)
        if at == 4:
            assert train(folder, monkeypatch, *held_out, out="run") == 0
    history = checkpoint.load(folder / "run" / "last.pth")["training"]["progress"]["history"]
    assert [entry["step"] for entry in history] == [2, 4]


def test_changed_options_labels_or_encoder_are_not_mixed(folder, monkeypatch):
    assert train(folder, monkeypatch, steps=2) == 0
    with pytest.raises(InputError, match="lr: 0.005, now 0.02"):
        train(folder, monkeypatch, "--lr", 0.02, steps=2)
    with pytest.raises(InputError, match="encoder: mobilenet_v2, now resnet18"):
        train(folder, monkeypatch, "--encoder", "resnet18", steps=2)
    label = read_label(folder / "labels" / "p3.png")
    label[0, 0] = 2
    write_label(folder / "labels" / "p3.png", label)
    with pytest.raises(InputError, match="other images, labels or ids"):
        train(folder, monkeypatch, steps=2)
    assert train(folder, monkeypatch, "--overwrite", steps=2) == 0


def test_bad_pairs_are_reported_and_left_out(folder, monkeypatch, capsys):
    write_label(folder / "labels" / "p0.png", np.zeros((48, 63), np.uint8))
    write_label(folder / "labels" / "p1.png", np.full((48, 64), 3, np.uint8))
    (folder / "labels" / "p2.png").unlink()
    (folder / "images" / "p3.png").write_bytes((folder / "images" / "p3.png").read_bytes()[:500])
    assert train(folder, monkeypatch, steps=2) == 1
    printed = capsys.readouterr().out
    for message in ("p0: ", "63x48", "p1: ", "label values 3 with 3 classes", "p2: ", "p3: ", "4 images"):
        assert message in printed
    (folder / "list.txt").write_text("p0\np1\n")
    with pytest.raises(InputError, match="none of the 2 listed images"):
        train(folder, monkeypatch, out="other")
    (folder / "list.txt").write_text("\n")
    with pytest.raises(InputError, match="empty"):
        train(folder, monkeypatch, out="other")


def test_loss_that_is_no_number_stops_and_keeps_the_last_good_state(folder, monkeypatch):
    calls = []

    def spoilt(logits, labels):
        calls.append(1)
        total, count = losses.cross_entropy(logits, labels)
        return total * (float("nan") if len(calls) == 13 else 1), count

    monkeypatch.setitem(segmentation_training.LOSSES, "cross-entropy", spoilt)
    with pytest.raises(InputError, match=r"not a number at step 13, in the batch of p\d, p\d"):
        train(folder, monkeypatch, "--save-minutes", 0, steps=20)
    content = checkpoint.load(folder / "run" / "last.pth")
    assert content["training"]["progress"]["step"] == 10
    assert all(value.isfinite().all() for value in content["model"].values())


def test_weights_that_are_no_numbers_are_not_saved(folder, monkeypatch):
    step = Trainer.step

    def spoil(trainer, *batch):
        loss = step(trainer, *batch)
        if trainer.progress.step == 19:
            next(trainer.net.parameters()).data[0] = float("nan")
        return loss

    monkeypatch.setattr(Trainer, "step", spoil)
    with pytest.raises(InputError, match="weights are no longer numbers after step 20"):
        train(folder, monkeypatch, "--save-minutes", 0, steps=20)
    content = checkpoint.load(folder / "run" / "last.pth")
    assert content["training"]["progress"]["step"] == 10
    assert all(value.isfinite().all() for value in content["model"].values())


def test_full_disk_stops_the_run_and_keeps_the_last_good_state(folder, monkeypatch):
    save, calls = checkpoint.save, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 2:
            monkeypatch.setattr(checkpoint, "open", full_disk, raising=False)
        save(path, content)

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(InputError, match="No space left"):
        train(folder, monkeypatch, "--save-minutes", 0, steps=30)
    monkeypatch.undo()
    assert checkpoint.load(folder / "run" / "last.pth")["training"]["progress"]["step"] == 10


def test_batch_of_one_never_reaches_batch_norm(folder, monkeypatch):
    with pytest.raises(InputError, match="batch of one"):
        train(folder, monkeypatch, "--batch-size", 1)
    # Three images in batches of two would leave one over at the end of an epoch.
    (folder / "list.txt").write_text("p0\np1\np2\n")
    sizes = []
    forward = torch.nn.BatchNorm2d.forward

    def noting(module, x):
        if module.training:
            sizes.append(x.shape[0])
        return forward(module, x)

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", noting)
    assert train(folder, monkeypatch, steps=4) == 0
    assert set(sizes) == {2}


class Tiny(torch.nn.Module):
    """A network with the parts of DeepLabV3+."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
        self.decoder = torch.nn.Conv2d(4, 4, 1)
        self.segmentation_head = torch.nn.Conv2d(4, 3, 1)

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


def tiny_steps(count=3, state=None, **recipe):
    """The trainer after some steps on noise, from a state where one is given, and the losses."""
    plain = {"steps": 10, "batch_size": 2, "lr": 0.05, "warm_up": 0.0, "clip_norm": 0.0}
    recipe = SegmentationRecipe(**{**plain, **recipe})
    dist = distributed.Dist(0, 1, 0, CPU)
    task = segmentation_training.SegmentationTask(recipe, class_table(["a", "b", "c"]), {}, IMAGENET, dist)
    trainer = segmentation_training.trainer_of(Tiny(), task, range(2), workers=0)
    if state:
        trainer.load_state(state)
    task.train_mode(trainer.net)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (2, 16, 16), generator=generator, dtype=torch.uint8)
    found = []
    for _ in range(count):
        found.append(trainer.step(torch.arange(2), images, labels).item())
        trainer.progress.step += 1
    return trainer, found


def test_gradients_are_clipped():
    start = torch.nn.utils.parameters_to_vector(Tiny().parameters()).detach()

    def moved(clip_norm):
        trainer, _ = tiny_steps(1, clip_norm=clip_norm, head_factor=1, weight_decay=0)
        return float((torch.nn.utils.parameters_to_vector(trainer.net.parameters()).detach() - start).norm())

    free = moved(0)
    assert moved(1e-3) == pytest.approx(0.05 * 1e-3, rel=0.01) and free > 0.05 * 1e-2
    assert moved(1e3) == pytest.approx(free)


def test_decoder_learns_at_its_factor():
    start = Tiny()

    def moved(part, factor):
        trainer, _ = tiny_steps(1, head_factor=factor, weight_decay=0)
        before, after = (dict(getattr(net, part).named_parameters()) for net in (start, trainer.net))
        return torch.cat([(after[name] - before[name]).flatten() for name in before])

    for part, ratio in (("encoder", 1), ("decoder", 10), ("segmentation_head", 10)):
        torch.testing.assert_close(moved(part, 10), ratio * moved(part, 1), rtol=1e-3, atol=1e-6)


def test_rate_warms_up_and_falls():
    recipe = SegmentationRecipe(steps=100, batch_size=2, warm_up=0.1)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[10] == pytest.approx(0.9**0.9)
    assert rates[50] == pytest.approx(0.5**0.9) and 0 < rates[99] < 0.02


def test_moving_average_of_the_weights():
    expected = None
    for count in range(1, 5):
        trainer, _ = tiny_steps(count, ema=0.8)
        now = trainer.net.segmentation_head.weight.detach()
        expected = now.clone() if expected is None else 0.8 * expected + 0.2 * now
    torch.testing.assert_close(trainer.model.segmentation_head.weight, expected)
    assert not torch.equal(trainer.model.segmentation_head.weight, now)


@pytest.mark.parametrize("amp", ["off", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_state_holds_all_that_a_resumed_run_needs(tmp_path, optimizer, amp):
    options = {"optimizer": optimizer, "amp": amp, "ema": 0.9}
    straight, losses_straight = tiny_steps(4, **options)
    checkpoint.save(tmp_path / "half.pth", tiny_steps(2, **options)[0].state())
    resumed, losses_resumed = tiny_steps(2, checkpoint.load(tmp_path / "half.pth"), **options)
    assert losses_resumed == losses_straight[2:]
    for name, value in straight.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], value), name
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_adamw_learns():
    found = tiny_steps(10, optimizer="adamw", lr=0.01, head_factor=1)[1]
    assert found[-1] < found[0] - 0.05


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_batch_norm_keeps_its_statistics(frozen):
    trainer, _ = tiny_steps(freeze_norm=frozen)
    norm = trainer.net.encoder[1]
    assert norm.training != frozen and torch.equal(norm.running_mean, torch.zeros(4)) == frozen
    assert not torch.equal(norm.weight, torch.ones(4)), "its scale is trained all the same"


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_has_the_loss_of_single_precision(amp):
    assert tiny_steps(amp=amp)[1] == pytest.approx(tiny_steps()[1], rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_network_has_the_loss_of_the_plain_one():
    compiled, losses_compiled = tiny_steps(compile=True)
    plain, losses_plain = tiny_steps()
    assert losses_compiled == pytest.approx(losses_plain, rel=1e-4)
    assert list(compiled.state()["net"]) == list(plain.state()["net"])


@pytest.mark.slow
def test_what_checkpoints_and_tensorboard_hold(folder, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held_out = ["--val-list", folder / "list.txt", "--val-gt", folder / "labels", "--val-every", 5]
    assert train(folder, monkeypatch, *held_out, steps=10) == 0
    for name in ("last.pth", "best.pth"):
        content = torch.load(folder / "run" / name, weights_only=True)
        assert content["config"]["encoder"] == "mobilenet_v2" and content["options"]["steps"] == 10
        assert content["schema"] == checkpoint.SCHEMA and content["normalization"] == IMAGENET.content
        assert len(content["classes"]) == len(content["palette"]) == 3 and content["classes"][0] == "background"
        assert content["score"]["step"] in (5, 10) and 0 <= content["score"]["miou"] <= 1
        assert set(content["score"]["per_class"]) == set(content["classes"])
        assert deeplabv3.load_checkpoint(folder / "run" / name).score == content["score"]
    history = checkpoint.load(folder / "run" / "last.pth")["training"]["progress"]["history"]
    assert [entry["step"] for entry in history] == [5, 10]
    best = max(history, key=lambda entry: entry["miou"])
    assert torch.load(folder / "run" / "best.pth", weights_only=True)["score"]["miou"] == best["miou"]
    events = EventAccumulator(str(folder / "run")).Reload()
    assert {"loss", "learning rate", "held out miou"} <= set(events.Tags()["scalars"])
    pages = events.Images("predictions/p0")
    # Image, label and prediction in three columns.
    assert [page.step for page in pages] == [5, 10] and pages[0].width == 1035 and pages[0].height > 1035 / 3 * 48 / 64
    assert (folder / "run" / "curves.pdf").stat().st_size > 1000 and (folder / "run" / "curves.png").exists()
    assert train(folder, monkeypatch, out="alone", steps=2) == 0
    assert "predictions/p3" in EventAccumulator(str(folder / "alone")).Reload().Tags()["images"]


# --- prediction ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint with random weights that `load_checkpoint` reads."""
    torch.manual_seed(0)
    net = deeplabv3.build(3, "mobilenet_v2")
    path = tmp_path_factory.mktemp("weights") / "c.pth"
    config = {"encoder": "mobilenet_v2", "output_stride": 16}
    checkpoint.save(
        path,
        deeplabv3.checkpoint_content(net.state_dict(), config, class_table(["a", "b", "c"]), {"miou": 0.5}),
    )
    return path


@pytest.mark.parametrize("size", [(40, 57), (33, 18), (1, 1)])
def test_probabilities_at_full_size(trained, size):
    segmenter = deeplabv3.load_checkpoint(trained)
    assert segmenter.classes.names == ("a", "b", "c") and segmenter.score == {"miou": 0.5}
    assert segmenter.palette.shape == (256, 3) and segmenter.config["encoder"] == "mobilenet_v2"
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = segmenter.predict(image, scales=(0.5, 1, 1.5), flip=True)
    assert found.shape == (3, *size) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_flip_makes_prediction_symmetric(trained):
    segmenter = deeplabv3.load_checkpoint(trained)
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    once, mirrored = (segmenter.predict(pixels, flip=True) for pixels in (image, image[:, ::-1]))
    np.testing.assert_allclose(once, mirrored[:, :, ::-1], atol=1e-4)
    plain = segmenter.predict(image)
    assert np.abs(plain - segmenter.predict(image[:, ::-1])[:, :, ::-1]).max() > 1e-4


def test_checkpoints_that_do_not_fit_are_refused(trained, tmp_path):
    content = checkpoint.load(trained)
    for changes, message in (
        ({"kind": "transcam"}, "no checkpoint of DeepLabV3"),
        ({"config": {"encoder": "resnet18", "output_stride": 16}}, "belong to another network"),
        ({"classes": ["a", "b"], "palette": content["palette"][:2]}, "other shapes"),
        ({"config": {}}, "incomplete"),
    ):
        checkpoint.save(tmp_path / "c.pth", {**content, **changes})
        with pytest.raises(InputError, match=message):
            deeplabv3.load_checkpoint(tmp_path / "c.pth")


def test_folder_is_predicted_resumed_and_reports_what_fails(trained, folder, monkeypatch):
    (folder / "images" / "p7.png").write_bytes(b"no image")
    ids = [f"p{number}" for number in (5, 6, 7, 8)]
    dist = distributed.Dist(0, 1, 0, CPU)
    out = folder / "out"

    def go(**options):
        return predict.predict_folder(trained, ids, folder / "images", out, dist, Prediction(**options))[1]

    assert sorted(go()) == ["p7", "p8"]
    label = read_label(out / "labels" / "p5.png", 3)
    assert label.shape == (48, 64) and (out / "overlays" / "p6.jpg").is_file()
    calls = []
    segment = predict.segment
    monkeypatch.setattr(predict, "segment", lambda *arguments: calls.append(1) or segment(*arguments))
    go()
    assert not calls, "what is current was made again"
    write_label(out / "labels" / "p5.png", 2 - label)
    go()
    assert len(calls) == 1 and (read_label(out / "labels" / "p5.png") == label).all()
    go(scales=(1, 2), refinement="pixel-adaptive")
    assert len(calls) == 3, "other options did not make everything again"
    with pytest.raises(InputError, match="scales"):
        go(scales=(0,))


# --- boundary IoU --------------------------------------------------------------------------------------------------


def test_inner_band_is_what_lies_near_the_outside():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 0:20] = True
    expected = mask.copy()
    expected[7:13, 2:18] = False
    assert (inner_band(mask, 2) == expected).all()


def test_boundary_iou_of_shifted_squares():
    truth, prediction = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    truth[20:60, 20:60], prediction[20:60, 21:61] = 1, 1
    exact, shifted = BoundaryIoU(2, band=0.01), BoundaryIoU(2, band=0.01)
    exact.update(truth, truth)
    shifted.update(prediction, truth)
    table = class_table(["background", "square"])
    assert exact.scores(table, ["background", "square"])["boundary_iou"] == 1
    # Bands one pixel wide, 156 pixels each; top and bottom share 39 pixels each, the sides none but their corners.
    assert shifted.scores(table, ["square"])["boundary_iou"] == pytest.approx(78 / (2 * 156 - 78))
    void = BoundaryIoU(2, band=0.01)
    void.update(prediction, np.full_like(truth, 255))
    assert not void.union.any()
