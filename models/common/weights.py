"""What the classifiers that give class activation maps share."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from util.runtime.errors import InputError


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad BxCxHxW with zeros at the right and bottom until both sides are multiples of ``multiple``."""
    height, width = images.shape[2:]
    right, bottom = -width % multiple, -height % multiple
    return F.pad(images, (0, right, 0, bottom)) if right or bottom else images


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Check that a state dict has the expected names and shapes, and no others.

    Raises:
        InputError: listing what is missing, over, or of another shape.
    """
    missing = [name for name in expected if name not in state]
    over = [name for name in state if name not in expected]
    other = [
        f"{name} is {_shape(state[name])}, expected {_shape(expected[name])}"
        for name in expected
        if name in state and _shape(state[name]) != _shape(expected[name])
    ]
    if missing or over or other:
        kinds = (("missing", missing), ("not known here", over), ("other shapes", other))
        found = "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds if names)
        raise InputError(
            f"{source}: these weights belong to another network. Expected {len(expected)} parameters, found "
            f"{len(state)}; {found}. Give the weights of this network, or change its size or encoder"
        )


def _shape(value: object) -> list[int] | str:
    return list(value.shape) if hasattr(value, "shape") else type(value).__name__


def _some(names: list[str], most: int = 4) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
