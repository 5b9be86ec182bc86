"""COCO's run-length codes of masks, compressed and plain; decoded many at once, without a loop per mask."""

from __future__ import annotations

import numpy as np

from util.runtime.errors import InputError


def decode_counts(counts: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
            raise InputError(f"the code of mask {number} is not a list of run lengths; make the file again")
        half, odd = divmod(len(code), 2)
        pairs = np.array(code[: 2 * half], np.int64).reshape(-1, 2)
        parts.append((*pairs.T, np.array([half], np.int64), np.array([code[-1] if odd else 0], np.int64)))
    off, on, rows, tails = map(np.concatenate, zip(*parts, strict=True))
    return off, on, rows, tails


def _decode_compressed(codes: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # COCO's code: 5 bits a character, least significant first, 0x20 = more to come, 0x10 of the last = sign; from the
    # fourth number on, differences to the number two before.
    try:
        codes = [code.encode("ascii") if isinstance(code, str) else code for code in codes]
    except UnicodeEncodeError:
        raise InputError(
            "a run-length code holds characters that are not of COCO's format; make the file again"
        ) from None
    sizes = np.array([len(code) for code in codes], np.int64)
    value = np.frombuffer(b"".join(codes), np.uint8) - np.uint8(48)  # what lies below 48 wraps to above 63
    more = value >= 32
    code_ends = np.cumsum(sizes)
    if (value > 63).any() or more[code_ends[sizes > 0] - 1].any():
        raise InputError(
            "a run-length code is cut short or holds characters that are not of COCO's format; make it again"
        )
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
    off[heads] = 0  # the first run does not precede another
    for column in (off, on):
        column[heads[1:]] -= np.add.reduceat(column, heads)[:-1]  # so that each code's sums start again
        np.cumsum(column, out=column)
    tails[odd & some] += off[row_ends[odd & some] - 1]
    off[heads] = first_run
    return off, on, rows, tails


def encode_counts(starts: np.ndarray, ends: np.ndarray, offsets: np.ndarray, size: int) -> list[str]:
    """COCO's compressed codes of the runs of `util.data.masks.Masks`, one per mask of ``size`` pixels."""
    codes = []
    for first, last in zip(offsets[:-1], offsets[1:], strict=True):
        bounds = np.empty(2 * (last - first) + 2, np.int64)
        bounds[0], bounds[-1] = 0, size
        bounds[1:-1:2], bounds[2:-1:2] = starts[first:last], ends[first:last]
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
