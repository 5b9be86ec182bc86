"""Cutting an image that is too large into overlapping tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A piece of an image.

    Attributes:
        outer: rows and columns that go through the network.
        inner: those of them whose result is used, so that what is close to a cut is seen with its surroundings. The
            inner parts of all tiles cover every pixel once.
    """

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]


def tiles(height: int, width: int, side: int, overlap: float) -> Iterator[Tile]:
    """Tiles of at most ``side`` x ``side`` pixels, of equal size, row by row.

    Args:
        height, width: of the image.
        side: largest side of a tile.
        overlap: share of the side, 0 to below 0.5, that is left unused at a cut.
    """
    for rows, used_rows in _spans(height, side, overlap):
        for columns, used_columns in _spans(width, side, overlap):
            yield Tile((rows, columns), (used_rows, used_columns))


def _spans(length: int, side: int, overlap: float) -> list[tuple[slice, slice]]:
    """(outer, inner) along one axis."""
    if length <= side:
        return [(slice(0, length), slice(0, length))]
    margin = int(side * overlap)
    count = -(-(length - 2 * margin) // (side - 2 * margin))
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    cuts = [0, *((start + before + side) // 2 for before, start in zip(starts, starts[1:])), length]
    return [(slice(start, start + side), slice(*cuts[number : number + 2])) for number, start in enumerate(starts)]
