"""The shipped config files with their arguments, as text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from aloe_jax.cli.arguments import ARGUMENTS
from aloe_jax.run.config import shipped


def shipped_text() -> str:
    """A paragraph per shipped file: its name, the first line of its description, and its arguments."""
    return "\n\n".join(map(_paragraph, shipped().values()))


def arguments_of(path: Path) -> list[str]:
    """The arguments of a shipped file: those that its `get_config` describes, else those of the model configs."""
    functions = [node for node in _parsed(path).body if isinstance(node, ast.FunctionDef) and node.name == "get_config"]
    described = ast.get_docstring(functions[0]) if functions else None
    return re.findall(r'"(\w+)"', described) if described else [name for name in ARGUMENTS if name]


def _paragraph(path: Path) -> str:
    """As in `aloe run --list`."""
    first = (ast.get_docstring(_parsed(path)) or "").partition("\n")[0]
    names = ", ".join(f":{name}" for name in arguments_of(path))
    return f"--config={path.stem}\n  {first}\n  arguments: {names}"


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
