"""Sample pictures, drawn by the program itself."""

from __future__ import annotations

import numpy as np

from Web_demo.src.preprocessing.uploads import Picture, as_picture

NAMES = ("Sample 1", "Sample 2", "Sample 3")


def picture(name: str) -> Picture:
    rng = np.random.default_rng(NAMES.index(name))
    return as_picture(f"{name}.png", rng.integers(0, 255, (375, 500, 3), dtype=np.uint8), name)
