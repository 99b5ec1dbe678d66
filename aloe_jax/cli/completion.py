"""`aloe completion`: scripts that complete commands, options, settings and shipped configs in bash and zsh.

The words are those of the parser and of the settings when the script is printed, so completing starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from aloe_jax.cli.arguments import STAGES
from aloe_jax.cli.shipped import arguments_of
from aloe_jax.run.config import shipped
from aloe_jax.settings import leaves

CONFIG = "--config"


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The completion script for `shell`, bash or zsh."""
    commands = _commands(parser)
    cases = [each for name, command in commands.items() for each in _cases(name, command)]
    lines = "\n".join(f"    '{place}') list='{' '.join(words)}' ;;" for place, words in cases)
    text = (Path(__file__).parent / f"completion.{shell}").read_text()
    return text.replace("@COMMANDS@", " ".join(commands)).replace("    @CASES@", lines)


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of the commands by name; argparse has no public access to them."""
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _cases(name: str, command: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """What may follow, by place: "run -" (a new option), "run --stages" (its value), "run " (an argument without a
    name). Where nothing is known the scripts offer files."""
    options: list[str] = []
    unnamed = False
    for action in command._actions:
        values = STAGES if action.dest == "stages" else action.choices
        words = [str(value) for value in values or ()]
        long = [option for option in action.option_strings if option.startswith("--")]
        options += [option if action.nargs == 0 else f"{option}=" for option in long]
        unnamed = unnamed or not action.option_strings
        if words:
            yield from ((f"{name} {place}", words) for place in long or ("",))
    if command.get_default("takes_config"):
        options += [f"{CONFIG}=", *_settings()]
        yield f"{name} {CONFIG}", list(_configs())
    yield f"{name} -", options
    if not unnamed:
        yield f"{name} ", options


def _settings() -> list[str]:
    from aloe_jax.cli.experiment import Experiment

    return [f"{CONFIG}.{name}=" for name, _, _ in leaves(Experiment())]


def _configs() -> Iterator[str]:
    for name, path in shipped().items():
        yield name
        yield from (f"{name}:{argument}" for argument in arguments_of(path))
