"""The page: one HTML text with its style and script, and the policy that allows the browser to run only them."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent / "page"
# One script in this order; each part but the last only defines functions.
_SCRIPTS = ("dom.js", "state.js", "list.js", "picture.js", "pairs.js", "tree.js", "rate.js", "main.js")


@functools.cache
def page() -> tuple[str, str]:
    """The page and its Content-Security-Policy: nothing is loaded from elsewhere, and only the script and the style
    whose hashes it names are run."""
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    script = '"use strict";\n' + "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    html = (_FOLDER / "page.html").read_text(encoding="utf-8")
    html = html.replace("/* style.css */", style).replace("/* script */", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",  # the empty icon
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",  # text cannot become an element
    }
    return html, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str) -> str:
    """The CSP source that matches an inline element with exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
