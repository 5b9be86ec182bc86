"""Building, saving and loading the classifiers that give class activation maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from models.cam.plain_cam import PlainCAM
from models.cam.transcam import SIZES, TransCAM
from models.common.weights import check_state
from util.data.voc import ClassTable, load_classes
from util.runtime import checkpoint
from util.runtime.errors import InputError

METHODS = {"transcam": TransCAM, "cam": PlainCAM}


def build(config: Mapping) -> nn.Module:
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


def plain_state(content: Mapping) -> dict[str, Tensor]:
    """The parameters inside a checkpoint: bare, or under ``model`` or ``state_dict``; ``module.`` is taken off."""
    for name in ("model", "state_dict"):
        if isinstance(content.get(name), Mapping):
            content = content[name]
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_backbone(net: nn.Module, path: str | os.PathLike) -> None:
    """Load pretrained weights except the class heads, see the networks' ``load_backbone``."""
    net.load_backbone(plain_state(checkpoint.load(path)), os.fspath(path))


def classifier_content(net: nn.Module, classes: ClassTable) -> dict:
    """What a checkpoint needs, so that `load_classifier` can make the network from the file alone."""
    return {
        "config": net.config,
        "classes": list(classes.names),
        "colors": [list(color) for color in classes.colors],
        "model": net.state_dict(),
    }


def load_classifier(path: str | os.PathLike, classes: ClassTable | None = None) -> tuple[nn.Module, ClassTable]:
    """Load a trained classifier, in evaluation mode on the CPU.

    Args:
        path: a checkpoint of ``train_transcam.py``, or bare parameters of the published TransCAM network.
        classes: the classes of bare parameters, and a check of the others; None takes what the file says, or VOC.

    Raises:
        InputError: if the file is damaged, belongs to another network, or was trained on other classes.
    """
    content = checkpoint.load(path)
    source = Path(path).name
    if "config" in content:
        net = build(content["config"])
        table = ClassTable(tuple(content["classes"]), tuple(tuple(color) for color in content["colors"]))
        if classes is not None and classes.names != table.names:
            raise InputError(
                f"{path}: trained on {', '.join(table.names)}; the command asks for {', '.join(classes.names)}. "
                "Give the class names that it was trained with"
            )
    else:
        table = classes or load_classes()
        net = TransCAM(len(table), _size_of(plain_state(content)))
    state = plain_state(content)
    check_state(state, net.state_dict(), source)
    net.load_state_dict(state)
    return net.eval(), table


def _size_of(state: Mapping[str, Tensor]) -> str:
    # Bare parameters carry no config: the width of the tokens tells the published sizes apart.
    token = state.get("cls_token")
    width = token.shape[-1] if hasattr(token, "shape") else None
    return next((name for name, size in SIZES.items() if size.embed_dim == width), "small")
