"""Training of DeepLabV3+: its task for the loop, the score on held-out images, and the run that the script starts."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from models.common.memory import memory_named
from models.common.precision import DTYPES
from models.common.preprocessing import Normalization, normalization_of
from models.common.run import digest_of, found_digest, resolve, resume_options, say, train_into
from models.common.task import Task
from models.common.training import Trainer
from models.segmentation.data import CropAugmentation, LabelledImages, check_pairs, read_pair
from models.segmentation.deeplabv3 import build, checkpoint_content
from models.segmentation.inference import PixelNetwork, Segmenter, typical_side, working_size
from models.segmentation.losses import LOSSES
from models.segmentation.recipe import SegmentationRecipe
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.images import find_image
from util.data.labels import label_path
from util.data.voc import ClassTable
from util.evaluation.metrics import ConfusionMatrix
from util.evaluation.report import score_table
from util.figures.panels import Panel, class_legend, panels_image
from util.runtime import distributed
from util.runtime.cli import print_next
from util.runtime.distributed import Dist
from util.runtime.errors import InputError, counted
from util.runtime.files import check_folder
from util.runtime.options import from_args
from util.runtime.overlap import Behind, read_ahead
from util.runtime.progress import Progress
from util.vis import overlay


@dataclass
class HeldOut:
    """Images that the network is scored on, or shown with, while it trains.

    Attributes:
        ids, images, gt: of ``images/<id>.jpg`` or similar, with label map ``gt/<id>.png``: ground truth, if scored.
    """

    ids: list[str]
    images: Path
    gt: Path

    def digest(self) -> str:
        """Of the ids and of the files, as far as they are there."""
        places = ((find_image, self.images), (label_path, self.gt))
        return digest_of((image_id, *(found_digest(*place, image_id) for place in places)) for image_id in self.ids)


@dataclass
class SegmentationTask(Task):
    """What the loop needs to know of DeepLabV3+.

    Attributes:
        recipe, classes, config: how to train, on what, and what the network is built from.
        normalization: of the encoder.
        dist: the processes that share the scoring.
        held_out: what to score, or None.
        shown: images that TensorBoard shows with their label and their prediction, or None.
        scores: of the last scoring.
        failures: id -> message for images that could not be used.
    """

    recipe: SegmentationRecipe
    classes: ClassTable
    config: dict[str, Any]
    normalization: Normalization
    dist: Dist
    held_out: HeldOut | None = None
    shown: HeldOut | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    metric = "miou"

    def parameter_groups(self, net: Any) -> list[dict[str, Any]]:
        lr, head = self.recipe.lr, [*net.decoder.parameters(), *net.segmentation_head.parameters()]
        return [
            {"params": list(net.encoder.parameters()), "lr": lr},
            {"params": head, "lr": lr * self.recipe.head_factor},
        ]

    def forward(self, net: nn.Module, images: Tensor) -> Tensor:
        return net(images)

    def loss(self, output: Tensor, *targets: Tensor) -> tuple[Tensor, Tensor]:
        return LOSSES[self.recipe.loss](output, targets[0].long())

    def train_mode(self, net: Any) -> None:
        net.train()
        if self.recipe.freeze_norm:
            for module in net.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def measure(self, net: nn.Module) -> dict[str, Any]:
        if self.held_out is None:
            return {}
        self.scores, failures = score_images(self._segmenter(net), self.held_out, self.dist)
        self.failures |= failures
        return {name: self.scores[name] for name in ("miou", "pixel_accuracy", "per_class")}

    def content(self, net: nn.Module, score: dict[str, Any] | None) -> dict[str, Any]:
        return checkpoint_content(net.state_dict(), self.config, self.classes, score, self.normalization)

    def show(self, net: nn.Module, entry: dict[str, Any], writer: SummaryWriter) -> None:
        segmenter, shown = self._segmenter(net), self.shown or HeldOut([], Path(), Path())
        for image_id in shown.ids:
            try:
                image, label, _ = read_pair(shown.images, shown.gt, len(self.classes), image_id)
            except InputError:
                continue  # reported where it is scored or checked
            labels = {"label": label, "prediction": segmenter.segment(image).label}
            colors = self.classes.palette
            panels = [Panel(name, overlay(image, found, colors)) for name, found in labels.items()]
            legend = class_legend(list(labels.values()), self.classes)
            page = panels_image([[Panel(image_id, image), *panels]], legend)
            writer.add_image(f"predictions/{image_id}", page, entry["step"], dataformats="HWC")
        self.train_mode(net)

    def _segmenter(self, net: nn.Module) -> Segmenter:
        pixels = PixelNetwork(net, self.normalization)
        segmenter = Segmenter(pixels, self.classes, self.config, None, self.dist.device)
        segmenter.amp = DTYPES[self.recipe.amp]
        return segmenter


def trainer_of(net: nn.Module, task: SegmentationTask, data: Any, *, workers: int, sync_norm: bool = True) -> Trainer:
    """The trainer of a network on the task's device.

    Raises:
        InputError: for a batch of one, with which batch norm has no variance to divide by.
    """
    check_batch(task.recipe.batch_size, task.dist.world, sync_norm)
    return Trainer(net, task, data, task.recipe, task.dist, workers=workers, sync_norm=sync_norm)


def check_batch(batch: int, world: int, sync_norm: bool) -> None:
    """Raise InputError for a batch of one: batch norm has no variance to divide by."""
    if batch * (world if sync_norm else 1) < 2:
        raise InputError("a batch of one image cannot train batch norm; set --batch-size to 2 or more")


def score_images(segmenter: Segmenter, held_out: HeldOut, dist: Dist) -> tuple[dict[str, Any], dict[str, str]]:
    """Score whole images at their own size, shared out over the processes.

    Returns:
        scores (see `util.evaluation.metrics.scores_of`), and id -> message for images that could not be scored.
    """
    number = len(segmenter.classes)
    matrix, failures = ConfusionMatrix(number), {}
    read, mine = partial(read_pair, held_out.images, held_out.gt, number), dist.shard(held_out.ids)
    bar = Progress(total=len(mine), desc="scoring", unit="image", disable=not dist.is_main, leave=False)
    remedy = "leave --val-list out, and score with evaluate_enhanced.py and a --long-side"
    with bar, memory_named("scoring a held-out image", remedy), Behind() as behind:
        for image_id, reading in read_ahead(read, mine):
            try:
                image, truth, _ = reading.result()
            except InputError as error:
                failures[image_id] = str(error)
            else:
                behind(matrix.update, segmenter.segment(image).label, truth)
            bar.update()
    whole = ConfusionMatrix(number)
    for part, part_failures in dist.gather((matrix, failures)):
        whole.merge(part)
        failures = failures | part_failures
    return whole.scores(segmenter.classes), failures


# --- the run of the script ----------------------------------------------------------------------------------------


@dataclass
class Job:
    """What the options of the script ask for, read and checked."""

    args: argparse.Namespace
    dist: Dist
    classes: ClassTable
    recipe: SegmentationRecipe
    data: LabelledImages
    data_digest: str
    failures: dict[str, str]
    held_out: HeldOut | None
    image_size: int

    @property
    def working_size(self) -> int:
        return working_size(self.recipe.long_side or self.image_size, self.recipe.scale)

    def options(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        more: dict[str, object] = {
            "classes": self.classes.names,
            "data_digest": self.data_digest,
            "working_size": self.working_size,
        }
        if self.held_out:
            more["val_digest"] = self.held_out.digest()
        return resume_options(self.args, self.recipe, self.dist, __file__, **more)

    def trainer(self, resumed: dict[str, Any] | None) -> Trainer:
        """The trainer of a new network, or of that of a checkpoint, whose state is not loaded yet."""
        args, recipe = self.args, self.recipe
        weights = None if resumed or args.encoder_weights == "none" else args.encoder_weights
        net = build(len(self.classes), args.encoder, weights, recipe.output_stride).to(self.dist.device)
        found = Normalization.from_content(resumed, "last.pth") if resumed else normalization_of(net)
        self.data.augmentation = CropAugmentation(
            args.crop_size, recipe.scale, args.jitter, found.padding, recipe.long_side
        )
        config = {
            "encoder": args.encoder,
            "output_stride": recipe.output_stride,
            "working_size": self.working_size,
            "image_size": self.image_size,
        }
        held_out = self.held_out
        shown = held_out or HeldOut(self.data.ids, args.images, args.labels)
        shown = replace(shown, ids=shown.ids[:4])
        task = SegmentationTask(recipe, self.classes, config, found, self.dist, held_out, shown, failures=self.failures)
        return trainer_of(net, task, self.data, workers=args.workers, sync_norm=not args.no_sync_norm)


def run(args: argparse.Namespace) -> int:
    """Train as the options of ``train_deeplabv3.py`` say.

    Returns:
        the exit code: 0, or 1 if images could not be used.

    Raises:
        InputError: for what cannot be trained or read, see `train_into`.
    """
    with distributed.init(args.device) as dist:
        job = read_job(args, dist)
        trainer = train_into(args, dist, job.options(), job.trainer, 60 * args.save_minutes)
        task = trainer.task
        assert isinstance(task, SegmentationTask)
        if task.scores:
            say(dist, score_table(task.scores))
        if dist.is_main:
            found = args.out / "predictions"
            print_next("predict.py", "--checkpoint", args.out / "last.pth", "--images", args.images, "--out", found)
        if task.failures:
            first = next(iter(task.failures))
            say(
                dist,
                f"left out {counted(len(task.failures), 'image')}, the first: {first}; fix them or take them off the list",
            )
        return 1 if task.failures else 0


def read_job(args: argparse.Namespace, dist: Dist) -> Job:
    """Read the lists and check every image and label.

    Raises:
        InputError: if nothing can be trained on, or the batch is too small.
    """
    check_batch(args.batch_size, dist.world, not args.no_sync_norm)
    check_folder(args.images, "images")
    check_folder(args.labels, "label maps")
    listed = read_id_list(args.list, args.images)
    classes = classes_of((args.labels, args.val_gt, args.images), args.class_names, args.num_classes, listed)
    found: Any = None
    if dist.is_main:
        found = check_pairs(listed, args.images, args.labels, len(classes), args.workers)
    ids, failures, data_digest = dist.broadcast(found)
    for image_id, message in failures.items():
        say(dist, f"{image_id}: {message}")
    steps = args.steps or max(1, round(args.epochs * len(ids) / (args.batch_size * dist.world)))
    recipe = resolve(from_args(SegmentationRecipe, args, steps=steps, measure_every=args.val_every), dist)
    data = LabelledImages(ids, args.images, args.labels, len(classes), CropAugmentation(args.crop_size), args.seed)
    held_out = None
    if args.val_list is not None:
        val_images = args.val_images or args.images
        held_out = HeldOut(read_id_list(args.val_list, val_images), val_images, args.val_gt)
        both = set(ids).intersection(held_out.ids) if val_images.resolve() == args.images.resolve() else ()
        if both:
            shared = f"{counted(len(both), 'image')} of {args.val_list} in --list, too"
            say(dist, f"warning: {shared}, so held-out scores are too high; take them out of one of the lists")
    size = dist.broadcast(dist.is_main and typical_side(args.images, ids))
    return Job(args, dist, classes, recipe, data, data_digest, failures, held_out, size)
