"""What the pages show: encoded images, thumbnails, legends as HTML, archives."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from util.data.labels import encode_label
from util.data.voc import ClassTable

if TYPE_CHECKING:
    from Web_demo.src.model.inference import Found


def encode(image: np.ndarray, format: str = "JPEG") -> bytes:
    """uint8 HxWx3 as the bytes of a JPEG or PNG file."""
    buffer = io.BytesIO()
    options = {"quality": 92} if format == "JPEG" else {"compress_level": 1}
    Image.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()


def inline(data: bytes) -> str:
    """A JPEG or PNG file as an address that holds the image itself.

    So the server keeps no copy of what a visitor looks at, and an image that was just replaced is not asked for in vain.
    """
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def thumbnail(image: np.ndarray, height: int = 96) -> str:
    """uint8 HxWx3 as Markdown for a button: a small JPEG of that height, at most twice as wide, cut to its middle."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    small = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA)
    left = max(0, (width - 2 * height) // 2)
    small = small[:, left : left + 2 * height]
    return f"![]({inline(encode(np.ascontiguousarray(small)))})"


def enlarged(label: np.ndarray, full_size: tuple[int, int]) -> np.ndarray:
    """A label map (uint8 HxW) at ``full_size`` (height, width)."""
    if label.shape == full_size:
        return label
    return cv2.resize(label, full_size[::-1], interpolation=cv2.INTER_NEAREST)


def label_file(label: np.ndarray, palette: np.ndarray, full_size: tuple[int, int]) -> bytes:
    """The bytes of a palette PNG of a label map (uint8 HxW), enlarged to ``full_size`` (height, width)."""
    return encode_label(enlarged(label, full_size), palette)


def json_file(content: dict) -> bytes:
    """The bytes of a JSON file without spaces."""
    return json.dumps(content, separators=(",", ":")).encode()


def with_colors(classes: ClassTable, chosen: Mapping[str, str]) -> ClassTable:
    """The classes, some of them in other colours: name -> ``#rrggbb``."""
    colors = [
        hex_color(chosen[name]) if name in chosen else color for name, color in zip(classes.names, classes.colors)
    ]
    return ClassTable(classes.names, tuple(colors))


def hex_color(text: str) -> tuple[int, int, int]:
    """``#rrggbb`` as a triple."""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def confidence_map(confidence: np.ndarray) -> np.ndarray:
    """uint8 HxWx3: dark violet for 0 %, yellow for 100 % (viridis)."""
    return cv2.applyColorMap(confidence, cv2.COLORMAP_VIRIDIS)[:, :, ::-1]


def without(label: np.ndarray, classes: Iterable[int]) -> np.ndarray:
    """The label with some of its classes turned into background."""
    table = np.arange(256, dtype=np.uint8)
    table[list(classes)] = 0
    return table[label]


def archive(files: Mapping[str, bytes]) -> bytes:
    """The bytes of a ZIP archive of name -> content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # images are compressed already
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def plain(text: object) -> str:
    """Text that Streamlit's Markdown shows as it stands, whatever it contains."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text))


def legend(found: Iterable[Found], classes: ClassTable, hidden: Iterable[int] = ()) -> str:
    """The classes of an image as an HTML table: colour, name, share, confidence."""
    rows = []
    for entry in found:
        red, green, blue = classes.colors[entry.index]
        name = html.escape(classes.names[entry.index])
        share = f"{100 * entry.share:.1f} %" if entry.share >= 0.0005 else "&lt; 0.1 %"
        note = " (not shown)" if entry.index in set(hidden) else ""
        rows.append(
            f'<tr><th scope="row"><span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
            f"{name}{note}</th><td>{share}</td><td>{100 * entry.confidence:.0f} %</td></tr>"
        )
    head = '<tr><th scope="col">Class</th><th scope="col">Share</th><th scope="col">Confidence</th></tr>'
    return f'<table class="legend"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def palette_list(classes: ClassTable) -> str:
    """All classes and their colours, as an HTML list."""
    rows = "".join(
        f'<li><span class="swatch" style="background:rgb({red},{green},{blue})"></span>{html.escape(name)}</li>'
        for name, (red, green, blue) in zip(classes.names, classes.colors)
    )
    return f'<ul class="palette">{rows}</ul>'


def fact_table(facts: Mapping[str, str]) -> str:
    """Names and what is known of them, as an HTML table."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(text)}</td></tr>' for name, text in facts.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def describe(found: Iterable[Found], classes: ClassTable) -> str:
    """The classes in words, for those who do not see the image."""
    parts = [f"{classes.names[entry.index]} {100 * entry.share:.0f} %" for entry in found]
    return ", ".join(parts)


def scale_bar() -> str:
    """The legend of the confidence map, as HTML."""
    colors = confidence_map(np.linspace(0, 255, 9).astype(np.uint8)[None])[0]
    stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in colors)
    numbers = "".join(f"<span>{number} %</span>" for number in (0, 25, 50, 75, 100))
    return (
        f'<div class="scale"><div>Confidence</div><div class="bar" style="background:linear-gradient(90deg,{stops})">'
        f'</div><div class="numbers">{numbers}</div></div>'
    )
