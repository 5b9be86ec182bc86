"""The web demo's pages: Segment, Strategy lab, Results.

    streamlit run Web_demo/src/app.py
    streamlit run Web_demo/src/app.py -- --help

What they show is worked out by the library (models/, merge/, util/, processor) and by the folders beside this file.
"""

# ruff: noqa: E402 -- the project's root must be found before anything is imported from it

import sys
import time
from argparse import Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # this file runs again at every click
    sys.path.insert(0, str(ROOT))

import pandas as pd
import streamlit as st

from merge.parameters import parameters_of
from util.runtime.errors import InputError
from util.runtime.files import read_json
from util.vis import colorize, overlay
from Web_demo.src.model import inference, loading
from Web_demo.src.preprocessing import samples, uploads
from Web_demo.src.utils import downloads, lab, options, pictures, results
from Web_demo.src.utils.downloads import Download
from Web_demo.src.utils.pictures import plain

STYLE = """<style>
table.legend { border-collapse: collapse; width: 100%; max-width: 26rem; font-size: .9rem; }
table.legend th { text-align: left; font-weight: 400; padding: .15rem .4rem .15rem 0; }
table.legend td { text-align: right; padding: .15rem 0 .15rem .8rem; font-variant-numeric: tabular-nums; }
table.legend thead th { opacity: .75; } table.legend thead th:not(:first-child) { text-align: right; }
.swatch { display: inline-block; width: .8rem; height: .8rem; margin-right: .5rem; border-radius: .2rem;
          border: 1px solid rgba(128,128,128,.6); vertical-align: -.05rem; }
table.facts { border-collapse: collapse; font-size: .9rem; }
table.facts th { text-align: left; font-weight: 400; opacity: .75; padding: .1rem 1rem .1rem 0; vertical-align: top; }
h2 { font-size: 1.6rem !important; }
ul.palette { list-style: none; margin: 0; padding: 0; font-size: .9rem; columns: 9rem auto; }
[data-testid=stCaptionContainer], [data-testid=stImageCaption] { color: inherit; opacity: .85; }
[data-testid=stFileUploaderDropzoneInstructions] { display: none; } /* the label says it in plain words */
.scale { display: flex; gap: .5rem; align-items: center; font-size: .85rem; }
.scale .bar { flex: 1; height: .6rem; border-radius: .3rem; }
</style>"""


# --- Segment ------------------------------------------------------------------------------------------------------


def segment_page() -> None:
    st.title("What is in the picture?")
    segmenter, model_key = choose_model()
    if segmenter is None:
        return
    names = segmenter.classes.names[1:]
    shown = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:6])} and {len(names) - 6} more"
    st.markdown(
        "Upload a picture: what the model knows is found and coloured, with nothing to click or type. "
        f"It knows {len(names)} kinds of things: {plain(shown)}."
    )
    chosen = choose_pictures()
    with st.sidebar:
        closely = st.toggle(
            "Look more closely", key="closely",
            help="Looks at every picture at three sizes and mirrored: finer, six times as slow.",
        )  # fmt: skip
        st.caption(f"Runs on: {plain(segmenter.device)}")
    segmented = segment_all(segmenter, model_key, chosen, closely)
    if segmented:
        show_segmented(segmenter, model_key, segmented)


def choose_model():
    """The network to use and what tells it from others; (None, None) after telling why there is none."""
    args = OPTIONS
    files = loading.find_checkpoints(args.runs)
    if args.checkpoint is not None:
        files = [args.checkpoint, *(file for file in files if file.resolve() != args.checkpoint.resolve())]
    if not files:
        explain_first_start()
        return None, None
    start = 0 if args.checkpoint is not None else loading.first_usable(files)
    with st.sidebar:
        st.subheader("Model")
        file = st.selectbox("Trained model", files, index=start, format_func=loading.shown_name)
    try:
        stamp = loading.stamp_of(file)
        segmenter = loading.load_segmenter(stamp, args.device)
    except InputError as error:
        st.error(plain(error), icon=":material/error:")
        st.markdown("Choose another model at the left, or train one with `python train_deeplabv3.py`.")
        return None, None
    with st.sidebar:
        show_model(segmenter)
    return segmenter, stamp


