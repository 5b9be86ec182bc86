"""DeepLabV3+: building it, loading a trained checkpoint, and segmenting images with it.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution", arXiv 1802.02611; the network is
segmentation-models-pytorch's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from models.common.convolution import use_own_convolutions
from models.common.preprocessing import IMAGENET, Normalization, encoder_normalization
from models.common.weights import (
    check_state,
    described,
    download_in_words,
    is_own,
    load_encoder_file,
    names_file,
    plain_state,
)
from models.segmentation.inference import PixelNetwork, Segmenter
from util.data.voc import CLASS_NAMES, MAX_CLASSES, ClassTable, load_classes
from util.runtime import checkpoint
from util.runtime.errors import InputError
from util.runtime.files import read_json

KIND = "deeplabv3plus"
# The paper's rates: 6, 12, 18 at output stride 16, doubled at 8.
ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
# The rates of segmentation-models-pytorch, which whoever builds the network without a word about them gets.
LIBRARY_RATES = (12, 24, 36)
LIBRARY_CONFIG = "config.json"
HEAD = "segmentation_head.0.weight"


def build(
    num_classes: int,
    encoder: str,
    encoder_weights: str | None = None,
    output_stride: int = 16,
    atrous_rates: Sequence[int] | None = None,
) -> Any:
    """DeepLabV3+ with an encoder of segmentation-models-pytorch, channels last.

    Args:
        num_classes: with the background.
        encoder: any that DeepLabV3+ takes, for instance ``mobilenet_v2``, ``resnet101``, ``tu-convnext_tiny``.
        encoder_weights: a file (of torchvision, timm, or a checkpoint that holds such an encoder), the name of published
            weights to download (``imagenet``), or None.
        output_stride: 8 or 16; 8 is finer and costs about three times as much.
        atrous_rates: of the decoder; None takes the paper's.

    Returns:
        a module: float Bx3xHxW, normalised by its ``normalization``, sides multiples of 16 -> logits float BxCxHxW.

    Raises:
        InputError: for an unknown encoder, output stride or set of weights, or weights of another encoder.
    """
    if output_stride not in ATROUS_RATES:
        raise InputError(f"output stride {output_stride}: DeepLabV3+ has 8 or 16")
    file = encoder_weights if encoder_weights is not None and names_file(encoder_weights) else None
    published = None if file else encoder_weights
    try:
        with download_in_words(encoder, published):
            net = smp.DeepLabV3Plus(
                encoder,
                encoder_weights=published,
                encoder_output_stride=output_stride,
                decoder_atrous_rates=tuple(atrous_rates or ATROUS_RATES[output_stride]),
                classes=num_classes,
            )
        net.normalization = encoder_normalization(encoder, published)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip("'\"").splitlines()[0][:200]
        raise InputError(
            f"encoder {encoder!r} with weights {encoder_weights!r} cannot be used for DeepLabV3+: {reason}. "
            "Choose an encoder of segmentation-models-pytorch that can be dilated, such as mobilenet_v2 or resnet101"
        ) from None
    if file:
        content = load_encoder_file(net.encoder, file, encoder)
        if is_own(content):  # a classifier of this project may have trained its encoder with another normalisation
            net.normalization = Normalization.from_content(content, file)
    return use_own_convolutions(net).to(memory_format=torch.channels_last)


def checkpoint_content(
    model: Mapping[str, Tensor],
    config: dict[str, Any],
    classes: ClassTable,
    score: dict[str, Any] | None,
    normalization: Normalization = IMAGENET,
) -> dict[str, Any]:
    """What `load_checkpoint` needs.

    Args:
        model: state dict.
        config: ``encoder`` and ``output_stride``; ``working_size``, ``image_size`` (pixels, see `Segmenter`) and
            ``atrous_rates`` where they are known; ``assumed_classes``, if the names may be wrong.
        classes, score, normalization: see `models.common.weights.described`.
    """
    return described(KIND, config, model, classes, normalization, score)


def load_checkpoint(
    path: str | os.PathLike,
    device: torch.device | str = "cpu",
    encoder: str | None = None,
    classes: ClassTable | None = None,
) -> Segmenter:
    """Load a trained DeepLabV3+.

    Args:
        path: a checkpoint of ``train_deeplabv3.py``; or parameters of a DeepLabV3+ of segmentation-models-pytorch alone or
            in the checkpoint of another training, in any of the formats of `util.runtime.checkpoint.load`.
        device: where it computes.
        encoder: of the latter, which do not name theirs.
        classes: of the latter; None: VOC's where the number fits.

    Raises:
        InputError: if it is missing, damaged, of another kind of network, or its parameters do not fit its encoder.
    """
    return segmenter_of(checkpoint.load(path), os.fspath(path), device, encoder, classes)


def segmenter_of(
    content: dict[str, Any],
    source: str,
    device: torch.device | str = "cpu",
    encoder: str | None = None,
    classes: ClassTable | None = None,
) -> Segmenter:
    """As `load_checkpoint`, from what the file ``source`` held."""
    if content.get("kind") != KIND:
        content = _foreign_content(content, source, encoder, classes)
    table, config, state = _checked_parts(content, source)
    rates = config.get("atrous_rates")
    net = build(len(table), config["encoder"], None, config["output_stride"], rates)
    check_state(state, net.state_dict(), source)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:200]
        raise InputError(f"{source}: its parameters cannot be used ({reason}); train again") from None
    net.normalization = Normalization.from_content(content, source)
    return Segmenter(PixelNetwork(net, net.normalization), table, config, content.get("score"), torch.device(device))


def library_settings(source: str | os.PathLike) -> dict[str, Any]:
    """What segmentation-models-pytorch wrote beside a network's file about how it is built; empty where it did not.

    Raises:
        InputError: if that is not about a DeepLabV3+, or one that is not read here.
    """
    file = Path(source).with_name(LIBRARY_CONFIG)
    try:
        settings = read_json(file) if file.is_file() else {}
    except InputError:  # another tool's
        return {}
    if not isinstance(settings, dict) or "_model_class" not in settings:
        return {}
    if (kind := settings["_model_class"]) != "DeepLabV3Plus":
        raise InputError(f"{file}: about a network {kind}, not a DeepLabV3Plus; give another --checkpoint")
    if (factor := settings.get("upsampling", 4)) != 4:
        raise InputError(f"{file}: its answers are enlarged {factor} times, those read here 4 times; train again")
    return settings


def _foreign_content(
    content: dict[str, Any], source: str, encoder: str | None, classes: ClassTable | None
) -> dict[str, Any]:
    """A checkpoint as ours of the parameters of another project's DeepLabV3+, built as `library_settings` say, or by default."""
    state = plain_state(content, source)
    settings = library_settings(source)
    encoder = encoder or settings.get("encoder_name")
    starts = {name.partition("encoder.")[0] for name in state if "encoder." in name}
    prefix = min(starts, key=len, default="")  # such as "model." of Lightning's modules
    # What is beside the network, such as a loss with weights, has no part in it.
    state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    head = state.get(HEAD)
    if (
        "config" in content
        or not isinstance(head, Tensor)
        or head.ndim != 4
        or not any(name.startswith("decoder.aspp.") for name in state)
    ):
        raise InputError(f"{source}: no checkpoint of DeepLabV3+, but {_kind_of(content, state)}")
    if encoder is None:
        raise InputError(
            f"{source}: parameters of a DeepLabV3+ that do not name its encoder; give it, such as --encoder resnet101"
        )
    if len(head) == 1:
        raise InputError(
            f"{source}: it has one output, as networks of one class whose output is a sigmoid; train one with 2 classes, the "
            "background first"
        )
    stride = settings.get("encoder_output_stride", 16)
    rates = settings.get("decoder_atrous_rates") or list(LIBRARY_RATES)
    if not settings and os.environ.get("RANK", "0") == "0":
        print(
            f"{source}: output stride {stride} and atrous rates {', '.join(map(str, rates))} are assumed, the library's defaults; "
            f"for others, put the {LIBRARY_CONFIG} of its save_pretrained beside the file",
            file=sys.stderr,
        )
    advprop = "advprop" if settings.get("encoder_weights") == "advprop" else None  # whose normalisation is another
    table = classes or load_classes(num_classes=len(head))
    assumed = classes is None and table.names == CLASS_NAMES
    if len(table) != len(head):
        raise InputError(
            f"{source}: it has {len(head)} classes, the command names {len(table)}; give --class-names FILE"
        )
    return {
        "classes": list(table.names),
        "palette": [list(color) for color in table.colors],
        "normalization": encoder_normalization(encoder, advprop).content,
        "config": {
            "encoder": encoder,
            "output_stride": stride,
            "atrous_rates": rates,
            "assumed_classes": assumed,
        },
        "model": state,
    }


