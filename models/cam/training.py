"""Training of the classifiers: their task for the loop, the held-out average precision, and the run of the script."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from models.cam import classifier
from models.cam.data import Augmentation, TaggedImages
from models.cam.recipe import DEFAULTS
from models.common.precision import DTYPES, autocast
from models.common.preprocessing import Normalization, normalization_of
from models.common.recipe import Recipe
from models.common.run import digest_of, found_digest, resolve, resume_options, say, train_into
from models.common.task import Task
from models.common.training import Trainer
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import check_differ, check_tagged, read_image_labels
from util.data.images import find_image
from util.data.voc import ClassTable
from util.runtime import distributed
from util.runtime.cli import print_next
from util.runtime.distributed import Dist
from util.runtime.errors import counted
from util.runtime.files import check_folder
from util.runtime.options import from_args
from util.runtime.parallel import batches_of, start_worker
from util.runtime.progress import Progress


@dataclass
class ClassificationTask(Task):
    """What the loop needs to know of a classifier: the multi-label soft margin loss of its ``logits``.

    Attributes:
        recipe, classes: how to train, and on what.
        normalization: of the encoder.
        dist: the processes that share the measuring.
        held_out: what to measure average precision on, or None.
        workers: processes that load it.
        failures: id -> message for images that could not be read.
    """

    recipe: Recipe
    classes: ClassTable
    normalization: Normalization
    dist: Dist
    held_out: TaggedImages | None = None
    workers: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    metric = "map"

    def parameter_groups(self, net: Any) -> list[dict[str, Any]]:
        return net.parameter_groups(self.recipe.lr)

    def forward(self, net: nn.Module, images: Tensor) -> Tensor:
        return net(images, with_attention=False).logits

    def loss(self, output: Tensor, *targets: Any) -> tuple[Tensor, Tensor]:
        target, weights, messages = targets
        self._report(messages)
        each = F.multilabel_soft_margin_loss(output, target, reduction="none")
        return (each * weights).sum(), weights.sum()

    @torch.inference_mode()
    def measure(self, net: nn.Module) -> dict[str, Any]:
        if self.held_out is None:
            return {}
        ap = self._average_precision(net, self.held_out)
        known = ap[~np.isnan(ap)]
        return {
            "map": float(known.mean()) if len(known) else 0.0,
            "ap": [None if np.isnan(value) else float(value) for value in ap],
        }

    def _average_precision(self, net: nn.Module, held_out: TaggedImages) -> np.ndarray:
        """Average precision of every class on the held-out images: float64 C-1, NaN where a class never occurs."""
        loader: DataLoader[Any] = DataLoader(
            held_out,
            batch_size=self.recipe.batch_size,
            sampler=range(self.dist.rank, len(held_out), self.dist.world),
            num_workers=self.workers,
            pin_memory=self.dist.device.type == "cuda",
            worker_init_fn=start_worker,
        )
        amp, device = DTYPES[self.recipe.amp], self.dist.device
        empty = np.zeros((0, len(self.classes) - 1), np.float32)  # a process may have no image at all
        scores, truth = [empty], [empty]
        for _, images, targets, weights, messages in batches_of(loader):
            self._report(messages)
            with autocast(device, amp):
                logits = self.forward(net, self.normalization(images.to(device, non_blocking=True)))
            scores.append(logits.float().cpu()[weights > 0].numpy())
            truth.append(targets[weights > 0].numpy())
        parts = self.dist.gather((np.concatenate(scores), np.concatenate(truth)))
        return average_precision(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def content(self, net: Any, score: dict[str, Any] | None) -> dict[str, Any]:
        return classifier.classifier_content(net, self.classes, score)

    def show(self, net: nn.Module, entry: dict[str, Any], writer: SummaryWriter) -> None:
        held_out = f"   held-out mAP {100 * entry['map']:.2f}" if "map" in entry else ""
        print(f"epoch {entry['epoch']:g}: loss {entry['loss']:.4f}{held_out}", flush=True)

    def _report(self, messages: list[str]) -> None:
        for message in messages:
            if message and message not in self.failures:
                self.failures[message] = message
                print(message, file=sys.stderr, flush=True)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Average precision of every column: the mean, over the positives, of the precision at their rank.

    Args:
        scores, truth: float NxC; ``truth`` is 0 or 1.

    Returns:
        float64 C, NaN for a column without a positive.
    """
    result = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        hits = truth[np.argsort(-scores[:, column], kind="stable"), column] > 0
        if hits.any():
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            result[column] = precision[hits].mean()
    return result


def ap_table(entry: dict[str, Any], classes: ClassTable) -> str:
    """One line per class that occurs, with its average precision in per cent, and their mean."""
    lines = [
        f"{name:<22} {100 * value:7.2f}"
        for name, value in zip(classes.names[1:], entry["ap"], strict=True)
        if value is not None
    ]
    return "\n".join([f"{'class':<22} {'AP':>7}", *lines, f"{'mean':<22} {100 * entry['map']:7.2f}"])


