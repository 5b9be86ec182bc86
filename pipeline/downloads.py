"""What a run downloads, and with ``--download`` how much disk it takes: said before anything starts."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline import recipes
from pipeline.options import Settings
from pipeline.plan import Argument
from pipeline.steps import Command
from util.data.voc_archives import SBD, VOC
from util.runtime.cli import COMMON
from util.runtime.commands import first_values
from util.runtime.download import cache_folder
from util.runtime.errors import InputError

GB = 1e9
# Bytes of the published SAM checkpoints, and of the weights of encoders.
SAM_FILES = {
    "vit_h": ("sam_vit_h_4b8939.pth", 2_564_550_879),
    "vit_l": ("sam_vit_l_0b3195.pth", 1_249_524_607),
    "vit_b": ("sam_vit_b_01ec64.pth", 375_042_383),
}
ENCODER_BYTES = {
    "mobilenet_v2": 14_000_000,
    "timm-tf_efficientnet_lite2": 24_700_000,
    "resnet50": 102_000_000,
    "resnet101": 179_000_000,
}
# Bytes of the prepared folder beside the archives; of VOC's 10,582 training images' soft CAMs, as they are and refined, 1.0 MB
# each on average; and of all other results.
PREPARED_BYTES, CAM_BYTES, RESULT_BYTES = 2_300_000_000, 21_300_000_000, 2_000_000_000


@dataclass(frozen=True)
class Need:
    """Something that a run downloads or writes: what, its size in bytes, and where it goes."""

    what: str
    size: int
    place: Path
    is_download: bool = True


def archives_folder(settings: Settings) -> Path:
    """Where the archives are downloaded to."""
    return settings.archives or (settings.voc or Path()) / "archives"


def prepare_voc(settings: Settings) -> Command:
    """The command that brings the archives into the folder ``--voc``."""
    options: list[Argument] = ["--download", "--archives", archives_folder(settings), "--workers", settings.workers]
    return Command(
        "prepare_voc.py", [*options, *(["--overwrite"] if settings.overwrite else [])], settings.voc or Path()
    )


def needs_of(settings: Settings) -> list[Need]:
    """What is not there yet."""
    found = _archives(settings)
    if settings.runs("masks") and settings.masks is None and settings.sam_checkpoint is None:
        model = settings.sam_model or ("vit_h" if settings.download else "regions")
        name, size = SAM_FILES.get(model) or (model, _hub_bytes(model))
        is_there = model == "regions" or Path(model).is_dir() or (cache_folder() / name).is_file()
        if not is_there:
            found.append(
                Need(f"SAM's checkpoint, {model}", size, cache_folder() / name if model in SAM_FILES else _hub())
            )
    for encoder in sorted({_encoder(settings, stage) for stage in ("cam", "deeplab")} - {""}):
        found.append(Need(f"ImageNet weights of the encoder {encoder}", ENCODER_BYTES.get(encoder, 0), _hub()))
    return found + _results(settings)


def _archives(settings: Settings) -> list[Need]:
    if not settings.download:
        return []
    folder = archives_folder(settings)
    return [Need(part.what, part.size, folder / part.file) for part in (VOC, SBD) if part.place(folder) is None]


def _results(settings: Settings) -> list[Need]:
    """What a run on VOC writes; of other data it is not known."""
    if not settings.download:
        return []
    root = settings.voc or Path()
    found = []
    if not (root / "cls_labels.npy").exists():
        found.append(Need("the prepared data set", PREPARED_BYTES, root, is_download=False))
    cams = 0 if settings.labels or settings.from_tags else CAM_BYTES
    return [*found, Need("the results", cams + RESULT_BYTES, settings.out, is_download=False)]


def _encoder(settings: Settings, stage: str) -> str:
    """The encoder whose published weights a stage downloads; empty if it starts from none, or from a file."""
    recipe = recipes.real(settings, recipes.VOC) if settings.voc else recipes.generated(settings)
    words = [*map(str, recipe.get(stage, [])), *settings.extra.get(stage, [])]
    given = first_values(words)
    without = stage == "cam" and ("--weights" in given or not settings.trains_classifier)
    if without or not settings.runs(stage) or given.get("--encoder-weights", "imagenet") != "imagenet":
        return ""
    return given.get("--encoder", COMMON["encoder"].settings["default"])


def _hub() -> Path:
    """Where the Hugging Face hub's downloads are kept."""
    return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()


def _hub_bytes(model: str) -> int:
    """Bytes of a model of the Hugging Face hub; 0 where its size is not known."""
    from models.sam.families import MODELS

    return MODELS[model].size * 1_000_000 if model in MODELS else 0


def announce(settings: Settings) -> None:
    """Print what will be downloaded and written.

    Raises:
        InputError: if a disk has too little room for what goes to it.
    """
    found = needs_of(settings)
    for title, is_download in (("This run downloads, unless it is there already:", True), ("and writes about:", False)):
        listed = [need for need in found if need.is_download == is_download]
        if listed:
            print(title)
        for need in listed:
            size = f"{need.size / GB:>6.2f} GB" if need.size else "size not known"
            print(f"  {need.what:<50}{size}   to {need.place}")
    if settings.download:
        print(f"  {'disk in all':<50}{sum(need.size for need in found) / GB:>6.2f} GB", flush=True)
    _check_room(found)


def _check_room(found: list[Need]) -> None:
    wanted: dict[int, int] = {}
    names: dict[int, Path] = {}
    for need in found:
        folder = next(part for part in (need.place.absolute(), *need.place.absolute().parents) if part.exists())
        device = folder.stat().st_dev
        wanted[device] = wanted.get(device, 0) + need.size
        names[device] = folder
    for device, size in wanted.items():
        free = shutil.disk_usage(names[device]).free
        if free < size:
            raise InputError(
                f"{names[device]}: {free / GB:.1f} GB are free on this disk, about {size / GB:.1f} GB are needed; free "
                "some, or put --voc, --archives, --out, TORCH_HOME or HF_HOME on another disk"
            )
