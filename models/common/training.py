"""The training loop of the classifiers and of DeepLabV3+.

Everything random is a function of the seed, the step and the process: a run that was stopped after any step and resumed
takes the same steps as one that was not. Several processes of batch B take the step of one process of batch
B x processes: losses are averaged over what all count, and batch norm is synchronised.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NoReturn

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models.common.averaging import MovingAverage
from models.common.convolution import check_mixed_precision
from models.common.interrupts import Interrupts
from models.common.memory import memory_named
from models.common.order import StepOrder
from models.common.precision import DTYPES, autocast
from models.common.progress import Progress
from models.common.recipe import Recipe
from models.common.sync_norm import with_synchronised_norm
from models.common.task import Task
from util.runtime.distributed import Dist
from util.runtime.errors import InputError
from util.runtime.parallel import LostWorker, batches_of, start_worker
from util.runtime.progress import Progress as Bar

LOG_STEPS = 10  # between two entries in TensorBoard, two looks at the clock, and on a GPU two looks at the losses
Batch = list[Any]


@dataclass
class Unread:
    """A step whose loss has not been looked at.

    Attributes:
        step: its number, counted from 1.
        numbers: of this process's images.
        values: float32 4 on the device: the sum of the losses of all processes, how many were summed, how many
            processes were asked to stop, and the sum of this process's losses.
    """

    step: int
    numbers: Tensor
    values: Tensor


class NotFinite(InputError):
    """The loss, or a weight, is no longer a number."""


class Trainer:
    """Trains a network.

    Args:
        net: on ``dist.device``.
        task: what it is trained for.
        data: items are ``(number, image, ...)``, images uint8 3xSxS; see `StepOrder` for what it is asked for. Its ``ids``
            name the images in messages.
        recipe: how to train; its precision is no longer ``auto``.
        dist: from `util.runtime.distributed.init`.
        workers: processes that load images; 0 loads in this one.
        sync_norm: synchronise batch norm over processes.

    Attributes:
        waited: seconds that were spent waiting for data.
        read_steps: steps between two looks at the losses, for each of which a GPU is waited for. A loss that is not a
            number ends the run so many steps later at most, and before anything is saved.

    Raises:
        InputError: for a precision that the network cannot be trained in.
    """

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        data: Dataset[Any],
        recipe: Recipe,
        dist: Dist,
        *,
        workers: int,
        sync_norm: bool = True,
    ):
        self.task, self.data, self.recipe, self.dist, self.sync_norm = task, data, recipe, dist, sync_norm
        self.net = with_synchronised_norm(net, dist.device) if dist.world > 1 and sync_norm else net
        self.amp = DTYPES[recipe.amp]
        check_mixed_precision(net, dist.device, self.amp)
        # Fused kernels also leave a step out where float16 overflowed, without the host's looking.
        self.optimizer = optimizer_of(task.parameter_groups(self.net), recipe, fused=dist.device.type == "cuda")
        self.highest_rates = [group["lr"] for group in self.optimizer.param_groups]
        # Only float16 needs its gradients scaled: bfloat16 has the range of float32.
        self.scaler = torch.amp.GradScaler(dist.device.type, enabled=self.amp is torch.float16)
        self.average = MovingAverage(self.net, recipe.ema) if recipe.ema else None
        self.progress = Progress()
        self.interrupts = Interrupts()
        self.waited, self._since = 0.0, time.monotonic()
        self.read_steps = LOG_STEPS if dist.device.type == "cuda" else 1
        self._unread: list[Unread] = []
        count = len(data)  # type: ignore[arg-type]
        self.epoch_steps = count / (recipe.batch_size * dist.world)
        self.order = StepOrder(count, recipe.batch_size, recipe.steps, recipe.seed, dist.rank, dist.world)
        self.loader = DataLoader(
            data,
            batch_sampler=self.order,
            num_workers=workers,
            pin_memory=dist.device.type == "cuda",
            prefetch_factor=4 if workers else None,
            worker_init_fn=_start_worker,
        )
        self._running = self._wrapped(self.net)

    def _wrapped(self, net: nn.Module) -> nn.Module:
        if self.recipe.compile:
            if self.dist.device.type == "cuda" and find_spec("triton") is None:
                raise InputError(
                    "--compile: for a GPU torch needs the package triton (on Windows: triton-windows), which is not installed; "
                    "install it, or leave --compile out"
                )
            net = torch.compile(net)  # type: ignore[assignment]
        if self.dist.world == 1:
            return net
        devices = [self.dist.device] if self.dist.device.type == "cuda" else None
        wrapper = nn.parallel.DistributedDataParallel
        # Buffers need no broadcast: statistics are synchronised, or rank 0's are broadcast where they count. torch 2.13
        # has another name for that.
        renamed = "forward_sync_buffers" in inspect.signature(wrapper).parameters
        buffers: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
        # The graph is the same at every step: parameters that it never reaches (EfficientNet's last layers) are then no
        # error.
        return wrapper(net, devices, gradient_as_bucket_view=True, static_graph=True, **buffers)

    @property
    def model(self) -> nn.Module:
        """The network to use: the moving average where there is one."""
        return self.average.net if self.average else self.net

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": vars(self.progress).copy(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.net.load_state_dict(state["net"])
        if self.average:
            self.average.net.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])

    def run(
        self,
        save: Callable[[bool], None],
        *,
        save_seconds: float = 600,
        log: Callable[[str, float, int], None] = lambda name, value, step: None,
    ) -> None:
        """Train to the end.

        Args:
            save: called with whether the state was just measured as the best; every ``save_seconds``, after every
                measurement, when interrupted and at the end.
            log: called with a name, a value and the number of steps taken.

        Raises:
            NotFinite: if the loss is no longer a number, see ``read_steps``; or if the weights are not, which happens
                where a finite loss has an infinite gradient. Nothing is saved then.
            InputError: if the device's memory does not hold a step.
            KeyboardInterrupt: if this or another process was asked to stop; the state was saved.
        """
        progress, recipe = self.progress, self.recipe
        self.order.start = progress.step
        if progress.step and recipe.measures_after(progress.step) and not self._is_measured():
            self._measure(save, log)  # an interrupt after this step came before its measurement
        self.task.train_mode(self.net)
        with self.interrupts, _memory_named(recipe), self._bar() as bar:
            try:
                self._take_steps(bar, save, save_seconds, log)
            except LostWorker:
                # Ctrl-C ends a worker that is spawned and not yet set up; of several processes each would save alone.
                if not self.interrupts.asked or self.dist.world > 1:
                    raise
                self._save(save)
                raise KeyboardInterrupt from None

    def _take_steps(
        self,
        bar: Bar,
        save: Callable[[bool], None],
        save_seconds: float,
        log: Callable[[str, float, int], None],
    ) -> None:
        progress, recipe = self.progress, self.recipe
        saved = self._since = time.monotonic()
        for batch in self._batches():
            self.step(*batch)
            progress.step += 1
            if progress.loss is not None:
                bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
            bar.update()
            self._log_step(log)
            if recipe.enters_loss_after(progress.step):
                self._read()
                self._enter({})
            if self.interrupts.asked if self.dist.world == 1 else self.interrupts.agreed:
                self._save(save)
                raise KeyboardInterrupt
            if recipe.measures_after(progress.step):
                self._measure(save, log)
                saved = time.monotonic()
            elif progress.step % LOG_STEPS == 0 and time.monotonic() - saved > save_seconds:
                self._save(save)
                saved = time.monotonic()

    def step(self, numbers: Tensor, images: Tensor, *targets: Any) -> Tensor:
        """Take one optimiser step, which is counted by the caller.

        Args:
            numbers: int64 B, of the images in ``data.ids``, for messages.
            images: uint8 Bx3xSxS; this process's part.
            targets: for the task's loss.

        Returns:
            the mean loss over all processes, a number on the device.

        Raises:
            NotFinite: see `run`.
        """
        recipe, device, done = self.recipe, self.dist.device, self.progress.step
        torch.manual_seed((recipe.seed * 1_000_003 + done) * 1_009 + self.dist.rank)  # dropout follows from the step
        for group, highest in zip(self.optimizer.param_groups, self.highest_rates, strict=True):
            group["lr"] = highest * recipe.rate(done)
        images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
        targets = tuple(part.to(device, non_blocking=True) if isinstance(part, Tensor) else part for part in targets)
        pixels = self.task.normalization(images)
        with autocast(device, self.amp):
            output = self.task.forward(self._running, pixels)
        total, count = self.task.loss(output.float(), *targets)
        values = self._summed(total.detach(), count.detach())
        self._unread.append(Unread(done + 1, numbers, values))
        if (done + 1) % self.read_steps == 0:
            self._read()
        everywhere = values[1].clamp(min=1)
        # DistributedDataParallel takes the mean over processes; the sum over all that count is wanted.
        self._descend(total * self.dist.world / everywhere)
        return values[0] / everywhere

    def _summed(self, total: Tensor, count: Tensor) -> Tensor:
        """What `Unread` keeps of a step."""
        asked = total.new_full((), self.interrupts.asked)
        sums = torch.stack([total, count.to(total.dtype), asked])
        if self.dist.world > 1:
            torch.distributed.all_reduce(sums)
        return torch.cat([sums, total[None]])

    def _read(self) -> None:
        """Look at the losses of the last steps; the device is waited for once."""
        unread, self._unread = self._unread, []
        rows = torch.stack([entry.values for entry in unread]).tolist() if unread else []
        for entry, (total, count, asked, own) in zip(unread, rows, strict=True):
            if not math.isfinite(total / max(count, 1)):
                self._stop(entry, own)
            self.progress.note(total / max(count, 1))
            self.interrupts.agreed |= asked > 0

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.recipe.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(first=self.progress.step == 0)

    def _batches(self) -> Iterator[Batch]:
        batches = batches_of(self.loader)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def _bar(self) -> Bar:
        return Bar(
            total=self.recipe.steps,
            initial=self.progress.step,
            desc="training",
            unit="step",
            disable=not self.dist.is_main,
            smoothing=0.1,
        )

    def _log_step(self, log: Callable[[str, float, int], None]) -> None:
        progress = self.progress
        if progress.loss is not None and (progress.step % LOG_STEPS == 0 or progress.step == self.recipe.steps):
            log("loss", progress.loss, progress.step)
            log("learning rate", self.optimizer.param_groups[0]["lr"], progress.step)
            waiting = self.waited / max(time.monotonic() - self._since, 1e-9)
            log("share of time waiting for data", waiting, progress.step)

    def _is_measured(self) -> bool:
        return self.progress.measured == self.progress.step

    def _enter(self, scores: dict[str, Any]) -> None:
        epoch = round(self.progress.step / self.epoch_steps, 2)
        self.progress.enter(epoch, self.optimizer.param_groups[0]["lr"], scores)

    def _measure(self, save: Callable[[bool], None], log: Callable[[str, float, int], None]) -> None:
        """Measure the network on held-out images, enter it into the history, and save."""
        progress, model, begun = self.progress, self.model, time.monotonic()
        self._read()
        self._check_weights()
        if self.dist.world > 1 and not self.sync_norm:
            for buffer in model.buffers():  # all processes measure the network that rank 0 saves
                torch.distributed.broadcast(buffer, 0)
        model.eval()
        scores = self.task.measure(model)
        self.task.train_mode(self.net)
        self._enter(scores)
        progress.measured = progress.step
        for name, value in scores.items():
            if isinstance(value, float):
                log(f"held out {name}", value, progress.step)
        score = scores.get(self.task.metric)
        best = score is not None and (progress.best is None or score > progress.best)
        progress.best = score if best else progress.best
        self._save(save, best)
        self._since += time.monotonic() - begun  # measuring is not training

    def _save(self, save: Callable[[bool], None], best: bool = False) -> None:
        self._read()
        self._check_weights()
        save(best)

    def _check_weights(self) -> None:
        # Once before every save: each step would make a GPU wait.
        if not torch.stack([parameter.isfinite().all() for parameter in self.net.parameters()]).all():
            raise NotFinite(
                f"the weights are no longer numbers after step {self.progress.step}. "
                "The last checkpoint is kept. Train with a lower --lr, --clip-norm, or --amp off"
            )

    def _stop(self, entry: Unread, own: float) -> NoReturn:
        ids = self.data.ids  # type: ignore[attr-defined]
        mine = [] if math.isfinite(own) else [ids[number] for number in entry.numbers.tolist()]
        names = [name for part in self.dist.gather(mine) for name in part]
        raise NotFinite(
            f"the loss is not a number at step {entry.step}, in the batch of {', '.join(names)}. "
            "The last checkpoint is kept. Look at these images, or train with a lower --lr, --clip-norm, or --amp off"
        )


def optimizer_of(groups: list[dict[str, Any]], recipe: Recipe, *, fused: bool) -> torch.optim.Optimizer:
    """AdamW or SGD over groups of parameters, with torch's fused kernels or those that it chooses itself."""
    kernels = True if fused else None
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=kernels)
    sgd = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=kernels)
    if fused and recipe.momentum:
        # torch 2.14 leaves them uninitialised where float16 overflows in the first step, and goes on from there.
        for parameter in (parameter for group in sgd.param_groups for parameter in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _memory_named(recipe: Recipe) -> contextlib.AbstractContextManager[None]:
    """Within, a device that runs out of memory is an InputError that names the option to change."""
    return memory_named(
        f"training with {recipe.batch_size} images per step and process",
        "lower --batch-size or --crop-size and start again with --overwrite, or free memory",
    )


def _start_worker(number: int) -> None:
    start_worker()
    cv2.setNumThreads(0)