def show_model(segmenter) -> None:
    config, score = segmenter.config, segmenter.score
    lines = [f"Encoder: {plain(config['encoder'])}", f"Classes: {len(segmenter.classes)}, with background"]
    if isinstance(score, dict) and isinstance(score.get("miou"), float):
        lines.append(f"Score: {100 * score['miou']:.2f} % mIoU on the pictures held out while it was trained")
    else:
        lines.append("Score: none was measured while it was trained")
    st.caption("  \n".join(lines))
    with st.expander("All classes and their colours"):
        st.html(pictures.palette_list(segmenter.classes))


def explain_first_start() -> None:
    st.info("There is no trained model yet.", icon=":material/info:")
    searched = " or ".join(f"`{folder}`" for folder in OPTIONS.runs)
    st.markdown(
        "This page needs one. The quickest way makes a small one, in minutes and without any downloads:\n\n"
        "```\npython quickstart.py\n```\n\n"
        "A model for your own pictures comes from `train_deeplabv3.py`:\n\n"
        "```\npython train_deeplabv3.py --images JPEGImages --labels runs/merge/grow --list train.txt "
        "--out runs/deeplabv3\n```\n\n"
        f"Models in {searched} are found by themselves; another place is given at the start:\n\n"
        "```\nstreamlit run Web_demo/src/app.py -- --checkpoint FILE\n```\n\nThen reload this page."
    )


def choose_pictures() -> list[uploads.Picture]:
    """The uploaded and the sample pictures that can be read; tells about the others."""
    # Kinds, not suffixes: for a forged suffix Streamlit would break the page off before any of this runs.
    files = st.file_uploader(
        f"Pictures: JPG or PNG, up to {uploads.MAX_BYTES >> 20} MB each, {uploads.MAX_FILES} at once",
        type=["image/jpeg", "image/png"], accept_multiple_files=True, key="uploads",
    )  # fmt: skip
    names = st.pills(
        "Or try a picture that was drawn for this", samples.NAMES, selection_mode="multi", key="samples",
        help="Made by the program itself, so free of anyone's rights.",
    )  # fmt: skip
    earlier = st.session_state.get("earlier", {})
    if earlier:
        kept_names = ", ".join(picture.name for picture in earlier.values())
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"Still here from before: {plain(kept_names)}", width="content")
            st.button("Remove", key="remove earlier", on_click=earlier.clear, icon=":material/close:")
    count = len(earlier) + len(files)
    if count > uploads.MAX_FILES:
        st.warning(
            f"{count} pictures are more than fit at once: the first {uploads.MAX_FILES} are shown. "
            "Remove some to see the others.", icon=":material/warning:",
        )  # fmt: skip
    kept = st.session_state.get("pictures", {})
    now: dict[str, uploads.Picture | InputError] = dict(earlier)
    for file in files[: uploads.MAX_FILES - len(earlier)]:
        now[file.file_id] = kept.get(file.file_id) or read_or_refuse(file)
        if isinstance(now[file.file_id], InputError):
            st.error(plain(now[file.file_id]), icon=":material/broken_image:")
    for name in names:
        now[name] = kept.get(name) or samples.sample(name)
    st.session_state["pictures"] = now
    return [picture for picture in now.values() if isinstance(picture, uploads.Picture)]


def keep_pictures() -> None:
    """On other pages: what the first page forgets when it is left, its uploads and its choices, is kept for coming back."""
    for key in ("samples", "opacity", "confidence", "closely"):
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]  # or Streamlit drops it, for its widget is not on this page
    uploaded = {
        key: picture
        for key, picture in st.session_state.get("pictures", {}).items()
        if isinstance(picture, uploads.Picture) and key not in samples.NAMES
    }
    st.session_state["earlier"] = uploaded


