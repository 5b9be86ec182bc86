"""Training of DeepLabV3+: the loop, what it saves, and the score on held-out pictures."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from models.common.convolution import check_mixed_precision
from models.common.precision import DTYPES
from models.segmentation.data import LabelledImages, StepOrder, read_pair
from models.segmentation.deeplabv3 import Segmenter
from models.segmentation.losses import LOSSES
from util.evaluation.metrics import ConfusionMatrix
from util.runtime.distributed import Dist
from util.runtime.errors import InputError
from util.runtime.parallel import batches_of, start_worker

WARM_UP_START = 0.1


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps, batch: optimiser steps, and pictures a step of one process.
        lr, head_factor: rate of the encoder, and what it is multiplied by for the decoder.
        optimizer: ``sgd`` or ``adamw``.
        momentum, weight_decay: of the optimizer; AdamW has no use for the first.
        warm_up: steps of linear warm-up; after them the rate falls as (1 - t) ** 0.9.
        clip_norm: gradients longer than this are shortened to it; 0 leaves them.
        loss: a name in `models.segmentation.losses.LOSSES`.
        ema: decay of the moving average of the weights; 0 for none.
        freeze_norm: leave the statistics of the encoder's batch norm as they are in the weights that it starts from.
        amp: a key of `models.common.precision.DTYPES`.
        compiled: whether to use ``torch.compile``.
        seed: of everything random.
    """

    steps: int
    batch: int
    lr: float = 0.01
    head_factor: float = 10.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warm_up: int = 0
    clip_norm: float = 0.0
    loss: str = "cross-entropy"
    ema: float = 0.0
    freeze_norm: bool = False
    amp: str = "off"
    compiled: bool = False
    seed: int = 0

    def rate(self, step: int) -> float:
        """The factor of the learning rate at a step counted from 0."""
        warm = min(1.0, WARM_UP_START + (1 - WARM_UP_START) * step / self.warm_up) if self.warm_up else 1.0
        return warm * (1 - step / self.steps) ** 0.9


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: steps taken.
        loss: running mean of the loss, for the progress bar.
        history: an entry a scoring of the held-out pictures: ``step``, ``miou``, ``pixel_accuracy``.
        best: highest held-out mIoU so far, or None.
    """

    step: int = 0
    loss: float | None = None
    history: list[dict] = field(default_factory=list)
    best: float | None = None


class NotFinite(InputError):
    """The loss is no longer a number."""


class Trainer:
    """Trains a segmentation network.

    Everything random is a function of the seed, the step and the process: a run that was stopped after any step and
    resumed takes the same steps as one that was not. Several processes of batch B take the step of one process of
    batch B x processes: losses are averaged over the pixels of all, and batch norm is synchronised.

    Args:
        net: on ``dist.device``.
        data: augmented crops.
        recipe: how to train.
        dist: from `util.runtime.distributed.init`.
        workers: processes that load pictures; 0 loads in this one.
        sync_norm: synchronise batch norm over processes.

    Raises:
        InputError: for a batch of one, or a precision that the network cannot be trained in.
    """

    def __init__(
        self, net: nn.Module, data: LabelledImages, recipe: Recipe, dist: Dist, *, workers: int, sync_norm: bool = True
    ):
        check_batch(recipe.batch, dist.world, sync_norm)
        self.data, self.recipe, self.dist = data, recipe, dist
        if dist.world > 1 and sync_norm:
            net = _with_synchronised_norm(net)
        self.net = net
        groups = [
            {"params": list(net.encoder.parameters()), "factor": 1.0},
            {"params": [*net.decoder.parameters(), *net.segmentation_head.parameters()], "factor": recipe.head_factor},
        ]
        if recipe.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
        else:
            self.optimizer = torch.optim.SGD(
                groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
            )
        self.average = None
        if recipe.ema:
            self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True)
        self.amp = DTYPES[recipe.amp]
        check_mixed_precision(net, dist.device, self.amp)
        # Only float16 needs its gradients scaled: bfloat16 has the range of float32.
        self.scaler = torch.amp.GradScaler(dist.device.type, enabled=recipe.amp == "fp16")
        self.loss = LOSSES[recipe.loss]
        self.progress = Progress()
        self.waited = 0.0
        self.order = StepOrder(len(data), recipe.batch, recipe.steps, recipe.seed, dist.rank, dist.world)
        self.loader = DataLoader(
            data, batch_sampler=self.order, num_workers=workers, pin_memory=dist.device.type == "cuda",
            prefetch_factor=4 if workers else None, worker_init_fn=_start_worker,
        )  # fmt: skip
        self._running = self._wrapped(net)

    def _wrapped(self, net: nn.Module) -> nn.Module:
        if self.recipe.compiled:
            net = torch.compile(net)
        if self.dist.world == 1:
            return net
        devices = [self.dist.device] if self.dist.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, devices, gradient_as_bucket_view=True)

    def train_mode(self) -> None:
        """Put the network into training mode, but for what is frozen."""
        self.net.train()
        if self.recipe.freeze_norm:
            for module in self.net.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    @property
    def model(self) -> nn.Module:
        """The network to use: the moving average where there is one."""
        return self.average.module if self.average else self.net

    def state(self) -> dict:
        """Everything that a resumed run needs."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": vars(self.progress).copy(),
        }

    def load_state(self, state: dict) -> None:
        """Continue where `state` was taken."""
        self.net.load_state_dict(state["net"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])

    def run(
        self,
        save: Callable[[bool], None],
        *,
        save_seconds: float = 600,
        score: Callable[[], dict] | None = None,
        score_steps: int = 0,
        log: Callable[[str, float, int], None] = lambda name, value, step: None,
    ) -> None:
        """Train to the end.

        Args:
            save: called with whether the state was just scored as the best; every ``save_seconds``, after every
                scoring, when interrupted and at the end.
            score: gives the scores (`util.evaluation.metrics.scores_of`) of `model`, every ``score_steps`` steps and at the end.
            log: called with a name, a value and the number of steps taken.

        Raises:
            NotFinite: if the loss is no longer a number: the step is not taken; or if the weights are not, which
                happens where a finite loss has an infinite gradient. Nothing is saved then.
        """
        progress, recipe = self.progress, self.recipe
        self.order.start = progress.step
        self.train_mode()
        saved = begun = time.monotonic()

        def due() -> bool:
            """Whether the held-out pictures are to be scored after the steps taken."""
            return score is not None and (
                progress.step == recipe.steps or bool(score_steps and progress.step % score_steps == 0)
            )

        def keep(best: bool) -> None:
            self._check_weights()
            save(best)
            self.train_mode()  # what scores or shows predictions may have changed the mode

        if progress.step and due() and all(entry["step"] != progress.step for entry in progress.history):
            keep(self._scored(score(), log))  # an interrupt after this step came before its scoring
        batches = batches_of(self.loader)
        with interrupts_between_steps() as interrupted, tqdm(
            total=recipe.steps, initial=progress.step, desc="training", unit="step", disable=not self.dist.is_main,
            dynamic_ncols=True, smoothing=0.1,
        ) as bar:  # fmt: skip
            while progress.step < recipe.steps:
                asked = time.monotonic()
                batch = next(batches)
                self.waited += time.monotonic() - asked
                loss = self.step(*batch)
                progress.step += 1
                progress.loss = loss if progress.loss is None else 0.95 * progress.loss + 0.05 * loss
                bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
                bar.update()
                if interrupted.is_set():
                    self._check_weights()
                    save(False)
                    raise KeyboardInterrupt
                finished = progress.step == recipe.steps
                if progress.step % 10 == 0 or finished:
                    log("loss", loss, progress.step)
                    log("rate", self.optimizer.param_groups[0]["lr"], progress.step)
                    log("share of time waiting for data", self.waited / (time.monotonic() - begun), progress.step)
                if due():
                    best = self._scored(score(), log)
                    begun, self.waited = time.monotonic(), 0.0
                elif finished or (progress.step % 10 == 0 and time.monotonic() - saved > save_seconds):
                    best = False
                else:
                    continue
                keep(best)
                saved = time.monotonic()

    def _scored(self, scores: dict, log) -> bool:
        progress = self.progress
        entry = {"step": progress.step, "miou": scores["miou"], "pixel_accuracy": scores["pixel_accuracy"]}
        progress.history.append(entry)
        for name in ("miou", "pixel_accuracy"):
            log(f"held out {name}", entry[name], progress.step)
        best = progress.best is None or entry["miou"] > progress.best
        progress.best = max(entry["miou"], progress.best or 0.0)
        return best

    def step(self, numbers: Tensor, images: Tensor, labels: Tensor) -> float:
        """Take one optimiser step.

        Args:
            numbers: int64 B, of the pictures in ``data.ids``, for messages.
            images, labels: float32 Bx3xSxS, int64 BxSxS; this process's part.

        Returns:
            the loss a pixel over all processes.
        """
        recipe, device = self.recipe, self.dist.device
        done = self.progress.step
        # Dropout follows from the step alone.
        torch.manual_seed((recipe.seed * 1_000_003 + done) * 1_009 + self.dist.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * group["factor"] * recipe.rate(done)
        images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
        labels = labels.to(device, non_blocking=True)
        with torch.autocast(device.type, self.amp, enabled=self.amp is not None):
            logits = self._running(images)
        total, count = self.loss(logits.float(), labels)
        every = torch.stack([total.detach(), count.detach()])
        if self.dist.world > 1:
            torch.distributed.all_reduce(every)
        # DistributedDataParallel takes the mean over processes; the sum over pixels is wanted.
        pixels = every[1].clamp(min=1)
        value = (every[0] / pixels).item()
        if not math.isfinite(value):
            self._stop(numbers, total)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total * self.dist.world / pixels).backward()
        if recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update_parameters(self.net)
        return value

    def _check_weights(self) -> None:
        # Once before every save: each step would make a GPU wait.
        if not all(parameter.isfinite().all() for parameter in self.net.parameters()):
            raise NotFinite(
                f"the weights are no longer numbers after step {self.progress.step}. "
                "The last checkpoint is kept. Train with a lower --lr, --clip-norm, or --amp off"
            )

    def _stop(self, numbers: Tensor, total: Tensor) -> None:
        mine = [] if math.isfinite(total.item()) else [self.data.ids[number] for number in numbers.tolist()]
        names = [name for part in self.dist.gather(mine) for name in part]
        raise NotFinite(
            f"the loss is not a number at step {self.progress.step + 1}, in the batch of {', '.join(names)}. "
            "The last checkpoint is kept. Look at these pictures, or train with a lower --lr, --clip-norm, or --amp off"
        )


