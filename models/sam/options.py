"""What masks depend on: prompts, and dataclasses from which the command line takes its options. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from util.runtime.checkpoint import WEIGHTS_SUFFIXES
from util.runtime.cli import real, whole
from util.runtime.errors import InputError
from util.runtime.options import option

PACKAGE_MODELS = ("vit_h", "vit_l", "vit_b")
FILE_MODELS = (  # whose authors' checkpoint files are read
    *PACKAGE_MODELS,
    *(f"sam-hq-{size}" for size in "blh"),
    *(f"{family}-{size}" for family in ("sam2", "sam2.1") for size in ("tiny", "small", "base-plus", "large")),
    "mobile-sam",
)
PROMPTS = ("grid", "cam", "tags", "points", "boxes")


_whole, _number = partial(option, metavar="N", type=whole(0)), partial(option, metavar="N", type=real())
_share = partial(option, metavar="N", type=real(0, 1))
_at_least_1 = partial(option, metavar="N", type=whole(1))


@dataclass(frozen=True)
class Options:
    """Of the mask generator; names and defaults are those of ``SamAutomaticMaskGenerator``.

    Thresholds of 0 or less let all masks pass.
    """

    points_per_side: int = _at_least_1(32, "points per side of the grid of prompts")
    points_per_batch: int = _at_least_1(64, "prompts at once; halved when a GPU runs out of memory")
    pred_iou_thresh: float = _number(0.88, "keep masks with a higher predicted IoU")
    stability_score_thresh: float = _number(0.95, "keep masks with at least this stability score")
    stability_score_offset: float = _number(1.0, "shift of the cutoff that the stability score tries")
    box_nms_thresh: float = _number(0.7, "box IoU above which masks count as duplicates; the better one stays")
    crop_n_layers: int = _whole(0, "layers of crops besides the whole image; layer i has (2**i)**2 crops")
    crop_nms_thresh: float = _number(0.7, "box IoU above which masks of two crops count as duplicates")
    crop_overlap_ratio: float = _number(
        512 / 1500, "overlap of the first layer's crops, as a share of the short side, 0 to below 1 (default: 0.3413)"
    )
    crop_n_points_downscale_factor: int = _at_least_1(1, "layer i has points-per-side / factor**i points per side")
    min_mask_region_area: int = _whole(0, "remove islands and holes of fewer pixels; 0: none")

    def points_in_layer(self, layer: int) -> int:
        """Points per side of the grid on each crop of a layer."""
        return int(self.points_per_side / self.crop_n_points_downscale_factor**layer)


@dataclass(frozen=True)
class CamPromptOptions:
    """How soft CAMs become prompts."""

    peak_value: float = _share(0.5, "lowest CAM value of a point, 0 to 1")
    peak_distance: float = _number(0.1, "smallest distance of two points of a class, as a share of the long side")
    peaks: int = _at_least_1(8, "most points per class")
    box_value: float = _share(
        0.4, "CAM value above which pixels belong to the component whose box is asked for, 0 to 1"
    )


def names_file(model: str) -> bool:
    """Whether ``--model`` is a checkpoint file, and not a known name, a hub id or a folder."""
    return Path(model).suffix in WEIGHTS_SUFFIXES and not Path(model).is_dir()


def read_prompt(words: Sequence[str]) -> list[tuple[str, Path | None]]:
    """The words of ``--prompt``, such as ``grid cam points FILE``, as (kind, file or None) pairs.

    Raises:
        InputError: for an unknown kind, one that is given twice, or a missing file name.
    """
    asked: list[tuple[str, Path | None]] = []
    left = list(words)
    while left:
        kind = left.pop(0)
        if kind not in PROMPTS:
            raise InputError(f"--prompt {kind}: unknown; choose {', '.join(PROMPTS[:3])}, points FILE or boxes FILE")
        if kind in ("points", "boxes") and not left:
            raise InputError(f"--prompt {kind}: the file of {kind} is missing; write --prompt {kind} FILE")
        asked.append((kind, Path(left.pop(0)) if kind in ("points", "boxes") else None))
    if len({kind for kind, _ in asked}) < len(asked):
        raise InputError("--prompt: each kind of prompt goes once")
    return asked
