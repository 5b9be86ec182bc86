"""The lower part of the page Strategy lab: one strategy over all images, and the images that it changes most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from util.runtime.errors import InputError
from util.vis import overlay
from Web_demo.src.utils import lab, render
from Web_demo.src.utils.lab import Change, Lab, Sweep
from Web_demo.src.utils.render import plain

SHOWN = 12  # thumbnails in a row


def show_ranking(room: Lab, version: str, name: str, strategy: Callable, parameters: dict) -> None:
    """Run the tuned strategy over all images when asked; show set-level scores and the images, largest change first."""
    st.header("All images")
    key = (version, name, repr(parameters))
    st.markdown(f"{plain(name)} over all {len(room.ids)} images, with the parameters above.")
    scored = room.gt is not None
    if st.button(
        "Find the best and the worst" if scored else "Find the images that change most", icon=":material/leaderboard:"
    ):
        bar = st.progress(0.0, "Merging ...")
        for step in lab.sweep(room, name, strategy, parameters):
            if isinstance(step, float):
                bar.progress(step, "Merging ...")
            else:
                st.session_state["lab sweep"] = key, step
        bar.empty()
    known, found = st.session_state.get("lab sweep", (None, None))
    if known != key:
        return
    show_failures(found)
    changes = found.changes()
    if scored:
        show_scores(found, name, changes)
    if not changes:
        st.caption("No image changed.")
        return
    order = "change of the image's mIoU in points" if scored else "share of the pixels that changed"
    st.caption(f"Numbers: {order}. Choose an image to see it at the top of this page.")
    groups = {"Best": [c for c in changes if c.gain > 0], "Worst": [c for c in changes[::-1] if c.gain < 0]}
    for title, group in groups.items() if scored else {"Most changed": changes}.items():
        if group:
            ranked_images(title, group[:SHOWN], room, version, strategy, name, parameters)


def show_failures(found: Sweep) -> None:
    """The images that could not be merged."""
    for image_id, message in list(found.failures.items())[:5]:
        st.warning(plain(f"{image_id}: {message}"), icon=":material/warning:")
    if len(found.failures) > 5:
        st.warning(f"{len(found.failures) - 5} more images failed.", icon=":material/warning:")


def show_scores(found: Sweep, name: str, changes: Sequence[Change]) -> None:
    """Set-level mIoU before and after, and how many images are better and worse."""
    if found.before is None or found.after is None or not found.after.cells:
        return
    before, after = found.before.scores["miou"], found.after.scores["miou"]
    left, middle, right = st.container(key="grid of scores").columns(3)
    left.metric("mIoU of the pseudo labels", f"{100 * before:.2f} %")
    middle.metric(f"mIoU of {name}", f"{100 * after:.2f} %", f"{100 * (after - before):+.2f}")
    better, worse = (sum(sign * change.gain > 0 for change in changes) for sign in (1, -1))
    right.metric("Images better / worse", f"{better} / {worse}")


def ranked_images(
    title: str, changes: Sequence[Change], room: Lab, version: str, strategy: Callable, name: str, parameters: dict
) -> None:
    """Thumbnails that lead to images."""
    widget = f"gallery {title} {name} {parameters!r}"
    texts = {change.image_id: change.text() for change in changes}

    def go() -> None:
        if st.session_state[widget] is not None:
            st.session_state["lab image"] = st.session_state[widget]

    kept = st.session_state.setdefault("lab thumbnails", {})
    for image_id in texts:
        key = (room.labels, version, name, repr(parameters), image_id)
        if key not in kept:
            if len(kept) > 200:
                kept.clear()
            kept[key] = thumbnail(room, strategy, name, parameters, image_id)
        texts[image_id] = f"{kept[key]} {plain(texts[image_id])}"
    st.pills(title, list(texts), format_func=texts.__getitem__, key=widget, on_change=go, width="stretch")


def thumbnail(room: Lab, strategy: Callable, name: str, parameters: dict, image_id: str) -> str:
    """The image with the strategy's label, as Markdown; empty where it can no longer be read."""
    try:
        scene = room.read(image_id)
        return render.thumbnail(
            overlay(scene.image, lab.apply(scene, name, strategy, parameters), room.classes.palette)
        )
    except InputError:
        return ""
