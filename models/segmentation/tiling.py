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


def tiles(height: int, width: int, side: int, overlap: float, align: int = 1) -> Iterator[Tile]:
    """Tiles of at most ``side`` x ``side`` pixels, row by row.

    Args:
        height, width: of the image.
        side: largest side of a tile.
        overlap: share of the side, 0 to below 0.5, that is left unused at a cut.
        align: tiles start at multiples of it, where a network that strides sees the same grid as in the whole image.
    """
    for rows, used_rows in _spans(height, side, overlap, align):
        for columns, used_columns in _spans(width, side, overlap, align):
            yield Tile((rows, columns), (used_rows, used_columns))


def _spans(length: int, side: int, overlap: float, align: int) -> list[tuple[slice, slice]]:
    """(outer, inner) along one axis."""
    if length <= side:
        return [(slice(0, length), slice(0, length))]
    step = max(align, (side - 2 * int(side * overlap)) // align * align)
    outer = [slice(start, min(start + side, length)) for start in range(0, length - side + step, step)]
    cuts = [0, *((before.stop + after.start) // 2 for before, after in zip(outer, outer[1:])), length]
    return [(part, slice(*cuts[number : number + 2])) for number, part in enumerate(outer)]
