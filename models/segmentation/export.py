"""A trained network for other programs: an ONNX file, or a folder that segmentation-models-pytorch loads."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.convolution import DilatedDepthwiseConv2d, Float32GradientConv2d
from models.segmentation.deeplabv3 import load_checkpoint
from models.segmentation.inference import STRIDE, PixelNetwork, Segmenter
from models.segmentation.networks import (
    ABOUT,
    INPUT,
    METADATA,
    ONNX_SUFFIX,
    OUTPUT,
    WEIGHTS,
    OnnxNetwork,
    check_asked,
    onnx_session,
)
from util.data.voc import load_classes
from util.runtime.errors import InputError, counted, disk_error
from util.runtime.files import atomic_write, make_folder, write_json

OPSET = 17
CHECKED_SIZES = ((1, 375, 500), (2, 250, 333), (1, 512, 512))  # batch, height, width
TIMED_SIZE = (1, 375, 500)
# Of logits; where float32 itself is not that exact, ROUNDING times its difference from float64.
LARGEST_DIFFERENCE, ROUNDING = 1e-4, 4


def export(
    checkpoint: str | os.PathLike,
    kind: str,
    out: Path,
    encoder: str | None = None,
    class_names: Path | None = None,
) -> None:
    """Export a checkpoint, check the result against it, and print how far they differ.

    Args:
        checkpoint: see `load_checkpoint`.
        kind: one of `models.segmentation.options.EXPORTS`.
        out: the ``.onnx`` file, or the folder.
        encoder, class_names: of a checkpoint that does not name them.

    Raises:
        InputError: if the checkpoint cannot be used, a package is missing, ``out`` cannot be written, or the result
            differs from the checkpoint.
    """
    if kind == "onnx" and out.suffix.lower() != ONNX_SUFFIX:
        raise InputError(f"{out}: an ONNX file's name ends in {ONNX_SUFFIX}; change --out")
    if kind == "onnx" and out.is_dir():
        raise InputError(f"{out}: a folder is there; change --out")
    classes = None if class_names is None else load_classes(class_names)
    network = load_checkpoint(checkpoint, encoder=encoder, classes=classes)
    check_asked(network, checkpoint, encoder, classes)
    print(f"{checkpoint}: exporting, and checking the result against it; this may take a minute", flush=True)
    try:
        {"onnx": export_onnx, "smp": export_smp}[kind](network, out)
    except OSError as error:
        raise disk_error(error, out) from None
    if network.long_side:
        print(
            f"it works best on images whose long side is {network.long_side} px, as those that it was trained on were"
        )


def export_onnx(network: Segmenter, out: Path) -> None:
    """Write an ONNX file: float32 Bx3xHxW RGB values 0 to 255, all three dynamic -> logits float32 BxCxHxW.

    The normalisation is part of the graph; class names, colours, working size and score are JSON in its metadata. See
    `export` for errors.
    """
    try:
        import onnx
    except ImportError:
        raise InputError("ONNX files need onnx and onnxruntime: pip install onnx onnxruntime") from None
    with atomic_write(out) as temporary:
        _trace(network, temporary)
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, {METADATA: json.dumps(_metadata(network))})
        onnx.save(model, temporary)
        _compare("onnxruntime", network, OnnxNetwork(onnx_session(temporary)), out)


def export_smp(network: Segmenter, out: Path) -> None:
    """Write a folder for ``segmentation_models_pytorch.from_pretrained``, which can be pushed to the Hugging Face hub.

    Its network takes images normalised by ``mean`` and ``deviation`` of ``classes.json``, with sides that are multiples of
    16. See `export` for errors.
    """
    import segmentation_models_pytorch as smp

    net: Any = _pixel_network(network).net
    if not hasattr(net, "save_pretrained"):
        raise InputError(f"a {type(net).__name__} is not a network of segmentation-models-pytorch; export it as onnx")
    make_folder(out)
    net.save_pretrained(out)
    _open_to_others(out / WEIGHTS)  # safetensors makes it private
    write_json(out / ABOUT, _metadata(network))
    loaded = copy.deepcopy(_pixel_network(network))
    with contextlib.redirect_stdout(None):  # huggingface_hub prints where it reads from
        loaded.net = smp.from_pretrained(out).eval()
    _compare("the folder", network, loaded, out)


def _open_to_others(path: Path) -> None:
    """The permissions that ``open`` would have given."""
    mask = os.umask(0)
    os.umask(mask)
    try:
        os.chmod(path, 0o666 & ~mask)
    except OSError as error:
        # Mounts that own their files (CIFS, FUSE, S3) let everybody write, and refuse this.
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def _pixel_network(network: Segmenter) -> PixelNetwork:
    if not isinstance(network.net, PixelNetwork):
        raise InputError("this network is an exported one already; give the checkpoint of train_deeplabv3.py")
    return network.net


def _metadata(network: Segmenter) -> dict:
    pixel_net = _pixel_network(network)
    return {
        "classes": list(network.classes.names),
        "palette": [list(color) for color in network.classes.colors],
        "config": {**network.config, "working_size": network.long_side},
        "mean": (pixel_net.mean.flatten() / 255).tolist(),
        "deviation": (pixel_net.deviation.flatten() / 255).tolist(),
        "score": network.score,
    }


class _Traced(PixelNetwork):
    """A `PixelNetwork` whose padding is written without a branch, so that it follows the size of the input."""

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        return self.net(F.pad((pixels - self.mean) / self.deviation, padding))[:, :, :height, :width]


def _trace(network: Segmenter, path: Path) -> None:
    net = copy.deepcopy(_pixel_network(network)).cpu().to(memory_format=torch.contiguous_format)
    net.__class__ = _Traced
    for module in net.modules():
        if isinstance(module, DilatedDepthwiseConv2d | Float32GradientConv2d):  # they differ in training only
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
    sizes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sides that are checked, and about the newer exporter
        # torch's newer exporter needs onnxscript and half a minute where this one needs a second.
        torch.onnx.export(
            net,
            (torch.rand(1, 3, 75, 90),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: sizes, OUTPUT: sizes},
        )


@torch.inference_mode()
def _compare(name: str, network: Segmenter, other: nn.Module, out: Path) -> None:
    """Print differences and speeds; raise InputError if the networks are not the same."""
    generator = torch.Generator().manual_seed(0)
    exact = copy.deepcopy(_pixel_network(network)).double()
    for batch, height, width in CHECKED_SIZES:
        # Smooth patches and noise, as in real images.
        coarse = torch.rand(batch, 3, 8, 8, generator=generator)
        pixels = 235 * F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        pixels += 20 * torch.rand(batch, 3, height, width, generator=generator)
        expected = network.net(pixels)
        largest = float((expected - other(pixels)).abs().max())
        rounding = float((expected - exact(pixels.double())).abs().max())
        most = max(LARGEST_DIFFERENCE, ROUNDING * rounding)
        print(
            f"{name}, {batch} x {width}x{height}: {'the same' if largest <= most else 'another'} network: logits, up to "
            f"{float(expected.abs().max()):.3g}, differ by {largest:.2g} at most, where rounding may explain {most:.2g}",
            flush=True,
        )
        if not largest <= most:
            raise InputError(
                f"{out}: its logits differ by {largest:.2g} from the checkpoint's, more than rounding explains; "
                "use the checkpoint, and report this encoder"
            )
    ours, theirs = _milliseconds([network.net, other])
    print(
        f"{name}: {theirs:.1f} ms per image of {TIMED_SIZE[2]}x{TIMED_SIZE[1]}, torch {ours:.1f} ms, "
        f"{counted(torch.get_num_threads(), 'thread')}",
        flush=True,
    )


def _milliseconds(networks: Sequence[Callable[[Tensor], Tensor]]) -> list[float]:
    """Median time of each network for an image, measured in turns."""
    batch, height, width = TIMED_SIZE
    pixels = torch.full((batch, 3, height, width), 100.0)
    times = np.empty((8, len(networks)))
    for turn in range(len(times)):
        for place, network in enumerate(networks):
            begun = time.perf_counter()
            network(pixels)
            times[turn, place] = time.perf_counter() - begun
    return (1000 * np.median(times[1:], axis=0)).tolist()  # the first turn warms up
