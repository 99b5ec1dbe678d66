"""`aloe run --dry-run`: what each stage would do, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from aloe_jax.errors import InputError
from aloe_jax.run.outlook import REFUSE, RUN, SKIP, Outlook


def show_outlook(stages: Sequence[Outlook], console: Console) -> None:
    """Print a paragraph per stage: action and reason, then what it reads and writes, and the time that is known.
    InputError for a stage that would be refused."""
    name = max((len(each.stage) for each in stages), default=0)
    action = max((len(each.action) for each in stages), default=0)
    for each in stages:
        line = Text(f"{each.stage:<{name}}  {each.action:<{action}}  {each.why}", "dim" if each.action == SKIP else "")
        console.print(line, soft_wrap=True)
        for label, values in (("reads", each.reads), ("writes", each.writes), ("time", (_time(each),))):
            if each.action != SKIP and any(values):
                console.print(Text(f"{'':<{name}}  {label}: {', '.join(values)}"), soft_wrap=True)
    console.print(Text("Nothing was run or written."), soft_wrap=True)
    if refused := [each for each in stages if each.action == REFUSE]:
        raise InputError(
            f"stage '{refused[0].stage}' would be refused ({refused[0].why}); put that back, use another --workdir, or "
            "--fresh to start it over"
        )


def _time(each: Outlook) -> str:
    return each.time or ("unknown until it has run" if each.action == RUN else "")
