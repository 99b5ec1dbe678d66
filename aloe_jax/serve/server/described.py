"""What an endpoint says about itself for the OpenAPI description."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel


class Operation(NamedTuple):
    """One method of a path. `asked` are the kinds of bodies that it takes, `answer` its answer with status 200, `chunk`
    the data of each event where it streams, `refusals` the statuses of its errors beside those of every operation. A
    `keyless` one needs no API key."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel]
    asked: tuple[type[BaseModel], ...] = ()
    chunk: type[BaseModel] | None = None
    refusals: tuple[int, ...] = ()
    keyless: bool = False
