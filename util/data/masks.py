"""Class-agnostic masks of an image, kept run-length coded from the file to the answer.

A run is a stretch of mask pixels in COCO's order: column by column, top to bottom. Areas and overlaps of all masks with
all classes come from prefix sums along that order, so no mask needs to be painted to be judged.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from util.runtime.errors import InputError
from util.runtime.files import check_id, parse_json, read_bytes, write_bytes

SUFFIXES = (".json", ".json.gz")  # of mask files
LARGEST_JSON = 256 << 20  # bytes that a compressed mask file may unpack to


@dataclass(frozen=True)
class Atoms:
    """Groups of pixels that lie in exactly the same masks.

    Attributes:
        index: int32 HxW, the atom of each pixel.
        membership: bool AxK, which masks an atom lies in; an atom in no mask has a row of False.
        areas: int64 A, pixels.
    """

    index: np.ndarray
    membership: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)


@dataclass(frozen=True)
class Masks:
    """K masks of one HxW image.

    Attributes:
        height, width: pixels.
        starts, ends: int64, the runs of all masks one after the other; a run covers the column-major positions
            ``start <= p < end``.
        offsets: int64 K + 1; mask k owns runs ``offsets[k]:offsets[k + 1]``.
        predicted_iou, stability_score: float64 K in 0..1, SAM's own estimates; NaN where the file has none.
        extra: one dict a mask with what else the file tells (``point_coords``, ``crop_box``).
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
            counts: one code a mask.

        Raises:
            InputError: naming the first code that is damaged or does not add up to height x width.
        """
        height, width = size
        off, on, rows, tails = _decode_counts(counts)
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

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @cached_property
    def areas(self) -> np.ndarray:
        """int64 K: pixels a mask."""
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
            # Runs lie inside the picture; to clip is to spare the search for those that do not.
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
        return self._paint(self.starts[runs], self.ends[runs])

    def dense(self, k: int) -> np.ndarray:
        """bool HxW: mask k."""
        runs = slice(self.offsets[k], self.offsets[k + 1])
        return self._paint(self.starts[runs], self.ends[runs], disjoint=True)

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

    def votes(self, weights: np.ndarray) -> np.ndarray:
        """float64 HxW: for each pixel the sum of the weights (float K) of the masks that cover it."""
        weights = np.repeat(np.asarray(weights, np.float64), np.diff(self.offsets))
        positions = np.concatenate([self.starts, self.ends, [0, self.height * self.width]])
        changes = np.concatenate([weights, -weights, [0.0, 0.0]])
        order = np.argsort(positions, kind="stable")
        positions = positions[order]
        level = np.cumsum(changes[order])
        return self._shape(np.repeat(level[:-1], np.diff(positions)))

    @cached_property
    def atoms(self) -> Atoms:
        """The image cut along every mask border: pixels in the same masks share an atom."""
        size = self.height * self.width
        positions = np.unique(np.concatenate([[0, size], self.starts, self.ends]))
        # A random 64-bit word a mask, added where it starts and taken off where it ends, sums to a word that
        # tells the set of covering masks; the seed is fixed, so that atoms are the same every time.
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
        areas = np.bincount(atom, weights=lengths, minlength=len(first)).astype(np.int64)
        return Atoms(self._shape(np.repeat(atom.astype(np.int32), lengths)), membership, areas)

    @cached_property
    def intersections(self) -> np.ndarray:
        """int64 KxK: pixels that two masks share; the diagonal holds the areas."""
        member = self.atoms.membership.astype(np.float64)
        return np.rint(member.T @ (member * self.atoms.areas[:, None])).astype(np.int64)

    def counts(self) -> list[str]:
        """COCO's compressed run-length codes, one a mask."""
        return _encode_counts(self)

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

    def _paint(self, starts: np.ndarray, ends: np.ndarray, disjoint: bool = False) -> np.ndarray:
        if not disjoint:
            return self._shape(self._cover(starts, ends, np.int32(1)) > 0)
        bounds = np.empty(2 * len(starts) + 2, np.int64)
        bounds[0], bounds[-1] = 0, self.height * self.width
        bounds[1:-1:2], bounds[2:-1:2] = starts, ends
        lengths = np.diff(bounds)
        return self._shape(np.repeat((np.arange(len(lengths)) & 1).astype(bool), lengths))

    def _cover(self, starts: np.ndarray, ends: np.ndarray, weights) -> np.ndarray:
        """int H*W: for each position the sum of the weights (one a run or one for all, whose dtype it has)."""
        change = np.zeros(self.height * self.width + 1, weights.dtype)
        np.add.at(change, starts, weights)
        np.subtract.at(change, ends, weights)
        return np.cumsum(change[:-1], dtype=change.dtype, out=change[:-1])


