"""The menu of narrow screens, which covers the page: it closes after a choice."""

from __future__ import annotations

import streamlit as st

_NARROW = 768  # pixels; below this Streamlit lays the menu over the page

_SCRIPT = f"""
const close = (event) => {{
  const chosen = event.target.closest("[data-testid=stSidebarNavLink], [role=option]");
  if (!chosen || window.innerWidth >= {_NARROW}) return;
  // After the click has done what it is for.
  setTimeout(() => document.querySelector("[data-testid=stSidebarCollapseButton] button")?.click(), 150);
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
