"""`aloe config`: the settings that a run would use, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from aloe_jax.cli.experiment import origins
from aloe_jax.errors import InputError
from aloe_jax.settings import nearest

STYLES = {"default": "dim", "file": "", "command line": "bold"}


def config_table(arguments: Sequence[str], section: str = "") -> Table:
    """Every setting of the experiment that `arguments` describe, or those of one section ("sft", "roles.judge"): its
    name, value, origin and meaning. InputError for a section that is not there."""
    found = list(origins(arguments))
    chosen = [one for one in found if not section or f"{one.name}.".startswith(f"{section}.")]
    if not chosen:
        known = list(dict.fromkeys(one.name.partition(".")[0] for one in found))
        hint = nearest(section, known)
        raise InputError(f"--section: '{section}' is unknown; choose one of {', '.join(known)}{hint}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("setting", "value", "from", "meaning"):
        table.add_column(name, overflow="fold")
    for one in chosen:
        value = json.dumps(one.value, ensure_ascii=False)
        table.add_row(f"config.{one.name}", Text(value), Text(one.origin, style=STYLES[one.origin]), Text(one.help))
    return table
