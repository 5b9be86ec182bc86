"""Opening a trained network, whatever its file: a checkpoint of this project, or what export.py made of one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.segmentation.deeplabv3 import KIND, LIBRARY_CONFIG, load_checkpoint, segmenter_of
from models.segmentation.inference import Segmenter
from util.data.voc import MAX_CLASSES, ClassTable
from util.runtime import checkpoint
from util.runtime.errors import InputError
from util.runtime.files import digest, file_digest, read_json

ONNX_SUFFIX = ".onnx"
INPUT, OUTPUT = "pixels", "logits"
WEIGHTS, ABOUT = "model.safetensors", "classes.json"  # in a folder of export.py
METADATA = "wsss"  # the key that classes, colours and working size have in an ONNX file, as JSON


class OnnxNetwork(nn.Module):
    """A network of an ONNX file, computed by onnxruntime: float Bx3xHxW, 0 to 255 -> logits BxCxHxW."""

    def __init__(self, session: Any):
        super().__init__()
        self.session = session

    def forward(self, pixels: Tensor) -> Tensor:
        answer = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(pixels.cpu().numpy())})[0]
        return torch.from_numpy(answer)


def open_network(
    path: str | os.PathLike,
    device: torch.device | str = "cpu",
    encoder: str | None = None,
    classes: ClassTable | None = None,
) -> Segmenter:
    """The network of a checkpoint, see `load_checkpoint`, or of what ``export.py`` wrote.

    Args:
        path: ``*.onnx``, or the folder or its ``model.safetensors``, for the latter.
        device: of a checkpoint's network. onnxruntime takes a GPU where it was installed for one.
        encoder, classes: of a checkpoint that does not name them, see `load_checkpoint`.

    Raises:
        InputError: if the file cannot be used.
    """
    if Path(path).suffix.lower() == ONNX_SUFFIX:
        return _open_onnx(Path(path))
    if (folder := _exported_folder(path)) is not None:
        return _open_folder(folder, device)
    return load_checkpoint(path, device, encoder, classes)


def check_asked(
    network: Segmenter,
    path: str | os.PathLike,
    encoder: str | None,
    classes: ClassTable | None,
    *,
    warn: bool = True,
) -> None:
    """Check that a network is as the command says, and take its class names where the file ``path`` has none.

    Args:
        encoder, classes: what the command says; None: nothing.
        warn: say so where the names are a guess.

    Raises:
        InputError: if the network has another encoder, or other classes.
    """
    if network.config.get("assumed_classes") and classes is not None and len(classes) == len(network.classes):
        network.classes, network.palette = classes, classes.palette
        network.config = {**network.config, "assumed_classes": False}
    if classes is not None and classes.names != network.classes.names:
        raise InputError(
            f"{path}: trained on {', '.join(network.classes.names)}; the command asks for "
            f"{', '.join(classes.names)}. Give the class names that it was trained with, or leave them out"
        )
    if encoder not in (None, own := network.config.get("encoder", encoder)):
        raise InputError(f"{path}: its encoder is {own}, the command says {encoder}; leave --encoder out")
    if network.config.get("assumed_classes") and warn:
        message = f"warning: {path} names no classes; the names are VOC's"
        print(f"{message}: if it was trained on others, give --class-names FILE", file=sys.stderr)


def network_digest(path: str | os.PathLike) -> str:
    """Digest of all that `open_network` reads of ``path``."""
    if (folder := _exported_folder(path)) is not None:
        return digest(*(file_digest(folder / name) for name in (WEIGHTS, ABOUT)))
    config = Path(path).with_name(LIBRARY_CONFIG)
    return digest(file_digest(path), file_digest(config)) if config.is_file() else file_digest(path)


def _exported_folder(path: str | os.PathLike) -> Path | None:
    """The folder that ``export.py --format smp`` wrote, if it, or the file of parameters in it, is given."""
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    is_it = Path(path) in (folder, folder / WEIGHTS) and all((folder / name).is_file() for name in (WEIGHTS, ABOUT))
    return folder if is_it else None


def _open_folder(folder: Path, device: torch.device | str) -> Segmenter:
    about = read_json(folder / ABOUT)
    if not isinstance(about, dict):
        raise InputError(f"{folder / ABOUT}: not that of a network; make the folder again with export.py")
    normalization = {name: about.get(name) for name in ("mean", "deviation")}
    model = checkpoint.load(folder / WEIGHTS)
    return segmenter_of(
        {**about, "kind": KIND, "normalization": normalization, "model": model}, os.fspath(folder), device
    )


def onnx_session(path: Path) -> Any:
    """An ``onnxruntime.InferenceSession`` with as many threads as torch has.

    Raises:
        InputError: if onnxruntime is missing, or the file is missing or damaged.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError("ONNX files need onnxruntime: pip install onnxruntime (or onnxruntime-gpu)") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with export.py --format onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's errors have no common class that it exports
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f"{path}: not a readable ONNX file ({reason}); make it again with export.py") from None


def _open_onnx(path: Path) -> Segmenter:
    session = onnx_session(path)
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None or [node.name for node in session.get_inputs()] != [INPUT]:
        raise InputError(f"{path}: an ONNX file of another project; give one that export.py made")
    try:
        content = json.loads(text)
        classes = ClassTable(
            tuple(map(str, content["classes"])), tuple((int(r), int(g), int(b)) for r, g, b in content["palette"])
        )
        sizes = [content["config"].get(name) for name in ("working_size", "image_size")]
        fits = 2 <= len(classes) == len(classes.colors) <= MAX_CLASSES and all(
            size is None or (type(size) is int and size > 0) for size in sizes
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: its metadata is damaged ({error}); make it again with export.py") from None
    if not fits:
        raise InputError(f"{path}: its metadata is not that of a network; make it again with export.py")
    return Segmenter(OnnxNetwork(session), classes, content["config"], content.get("score"), torch.device("cpu"))
