"""How the pages look: light or dark, and the styles that Streamlit leaves to us."""

from __future__ import annotations

import streamlit as st
from streamlit import config

THEMES = ("auto", "light", "dark")
PRIMARY = {"light": "#175b73", "dark": "#4aa8c7"}

STYLE = """<style>
[data-testid=stMainBlockContainer] { padding-top: 4.2rem; padding-bottom: 3rem; }
@media (min-width: 769px) { [data-testid=stMainBlockContainer] { padding-left: 3rem; padding-right: 3rem; } }
/* Grids of images and numbers: two in a row on narrow screens, whatever their rows are on wide ones. */
@media (max-width: 768px) {
  [class*=st-key-grid] { flex-direction: row !important; flex-wrap: wrap; }
  [class*=st-key-grid] > div, [class*=st-key-grid] [data-testid=stHorizontalBlock] { display: contents; }
  [class*=st-key-grid] [data-testid=stColumn] { flex: none; width: calc(50% - .5rem); min-width: 0; }
}
/* Room for the path of a checkpoint. */
[data-testid=stSidebar] [data-testid=stSelectbox] input { font-size: .8rem !important; text-overflow: ellipsis; }
[class*=st-key-wide] { overflow-x: auto; }
[class*=st-key-hover] { position: absolute; } /* nothing to see, and so no gap */
pre code { white-space: pre-wrap !important; overflow-wrap: anywhere; }
.st-key-download-all button { color: light-dark(white, #10222a); } /* the dark theme's button is light */
.st-key-view button { padding: .25rem .6rem; }
@media (max-width: 768px) { .st-key-view button { padding: .25rem .38rem; } .st-key-view button p { font-size: .78rem; } }
h1 { font-size: 1.9rem !important; padding: 0 0 .4rem !important; }
h2 { font-size: 1.5rem !important; } h3 { font-size: 1.2rem !important; }
table.legend { border-collapse: collapse; width: 100%; max-width: 26rem; font-size: .9rem; }
table.legend th { text-align: left; font-weight: 400; padding: .15rem .4rem .15rem 0; }
table.legend td { text-align: right; padding: .15rem 0 .15rem .8rem; font-variant-numeric: tabular-nums; }
table.legend thead th { opacity: .75; } table.legend thead th:not(:first-child) { text-align: right; }
.swatch { display: inline-block; width: .8rem; height: .8rem; margin-right: .5rem; border-radius: .2rem;
          border: 1px solid rgba(128,128,128,.6); vertical-align: -.05rem; }
table.facts { border-collapse: collapse; font-size: .9rem; }
table.facts th { text-align: left; font-weight: 400; opacity: .75; padding: .1rem 1rem .1rem 0; vertical-align: top; }
ul.palette { list-style: none; margin: 0; padding: 0; font-size: .9rem; columns: 9rem auto; }
[data-testid=stCaptionContainer], [data-testid=stImageCaption] { color: inherit; opacity: .85; }
[data-testid=stFileUploaderDropzoneInstructions] { display: none; } /* the label says it in plain words */
.scale { font-size: .8rem; font-variant-numeric: tabular-nums; }
.scale .bar { height: .6rem; border-radius: .3rem; }
.scale .numbers { display: flex; justify-content: space-between; }
[data-testid=stFileChips] > div:first-child { max-height: 6.2rem !important; }  /* keeps the result in sight */
/* Why a file was refused, which Streamlit shows to screen readers and on hover only. */
[data-testid=stFileChip] { flex-wrap: wrap; }
[data-testid=stFileChip] [role=alert] { position: static !important; clip: auto !important; width: 100% !important;
                                        height: auto !important; margin: 0 !important; font-size: .8rem; }
/* Thumbnails: one row that scrolls sideways. */
[class*=st-key-gallery] [role=radiogroup] { flex-wrap: nowrap; overflow-x: auto; padding: 3px 3px .6rem; }
[class*=st-key-gallery] button[role=radio] { flex: none; height: auto; padding: .25rem; border-radius: .5rem; }
[class*=st-key-gallery] button[role=radio][aria-checked=true] { outline: 2px solid currentColor; outline-offset: -1px; }
[class*=st-key-gallery] button p { display: flex; flex-direction: column; align-items: center; gap: .2rem;
                                   font-size: .78rem; max-width: 7.5rem; overflow: hidden; white-space: nowrap; }
[class*=st-key-gallery] button img { height: 4rem !important; max-height: none !important; max-width: 7.5rem;
                                     object-fit: cover; border-radius: .3rem; display: block; margin: 0; }
</style>"""


def ink() -> str:
    """The colour of texts in charts: what Streamlit gives them is too pale in the light theme."""
    return "#e8e6e3" if st.context.theme.type == "dark" else "#3b3f46"


def choose(theme: str) -> None:
    """Set the theme for all pages: ``light``, ``dark``, or ``auto`` for what the visitor's browser prefers.

    To be called before the server shows a page. Streamlit's own --theme.base does not reach the two themes of config.toml.
    """
    if theme == "auto":
        return
    config.set_option("theme.base", theme)
    config.set_option("theme.primaryColor", PRIMARY[theme])
    for other in PRIMARY:
        config.set_option(f"theme.{other}.primaryColor", None)
