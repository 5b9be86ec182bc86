"""DeepLabV3+: building it, loading a trained checkpoint, and segmenting pictures with it.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution", arXiv 1802.02611; the network is
segmentation-models-pytorch's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.common.convolution import use_own_convolutions
from models.common.weights import check_state
from models.segmentation.inference import PixelNetwork, Segmenter
from util.data.voc import MAX_CLASSES, ClassTable
from util.runtime import checkpoint
from util.runtime.errors import InputError

KIND = "deeplabv3plus"
# The paper's rates: 6, 12, 18 at output stride 16, doubled at 8.
ATROUS_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
WEIGHT_SUFFIXES = (".pth", ".pt", ".tar", ".bin")


def build(
    num_classes: int,
    encoder: str = "mobilenet_v2",
    encoder_weights: str | None = None,
    output_stride: int = 16,
) -> nn.Module:
    """DeepLabV3+ with an encoder of segmentation-models-pytorch, channels last.

    Args:
        num_classes: with the background.
        encoder: any that DeepLabV3+ takes, for instance ``mobilenet_v2``, ``resnet101``, ``tu-convnext_tiny``.
        encoder_weights: a file (``*.pth`` of torchvision or timm), the name of published weights to download
            (``imagenet``), or None.
        output_stride: 8 or 16; 8 is finer and costs about three times as much.

    Returns:
        a module: float Bx3xHxW, normalised as ImageNet is, sides multiples of 16 -> logits float BxCxHxW.

    Raises:
        InputError: for an unknown encoder, output stride or set of weights, or weights of another encoder.
    """
    import segmentation_models_pytorch as smp

    if output_stride not in ATROUS_RATES:
        raise InputError(f"output stride {output_stride}: DeepLabV3+ has 8 or 16")
    from_file = encoder_weights is not None and encoder_weights.endswith(WEIGHT_SUFFIXES)
    try:
        net = smp.DeepLabV3Plus(
            encoder,
            encoder_weights=None if from_file else encoder_weights,
            encoder_output_stride=output_stride,
            decoder_atrous_rates=ATROUS_RATES[output_stride],
            classes=num_classes,
        )
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).strip("'\"").splitlines()[0][:200]
        raise InputError(
            f"encoder {encoder!r} with weights {encoder_weights!r} cannot be used for DeepLabV3+: {reason}. "
            "Choose an encoder of segmentation-models-pytorch that can be dilated, such as mobilenet_v2 or resnet101"
        ) from None
    except OSError as error:
        raise InputError(
            f"weights {encoder_weights!r} of {encoder} cannot be downloaded ({error}); "
            "download them yourself and give the file"
        ) from None
    if from_file:
        _load_encoder(net.encoder, encoder_weights, encoder)
    return use_own_convolutions(net).to(memory_format=torch.channels_last)


def _load_encoder(encoder: nn.Module, path: str, name: str) -> None:
    state = checkpoint.load(path)
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), Mapping):
            state = state[key]
    # "encoder." stands before the names in a checkpoint of train_transcam.py --method cam.
    state = {str(key).removeprefix("module.").removeprefix("encoder."): value for key, value in state.items()}
    expected = encoder.state_dict()
    # A classifier's head is no part of the encoder.
    state = {key: value for key, value in state.items() if key.split(".")[0] not in ("classifier", "fc", "head")}
    # Old files lack the counters, which nothing uses.
    counters = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    state = {**counters, **state}
    check_state(state, expected, f"{path} for the encoder {name}")
    encoder.load_state_dict(state)


def checkpoint_content(model: Mapping[str, Tensor], config: dict, classes: ClassTable, score: dict | None) -> dict:
    """What `load_checkpoint` needs.

    Args:
        model: state dict.
        config: ``encoder`` and ``output_stride``, and ``working_size`` (pixels, see `Segmenter`); other plain values are
            kept as a record.
        classes: the classes that it was trained on.
        score: of the held-out pictures, or None.
    """
    return {
        "kind": KIND,
        "config": config,
        "classes": list(classes.names),
        "palette": [list(color) for color in classes.colors],
        "score": score,
        "model": dict(model),
    }


def load_checkpoint(path: str | os.PathLike, device: torch.device | str = "cpu") -> Segmenter:
    """Load a checkpoint of ``train_deeplabv3.py``.

    Raises:
        InputError: if it is missing, damaged, of another kind of network, or its parameters do not fit its config.
    """
    return segmenter_of(checkpoint.load(path), os.fspath(path), device)


def segmenter_of(content: dict, source: str, device: torch.device | str = "cpu") -> Segmenter:
    """As `load_checkpoint`, from what the file ``source`` held."""
    if content.get("kind") != KIND:
        raise InputError(
            f"{source}: no checkpoint of DeepLabV3+ (kind {content.get('kind')!r}); "
            "give one that train_deeplabv3.py wrote"
        )
    classes, config, state = _checked_parts(content, source)
    net = build(len(classes), config["encoder"], None, config["output_stride"])
    check_state(state, net.state_dict(), source)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()[:200]
        raise InputError(f"{source}: its parameters cannot be used ({reason}); train again") from None
    return Segmenter(PixelNetwork(net), classes, config, content.get("score"), torch.device(device))


def _checked_parts(content: dict, source: str) -> tuple[ClassTable, dict, Mapping[str, Tensor]]:
    """Classes, config and parameters. A checkpoint may come from anyone, so nothing is taken to be what it should be."""
    try:
        classes = ClassTable(tuple(content["classes"]), tuple(tuple(color) for color in content["palette"]))
        config, state = content["config"], content["model"]
        encoder, output_stride, size = config["encoder"], config["output_stride"], config.get("working_size")
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
        "working_size": size is None or (isinstance(size, int) and 0 < size < 1 << 16),
        "model": isinstance(state, Mapping),
    }
    wrong = [name for name, fits in plain.items() if not fits]
    if wrong:
        raise InputError(f"{source}: its {' and '.join(wrong)} cannot be those of a network; train again")
    return classes, config, state