def read_or_refuse(file) -> uploads.Picture | InputError:
    """A refusal is a result as well: the file is not read again at every click."""
    try:
        return uploads.read_upload(file.name, file.getvalue())
    except InputError as error:
        return error


def segment_all(segmenter, model_key, chosen, closely):
    """(picture, segmentation) of every picture; what was worked out before is kept."""
    # Filled as it is worked out: a click meanwhile starts the page anew.
    kept = st.session_state.setdefault("segmentations", {})
    done = []
    place = st.empty()
    for number, picture in enumerate(chosen):
        key = (model_key, closely, picture.key)
        if key not in kept:
            if len(chosen) > 1:
                place.progress(number / len(chosen), f"Picture {number + 1} of {len(chosen)} ...")
            try:
                kept[key] = inference.segment(segmenter, picture.image, closely)
            except InputError as error:
                st.error(plain(f"{picture.name}: {error}"), icon=":material/error:")
                continue
        done.append((picture, kept[key]))
    place.empty()
    wanted = {(model_key, closely, picture.key) for picture in chosen}
    st.session_state["segmentations"] = {key: result for key, result in kept.items() if key in wanted}
    return done


def show_segmented(segmenter, model_key, segmented) -> None:
    classes = segmenter.classes
    seen = sorted({entry.index for _, result in segmented for entry in result.found if entry.index > 0})
    left, right = st.columns([1, 2])
    opacity = left.slider("Strength of the colours", 0, 100, 60, 5, format="%d %%", key="opacity") / 100
    wanted = right.pills(
        "Shown", seen, default=seen, selection_mode="multi", format_func=lambda index: plain(classes.names[index]),
        key=f"shown {seen} {model_key}", help="Take classes away from the pictures and the downloads.",
    ) if seen else []  # fmt: skip
    hidden = [index for index in seen if index not in wanted]
    sure = st.toggle("Show how sure the model is", key="confidence")
    files = []
    stems = uploads.distinct_names(picture.stem for picture, _ in segmented)
    for (picture, result), stem in zip(segmented, stems):
        with st.container(border=True):
            files += show_result(segmenter, picture, result, stem, opacity, hidden, sure)
    if len(segmented) > 1:
        label = f"Download all {len(segmented)} pictures (ZIP)"
        if st.button(label, key="download all", icon=":material/folder_zip:", type="primary"):
            archive = pictures.archive({file.name: file.content for file in files})
            downloads.start(Download(label, "segmentation.zip", "application/zip", archive), key="archive")


def show_result(segmenter, picture, result, stem, opacity, hidden, sure) -> list[Download]:
    """One picture's card; returns its files."""
    classes, palette = segmenter.classes, segmenter.palette
    label = pictures.without(result.label, hidden) if hidden else result.label
    words = pictures.describe([entry for entry in result.found if entry.index not in hidden], classes)
    mask = pictures.mask_file(label, palette, picture.full_size)
    laid_over = pictures.encode(overlay(picture.image, label, palette, opacity))
    panels = [
        ("Original", pictures.encode(picture.image), f"The picture {picture.name}"),
        ("Mask", pictures.encode(colorize(label, palette), "PNG"), f"Mask of {picture.name}: {words}"),
        ("Overlay", laid_over, f"{picture.name} with its mask laid over it: {words}"),
    ]
    if sure:
        shown = pictures.encode(pictures.confidence_map(result.confidence))
        panels.append(("How sure", shown, f"How sure the model is at every point of {picture.name}"))
    height, width = picture.full_size
    st.markdown(f"**{plain(picture.name)}**")
    st.caption(f"{width} x {height} pixels, done in {result.seconds:.2f} s" + waiting_note(result))
    if picture.is_scaled:
        rows, columns = picture.image.shape[:2]
        st.caption(f"Scaled to {columns} x {rows} pixels for the model; the mask comes at the full size.")
    for column, (title, data, alt) in zip(st.columns(len(panels)), panels):
        column.image(pictures.inline(data), caption=title, alt=alt, width="stretch")
    if sure:
        st.html(pictures.scale_bar())
    left, right = st.columns([2, 1])
    left.html(pictures.legend(result.found, classes, hidden))
    if not any(entry.index for entry in result.found):
        left.caption("Nothing that the model knows was found here.")
    note = "A palette PNG: each pixel holds the number of its class."
    files = [
        Download("Mask (PNG)", f"{stem}_mask.png", "image/png", mask, note),
        Download("Overlay (JPG)", f"{stem}_overlay.jpg", "image/jpeg", laid_over),
    ]
    with right:
        downloads.buttons(files, key=f"files of {stem}")
    return files


