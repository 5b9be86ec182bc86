"""The end of a run: tables, images, places, and what to type next."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import changes, choice
from pipeline.choose import choice_of, choice_table
from pipeline.held_out import held_out_line
from pipeline.plan import Plan, needs
from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.evaluation.report import interval_text
from util.figures.charts import draw_curves
from util.runtime.commands import quoted
from util.runtime.files import read_bytes, read_json, write_bytes, write_json

_SCORES = ("miou", "precision", "recall", "pixel_accuracy")
NO_CAM_LABELS = "Masks of the class names become the labels: no classifier, and no CAM labels to compare with."
_HEADER = f"{'mIoU':>8} {'change':>8} {'precision':>9} {'recall':>9} {'accuracy':>9}"


def summary_of(plan: Plan) -> dict:
    """What ``summary.json`` holds: the tables as numbers, and what was chosen how."""
    summary: dict[str, Any] = {"chosen": plan.chosen(), "chosen_how": _how_chosen(plan), "choice": choice_of(plan)}
    if plan.label is not None:
        rows = _label_scores(plan)
        first = next(iter(rows.values()))
        summary |= {
            "pseudo_labels": {row: {name: scores[name] for name in _SCORES} for row, scores in rows.items()},
            "intervals_95": _intervals(plan),
            "best_threshold": best_threshold(plan),
            "pseudo_label_images": first["images"],
            "classes": first["classes"],
        }
    else:
        summary["changes"] = read_json(needs(plan.out / "changes.json", "merge", "what the merge changed"))
    if plan.held_out is not None and plan.settings.trains_classifier and (plan.out / "cam" / "history.json").exists():
        summary["held_out"] = read_json(plan.out / "cam" / "history.json")[-1]
    if not plan.has_scores and (shown := plan.held_out_sheet.with_suffix(".json")).exists():
        summary["held_out_network"] = read_json(shown)
    if plan.val is not None:
        scored = {
            name: read_json(needs(plan.out / "scores" / name / "metrics.json", "score", "a score"))
            for name in plan.trainings()
        }
        first = next(iter(scored.values()))
        summary |= {
            "segmentation": {row: {name: scores[name] for name in _SCORES} for row, scores in scored.items()},
            "segmentation_images": first["images"],
            "segmentation_classes": first["classes"],
        }
    return {**summary, "checkpoint": str(plan.out / "deeplab" / "enhanced" / "last.pth")}


def _how_chosen(plan: Plan) -> str:
    if plan.settings.method:
        return "as asked"
    if plan.cam_labels is None:
        return "the one that needs no CAM labels"
    if plan.tune is None:
        return "the recommended one"
    best = "no strategy is above them" if plan.chosen() == choice.INPUT else "the best"
    return f"{best} on {plan.tune}"


def _intervals(plan: Plan) -> dict[str, list[float]]:
    """Strategy -> 95 % interval of its gain over the CAM labels; empty where nothing is compared."""
    if plan.cam_labels is None:
        return {}
    comparison = read_json(needs(plan.out / "merge" / "compare.json", "merge", "a comparison"))
    return {name: change["interval_95"] for name, change in comparison["difference"].items()}


def _label_scores(plan: Plan) -> dict[str, dict]:
    """Labels -> their scores; CAM labels, where there are any, come first."""
    if plan.cam_labels is None:
        method = plan.chosen()
        return {method: read_json(needs(plan.out / "merge" / f"{method}.metrics.json", "merge", "a score"))}
    comparison = read_json(needs(plan.out / "merge" / "compare.json", "merge", "a comparison"))
    return {"CAM labels": comparison["input"], **comparison["methods"]}


def best_threshold(plan: Plan) -> dict | None:
    """The threshold that the ground truth of the scored images would choose, and its mIoU; None if not known."""
    path = plan.out / "cams" / "sweep.json"
    if plan.is_real or plan.cam_labels is None or not path.exists():
        return None
    swept = read_json(path)
    return {"threshold": swept["best"], "miou": swept["miou"]}


def _cells(scores: dict, base: dict) -> str:
    change = f"{100 * (scores['miou'] - base['miou']):+8.2f}" if scores is not base else " " * 8
    values = [100 * scores[name] for name in _SCORES[1:]]
    return f"{100 * scores['miou']:8.2f} {change} " + " ".join(f"{value:9.2f}" for value in values)


def tables(summary: dict, plan: Plan) -> str:
    """The tables for a terminal, in per cent."""
    parts = [_label_table(summary, plan) if plan.label is not None else changes.table(plan)]
    if plan.val is not None:
        parts.append(_network_table(summary, plan))
    if held_out := summary.get("held_out"):
        parts.append(_held_out_table(held_out, plan))
    if shown := summary.get("held_out_network"):
        parts.append(held_out_line(shown, plan))
    if plan.cam_labels is None:
        parts.append(NO_CAM_LABELS)
    if summary["choice"]:
        parts.append(choice_table(summary["choice"]))
    return "\n\n".join(parts)


def _held_out_table(entry: dict, plan: Plan) -> str:
    """Average precision of the classifier that the CAMs come from, per class, in per cent."""
    names = classes_of([plan.image_labels, plan.images], plan.class_names).names[1:]
    count = len(read_id_list(plan.held_out, plan.images)) if plan.held_out else 0
    lines = [f"Classifier on the {count} images of {plan.held_out}, which it was not trained on: average precision, %"]
    known = [(name, value) for name, value in zip(names, entry["ap"], strict=True) if value is not None]
    lines += [f"{name:<24}{100 * value:12.2f}" for name, value in [*known, ("mean", entry["map"])]]
    return "\n".join(lines)


def _label_table(summary: dict, plan: Plan) -> str:
    rows = summary["pseudo_labels"]
    first, base = next(iter(rows.items()))
    lines = [
        f"Pseudo labels of {plan.label}: {summary['pseudo_label_images']} images, {len(summary['classes'])} classes",
        f"{'':<24}{_HEADER}" + ("  95 % interval of the change" if summary["intervals_95"] else ""),
    ]
    chosen = first if summary["chosen"] == choice.INPUT else summary["chosen"]
    for name in [first, *sorted((n for n in rows if n != first), key=lambda n: rows[n]["miou"])]:
        mark = " *" if name == chosen else ""
        lines.append(
            f"{name + mark:<24}{_cells(rows[name], base)}  {interval_text(summary['intervals_95'].get(name))}".rstrip()
        )
    if best := summary["best_threshold"]:
        gain = 100 * (best["miou"] - base["miou"])
        lines.append(f"{'CAM labels, best case':<24}{100 * best['miou']:8.2f} {gain:+8.2f}")
        lines.append(
            f"best case: the threshold ({best['threshold']:.2f}) that the ground truth would choose; nothing else uses it"
        )
    lines.append(f"* trained on: {summary['chosen_how']}")
    if (lost := rows[chosen]["miou"] - base["miou"]) < 0:
        lines.append(
            f"warning: {chosen} is {-100 * lost:.2f} points below the CAM labels here; see --method and --tune-list"
        )
    return "\n".join(lines)


def _network_table(summary: dict, plan: Plan) -> str:
    rows = summary["segmentation"]
    base = next(iter(rows.values()))
    lines = [
        f"Segmentation of {plan.val}: {summary['segmentation_images']} images, "
        f"{len(summary['segmentation_classes'])} classes",
        f"{'DeepLabV3+ trained on':<24}{_HEADER}",
    ]
    chosen = "CAM labels" if summary["chosen"] == choice.INPUT else summary["chosen"]
    shown = {"cam_labels": "CAM labels", "enhanced": chosen}
    lines += [f"{shown[name]:<24}{_cells(row, base)}" for name, row in rows.items()]
    return "\n".join(lines)


def example_image(plan: Plan) -> Path:
    """The first images that ``main.py --mode vis`` drew, on one page."""
    path = plan.out / "merge_example.png"
    write_bytes(path, read_bytes(plan.out / "merge" / "vis" / f"{plan.shown()}.png"))
    return path


def draw_trainings(plan: Plan) -> None:
    """Draw the curves of all networks together, to ``curves.pdf`` and ``curves.png``."""
    shown = {"cam_labels": "CAM labels", "enhanced": plan.chosen()}
    paths = {name: plan.out / "deeplab" / folder / "history.json" for folder, name in shown.items()}
    histories = {name: read_json(path) for name, path in paths.items() if path.exists()}
    if histories:
        title = f"DeepLabV3+ trained on labels of {plan.data_name('train')}"
        draw_curves(plan.out / "curves", histories, title)


def write_report(plan: Plan, took: str) -> None:
    """Write and print tables, images, places and what to type next."""
    summary = summary_of(plan)
    text = tables(summary, plan)
    write_json(plan.out / "summary.json", summary)
    write_bytes(plan.out / "tables.txt", (text + "\n").encode())
    draw_trainings(plan)
    print(f"\n{'=' * 72}\n{text}\n")
    print(f"took {took}\n")
    print("\n".join(f"{name:<26}{path}" for name, path in _places(plan).items()))
    if not plan.is_real:
        print("\nOn real data, downloads included (6 GB; it says what before it starts):")
        print("python quickstart.py --voc VOC2012 --download --out runs/voc")
    checkpoint, images, found = summary["checkpoint"], plan.images, plan.out / "predictions"
    if plan.settings.quick:
        print(
            "\nThis was --quick, a first look: expect mistaken classes and rough outlines. To train the real network:"
        )
        print(quoted(without_quick(sys.argv[1:])))
    print("\nnext: segment images; for new ones, give their folder as --images:")
    print(quoted(["python", "predict.py", "--checkpoint", checkpoint, "--images", images, "--out", found]))
    print(f"Or look at the network{' and the strategies' if plan.cam_labels else ''} in the demo:")
    demo = ["streamlit", "run", "Web_demo/src/app.py", "--", "--checkpoint", checkpoint, "--runs", plan.out]
    print(quoted(demo), flush=True)


def without_quick(arguments: Sequence[str]) -> list[str]:
    """The command of the real run after one with ``--quick``, in another folder, where its networks do not meet."""
    words = ["python", "quickstart.py"]
    for word in arguments:
        is_out = words[-1] == "--out" or word.startswith("--out=")
        words.append(f"{word.rstrip('/')}-full" if is_out else word)
    return [word for word in words if word != "--quick"]


def _places(plan: Plan) -> dict[str, Path]:
    out = plan.out
    places = {"most changed images" if plan.label is None else "images, label by label": example_image(plan)}
    places["one file each"] = out / "merge" / "vis" / plan.shown()
    if plan.label is not None and plan.cam_labels is not None:
        places["strategies compared"] = out / "merge" / "compare.pdf"
    if plan.held_out_sheet.exists() and not plan.has_scores:
        places["held-out images"] = plan.held_out_sheet
    if plan.val is not None:
        places["what DeepLabV3+ sees"] = out / "scores" / "enhanced" / "predictions" / "overlays"
    if plan.cam_labels is not None:
        places["CAM labels"] = plan.cam_labels
    return {
        **places,
        "masks": plan.masks,
        "enhanced labels": plan.enhanced,
        "networks": out / "deeplab",
        "their training": out / "curves.pdf",
        "these tables": out / "tables.txt",
    }
