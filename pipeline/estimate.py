"""How long a run has taken, and about how long it will."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from merge import STRATEGIES
from pipeline.plan import Plan
from pipeline.stages import HELD_OUT_SHOWN, Stage, sam_options
from util.data.ids import read_id_list
from util.runtime.cli import default_workers

# Seconds of one processor core per image (for the classifier per image and epoch, for DeepLabV3+ per image of a step)
# with the scripts' defaults and MobileNetV2, measured on VOC's images; of a SAM only ViT-B was measured.
CORE_SECONDS = {"cam": 0.2, "labels": 0.5, "masks": 0.65, "compare": 0.03, "deeplab": 0.6, "score": 0.16}
SAM_CORE_SECONDS = {"vit_b": 277.0}
EPOCHS = {"cam": 20, "deeplab": 60}  # by default
CROP = 512  # by default
LONG = 120.0  # seconds; shorter stages need no estimate


@dataclass
class Clock:
    """The time of a run."""

    plan: Plan
    todo: Sequence[Stage]
    started: float = field(default_factory=time.monotonic)

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def note(self, number: int) -> str:
        """What is known before stage ``number`` of those to do: time so far, time that it will take."""
        passed = f"{clock(self.passed)} so far" if number and not self.plan.settings.dry_run else ""
        if self.plan.is_real:
            left = rough_time(self.plan, self.todo[number].name)
            left = f"about {left}; after a minute the progress bar knows better" if left else ""
        else:
            done = sum(stage.seconds for stage in self.todo[:number])
            rest = sum(stage.seconds for stage in self.todo[number:])
            left = f"about {clock(rest * self.passed / done)} left" if number else ""
        note = ", ".join(part for part in (passed, left) if part)
        return f"   ({note})" if note else ""


def rough_time(plan: Plan, stage: str) -> str:
    """About how long a stage takes on this processor; empty for a short one, or where it is not known."""
    seconds = rough_seconds(plan, stage)
    return in_words(seconds) if seconds >= LONG else ""


def rough_total(plan: Plan, stages: Sequence[Stage]) -> float:
    """About how many seconds some stages take on this processor; 0 where it is not known."""
    return sum(rough_seconds(plan, stage.name) for stage in stages)


def in_words(seconds: float) -> str:
    """Minutes, or hours."""
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"


def rough_seconds(plan: Plan, stage: str) -> float:
    """About how many seconds a stage takes on this processor; 0 where it is not known."""
    if plan.gpus or not plan.train.exists() or stage not in CORE_SECONDS:
        return 0.0
    options = [str(word) for word in plan.extra(stage)]
    ids = plan.val if stage == "score" and plan.val and plan.val.exists() else plan.train
    images = len(read_id_list(ids)) if stage != "score" or plan.has_scores else HELD_OUT_SHOWN
    seconds = images * CORE_SECONDS[stage]
    if stage in EPOCHS:
        seconds *= float(_value(options, "--epochs") or EPOCHS[stage])
        if steps := _value(options, "--steps"):
            seconds = float(steps) * float(_value(options, "--batch-size") or 8) * CORE_SECONDS[stage]
        seconds *= (float(_value(options, "--crop-size") or CROP) / CROP) ** 2
    if stage == "masks" and "regions" not in (model := sam_options(plan)):
        seconds = images * SAM_CORE_SECONDS.get(str(model[1]), 0)
    if stage == "compare" and plan.label is not None and plan.cam_labels is not None:
        seconds *= len(STRATEGIES)
    if stage in ("deeplab", "score"):
        seconds *= 1 + plan.has_baseline
    return seconds / default_workers()


def _value(options: Sequence[str], name: str) -> str | None:
    """The value of an option; the last one counts."""
    places = [place for place, word in enumerate(options[:-1]) if word == name]
    return options[places[-1] + 1] if places else None


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{math.floor(seconds / 60)}:{math.floor(seconds % 60):02}"
