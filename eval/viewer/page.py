"""The viewer's page."""

from __future__ import annotations

import functools
from pathlib import Path

from aloe_jax.pages.scripted import SHARED, Page, scripted_page

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("ask.js", "state.js", "list.js", "picture.js", "pairs.js", "tree.js", "rate.js", "personas.js", "main.js")


@functools.cache
def page() -> Page:
    """The page with its policy."""
    scripts = [SHARED / "dom.js", SHARED / "place.js", *(_FOLDER / name for name in _SCRIPTS)]
    return scripted_page(_FOLDER / "page.html", [SHARED / "base.css", _FOLDER / "style.css"], scripts)
