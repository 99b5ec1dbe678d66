"""`aloe config`: the settings that a run would use, as text."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from aloe_jax.cli.experiment import Origin, origins
from aloe_jax.errors import InputError
from aloe_jax.settings import nearest

STYLES = {"default": "dim", "file": "", "command line": "bold"}
ORIGIN_WIDTH = max(map(len, STYLES))
VALUE_WIDTHS = 16, 40  # minimum and maximum width of the column; longer values are wrapped
GAP, INDENT = "  ", "    "  # between columns; before a meaning


def print_config(arguments: Sequence[str], section: str, console: Console) -> None:
    """Print every setting of the experiment given by `arguments`, or those of one section ("sft", "roles.judge"): name,
    value and origin on a line, and the meaning below. InputError for an unknown section."""
    settings = list(origins(arguments))
    chosen = [one for one in settings if not section or f"{one.name}.".startswith(f"{section}.")]
    if not chosen:
        raise InputError(_unknown_section(section, [one.name for one in settings]))
    values = [json.dumps(one.value, ensure_ascii=False) for one in chosen]
    name_width = max(len(f"config.{one.name}") for one in chosen)
    room = console.width - name_width - ORIGIN_WIDTH - 2 * len(GAP)
    low, high = VALUE_WIDTHS
    value_width = max(low, min(high, room, max(map(len, values))))
    for number, (_, group) in enumerate(itertools.groupby(zip(chosen, values, strict=True), _section_of)):
        if number:
            console.print()
        for one, value in group:
            first, *rest = textwrap.wrap(value, value_width, break_on_hyphens=False)
            head = f"config.{one.name:<{name_width - len('config.')}}{GAP}{first:<{value_width}}{GAP}"
            console.print(Text(head).append(one.origin, STYLES[one.origin]), soft_wrap=True)
            for line in rest:
                console.print(Text(" " * name_width + GAP + line), soft_wrap=True)
            meaning = textwrap.fill(one.help, console.width, initial_indent=INDENT, subsequent_indent=INDENT)
            console.print(Text(meaning, "dim"), soft_wrap=True)


def _section_of(entry: tuple[Origin, str]) -> str:
    """The top-level section of a setting; the settings outside sections are one group."""
    head, separator, _ = entry[0].name.partition(".")
    return head if separator else ""


def _unknown_section(section: str, names: Sequence[str]) -> str:
    """The error sentence for an unknown section, with all top-level ones and the most similar of all."""
    parts = [name.split(".") for name in names]
    known = list(dict.fromkeys(".".join(part[:depth]) for part in parts for depth in range(1, max(2, len(part)))))
    top = [name for name in known if "." not in name]
    return f"--section: '{section}' is unknown; choose one of {', '.join(top)}{nearest(section, known)}"
