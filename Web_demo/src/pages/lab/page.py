"""The page Strategy lab: one image through every strategy, one strategy tuned, and that strategy over all images."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import streamlit as st

from merge.parameters import parameters_of
from util.data.voc import VOID, ClassTable
from util.figures.panels import class_legend
from util.runtime.errors import InputError
from util.vis import mask_note, overlay, seen_color
from Web_demo.src.pages.lab.ranking import show_ranking
from Web_demo.src.utils import lab, render
from Web_demo.src.utils.lab import Lab, Scene
from Web_demo.src.utils.merges import find_merges
from Web_demo.src.utils.render import plain

INTRODUCTION = (
    "A merge strategy turns a pseudo label and masks into a better label. Choose an image, see what every strategy "
    "makes of it, and tune the parameters of one; then run that one over all images and look at those that it changed "
    "most. Edit a strategy's file in `merge/` and press Rerun to see the difference."
)

LABELS, CHANGES, ERRORS = VIEWS = ("Labels", "Changes", "Errors")


def show(args: Namespace) -> None:
    """Draw the page."""
    st.title("Strategy lab")
    st.markdown(INTRODUCTION)
    if args.pseudo_path is None:
        merges = find_merges(args.runs)
        if not merges:
            explain(args)
            return
        name = st.selectbox("Labels", list(merges), key="lab merge") if len(merges) > 1 else next(iter(merges))
        args = Namespace(**vars(args) | merges[name] | {key: value for key, value in vars(args).items() if value})
    try:
        room = open_lab(args)
        version, table = lab.strategies()
    except InputError as error:
        st.error(plain(error), icon=":material/error:")
        st.button("Rerun", icon=":material/refresh:")
        return
    image_id = choose_image(room)
    try:
        scene = room.read(image_id)
    except InputError as error:
        st.error(plain(f"{image_id}: {error}"), icon=":material/error:")
        return
    legend = show_scene(scene, room)
    name, parameters = tune(table)
    if not parameters.get("auto", {}).get("rule", "given"):
        parameters["auto"]["rule"] = room.rule
    results = run_strategies(scene, table, parameters)
    legend.html(render.palette_list(shown_classes(scene, results, room.classes)))
    show_strategies(scene, room.classes, name, results)
    show_ranking(room, version, name, table[name], parameters[name])


def explain(args: Namespace) -> None:
    """What the lab needs, and where it looked."""
    st.info("The lab needs pseudo labels and masks.", icon=":material/info:")
    searched = " or ".join(f"`{plain(folder)}`" for folder in args.runs)
    st.markdown(
        f"Looked for what `quickstart.py` or `main.py` merged, in {searched}: there is nothing yet. After a run, reload this "
        "page. Otherwise start the demo with the folders that `main.py` takes; it reads nothing outside them:\n\n"
        "```\nstreamlit run Web_demo/src/app.py -- \\\n    --pseudo-path LABELS --sam-path MASKS \\\n"
        "    --images-path IMAGES --gt-dir GROUND_TRUTH \\\n    --image-list train.txt\n```"
    )


@st.cache_resource(
    show_spinner=False, max_entries=4, hash_funcs={Namespace: lambda args: repr(sorted(vars(args).items()))}
)
def open_lab(args: Namespace) -> Lab:
    """The lab of these options, shared by all sessions."""
    return Lab(args)


# --- one image ----------------------------------------------------------------------------------------------------


def choose_image(room: Lab) -> str:
    """The id to show; the list can be stepped through."""
    ids = room.ids
    if st.session_state.get("lab image") not in ids:
        st.session_state["lab image"] = ids[0]

    def step(by: int) -> None:
        st.session_state["lab image"] = ids[(ids.index(st.session_state["lab image"]) + by) % len(ids)]

    with st.container(horizontal=True, vertical_alignment="bottom"):
        image_id = st.selectbox(f"Image (of {len(ids)})", ids, key="lab image", width=320)
        st.button("Previous", on_click=step, args=(-1,), icon=":material/chevron_left:")
        st.button("Next", on_click=step, args=(1,), icon=":material/chevron_right:")
        st.button(
            "Rerun",
            on_click=open_lab.clear,
            icon=":material/refresh:",
            help="Reads the strategies in merge/ and the lists again, after you have changed them.",
        )
    return image_id


def show_scene(scene: Scene, room: Lab) -> st.delta_generator.DeltaGenerator:
    """Original, pseudo label, masks and ground truth; returns the place for the legend."""
    count, classes = len(scene.masks), room.classes
    place, legend = st.container(key="grid of the image"), st.empty()
    chosen = st.selectbox(
        "Masks",
        [None, *range(count)],
        key=f"mask of {scene.image_id}",
        width=320,
        format_func=lambda k: f"all {count}" if k is None else mask_name(scene, k),
    )
    panels = [
        (scene.image_id, scene.image),
        ("Pseudo label" + score_note(scene, classes), overlay(scene.image, scene.label, classes.palette)),
        (
            room.masks_text(scene) if chosen is None else f"Mask {chosen}",
            lab.masks_image(scene, classes.palette, chosen),
        ),
    ]
    if scene.truth is not None:
        panels.append(("Ground truth", overlay(scene.image, scene.truth, classes.palette)))
    with place:
        for column, (title, image) in zip(st.columns(len(panels)), panels):
            column.image(render.inline(render.encode(image)), caption=plain(title), alt=title, width="stretch")
    if chosen is not None:
        st.html(render.fact_table(lab.mask_numbers(scene, chosen, classes)))
    return legend


def shown_classes(scene: Scene, results: Mapping, classes: ClassTable) -> ClassTable:
    """The classes of the image's labels and void, where there is some, as overlays show them; background left out."""
    labels = [scene.label, *(label for label, _ in results.values() if isinstance(label, np.ndarray))]
    legend = class_legend(labels if scene.truth is None else [*labels, scene.truth], classes)
    return ClassTable(tuple(legend), tuple(map(seen_color, legend.values())))


