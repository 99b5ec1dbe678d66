"""README, its neighbours and the guides: their links, and the options and settings they name, exist."""

import argparse
import re

import pytest
from ml_collections import ConfigDict

from aloe_jax.cli.experiment import experiment
from aloe_jax.cli.parser import make_parser
from helpers.aloe_command import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
(SUBPARSERS,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
OPTIONS = {
    name: {option for action in command._actions for option in action.option_strings} | {"--config"}
    for name, command in SUBPARSERS.choices.items()
}


def anchors(text):
    """The anchors that GitHub gives to the headings."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", prose, re.M)}


@EACH_PAGE
def test_links(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@EACH_PAGE
def test_options_of_commands(page):
    """An option behind `aloe COMMAND`, up to the end of the line or of the quotation, is one of that command."""
    text = page.read_text().replace("\\\n", " ")
    for command, rest in re.findall(rf"\baloe ({'|'.join(OPTIONS)})\b([^`|\n]*)", text):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest):
            assert option in OPTIONS[command], (command, option)


def test_every_command_and_option_is_documented():
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) | {"--help"}
    for command, options in OPTIONS.items():
        assert f"aloe {command}" in text, command
        assert not {option for option in options if option.startswith("--")} - named, command


def test_every_page_has_a_place_on_the_site():
    """`nav` of mkdocs.yml names each page once, and nothing else; the notebook is made a page by docs/build.py."""
    named = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(named) == sorted([str(page.relative_to(ROOT)) for page in PAGES] + ["docs/python.ipynb.md"])


def flat(settings, before=""):
    """The dotted names of all settings and sections."""
    for name, value in settings.items():
        yield before + name
        if isinstance(value, ConfigDict):
            yield from flat(value, f"{before}{name}.")


@EACH_PAGE
def test_settings(page):
    """A setting that is named from `config.` on exists; `<stage>` stands for a training, `ROLE` for a role."""
    known = set(flat(experiment()))
    text = page.read_text().replace("config.<stage>", "config.sft").replace("config.roles.ROLE", "config.roles.user")
    for name in re.findall(r"(?<![\w/])config\.([a-z]+\.[a-z0-9_]+(?:\.[a-z0-9_]+)*)", text):
        free = name.startswith(("dataset.sources.", "section."))
        assert free or name in known, name


def test_files_of_the_rooms():
    """Every Python file that docs/architecture.md names is one of the code's, by the end of its path."""
    paths = [
        "/" + str(path.relative_to(ROOT))
        for room in ("aloe_jax", "data_gen", "eval", "tests", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
    ]
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/architecture.md").read_text())
    assert len(named) > 80
    assert not [name for name in named if not any(path.endswith("/" + name) for path in paths)]