def waiting_note(result) -> str:
    return f", {result.waited:.1f} s of it waiting for other visitors' pictures" if result.waited > 0.2 else ""


# --- Strategy lab -------------------------------------------------------------------------------------------------


def lab_page() -> None:
    st.title("Strategy lab")
    if OPTIONS.pseudo_path is None:
        explain_lab()
        return
    try:
        room = open_lab(OPTIONS)
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
    show_scene(scene, room.classes)
    name, parameters = tune(table)
    labels = run_strategies(scene, table, parameters)
    show_strategies(scene, room.classes, name, table, labels)
    show_sweep(room, version, name, table[name], parameters[name])


def explain_lab() -> None:
    st.info("The lab needs labels and masks to work with.", icon=":material/info:")
    st.markdown(
        "Start the demo with the folders that `main.py` takes; it reads nothing outside them:\n\n"
        "```\nstreamlit run Web_demo/src/app.py -- --pseudo-path pseudo_labels/transcam --sam-path sam_masks \\\n"
        "    --images-path JPEGImages --gt-dir SegmentationClassAug --image-list ImageSets/Segmentation/train.txt\n```"
        "\n\nThen edit a strategy in `merge/` and press Rerun to see what it does."
    )


@st.cache_resource(
    show_spinner=False, max_entries=4, hash_funcs={Namespace: lambda args: repr(sorted(vars(args).items()))}
)
def open_lab(args):
    return lab.Lab(args)


def choose_image(room) -> str:
    """The id to show; the list can be stepped through."""
    ids = room.ids
    if st.session_state.get("lab image") not in ids:
        st.session_state["lab image"] = ids[0]

    def step(by: int) -> None:
        st.session_state["lab image"] = ids[(ids.index(st.session_state["lab image"]) + by) % len(ids)]

    with st.container(horizontal=True, vertical_alignment="bottom"):
        image_id = st.selectbox(f"Image, one of {len(ids)}", ids, key="lab image", width=320)
        st.button("Previous", on_click=step, args=(-1,), icon=":material/chevron_left:")
        st.button("Next", on_click=step, args=(1,), icon=":material/chevron_right:")
        st.button(
            "Rerun", on_click=open_lab.clear, icon=":material/refresh:",
            help="Reads the strategies in merge/ and the lists again, after you have changed them.",
        )  # fmt: skip
    return image_id


def show_scene(scene, classes) -> None:
    """Original, pseudo label, masks and ground truth."""
    count = len(scene.masks)
    chosen = st.selectbox(
        "Mask", [None, *range(count)], key=f"mask of {scene.image_id}", width=320,
        format_func=lambda k: f"all {count}" if k is None else f"{k}: {int(scene.masks.areas[k])} pixels",
    )  # fmt: skip
    panels = [
        (scene.image_id, scene.picture),
        (
            "Pseudo label" + score_note(scene, scene.label, classes),
            overlay(scene.picture, scene.label, classes.palette),
        ),
        (f"{count} masks" if chosen is None else f"Mask {chosen}", lab.masks_picture(scene, chosen)),
    ]
    if scene.truth is not None:
        panels.append(("Ground truth", colorize(scene.truth, classes.palette)))
    for column, (title, picture) in zip(st.columns(len(panels)), panels):
        column.image(pictures.inline(pictures.encode(picture)), caption=plain(title), alt=title, width="stretch")
    if chosen is not None:
        numbers = lab.mask_numbers(scene, chosen, classes)
        st.html(pictures.fact_table(numbers))


