"""Building, saving and loading the classifiers that give class activation maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.cam.plain_cam import PlainCAM
from models.cam.transcam import SIZES, TransCAM
from models.common.preprocessing import Normalization, normalization_of
from models.common.weights import check_state, described, is_own, names_file, plain_state
from util.data.voc import ClassTable, load_classes
from util.runtime import checkpoint
from util.runtime.errors import InputError

Classifier = TransCAM | PlainCAM
KIND = "classifier"
METHODS: dict[str, type[TransCAM] | type[PlainCAM]] = {"transcam": TransCAM, "cam": PlainCAM}


def build(config: Mapping[str, Any]) -> Classifier:
    """The network that a ``config`` property describes, with random weights.

    Raises:
        InputError: for an unknown method or an incomplete config.
    """
    method = config.get("method")
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    try:
        return METHODS[method].from_config(config)
    except (KeyError, TypeError) as error:
        raise InputError(f"the configuration {dict(config)} does not fit {method} ({error}); train again") from None


def new(
    method: str, num_classes: int, arch: str, weights: str | None, encoder: str, encoder_weights: str, pretrained: bool
) -> Classifier:
    """A network to train.

    Args:
        method: a key of ``METHODS``.
        arch, weights: TransCAM's size, and a file of a pretrained Conformer or ``none``.
        encoder, encoder_weights: plain CAM's, and a file, the name of published weights or ``none``.
        pretrained: whether to load weights; False where a checkpoint follows.

    Raises:
        InputError: for an unknown encoder, or weights that cannot be read or belong to another network.
    """
    if method == "transcam":
        conformer = TransCAM(num_classes, arch)
        if pretrained and weights not in (None, "none"):
            conformer.load_backbone(str(weights))
        return conformer
    wanted = encoder_weights if pretrained and encoder_weights != "none" else None
    file = wanted if wanted is not None and names_file(wanted) else None
    plain = PlainCAM(num_classes, encoder, None if file else wanted, frozen=encoder_weights != "none")
    if file:
        plain.load_encoder(file)
    return plain


def classifier_content(net: Classifier, classes: ClassTable, score: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `load_classifier` needs, see `models.common.weights.described`."""
    return described(KIND, net.config, net.state_dict(), classes, normalization_of(net), score)


def load_classifier(path: str | os.PathLike, classes: ClassTable | None = None) -> tuple[Classifier, ClassTable]:
    """Load a trained classifier, in evaluation mode on the CPU.

    Args:
        path: a checkpoint of ``train_transcam.py``, also of older versions, or parameters of the published TransCAM network.
        classes: the classes of bare parameters, and a check of the others; None takes what the file says, or VOC.

    Raises:
        InputError: if the file is damaged, belongs to another network, or was trained on other classes.
    """
    content = checkpoint.load(path)
    source = Path(path).name
    if is_own(content) and content.get("kind", KIND) != KIND:
        raise InputError(
            f"{path}: not a classifier, but a {content['kind']} network; give one that train_transcam.py wrote"
        )
    if is_own(content):
        net = build(content["config"])
        net.normalization = Normalization.from_content(content, source)
        colors = content["palette"] if "palette" in content else content.get("colors", ())  # as it was called first
        table = ClassTable(tuple(content["classes"]), tuple(tuple(color) for color in colors))
        if classes is not None and classes.names != table.names:
            raise InputError(
                f"{path}: trained on {', '.join(table.names)}; the command asks for {', '.join(classes.names)}. "
                "Give the class names that it was trained with"
            )
    else:
        table = classes or load_classes()
        net = TransCAM(len(table), _size_of(plain_state(content, os.fspath(path))))
    state = plain_state(content, os.fspath(path))
    check_state(state, net.state_dict(), source)
    net.load_state_dict(state)
    return net.eval(), table


def _size_of(state: Mapping[str, Tensor]) -> str:
    # Bare parameters carry no config: the width of the tokens shows which of the published sizes it is.
    token = state.get("cls_token")
    width = token.shape[-1] if isinstance(token, Tensor) else None
    return next((name for name, size in SIZES.items() if size.embed_dim == width), "small")
