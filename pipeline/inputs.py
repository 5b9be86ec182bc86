"""The check of what the command line names: files and folders that are there, strategies, encoders and SAMs that exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from merge import STRATEGIES
from models.sam.options import PACKAGE_MODELS, names_file
from pipeline.options import Settings
from pipeline.steps import TYPED
from util.runtime.cli import COMMON, as_typed
from util.runtime.commands import first_values
from util.runtime.errors import InputError, choose_from
from util.runtime.files import check_folder

# Options of the stages' scripts that name what is read.
_MERGE = {"--pseudo-path", "--sam-path", "--cam-path", "--image-list", "--gt-dir", "--images-path"}
_PATHS = {f"--{name}" for name, option in COMMON.items() if option.settings.get("type") is Path}
_READ = (_PATHS | _MERGE | {"--weights", "--baseline"}) - {"--out", "--archives"}


def check_inputs(settings: Settings) -> None:
    """Look for everything that the command line names.

    Raises:
        InputError: for what is not there.
    """
    for folder, what in (
        (settings.masks, "SAM masks"),
        (settings.labels, "pseudo labels"),
        (settings.cams, "soft CAMs"),
        (settings.images, "images"),
        (settings.gt, "ground truth"),
    ):
        if folder is not None:
            check_folder(folder, what)
    for name in ("sam_checkpoint", "class_names", "train_list", "label_list", "val_list", "tune_list"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise InputError(f"--{name.replace('_', '-')} {path}: no such file; check the path")
    if settings.image_labels is not None and not settings.image_labels.exists():
        raise InputError(f"--image-labels {settings.image_labels}: no such file; check the path")
    for kind, file in settings.prompts:
        if file is not None and not file.is_file():
            raise InputError(f"--prompt {kind} {file}: no such file; check the path")
    _check_encoder(settings.encoder, settings.encoder_weights, "")
    _check_strategies([settings.method] if settings.method else [], "--method")
    for stage, words in settings.extra.items():
        _check_extra(settings, stage, words)
    if settings.sam_model and settings.sam_model not in (*PACKAGE_MODELS, "regions"):
        _check_sam(settings.sam_model, any(kind == "tags" for kind, _ in settings.prompts))


def _check_extra(settings: Settings, stage: str, words: Sequence[str]) -> None:
    """Check what ``--with`` gives a stage; what the run itself makes need not be there yet."""
    given, out = first_values(words), settings.out.resolve()
    for name, value in given.items():
        path = Path(value)
        if name in _READ and value != "none" and not path.exists() and out not in path.resolve().parents:
            raise InputError(f'--with "{stage}={name} {value}": no such file or folder; check the path')
    if stage in ("cam", "deeplab"):
        _check_encoder(given.get("--encoder"), given.get("--encoder-weights"), stage)
    if stage == "merge":
        for name in given.keys() & {"--method", "--methods"}:
            listed = [] if given[name] == "all" else given[name].split(",")
            _check_strategies(listed, f'--with "{stage}={name} ..."')


def _check_strategies(names: Iterable[str], option: str) -> None:
    for name in names:
        if name not in STRATEGIES:
            raise InputError(f"{option}: no strategy {name}; {choose_from(name, STRATEGIES)}")


def _check_encoder(encoder: str | None, weights: str | None, stage: str) -> None:
    """Raise InputError for an encoder, or weights, that a network would be refused with."""
    if weights and (names_file(weights) or len(Path(weights).parts) > 1) and not Path(weights).is_file():
        given = f"--encoder-weights {weights}"
        shown = f'--with "{stage}={given}"' if stage else given
        raise InputError(f"{shown}: no such file; check the path")
    if encoder is None and weights in (None, "none", "imagenet"):
        return
    from models.common.weights import check_encoder  # needs torch, which other checks do not

    check_encoder(encoder or COMMON["encoder"].settings["default"], weights or "none")


def _check_sam(name: str, by_words: bool) -> None:
    """Raise InputError if a SAM is unknown, or takes no words and is to; the hub is asked later, for the masks."""
    from models.sam.families import MODELS, model_source
    from models.sam.text import check_words

    try:
        source = model_source(name)
        if by_words and (name in MODELS or Path(source).is_dir()):
            check_words(name)
    except InputError as error:
        raise InputError(as_typed(str(error), TYPED["generate_sam_masks.py"])) from None
