"""A generated data set in VOC's layout, for trying the whole pipeline and for tests: no download, exact ground truth.

What makes weak supervision hard is in it on purpose:

- An object is a plain body with a small head. Two classes share a family of body colours and only the marks on the head
  distinguish them, so a classifier looks at the head: class activation maps are partial.
- Most objects stand on the ground of their class (a boat on water), so that the ground shows the class as well:
  activation leaks into the background.
- There is clutter, objects overlap, images show up to three classes.

Bodies differ from what surrounds them in colour, so that methods without a trained network can find their borders.
"""

from __future__ import annotations

import colorsys
import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from util.data.image_labels import write_image_labels
from util.data.labels import write_label
from util.data.layout import CLASS_FILE, IMAGES, LABELS, TAGS, write_lines, write_lists
from util.data.voc import class_table
from util.runtime.errors import InputError
from util.runtime.files import write_bytes
from util.runtime.ledger import Stage, describe_files, entry_is_current
from util.runtime.parallel import run_parallel

CLASSES = class_table(("background", "ringed", "spotted", "striped", "crossed", "checked", "starred"))

YELLOW, WHITE, BLACK = (250, 225, 60), (245, 245, 245), (25, 25, 30)
MARK_COLORS = (YELLOW, BLACK, WHITE, BLACK, YELLOW, WHITE)
# Hue in degrees of the bodies of classes 1 and 2, 3 and 4, 5 and 6.
BODY_HUES = ((5, 35), (275, 315), (165, 190))

GROUND_SHARE = 0.65  # of the objects stand on the ground of their class, the others on any or none
TWO_TONE_SHARE = 0.1  # of the objects have a head of another colour than the body
LEAST_CONTRAST = 70.0  # between a body and what surrounds it, Euclidean distance in RGB
LEAST_VISIBLE = 0.6  # of every object, in spite of those in front of it


