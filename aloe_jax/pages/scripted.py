"""Pages with a script: one HTML text with its style and script, and the policy under which the browser runs only
them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SHARED = Path(__file__).parent / "shared"  # styles, scripts and templates that several pages have in common


class Page(NamedTuple):
    """A page and its Content-Security-Policy: nothing is loaded from elsewhere, only the style and the script whose
    hashes the policy names are applied, and text cannot become an element."""

    html: str
    policy: str


def scripted_page(html: Path, styles: Sequence[Path], scripts: Sequence[Path]) -> Page:
    """The page of the file `html`, its `/* style.css */` and `/* script */` replaced by the styles and by the scripts
    as one. Each script but the last only defines functions."""
    style = "\n".join(path.read_text(encoding="utf-8") for path in styles)
    script = '"use strict";\n' + "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    text = html.read_text(encoding="utf-8").replace("/* style.css */", style).replace("/* script */", script)
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",  # the empty icon
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return Page(text, "; ".join(f"{name} {value}" for name, value in policy.items()))


def _hash(text: str) -> str:
    """The CSP source that matches an inline element with exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
