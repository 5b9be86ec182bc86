"""How the classifiers are trained; without torch, so that the script can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """What the recipes of the two methods differ in."""

    lr: float
    weight_decay: float
    schedule: str


# TransCAM's is the paper's, the other is for a small encoder and little data.
DEFAULTS = {
    "transcam": Defaults(lr=5e-5, weight_decay=5e-4, schedule="constant"),
    "cam": Defaults(lr=2e-4, weight_decay=5e-4, schedule="poly"),
}


def default_text(name: str) -> str:
    """The defaults of a field for ``--help``."""
    return ", ".join(f"{method}: {getattr(defaults, name)}" for method, defaults in DEFAULTS.items())
