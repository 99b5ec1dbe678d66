"""Arguments with a space where the command reads an equals sign or a comma."""

from __future__ import annotations

from collections.abc import Sequence

STAGES = "--stages"


def joined(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--config FILE` and `--config.KEY VALUE` as one, and `--stages a, b` as `--stages=a,b`."""
    found: list[str] = []
    for argument in arguments:
        last = found[-1] if found else ""
        if argument.startswith("--") or not last.startswith("--"):
            found.append(argument)
        elif last == STAGES or (_is_config(last) and "=" not in last):
            found[-1] = f"{last}={argument}"
        elif last.startswith(f"{STAGES}=") and (last.endswith(",") or argument.startswith(",")):
            found[-1] = last + argument
        else:
            found.append(argument)
    return found


def _is_config(argument: str) -> bool:
    return argument == "--config" or argument.startswith("--config.")