def score_note(scene, label, classes) -> str:
    return "" if scene.truth is None else f", IoU {100 * lab.image_scores(label, scene.truth, classes)[0]:.1f}"


def tune(table) -> tuple[str, dict[str, dict]]:
    """The strategy to tune, and the parameters of all: those set here, and the defaults."""
    st.header("Strategies")
    name = st.selectbox("Tune", list(table), key="lab strategy", width=320)
    st.caption(plain(lab.summary_of(table[name])))
    settings = st.session_state.setdefault("lab parameters", {})
    parameters = {}
    for other, strategy in table.items():
        defaults = parameters_of(strategy)
        ours = settings.get(other, {})
        parameters[other] = {key: ours.get(key, default) for key, default in defaults.items()}
    given, defaults = parameters[name], parameters_of(table[name])
    keys = list(given)
    for start in range(0, len(keys), 3):
        for column, key in zip(st.columns(3), keys[start : start + 3]):
            with column:
                given[key] = parameter_input(name, key, defaults[key], given[key])
    if not given:
        st.caption("It has no parameters.")
    # Only what differs is kept, so that a default that is edited in the file counts.
    settings[name] = {key: value for key, value in given.items() if value != defaults[key]}
    return name, parameters


def parameter_input(strategy: str, name: str, default, value):
    """A slider or switch for a parameter, after its default's kind."""
    key, label = f"parameter {strategy} {name} {default!r}", f"{name} (default {default})"
    if isinstance(default, bool):
        return st.toggle(label, value, key=key)
    if isinstance(default, int) and default >= 0:
        return st.slider(label, 0, max(10, 4 * default), value, key=key)
    if isinstance(default, float) and 0 <= default <= 1:
        step = 0.01 if round(default, 2) == default else 0.001
        return st.slider(label, 0.0, 1.0, value, step, format="%.3f" if step < 0.01 else "%.2f", key=key)
    if isinstance(default, float) and default > 1:
        return st.slider(label, 0.0, 4 * default, value, key=key)
    if isinstance(default, (int, float)):
        return st.number_input(label, value=value, key=key)
    return st.text_input(label, value, key=key)


def run_strategies(scene, table, parameters) -> dict:
    """Name -> (label or InputError, milliseconds)."""
    labels = {}
    for name, strategy in table.items():
        start = time.perf_counter()
        try:
            result = lab.apply(scene, name, strategy, parameters[name])
        except InputError as error:
            result = error
        labels[name] = result, 1000 * (time.perf_counter() - start)
    return labels


def show_strategies(scene, classes, tuned, table, labels) -> None:
    """Every strategy's label side by side, the tuned one first, with its scores."""
    errors = False
    if scene.truth is not None:
        errors = st.toggle("Show where the labels are wrong", key="lab errors")
        if errors:
            st.caption("Blue: missed. Orange: too much. Violet: another class.")
    before, per_class = (None, {}) if scene.truth is None else lab.image_scores(scene.label, scene.truth, classes)
    rows = {"pseudo label": {classes.names[c]: iou for c, iou in per_class.items()}}
    names = [tuned, *(name for name in table if name != tuned)]
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[start : start + 3]):
            with column:
                result, milliseconds = labels[name]
                if isinstance(result, InputError):
                    st.error(plain(result), icon=":material/error:")
                    continue
                caption = f"{name}, {milliseconds:.0f} ms"
                if scene.truth is not None:
                    iou, per_class = lab.image_scores(result, scene.truth, classes)
                    rows[name] = {classes.names[c]: value for c, value in per_class.items()}
                    caption = f"{name}: IoU {100 * iou:.1f} ({100 * (iou - before):+.1f}), {milliseconds:.0f} ms"
                shown = lab.errors_picture(scene, result) if errors else overlay(scene.picture, result, classes.palette)
                data = pictures.encode(shown)
                st.image(pictures.inline(data), caption=plain(caption), alt=caption, width="stretch")
    if scene.truth is not None:
        st.markdown("IoU a class, per cent")
        st.dataframe(
            (100 * pd.DataFrame(rows)).rename_axis("class").style.format(precision=1, na_rep=""), height="content"
        )


