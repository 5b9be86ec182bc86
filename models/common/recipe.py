"""How a network is trained; without torch, so that scripts can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass

WARM_UP_START = 0.1
LOSSES = 50  # points of a curve of the loss where nothing is measured before the end


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Optimiser, schedule and precision.

    Attributes:
        steps, batch_size: optimiser steps, and images per step of one process.
        lr: learning rate at its highest.
        optimizer: ``sgd`` or ``adamw``.
        momentum, weight_decay: of the optimiser; AdamW takes only the second.
        schedule: ``poly``: the rate falls as (1 - t) ** 0.9; or ``constant``.
        warm_up: share of the steps in which the rate rises to its height.
        clip_norm: gradients longer than this are shortened to it; 0 leaves them.
        ema: decay of the moving average of the weights; 0 for none.
        amp: a key of `models.common.precision.DTYPES`.
        compile: whether to use ``torch.compile``.
        deterministic: whether a GPU uses only kernels that give the same bits every time.
        seed: of everything random.
        measure_every: steps between two measurements on held-out images, also fractions; 0: only after the last step.
    """

    steps: int
    batch_size: int
    lr: float
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "poly"
    warm_up: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    amp: str = "off"
    compile: bool = False
    deterministic: bool = False
    seed: int = 0
    measure_every: float = 0.0

    def rate(self, step: int) -> float:
        """The factor of the learning rate at a step counted from 0."""
        warm_steps = round(self.warm_up * self.steps)
        warm = min(1.0, WARM_UP_START + (1 - WARM_UP_START) * step / warm_steps) if warm_steps else 1.0
        return warm * (1 - step / self.steps) ** 0.9 if self.schedule == "poly" else warm

    def measures_after(self, step: int) -> bool:
        """Whether to measure once this many steps were taken."""
        if step == self.steps or not self.measure_every:
            return step == self.steps
        return int(step / self.measure_every + 1e-9) > int((step - 1) / self.measure_every + 1e-9)

    def enters_loss_after(self, step: int) -> bool:
        """Whether the history gets the loss alone once this many steps were taken: where only the end is measured."""
        if 0 < self.measure_every < self.steps or step == self.steps:
            return False
        return step % max(1, round(self.steps / LOSSES)) == 0
