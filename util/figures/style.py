"""The look of all figures, in one place: fit for a paper as they are written.

PDF with embedded TrueType fonts and PNG at 300 dpi, the width of one or two columns, text of 8 points, and the colours of
Okabe and Ito ("Color Universal Design", 2008), which colour-blind people distinguish. matplotlib is imported late: it takes
about a second, which scripts that draw nothing need not wait.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.figures import fonts
from util.runtime.errors import counted
from util.runtime.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.text import Text

FORMATS = ("pdf", "png")
_MARK = 0.36  # inches: of a marker in a legend, with its gaps
_FOLDERS_OF_LISTS = {"imagesets", "segmentation", "main", "lists"}  # of a data set; they do not name it


@dataclass(frozen=True)
class Style:
    """Sizes and colours.

    Attributes:
        single, double: width in inches of one and of two columns.
        dpi: of PNG files, and of images inside PDF files.
        text, small: points; small is for what is written inside images.
        groups: where a strategy comes from -> colour and marker.
        better, worse, neutral: colours of gains, of losses and of what things are compared with.
        lines: colours of curves, in order.
    """

    single: float = 3.3
    double: float = 6.9
    dpi: int = 300
    text: float = 8
    small: float = 7
    groups: Mapping[str, tuple[str, str]] = field(
        default_factory=lambda: {
            "published": ("#0072B2", "o"),
            "ours": ("#D55E00", "s"),
            "yours": ("#009E73", "D"),
            "": ("#56B4E9", "o"),
        }
    )
    better: str = "#0072B2"
    worse: str = "#D55E00"
    neutral: str = "#000000"
    lines: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

    def settings(self) -> Any:
        """matplotlib's: names of its rcParams -> values."""
        return {
            "font.family": [fonts.BASE],
            "font.size": self.text,
            "axes.titlesize": self.text,
            "axes.labelsize": self.text,
            "figure.titlesize": self.text,
            "legend.fontsize": self.text,
            "xtick.labelsize": self.text,
            "ytick.labelsize": self.text,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "lines.linewidth": 1.2,
            "lines.markersize": 4.5,
            "savefig.dpi": self.dpi,
            "text.parse_math": False,  # class names and ids may hold a dollar sign
        }

    def fitted(self, text: str, width: float, lines: int = 3) -> str:
        """A text broken into lines that fit ``width`` inches; what is left after the last is cut off with an ellipsis."""
        return fonts.wrapped(text, width * 72 / self.text, lines)

    def inches(self, text: str) -> float:
        """Width of a line of text."""
        return fonts.width(text) * self.text / 72


STYLE = Style()


@contextlib.contextmanager
def new_figure(width: float, height: float, *, arranged: bool = True) -> Iterator[Figure]:
    """A figure of this style, in inches; draw it and save it within the block.

    Args:
        arranged: let matplotlib make room for labels, titles and legends.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE.settings()):
        yield Figure(figsize=(width, height), layout="constrained" if arranged else None)


def save(figure: Figure, stem: str | os.PathLike, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure to ``<stem>.pdf`` and ``<stem>.png``, atomically and the same bytes each time; gives their paths."""
    paths = [Path(f"{os.fspath(stem)}.{suffix}") for suffix in formats]
    unstamped: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    with _written_in_any_script(figure):
        for path, suffix in zip(paths, formats):
            buffer = io.BytesIO()  # on a full disk matplotlib's own writing of a PDF ends with another error
            figure.savefig(buffer, format=suffix, metadata=unstamped[suffix])
            write_bytes(path, buffer.getvalue())
    return paths


def rendered(figure: Figure, dpi: int) -> np.ndarray:
    """A figure as an image: uint8 HxWx3 RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    with _written_in_any_script(figure):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextlib.contextmanager
def _written_in_any_script(figure: Figure) -> Iterator[None]:
    """Within, every text has the fonts that its letters need; letters that no font has are reported once, by us."""
    import matplotlib
    from matplotlib.text import Text

    used = set()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if (families := fonts.families(text.get_text())) != [fonts.BASE]:
            text.set_fontfamily(families)
            used.update(families)
    # matplotlib 3.11 embeds fonts with PostScript outlines as if they were TrueType, and nothing is seen of them.
    kind = 42 if all(map(fonts.is_truetype, used)) else 3
    with warnings.catch_warnings(), matplotlib.rc_context({"pdf.fonttype": kind}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def write_title(figure: Figure, text: str) -> Text:
    """Write what the figure shows, and of what data, above it, one line each."""
    width = figure.get_size_inches()[0]
    return figure.suptitle("\n".join(STYLE.fitted(line, width - 0.1) for line in text.splitlines()))


def legend_below(figure: Figure, handles: Sequence[Artist], columns: int) -> None:
    """Put a legend below everything else; in fewer columns and a taller figure where its texts are too long for so many."""
    width, height = figure.get_size_inches()
    texts, wanted = [str(handle.get_label()) for handle in handles], columns
    while columns > 1 and sum(_column_widths(texts, columns)) + columns * _MARK > width:
        columns -= 1
    for handle, text in zip(handles, texts):
        handle.set_label(STYLE.fitted(text, width - _MARK, 1))
    more = -(-len(texts) // columns) - -(-len(texts) // wanted)
    figure.set_size_inches(width, height + more * 1.7 * STYLE.text / 72)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, handlelength=1.6, columnspacing=1.2)


def _column_widths(texts: Sequence[str], columns: int) -> list[float]:
    """Inches of the widest text of each column of a legend, which is filled column by column."""
    tall, longer = divmod(len(texts), columns)
    starts = [k * tall + min(k, longer) for k in range(columns + 1)]
    return [max(map(STYLE.inches, texts[low:high]), default=0.0) for low, high in zip(starts, starts[1:])]


# --- words --------------------------------------------------------------------------------------------------------


def data_name(id_list: str | os.PathLike) -> str:
    """What to call the images of an id list: the folder of the data set and the list, such as ``voc12 train``."""
    path = Path(os.path.abspath(id_list))  # without the .. that Path.absolute() keeps
    folders = (folder.name for folder in path.parents if folder.name.lower() not in _FOLDERS_OF_LISTS)
    return f"{next(folders, '')} {path.stem}".strip()


def described(data: str, images: int, classes: int | None = None) -> str:
    """What scores are of: the data, the number of images, and of how many classes they are a mean."""
    mean = "" if classes is None else f", mean over {classes} class{'' if classes == 1 else 'es'}"
    return f"{data + ', ' if data else ''}{counted(images, 'image')}{mean}"
