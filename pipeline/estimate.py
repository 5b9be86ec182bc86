"""How long a run has taken, and about how long it will."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from merge import STRATEGIES
from pipeline.plan import Plan
from pipeline.stages import HELD_OUT_SHOWN, Stage, sam_options
from util.data.ids import read_id_list
from util.runtime.commands import first_values
from util.runtime.processors import processors

# Seconds of one processor core per image (for the classifier per image and epoch, for DeepLabV3+ per image of a step)
# with the scripts' defaults: measured on VOC's images with MobileNetV2, times what the default encoder takes of its time
# in a step and in inference (1.2 to 1.8); of a SAM only ViT-B was measured.
CORE_SECONDS = {"cam": 0.36, "labels": 0.65, "masks": 0.65, "merge": 0.03, "deeplab": 0.9, "score": 0.2}
SAM_CORE_SECONDS = {"vit_b": 277.0}
EPOCHS = {"cam": 20, "deeplab": 60}  # by default
CROP = 512  # by default
LONG = 120.0  # seconds; shorter stages need no estimate


@dataclass
class Clock:
    """The time of a run."""

    plan: Plan
    todo: Sequence[Stage]
    kept: Mapping[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def note(self, number: int) -> str:
        """What is known before stage ``number`` of those to do: time so far, what is kept, time that it will take."""
        share = self.kept.get(self.todo[number].name, 0)
        kept = "kept" if share == 1 else f"{100 * share:.0f} % kept" if share else ""
        passed = f"{clock(self.passed)} so far" if number and not self.plan.settings.dry_run else ""
        if self.plan.is_real:
            left = rough_time(self.plan, self.todo[number].name, share)
            left = f"about {left}; the progress bar is more accurate after a minute" if left else ""
        else:
            weights = [stage.seconds * (1 - self.kept.get(stage.name, 0)) for stage in self.todo]
            done, rest = sum(weights[:number]), sum(weights[number:])
            left = f"about {clock(rest * self.passed / done)} left" if done and not self.plan.settings.dry_run else ""
        note = ", ".join(part for part in (passed, kept, left) if part)
        return f"   ({note})" if note else ""


def rough_time(plan: Plan, stage: str, kept: float = 0) -> str:
    """About how long a stage takes on this processor; empty for a short one, or where it is not known.

    Args:
        kept: share of its work that is done, 0 to 1.
    """
    seconds = rough_seconds(plan, stage) * (1 - kept)
    return in_words(seconds) if seconds >= LONG else ""


def rough_total(plan: Plan, stages: Sequence[Stage], kept: Mapping[str, float] | None = None) -> float:
    """About how many seconds some stages take on this processor; 0 where it is not known."""
    return sum(rough_seconds(plan, stage.name) * (1 - (kept or {}).get(stage.name, 0)) for stage in stages)


def masks_note(plan: Plan, stages: Sequence[Stage], kept: Mapping[str, float]) -> str:
    """What to say of masks by a SAM whose time on a processor is not known, and so not in `rough_total`; else empty."""
    to_do = any(stage.name == "masks" for stage in stages) and kept.get("masks") != 1
    model = sam_options(plan)
    if not to_do or plan.gpus or not plan.train.exists() or "regions" in model or str(model[1]) in SAM_CORE_SECONDS:
        return ""
    seconds = len(read_id_list(plan.train, plan.images)) * SAM_CORE_SECONDS["vit_b"] / processors()
    return f"masks: no time is known for this SAM without a GPU; vit_b would take about {in_words(seconds)}"


def in_words(seconds: float) -> str:
    """Minutes, or hours."""
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"


def rough_seconds(plan: Plan, stage: str) -> float:
    """About how many seconds a stage takes on this processor; 0 where it is not known."""
    if plan.gpus or not plan.train.exists() or stage not in CORE_SECONDS:
        return 0.0
    options = first_values(map(str, plan.extra(stage)))
    ids = plan.val if stage == "score" and plan.val and plan.val.exists() else plan.train
    images = len(read_id_list(ids, plan.images)) if stage != "score" or plan.has_scores else HELD_OUT_SHOWN
    seconds = images * CORE_SECONDS[stage]
    if stage in EPOCHS:
        seconds *= float(options.get("--epochs") or EPOCHS[stage])
        if steps := options.get("--steps"):
            seconds = float(steps) * float(options.get("--batch-size") or 8) * CORE_SECONDS[stage]
        seconds *= (float(options.get("--crop-size") or CROP) / CROP) ** 2
    if stage == "masks" and "regions" not in (model := sam_options(plan)):
        seconds = images * SAM_CORE_SECONDS.get(str(model[1]), 0)
    if stage == "merge" and plan.label is not None and plan.cam_labels is not None:
        seconds *= len(STRATEGIES)
    if stage in ("deeplab", "score"):
        seconds *= 1 + plan.has_baseline
    return seconds / processors()


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{math.floor(seconds / 60)}:{math.floor(seconds % 60):02}"
