"""Networks that are there and that this run would train otherwise, found before anything runs.

A training refuses to resume with other options, labels or code; the last one of a run would do so after hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.plan import Plan
from pipeline.stages import COMPARING, STAGES, Stage
from pipeline.steps import ROOT, Command
from util.runtime.commands import by_option
from util.runtime.errors import InputError
from util.runtime.files import read_json
from util.runtime.provenance import code_digest

# Options that results do not depend on, that others imply, or whose paths may be written in several ways.
_RUNNING = {"--out", "--workers", "--device", "--overwrite", "--retrain", "--save-minutes", "--mode", "--data-name"}
_LISTS = {"--list", "--image-list", "--val-list", "--image-labels", "--class-names", "--methods"}
_FOLDERS = {"--images", "--images-path", "--gt", "--gt-dir", "--cam-path", "--pseudo-path", "--sam-path"}
_NO_PART = _RUNNING | _LISTS | _FOLDERS | {"--checkpoint", *COMPARING}
_OPEN = "BEST"  # in the place of what is not chosen yet
CODE = {"cam": "models/cam/training.py", "deeplab": "models/segmentation/training.py"}


@dataclass(frozen=True)
class Result:
    """A folder that a stage writes, and the command that it writes it with.

    Attributes:
        upstream: stages whose results it is made from.
    """

    stage: str
    folder: Path
    command: Command
    upstream: tuple[str, ...] = ()

    @property
    def is_network(self) -> bool:
        return self.stage in CODE

    def changes(self) -> list[str]:
        """How the command differs from that which wrote what is there; empty where nothing is there."""
        record = self.folder / "run.json"
        if not record.exists():
            return []
        content = read_json(record)
        before, now = _options(content["command"]), _options(map(str, self.command.arguments))
        if self.stage == "merge":  # merges one strategy or all; which of them is trained on, the folder says
            for options in (before, now):
                options.pop("--method", None)
        for options in (before, now):
            if self.stage == "deeplab":  # the last part of the labels' folder, which is the strategy's name
                options["--method"] = options.pop("--labels", "not given")
        found = [
            f"{self.stage}: {name} {before.get(name, 'not given')}, now {now.get(name, 'not given')}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name) and _OPEN not in now.get(name, "").split()
        ]
        if self.is_network and content["options"].get("code_digest") != code_digest([ROOT / CODE[self.stage]]):
            found.append(f"{self.stage}: the code was changed")
        return found


def _options(words: Iterable[str]) -> dict[str, str]:
    """Option -> its values; of a path the last part, so that it does not matter where the command was run."""
    found: dict[str, str] = {}
    for name, values in by_option(words):
        if name not in _NO_PART:
            text = " ".join(Path(value).name if "/" in value or "\\" in value else value for value in values)
            found[name] = f"{found[name]} {text}" if name == "--param" and name in found else text
    return found


def results_of(plan: Plan) -> Iterator[Result]:
    """What the stages of a run write that its networks depend on, in their order."""
    dry = replace(plan, settings=replace(plan.settings, dry_run=True))
    commands = {
        stage.name: [step for step in stage.steps(dry) if isinstance(step, Command)]
        for stage in STAGES
        if stage.name not in ("data", "score")
    }
    out = plan.out
    yield Result("cam", out / "cam", commands["cam"][0])
    labels = [command for command in commands["labels"] if "--sweep" not in command.arguments]
    yield Result("labels", out / "cams" / "labels", labels[0], ("cam",))
    yield Result("masks", out / "masks", commands["masks"][0])
    merged = [command for command in commands["merge"] if command.out == out / "merge"]
    yield Result("merge", out / "merge" / dry.shown(), merged[0], ("cam", "labels", "masks"))
    for command in commands["deeplab"]:
        upstream = ("cam", "labels") if command.out.name == "cam_labels" else ("cam", "labels", "masks", "merge")
        yield Result("deeplab", command.out, command, upstream)


def check_networks(plan: Plan, todo: Sequence[Stage]) -> None:
    """Look for trained networks that a training of this run would refuse to resume.

    Raises:
        InputError: naming them, what has changed, and what to do; not with ``--retrain`` or ``--overwrite``.
    """
    if plan.settings.retrain or plan.settings.overwrite:
        return
    run = {stage.name for stage in todo}
    changed: dict[str, list[str]] = {}
    said: list[str] = []
    networks: list[Path] = []
    for result in results_of(plan):
        if result.stage not in run:
            continue
        own = result.changes()
        changed.setdefault(result.stage, []).extend(own)
        reasons = [*own, *(reason for stage in result.upstream for reason in changed.get(stage, []))]
        if result.is_network and reasons and (result.folder / "last.pth").exists():
            networks.append(result.folder)
            said += [reason for reason in reasons if reason not in said]
    if networks:
        labels_alone = "" if plan.out / "cam" in networks else "--skip deeplab score to make labels alone, "
        raise InputError(
            f"{', '.join(map(str, networks))}: trained with other options or code ({'; '.join(said[:6])}"
            f"{'; ...' if len(said) > 6 else ''}). A trained network is replaced on request only: give --retrain to "
            f"train it again, another --out to keep it, {labels_alone}or the same options as before"
        )