def mask_name(scene: Scene, k: int) -> str:
    """Number, category and score where they are known, and size of a mask."""
    about = mask_note(scene.masks, k)
    return f"{k}: {about + ', ' if about else ''}{int(scene.masks.areas[k])} pixels"


def score_note(scene: Scene, classes: ClassTable) -> str:
    """The score of the pseudo label, where there is ground truth."""
    if scene.truth is None:
        return ""
    return f": mIoU {100 * lab.image_scores(scene.label, scene.truth, classes)[0]:.1f} %"


# --- strategies ---------------------------------------------------------------------------------------------------


def tune(table: Mapping[str, Callable]) -> tuple[str, dict[str, dict]]:
    """The strategy to tune, and the parameters of all: those set here, and the defaults."""
    st.header("Strategies")
    name = st.selectbox("Tune", list(table), key="lab strategy", width=320)
    st.caption(plain(lab.summary_of(table[name]).replace("`", "")))
    settings = st.session_state.setdefault("lab parameters", {})
    parameters = {}
    for other, strategy in table.items():
        defaults = parameters_of(strategy)
        ours = settings.get(other, {})
        parameters[other] = {key: ours.get(key, default) for key, default in defaults.items()}
    given, defaults = parameters[name], parameters_of(table[name])
    worth_trying, notes = lab.search_values(table[name]), lab.parameter_notes(table[name])
    keys = list(given)
    for start in range(0, len(keys), 3):
        for column, key in zip(st.columns(3), keys[start : start + 3]):
            with column:
                more = worth_trying.get(key, ()), notes.get(key)
                given[key] = parameter_input(name, key, defaults[key], given[key], *more)
    if not given:
        st.caption("It has no parameters.")
    # Only what differs is kept, so that a default that is edited in the file counts.
    settings[name] = {key: value for key, value in given.items() if value != defaults[key]}
    return name, parameters


def parameter_input(strategy: str, name: str, default, value, worth_trying: tuple, note: str | None):
    """A slider or switch for a parameter.

    Args:
        worth_trying: the values that the strategy's file names in ``SEARCH``: the slider spans these and the default.
            Without them the range follows from the default.
        note: what the strategy's file says of it.
    """
    key = f"parameter {strategy} {name} {default!r} {worth_trying}"
    label = f"{name} (default: {('on' if default else 'off') if isinstance(default, bool) else 'empty' if default == '' else default})"
    if isinstance(default, bool):
        return st.toggle(label, value, key=key, help=note)
    if not isinstance(default, (int, float)):
        return st.text_input(label, value, key=key, help=note)
    bounds = slider_range(default, worth_trying)
    if bounds is None:
        return st.number_input(label, value=value, key=key, help=note)
    low, high = bounds
    value = min(max(value, low), high)
    if isinstance(default, int):
        return st.slider(label, low, high, value, key=key, help=note)
    fine = any(round(number, 2) != number for number in (default, *worth_trying))
    step = 0.001 if fine else 0.01
    return st.slider(label, low, high, value, step, format="%.3f" if fine else "%.2f", key=key, help=note)


