"""The page Segment: choose a network, upload images or try the examples, see and save the results."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

import streamlit as st

from util.data.voc import load_classes
from util.runtime.errors import InputError
from Web_demo.src.model import inference, loading, runs
from Web_demo.src.pages.segment.result import Network, Segmented, show_archive, show_result
from Web_demo.src.preprocessing import uploads
from Web_demo.src.preprocessing.examples import Example, examples
from Web_demo.src.preprocessing.uploads import InputImage
from Web_demo.src.utils import render
from Web_demo.src.utils.files import names_below
from Web_demo.src.utils.render import plain

# What is chosen here and kept while another page is shown.
_KEPT = ("gallery", "view", "opacity", "high quality")


def show(args: Namespace) -> None:
    """Draw the page."""
    st.title("Segment")
    network = choose_network(args)
    if network is None:
        return
    names = network.segmenter.classes.names[1:]
    known = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:6])} and {len(names) - 6} more"
    st.markdown(f"The network colours every pixel by its class. It knows {len(names)} classes: {plain(known)}.")
    left, right = st.columns([2, 3], gap="medium")
    refused = st.empty()
    with left:
        uploaded = choose_uploads(refused)
    tried = [Example(image, "") for image in uploaded]
    tried += examples(network.segmenter.classes, network.known)
    if not tried:
        return
    with right:
        chosen = choose_in_gallery(tried)
    show_all(network, chosen, uploaded)


# --- the network --------------------------------------------------------------------------------------------------


def choose_network(args: Namespace) -> Network | None:
    """The network to use; None, after saying why, where there is none."""
    files = loading.find_checkpoints(args.runs)
    if args.checkpoint is not None:
        files = [args.checkpoint, *(file for file in files if file.resolve() != args.checkpoint.resolve())]
    if not files:
        explain_first_start(args)
        return None
    start = 0 if args.checkpoint is not None else loading.first_usable(files)
    with st.sidebar:
        file = st.selectbox("Checkpoint", files, index=start, format_func=names_below(files, args.runs).__getitem__)
    try:
        stamp = loading.stamp_of(file)
        classes = None if args.encoder is None or args.class_names is None else load_classes(args.class_names)
        segmenter = loading.load_segmenter(stamp, args.device, args.encoder, classes)
    except InputError as error:
        st.error(plain(error), icon=":material/error:")
        st.markdown("Choose another checkpoint in the menu, or train a network with `python train_deeplabv3.py`.")
        return None
    network = Network(segmenter, stamp, runs.held_out(stamp, tuple(args.runs)))
    with st.sidebar:
        describe(network)
        st.toggle(
            "High quality (multi-scale)",
            key="high quality",
            help="Averages over three sizes and mirrored images: finer borders, six times as slow.",
        )
    return network


def describe(network: Network) -> None:
    """What is known of the network, in the sidebar."""
    segmenter = network.segmenter
    size = segmenter.size_text()
    lines = [
        f"Encoder: {plain(segmenter.config.get('encoder', 'not recorded'))}",
        f"Classes: {len(segmenter.classes)}, background included",
        score_line(network),
        plain(size[0].upper() + size[1:]),
        f"Runs on: {plain(segmenter.device)}",
    ]
    st.caption("  \n".join(lines))
    with st.expander("All classes"):
        st.html(render.palette_list(render.with_colors(segmenter.classes, st.session_state.get("colours", {}))))


def score_line(network: Network) -> str:
    """The network's score on held-out images: of its newest evaluation, or else of its training."""
    known, score = network.known, network.segmenter.score
    if known is not None and known.miou is not None:
        count = f"{len(known.ids)} held-out images" if known.ids else "held-out images"
        source = names_below([known.source], [])[known.source]
        return f"Score: {100 * known.miou:.2f} % mIoU on {count} ({plain(source)})"
    if isinstance(score, dict) and isinstance(score.get("miou"), float):
        return f"Score: {100 * score['miou']:.2f} % mIoU on the images held out while training"
    return "Score: not measured; with ground truth, `evaluate_enhanced.py` measures it"


def explain_first_start(args: Namespace) -> None:
    """What to do where no checkpoint was found."""
    st.info("There is no trained network yet.", icon=":material/info:")
    searched = " or ".join(f"`{folder}`" for folder in args.runs)
    st.markdown(
        "The quickest way to one takes minutes and downloads nothing:\n\n"
        "```\npython quickstart.py\n```\n\n"
        "One for your own images, sorted into a folder per class:\n\n"
        "```\npython prepare_folder.py \\\n    --source my_images --out mydata\n"
        "python quickstart.py \\\n    --voc mydata --out runs/mydata\n```\n\n"
        f"Checkpoints in {searched} are found automatically; name any other at the start:\n\n"
        "```\nstreamlit run Web_demo/src/app.py -- \\\n    --checkpoint FILE\n```\n\nThen reload this page."
    )


# --- the images ---------------------------------------------------------------------------------------------------


