"""The command line of the quickstart."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path

from merge import RECOMMENDED
from models.sam.options import PACKAGE_MODELS, names_file, read_prompt
from util.runtime.cli import COMMON, Parser, real, whole
from util.runtime.processors import default_workers

Argument = str | int | float | Path
STAGES = ("data", "cam", "labels", "masks", "merge", "check", "deeplab", "score")
FROM_TAGS = "prompted"  # the strategy whose masks become labels without CAM labels


@dataclass
class Settings:
    """The parsed options; names and meaning are those of the help.

    Attributes:
        extra: stage -> further options of its scripts, from ``--with``.
        baseline: whether a network is trained on the CAM labels as well; None: where it can be scored.
    """

    out: Path = Path("quickstart")
    device: str = "auto"
    workers: int = default_workers()
    seed: int = 0
    overwrite: bool = False
    retrain: bool = False
    skip: list[str] = field(default_factory=list)
    only: list[str] | None = None
    extra: dict[str, list[str]] = field(default_factory=dict)
    dry_run: bool = False
    method: str | None = None
    baseline: bool | None = None
    quick: bool = False
    choose: bool = True
    encoder: str | None = None
    encoder_weights: str | None = None
    processes: int | None = None
    sam_checkpoint: Path | None = None
    sam_model: str | None = None
    prompt: list[str] | None = None
    masks: Path | None = None
    count: int = 240
    effort: float = 1.0
    voc: Path | None = None
    download: bool = False
    archives: Path | None = None
    images: Path | None = None
    gt: Path | None = None
    labels: Path | None = None
    cams: Path | None = None
    image_labels: Path | None = None
    class_names: Path | None = None
    train_list: Path | None = None
    label_list: Path | None = None
    val_list: Path | None = None
    tune_list: Path | None = None

    def __post_init__(self) -> None:
        if self.sam_model and names_file(self.sam_model) and self.sam_checkpoint is None:
            self.sam_checkpoint, self.sam_model = Path(self.sam_model), None

    @property
    def prompts(self) -> list[tuple[str, Path | None]]:
        """Kinds of prompts with their files; empty where none is given."""
        return read_prompt(self.prompt or [])

    @property
    def from_tags(self) -> bool:
        """Whether masks of the class names become the labels, without classifier, CAMs or other pseudo labels."""
        return self.prompt == ["tags"] and self.labels is None and self.cams is None

    @property
    def trains_classifier(self) -> bool:
        """Whether CAMs come from a classifier of this run."""
        return self.labels is None and self.cams is None and not self.from_tags

    def runs(self, stage: str) -> bool:
        """Whether ``--only`` and ``--skip`` leave a stage in."""
        return stage not in self.skip and (self.only is None or stage in self.only)


# What only real data has.
_REAL = (
    *("quick", "download", "archives", "images", "gt", "labels", "cams", "image_labels", "class_names"),
    *("train_list", "label_list", "val_list", "tune_list"),
)


def parse(description: str | None, arguments: list[str] | None = None) -> Settings:
    """Parse the command line; ends the process with a message where options do not go together."""
    parser = _parser(description)
    parsed = vars(parser.parse_args(arguments))
    parsed["extra"] = _parse_extra(parser, parsed["extra"])
    parsed["out"] = parsed["out"] or default_out(parsed["voc"], parsed["quick"])
    settings = Settings(**parsed)
    _check_masks(parser, settings)
    given = [name for name in _REAL if parsed[name]]
    if settings.voc is None and given:
        parser.error(f"--{given[0].replace('_', '-')} goes with --voc DIR")
    if settings.tune_list and not settings.choose:
        parser.error("--tune-list chooses by ground truth, --no-choose does not; give one of them")
    if settings.archives and not settings.download:
        parser.error("--archives is where --download puts the archives; give --download as well")
    return settings


def default_out(voc: Path | None, quick: bool) -> Path:
    """Where results go without ``--out``: one folder per data set, and another one for quick results."""
    if voc is None:
        return Settings.out
    return Path("runs") / f"{voc.resolve().name or 'data'}{'-quick' if quick else ''}"


def _check_masks(parser: Parser, settings: Settings) -> None:
    """End the process with a message where model, prompts and strategy do not go together."""
    model, kinds = settings.sam_model, [kind for kind, _ in settings.prompts]
    for option, given in (("--sam-checkpoint", settings.sam_checkpoint), ("--sam-model", model)):
        if given and settings.masks:
            parser.error(f"{option} makes masks, --masks takes made ones; give one of them")
    if settings.sam_checkpoint and model and model not in PACKAGE_MODELS:
        parser.error(
            f"--sam-checkpoint is a file of {', '.join(PACKAGE_MODELS)}; leave it out with --sam-model {model}"
        )
    if kinds and not (settings.sam_checkpoint or model or settings.download) or (kinds and model == "regions"):
        parser.error("--prompt asks a SAM; give --sam-model or --sam-checkpoint")
    if "cam" in kinds and settings.labels and not settings.cams:
        parser.error("--prompt cam needs soft CAMs; give those of --labels as --cams, or leave --labels out")
    if "tags" in kinds and (model is None or model in PACKAGE_MODELS):
        parser.error(
            f"--prompt tags: {model or 'segment-anything'} takes no words; use --sam-model sam3, or --prompt cam"
        )
    if settings.from_tags and settings.method not in (None, FROM_TAGS):
        parser.error(
            f"--method {settings.method} needs pseudo labels, and --prompt tags alone makes none; leave --method out, or "
            "give --labels, or a further kind of prompt, with which CAM labels are made"
        )
    if settings.from_tags and settings.tune_list:
        parser.error("--tune-list chooses threshold and strategy; --prompt tags alone has neither to choose")


def _parser(description: str | None) -> Parser:
    parser = Parser(
        description, 'an option of a stage\'s script goes into --with, for instance --with "deeplab=--batch-size 4"'
    )
    out = {
        "help": "folder for the results (default: quickstart; with --voc DIR runs/<name of DIR>, with --quick ...-quick)"
    }
    parser.add_common("out", "device", "workers", "seed", "overwrite", "retrain", out=out)
    _add_stage_options(parser)
    _add_data_options(parser)
    defaults = {option.name: _default(option) for option in fields(Settings) if option.name != "extra"}
    parser.set_defaults(**{**defaults, "out": None})
    return parser


def _default(option) -> object:
    return option.default_factory() if callable(option.default_factory) else option.default


def _add_stage_options(parser: Parser) -> None:
    stages = parser.group("stages")
    stages.add_argument("--skip", nargs="+", choices=STAGES, metavar="STAGE", help="leave these stages out")
    stages.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE", help="run only these stages")
    stages.add_argument(
        "--with",
        dest="extra",
        action="append",
        default=[],
        metavar="STAGE=OPTIONS",
        help="more options for a stage's script, in quotes",
    )
    stages.add_argument("--dry-run", action="store_true", help="print the plan with its commands, and run nothing")
    stages.add_argument(
        "--method", metavar="NAME", help=f"strategy to train on (default: chosen by ground truth, or {RECOMMENDED})"
    )
    stages.add_argument(
        "--choose",
        action=argparse.BooleanOptionalAction,
        help="on real data, choose threshold, refinement and strategy by ground truth where a list has it (default: yes)",
    )
    stages.add_argument(
        "--baseline",
        action=argparse.BooleanOptionalAction,
        help="train a second network, on the CAM labels, to compare with (default: where there is ground truth to score it)",
    )
    network: dict[str, dict] = {
        "encoder": {
            "default": None,
            "help": f"{COMMON['encoder'].help}, for both networks (default: {COMMON['encoder'].settings['default']})",
        },
        "encoder_weights": {
            "default": None,
            "help": f"{COMMON['encoder-weights'].help}; for both networks (default: imagenet)",
        },
    }
    parser.add_common("encoder", "encoder-weights", required=(), **network)
    stages.add_argument(
        "--processes",
        type=whole(1),
        metavar="N",
        help="torchrun processes for networks (default: one per GPU; one for generated data)",
    )


def _add_data_options(parser: Parser) -> None:
    masks = parser.group("masks (default: regions, which need no weights and are not a SAM's)")
    masks.add_argument("--sam-checkpoint", type=Path, metavar="FILE", help="make masks with this SAM")
    masks.add_argument(
        "--sam-model",
        metavar="NAME",
        help="which SAM, as generate_sam_masks.py's --model (default: regions; with --download vit_h; what --sam-checkpoint holds)",
    )
    masks.add_argument(
        "--prompt",
        nargs="+",
        metavar="WHAT",
        help="prompts for the SAM, one or several: grid, cam, tags, points FILE, boxes FILE (default: grid); tags alone need no "
        "classifier",
    )
    parser.add_common("masks", masks={"group": masks.title, "aliases": ["sam-path"], "help": COMMON["masks"].help})
    small = parser.group("generated data")
    small.add_argument("--count", type=whole(8), metavar="N", help="number of training images, at least 8")
    effort = "length of both trainings times this, above 0"
    small.add_argument("--effort", type=real(0, above=True), metavar="X", help=effort)
    real_data = parser.group("real data")
    real_data.add_argument("--voc", type=Path, metavar="DIR", help="a folder in VOC's layout")
    real_data.add_argument(
        "--quick",
        action="store_true",
        help="a first result in minutes: small crops and few steps, not the best network",
    )
    real_data.add_argument(
        "--download",
        action="store_true",
        help="first fetch VOC 2012, SBD and a SAM checkpoint, and prepare --voc DIR from them",
    )
    changes: dict[str, dict] = {
        "archives": {"help": COMMON["archives"].help.replace("OUT", "DIR")},
        "images": {"help": "folder of images (default: DIR/JPEGImages)"},
        "gt": {"help": f"{COMMON['gt'].help}, where there is any (default: DIR/SegmentationClassAug)"},
        "labels": {
            "help": f"{COMMON['labels'].help}: take these pseudo labels, train no classifier",
            "aliases": ["cam-labels"],
        },
        "cams": {
            "help": f"{COMMON['cams'].help}: make the pseudo labels of these, train no classifier; or those of --labels",
            "aliases": ["cam-path"],
        },
        "image_labels": {"help": f"{COMMON['image-labels'].help} (default: DIR/cls_labels.npy, .csv, Annotations)"},
        "class_names": {"help": "one class per line, background first (default: DIR/class_names.txt, then VOC's 21)"},
    }
    for name, change in changes.items():
        parser.add_common(name.replace("_", "-"), required=(), **{name: {"group": real_data.title, **change}})
    lists = "(default: DIR/ImageSets/Segmentation/%s.txt)"
    for name, text in (
        ("train", "ids that the networks are trained on " + lists % "trainaug"),
        ("label", "ids that pseudo labels are scored on " + lists % "train"),
        ("val", "ids of held-out images, which DeepLabV3+ is scored on " + lists % "val"),
        (
            "tune",
            "ids whose ground truth chooses settings, and that are not scored (default: half of the label list, or of the val list)",
        ),
    ):
        real_data.add_argument(f"--{name}-list", type=Path, metavar="FILE", help=text)


def _parse_extra(parser: argparse.ArgumentParser, texts: list[str]) -> dict[str, list[str]]:
    """``STAGE=OPTIONS`` texts as stage -> list of arguments."""
    extra: dict[str, list[str]] = {}
    for text in texts:
        stage, equals, options = text.partition("=")
        if not equals or stage not in STAGES[1:]:
            parser.error(f'--with {text!r}: write "STAGE=OPTIONS" with a stage of {", ".join(STAGES[1:])}')
        try:
            extra.setdefault(stage, []).extend(split_options(options))
        except ValueError as error:
            parser.error(f"--with {text!r}: {error}; close what is quoted")
    return extra


def split_options(text: str, windows: bool = os.name == "nt") -> list[str]:
    """Options as the shell would part them; on Windows a backslash is part of a path.

    Raises:
        ValueError: if a quotation mark is open.
    """
    return shlex.split(text.replace("\\", "\\\\") if windows else text)
