"""How far a training has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: steps taken.
        loss: running mean of the loss, for the progress bar.
        loss_sum, loss_count: of the steps since the last entry of the history.
        history: one entry per measurement: ``step``, ``epoch``, ``loss``, ``lr`` and the scores; where only the end is
            measured, also entries without scores before it.
        measured: the step of the last measurement; 0: none.
        best: highest held-out score so far, or None.
    """

    step: int = 0
    loss: float | None = None
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    measured: int = 0
    best: float | None = None

    def note(self, loss: float) -> None:
        """Take note of the loss of a step."""
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1

    def enter(self, epoch: float, rate: float, scores: dict[str, Any]) -> None:
        """Add an entry to the history, with the mean loss since the one before."""
        mean = self.loss_sum / self.loss_count if self.loss_count else None
        self.loss_sum, self.loss_count = 0.0, 0
        self.history.append({"step": self.step, "epoch": epoch, "loss": mean, "lr": rate, **scores})
