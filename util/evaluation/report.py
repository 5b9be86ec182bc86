"""Scores as text: terminal tables and CSV files, per cent with two decimals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence


def score_table(scores: dict, baseline: dict | None = None) -> str:
    """A terminal table of per cent with two decimals: every class, then the means."""

    def row(name, values, old):
        cells = [f"{name:<22}"] + [f"{100 * value:9.2f}" for value in values]
        if old is not None:
            cells.append(f"{100 * (values[0] - old):+9.2f}")
        return " ".join(cells)

    names = ("iou", "precision", "recall")
    lines = [f"{'class':<22} {'IoU':>9} {'precision':>9} {'recall':>9}" + (f" {'change':>9}" if baseline else "")]
    for name, values in scores["per_class"].items():
        old = baseline["per_class"][name]["iou"] if baseline else None
        lines.append(row(name, [values[n] for n in names], old))
    lines.append("-" * len(lines[0]))
    means = [scores["miou"], scores["precision"], scores["recall"]]
    lines.append(row(f"mean of {len(scores['classes'])}", means, baseline["miou"] if baseline else None))
    lines.append(
        f"mIoU {100 * scores['miou']:.2f}   pixel accuracy {100 * scores['pixel_accuracy']:.2f}   "
        f"images {scores['images']}"
    )
    if scores["void"]:
        lines.append(
            f"void {100 * scores['void']:.2f} % of the pixels, counted as wrong above; "
            f"mIoU without them {100 * scores['miou_void_left_out']:.2f}"
        )
    if scores["predicted_but_absent"]:
        lines.append("predicted, but nowhere in the ground truth: " + ", ".join(scores["predicted_but_absent"]))
    return "\n".join(lines)


def rows_to_text(rows: Sequence[Sequence[str]]) -> str:
    """A terminal table; the first row is the header, the first column is flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:>{width}}" if i else f"{cell:<{width}}" for i, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def per_cent(value: float | None, sign: bool = False) -> str:
    """A fraction as per cent with two decimals; nothing for None."""
    return "" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"


def interval_text(bounds: Sequence[float] | None) -> str:
    """``+0.32 .. +1.81``, per cent; nothing for None."""
    return "" if bounds is None else " .. ".join(per_cent(bound, sign=True) for bound in bounds)


Cell = str | Sequence[float] | None  # a text, or an interval (low, high) as fractions, which may be missing


def text_rows(rows: Iterable[Sequence[Cell]]) -> list[list[str]]:
    """Rows for a terminal: an interval is one cell."""
    return [[cell if isinstance(cell, str) else interval_text(cell) for cell in row] for row in rows]


def csv_rows(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """Rows for a CSV file: an interval is two cells with a number each, in per cent.

    Args:
        rows: the first is the header.
    """
    header, *body = rows
    split = {k for row in body for k, cell in enumerate(row) if not isinstance(cell, str)}

    def cells(k: int, cell: Cell) -> list[str]:
        if k not in split:
            return [str(cell)]
        if isinstance(cell, str):
            return [f"{cell}, low", f"{cell}, high"]
        return ["", ""] if cell is None else [per_cent(bound) for bound in cell]

    return [[text for k, cell in enumerate(row) for text in cells(k, cell)] for row in rows]


def activation_rows(scores: Mapping[str, dict]) -> Iterator[list[str]]:
    """Header and one row per class: IoU, partial and false activation under each name, per cent as text.

    Partial activation is the share of a class's pixels that its label misses (1 - recall), false activation the share of
    its label that is something else (1 - precision).

    Args:
        scores: name -> what `util.evaluation.metrics.scores_of` gives; the first decides the classes.
    """
    yield ["class", *(f"{what} {name}" for what in ("IoU", "partial", "false") for name in scores)]
    for name in next(iter(scores.values()))["per_class"]:
        found = [values["per_class"][name] for values in scores.values()]
        cells = [v["iou"] for v in found] + [1 - v["recall"] for v in found] + [1 - v["precision"] for v in found]
        yield [name, *map(per_cent, cells)]


ACTIVATION_NOTE = (
    "partial: pixels of the class that have another label (1 - recall); false: pixels with its label that are of another "
    "class (1 - precision)"
)