def show_sweep(room, version, name, strategy, parameters) -> None:
    """The tuned strategy over all images: set-level scores, the best and the worst images."""
    if room.gt is None:
        st.caption("With ground truth (--gt-dir) the lab also finds the images that a strategy mends or harms most.")
        return
    st.header("All images")
    key = (version, name, repr(parameters))
    st.markdown(f"{plain(name)} over all {len(room.ids)} images, with the parameters above.")
    if st.button("Find the best and the worst", icon=":material/leaderboard:"):
        bar = st.progress(0.0, "Scoring ...")
        for step in lab.sweep(room, name, strategy, parameters):
            if isinstance(step, float):
                bar.progress(step, "Scoring ...")
            else:
                st.session_state["lab sweep"] = key, step
        bar.empty()
    known, found = st.session_state.get("lab sweep", (None, None))
    if known != key:
        return
    for image_id, message in list(found.failures.items())[:5]:
        st.warning(plain(f"{image_id}: {message}"), icon=":material/warning:")
    if len(found.failures) > 5:
        st.warning(f"{len(found.failures) - 5} more images could not be scored.", icon=":material/warning:")
    changes = found.changes()
    if not changes:
        return
    before, after = found.before.scores["miou"], found.after.scores["miou"]
    left, middle, right = st.columns(3)
    left.metric("mIoU of the pseudo labels", f"{100 * before:.2f} %")
    middle.metric(f"mIoU of {name}", f"{100 * after:.2f} %", f"{100 * (after - before):+.2f}")
    right.metric("Images better / worse", " / ".join(str(n) for n in counts_of(changes)))
    size = min(8, len(changes))
    image_links("Best", changes[:size], key)
    image_links("Worst", changes[::-1][:size], key)


def counts_of(changes) -> tuple[int, int]:
    return sum(after > before for _, before, after in changes), sum(after < before for _, before, after in changes)


def image_links(title: str, changes, key) -> None:
    """Buttons that lead to images."""
    widget = f"{title} {key}"
    texts = {i: f"{i}  {100 * (after - before):+.1f}" for i, before, after in changes}

    def go() -> None:
        if st.session_state[widget] is not None:
            st.session_state["lab image"] = st.session_state[widget]

    st.pills(title, list(texts), format_func=lambda i: plain(texts[i]), key=widget, on_change=go)


# --- Results ------------------------------------------------------------------------------------------------------


def results_page() -> None:
    st.title("Results")
    folders = results.find_runs(OPTIONS.runs)
    if not folders:
        searched = " or ".join(f"`{plain(folder)}`" for folder in OPTIONS.runs)
        st.info("There are no results yet.", icon=":material/info:")
        st.markdown(
            f"Looked in {searched}. Results come from `main.py --mode compare`, `evaluate_enhanced.py`, the trainings "
            "and `quickstart.py`; another folder is given at the start:\n\n"
            "```\nstreamlit run Web_demo/src/app.py -- --runs DIR\n```"
        )
        return
    folder = st.selectbox("Run", folders, format_func=loading.shown_name, key="run")
    for show in (show_comparison, show_scores, show_curves, show_thresholds, show_record):
        try:
            show(folder)
        except InputError as error:
            st.error(plain(error), icon=":material/error:")


