"""Class and confidence under the mouse or finger, read from the result's own pixels."""

from __future__ import annotations

import numpy as np
import streamlit as st

from util.data.voc import ClassTable
from Web_demo.src.utils.render import encode, inline

_LARGEST = 800  # pixels of the long side of what is sent to the page

_STYLE = """
.tip { position: fixed; z-index: 1000000; pointer-events: none; padding: .15rem .5rem; border-radius: .3rem;
       font: .85rem/1.4 var(--st-font, sans-serif); white-space: nowrap; color: #fff; background: #1f2328;
       border: 1px solid #8b949e; }
.tip[hidden] { display: none; }
"""

_SCRIPT = """
export default function ({ data, parentElement }) {
  const tip = parentElement.querySelector(".tip");
  const view = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const map = new Image();
  let ready = false;
  map.onload = () => {
    [view.canvas.width, view.canvas.height] = [map.naturalWidth, map.naturalHeight];
    view.drawImage(map, 0, 0);
    ready = true;
  };
  map.src = data.map;
  const hide = () => { tip.hidden = true; };
  const show = (event) => {
    const image = event.target.closest(`.st-key-${data.card} img`);
    if (!ready || !image) return hide();
    const box = image.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / box.width * view.canvas.width);
    const y = Math.floor((event.clientY - box.top) / box.height * view.canvas.height);
    if (x < 0 || y < 0 || x >= view.canvas.width || y >= view.canvas.height) return hide();
    const [value, confidence] = view.getImageData(x, y, 1, 1).data;
    tip.textContent = `${data.names[value] ?? value}, ${confidence} %`;
    tip.hidden = false;
    const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
  };
  // On the document, since Streamlit may put another element in the card's place.
  const page = document.documentElement;
  for (const kind of ["pointermove", "pointerdown"]) page.addEventListener(kind, show);
  page.addEventListener("pointerleave", hide);
  return () => {
    for (const kind of ["pointermove", "pointerdown"]) page.removeEventListener(kind, show);
    page.removeEventListener("pointerleave", hide);
  };
}
"""

_component = st.components.v2.component("hover", html="<div class=tip hidden></div>", css=_STYLE, js=_SCRIPT)


def hover_map(label: np.ndarray, confidence: np.ndarray) -> str:
    """Class and confidence (uint8 HxW each, 255 for 1) as an address that holds a PNG: class in red, per cent in green."""
    step = max(1, -(-max(label.shape) // _LARGEST))
    values = np.zeros((*label[::step, ::step].shape, 3), np.uint8)
    values[..., 0] = label[::step, ::step]
    values[..., 1] = (confidence[::step, ::step] * (100 / 255)).round()
    return inline(encode(values, "PNG"))


def hover(card: str, map_address: str, classes: ClassTable) -> None:
    """Show class and confidence wherever the pointer is over an image of a container.

    Args:
        card: key of the container.
        map_address: of `hover_map`.
        classes: their names.
    """
    _component(data={"card": card, "map": map_address, "names": list(classes.names)}, key=f"hover {card}")
