"""The menu of narrow screens, which covers the page: it closes after a choice."""

from __future__ import annotations

import streamlit as st

_NARROW = 768  # pixels; below this Streamlit lays the menu over the page

_SCRIPT = f"""
// Until it is closed: Streamlit draws the menu again while the page changes, and a click may meet a button that goes.
const shut = (tries) => {{
  const menu = document.querySelector("[data-testid=stSidebar]");
  if (!tries || menu?.dataset.collapsed === "true") return;
  menu?.querySelector("[data-testid=stSidebarCollapseButton] button")?.click();
  setTimeout(shut, 300, tries - 1);
}};

const close = (event) => {{
  const chosen = event.target.closest("[data-testid=stSidebarNavLink], [role=option]");
  // After the click has done what it is for.
  if (chosen && window.innerWidth < {_NARROW}) setTimeout(shut, 150, 10);
}};

export default function () {{
  document.addEventListener("click", close);  // the same function again is not added twice
  return () => document.removeEventListener("click", close);
}}
"""

_component = st.components.v2.component("menu", html="<span></span>", js=_SCRIPT)


def close_after_choice() -> None:
    """Have the menu close when a page or a model was chosen in it, on narrow screens."""
    with st.sidebar:
        _component(key="menu")