def show_comparison(folder) -> None:
    if not (folder / results.COMPARISON).is_file():
        return
    table, bars, classes = results.read_comparison(folder / results.COMPARISON)
    st.header("Strategies compared")
    st.dataframe(table, hide_index=True, height="content")
    best = plain(f"{bars.method[1]}, {bars.mIoU[1]:.2f} %") if len(bars) > 1 else "none"
    st.altair_chart(results.comparison_chart(bars), alt=f"Bars of mIoU; the best strategy: {best}")
    st.caption("Lines: the 95 % interval of the change against the input labels.")
    st.altair_chart(results.class_chart(classes), alt="IoU of every class under every strategy")


def show_scores(folder) -> None:
    files = results.score_files(folder)
    if not files:
        return
    st.header("Scores")
    file = files[0]
    if len(files) > 1:
        file = st.selectbox("Of", files, format_func=lambda path: path.name, key=f"scores of {folder}")
    means, classes, confusion = results.read_scores(file)
    for column, (name, value) in zip(st.columns(len(means)), means.items()):
        column.metric(name, f"{value:.2f} %")
    left, right = st.columns(2)
    left.dataframe(classes.style.format(precision=2, na_rep=""), hide_index=True, height="content")
    right.altair_chart(results.class_chart(classes.assign(of=file.name), "of"), alt="IoU of every class")
    with st.expander("Which class is taken for which"):
        st.altair_chart(results.confusion_chart(confusion), alt="Confusion matrix")
    images = results.read_per_image(file)
    if images is not None:
        with st.expander(f"{len(images)} images"):
            st.altair_chart(results.histogram(images, "mIoU"), alt="How many images have which mIoU")
            st.dataframe(images.style.format(precision=2, na_rep=""), hide_index=True)


def show_curves(folder) -> None:
    curves = results.read_curves(folder)
    if not curves:
        return
    st.header("Training")
    names = list(curves)
    for start in range(0, len(names), 2):
        for column, name in zip(st.columns(2), names[start : start + 2]):
            with column:
                if len(curves[name]) == 1:
                    st.metric(plain(name), f"{curves[name].value.iloc[0]:.4g}")
                    continue
                st.markdown(plain(name))
                chart = results.line_chart(curves[name], "step", "value")
                st.altair_chart(chart, alt=f"{name}: {curves[name].value.iloc[-1]:.4g} at the last step")


def show_thresholds(folder) -> None:
    if not (folder / results.SWEEP).is_file():
        return
    table = results.read_sweep(folder / results.SWEEP)
    st.header("Thresholds of the labels")
    st.altair_chart(results.line_chart(table, "threshold", "mIoU"), alt="mIoU for every threshold")


def show_record(folder) -> None:
    if (folder / results.RUN).is_file():
        with st.expander("How it was made (run.json)"):
            st.json(read_json(folder / results.RUN), expanded=2)


# --- start --------------------------------------------------------------------------------------------------------


def main() -> None:
    st.set_page_config("Segmentation demo", layout="wide")
    st.html(STYLE)
    pages = [
        st.Page(segment_page, title="Segment", url_path="segment", default=True),
        st.Page(lab_page, title="Strategy lab", url_path="lab"),
        st.Page(results_page, title="Results", url_path="results"),
    ]
    page = st.navigation(pages)
    if page is not pages[0]:
        keep_pictures()
    page.run()


def read_options():
    """The options; an explanation on the page, and the end of this run, when they are wrong or help is asked for."""
    # Under another program (a test, say) the arguments are not ours.
    ours = Path(sys.argv[0]).resolve() == Path(__file__).resolve()
    try:
        args = options.parse(sys.argv[1:] if ours else [])
    except InputError as error:
        problem = str(error)
    else:
        if not args.help:
            return args
        problem = options.parser().format_help()
    if st.runtime.exists():
        st.title("Segmentation demo")
        st.code(problem, language=None, wrap_lines=True)
        st.stop()
    sys.exit(problem)


OPTIONS = read_options()
main()
