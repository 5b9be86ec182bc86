"""Files to save. The page holds them itself, so that they are there whatever the server is doing.

Streamlit's own download button leaves the file with the server. It is dropped there while the visitor's page runs and the
pages of others come to their end, and a click at that moment is answered by 404.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass

import streamlit as st

_STYLE = """
.downloads { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; font-size: .875rem; }
button {
    display: flex; align-items: center; justify-content: center; gap: .5rem; min-height: 2.5rem; padding: .25rem .75rem;
    font: inherit; color: inherit; background: transparent; cursor: pointer;
    border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius, .5rem);
}
button:hover, button:focus-visible { color: var(--st-primary-color); border-color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
"""

_SCRIPT = """
const ICON = '<svg aria-hidden="true" width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" '
  + 'stroke-width="1.5"><path d="M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11"/></svg><span></span>';

function save({ name, kind, content }) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export default function ({ data, parentElement }) {
  const place = parentElement.querySelector(".downloads");
  if (data.started) {
    if (place.dataset.started !== data.started) {  // this runs again at every click on the page
      place.dataset.started = data.started;
      data.files.forEach(save);
    }
    return;
  }
  data.files.forEach((file, number) => {
    let button = place.children[number];
    if (!button) {
      button = place.appendChild(document.createElement("button"));
      button.type = "button";
      button.innerHTML = ICON;
    }
    button.lastChild.textContent = file.label;
    button.title = file.help;
    button.onclick = () => save(file);
  });
}
"""

_component = st.components.v2.component("downloads", html="<div class=downloads></div>", css=_STYLE, js=_SCRIPT)


@dataclass(frozen=True)
class Download:
    """A file to save.

    Attributes:
        label: of its button.
        name: of the file.
        kind: its MIME type.
        content: its bytes.
        help: a sentence shown while the mouse rests on the button.
    """

    label: str
    name: str
    kind: str
    content: bytes
    help: str = ""


def buttons(downloads: list[Download], key: str) -> None:
    """A button for each file, two in a row.

    Args:
        key: distinguishes these buttons from others on the page.
    """
    _component(data={"files": [_as_data(download) for download in downloads]}, key=key)


def start(download: Download, key: str) -> None:
    """Have the browser save the file now, once."""
    _component(data={"files": [_as_data(download)], "started": str(time.time_ns())}, key=key)


def _as_data(download: Download) -> dict[str, str]:
    return {**vars(download), "content": base64.b64encode(download.content).decode()}