# --- the run of the script ----------------------------------------------------------------------------------------


@dataclass
class Job:
    """What the options of the script ask for, read and checked."""

    args: argparse.Namespace
    dist: Dist
    classes: ClassTable
    recipe: Recipe
    data: TaggedImages
    held_out: TaggedImages | None
    digests: dict[str, str]

    def options(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        return resume_options(self.args, self.recipe, self.dist, __file__, classes=self.classes.names, **self.digests)

    def trainer(self, resumed: dict[str, Any] | None) -> Trainer:
        """The trainer of a new network, or of that of a checkpoint, whose state is not loaded yet."""
        args = self.args
        net = classifier.new(
            args.method, len(self.classes), args.arch, args.weights, args.encoder, args.encoder_weights, resumed is None
        )
        if resumed:
            net.normalization = Normalization.from_content(resumed, "last.pth")
        found = normalization_of(net)
        for part in (self.data, self.held_out):
            if part is not None:
                part.augmentation = replace(part.augmentation, padding=found.padding)
        # Channels last: a third less time per step in float32 and half in bfloat16 on a CPU, and what tensor cores want.
        net.to(self.dist.device).to(memory_format=torch.channels_last)
        task = ClassificationTask(self.recipe, self.classes, found, self.dist, self.held_out, args.workers)
        return Trainer(net, task, self.data, self.recipe, self.dist, workers=args.workers)


def run(args: argparse.Namespace) -> int:
    """Train as the options of ``train_transcam.py`` say.

    Returns:
        the exit code: 0, or 1 if images could not be read.

    Raises:
        InputError: for what cannot be trained or read, see `train_into`.
    """
    with distributed.init(args.device) as dist:
        job = read_job(args, dist)
        minutes = args.save_minutes or math.inf  # 0: only at the end of an epoch
        trainer = train_into(args, dist, job.options(), job.trainer, 60 * minutes)
        entry = trainer.progress.history[-1]
        if "ap" in entry:
            say(dist, ap_table(entry, job.classes))
        if dist.is_main:
            print_next(
                *(
                    "generate_cams.py",
                    "--checkpoint",
                    args.out / "last.pth",
                    "--images",
                    args.images,
                    "--list",
                    args.list,
                ),
                *("--image-labels", args.image_labels, "--refine", "par", "--out", args.out / "cams"),
            )
        task = trainer.task
        assert isinstance(task, ClassificationTask)
        failures = set().union(*dist.gather(set(task.failures)))
        if failures and dist.is_main:
            print(f"left out {counted(len(failures), 'image')} that could not be read; see above", file=sys.stderr)
        return 1 if failures else 0


def read_job(args: argparse.Namespace, dist: Dist) -> Job:
    """Read the lists and the image-level labels.

    Raises:
        InputError: if an id has no image-level label, or a folder or file is missing.
    """
    val_images = args.val_images or args.images
    for folder in {args.images, val_images}:
        check_folder(folder, "images")
    ids = read_id_list(args.list, args.images)
    classes = classes_of((args.image_labels, args.images), args.class_names, args.num_classes, ids)
    val_ids = [] if args.val_list is None else read_id_list(args.val_list, val_images)
    tags = read_image_labels(args.image_labels, classes, [*ids, *val_ids])
    for path, listed in ((args.list, ids), (args.val_list, val_ids)):
        check_tagged(listed, path, args.image_labels, tags)
    check_differ(ids, args.list, classes, tags)
    augmentation = Augmentation(args.crop_size, tuple(args.long_side), args.jitter)
    data = TaggedImages(ids, args.images, tags, len(classes), augmentation, args.seed)
    held_out = TaggedImages(val_ids, val_images, tags, len(classes), augmentation, None) if val_ids else None
    defaults, epoch = DEFAULTS[args.method], len(ids) / (args.batch_size * dist.world)
    given = {name: getattr(args, name) for name in vars(defaults)}
    chosen = {**vars(defaults), **{name: value for name, value in given.items() if value is not None}}
    recipe = from_args(Recipe, args, steps=max(1, round(args.epochs * epoch)), measure_every=epoch, **chosen)
    parts = {"data_digest": data, "val_digest": held_out}
    digests: dict[str, str] = {}
    if dist.is_main:
        digests = {name: contents_digest(part) for name, part in parts.items() if part is not None}
    return Job(args, dist, classes, resolve(recipe, dist), data, held_out, dist.broadcast(digests))


def contents_digest(data: TaggedImages) -> str:
    """Digest of ids, labels and images."""
    ids = Progress(data.ids, desc="checking", unit="image")
    return digest_of(
        (image_id, data.tags[image_id], found_digest(find_image, data.folder, image_id)) for image_id in ids
    )
