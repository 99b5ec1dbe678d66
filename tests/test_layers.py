"""Imports point only downwards (docs/architecture.md), and no file is long."""

import ast
from collections import Counter

import pytest

from helpers.aloe_command import ROOT

# From top to bottom: a room may import itself and the rooms of the lines below.
LINES = (
    ("aloe_jax/api",),
    ("aloe_jax/cli",),
    ("aloe_jax/launch", "aloe_jax/preflight", "eval"),
    ("data_gen", "aloe_jax/plan"),
    ("aloe_jax/serve",),
    ("aloe_jax/decode", "aloe_jax/train"),
    ("aloe_jax/data",),
    ("aloe_jax/inspect", "aloe_jax/run"),
    ("aloe_jax/bucket",),
    ("aloe_jax/hub", "aloe_jax/formats"),
    ("aloe_jax/models",),
    ("aloe_jax/ops",),
    ("aloe_jax/tree", "aloe_jax/parallel"),
    ("aloe_jax/outputs",),  # a file, not a folder; so are those below
    (
        "aloe_jax/errors",
        "aloe_jax/files",
        "aloe_jax/memory",
        "aloe_jax/pages",
        "aloe_jax/settings",
        "aloe_jax/stand_ins",
    ),
)
LEVEL = {room: -number for number, line in enumerate(LINES) for room in line}
# The same inside data_gen. Conversations are about personas, so `game` reads their settings.
DATA_GEN = (
    ("publish",),
    ("online",),
    ("game",),
    ("personas",),
    ("players",),
    ("world",),
    ("calls",),
    ("roles", "text", "seeds", "concurrency", "agreement", "run_files"),
)
DATA_GEN_LEVEL = {room: -number for number, line in enumerate(DATA_GEN) for room in line}


def imported(path):
    """The modules that a file imports anywhere; for `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def room_of(module):
    """The room of one of our modules; None for others."""
    top, _, rest = module.partition(".")
    if top == "aloe_jax":
        return f"aloe_jax/{rest.partition('.')[0]}" if rest else None
    return top if top in ("data_gen", "eval", "configs") else None


@pytest.mark.parametrize("room", [room for room in LEVEL if (ROOT / room).is_dir()])
def test_rooms(room):
    for path in (ROOT / room).rglob("*.py"):
        for module in imported(path):
            other = room_of(module)
            if other is not None and other != room:
                assert LEVEL.get(other, 0) < LEVEL[room], f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("room", [room for room in DATA_GEN_LEVEL if (ROOT / "data_gen" / room).is_dir()])
def test_rooms_of_data_generation(room):
    for path in (ROOT / "data_gen" / room).rglob("*.py"):
        for module in imported(path):
            top, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            if top == "data_gen" and other and other != room:
                assert DATA_GEN_LEVEL.get(other, 0) < DATA_GEN_LEVEL[room], f"{path.relative_to(ROOT)} imports {module}"


def test_every_room_is_listed():
    def names(folder):
        found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
        return found - {"__init__"}

    assert {f"aloe_jax/{name}" for name in names(ROOT / "aloe_jax")} | {"data_gen", "eval"} == set(LEVEL)
    assert names(ROOT / "data_gen") == set(DATA_GEN_LEVEL)


def test_no_file_is_long():
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in ("aloe_jax", "data_gen", "eval", "configs", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_test_files_have_names_of_their_own():
    """Pytest imports them by their name alone, so of two equal ones the second is an error."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
