"""Build the site from the same files that GitHub shows, and check it.

    uv run --group docs python docs/build.py        # build/site/index.html is the start page

README.md and its neighbours and docs/ are copied to build/pages, in the layout that they have here, so a relative link
leads to the same page in both places; the notebook becomes a page of Markdown. Zensical builds them after mkdocs.yml.
Exit code 1 if it warns of anything, or if a built page has a link, an anchor or an image that leads nowhere, has a list
that ran into its paragraph, or loads anything from another host.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
PAGES, SITE = ROOT / "build/pages", ROOT / "build/site"
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
NOTEBOOK = "python.ipynb"
GOOD = re.compile(r"Build started|Build finished in [\d.]+m?s|No issues found|\s*")  # all that a good log has
LEFT = re.compile(r"\*\*|\]\(|[.:)] (-|\d+\.) $")  # markup in a text: a list or a link that is none to Python-Markdown
VERBATIM = ("code", "pre", "script", "style")
LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}


class Page(HTMLParser):
    """What a built page leads to and what it loads.

    Attributes:
        anchors: the ids of its elements.
        links: the targets of its links and of what it loads.
        loaded: the targets of what a browser fetches by itself.
        title: whether it has a heading of the first order.
        left: texts with markup that was not understood.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.title = False
        self.left: list[str] = []
        self._verbatim = 0  # how many elements deep inside code
        self.feed(path.read_text())

    def handle_data(self, data: str) -> None:
        if not self._verbatim and LEFT.search(data):
            self.left.append(data.strip()[-60:])

    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in VERBATIM

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        self.title |= tag == "h1"
        self._verbatim += tag in VERBATIM
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in LOADS and LOADS[tag] in values and values.get("rel") != "canonical":
            self.links.append(values[LOADS[tag]])
            self.loaded.append(values[LOADS[tag]])


def stage() -> None:
    """Copy the pages to build/pages."""
    shutil.rmtree(PAGES.parent, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES / "docs", ignore=shutil.ignore_patterns("*.py", "*.ipynb", "__pycache__"))
    for name in OUTSIDE:
        shutil.copy(ROOT / name, PAGES / name)
    notebook = json.loads((ROOT / "docs" / NOTEBOOK).read_text())
    (PAGES / "docs" / NOTEBOOK).with_suffix(".ipynb.md").write_text("\n\n".join(map(markdown, notebook["cells"])))
    for page in PAGES.rglob("*.md"):
        page.write_text(page.read_text().replace(f"{NOTEBOOK})", f"{NOTEBOOK}.md)"))


def markdown(cell: dict[str, object]) -> str:
    """A cell of a notebook, stored without results, as Markdown."""
    source = cell["source"]
    text = "".join(source) if isinstance(source, list) else str(source)
    return f"```python\n{text}\n```" if cell["cell_type"] == "code" else text


def build() -> bool:
    """Run Zensical; whether its log has nothing to say (`--strict` lets some faults of the reference pass)."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    log = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    print(log, end="")
    return done.returncode == 0 and all(GOOD.fullmatch(line) for line in log.splitlines())


def faults_of_pages() -> Iterator[str]:
    """What is wrong with the built pages."""
    pages = {path.resolve(): Page(path) for path in SITE.rglob("*.html")}
    for path, page in pages.items():
        name = path.relative_to(SITE.resolve())
        if not page.title:
            yield f"{name}: no title"
        yield from (f"{name}: markup was not understood in '{text}'" for text in page.left)
        yield from (f"{name}: loads {target}" for target in page.loaded if urlsplit(target).netloc)
        if name.name == "404.html":  # served at any address, so its links are absolute
            continue
        for link in page.links:
            place = urlsplit(link)
            if place.scheme or place.netloc:
                continue
            target = (path.parent / unquote(place.path)).resolve() if place.path else path
            if not target.is_file():
                yield f"{name}: {link} leads nowhere"
            elif place.fragment and target in pages and unquote(place.fragment) not in pages[target].anchors:
                yield f"{name}: {link} has no such anchor"
    for sheet in SITE.rglob("*.css"):
        yield from (f"{sheet.name}: loads {url}" for url in re.findall(r"url\(['\"]?(https?:[^)]*)", sheet.read_text()))


def main() -> int:
    stage()
    faults = list(faults_of_pages()) if build() else ["see Zensical's log above"]
    print("\n".join(faults) or f"{sum(1 for _ in SITE.rglob('*.html'))} pages in {SITE.relative_to(ROOT)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
