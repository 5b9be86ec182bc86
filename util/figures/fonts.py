"""Fonts that have the letters of a text, whatever its script."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

BASE = "DejaVu Sans"  # comes with matplotlib; Latin, Greek, Cyrillic, Arabic and more
_reported: set[str] = set()


def families(text: str) -> list[str]:
    """Names of fonts that have all letters of a text between them, for matplotlib's ``fontfamily``.

    `BASE` comes first, then installed fonts for what it lacks. Letters that no font has are reported on the standard error,
    once each; they are drawn as boxes.
    """
    missing = _letters(text) - _letters_of(_path_of_base())
    found = [BASE]
    while missing:
        name, covered = max(((name, missing & _letters_of(path)) for name, path in _installed()), key=_coverage)
        if not covered:
            _report(missing)
            break
        found.append(name)
        missing -= covered
    return found


def is_truetype(name: str) -> bool:
    """Whether an installed font has TrueType outlines; the others have PostScript's (CFF)."""
    return name == BASE or _is_truetype(dict(_installed())[name])


def wrapped(text: str, ems: float, lines: int) -> str:
    """A text broken into lines of at most so many ems; what is left after the last is cut off with an ellipsis."""
    found: list[str] = []
    for word in text.split():
        if found and width(longer := f"{found[-1]} {word}") <= ems:
            found[-1] = longer
            continue
        while width(word) > ems and len(word) > 1:
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or width(word[:n]) <= ems)
            found.append(word[:fits])
            word = word[fits:]
        found.append(word)
    if len(found) > lines:
        last = found[lines - 1]
        while last and width(f"{last}…") > ems:
            last = last[:-1]
        found[lines - 1 :] = [f"{last}…"]
    return "\n".join(found)


def width(text: str) -> float:
    """Of a line of text, in ems."""
    return sum(map(_advance, text))


@cache
def _advance(letter: str) -> float:
    from matplotlib.ft2font import FT2Font, LoadFlags

    if letter not in _letters_of(_path_of_base()):
        return 1.0  # as wide as most ideographs
    font = FT2Font(_path_of_base())
    font.set_size(10, 72)
    return font.load_char(ord(letter), LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 10


def _letters(text: str) -> set[str]:
    """The letters of a text; what is not drawn, such as line ends and joiners, is left out."""
    return {letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cf", "Zs", "Zl", "Zp")}


def _coverage(entry: tuple[str, set[str]]) -> int:
    return len(entry[1])


@cache
def _path_of_base() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return findfont(FontProperties(family=BASE))


@cache
def _installed() -> list[tuple[str, str]]:
    """(name, file) of the upright fonts of normal weight that matplotlib finds on this system; TrueType comes first."""
    from matplotlib.font_manager import fontManager

    plain = {
        entry.name: entry.fname
        for entry in fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular")
    }
    found = ((name, path) for name, path in plain.items() if "Last Resort" not in name)  # that one has boxes only
    return sorted(found, key=lambda entry: (not _is_truetype(entry[1]), entry))


def _is_truetype(path: str) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        table = FT2Font(path).get_sfnt_table("maxp")
    except (OSError, RuntimeError):
        return False
    return table is not None and table["version"][0] == 1  # of CFF it is 0.5


@cache
def _letters_of(path: str) -> frozenset[str]:
    """The letters of a font; none for a file that is no longer there or that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _report(letters: set[str]) -> None:
    new = sorted(letters - _reported)
    _reported.update(new)
    if new:
        shown = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in new[:5])
        more = f" and {len(new) - 5} more" if len(new) > 5 else ""
        print(
            f"note: no installed font has {shown}{more}; figures show boxes instead. Install one that has, such as Noto "
            "(on Debian and Ubuntu the packages fonts-noto-core and fonts-noto-cjk)",
            file=sys.stderr,
        )
