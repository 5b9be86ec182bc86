"""Fonts for any script, and a word where there is none."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import FontEntry, fontManager

from util.figures import fonts, panels

DOG = "\u72ac"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing but matplotlib's own fonts is installed, and nothing was reported."""
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname and "Last Resort" not in entry.name]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "_reported", set())
    fonts._installed.cache_clear()
    yield
    fonts._installed.cache_clear()


def install(path, letter, name, truetype=True):
    """A font whose only letter is a filled square, among those that matplotlib finds."""
    builder = FontBuilder(1000, isTTF=truetype)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square"})
    pen = TTGlyphPen(None) if truetype else T2CharStringPen(1000, None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    if truetype:
        builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    else:
        empty = T2CharStringPen(1000, None)
        builder.setupCFF(f"{name}-Regular", {}, {".notdef": empty.getCharString(), "square": pen.getCharString()}, {})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": name, "styleName": "Regular", "psName": f"{name}-Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    fontManager.ttflist.append(FontEntry(fname=str(path), name=name, weight=400))
    fonts._installed.cache_clear()


def test_latin_greek_and_cyrillic_need_no_other_font(capsys):
    assert fonts.families("Hündin κύων собака Łódź\nx") == [fonts.BASE]
    assert capsys.readouterr().err == ""


def test_a_letter_that_no_font_has_is_reported_once(capsys):
    assert fonts.families(f"{DOG}{DOG}") == [fonts.BASE]
    assert "no installed font has \u72ac (U+72AC); figures show boxes" in capsys.readouterr().err
    fonts.families(DOG)
    assert capsys.readouterr().err == ""


def square_of(page, blank):
    """What differs between two images of one size, without its rim."""
    rows, columns = np.nonzero((page != blank).any(axis=2))
    return page[rows.min() + 3 : rows.max() - 2, columns.min() + 3 : columns.max() - 2]


@pytest.mark.parametrize("truetype", [True, False], ids=["TrueType", "PostScript outlines"])
def test_an_installed_font_is_used_for_what_the_first_one_lacks(tmp_path, capsys, truetype):
    install(tmp_path / "dogs.otf", DOG, "Dogs", truetype)
    assert fonts.families(f"dog {DOG}") == [fonts.BASE, "Dogs"] and fonts.is_truetype("Dogs") == truetype
    white = np.full((9, 9, 3), 255, np.uint8)
    drawn, blank = (panels.panels_image([[panels.Panel(caption, white)]]) for caption in (DOG, " "))
    assert capsys.readouterr().err == ""
    # The square of that font is filled; the box for an unknown letter would be hollow.
    inside = square_of(drawn, blank)
    assert inside.size and (inside < 100).all()
    pdf, _ = panels.draw_panels(tmp_path / "page", [[panels.Panel(DOG, white)]])
    # As TrueType, outlines of PostScript would be embedded but not seen.
    assert (b"/FontFile2" in pdf.read_bytes()) == truetype and (b"/Type3" in pdf.read_bytes()) != truetype


def test_truetype_is_preferred(tmp_path):
    install(tmp_path / "a.otf", DOG, "A", truetype=False)
    install(tmp_path / "b.otf", DOG, "B")
    assert fonts.families(DOG) == [fonts.BASE, "B"]


def test_texts_are_broken_and_cut_off_by_their_width():
    assert fonts.wrapped("one two three", 5, 3) == "one two\nthree"
    for text in ("a" * 300, "words " * 50, DOG * 40):
        broken = fonts.wrapped(text, 12, 2).splitlines()
        assert len(broken) == 2 and broken[-1].endswith("…") and all(fonts.width(line) <= 12 for line in broken)
    assert fonts.width(DOG) == 1 and fonts.width("iii") < fonts.width("WWW")
