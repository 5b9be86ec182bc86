"""Class-agnostic masks of an image, kept run-length coded from the file to the answer.

A run is a stretch of mask pixels in COCO's order: column by column, top to bottom. Areas and overlaps of all masks with
all classes come from prefix sums along that order, so no mask needs to be painted to be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from util.data.rle import decode_counts, encode_counts
from util.runtime.errors import InputError

LEAST_SCORE = 0.5  # prompted masks count, and are written, when they have a higher one


@dataclass(frozen=True)
class Atoms:
    """Groups of pixels that are in exactly the same masks.

    Attributes:
        index: int32 HxW, the atom of each pixel.
        membership: bool AxK, which masks an atom is in; an atom in no mask has a row of False.
    """

    index: np.ndarray
    membership: np.ndarray


@dataclass(frozen=True)
class Masks:
    """K masks of one HxW image.

    Attributes:
        height, width: pixels.
        starts, ends: int64, the runs of all masks one after the other; a run covers the column-major positions
            ``start <= p < end``.
        offsets: int64 K + 1; mask k owns runs ``offsets[k]:offsets[k + 1]``.
        predicted_iou, stability_score: float64 K in 0..1, SAM's own estimates; NaN where the file has none.
        extra: one dict per mask with what else the file has (``point_coords``, ``crop_box``, and of prompted masks
            ``category``, the name of a class, ``score``, and ``prompt``, such as ``cam``).
    """

    height: int
    width: int
    starts: np.ndarray
    ends: np.ndarray
    offsets: np.ndarray
    predicted_iou: np.ndarray
    stability_score: np.ndarray
    extra: tuple[dict, ...] = field(default=())

    # --- making -----------------------------------------------------------------------------------------------

    @classmethod
    def from_dense(cls, dense: np.ndarray, predicted_iou=None, stability_score=None, extra=()) -> Masks:
        """Masks from bool KxHxW (or an empty list with ``height`` and ``width`` known from the shape (0, H, W))."""
        dense = np.asarray(dense, dtype=bool)
        if dense.ndim != 3:
            raise ValueError(f"dense masks are bool KxHxW, not of shape {dense.shape}")
        count, height, width = dense.shape
        flat = dense.transpose(0, 2, 1).reshape(count, height * width)
        padded = np.zeros((count, height * width + 2), np.int8)
        padded[:, 1:-1] = flat
        step = np.diff(padded, axis=1)
        owner, starts = np.nonzero(step == 1)
        ends = np.nonzero(step == -1)[1]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
        unknown = np.full(count, np.nan)
        return cls(
            height,
            width,
            starts.astype(np.int64),
            ends.astype(np.int64),
            offsets.astype(np.int64),
            unknown if predicted_iou is None else np.asarray(predicted_iou, np.float64),
            unknown if stability_score is None else np.asarray(stability_score, np.float64),
            tuple(extra),
        )

    @classmethod
    def from_counts(
        cls, size: tuple[int, int], counts: list, predicted_iou=None, stability_score=None, extra=()
    ) -> Masks:
        """Masks from COCO run-length codes, compressed (``str`` or ``bytes``) or not (list of int), also mixed.

        Args:
            size: (height, width).
            counts: one code per mask.

        Raises:
            InputError: naming the first code that is damaged or does not add up to height x width.
        """
        height, width = size
        off, on, rows, tails = decode_counts(counts)
        row_ends, some = np.cumsum(rows), rows > 0
        heads = (row_ends - rows)[some]
        lengths = off + on
        sums = np.add.reduceat(lengths, heads) if len(heads) else heads
        totals = tails.copy()
        totals[some] += sums
        broken = (totals != height * width) | (tails < 0)
        # As unsigned numbers, negative ones are too large as well.
        wrong = np.flatnonzero(np.maximum(off.view(np.uint64), on.view(np.uint64)) > height * width)
        broken[np.searchsorted(row_ends, wrong, "right")] = True
        if broken.any():
            first = int(np.flatnonzero(broken)[0])
            raise InputError(
                f"the run lengths of mask {first} add up to {totals[first]}, not to {width}x{height}; "
                "the file is damaged, make it again"
            )
        lengths[heads[1:]] -= sums[:-1]  # so that each code starts at 0
        ends = np.cumsum(lengths)
        starts = ends - on
        offsets = np.append(0, row_ends)
        nothing = np.flatnonzero(on == 0)
        if len(nothing):
            starts, ends = np.delete(starts, nothing), np.delete(ends, nothing)
            offsets -= np.searchsorted(nothing, offsets)
        unknown = np.full(len(counts), np.nan)
        return cls(
            height,
            width,
            starts,
            ends,
            offsets,
            unknown if predicted_iou is None else np.asarray(predicted_iou, np.float64),
            unknown if stability_score is None else np.asarray(stability_score, np.float64),
            tuple(extra),
        )

    @classmethod
    def join(cls, parts: Sequence[Masks]) -> Masks:
        """The masks of several objects of one image, one after the other."""
        first = parts[0]
        counts = [len(part.starts) for part in parts]
        shifts = np.cumsum([0, *counts[:-1]])
        extra: tuple[dict, ...] = ()
        if any(part.extra for part in parts):
            extra = tuple(about for part in parts for about in part.extra or ({},) * len(part))
        return cls(
            first.height,
            first.width,
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([[0], *(part.offsets[1:] + shift for part, shift in zip(parts, shifts))]).astype(np.int64),
            np.concatenate([part.predicted_iou for part in parts]),
            np.concatenate([part.stability_score for part in parts]),
            extra,
        )

    def select(self, indices) -> Masks:
        """The masks of the given indices (int array or bool K), in that order."""
        indices = np.arange(len(self))[indices]
        runs = self._runs(indices)
        return Masks(
            self.height,
            self.width,
            self.starts[runs],
            self.ends[runs],
            np.concatenate([[0], np.cumsum(np.diff(self.offsets)[indices])]).astype(np.int64),
            self.predicted_iou[indices],
            self.stability_score[indices],
            tuple(self.extra[i] for i in indices) if self.extra else (),
        )

    # --- asking -----------------------------------------------------------------------------------------------

    @cached_property
    def categories(self) -> tuple[str | None, ...]:
        """For each mask the name of the class that its prompt stood for, or None."""
        return tuple(about.get("category") for about in self.extra) if self.extra else (None,) * len(self)

    @cached_property
    def scores(self) -> np.ndarray:
        """float64 K: how sure the network was of the category, in 0..1; NaN for masks without one."""
        return np.array([about.get("score", np.nan) for about in self.extra] or [np.nan] * len(self), np.float64)

    @property
    def prompts(self) -> tuple[str | None, ...]:
        """For each mask what it was asked by (``cam``, ``tags``, ``points``, ``boxes``), or None."""
        return tuple(about.get("prompt") for about in self.extra) if self.extra else (None,) * len(self)

    def with_classes(self, names: Sequence[str]) -> Masks:
        """The same masks, whose `classes` know which label value a category is.

        Args:
            names: of all classes, background first.

        Raises:
            InputError: for a category that is not among them.
        """
        unknown = {name for name in self.categories if name is not None} - set(names[1:])
        if unknown:
            raise InputError(
                f"the masks carry the category {sorted(unknown)[0]!r}, which is not a class here ({', '.join(names[1:])}); "
                "give the --class-names that the masks were made with"
            )
        extra = (
            {**about, "class": names.index(name)} if name else about for about, name in zip(self.extra, self.categories)
        )
        return replace(self, extra=tuple(extra))

    @cached_property
    def classes(self) -> np.ndarray:
        """int64 K: the label value of each mask's category, -1 for masks without one; see `with_classes`."""
        return np.array([about.get("class", -1) for about in self.extra] or [-1] * len(self), np.int64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @cached_property
    def areas(self) -> np.ndarray:
        """int64 K: pixels of each mask."""
        return self._sum_runs(self.ends - self.starts)

    @cached_property
    def boxes(self) -> np.ndarray:
        """int64 Kx4: x, y, width, height of the tight box; zeros for an empty mask."""
        result = np.zeros((len(self), 4), np.int64)
        filled = np.diff(self.offsets) > 0
        if not filled.any():
            return result
        first = self.offsets[:-1][filled]
        last_column = (self.ends - 1) // self.height
        # A run that crosses into the next column touches the bottom of one and the top of the other.
        crosses = self.starts // self.height != last_column
        top = np.minimum.reduceat(np.where(crosses, 0, self.starts % self.height), first)
        bottom = np.maximum.reduceat(np.where(crosses, self.height - 1, (self.ends - 1) % self.height), first)
        left = self.starts[first] // self.height
        right = last_column[self.offsets[1:][filled] - 1]
        result[filled] = np.stack([left, top, right - left + 1, bottom - top + 1], axis=1)
        return result

    def overlaps(self, label: np.ndarray, classes) -> np.ndarray:
        """|P_c & M_k| for every mask and every given class.

        Args:
            label: uint8 HxW.
            classes: label values.

        Returns:
            int64 K x len(classes).
        """
        flat = self._flat(label)
        result = np.empty((len(self), len(classes)), np.int64)
        for column, value in enumerate(classes):
            # An image of one row, whose integral is the prefix sum; twice as fast as numpy's from bytes.
            prefix = cv2.integral((flat == value).view(np.uint8)[None])[1]
            # All runs are inside the image; clipping spares the search for those that are not.
            inside = prefix.take(self.ends, mode="clip") - prefix.take(self.starts, mode="clip")
            result[:, column] = self._sum_runs(inside)
        return result

    def sums(self, values: np.ndarray) -> np.ndarray:
        """float64 K: the sum of a map (any number type, HxW) inside each mask, for soft CAMs."""
        prefix = np.zeros(self.height * self.width + 1)
        np.cumsum(self._flat(values), dtype=np.float64, out=prefix[1:])
        return self._sum_runs(prefix[self.ends] - prefix[self.starts])

    def union(self, indices=None) -> np.ndarray:
        """bool HxW: pixels in at least one of the given masks (default: all)."""
        runs = self._runs(np.arange(len(self)) if indices is None else np.arange(len(self))[indices])
        return self._shape(self._cover(self.starts[runs], self.ends[runs], np.int32(1)) > 0)

    def dense(self, k: int) -> np.ndarray:
        """bool HxW: mask k."""
        runs = slice(self.offsets[k], self.offsets[k + 1])
        starts, ends = self.starts[runs], self.ends[runs]
        bounds = np.empty(2 * len(starts) + 2, np.int64)
        bounds[0], bounds[-1] = 0, self.height * self.width
        bounds[1:-1:2], bounds[2:-1:2] = starts, ends
        lengths = np.diff(bounds)
        return self._shape(np.repeat((np.arange(len(lengths)) & 1).astype(bool), lengths))

    def unions(self, groups: np.ndarray, count: int) -> list[np.ndarray]:
        """For each of ``count`` groups of masks, bool HxW: pixels in at least one of its masks.

        Args:
            groups: int K in 0..count - 1, the group of each mask.
        """
        result = []
        # Several groups are counted in one pass, each in bits of its own that all masks together cannot overflow.
        bits = max(1, len(self).bit_length())
        several = max(1, 30 // bits)
        for first in range(0, count, several):
            counted = groups // several == first // several
            weights = np.where(counted, 1 << bits * (groups % several), 0).astype(np.int32)
            counts = self._cover(self.starts, self.ends, np.repeat(weights, np.diff(self.offsets)))
            for place in range(min(several, count - first)):
                result.append(self._shape(counts & np.int32(((1 << bits) - 1) << (bits * place)) != 0))
        return result

    @cached_property
    def atoms(self) -> Atoms:
        """The image cut along every mask border: pixels in the same masks share an atom."""
        size = self.height * self.width
        positions = np.unique(np.concatenate([[0, size], self.starts, self.ends]))
        # A random 64-bit word per mask, added where it starts and taken off where it ends, sums to a word that
        # stands for the set of covering masks; the seed is fixed, so that atoms are the same every time.
        words = np.random.default_rng(0x5A11).integers(1, 2**63, len(self), dtype=np.uint64)
        words = np.repeat(words, np.diff(self.offsets))
        change = np.zeros(len(positions), np.uint64)
        np.add.at(change, np.searchsorted(positions, self.starts), words)
        np.subtract.at(change, np.searchsorted(positions, self.ends), words)
        lengths = np.diff(positions)
        _, first, atom = np.unique(np.cumsum(change, dtype=np.uint64)[:-1], return_index=True, return_inverse=True)
        membership = np.zeros((len(first), len(self)), bool)
        for k in range(len(self)):
            runs = slice(self.offsets[k], self.offsets[k + 1])
            run = np.searchsorted(self.starts[runs], positions[first], "right") - 1
            membership[:, k] = (run >= 0) & (positions[first] < np.append(self.ends[runs], 0)[run])
        return Atoms(self._shape(np.repeat(atom.astype(np.int32), lengths)), membership)

    def counts(self) -> list[str]:
        """COCO's compressed run-length codes, one per mask."""
        return encode_counts(self.starts, self.ends, self.offsets, self.height * self.width)

    # --- inside -----------------------------------------------------------------------------------------------

    def _flat(self, values: np.ndarray) -> np.ndarray:
        if values.shape != self.shape:
            raise ValueError(f"map of shape {values.shape} with masks of shape {self.shape}")
        return values.ravel(order="F")

    def _shape(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(self.height, self.width, order="F")

    def _sum_runs(self, values: np.ndarray) -> np.ndarray:
        result = np.zeros(len(self), values.dtype)
        filled = np.diff(self.offsets) > 0
        if filled.any():
            result[filled] = np.add.reduceat(values, self.offsets[:-1][filled])
        return result

    def _runs(self, indices: np.ndarray) -> np.ndarray:
        lengths = np.diff(self.offsets)[indices]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.repeat(self.offsets[:-1][indices], lengths) + within

    def _cover(self, starts: np.ndarray, ends: np.ndarray, weights) -> np.ndarray:
        """int H*W: for each position the sum of the weights (one a run or one for all, whose dtype it has)."""
        change = np.zeros(self.height * self.width + 1, weights.dtype)
        np.add.at(change, starts, weights)
        np.subtract.at(change, ends, weights)
        return np.cumsum(change[:-1], dtype=change.dtype, out=change[:-1])
