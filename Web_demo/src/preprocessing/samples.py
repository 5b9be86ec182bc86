"""Sample pictures, drawn by the program itself: nobody else's, and the kind that the quickstart's model knows."""

from __future__ import annotations

from util.data.synthetic import picture_of
from Web_demo.src.preprocessing.uploads import Picture, as_picture

# Ids of generated pictures that are wider than high and show several objects.
_IDS = {"Sample 1": "Sample 14", "Sample 2": "Sample 19", "Sample 3": "Sample 30", "Sample 4": "Sample 5"}
NAMES = tuple(_IDS)
SIDE = 160  # as the quickstart's, so that its model meets what it was trained on


def sample(name: str) -> Picture:
    """The sample picture of that name, the same each time."""
    image, _ = picture_of(_IDS[name], seed=8, side=SIDE)
    return as_picture(f"{name}.png", image, name)
