"""What a server can do, and requests in the form in which it takes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import ConfigDict

from aloe_jax.serve.client import constraints
from aloe_jax.serve.client.interface import Request, RoleAndContent
from aloe_jax.tree.schema import Record

Body = Mapping[str, object]  # of a chat completion, as JSON


class Abilities(Record):
    """What a server can do, as `probe` found it; the defaults are what our own engine can do. `choice` and `schema`
    name the form (`constraints.py`) in which it enforces a constraint, None if it enforces none; `ignored` are the
    forms that it accepts without enforcing them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    models: tuple[str, ...] = ()
    answers_as: str = ""  # the model's name in its answers, where it differs from the requested one
    choice: str | None = "structured_outputs"
    schema_form: str | None = "response_format"
    ignored: tuple[str, ...] = ()
    logprobs: bool = True
    top_logprobs: bool = True
    n: bool = True
    seed: bool = True
    system: bool = True


def bodies(request: Request, abilities: Abilities, refused: Collection[str] = ()) -> list[Body]:
    """The bodies of the request for such a server: constraints in its form, without the fields it `refused`, one body
    per completion where it does not take `n`, and the system message folded into the user's where it has to be."""
    body: dict[str, object] = {name: value for name, value in request.items() if name not in ("choices", "schema")}
    if (choices := request.get("choices")) and abilities.choice:
        body |= constraints.CHOICE_FORMS[abilities.choice](choices)
    if (schema := request.get("schema")) and abilities.schema_form:
        body |= constraints.SCHEMA_FORMS[abilities.schema_form](schema)
    if not abilities.system:
        body["messages"] = folded(request["messages"])
    if not abilities.logprobs:
        body["logprobs"] = False
    if not (abilities.top_logprobs and body["logprobs"]):
        body.pop("top_logprobs", None)
    # A field that is off is left out: not every server accepts it.
    body = {name: value for name, value in body.items() if value is not False and name not in refused}
    if abilities.n or request["n"] == 1:
        return [body]
    return [body | {"n": 1, "seed": request["seed"] + number} for number in range(request["n"])]


def folded(messages: Sequence[RoleAndContent]) -> list[RoleAndContent]:
    """The messages with the system message at the head of the first user message."""
    if messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
