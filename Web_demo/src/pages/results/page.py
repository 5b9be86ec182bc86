"""The page Results: what a run folder holds, as tables and charts."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import streamlit as st

from util.runtime.errors import InputError
from util.runtime.files import read_json
from Web_demo.src.utils import charts, results
from Web_demo.src.utils.files import names_below
from Web_demo.src.utils.render import plain


def show(args: Namespace) -> None:
    """Draw the page."""
    st.title("Results")
    folders = results.find_runs(args.runs)
    if not folders:
        explain(args)
        return
    folder = st.selectbox("Run", folders, format_func=names_below(folders, args.runs).__getitem__, key="run")
    for part in (show_comparison, show_scores, show_curves, show_thresholds, show_record):
        try:
            part(folder)
        except InputError as error:
            st.error(plain(error), icon=":material/error:")


def explain(args: Namespace) -> None:
    """Where results come from."""
    searched = " or ".join(f"`{plain(folder)}`" for folder in args.runs)
    st.info("There are no results yet.", icon=":material/info:")
    st.markdown(
        f"Looked in {searched}. Results come from `main.py --mode compare`, `evaluate_enhanced.py`, the training scripts "
        "and `quickstart.py`; name another folder at the start:\n\n"
        "```\nstreamlit run Web_demo/src/app.py -- \\\n    --runs DIR\n```"
    )


def show_comparison(folder: Path) -> None:
    """The strategies of a ``compare.json``."""
    if not (folder / results.COMPARISON).is_file():
        return
    table, means, classes = results.read_comparison(folder / results.COMPARISON)
    st.header("Strategies compared")
    names = st.column_config.TextColumn(pinned=True, width=130)
    st.dataframe(table, hide_index=True, height="content", column_config={"method": names})
    void = (
        "Void: share of the pixels that a method leaves undecided, which count as wrong; without void: mIoU with them left "
        "out. "
    )
    st.caption(
        f"Per cent; {results.described(folder / results.COMPARISON)}. Change and its 95 % interval: against the input labels. "
        f"ms: per image. {void if 'void' in table else ''}Last columns: change against another method."
    )
    best = plain(f"{means.method[0]}, {means.mIoU[0]:.2f} %") if len(means) > 1 else "none"
    st.altair_chart(charts.comparison_chart(means), alt=f"mIoU of every method; the best strategy: {best}")
    st.caption("Orange: the 95 % interval of the change against the input labels. Dashed: the input labels.")
    st.subheader("IoU of each class, %")
    st.caption("Blue: above the input labels. Orange: below. The stronger the colour, the larger the change.")
    with st.container(key="wide classes"):
        st.altair_chart(charts.change_chart(classes), width="content", alt="IoU of every class under every strategy")


def show_scores(folder: Path) -> None:
    """The scores of a ``metrics.json``."""
    files = results.score_files(folder)
    if not files:
        return
    st.header("Scores")
    file = files[0]
    if len(files) > 1:
        file = st.selectbox("File", files, format_func=lambda path: path.name, key=f"scores of {folder}")
    means, classes, confusion = results.read_scores(file)
    st.caption(results.described(file))
    grid = st.container(key=f"grid of {folder}")
    for column, (name, value) in zip(grid.columns(len(means)), means.items()):
        column.metric(name, f"{value:.2f} %")
    left, right = st.columns(2)
    left.dataframe(classes.style.format(precision=2, na_rep=""), hide_index=True, height="content")
    right.altair_chart(charts.class_chart(classes), alt="IoU of every class")
    st.subheader("Confusion matrix")
    st.caption("Rows: the true class. Numbers: per cent of its pixels that were predicted as the class of the column.")
    with st.container(key="wide confusion"):
        st.altair_chart(charts.confusion_chart(confusion), width="content", alt="Confusion matrix")
    images = results.read_per_image(file)
    if images is not None:
        with st.expander(f"{len(images)} images"):
            st.altair_chart(charts.histogram(images, "mIoU"), alt="How many images have which mIoU")
            st.dataframe(images.style.format(precision=2, na_rep=""), hide_index=True)


def show_curves(folder: Path) -> None:
    """What a training wrote for TensorBoard."""
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
                chart = charts.line_chart(curves[name], "step", "value", name)
                st.altair_chart(chart, alt=f"{name}: {curves[name].value.iloc[-1]:.4g} at the last step")


def show_thresholds(folder: Path) -> None:
    """The mIoU of labels by threshold."""
    if not (folder / results.SWEEP).is_file():
        return
    table = results.read_sweep(folder / results.SWEEP)
    st.header("Thresholds of the labels")
    best = table.loc[table["mIoU"].idxmax()]
    st.caption(
        f"mIoU of the CAM labels at every background threshold; {results.described(folder / results.SWEEP)}. "
        f"Best: {best.threshold:g}, {best.mIoU:.2f} %."
    )
    chart = charts.line_chart(table, "threshold", "mIoU", "mIoU (%)")
    st.altair_chart(chart, alt="mIoU for every threshold")


def show_record(folder: Path) -> None:
    """How the run was made."""
    if (folder / results.RUN).is_file():
        with st.expander("How it was made (run.json)"):
            st.json(read_json(folder / results.RUN), expanded=2)
