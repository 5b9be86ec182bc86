"""Figures as they are written: sizes, fonts, colours, and texts that neither overlap nor leave the page."""

import re
import zlib
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from util.data.contact_sheet import draw_contact_sheet
from util.data.voc import CLASS_NAMES, class_table
from util.figures import charts, panels, style
from util.figures.charts import Difference, Strategy
from util.figures.style import STYLE

OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
SEVEN = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
LONG = ("background", "Hündin mit Welpen", "Γάτα", "a very long class name that nobody shortened", "person", "Größe")
CLASSES = pytest.mark.parametrize(
    "names",
    [SEVEN, CLASS_NAMES, LONG, ("background", "person")],
    ids=["7 classes", "21 classes", "long names", "one class"],
)
TITLE = "voc12 train, 437 images, mean over 7 classes"


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, kept to be looked into."""
    kept = []

    def save(figure, stem, formats=style.FORMATS):
        kept.append(figure)
        return style.save(figure, stem, formats)

    monkeypatch.setattr(charts, "save", save)
    monkeypatch.setattr(panels, "save", save)
    return kept


def texts_of(figure):
    """Every text that is drawn, with its box in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    drawn, draw_text = set(), renderer.draw_text
    renderer.draw_text = lambda *args, mtext=None, **more: (drawn.add(mtext), draw_text(*args, mtext=mtext, **more))
    figure.draw(renderer)
    # Ticks outside the axes have labels that are never drawn. matplotlib does not say whose a line of several is.
    shown = [text for text in figure.findobj(Text) if text in drawn or "\n" in text.get_text()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown if text.get_text().strip()]


def check(figure, files, width):
    """What holds for every figure."""
    pdf, png = files
    assert figure.get_size_inches()[0] == pytest.approx(width)
    with Image.open(png) as image:
        assert image.width == pytest.approx(300 * width, abs=1)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    content = pdf.read_bytes()
    assert re.search(rb"/MediaBox \[ 0 0 ([0-9.]+)", content).group(1) == f"{72 * width:g}".encode()
    assert b"/FontFile2" in content and b"/Type3" not in content
    texts = texts_of(figure)
    page = figure.bbox
    for text, box in texts:
        assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1 and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, text
    for (one, box), (other, other_box) in combinations(texts, 2):
        apart = box.x1 <= other_box.x0 + 1 or other_box.x1 <= box.x0 + 1
        assert apart or box.y1 <= other_box.y0 + 1 or other_box.y1 <= box.y0 + 1, (one, other)
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()}
    assert sizes <= {STYLE.text, STYLE.small}


def scores_of(names, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3000, (len(names), len(names) + 1)) + np.eye(len(names), len(names) + 1, dtype=int) * 90000
    counts[:2, :2] += [[0, 1], [50_000_000, 0]]  # a row of which 100 % are elsewhere
    return {"confusion": counts.tolist(), "classes": list(names)}


def test_the_palette_is_that_of_okabe_and_ito():
    used = {color for color, _ in STYLE.groups.values()} | {*STYLE.lines, STYLE.better, STYLE.worse, STYLE.neutral}
    assert used <= OKABE_ITO


