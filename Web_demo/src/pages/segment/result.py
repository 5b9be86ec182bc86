"""One result of the page Segment: views of the image, legend, colours, files to save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from util.data.annotations import coco_content, labelme_content
from util.data.voc import ClassTable
from util.vis import overlay
from Web_demo.src.model.inference import Result
from Web_demo.src.model.loading import Stamp
from Web_demo.src.model.runs import HeldOut
from Web_demo.src.preprocessing.examples import Example
from Web_demo.src.preprocessing.uploads import InputImage
from Web_demo.src.utils import downloads, hover, lab, render
from Web_demo.src.utils.downloads import Download
from Web_demo.src.utils.render import plain

if TYPE_CHECKING:
    from models.segmentation.inference import Segmenter

OVERLAY, LABEL_MAP, CONFIDENCE, ORIGINAL, TRUTH, ALL = (
    "Overlay",
    "Label map",
    "Confidence",
    "Original",
    "Ground truth",
    "All",
)
_REMEMBERED = 60  # files and views of a session that are not made again at every click


@dataclass(frozen=True)
class Network:
    """The network in use.

    Attributes:
        segmenter: the network.
        stamp: of its file.
        known: its held-out images and score, or None.
    """

    segmenter: Segmenter
    stamp: Stamp
    known: HeldOut | None


@dataclass(frozen=True)
class Segmented:
    """An image and its result.

    Attributes:
        image: as it was given.
        result: of the network.
        stem: of the names of its files, different for every image.
        key: distinguishes the result from any other.
    """

    image: InputImage
    result: Result
    stem: str
    key: tuple

    def label(self, hidden: Sequence[int]) -> np.ndarray:
        """uint8 HxW, the label map without the classes that are not shown."""
        return render.without(self.result.label, hidden) if hidden else self.result.label


@dataclass(frozen=True)
class Look:
    """How results are drawn.

    Attributes:
        classes: in the colours that were chosen.
        opacity: of the overlay, 0 to 1.
        hidden: label values that are not shown.
    """

    classes: ClassTable
    opacity: float
    hidden: tuple[int, ...]


def show_result(
    network: Network, segmented: Segmented, example: Example
) -> tuple[Look, st.delta_generator.DeltaGenerator]:
    """The chosen image's card; returns how it is drawn, and the place for the button that saves all."""
    classes = render.with_colors(network.segmenter.classes, st.session_state.get("colours", {}))
    result = segmented.result
    with st.container(border=True, key="card"):
        left, right = st.columns([3, 2], gap="medium")
        with right:
            st.html(render.legend(result.found, classes, hidden_of(result, classes)))
            if not any(entry.index for entry in result.found):
                st.caption("No known class found.")
            look = choose_look(result, classes)
            archive_place = offer_files(segmented, look)
        with left:
            st.markdown(f"**{plain(segmented.image.name)}**")
            show_views(segmented, look, example)
            st.caption(facts(segmented, example, classes))
    return look, archive_place


def facts(segmented: Segmented, example: Example, classes: ClassTable) -> str:
    """Size, time, origin and, where there is ground truth, the score of an image."""
    image, result = segmented.image, segmented.result
    height, width = image.full_size
    text = f"Point at the image, or tap it, to read class and confidence. {width} x {height} pixels, "
    text += f"done in {result.seconds:.2f}\N{NO-BREAK SPACE}s"
    if result.waited > 0.2:
        text += f", {result.waited:.1f} s of it waiting for other visitors' images"
    if image.is_scaled:
        rows, columns = image.image.shape[:2]
        text += f". Scaled to {columns} x {rows} pixels for the network; the label map has the full size"
    if example.origin:
        text += f". {example.origin}"
    if example.truth is not None:
        miou = lab.image_scores(result.label, example.truth, classes)[0]
        text += f" mIoU of this image: {100 * miou:.1f}\N{NO-BREAK SPACE}%."
    return text


# --- choices ------------------------------------------------------------------------------------------------------


