"""Training of the classifiers: the loop, its checkpoints, and the held-out average precision."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from models.cam.data import EpochOrder, TaggedImages
from models.common.convolution import check_mixed_precision
from util.data.voc import ClassTable
from util.runtime.parallel import batches_of, start_worker


@dataclass
class Progress:
    """Where a run stands; what a checkpoint holds beside the network and the optimiser.

    Attributes:
        epoch, step: the next step to take; ``step`` counts within the epoch.
        loss_sum, loss_count: of the steps of this epoch so far.
        history: one entry an epoch: ``epoch``, ``loss``, ``lr``, and ``map`` and ``ap`` when pictures are held out.
        best: highest mean average precision so far, or None.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict] = field(default_factory=list)
    best: float | None = None


class Trainer:
    """Trains a classifier on image-level labels by the multi-label soft margin loss of its ``logits``.

    Everything random is a function of the seed, the step and the process, so a run that was stopped and resumed
    at any step takes the same steps as one that was not.

    Args:
        net: on ``dist.device``; its output has ``logits`` (Bx(C-1)).
        data: training pictures with augmentation.
        held_out: pictures to measure average precision on, or None.
        dist: from `util.runtime.distributed.init`.
        epochs, batch: passes over the data, and pictures a step of one process.
        lr, weight_decay, poly: AdamW's; the learning rate falls as (1 - t)^0.9 if ``poly``, else it is constant.
        amp: dtype of mixed precision, or None.
        workers: processes that load pictures.
        seed: of everything random.

    Raises:
        InputError: for a precision that the network cannot be trained in.
    """

    def __init__(
        self,
        net: nn.Module,
        data: TaggedImages,
        held_out: TaggedImages | None,
        dist,
        *,
        epochs: int,
        batch: int,
        lr: float,
        weight_decay: float,
        poly: bool,
        amp: torch.dtype | None,
        workers: int,
        seed: int,
    ):
        check_mixed_precision(net, dist.device, amp)
        self.net, self.held_out, self.dist = net, held_out, dist
        self.epochs, self.batch, self.poly, self.amp, self.seed = epochs, batch, poly, amp, seed
        self.order = EpochOrder(len(data), batch, seed, dist.rank, dist.world)
        self.loader = self._loader(data, self.order, workers)
        self.workers = workers
        self.optimizer = torch.optim.AdamW(net.parameter_groups(lr), lr=lr, weight_decay=weight_decay)
        self.start_lrs = [group["lr"] for group in self.optimizer.param_groups]
        # Only float16 needs its gradients scaled: bfloat16 has the range of float32.
        self.scaler = torch.amp.GradScaler(dist.device.type, enabled=amp is torch.float16)
        self.progress = Progress()
        self.failures: set[str] = set()

    def _loader(self, data: TaggedImages, sampler, workers: int) -> DataLoader:
        return DataLoader(
            data,
            batch_size=self.batch,
            sampler=sampler,
            num_workers=workers,
            pin_memory=self.dist.device.type == "cuda",
            worker_init_fn=start_worker,
            persistent_workers=workers > 0 and isinstance(sampler, EpochOrder),
        )

    def state(self) -> dict:
        """Everything but the network that a resumed run needs."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": vars(self.progress).copy(),
        }

    def load_state(self, state: dict) -> None:
        """Continue where `state` was taken; the network is loaded by the caller."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])

    def run(self, save: Callable[[bool], None], save_seconds: float, log: Callable[[str, float, int], None]) -> None:
        """Train to the end.

        Args:
            save: called with whether the epoch just ended is the best so far; at the end of every epoch, in between
                every ``save_seconds``, and when interrupted.
            log: called with a name, a value and the number of steps taken so far.
        """
        net = self._distributed()
        while self.progress.epoch < self.epochs:
            self._epoch(net, save, save_seconds, log)
            if self.held_out is not None:
                save(False)  # a run that ends while it measures need not repeat the epoch
            save(self._end_epoch(log))

    def _distributed(self) -> nn.Module:
        if self.dist.world == 1:
            return self.net
        if self.dist.device.type != "cuda":
            return nn.parallel.DistributedDataParallel(self.net)
        net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)  # swaps layers inside self.net; names stay
        return nn.parallel.DistributedDataParallel(net, device_ids=[self.dist.device])

    def _epoch(self, net: nn.Module, save, save_seconds: float, log) -> None:
        progress = self.progress
        self.net.train()
        self.order.epoch, self.order.start = progress.epoch, progress.step
        saved = time.monotonic()
        with (
            _Interrupts() as interrupted,
            tqdm(
                total=self.order.steps,
                initial=progress.step,
                desc=f"epoch {progress.epoch + 1}/{self.epochs}",
                unit="step",
                disable=self.dist.rank > 0,
                dynamic_ncols=True,
            ) as bar,
        ):
            for images, targets, weights, messages in batches_of(self.loader):
                self._report(messages)
                loss = self.step(net, images, targets, weights)
                progress.step += 1
                progress.loss_sum += loss
                progress.loss_count += 1
                bar.set_postfix(loss=f"{progress.loss_sum / progress.loss_count:.4f}")
                bar.update()
                if progress.step % 20 == 0:
                    log("loss", loss, self._steps_taken())
                if interrupted.asked:
                    save(False)
                    raise KeyboardInterrupt
                if save_seconds and time.monotonic() - saved > save_seconds and progress.step < self.order.steps:
                    save(False)
                    saved = time.monotonic()

    def step(self, net: nn.Module, images: Tensor, targets: Tensor, weights: Tensor) -> float:
        """One optimiser step.

        Args:
            net: the network, bare or as one of several processes has it, in training mode.
            images, targets, weights: float Bx3xHxW, Bx(C-1) in {0, 1}, and B, 0 for pictures that could not be read.

        Returns:
            the loss of this batch.
        """
        device = self.dist.device
        steps = self._steps_taken()
        torch.manual_seed((self.seed * 1_000_003 + steps) * 1_009 + self.dist.rank)
        rate = (1 - steps / (self.epochs * self.order.steps)) ** 0.9 if self.poly else 1.0
        for group, lr in zip(self.optimizer.param_groups, self.start_lrs, strict=True):
            group["lr"] = lr * rate
        images, targets, weights = (x.to(device, non_blocking=True) for x in (images, targets, weights))
        with torch.autocast(device.type, self.amp, enabled=self.amp is not None):
            logits = net(images, with_attention=False).logits
        each = F.multilabel_soft_margin_loss(logits.float(), targets, reduction="none")
        loss = (each * weights).sum() / weights.sum().clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()

    def _steps_taken(self) -> int:
        return self.progress.epoch * self.order.steps + self.progress.step

    def _end_epoch(self, log) -> bool:
        progress = self.progress
        entry = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / max(progress.loss_count, 1),
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        log("epoch_loss", entry["loss"], self._steps_taken())
        best = False
        if self.held_out is not None:
            ap = self.average_precision()
            entry["ap"] = [None if np.isnan(value) else float(value) for value in ap]
            entry["map"] = float(np.nanmean(ap)) if not np.isnan(ap).all() else 0.0
            log("held_out_map", entry["map"], self._steps_taken())
            best = progress.best is None or entry["map"] > progress.best
            progress.best = entry["map"] if best else progress.best
        progress.history.append(entry)
        progress.epoch, progress.step, progress.loss_sum, progress.loss_count = progress.epoch + 1, 0, 0.0, 0
        return best

    @torch.inference_mode()
    def average_precision(self) -> np.ndarray:
        """Average precision of every class on the held-out pictures: float64 C-1, NaN where a class never occurs."""
        self.net.eval()
        sampler = range(self.dist.rank, len(self.held_out), self.dist.world)
        scores, truth = [], []
        for images, targets, weights, messages in batches_of(self._loader(self.held_out, sampler, self.workers)):
            self._report(messages)
            with torch.autocast(self.dist.device.type, self.amp, enabled=self.amp is not None):
                logits = self.net(images.to(self.dist.device), with_attention=False).logits
            scores.append(logits.float().cpu()[weights > 0])
            truth.append(targets[weights > 0])
        found = (torch.cat(scores).numpy(), torch.cat(truth).numpy())
        if self.dist.world > 1:
            gathered = [None] * self.dist.world
            torch.distributed.all_gather_object(gathered, found)
            found = tuple(np.concatenate([part[index] for part in gathered]) for index in (0, 1))
        return average_precision(*found)

    def _report(self, messages: list[str]) -> None:
        for message in messages:
            if message and message not in self.failures:
                self.failures.add(message)
                tqdm.write(message)


class _Interrupts:
    """Puts Ctrl-C and SIGTERM off until the step under way is done; a second one stops at once."""

    def __enter__(self) -> _Interrupts:
        self.asked = False
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


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


def ap_table(entry: dict, classes: ClassTable) -> str:
    """A line an occurring class with its average precision in per cent, and their mean."""
    lines = [
        f"{name:<22} {100 * value:7.2f}"
        for name, value in zip(classes.names[1:], entry["ap"], strict=True)
        if value is not None
    ]
    return "\n".join([f"{'class':<22} {'AP':>7}", *lines, f"{'mean':<22} {100 * entry['map']:7.2f}"])