@pytest.mark.parametrize("levels", [1, 2])
def test_strategies(tmp_path, figures, levels):
    found = {"the input": 0.8295, "max_iou_imp2": 0.8414}
    found = dict(list(found.items())[:levels])
    groups = {
        "grow": "ours",
        "max_iou_imp2": "published",
        "a_strategy_with_a_long_name_of_mine": "yours",
        "seco": "published",
    }
    rows = [
        Strategy(
            name, group, 0.8 + n / 100, {level: Difference(n / 100 - 0.01, n / 100 - 0.02, n / 100) for level in found}
        )
        for n, (name, group) in enumerate(groups.items())
    ]
    files = charts.draw_strategies(tmp_path / "compare", rows, found, TITLE)
    check(figures[0], files, STYLE.double)
    order = [text for text, _ in texts_of(figures[0]) if text.split()[0] in groups]
    # As in the tables: by score alone.
    assert [text.split()[0] for text in order] == [*groups][::-1]
    shown = {text for text, _ in texts_of(figures[0])}
    assert {"published", "ours", "yours", "interval excludes 0", "includes 0"} <= shown
    # One of the intervals reaches zero, and its dot is hollow.
    hollow = [line for line in figures[0].axes[0].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == sum(not row.differences["the input"].is_clear for row in rows) > 0


@pytest.mark.parametrize(
    ("values", "default"),
    [
        ((0.1, 0.5, 0.9), 0.5),
        ((0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 3.0), 1.0),
        ((False, True), False),
        (("grow", "contrast", "contrast-alone"), "grow"),
    ],
)
def test_sweeps(tmp_path, figures, values, default):
    points = [(value, Difference(0.01 * n, 0.01 * n - 0.02, 0.01 * n + 0.01)) for n, value in enumerate(values)]
    levels = {"input labels": 0.8295, "max_iou_imp2": 0.8414}
    files = charts.draw_sweep(tmp_path / "sweep", "quality of grow", points, default, levels, TITLE)
    check(figures[0], files, STYLE.single)
    # The interval at the default is drawn like the others; that of the difference to the default would have no width.
    bars = figures[0].axes[0].collections[0].get_segments()
    assert [bar[1, 1] - bar[0, 1] for bar in bars] == pytest.approx([3.0] * len(values))
    ticks = [label.get_text() for label in figures[0].axes[0].get_xticklabels()]
    assert len(ticks) == len(values) and all(ticks[k] for k in (0, values.index(default), -1))


@CLASSES
@pytest.mark.parametrize("method", ["grow", "labels enhanced by max_iou_imp2"])
def test_classes_before_and_after(tmp_path, figures, names, method):
    before = {name: 0.5 + n / 50 for n, name in enumerate(names)}
    after = {name: value + (0.05 - n / 100) for n, (name, value) in enumerate(before.items())}
    files = charts.draw_classes(
        tmp_path / "classes", before, after, ("input labels", method), f"IoU of each class\n{TITLE}"
    )
    check(figures[0], files, STYLE.single)
    shown = [text for text, _ in texts_of(figures[0])]
    assert "+5.0" in shown and "mean" in shown and "-0.0" not in shown and f"{method}, better" in shown
    assert figures[0].axes[0].get_position().width > 0.4  # long names leave room for what they name


@CLASSES
def test_confusion(tmp_path, figures, names):
    files = charts.draw_confusion(tmp_path / "confusion", scores_of(names), names, f"grow: {TITLE}")
    check(figures[0], files, STYLE.double if len(names) == 21 else STYLE.single)


def test_confusion_by_hand(tmp_path, figures):
    scores = {"confusion": [[75, 25, 0, 0], [0, 90, 10, 0], [7, 0, 0, 0]], "classes": ["background", "cat"]}
    charts.draw_confusion(tmp_path / "confusion", scores, ["background", "cat", "dog"], TITLE)
    numbers = {text.get_position(): text.get_text() for text in figures[0].axes[0].texts}
    assert numbers == {(0, 0): "75", (1, 0): "25", (1, 1): "90", (2, 1): "10"}
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["background", "cat", "other"]


@pytest.mark.parametrize("names", [("grow",), ("CAM labels", "grow")])
def test_curves(tmp_path, figures, names):
    history = [{"step": 100 * n, "loss": 1 / n, "lr": 0.01 / n, "miou": 0.1 * n} for n in range(1, 8)]
    files = charts.draw_curves(tmp_path / "curves", dict.fromkeys(names, history), f"Training of DeepLabV3+\n{TITLE}")
    check(figures[0], files, STYLE.double)
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["loss", "learning rate", "held-out mIoU, %"]


def test_curves_of_many_steps_have_no_dots(tmp_path, figures):
    """Dots of hundreds of steps run together to a thick band, and hide the curve."""
    history = [{"step": n, "loss": 1 / n, "miou": n / 400 if n % 100 == 0 else None} for n in range(1, 401)]
    charts.draw_curves(tmp_path / "curves", {"a": history}, TITLE)
    loss, miou = (axes.lines[0].get_marker() for axes in figures[0].axes)
    assert (loss, miou) == ("None", "o")


def test_curves_without_held_out_images(tmp_path, figures):
    history = [{"step": step, "loss": 5 / step, "lr": 0.01} for step in (10, 20)]
    files = charts.draw_curves(tmp_path / "curves", {"a": history}, TITLE)
    check(figures[0], files, STYLE.double)
    assert len(figures[0].axes) == 2


def test_a_score_at_the_end_alone_is_no_curve(tmp_path, figures):
    history = [{"step": 10, "loss": 0.5, "lr": 0.01}, {"step": 20, "loss": 0.4, "lr": 0.0, "miou": 0.5}]
    charts.draw_curves(tmp_path / "curves", {"a": history}, TITLE)
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["loss", "learning rate"]
    charts.draw_curves(tmp_path / "curves", {"a": history[:1]}, TITLE)
    assert [axes.get_ylabel() for axes in figures[1].axes] == ["loss"], "a training of one step"


@CLASSES
def test_rows_of_images_are_aligned(tmp_path, figures, names):
    rng = np.random.default_rng(0)
    classes = class_table(names)
    rows, labels = [], []
    for height, width in ((60, 90), (90, 60)):
        labels.append(rng.integers(0, len(names), (height, width), dtype=np.uint8))
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        captions = ("2007_000063", "pseudo label\nmIoU 12.3 %", "5 masks", "max_iou_imp2\nmIoU 100.0 %", "ground truth")
        rows.append([panels.Panel(caption, image) for caption in captions])
    legend = panels.class_legend(labels, classes)
    assert list(legend) == list(names[1:]) and legend["person"] == tuple(classes.palette[names.index("person")])
    files = panels.draw_panels(tmp_path / "rows", rows, legend, TITLE)
    check(figures[0], files, STYLE.double)
    places = [axes.get_position() for axes in figures[0].axes]
    for landscape, portrait in zip(places[:5], places[5:]):
        assert landscape.x0 + landscape.x1 == pytest.approx(portrait.x0 + portrait.x1)
        assert landscape.width > portrait.width


def test_headings_stand_once(tmp_path, figures):
    rows = [
        [panels.Panel(caption, np.zeros((60, 90, 3), np.uint8)) for caption in row] for row in (("a", ""), ("b", "7"))
    ]
    files = panels.draw_panels(tmp_path / "rows", rows, {"cat": (64, 0, 0)}, TITLE, heads=("image", "masks"))
    check(figures[0], files, STYLE.double)
    assert [text for text, _ in texts_of(figures[0])].count("masks") == 1


@CLASSES
def test_a_legend_of_its_own_has_no_margins(tmp_path, names):
    panels.draw_legend(tmp_path / "legend.png", panels.class_legend([np.arange(len(names))], class_table(names)))
    with Image.open(tmp_path / "legend.png") as image:
        inked = np.argwhere(np.asarray(image.convert("L")) < 250)
        margins = [*inked.min(axis=0), *(np.array(image.size[::-1]) - 1 - inked.max(axis=0))]
    assert max(margins) <= 0.12 * 300 and min(margins) > 0


def test_small_numbers_have_no_factor_above_the_axis(tmp_path, figures):
    history = [{"step": step, "loss": 5 / step, "lr": 1e-5 * step} for step in range(1, 9)]
    charts.draw_curves(tmp_path / "curves", {"a": history}, TITLE)
    assert not any(axes.yaxis.get_offset_text().get_text() for axes in figures[0].axes)
    assert "8e\N{MINUS SIGN}05" in [text for text, _ in texts_of(figures[0])]


def test_the_same_bytes_each_time(tmp_path):
    image = np.zeros((10, 20, 3), np.uint8)
    one, two = (panels.draw_panels(tmp_path / name, [[panels.Panel("a", image)]], {"cat": (64, 0, 0)}) for name in "ab")
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_a_page_for_a_screen_is_what_is_saved(tmp_path):
    rows = [[panels.Panel("a", np.full((10, 20, 3), 200, np.uint8), (("cat 0.93", 2, 2),))]]
    drawn = panels.panels_image(rows, {"cat": (64, 0, 0)}, dpi=300)
    _, png = panels.draw_panels(tmp_path / "page", rows, {"cat": (64, 0, 0)})
    assert np.array_equal(drawn, np.asarray(Image.open(png).convert("RGB")))


def test_dollar_signs_are_letters(tmp_path, figures):
    panels.draw_panels(tmp_path / "page", [[panels.Panel("$x_1$ and $", np.zeros((9, 9, 3), np.uint8))]])
    assert "$x_1$ and $" in [text for text, _ in texts_of(figures[0])]


def test_names_of_data():
    assert style.data_name("/data/voc12/ImageSets/Segmentation/train.txt") == "voc12 train"
    assert style.data_name("/data/mine/val.txt") == "mine val"
    assert style.data_name("/data/mine/runs/../val.txt") == "mine val"
    assert style.described("voc12 train", 437, 7) == "voc12 train, 437 images, mean over 7 classes"
    assert style.described("", 1, 1) == "1 image, mean over 1 class"


def test_the_text_of_a_pdf_is_text(tmp_path):
    """Letters can be selected and searched: the fonts' tables say which letter a glyph is."""
    pdf, _ = panels.draw_panels(tmp_path / "page", [[panels.Panel("Hündin", np.zeros((9, 9, 3), np.uint8))]])
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.DOTALL)
    plain = b"".join(zlib.decompress(part) for part in streams if part[:1] == b"x")
    assert b"beginbfrange" in plain or b"beginbfchar" in plain


def test_a_contact_sheet_names_each_image_and_says_that_its_class_was_given(tmp_path, figures):
    for name in ("IMG_1", "IMG_2"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    tags = {"IMG_1": (1, 2), "IMG_2": ()}
    classes = class_table(["background", "cat", "dog"])
    draw_contact_sheet(tmp_path / "sheet.png", tmp_path, tmp_path / "none", tags, classes, 2, 0, TITLE)
    texts = {text.get_text() for text in figures[0].findobj(Text)}
    assert {"IMG_1\ngiven: cat, dog", "IMG_2\ngiven: no class", TITLE} <= texts
