"""Dependencies point downwards only (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# room -> rooms it may import besides itself; files directly in aloe_jax may be imported by all
ALLOWED = {
    "aloe_jax/tree": set(),
    "aloe_jax/parallel": set(),
    "aloe_jax/ops": {"tree", "parallel"},
    "aloe_jax/models": {"ops", "tree", "parallel"},
    "aloe_jax/run": {"parallel"},
    "aloe_jax/data": {"models", "ops", "tree", "parallel"},
    "aloe_jax/hub": {"models", "ops", "tree", "parallel"},
    "aloe_jax/decode": {"models", "ops", "tree", "parallel"},
    "aloe_jax/train": {"data", "hub", "models", "ops", "tree", "parallel", "run"},
    "aloe_jax/launch": {"train", "data", "decode", "hub", "models", "ops", "tree", "parallel", "run"},
    "aloe_jax/serve": {"decode", "train", "data", "hub", "models", "ops", "tree", "parallel", "run"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_of_the_library(room):
    own = room.removeprefix("aloe_jax/")
    for path in (ROOT / room).rglob("*.py"):
        for module in imported(path):
            top, _, rest = module.partition(".")
            assert top not in ("data_gen", "eval", "configs"), f"{path.name} imports {module}"
            if top == "aloe_jax" and rest.partition(".")[0] not in ("", "errors", "files", "memory", own):
                assert rest.partition(".")[0] in ALLOWED[room], f"{path.name} imports {module}"


def test_every_room_is_listed():
    rooms = {f"aloe_jax/{path.name}" for path in (ROOT / "aloe_jax").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ALLOWED)


def test_data_gen_does_not_import_eval():
    for path in (ROOT / "data_gen").rglob("*.py"):
        assert not [module for module in imported(path) if module.partition(".")[0] == "eval"], path
