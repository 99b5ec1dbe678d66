"""A page as a test reads it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "hr", "input", "link", "wbr"}
LOADING = {"src", "href", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href", "ping"}


class Page(HTMLParser):
    """Collects the page's elements, attributes and visible text, and checks that elements close in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.loads, self.open, self.words, self.styles = [], [], [], [], []
        self._within_word = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self._within_word = tag == "wbr"
        self.loads += [(tag, name, value) for name, value in attrs if name in LOADING or name.startswith("on")]
        self.styles += [value for name, value in attrs if name == "style"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.loads += [(tag, name, value) for name, value in attrs if name in LOADING or name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self._within_word:  # a place where a line may break
            self.words[-1] += data
        else:
            (self.styles if self.open and self.open[-1] == "style" else self.words).append(data)
        self._within_word = False

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    @property
    def self_contained(self):
        """Whether every element is closed and nothing is loaded or run."""
        runs = {"script", "link", "iframe", "object", "embed", "img", "base"} & set(self.elements)
        return not (self.open or self.loads or runs or re.search(r"url\(|@import|https?:", " ".join(self.styles)))