def hidden_of(result: Result, classes: ClassTable) -> tuple[int, ...]:
    """Label values of an image that were switched off; by name, so that it holds for other images as well."""
    names = st.session_state.get("hidden", set())
    return tuple(entry.index for entry in result.found if classes.names[entry.index] in names)


def choose_look(result: Result, classes: ClassTable) -> Look:
    """Opacity, classes and colours."""
    if "opacity" not in st.session_state:
        st.session_state["opacity"] = 60
    opacity = st.slider("Overlay opacity", 0, 100, step=5, format="%d %%", key="opacity") / 100
    seen = sorted(entry.index for entry in result.found if entry.index)
    if seen:
        choose_classes(seen, classes)
        with st.expander("Colours"):
            choose_colors(seen, classes)
    hidden = st.session_state.get("hidden", set())
    return Look(classes, opacity, tuple(value for value, name in enumerate(classes.names) if name in hidden))


def choose_classes(seen: Sequence[int], classes: ClassTable) -> None:
    """Switch classes off and on."""
    hidden: set[str] = st.session_state.setdefault("hidden", set())
    key = f"classes {seen} {classes.names}"

    def keep() -> None:
        chosen = st.session_state[key]
        hidden.difference_update(classes.names[value] for value in chosen)
        hidden.update(classes.names[value] for value in seen if value not in chosen)

    st.pills(
        "Classes shown",
        seen,
        default=[value for value in seen if classes.names[value] not in hidden],
        selection_mode="multi",
        format_func=lambda value: plain(classes.names[value]),
        key=key,
        on_change=keep,
        wrap=True,
        help="Classes that are switched off are left out of the views and of the files.",
    )


def choose_colors(seen: Sequence[int], classes: ClassTable) -> None:
    """A colour for each class."""
    colours: dict[str, str] = st.session_state.setdefault("colours", {})

    def keep(name: str, key: str) -> None:
        colours[name] = st.session_state[key]

    with st.container(horizontal=True):
        for value in seen:
            name = classes.names[value]
            red, green, blue = classes.colors[value]
            key = f"colour of {name} {sorted(colours.items())}"
            st.color_picker(plain(name), f"#{red:02x}{green:02x}{blue:02x}", key=key, on_change=keep, args=(name, key))
    if colours:
        st.button("Reset colours", on_click=colours.clear, icon=":material/undo:")


# --- views --------------------------------------------------------------------------------------------------------


def show_views(segmented: Segmented, look: Look, example: Example) -> None:
    """The image as it was asked for; the pointer over it reads class and confidence."""
    views = [OVERLAY, LABEL_MAP, CONFIDENCE, ORIGINAL, *([] if example.truth is None else [TRUTH]), ALL]
    if st.session_state.get("view") not in views:
        st.session_state["view"] = OVERLAY
    view = st.segmented_control("View", views, required=True, key="view", label_visibility="collapsed", wrap=True)
    shown = views[:-1] if view is None or view == ALL else [view]
    with st.container(key="panels"):
        for start in range(0, len(shown), 2):
            pair = shown[start : start + 2]
            for column, name in zip(st.columns(2) if len(shown) > 1 else [st.container()], pair):
                data, alt = panel(name, segmented, look, example)
                column.image(render.inline(data), caption=name if len(shown) > 1 else None, alt=alt, width="stretch")
    if CONFIDENCE in shown:
        st.html(render.scale_bar())
    result = segmented.result
    address = remembered(("hover", segmented.key), lambda: hover.hover_map(result.label, result.confidence))
    hover.hover("panels", address, look.classes)