def check_batch(batch: int, world: int, sync_norm: bool) -> None:
    """Raise InputError for a batch of one: batch norm has no variance to divide by."""
    if batch * (world if sync_norm else 1) < 2:
        raise InputError("a batch of one picture cannot train batch norm; set --batch-size to 2 or more")


def _with_synchronised_norm(net: nn.Module) -> nn.Module:
    if next(net.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlooSyncBatchNorm2d
    return net


class GlooSyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on CPUs, where torch's `SyncBatchNorm` does not run."""

    def forward(self, x: Tensor) -> Tensor:
        """float BxCxHxW -> BxCxHxW."""
        if not self.training:
            return super().forward(x)
        parts = _SumOverProcesses.apply(torch.cat([x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])]))
        number = parts[-1].detach()
        mean = parts[:-1] / number
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply((centred * centred).sum((0, 2, 3))) / number
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        # Every process's loss depends on every process's x.
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


def score_pictures(
    segmenter: Segmenter, ids: list[str], images: Path, gt: Path, dist: Dist
) -> tuple[dict, dict[str, str]]:
    """Score whole pictures at their own size, shared out over the processes.

    Returns:
        scores (see `util.evaluation.metrics.scores_of`), and id -> message for pictures that could not be scored.
    """
    matrix, failures = ConfusionMatrix(len(segmenter.classes)), {}
    for image_id in tqdm(dist.shard(ids), desc="scoring", unit="image", disable=not dist.is_main, leave=False):
        try:
            image, truth, _ = read_pair(images, gt, len(segmenter.classes), image_id)
        except InputError as error:
            failures[image_id] = str(error)
            continue
        matrix.update(segmenter.predict(image).argmax(0).astype(np.uint8), truth)
    whole = ConfusionMatrix(len(segmenter.classes))
    for part, part_failures in dist.gather((matrix, failures)):
        whole.merge(part)
        failures = failures | part_failures
    return whole.scores(segmenter.classes), failures


@contextlib.contextmanager
def interrupts_between_steps() -> Iterator[threading.Event]:
    """Within, a first Ctrl-C or SIGTERM only sets the event, so that no step is broken off half-way; a second ends all.

    Outside the main thread, where Python takes no signals, nothing changes.
    """
    wanted = threading.Event()

    def note(number, frame):
        if wanted.is_set():
            raise KeyboardInterrupt
        wanted.set()

    if threading.current_thread() is not threading.main_thread():
        yield wanted
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_worker(number: int) -> None:
    start_worker()
    cv2.setNumThreads(0)
