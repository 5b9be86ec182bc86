"""What earlier runs have finished, as far as that is cheap to know: results that are there, made with the same options.

It serves the estimate and the plan alone: what changed inside of files, the stages find out themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.lists import ids_with
from pipeline.plan import Plan
from pipeline.stages import Stage
from pipeline.stale import Result, results_of
from util.data.ids import read_id_list
from util.data.labels import label_path
from util.data.mask_files import masks_path
from util.runtime.errors import InputError
from util.runtime.files import read_json


def kept_shares(plan: Plan, todo: Sequence[Stage]) -> dict[str, float]:
    """Stage -> the share of its work, 0 to 1, that is there and that this run keeps; stages that are not known are left out."""
    run = {stage.name for stage in todo}
    if plan.settings.overwrite or not plan.train.exists():
        return {}
    merged, networks = _chosen(plan)
    shares: dict[str, list[float]] = {}
    remade: set[str] = set()
    for result in results_of(plan):
        if result.stage == "merge" and merged is not None:
            result = replace(result, folder=merged)
        if result.stage not in run or (result.stage == "deeplab" and result.folder.name not in networks):
            continue
        share = 0.0 if remade.intersection(result.upstream) or result.changes() else _share(plan, result)
        shares.setdefault(result.stage, []).append(share)
        if share == 0 or (result.is_network and share < 1):  # of images some may be unreadable; the rest stays
            remade.add(result.stage)
    found = {stage: sum(values) / len(values) for stage, values in shares.items()}
    if "score" in run and found.get("deeplab", 1) == 1:
        places = [plan.out / "scores" / name / "metrics.json" for name in networks]
        found["score"] = float(all(path.exists() for path in (places if plan.has_scores else [plan.held_out_sheet])))
    return found


def _chosen(plan: Plan) -> tuple[Path | None, Sequence[str]]:
    """The folder of the strategy, None where it is not chosen yet, and the names of the networks."""
    real, dry = (replace(plan, settings=replace(plan.settings, dry_run=is_dry)) for is_dry in (False, True))
    try:
        return real.merged, list(real.trainings())
    except InputError:
        return None, list(dry.trainings())


def _share(plan: Plan, result: Result) -> float:
    """Of a network its steps, of other results the images that have a file."""
    if not (result.folder / "run.json").exists():
        return 0.0
    if result.is_network:
        history = result.folder / "history.json"
        done = read_json(history) if history.exists() and (result.folder / "last.pth").exists() else []
        return min(1.0, done[-1]["step"] / read_json(result.folder / "run.json")["options"]["steps"]) if done else 0.0
    merges = result.stage == "merge"
    # Where no strategy is above the CAM labels, it merges the scored list alone.
    source = plan.label if merges and plan.label and plan.label.exists() else plan.train
    ids = read_id_list(source, plan.images)
    if merges:
        ids = ids_with(masks_path, plan.masks, ids)
    find = masks_path if result.stage == "masks" else label_path
    return len(ids_with(find, result.folder, ids)) / max(1, len(ids))