def draw_picture(rng: np.random.Generator, height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """An image with one to three objects, and its label map.

    Args:
        rng: all that is random comes from it.
        height, width: in pixels, from 32 on; everything drawn scales with the short side.

    Returns:
        uint8 HxWx3 RGB, and uint8 HxW with the classes of `CLASSES`; every pixel is labelled exactly.
    """
    if min(height, width) < 32:
        raise InputError(f"a generated image of {width}x{height} pixels has no room for objects; ask for 32 or more")
    canvas = _Canvas(rng, height, width)
    objects = _place(rng, canvas, rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    for one in objects:
        canvas.ground(one)
    canvas.clutter()
    for one in objects:
        canvas.object(one)
    return canvas.finish(), canvas.label


# --- one image ----------------------------------------------------------------------------------------------------


@dataclass
class _Object:
    value: int
    x: float
    y: float
    length: float  # half axis of the body, pixels
    thickness: float
    angle: float
    head: float  # radius
    ground: int | None
    body_mask: np.ndarray
    head_mask: np.ndarray
    head_u: np.ndarray  # coordinates on the head in units of its radius
    head_v: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        return self.body_mask | self.head_mask


def _place(rng: np.random.Generator, canvas: _Canvas, count: int) -> list[_Object]:
    """Objects from back to front, every one visible well enough; at least one."""
    placed: list[_Object] = []
    for _ in range(60):
        if len(placed) == count:
            break
        value = int(rng.integers(1, len(CLASSES)))
        if placed and rng.random() < 0.15:
            value = placed[0].value
        one = _shape(rng, canvas, value)
        masks = [*(other.mask for other in placed), one.mask]
        in_front = np.zeros(canvas.label.shape, bool)
        visible = []
        for mask in reversed(masks):
            visible.append(int(np.count_nonzero(mask & ~in_front)) / max(int(np.count_nonzero(mask)), 1))
            in_front |= mask
        crowded = sum(np.count_nonzero(mask) for mask in masks) > 0.6 * canvas.label.size
        if min(visible) >= LEAST_VISIBLE and not (crowded and placed):
            placed.append(one)
    return placed


def _shape(rng: np.random.Generator, canvas: _Canvas, value: int) -> _Object:
    unit = canvas.unit
    length, thickness = unit * rng.uniform(24, 38), unit * rng.uniform(15, 23)
    head = unit * rng.uniform(12, 16)
    angle = rng.uniform(-0.6, 0.6) + (np.pi if rng.random() < 0.5 else 0)
    height, width = canvas.label.shape
    reach = 0.8 * length
    x = rng.uniform(min(reach, width / 2), max(width - reach, width / 2))
    y = rng.uniform(min(thickness, height / 2), max(height - thickness, height / 2))
    along = (canvas.xs - x) * np.cos(angle) + (canvas.ys - y) * np.sin(angle)
    across = -(canvas.xs - x) * np.sin(angle) + (canvas.ys - y) * np.cos(angle)
    power = rng.uniform(2, 3.5)
    body = np.abs(along / length) ** power + np.abs(across / thickness) ** power <= 1
    head_u, head_v = (along - 0.95 * length) / head, (across + 0.3 * thickness) / head
    on_head = head_u**2 + head_v**2 <= 1
    ground = value - 1 if rng.random() < GROUND_SHARE else int(rng.integers(-1, len(_GROUNDS)))
    return _Object(
        value, x, y, length, thickness, angle, head, None if ground < 0 else ground, body, on_head, head_u, head_v
    )


class _Canvas:
    """The image under work: float32 HxWx3 in 0..255, and its label."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng = rng
        self.unit = min(height, width) / 120
        self.ys, self.xs = (grid.astype(np.float32) for grid in np.mgrid[:height, :width])
        self.label = np.zeros((height, width), np.uint8)
        color = _color(rng.uniform(0, 360), rng.uniform(0.05, 0.2), rng.uniform(0.55, 0.8))
        self.pixels = color + 10 * self.noise(12)[..., None] + np.zeros(3, np.float32)

    def noise(self, sigma: float, stretch: float = 1.0) -> np.ndarray:
        """Smooth noise of deviation 1, float32 HxW; ``stretch`` makes it longer across than down."""
        white = self.rng.standard_normal(self.label.shape).astype(np.float32)
        across, down = (max(sigma * self.unit * factor, 0.3) for factor in (stretch, 1 / stretch))
        smooth = cv2.GaussianBlur(white, (0, 0), sigmaX=across, sigmaY=down, borderType=cv2.BORDER_REFLECT)
        return (smooth - smooth.mean()) / max(float(smooth.std()), 1e-6)

    def ground(self, one: _Object) -> None:
        """What the object stands on: a patch with a ragged border, below and beside it."""
        if one.ground is None:
            return
        half_width = one.length * self.rng.uniform(1.2, 1.7)
        half_height = one.thickness * self.rng.uniform(0.9, 1.3)
        x, y = one.x, one.y + 0.9 * one.thickness
        distance = ((self.xs - x) / half_width) ** 2 + ((self.ys - y) / half_height) ** 2
        inside = distance + 0.12 * self.noise(4) <= 1
        self.pixels[inside] = _GROUNDS[one.ground](self)[inside]

    def clutter(self) -> None:
        """Small things of no class."""
        for _ in range(int(self.rng.integers(3, 8))):
            color = self.rng.uniform(20, 235, 3).astype(np.float32)
            x, y = self.rng.uniform(0, self.label.shape[1]), self.rng.uniform(0, self.label.shape[0])
            first, second = self.unit * self.rng.uniform(2, 4), self.unit * self.rng.uniform(3, 11)
            angle = self.rng.uniform(0, np.pi)
            along = (self.xs - x) * np.cos(angle) + (self.ys - y) * np.sin(angle)
            across = -(self.xs - x) * np.sin(angle) + (self.ys - y) * np.cos(angle)
            if self.rng.random() < 0.5:
                inside = (along / second) ** 2 + (across / first) ** 2 <= 1
            else:
                inside = (np.abs(along) <= second) & (np.abs(across) <= first)
            self.pixels[inside] = color + 5 * self.noise(1)[inside][:, None]

    def object(self, one: _Object) -> None:
        """Body, head and the marks on it."""
        color = self._body_color(one)
        shade = 5 * self.noise(8) + 2 * self.noise(1)
        self.pixels[one.mask] = color + shade[one.mask][:, None]
        if self.rng.random() < TWO_TONE_SHARE:
            darker = 0.55 * color if color.mean() > 110 else np.minimum(1.5 * color + 25, 240)
            self.pixels[one.head_mask] = darker + shade[one.head_mask][:, None]
        marks = one.head_mask & _marks(one.value, one.head_u, one.head_v)
        tint = _rgb(*MARK_COLORS[one.value - 1]) + self.rng.uniform(-12, 12, 3).astype(np.float32)
        self.pixels[marks] = tint
        self.label[one.mask] = one.value

    def _body_color(self, one: _Object) -> np.ndarray:
        """A colour of the class's family that stands out from what is around the object."""
        low, high = BODY_HUES[(one.value - 1) // 2]
        around = cv2.dilate(one.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~one.mask
        surroundings = self.pixels[around] if around.any() else self.pixels.reshape(-1, 3)
        best, best_contrast = np.zeros(3, np.float32), -1.0
        for _ in range(30):
            color = _color(self.rng.uniform(low, high), self.rng.uniform(0.5, 0.9), self.rng.uniform(0.4, 0.95))
            # Nine tenths of the border must show; the rest may touch clutter of a similar colour.
            contrast = float(np.percentile(np.linalg.norm(surroundings - color, axis=1), 10))
            if contrast >= LEAST_CONTRAST:
                return color
            if contrast > best_contrast:
                best, best_contrast = color, contrast
        return best

    def finish(self) -> np.ndarray:
        """Light that falls unevenly, and the camera's noise; uint8 HxWx3."""
        angle = self.rng.uniform(0, 2 * np.pi)
        slope = (self.xs - self.xs.mean()) * np.cos(angle) + (self.ys - self.ys.mean()) * np.sin(angle)
        light = 1 + 0.12 * slope / np.abs(slope).max()
        noise = self.rng.standard_normal(self.pixels.shape).astype(np.float32)
        return np.clip(self.pixels * light[..., None] + 1.5 * noise, 0, 255).round().astype(np.uint8)


def _color(hue: float, saturation: float, value: float) -> np.ndarray:
    return _rgb(*(255 * part for part in colorsys.hsv_to_rgb(hue / 360, saturation, value)))


def _rgb(*parts: float) -> np.ndarray:
    return np.array(parts, np.float32)


def _marks(value: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """bool HxW: where the marks of a class lie, in units of the head's radius."""
    radius = np.hypot(u, v)
    if value == 1:
        return (radius > 0.4) & (radius < 0.72)
    if value == 2:
        return (np.abs(u / 0.62 - np.round(u / 0.62)) ** 2 + np.abs(v / 0.62 - np.round(v / 0.62)) ** 2) < 0.09
    if value == 3:
        return np.cos(2 * np.pi * u / 0.58) > 0.1
    if value == 4:
        return (np.minimum(np.abs(u + v), np.abs(u - v)) < 0.27) & (radius < 0.9)
    if value == 5:
        return ((np.floor(u / 0.45 + 0.5) + np.floor(v / 0.45 + 0.5)) % 2 == 0) & (radius < 0.95)
    return radius < 0.5 + 0.32 * np.cos(5 * np.arctan2(v, u))


# Grounds, one a class in its order: float32 HxWx3.


def _water(canvas: _Canvas) -> np.ndarray:
    waves = np.sin(canvas.ys / (1.6 * canvas.unit) + 1.5 * canvas.noise(6))
    return _rgb(55, 105, 175) + (14 * waves + 5 * canvas.noise(1))[..., None]


def _meadow(canvas: _Canvas) -> np.ndarray:
    return _rgb(95, 145, 55) + 16 * canvas.noise(1.2, 0.5)[..., None] * _rgb(1, 1, 0.6)


def _road(canvas: _Canvas) -> np.ndarray:
    return _rgb(75, 75, 82) + 7 * canvas.noise(0.5)[..., None]


def _sand(canvas: _Canvas) -> np.ndarray:
    return _rgb(220, 195, 130) + (6 * canvas.noise(3) + 8 * canvas.noise(0.6))[..., None]


def _snow(canvas: _Canvas) -> np.ndarray:
    return _rgb(228, 234, 246) + 5 * canvas.noise(4)[..., None]


def _bricks(canvas: _Canvas) -> np.ndarray:
    row, rest = np.divmod(canvas.ys, 6 * canvas.unit)
    joint = (rest < 1.3 * canvas.unit) | (
        (canvas.xs + 5 * canvas.unit * (row % 2)) % (11 * canvas.unit) < 1.3 * canvas.unit
    )
    return np.where(joint[..., None], _rgb(190, 180, 165), _rgb(150, 70, 55)) + 5 * canvas.noise(1)[..., None]


_GROUNDS = (_water, _meadow, _road, _sand, _snow, _bricks)


# --- the data set -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _DrawFiles:
    out: Path
    seed: int
    side: int

    def __call__(self, item: tuple[str, str, dict | None]) -> tuple[str, dict | None, tuple[int, ...]]:
        image_id, key, entry = item
        if entry and "tags" in entry and entry_is_current(entry, key, self.out):
            return image_id, None, tuple(entry["tags"])
        image, label = image_of(image_id, self.seed, self.side)
        paths = [self.out / IMAGES / f"{image_id}.jpg", self.out / LABELS / f"{image_id}.png"]
        buffer = io.BytesIO()
        # Small images: at the usual quality the codec would smear colours over the objects' borders.
        Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
        write_bytes(paths[0], buffer.getvalue())
        write_label(paths[1], label, CLASSES.palette)
        tags = tuple(int(value) for value in np.unique(label) if value)
        entry = {"id": image_id, "key": key, "files": describe_files(paths, self.out), "tags": list(tags)}
        return image_id, entry, tags


def image_of(image_id: str, seed: int = 0, side: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """The image and label map of an id: a function of the id, the seed and the size alone.

    Args:
        image_id: such as ``train_0003``.
        seed: of the data set.
        side: long side in pixels, at least 43; the short one is three quarters of it, most images are wide, some are tall.

    Returns:
        uint8 HxWx3 and uint8 HxW.
    """
    rng = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
    height, width = round(0.75 * side), side
    if rng.random() < 0.3:
        height, width = width, height
    return draw_picture(rng, height, width)


def write_data_set(
    out: str | os.PathLike,
    counts: dict[str, int],
    *,
    side: int = 160,
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Write a data set in VOC's layout; what is up to date stays.

    Writes ``JPEGImages/<id>.jpg``, ``SegmentationClassAug/<id>.png``, ``ImageSets/Segmentation/<list>.txt``,
    ``cls_labels.npy`` and ``cls_labels.csv`` (image-level labels of all lists), and ``class_names.txt``.

    Args:
        out: the folder.
        counts: list name -> number of images, for instance ``{"train": 200, "tune": 40, "val": 80}``. Ids are
            ``<list>_0000`` and so on: a longer list begins with the same images as a shorter one.
        side: long side of the images, pixels.
        seed: of everything.
        workers: processes that draw.

    Returns:
        id -> label values that occur, 1 to 6.

    Raises:
        InputError: for a count below 1, images too small, or a folder that cannot be written.
    """
    out = Path(out)
    if not counts or min(counts.values()) < 1:
        raise InputError(f"{counts}: every list of the generated data set needs at least one image")
    if side < 43:
        raise InputError(f"generated images of {side} pixels have no room for objects; ask for 43 or more")
    lists = {name: [f"{name}_{number:04}" for number in range(count)] for name, count in counts.items()}
    ids = [image_id for part in lists.values() for image_id in part]
    with Stage(out, {"side": side, "seed": seed}, code=[__file__], overwrite=overwrite) as stage:
        items = [(image_id, stage.key(image_id), stage.done.get(image_id)) for image_id in ids]
        tags = {}
        for image_id, entry, found in run_parallel(
            _DrawFiles(out, seed, side), items, workers=workers, description="images"
        ):
            tags[image_id] = found
            if entry:
                stage.note(entry)
        tags = {image_id: tags[image_id] for image_id in ids}
        write_lists(out, lists)
        write_image_labels(out / TAGS, tags, CLASSES)
        write_image_labels(out / "cls_labels.csv", tags, CLASSES)
        write_lines(out / CLASS_FILE, CLASSES.names)
        stage.finish()
    return tags
