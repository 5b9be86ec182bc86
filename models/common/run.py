"""A training and its output folder: resuming, checkpoints, ``history.json``, ``run.json``, curves and TensorBoard."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.tensorboard import SummaryWriter

from models.common.precision import choose_precision, use_tf32
from models.common.recipe import Recipe
from models.common.training import Trainer
from models.common.weights import names_file
from util.figures.charts import draw_curves
from util.figures.style import data_name, described
from util.runtime import checkpoint
from util.runtime.distributed import Dist
from util.runtime.errors import InputError, counted
from util.runtime.files import delete, digest, file_digest, write_json
from util.runtime.locking import lock_if
from util.runtime.provenance import code_digest, write_run_json

R = TypeVar("R", bound=Recipe)
# Options that the result does not depend on, or that others stand for: the files that paths lead to have digests.
_IGNORED = {
    "out",
    "device",
    "workers",
    "data_name",
    "overwrite",
    "retrain",
    "save_minutes",
    "weights",
    "encoder_weights",
}


class Keeper:
    """Writes what a training leaves in its folder; only the main process does.

    Args:
        out: the folder.
        trainer: what is saved.
        options: everything that the result depends on.
    """

    def __init__(self, out: Path, trainer: Trainer, options: dict[str, Any]):
        self.out, self.trainer, self.task, self.options = out, trainer, trainer.task, options
        self.writer = None
        if trainer.dist.is_main:
            write_json(out / "history.json", trainer.progress.history)
            write_run_json(out / "run.json", options)
            self.writer = SummaryWriter(str(out), purge_step=trainer.progress.step + 1)

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.writer:
            self.writer.close()

    def log(self, name: str, value: float, step: int) -> None:
        """Enter a value into TensorBoard."""
        if self.writer:
            self.writer.add_scalar(name, value, step)

    def save(self, best: bool) -> None:
        """Save the state, also as ``best.pth`` if it is the best; after a measurement, show where the training is."""
        if self.writer is None:
            return
        trainer, progress, history = self.trainer, self.trainer.progress, self.trainer.progress.history
        measured = [entry for entry in history if self.task.metric in entry]
        content = {
            **self.task.content(trainer.model, measured[-1] if measured else None),
            "options": self.options,
        }
        # What is written before last.pth, a run that is killed in between writes again. best.pth, whose content last.pth
        # has, too, is made again from it: the GPU waits for the disk once.
        write_json(self.out / "history.json", history)
        checkpoint.save(self.out / "last.pth", {**content, "training": {**trainer.state(), "is_best": best}})
        if best:
            checkpoint.save(self.out / "best.pth", content, durable=False)
        elif progress.best is None:
            delete(self.out / "best.pth")  # of an earlier network
        if history and progress.measured == progress.step:
            self.task.show(trainer.model, history[-1], self.writer)


def train_into(
    args: argparse.Namespace,
    dist: Dist,
    options: dict[str, Any],
    make_trainer: Callable[[dict[str, Any] | None], Trainer],
    save_seconds: float,
) -> Trainer:
    """Train, or resume a training, with its results and its curves in ``args.out``.

    Args:
        args: with ``out``, ``overwrite``, ``retrain``, ``list`` and ``val_list``.
        options: everything that the result depends on, see `resume_options`.
        make_trainer: called with the checkpoint to resume from, or None.
        save_seconds: between two saves.

    Raises:
        InputError: as `models.common.training.Trainer.run`, or if a checkpoint in the folder has other options, is
            damaged, or the disk is full.
    """
    last = args.out / "last.pth"
    with lock_if(dist.is_main, args.out):
        resumed = checkpoint.load_to_resume(last, options, args.overwrite, args.retrain)
        if resumed is None and args.retrain and last.exists():
            say(dist, f"{last}: trained again, with other options, data or code than before")
        if resumed is not None and dist.is_main and checkpoint.restore_best(args.out / "best.pth", resumed):
            say(dist, f"{args.out / 'best.pth'}: made again from {last}, which holds the same step")
        torch.manual_seed(args.seed)
        trainer = make_trainer(resumed)
        if resumed is not None:
            trainer.load_state(resumed["training"])
            say(dist, f"{last}: {trainer.progress.step} of {counted(trainer.recipe.steps, 'step')} done")
            del resumed
        with Keeper(args.out, trainer, options) as keeper:
            trainer.run(keeper.save, save_seconds=save_seconds, log=keeper.log)
        if dist.is_main:
            _draw_history(args, trainer)
    say(dist, f"{last}: trained for {counted(trainer.progress.step, 'step')}")
    return trainer


def _draw_history(args: argparse.Namespace, trainer: Trainer) -> None:
    """Draw the curves of the training to ``curves.pdf`` and ``curves.png``."""
    count = len(trainer.data)  # type: ignore[arg-type]
    title = f"Trained on {described(args.data_name or data_name(args.list), count)}"
    if args.val_list is not None:
        title += f"\nHeld out: {data_name(args.val_list)}"
    draw_curves(args.out / "curves", {args.out.name: trainer.progress.history}, title)


def resolve(recipe: R, dist: Dist) -> R:
    """The recipe with its precision decided; also sets up what torch's kernels may do.

    Args:
        recipe: its ``amp`` may be ``auto``.
    """
    if dist.device.type == "cuda":
        torch.backends.cudnn.benchmark = not recipe.deterministic  # crops are all of one size
    if not recipe.deterministic:
        use_tf32(recipe.amp, dist)
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
        torch.use_deterministic_algorithms(True)
    return replace(recipe, amp=choose_precision("--amp", recipe.amp, dist))


def resume_options(args: argparse.Namespace, recipe: Recipe, dist: Dist, code: str, **more: object) -> dict[str, Any]:
    """Everything that a training depends on: options, precision, processes, digests of files and code, not paths.

    Args:
        code: the source file of the task, which with its imports must not change.
        more: further entries.
    """
    found = {**vars(args), **asdict(recipe)}
    options = {name: value for name, value in found.items() if name not in _IGNORED and not isinstance(value, Path)}
    for name in ("weights", "encoder_weights"):
        value = getattr(args, name, None)
        if value is not None:
            options[name] = file_digest(checkpoint.checked_file(value)) if names_file(value) else value
    options |= {"processes": dist.world, "code_digest": code_digest([code]), **more}
    return json.loads(json.dumps(options))  # as they will be read again: tuples are lists


def digest_of(items: Iterable[object]) -> str:
    """Digest of plain values, such as ids with their classes."""
    return digest(json.dumps(list(items)))


def found_digest(find: Callable[[Path, str], Path], folder: Path, image_id: str) -> str:
    """Digest of an image's file; empty where there is none, which the training reports."""
    try:
        return file_digest(find(folder, image_id))
    except InputError:
        return ""


def say(dist: Dist, message: str) -> None:
    """Print once, whatever the number of processes."""
    if dist.is_main:
        print(message, flush=True)