def panel(name: str, segmented: Segmented, look: Look, example: Example) -> tuple[bytes, str]:
    """The file of a view, and its description."""
    image, result = segmented.image, segmented.result
    label, palette = segmented.label(look.hidden), look.classes.palette
    words = render.describe([entry for entry in result.found if entry.index not in look.hidden], look.classes)
    if name == LABEL_MAP:
        return render.encode(palette[label], "PNG"), f"Label map of {image.name}: {words}"
    if name == CONFIDENCE:
        drawn = render.confidence_map(result.confidence)
        return render.encode(drawn), f"Confidence of the network at every point of {image.name}"
    if name == ORIGINAL:
        return render.encode(image.image), f"The image {image.name}"
    if name == TRUTH and example.truth is not None:
        drawn = overlay(image.image, example.truth, palette, look.opacity)
        return render.encode(drawn), f"Ground truth of {image.name}"
    return overlay_file(segmented, look), f"Overlay of {image.name}: {words}"


def overlay_file(segmented: Segmented, look: Look) -> bytes:
    """The image with its label map laid over it, as a JPEG."""
    label = segmented.label(look.hidden)
    return render.encode(overlay(segmented.image.image, label, look.classes.palette, look.opacity))


# --- files --------------------------------------------------------------------------------------------------------


def offer_files(segmented: Segmented, look: Look) -> st.delta_generator.DeltaGenerator:
    """Buttons that save the image's files; returns the place for one more."""
    stem, image = segmented.stem, segmented.image
    label = segmented.label(look.hidden)
    key = (segmented.key, look.hidden, look.classes.colors)
    content = remembered(("label map", *key), lambda: render.label_file(label, look.classes.palette, image.full_size))
    files = [
        Download("Label map (PNG)", f"{stem}_label.png", "image/png", content, "Each pixel holds its class number."),
        Download("Overlay (JPG)", f"{stem}_overlay.jpg", "image/jpeg", overlay_file(segmented, look)),
    ]
    st.markdown("Download")
    downloads.buttons(files, key=f"files of {image.key}")
    # Made when they are asked for: polygons of a large image take seconds.
    left, right = st.container(key="grid of annotation files").columns(2)
    if left.button("COCO (JSON)", width="stretch", icon=":material/download:", help="Run-length codes, exact."):
        full = render.enlarged(label, image.full_size)
        data = render.json_file(coco_content([(image.name, full)], look.classes))
        downloads.start(Download("COCO", f"{stem}_coco.json", "application/json", data), key="annotations")
    if right.button(
        "labelme (JSON)", width="stretch", icon=":material/download:", help="Polygons, to edit in labelme."
    ):
        full = render.enlarged(label, image.full_size)
        data = render.json_file(labelme_content(full, look.classes, image.name))
        downloads.start(Download("labelme", f"{stem}.json", "application/json", data), key="annotations")
    return st.container()


def show_archive(look: Look, done: Sequence[Segmented]) -> None:
    """A button that saves all files of all images as one archive."""
    text = "Download everything (ZIP)" if len(done) == 1 else f"Download all {len(done)} images (ZIP)"
    if st.button(text, key="download all", icon=":material/folder_zip:", type="primary", width="stretch"):
        with st.spinner("Packing ..."):
            data = render.archive(files_of(look, done))
        downloads.start(Download(text, "segmentation.zip", "application/zip", data), key="archive")


def files_of(look: Look, done: Sequence[Segmented]) -> dict[str, bytes]:
    """Name -> content: label map, overlay and labelme file of every image, and one COCO file."""
    files, labels = {}, []
    for one in done:
        label = one.label(look.hidden)
        full = render.enlarged(label, one.image.full_size)
        files[f"{one.stem}_label.png"] = render.label_file(label, look.classes.palette, one.image.full_size)
        files[f"{one.stem}_overlay.jpg"] = overlay_file(one, look)
        files[f"{one.stem}.json"] = render.json_file(labelme_content(full, look.classes, one.image.name))
        labels.append((one.image.name, full))
    files["coco.json"] = render.json_file(coco_content(labels, look.classes))
    return files


def remembered(key: tuple, make: Callable):
    """What ``make`` gave for this key before in this session."""
    kept = st.session_state.setdefault("remembered", {})
    if key not in kept:
        while len(kept) >= _REMEMBERED:
            kept.pop(next(iter(kept)))
        kept[key] = make()
    return kept[key]
