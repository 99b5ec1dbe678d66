"""Finding out what a server can do, by requests whose answers show it.

Documentation and version numbers are no evidence: a proxy in between may drop a field, a build may lack a feature, and
some servers accept every field and honour none. A constraint counts only if the server gives an answer that it would
never give by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aloe_jax.errors import ResumableError
from aloe_jax.serve.client import client, constraints
from aloe_jax.serve.client.abilities import Abilities, Body, left_out, without
from aloe_jax.serve.client.answers import Answer, Failure, answer
from aloe_jax.serve.client.client import GREETING, Client
from aloe_jax.serve.client.endpoint import Endpoint, same_model
from aloe_jax.serve.client.refusals import RawResponse, error_inside, no_json
from aloe_jax.serve.client.response import NO_REASON, GivenChoice, GivenResponse, first_words

CHOICES = ("zqx-7", "wvk-3")  # no model answers a greeting like that
SCHEMA = {
    "type": "object",
    "properties": {"zqx": {"type": "string", "enum": ["wvk-3"]}},
    "required": ["zqx"],
    "additionalProperties": False,
}
ALL = ("choice", "schema", "logprobs", "top_logprobs", "n", "seed", "system")
SHORT = 16  # tokens of an answer to a probe
LONG = 2048  # of a model that thinks before it answers
VARIED = [{"role": "user", "content": "Write one sentence that nobody has ever written."}]
ALWAYS = ("seed", "max_tokens", "temperature", "top_p")  # no ability: left out wherever they are refused
SAME_NAME = 3  # answers in a row that name another model before that counts as the model's other name
MISSING = {
    "choice": "keeps to no choice of answers; answers are read from its text and many will be unreadable",
    "schema_form": "keeps to no JSON schema; answers are read from its text and many will be unreadable",
    "logprobs": "gives no log-probabilities; a judge's verdicts are then all or nothing",
    "top_logprobs": "gives no most probable tokens; a judge's verdicts are then all or nothing",
    "n": "returns one completion per call; candidates are requested one by one",
    "seed": "does not repeat an answer for an equal seed; stored answers make a run repeat all the same",
    "system": "takes no system message; it is put at the head of the first user message",
    "finish": "does not say how its answers end (finish_reason); one that was cut off looks like a whole one",
    "varied": "gives equal texts for n at temperature 1; candidates are requested one by one",
}


def missing(abilities: Abilities) -> list[str]:
    """A sentence per thing that a server cannot do or silently ignores."""
    found = [text for name, text in MISSING.items() if not getattr(abilities, name)]
    if abilities.ignored:
        found.append(f"accepts but silently ignores: {', '.join(abilities.ignored)}")
    if abilities.reasons:
        found.append("thinks before it answers; the thoughts are cut, but max_tokens counts them")
    return found


async def probe(
    through: Client, wanted: tuple[str, ...] = ALL, fields: Mapping[str, object] | None = None
) -> dict[str, Abilities]:
    """The abilities of every server of an entered client, by address, with respect to `wanted`. Sets them as well.
    Every request has the `fields`. What a server refuses is left out from then on, with a notice of the client.

    Raises InputError if a server does not serve the model or refuses the key, ResumableError if it cannot be reached.
    """
    for server in through.endpoints:
        server.abilities = await _Probe(through, server, fields or {}).run(wanted)
    return {server.address: server.abilities for server in through.endpoints}


async def spent_on_thoughts(through: Client, max_tokens: int, fields: Mapping[str, object]) -> Endpoint | None:
    """The first server that gives no text for `max_tokens` because it thinks all that time; None if there is none.
    Only servers are asked of which the probe found that they think."""
    for server in through.endpoints:
        if server.abilities.reasons:
            found = await _Probe(through, server, fields).ask({"max_tokens": max_tokens})
            if not isinstance(found, Failure) and _thoughtful(found) and not _text(found):
                return server
    return None


class _Probe:
    def __init__(self, through: Client, server: Endpoint, fields: Mapping[str, object]) -> None:
        self.client, self.server, self.fields = through, server, fields
        self.length = SHORT

    async def run(self, wanted: tuple[str, ...]) -> Abilities:
        models = await self._models()
        found: dict[str, object] = {"models": models}
        plain = await self.ask({})
        if isinstance(plain, Failure):
            listed = (
                f" (the server lists {', '.join(models[:10])})" if models and self.server.model not in models else ""
            )
            raise plain.raised(self.server.redact(f"{self.server.address}: {plain.reason}{listed}"))
        self.server.probed = True
        found["answers_as"] = await self._other_name(plain, models)
        found["finish"] = plain.choices[0].finish_reason not in (None, NO_REASON)
        if _thoughtful(plain):
            found["reasons"], self.length = True, LONG
        ignored: list[str] = []
        if "choice" in wanted:
            forms = {name: form(CHOICES) for name, form in constraints.CHOICE_FORMS.items()}
            found["choice"] = await self._form(
                "choice", forms, lambda text: constraints.chosen(text, CHOICES) is not None, ignored
            )
        if "schema" in wanted:
            forms = {name: form(SCHEMA) for name, form in constraints.SCHEMA_FORMS.items()}
            found["schema_form"] = await self._form(
                "schema", forms, lambda text: constraints.parsed(text) == {"zqx": "wvk-3"}, ignored
            )
        if "top_logprobs" in wanted:
            found |= await self._logprobs({"top_logprobs": 5})
        elif "logprobs" in wanted:
            found["logprobs"] = (await self._logprobs({}))["logprobs"]
        if "n" in wanted:
            found |= await self._several()
        if "seed" in wanted:
            drawn = [await self.ask({"temperature": 1.0, "seed": 7}) for _ in range(2)]
            same = len({_text(each) for each in drawn}) == 1 and isinstance(drawn[0], GivenResponse)
            found["seed"] = same and "seed" not in self.server.refused
        if "system" in wanted:
            messages = [{"role": "system", "content": "Be brief."}, *GREETING]
            found["system"] = isinstance(await self.ask({"messages": messages}), GivenResponse)
        return Abilities.model_validate(found | {"ignored": tuple(ignored)})

    async def _models(self) -> tuple[str, ...]:
        """Names that the server lists; none where it has no list."""
        raw = await self._patient(partial(self.server.models, self.client.session), {})
        listed = constraints.parsed(raw.content) if raw.status == 200 else None
        data = listed.get("data") if isinstance(listed, dict) else None
        found = data if isinstance(data, list) else []
        return tuple(str(each["id"]) for each in found if isinstance(each, dict) and "id" in each)

    async def _other_name(self, plain: GivenResponse, models: tuple[str, ...]) -> str:
        """The name under which the model answers where it is not that of the request: an alias stands for a dated
        model. Empty where answers name another model now and then."""
        name, asked = plain.model, self.server.model
        if not name or same_model(asked, name):
            return name if name != asked else ""
        if asked not in models:
            return name
        for _ in range(SAME_NAME - 1):
            again = await self.ask({})
            if isinstance(again, Failure) or again.model != name:
                return ""
        return name

    async def _form(
        self, what: str, forms: Mapping[str, constraints.Fields], keeps: Callable[[str], bool], ignored: list[str]
    ) -> str | None:
        """The first form that the server enforces; those it accepts without enforcing them go to `ignored`."""
        for name, fields in forms.items():
            # One good answer is proof, one bad answer may be an accident.
            drawn = [await self.ask(fields)]
            if isinstance(drawn[0], GivenResponse) and not keeps(_text(drawn[0])):
                drawn.append(await self.ask(fields))
            if keeps(_text(drawn[-1])):
                return name
            if isinstance(drawn[-1], GivenResponse):
                ignored.append(f"{what} as {name}")
        return None

    async def _several(self) -> dict[str, object]:
        """Whether the server gives several answers to one call, and whether they differ at temperature 1. Equal
        greetings are no proof, so another text is wanted then."""
        tries: tuple[dict[str, object], ...] = ({}, {"messages": VARIED}, {"messages": VARIED, "seed": 1})
        for number, fields in enumerate(tries):
            found = await self.ask({"temperature": 1.0, **fields}, n=2)
            if isinstance(found, Failure):
                return {"n": False} if number == 0 else {}
            if "n" in self.server.refused:
                return {"n": False}
            if len({_said(choice).text for choice in found.choices}) == 2:
                return {"n": True}
        return {"n": True, "varied": False}

    async def _logprobs(self, more: Mapping[str, object]) -> dict[str, bool]:
        found = await self.ask({"logprobs": True, **more})
        if isinstance(found, Failure) and more:
            found = await self.ask({"logprobs": True})
        if isinstance(found, Failure):
            return {"logprobs": False, "top_logprobs": False}
        content = found.choices[0].logprobs.content if found.choices[0].logprobs else None
        return {"logprobs": bool(content), "top_logprobs": any(token.top_logprobs for token in content or ())}

    async def ask(self, fields: Mapping[str, object], n: int = 1) -> GivenResponse | Failure:
        """A short answer to a greeting under `fields`; a Failure if the server refuses them or answers wrongly."""
        wanted: Body = {
            "model": self.server.model,
            "messages": GREETING,
            "temperature": 0.0,
            "seed": 0,
            "n": n,
            "max_tokens": self.length,
            **self.fields,
            **fields,
        }
        while True:
            body = without(wanted, self.server.refused)
            raw = await self._patient(partial(self.server.post, self.client.session, body), body)
            found = self.server.read(raw, body, 1 if "n" in self.server.refused else n, self.client.timing.now())
            if not isinstance(found, Failure):
                return found
            name = found.refused_field or found.refused_value
            if name is None or (name in fields and name not in ALWAYS):
                return found
            self.server.refused.add(name)
            self.client.notice(self.server.redact(f"{self.server.address}: {left_out(name)}"))

    async def _patient(self, attempt: Callable[[], Awaitable[RawResponse | Failure]], body: Body) -> RawResponse:
        """The first response that says something about the request, after retries with growing pauses. Raises where no
        retry helps: InputError if the key is refused."""
        timing, failure = self.client.timing, None
        for tries in range(self.client.retries + 1):
            outcome = await attempt()
            failure = outcome if isinstance(outcome, Failure) else self._trouble(outcome, body)
            if isinstance(outcome, RawResponse) and failure is None:
                return outcome
            assert failure is not None
            if not failure.again:
                raise failure.raised(self.server.redact(f"{self.server.address}: {failure.reason}"))
            if tries < self.client.retries:
                pause = timing.jitter(0.0, min(client.LONGEST_PAUSE, client.FIRST_PAUSE * 2**tries))
                await timing.sleep(max(pause, failure.retry_after or 0.0))
        assert failure is not None
        raise ResumableError(self.server.redact(f"{self.server.address}: {failure.reason}"))

    def _trouble(self, raw: RawResponse, body: Body) -> Failure | None:
        """What is wrong with a response whatever was asked; None if nothing is."""
        if raw.status == 200:
            if (inside := error_inside(raw)) is not None:
                return self._trouble(inside, body)
            if constraints.parsed(raw.content) is None and no_json(raw, self.server.address) is None:
                kind = raw.content_type or "no content type"
                return Failure(f"the server answers 200 ({kind}) with no JSON: {first_words(raw.content)!r}")
            return None
        whatever = raw.status in (401, 403) or raw.passing or raw.quota
        return self.server.refuse(raw, body, self.client.timing.now()) if whatever else None


def _said(choice: GivenChoice) -> Answer:
    return answer(choice, None, "")


def _text(given: GivenResponse | Failure) -> str:
    return "" if isinstance(given, Failure) else _said(given.choices[0]).text


def _thoughtful(given: GivenResponse) -> bool:
    return _said(given.choices[0]).thought is not None
