"""`aloe inspect`: an inspection by the command's arguments, and its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.inspect.inspection import LIMIT, Inspection, inspect_model, inspect_trees
from aloe_jax.inspect.page import page
from aloe_jax.tree.template import SystemHandling

_DATA = (".jsonl", ".json", ".parquet", ".csv", ".arrow", ".gz")  # no model is a file of these


def inspect(
    source: str,
    *,
    model: str | None = None,
    trees: str | None = None,
    conversation: str | None = None,
    limit: int | None = None,
    turns: int | None = None,
    max_path: int | None = None,
    system: SystemHandling = "keep",
    statistics: bool = False,
    html: str | None = None,
    json: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """What a model makes of conversations or, without any, of messages in general; written to `html` and `json`.

    `source` is the model, or with `model` given the conversations. Raises InputError as `inspect_model` and
    `inspect_trees` do, for arguments that contradict each other, and for an output that is an input.
    """
    of_model, of_trees = _sources(source, model, trees)
    outputs = {name: epath.Path(out) for name, out in (("--html", html), ("--json", json)) if out is not None}
    for option, out in outputs.items():
        _check_output(option, out, [given for given in (of_model, of_trees) if given is not None])
    if len(outputs) == 2 and outputs["--html"] == outputs["--json"]:
        raise InputError(f"--html and --json are both '{html}'; name two files")
    if of_trees is None:
        given = {"--conversation": conversation, "--limit": limit, "--turns": turns, "--max-path": max_path}
        given["--statistics"] = statistics or None
        if superfluous := [option for option, value in given.items() if value is not None]:
            raise InputError(f"{superfluous[0]} is about conversations, and none are given; add --trees=FILE")
        found = inspect_model(of_model, system)
    else:
        found = inspect_trees(
            of_model,
            of_trees,
            conversation=conversation,
            limit=LIMIT if limit is None else limit,
            turns=turns,
            max_path=max_path,
            system=system,
            statistics=statistics,
            progress=progress,
        )
    if html is not None:
        files.write_text(html, page(found))
    if json is not None:
        files.write_json(json, dataclasses.asdict(found))
    return found


def _sources(source: str, model: str | None, trees: str | None) -> tuple[str, str | None]:
    """The model and the conversations, which may be missing."""
    if model is not None and trees is not None:
        raise InputError(f"'{source}' can be neither --model nor --trees, as both are given; leave one of them out")
    if model is not None:
        return model, source
    if trees is None and Path(source).suffix in _DATA and Path(source).is_file():
        raise InputError(f"'{source}' is a data file; add --model=MODEL to show what a model makes of it")
    return source, trees


def _check_output(name: str, out: epath.Path, inputs: list[str]) -> None:
    if out.is_dir():
        raise InputError(f"{name} is '{out}', which is a folder; name a file")
    for given in inputs:
        if epath.Path(given).exists() and epath.Path(given).resolve() == out.resolve():
            raise InputError(f"{name} is '{out}', which is what is inspected; name another file")
