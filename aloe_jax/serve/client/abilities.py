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
    finish: bool = True  # whether it says how an answer ended
    reasons: bool = False  # whether it thinks before it answers
    varied: bool = True  # whether `n` answers to one call differ

    def recorded(self) -> dict[str, object]:
        """The abilities for a record; those found since version 1 only where they are out of the ordinary."""
        found = self.model_dump(mode="json")
        later = {"finish": True, "reasons": False, "varied": True}
        return {name: value for name, value in found.items() if name not in later or value != later[name]}


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
    body = {name: value for name, value in body.items() if value is not False}
    one_by_one = request["n"] > 1 and ("n" in refused or not abilities.n or not abilities.varied)
    seeds = [request["seed"] + number for number in range(request["n"])] if one_by_one else [request["seed"]]
    parts = [body | {"seed": seed} | ({"n": 1} if one_by_one else {}) for seed in seeds]
    return [without(part, refused) for part in parts]


def without(body: Body, refused: Collection[str]) -> Body:
    """The body without the fields that a server refused; the limit of tokens goes by its later name then."""
    kept = {name: value for name, value in body.items() if name not in refused}
    if "max_tokens" in body and "max_tokens" in refused:
        kept["max_completion_tokens"] = body["max_tokens"]
    return kept


def left_out(field: str) -> str:
    """The notice of a field that a server refuses."""
    if field == "max_tokens":
        return "refuses max_tokens; max_completion_tokens is sent in its place"
    if field == "n":
        return "refuses n; completions are requested one by one"
    return f"refuses {field}; it is left out"


def folded(messages: Sequence[RoleAndContent]) -> list[RoleAndContent]:
    """The messages with the system message at the head of the first user message."""
    if messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