def _kind_of(content: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """For messages: what a checkpoint that is not of a DeepLabV3+ seems to be, and what to do."""
    kind, parts = content.get("kind"), {name.partition(".")[0] for name in state}
    if kind is None and ("decode_head" in parts or {"classifier", "backbone"} <= parts):
        remedy = "score its label maps with evaluate_enhanced.py --pred, or train one from its --encoder-weights"
        return f"a network of torchvision or MMSegmentation; {remedy}"
    found = "weights of another network, such as an encoder's" if kind is None else f"one of kind {kind!r}"
    own = "" if kind else "; label maps of another network are scored with evaluate_enhanced.py --pred"
    return f"{found}; give one that train_deeplabv3.py wrote{own}"


def _checked_parts(content: dict, source: str) -> tuple[ClassTable, dict, Mapping[str, Tensor]]:
    """Classes, config and parameters. A checkpoint may come from anyone, so nothing is taken to be what it should be."""
    try:
        classes = ClassTable(tuple(content["classes"]), tuple(tuple(color) for color in content["palette"]))
        config, state = content["config"], content["model"]
        encoder, output_stride = config["encoder"], config["output_stride"]
        sizes = {name: config.get(name) for name in ("working_size", "image_size")}
    except (KeyError, TypeError) as error:
        raise InputError(f"{source}: incomplete, {error} is missing; train again") from None
    plain = {
        "classes": 2 <= len(classes) <= MAX_CLASSES and all(isinstance(name, str) for name in classes.names),
        "palette": len(classes.colors) == len(classes)
        and all(
            len(color) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in color) for color in classes.colors
        ),
        # A name with a scheme would make timm look for the network elsewhere, on the internet for instance.
        "encoder": isinstance(encoder, str) and re.fullmatch(r"[\w.-]+", encoder) is not None,
        "output_stride": isinstance(output_stride, int),
        "atrous_rates": _are_rates(config.get("atrous_rates")),
        **{n: size is None or (isinstance(size, int) and 0 < size < 1 << 16) for n, size in sizes.items()},
        "model": isinstance(state, Mapping),
    }
    wrong = [name for name, fits in plain.items() if not fits]
    if wrong:
        raise InputError(f"{source}: its {' and '.join(wrong)} cannot be those of a network; train again")
    return classes, config, state


def _are_rates(rates: Any) -> bool:
    return rates is None or (
        isinstance(rates, list) and len(rates) == 3 and all(type(rate) is int and 0 < rate < 100 for rate in rates)
    )
