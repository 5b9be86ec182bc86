"""The web demo: its pages are Segment, Strategy lab and Results.

    streamlit run Web_demo/src/app.py
    streamlit run Web_demo/src/app.py -- --help

Streamlit imports this file once, when its server starts, and runs it again for every page that is shown.
"""

# ruff: noqa: E402 -- the project's root must be found before anything is imported from it

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # this file runs again at every click
    sys.path.insert(0, str(ROOT))

import streamlit as st
from streamlit import config
from streamlit.runtime.pages_manager import PagesManager
from streamlit.web.server.server_util import get_url

from util.runtime.errors import InputError
from Web_demo.src.utils import menu, options, theme


def arguments() -> list[str]:
    """The command line, the part after ``--``; under another program (a test, say) none of it is ours."""
    return sys.argv[1:] if Path(sys.argv[0]).resolve() == Path(__file__).resolve() else []


def prepare_server() -> None:
    """Check the options in the terminal, before there is a page to show them on."""
    args = options.parse_or_exit(arguments())
    theme.choose(args.theme)
    # Instead of Streamlit's greeting, which comes before the options are known to be right.
    print(f"The demo is at {get_url(str(config.get_option('server.address') or 'localhost'))}", flush=True)
    PagesManager.uses_pages_directory = False  # the folder pages/ is ours, not the one that Streamlit looks for


def show_text(text: str) -> None:
    """A page of plain text, where the options do not allow any other."""
    st.title("Segmentation demo")
    st.code(text, language=None, wrap_lines=True)


def show_pages() -> None:
    """Show the page that was asked for."""
    st.set_page_config("Segmentation demo", layout="wide")
    st.html(theme.STYLE)
    try:
        args = options.parse(arguments())
    except InputError as error:
        show_text(str(error))
        return
    if args.help:
        show_text(options.parser().format_help())
        return
    from Web_demo.src.pages.lab import page as lab
    from Web_demo.src.pages.results import page as results
    from Web_demo.src.pages.segment import page as segment

    def first() -> None:
        segment.show(args)

    pages = [
        st.Page(first, title="Segment", url_path="segment", default=True),
        st.Page(lambda: lab.show(args), title="Strategy lab", url_path="lab"),
        st.Page(lambda: results.show(args), title="Results", url_path="results"),
    ]
    page = st.navigation({"Segmentation demo": pages})
    menu.close_after_choice()
    if page is not pages[0]:
        segment.keep_choices()
    page.run()


if __name__ == "__main__":
    show_pages()
else:
    prepare_server()
    app = st.App(__file__)  # Streamlit looks for this very line