# --- run-length codes ---------------------------------------------------------------------------------------------


def _decode_counts(counts: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All codes, one after the other.

    Returns:
        int64 R, pixels off, and int64 R, pixels on, a row for each run of mask pixels; int64 K, how many of the rows each
        code has; int64 K, pixels off after its last run.
    """
    if all(isinstance(code, (str, bytes)) for code in counts):
        return _decode_compressed(counts)
    parts = []
    for number, code in enumerate(counts):
        if isinstance(code, (str, bytes)):
            parts.append(_decode_compressed([code]))
            continue
        valid = isinstance(code, (list, np.ndarray)) and all(type(v) is int or isinstance(v, np.integer) for v in code)
        if not valid or any(not 0 <= v < 2**40 for v in code):
            raise InputError(f"the code of mask {number} is no list of run lengths; make the file again")
        rows, odd = divmod(len(code), 2)
        pairs = np.array(code[: 2 * rows], np.int64).reshape(-1, 2)
        parts.append((*pairs.T, np.array([rows], np.int64), np.array([code[-1] if odd else 0], np.int64)))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _decode_compressed(codes: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # COCO's code: 5 bits a character, least significant first, 0x20 = more to come, 0x10 of the last = sign; from the
    # fourth number on, differences to the number two before.
    try:
        codes = [code.encode("ascii") if isinstance(code, str) else code for code in codes]
    except UnicodeEncodeError:
        raise InputError("a run-length code holds characters that COCO's format has not; make the file again") from None
    sizes = np.array([len(code) for code in codes], np.int64)
    value = np.frombuffer(b"".join(codes), np.uint8) - np.uint8(48)  # what lies below 48 wraps to above 63
    more = value >= 32
    code_ends = np.cumsum(sizes)
    if (value > 63).any() or more[code_ends[sizes > 0] - 1].any():
        raise InputError("a run-length code is cut short or holds characters that COCO's format has not; make it again")
    digits = value & 0x1F
    # What each character gives as the last of a number, whose sign it holds, with the one before that belongs to it.
    numbers = ((digits ^ 0x10).view(np.int8) - np.int8(0x10)).astype(np.int16)
    numbers[1:] = np.where(more[:-1], 32 * numbers[1:] + digits[:-1], numbers[1:])
    numbers = numbers.compress(~more).astype(np.int64)
    early = np.flatnonzero(more)
    # The few numbers of three and more characters take in the rest one by one.
    place = 2
    last = np.flatnonzero(more[:-2] & more[1:-1] & ~more[2:]) + 2
    which = last - np.searchsorted(early, last)
    while last.size:
        if place == 8:
            raise InputError(
                "a run-length code holds a number of more than 40 bits; the file is damaged, make it again"
            )
        numbers[which] = numbers[which] << 5 | digits[last - place]
        place += 1
        longer = (last >= place) & more[last - place]
        last, which = last[longer], which[longer]
    # An odd code ends with pixels off. What is left are pairs (off, on), in which differences run down two columns.
    number_ends = code_ends - np.searchsorted(early, code_ends)
    rows, odd = np.divmod(np.diff(number_ends, prepend=0), 2)
    odd = odd > 0
    tails = np.zeros(len(codes), np.int64)
    tails[odd] = numbers[number_ends[odd] - 1]
    paired = np.ones(len(numbers), bool)
    paired[number_ends[odd] - 1] = False
    off, on = numbers.compress(paired).reshape(-1, 2).T.copy()
    if not off.size:
        return off, on, rows, tails
    row_ends, some = np.cumsum(rows), rows > 0
    heads = (row_ends - rows)[some]
    first_run = off[heads]
    off[heads] = 0  # the first run is no one's predecessor
    for column in (off, on):
        column[heads[1:]] -= np.add.reduceat(column, heads)[:-1]  # so that each code's sums start again
        np.cumsum(column, out=column)
    tails[odd & some] += off[row_ends[odd & some] - 1]
    off[heads] = first_run
    return off, on, rows, tails


def _encode_counts(masks: Masks) -> list[str]:
    codes = []
    size = masks.height * masks.width
    for k in range(len(masks)):
        runs = slice(masks.offsets[k], masks.offsets[k + 1])
        starts, ends = masks.starts[runs], masks.ends[runs]
        bounds = np.empty(2 * len(starts) + 2, np.int64)
        bounds[0], bounds[-1] = 0, size
        bounds[1:-1:2], bounds[2:-1:2] = starts, ends
        lengths = np.diff(bounds)
        if lengths.size > 1 and lengths[-1] == 0:
            lengths = lengths[:-1]  # as pycocotools does: no empty run at the end
        numbers = lengths.copy()
        numbers[3:] -= lengths[1:-2]
        codes.append(_encode_numbers(numbers))
    return codes


def _encode_numbers(numbers: np.ndarray) -> str:
    characters, wanted = [], []
    rest, active = numbers.copy(), np.ones(len(numbers), bool)
    while active.any():
        low = rest & 0x1F
        rest = rest >> 5
        more = np.where(low & 0x10, rest != -1, rest != 0)
        characters.append((low | np.where(more, 0x20, 0)) + 48)
        wanted.append(active)
        active = active & more
    grid = np.stack(characters, axis=1).astype(np.uint8)
    return grid[np.stack(wanted, axis=1)].tobytes().decode("ascii")


# --- files --------------------------------------------------------------------------------------------------------


def read_masks(folder: str | os.PathLike, image_id: str, size: tuple[int, int] | None = None) -> Masks:
    """Read an image's masks in any known format.

    ``folder/<id>.json`` in SA-1B's format, the same compressed as ``folder/<id>.json.gz``, else a folder
    ``folder/<id>/`` of 0/255 PNG files, with the ``metadata.csv`` of segment-anything's ``amg.py`` where there is one.

    Args:
        size: (height, width) that the masks must have.

    Raises:
        InputError: if nothing is there, it is damaged, belongs to another image, or has another size.
    """
    path = masks_path(folder, image_id)
    return decode_masks(None if path.is_dir() else read_bytes(path), path, image_id, size)


def masks_path(folder: str | os.PathLike, image_id: str) -> Path:
    """Where an image's masks lie: a JSON file, plain or compressed, or a folder of PNG files.

    Raises:
        InputError: if there is none, or both files, of which one may be old.
    """
    check_id(image_id)
    files = [path for suffix in SUFFIXES if (path := Path(folder) / f"{image_id}{suffix}").is_file()]
    if len(files) > 1:
        raise InputError(f"{folder}: both {files[0].name} and {files[1].name} are there; delete the one that is old")
    if files:
        return files[0]
    if (pngs := Path(folder) / image_id).is_dir():
        return pngs
    names = ", ".join(f"{image_id}{suffix}" for suffix in SUFFIXES)
    raise InputError(
        f"{folder}: no masks for {image_id} (looked for {names} and the folder {image_id}/); "
        "make them with generate_sam_masks.py"
    )


def masks_bytes(path: Path) -> bytes:
    """The bytes that an image's masks are made of, for telling whether they changed."""
    if path.is_dir():
        return b"".join(read_bytes(file) for file in sorted(path.iterdir()) if file.suffix in (".png", ".csv"))
    return read_bytes(path)


def decode_masks(
    data: bytes | None, path: Path, image_id: str | None = None, size: tuple[int, int] | None = None
) -> Masks:
    """Masks from the bytes of a JSON file, plain or compressed, or from the folder ``path`` when ``data`` is None."""
    masks = _read_folder(path) if data is None else _parse_sa1b(_plain(data, path), path, image_id)
    if size is not None and masks is not None and masks.shape != tuple(size):
        raise InputError(
            f"{path}: masks of {masks.width}x{masks.height} pixels, but the label is {size[1]}x{size[0]}; "
            "make both from the same picture"
        )
    if masks is None:  # an empty folder says nothing of the size
        if size is None:
            raise InputError(f"{path}: the folder holds no mask; make it again")
        return Masks.from_dense(np.zeros((0, *size), bool))
    return masks


def _plain(data: bytes, path: Path) -> bytes:
    """The JSON of a mask file; compressed ones are told by their first bytes."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, LARGEST_JSON)
    except zlib.error as error:
        raise InputError(f"{path}: not a whole gzip file ({error}); make it again") from None
    if unpacker.unconsumed_tail:
        raise InputError(f"{path}: unpacks to more than {LARGEST_JSON >> 20} MiB, which no masks take; make it again")
    if not unpacker.eof or unpacker.unused_data:
        raise InputError(f"{path}: not a whole gzip file (its end is missing, or not its own); make it again")
    return plain


def repack(source: Path, target: Path) -> None:
    """Write the mask file ``source`` as ``target``, compressed or plain as its name says."""
    _write_json_bytes(target, _plain(read_bytes(source), source))


def _write_json_bytes(path: Path, data: bytes) -> None:
    # No time and no name inside, so that the same masks are the same bytes.
    write_bytes(path, gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)


def _parse_sa1b(data: bytes, path: Path, image_id: str | None) -> Masks:
    content = parse_json(data, path)
    try:
        image, annotations = content["image"], content["annotations"]
        height, width = int(image["height"]), int(image["width"])
        segmentations = [annotation["segmentation"] for annotation in annotations]
        codes = [segmentation["counts"] for segmentation in segmentations]
        sizes = {tuple(segmentation["size"]) for segmentation in segmentations}
        iou = [float(a.get("predicted_iou", np.nan)) for a in annotations]
        stability = [float(a.get("stability_score", np.nan)) for a in annotations]
        extra = [{key: a[key] for key in ("point_coords", "crop_box") if key in a} for a in annotations]
        owner = image.get("image_id")
        file_name = image.get("file_name")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: not in SA-1B's mask format ({type(error).__name__}: {error}); make it with generate_sam_masks.py"
        ) from None
    if not 0 < height * width <= 2**31 - 1 or height < 0:
        raise InputError(f"{path}: says the image is {width}x{height} pixels; the file is damaged, make it again")
    if sizes - {(height, width)}:
        others = ", ".join(sorted(map(str, sizes - {(height, width)})))[:200]
        raise InputError(f"{path}: image {height}x{width}, but masks of {others}; make the file again")
    # SA-1B itself numbers its images; there the file name tells.
    names = {str(owner), Path(str(file_name)).stem}
    if image_id is not None and (owner is not None or file_name) and image_id not in names:
        raise InputError(f"{path}: holds the masks of {owner!r}, not of {image_id!r}; put each file under its own id")
    try:
        return Masks.from_counts((height, width), codes, iou, stability, extra)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_folder(path: Path) -> Masks | None:
    files = sorted((f for f in path.iterdir() if f.suffix == ".png"), key=lambda f: (len(f.stem), f.stem))
    dense = []
    for file in files:
        try:
            with Image.open(file) as image:
                dense.append(np.asarray(image.convert("L")) > 127)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{file}: not a readable mask ({error}); make it again") from None
        if dense[-1].shape != dense[0].shape:
            raise InputError(f"{file}: differs in size from {files[0].name}; make the folder again")
    if not dense:
        return None
    scores = _amg_metadata(path / "metadata.csv")
    known = [scores.get(file.stem, (np.nan, np.nan)) for file in files]
    return Masks.from_dense(np.stack(dense), [k[0] for k in known], [k[1] for k in known])


def _amg_metadata(path: Path) -> dict[str, tuple[float, float]]:
    """id -> (predicted IoU, stability score), from the table that ``amg.py`` writes."""
    if not path.is_file():
        return {}
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(path).decode()))
        return {row["id"]: (float(row["predicted_iou"]), float(row["stability_score"])) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the metadata.csv of amg.py ({error}); make it again") from None


def write_masks(path: str | os.PathLike, masks: Masks, image_id: str, file_name: str) -> None:
    """Write masks as SA-1B JSON, atomically, compressed if ``path`` ends in ``.gz``; unknown scores are left out."""
    annotations = []
    for k, code in enumerate(masks.counts()):
        annotation = {
            "segmentation": {"size": [masks.height, masks.width], "counts": code},
            "bbox": [int(v) for v in masks.boxes[k]],
            "area": int(masks.areas[k]),
            **{
                name: float(values[k])
                for name, values in (
                    ("predicted_iou", masks.predicted_iou),
                    ("stability_score", masks.stability_score),
                )
                if not np.isnan(values[k])
            },
            **(masks.extra[k] if masks.extra else {}),
            "id": k,
        }
        annotations.append(annotation)
    image = {"image_id": image_id, "width": masks.width, "height": masks.height, "file_name": file_name}
    content = {"image": image, "annotations": annotations}
    _write_json_bytes(Path(path), json.dumps(content, separators=(",", ":")).encode())