def slider_range(default: float, worth_trying: tuple) -> tuple | None:
    """Lowest and highest value of a slider; None where no range suggests itself."""
    numbers = [number for number in worth_trying if isinstance(number, (int, float))]
    kind = type(default)
    if numbers and min(*numbers, default) < max(*numbers, default):
        return kind(min(*numbers, default)), kind(max(*numbers, default))
    if isinstance(default, int):
        return (0, max(10, 4 * default)) if default >= 0 else None
    if 0 <= default <= 1:
        return 0.0, 1.0
    return (0.0, 4 * default) if default > 1 else None


def run_strategies(scene: Scene, table: Mapping[str, Callable], parameters: Mapping[str, dict]) -> dict:
    """Name -> (label or InputError, milliseconds)."""
    results: dict[str, tuple[np.ndarray | InputError, float]] = {}
    for name, strategy in table.items():
        start = time.perf_counter()
        try:
            result: np.ndarray | InputError = lab.apply(scene, name, strategy, parameters[name])
        except InputError as error:
            result = error
        results[name] = result, 1000 * (time.perf_counter() - start)
    return results


def show_strategies(scene: Scene, classes: ClassTable, tuned: str, results: Mapping) -> None:
    """Every strategy's label side by side, the tuned one first, with its scores."""
    views = VIEWS if scene.truth is not None else VIEWS[:-1]
    if st.session_state.get("lab view") not in views:
        st.session_state["lab view"] = LABELS
    view = st.segmented_control("Show", views, required=True, key="lab view", wrap=True) or LABELS
    if view == CHANGES:
        st.caption("Against the pseudo label. Blue: removed. Orange: added. Violet: another class.")
    elif view == ERRORS:
        st.caption("Against the ground truth. Blue: missed. Orange: too much. Violet: another class.")
    names = [tuned, *(name for name in results if name != tuned)]
    grid = st.container(key="grid of strategies")
    for start in range(0, len(names), 3):
        for column, name in zip(grid.columns(3), names[start : start + 3]):
            with column:
                show_label(scene, classes, name, results[name], view)
    if scene.truth is None:
        return
    labels = {"pseudo label": scene.label, **{name: results[name][0] for name in names}}
    rows = {
        name: {classes.names[c]: iou for c, iou in lab.image_scores(label, scene.truth, classes)[1].items()}
        for name, label in labels.items()
        if not isinstance(label, InputError)
    }
    st.markdown("IoU per class (%)")
    table = (100 * pd.DataFrame(rows).T).rename_axis("strategy")
    st.dataframe(table.style.format(precision=1, na_rep=""), height="content", width="content")


def show_label(
    scene: Scene, classes: ClassTable, name: str, outcome: tuple[np.ndarray | InputError, float], view: str
) -> None:
    """A strategy's label, or why there is none."""
    result, milliseconds = outcome
    if isinstance(result, InputError):
        st.error(plain(result), icon=":material/error:")
        return
    changed = result != scene.label
    caption = f"{100 * changed.mean():.1f} % changed" if changed.any() else "unchanged"
    if scene.truth is not None:
        before, after = (lab.image_scores(label, scene.truth, classes)[0] for label in (scene.label, result))
        caption = f"mIoU {100 * after:.1f} % ({100 * (after - before):+.1f}), {caption}"
    caption = f"{name}: {caption}, {milliseconds:.1f}\N{NO-BREAK SPACE}ms"
    if view == CHANGES:
        shown = lab.differences_image(scene.image, result, scene.label, changed)
    elif view == ERRORS and scene.truth is not None:
        shown = lab.differences_image(scene.image, result, scene.truth, scene.truth != VOID)
    else:
        shown = overlay(scene.image, result, classes.palette)
    st.image(render.inline(render.encode(shown)), caption=plain(caption), alt=caption, width="stretch")
