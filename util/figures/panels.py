"""Rows of images with captions and a legend of the classes, each image in the middle of its column."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from util.data.voc import VOID, ClassTable
from util.figures import fonts
from util.figures.style import FORMATS, STYLE, new_figure, rendered, save
from util.vis import seen_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP, _LINE, _SWATCH = 0.06, 0.145, 0.12  # inches
_BESIDE = 3 * _SWATCH  # a swatch and the gaps beside it
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Panel:
    """An image with its caption.

    Attributes:
        caption: above the image, in any script; a line break starts a new line.
        image: uint8 HxWx3.
        notes: texts inside the image, each with the pixel (x, y) of its upper left corner.
    """

    caption: str
    image: np.ndarray
    notes: tuple[tuple[str, float, float], ...] = ()


Rows = Sequence[Sequence[Panel]]


def class_legend(labels: Sequence[np.ndarray], classes: ClassTable) -> dict[str, Color]:
    """Name -> colour of the classes, background left out, that occur in some label maps (uint8 HxW)."""
    values = np.flatnonzero(sum(np.bincount(label.ravel(), minlength=256) for label in labels))
    return {
        "void" if value == VOID else classes.names[value]: tuple(map(int, classes.palette[value]))  # type: ignore[misc]
        for value in values
        if value > 0
    }


def draw_panels(
    stem: str | os.PathLike,
    rows: Rows,
    legend: Mapping[str, Color] | None = None,
    title: str = "",
    formats: Sequence[str] = FORMATS,
    heads: Sequence[str] = (),
) -> list[Path]:
    """Draw rows of images at the width of two columns.

    Args:
        stem: path of the files without suffix.
        legend: class -> colour.
        title: above all rows.
        heads: of the columns.

    Returns:
        the files, see `util.figures.style.save`.
    """
    page = _Page(rows, legend or {}, title, heads)
    with new_figure(page.width, page.height, arranged=False) as figure:
        page.draw(figure)
        return save(figure, stem, formats)


def draw_legend(path: Path, legend: Mapping[str, Color]) -> None:
    """Draw which colour is which class, one below the other, to a PNG."""
    columns = -(-len(legend) // 24)
    entries = _Legend(legend, columns * (max(map(STYLE.inches, legend)) + _BESIDE), columns)
    width = entries.width - _BESIDE + 1.4 * _SWATCH + 2 * _GAP
    with new_figure(width, entries.height - _LINE + _SWATCH + 2 * _GAP, arranged=False) as figure:
        entries.draw(figure, _GAP)
        save(figure, path.with_suffix(""), ("png",))


def panels_image(rows: Rows, legend: Mapping[str, Color] | None = None, dpi: int = 150) -> np.ndarray:
    """The same as an image for a screen: uint8 HxWx3."""
    page = _Page(rows, legend or {}, "")
    with new_figure(page.width, page.height, arranged=False) as figure:
        page.draw(figure)
        return rendered(figure, dpi)


class _Legend:
    """Swatches and names, in the colours that overlays show; in inches from the upper left corner."""

    def __init__(self, colors: Mapping[str, Color], width: float, per_line: int | None = None):
        self.entries = {STYLE.fitted(name, width - 2 * _SWATCH, 1): seen_color(color) for name, color in colors.items()}
        self.width = width
        widest = max(map(STYLE.inches, self.entries), default=1)
        self.per_line = per_line or max(1, int(width / (widest + _BESIDE)))
        self.height = _LINE * -(-len(self.entries) // self.per_line)

    def draw(self, figure: Figure, top: float) -> None:
        from matplotlib.patches import Rectangle

        page_width, page_height = figure.get_size_inches()
        for number, (name, color) in enumerate(self.entries.items()):
            line, column = divmod(number, self.per_line)
            x, y = _GAP + column * self.width / self.per_line, top + _LINE * line
            corner = (x / page_width, 1 - (y + _SWATCH) / page_height)
            size = (_SWATCH / page_width, 0.85 * _SWATCH / page_height)
            face = tuple(part / 255 for part in color)
            figure.add_artist(Rectangle(corner, *size, facecolor=face, edgecolor="black", linewidth=0.4))
            place = ((x + 1.4 * _SWATCH) / page_width, 1 - (y + 0.58 * _SWATCH) / page_height)
            figure.text(*place, name, va="center_baseline")


class _Page:
    """Where everything is, in inches from the upper left corner."""

    def __init__(self, rows: Rows, legend: Mapping[str, Color], title: str, heads: Sequence[str] = ()):
        self.rows, self.width = rows, STYLE.double
        self.columns = max(len(row) for row in rows)
        self.cell = (self.width - _GAP * (self.columns + 1)) / self.columns
        self.captions = [[_lines(panel.caption, self.cell) for panel in row] for row in rows]
        self.title = STYLE.fitted(title, self.width - 2 * _GAP)
        self.column_heads = [STYLE.fitted(head, self.cell, 1) for head in heads]
        self.legend = _Legend(legend, self.width - 2 * _GAP)
        self.head = _LINE * (len(self.title.splitlines()) + bool(heads)) + _GAP
        self.heads = [_LINE * max(caption.count("\n") + 1 for caption in row) for row in self.captions]
        self.talls = [max(self.size(panel)[1] for panel in row) for row in rows]
        self.height = self.head + sum(self.heads) + sum(self.talls) + _GAP * len(rows)
        self.height += self.legend.height + _GAP

    def size(self, panel: Panel) -> tuple[float, float]:
        """Width and height of an image: as large as fits into a square of the column's width."""
        height, width = panel.image.shape[:2]
        factor = self.cell / max(height, width)
        return factor * width, factor * height

    def draw(self, figure: Figure) -> None:
        if self.title:
            figure.text(_GAP / self.width, 1 - _GAP / self.height, self.title, va="top")
        y = 1 - (self.head - 0.05) / self.height
        for column, text in enumerate(self.column_heads):
            figure.text(self.middle(column) / self.width, y, text, ha="center", va="baseline")
        top = self.head
        for row, captions, head, tall in zip(self.rows, self.captions, self.heads, self.talls):
            top += head
            for column, (panel, caption) in enumerate(zip(row, captions)):
                self._draw_panel(figure, panel, caption, self.middle(column), top)
            top += tall + _GAP
        self.legend.draw(figure, top)

    def middle(self, column: int) -> float:
        return _GAP + column * (self.cell + _GAP) + self.cell / 2

    def _draw_panel(self, figure: Figure, panel: Panel, caption: str, middle: float, y: float) -> None:
        width, tall = self.size(panel)
        x = middle - width / 2
        place = (x / self.width, 1 - (y + tall) / self.height, width / self.width, tall / self.height)
        axes = figure.add_axes(place)
        axes.set_axis_off()
        rows, columns = panel.image.shape[:2]
        axes.imshow(
            _shrunk(panel.image, width, tall), interpolation="auto", extent=(0, columns, rows, 0), aspect="auto"
        )
        figure.text(
            middle / self.width, 1 - (y - 0.05) / self.height, caption, ha="center", va="baseline", linespacing=1.1
        )
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
        for text, note_x, note_y in panel.notes:
            wide = fonts.width(text) * STYLE.small / 72 / width * columns  # in pixels of the image
            note_x = max(0, min(note_x, columns - wide))
            axes.text(note_x, note_y, text, fontsize=STYLE.small, va="top", bbox=box, clip_on=True)


def _lines(caption: str, width: float) -> str:
    return "\n".join(STYLE.fitted(line, width, 2) for line in caption.splitlines()) or " "


def _shrunk(image: np.ndarray, width: float, height: float) -> np.ndarray:
    """An image with no more pixels than are seen in so many inches."""
    size = max(1, round(width * STYLE.dpi)), max(1, round(height * STYLE.dpi))
    if size[0] >= image.shape[1] or size[1] >= image.shape[0]:
        return image
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
