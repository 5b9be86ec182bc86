"""The demo's command line, the part after ``--``."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from util.runtime.cli import Parser
from util.runtime.errors import InputError
from util.runtime.files import check_folder
from Web_demo.src.utils.theme import THEMES

DESCRIPTION = """Show what a trained network sees, try merge strategies on single images, and look through results.

    streamlit run Web_demo/src/app.py
    streamlit run Web_demo/src/app.py -- --checkpoint runs/deeplab/last.pth --theme dark
    streamlit run Web_demo/src/app.py -- --pseudo-path pseudo_labels --sam-path sam_masks \\
        --images-path JPEGImages --gt-dir SegmentationClassAug --image-list train.txt

Streamlit's own options, such as --server.port 8502, come before the two hyphens. The page "Strategy lab" takes the folders
that main.py takes, by the same names, and reads nothing outside them; by default those of the merges below --runs.
"""
DEFAULT_RUNS = (Path("runs"), Path("quickstart"))


class _PageParser(Parser):
    """Reports what is wrong by an exception, so that the page can show it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parser() -> Parser:
    """The options of the demo."""
    result = _PageParser(DESCRIPTION, prog="streamlit run Web_demo/src/app.py --", add_help=False)
    result.add_argument("--help", "-h", action="store_true", help="show this text")
    result.add_argument("--theme", choices=THEMES, default="auto", help="light, dark, or auto: as the browser prefers")
    segment = result.group("segmentation")
    segment.add_argument("--checkpoint", type=Path, metavar="FILE", help="trained network to start with")
    segment.add_argument("--encoder", metavar="NAME", help="of a checkpoint that does not name it, such as resnet101")
    segment.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda or cuda:N")
    segment.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        default=list(DEFAULT_RUNS),
        metavar="DIR",
        help="folders to find checkpoints and results in (default: runs quickstart, where they exist)",
    )
    lab = result.group("strategy lab")
    folders = {
        "--pseudo-path": "pseudo labels, <id>.png",
        "--sam-path": "SAM masks",
        "--images-path": "images",
        "--gt-dir": "ground truth, for scores",
        "--cam-path": "soft CAMs, for strategies that use them",
    }
    for name, what in folders.items():
        lab.add_argument(name, type=Path, metavar="DIR", help=what)
    files = {
        "--image-list": "ids to browse (default: every pseudo label)",
        "--image-labels": "image-level labels, for strategies that use them",
        "--class-names": "one class per line, background first; also of a checkpoint that does not name its classes",
    }
    for name, what in files.items():
        lab.add_argument(name, type=Path, metavar="FILE", help=what)
    lab.add_argument(
        "--number-class", type=int, metavar="N", help="number of classes, background included, 2 to 254 (default: 21)"
    )
    return result


def parse_or_exit(arguments: Sequence[str]) -> Namespace:
    """As `parse`; for ``--help`` and for mistakes prints to the terminal and ends the process with 0 or 2."""
    try:
        args = parse(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if args.help:
        print(parser().format_help())
        sys.exit(0)
    return args


def parse(arguments: Sequence[str]) -> Namespace:
    """Parse and check the options.

    Raises:
        InputError: for an unknown option, or a file or folder that is not there.
    """
    args = parser().parse_args(list(arguments))
    if args.help:
        return args
    for name in ("pseudo_path", "sam_path", "images_path", "gt_dir", "cam_path"):
        if (folder := getattr(args, name)) is not None:
            check_folder(folder, f"--{name.replace('_', '-')}")
    for name in ("checkpoint", "image_list", "image_labels", "class_names"):
        if (file := getattr(args, name)) is not None and not file.is_file():
            raise InputError(f"--{name.replace('_', '-')} {file}: no such file; check the path")
    if args.runs != list(DEFAULT_RUNS):
        for folder in args.runs:
            check_folder(folder, "--runs")
    if (args.pseudo_path is None) != (args.sam_path is None):
        raise InputError("--pseudo-path and --sam-path go together: the lab merges masks into labels; give both")
    return args