def choose_uploads(refused: st.delta_generator.DeltaGenerator) -> list[InputImage]:
    """The uploaded images that can be read; the others are reported in the place ``refused``."""
    # Kinds, not suffixes: for a forged suffix Streamlit would break the page off before any of this runs.
    files = st.file_uploader(
        f"Upload {uploads.FORMATS} images: up to {uploads.MAX_BYTES >> 20} MB each, {uploads.MAX_FILES} at once",
        type=[
            *(f"image/{kind}" for kind in ("jpeg", "png", "webp", "heic", "heif", "tiff", "bmp")),
            *(".heic", ".heif", ".tif", ".tiff"),
        ],
        accept_multiple_files=True,
        key="uploads",
    )
    earlier: dict[str, InputImage] = st.session_state.get("earlier", {})
    if earlier:
        with st.container(horizontal=True, vertical_alignment="center"):
            names = ", ".join(image.name for image in earlier.values())
            st.caption(f"Kept from before: {plain(names)}", width="content")
            st.button("Remove", key="remove earlier", on_click=earlier.clear, icon=":material/close:")
    count = len(earlier) + len(files)
    if count > uploads.MAX_FILES:
        st.warning(
            f"{count} images are more than the limit: the first {uploads.MAX_FILES} are shown. "
            "Remove some to see the others.",
            icon=":material/warning:",
        )
    kept = st.session_state.get("images", {})
    now: dict[str, InputImage | InputError] = dict(earlier)
    for file in files[: uploads.MAX_FILES - len(earlier)]:
        now[file.file_id] = kept.get(file.file_id) or read_or_refuse(file)
    if errors := [plain(error) for error in now.values() if isinstance(error, InputError)]:
        refused.error("  \n".join(errors), icon=":material/broken_image:")
    new = [image for key, image in now.items() if key not in kept and isinstance(image, InputImage)]
    if new:  # the first of them is what people want to see next
        st.session_state["gallery"] = new[0].key
    st.session_state["images"] = now
    return list({image.key: image for image in now.values() if isinstance(image, InputImage)}.values())


def read_or_refuse(file) -> InputImage | InputError:
    """A refusal is a result as well: the file is not read again at every click."""
    try:
        return uploads.read_upload(file.name, file.getvalue())
    except InputError as error:
        return error


def choose_in_gallery(tried: Sequence[Example]) -> Example:
    """The image to show: a thumbnail of each is a button."""
    found = {example.image.key: example for example in tried}
    if st.session_state.get("gallery") not in found:
        st.session_state["gallery"] = tried[0].image.key
    key = st.pills(
        "Images" if len(tried) > 1 else "Image",
        list(found),
        format_func=lambda key: f"{thumbnail_of(found[key].image)} {plain(short(found[key].image.name))}",
        required=True,
        key="gallery",
        width="stretch",
    )
    return found[key or tried[0].image.key]


def short(name: str) -> str:
    """A name that fits under a thumbnail."""
    return name if len(name) <= 18 else f"{name[:9]}...{name[-7:]}"


def thumbnail_of(image: InputImage) -> str:
    """Made once for each image of a session."""
    kept = st.session_state.setdefault("thumbnails", {})
    if image.key not in kept:
        if len(kept) > 4 * uploads.MAX_FILES:
            kept.clear()
        kept[image.key] = render.thumbnail(image.image)
    return kept[image.key]


def keep_choices() -> None:
    """To be called on other pages: keeps the uploads and choices that Streamlit drops when this page is left."""
    for key in _KEPT:
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]  # or Streamlit drops it, for its widget is not on this page
    uploaded = st.session_state.get("images", {})
    st.session_state["earlier"] = {key: image for key, image in uploaded.items() if isinstance(image, InputImage)}


# --- the results --------------------------------------------------------------------------------------------------


def show_all(network: Network, chosen: Example, uploaded: Sequence[InputImage]) -> None:
    """Segment the chosen image and show it; then the other uploads, for the archive of all."""
    high_quality = bool(st.session_state.get("high quality"))
    # Filled as it is worked out: a click meanwhile starts the page anew.
    kept = st.session_state.setdefault("segmentations", {})
    keys = {image.key: (network.stamp, high_quality, image.key) for image in (chosen.image, *uploaded)}
    stems = {chosen.image.key: chosen.image.stem}
    stems |= zip([image.key for image in uploaded], uploads.distinct_names(image.stem for image in uploaded))

    def segmented(image: InputImage) -> Segmented:
        return Segmented(image, kept[keys[image.key]], stems[image.key], keys[image.key])

    place = st.empty()
    if len(uploaded) > 1 and keys[chosen.image.key] not in kept:
        place.progress(0.0, f"Image 1 of {len(uploaded)} ...")
    if not segment(network, chosen.image, keys[chosen.image.key], high_quality):
        return
    look, archive_place = show_result(network, segmented(chosen.image), chosen)
    for number, image in enumerate(uploaded):
        if keys[image.key] not in kept:
            place.progress(number / len(uploaded), f"Image {number + 1} of {len(uploaded)} ...")
            segment(network, image, keys[image.key], high_quality)
    place.empty()
    with archive_place:
        show_archive(look, [segmented(i) for i in uploaded if keys[i.key] in kept] or [segmented(chosen.image)])
    st.session_state["segmentations"] = {key: result for key, result in kept.items() if key in keys.values()}


def segment(network: Network, image: InputImage, key: tuple, high_quality: bool) -> bool:
    """Segment an image where that was not done before; False, after saying why, where it cannot be done."""
    kept = st.session_state["segmentations"]
    if key not in kept:
        try:
            kept[key] = inference.segment(network.segmenter, image.image, high_quality)
        except InputError as error:
            st.error(plain(f"{image.name}: {error}"), icon=":material/error:")
            return False
    return True
