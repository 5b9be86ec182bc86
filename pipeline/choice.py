"""What ground truth chooses where a list has it: threshold and refinement of the CAMs, and the strategy, by one rule.

The images that are chosen on are never among those that are scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from util.runtime.errors import InputError
from util.runtime.files import digest, read_json, write_json

RULE = (
    "the highest mIoU on that list: first of the CAM labels over refinement and threshold, then of what each strategy makes "
    "of them; the CAM labels compete, and are trained on where no strategy is above them"
)
INPUT = "input"  # chosen in the place of a strategy: the labels as they are, as compare.json calls them
REFINEMENTS = ("par", "none")  # of generate_cams.py, the default first
FEWEST = 20  # images with ground truth, below which nothing is chosen unless a list is named
FILE = "choice.json"


def halves(ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """The ids in two halves, by the SHA-256 of the id: the half with the smaller ones, and the other."""
    ranked = sorted(set(ids), key=lambda image_id: hashlib.sha256(image_id.encode()).digest())
    return sorted(ranked[: len(ranked) // 2]), sorted(ranked[len(ranked) // 2 :])


def separate(tune: Sequence[str], reported: Mapping[str, Sequence[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Lists without an image that is both chosen on and reported.

    Args:
        tune: ids to choose on.
        reported: name of a list -> ids that are scored.

    Returns:
        ids to choose on, and the lists to score. A list that is part of ``tune`` as a whole is split by `halves`: its first
        half is chosen on. Other lists lose what they share with ``tune``.
    """
    kept = {image_id for ids in reported.values() if set(ids) <= set(tune) for image_id in halves(ids)[1]}
    chosen_on = [image_id for image_id in tune if image_id not in kept]
    taken = set(chosen_on)
    return chosen_on, {name: [image_id for image_id in ids if image_id not in taken] for name, ids in reported.items()}


def best_labels(swept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The refinement and the threshold of the highest mIoU.

    Args:
        swept: refinement -> what ``generate_cams.py --sweep`` found (``sweep.json``); the first of equals is taken.
    """
    tried = {name: {"threshold": found["best"], "miou": found["miou"]} for name, found in swept.items()}
    refine = max(tried, key=lambda name: tried[name]["miou"])
    return {"refine": refine, **tried[refine], "tried": tried}


def best_strategy(comparison: Mapping[str, Any], method: str | None = None) -> dict[str, Any]:
    """The strategy of the highest mIoU, or `INPUT` where none is above the labels as they are.

    Args:
        comparison: what ``main.py --mode compare`` found (``compare.json``).
        method: the user's; then nothing is chosen, and its gain is given.

    Raises:
        InputError: if the user's strategy failed.
    """
    methods, before = comparison["methods"], comparison["input"]["miou"]
    if method is not None and method not in methods:
        raise InputError(f"--method {method}: it gave no label map, see above; fix the strategy")
    best = method or max(methods, key=lambda name: methods[name]["miou"])
    change = comparison["difference"][best]
    return {
        "name": best if method or change["miou"] > 0 else INPUT,
        "best": best,
        "asked": method is not None,
        "miou": methods[best]["miou"],
        "input": before,
        "gain": change["miou"],
        "interval_95": change["interval_95"],
        "tried": len(methods),
    }


def warning(strategy: Mapping[str, Any], source: str) -> str | None:
    """What speaks against the strategy on the list ``source``; None if nothing does."""
    name, (low, high) = strategy["name"], strategy["interval_95"]
    bounds = f"95 % interval {100 * low:+.2f} .. {100 * high:+.2f}"
    if name == INPUT:
        return (
            f"no strategy is above the CAM labels on {source} (the best, {strategy['best']}: {100 * strategy['gain']:+.2f}, "
            f"{bounds}); DeepLabV3+ is trained on the CAM labels"
        )
    if strategy["gain"] < 0:
        return (
            f"{name} loses {-100 * strategy['gain']:.2f} points against the CAM labels on {source} ({bounds}); it is trained "
            "on as --method asks"
        )
    if low <= 0 <= high:
        return f"the gain of {name} on {source} may be chance: its {bounds} holds 0; more images with ground truth would show"
    return None


def record(out: Path, part: str, key: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Note a choice (``labels`` or ``strategy``) in OUT/choice.json, with the key of what it rests on."""
    path = out / FILE
    content = read_json(path) if path.exists() else {}
    write_json(path, {"rule": RULE, **content, part: {"key": key, **found}})
    return dict(found)


def recorded(out: Path, part: str, key: str, stage: str) -> dict[str, Any]:
    """A choice that was noted.

    Raises:
        InputError: if there is none, or if it rests on other images or options.
    """
    path = out / FILE
    found = read_json(path).get(part) if path.exists() else None
    if found is None:
        raise InputError(f"{path}: no choice of the {part} yet; run the stage {stage} first (leave it out of --skip)")
    if found["key"] != key:
        raise InputError(
            f"{path}: the {part} was chosen with other images or options; run the stage {stage} again (leave it out of --skip)"
        )
    return found


def key_of(*parts: object) -> str:
    """The key of a choice: a digest of what it rests on; a path counts however it is written."""
    return digest(
        RULE, json.dumps(parts, default=lambda part: str(part.resolve()) if isinstance(part, Path) else str(part))
    )
