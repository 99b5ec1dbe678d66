"""Finding out what a server can do, by requests whose answers show it.

Documentation and version numbers are no evidence: a proxy in between may drop a field, a build may lack a feature, and
some servers accept every field and honour none. A constraint counts only if the server gives an answer that it would
never give by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aloe_jax.errors import InputError, ResumableError
from aloe_jax.serve.client import answers, client, constraints
from aloe_jax.serve.client.abilities import Abilities
from aloe_jax.serve.client.answers import Failure
from aloe_jax.serve.client.client import Client
from aloe_jax.serve.client.endpoint import Endpoint, RawResponse
from aloe_jax.serve.protocol import ChatResponse

CHOICES = ("zqx-7", "wvk-3")  # no model answers a greeting like that
SCHEMA = {
    "type": "object",
    "properties": {"zqx": {"type": "string", "enum": ["wvk-3"]}},
    "required": ["zqx"],
    "additionalProperties": False,
}
ALL = ("choice", "schema", "logprobs", "top_logprobs", "n", "seed", "system")
MISSING = {
    "choice": "keeps to no choice of answers; answers are read from its text and many will be unreadable",
    "schema_form": "keeps to no JSON schema; answers are read from its text and many will be unreadable",
    "logprobs": "gives no log-probabilities; a judge's verdicts are then all or nothing",
    "top_logprobs": "gives no most probable tokens; a judge's verdicts are then all or nothing",
    "n": "returns one completion per call; candidates are requested one by one",
    "seed": "does not repeat an answer for an equal seed; stored answers make a run repeat all the same",
    "system": "takes no system message; it is put at the head of the first user message",
}


def missing(abilities: Abilities) -> list[str]:
    """A sentence per thing that a server cannot do or silently ignores."""
    found = [text for name, text in MISSING.items() if not getattr(abilities, name)]
    if abilities.ignored:
        found.append(f"accepts but silently ignores: {', '.join(abilities.ignored)}")
    return found


async def probe(through: Client, wanted: tuple[str, ...] = ALL) -> dict[str, Abilities]:
    """The abilities of every server of an entered client, by address, with respect to `wanted`. Sets them as well.

    Raises InputError if a server does not serve the model or refuses the key, ResumableError if it cannot be reached.
    """
    for server in through.endpoints:
        server.abilities = await _Probe(through, server).run(wanted)
    return {server.address: server.abilities for server in through.endpoints}


class _Probe:
    def __init__(self, through: Client, server: Endpoint) -> None:
        self.client, self.server = through, server

    async def run(self, wanted: tuple[str, ...]) -> Abilities:
        models = await self._models()
        found: dict[str, object] = {"models": models}
        plain = await self._ask({})
        if isinstance(plain, Failure):
            raise plain.error(self.server.redact(f"{self.server.address}: {plain.reason}"))
        if self.server.model not in models and plain.model != self.server.model:
            found["answers_as"] = plain.model
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
            found["n"] = isinstance(await self._ask({}, n=2), ChatResponse)
        if "seed" in wanted:
            drawn = [await self._ask({"temperature": 1.0, "seed": 7}) for _ in range(2)]
            found["seed"] = len({_text(each) for each in drawn}) == 1 and isinstance(drawn[0], ChatResponse)
        if "system" in wanted:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
            found["system"] = isinstance(await self._ask({"messages": messages}), ChatResponse)
        return Abilities.model_validate(found | {"ignored": tuple(ignored)})

    async def _models(self) -> tuple[str, ...]:
        """Names that the server lists; none where it has no list."""
        raw = await self._patient(lambda: self.server.models(self.client.session))
        listed = constraints.parsed(raw.content) if raw.status == 200 else None
        data = listed.get("data") if isinstance(listed, dict) else None
        return tuple(str(each["id"]) for each in data or () if isinstance(each, dict) and "id" in each)

    async def _form(
        self, what: str, forms: Mapping[str, constraints.Fields], keeps: Callable[[str], bool], ignored: list[str]
    ) -> str | None:
        """The first form that the server enforces; those it accepts without enforcing them go to `ignored`."""
        for name, fields in forms.items():
            # One good answer is proof, one bad answer may be an accident.
            drawn = [await self._ask(fields)]
            if isinstance(drawn[0], ChatResponse) and not keeps(_text(drawn[0])):
                drawn.append(await self._ask(fields))
            if keeps(_text(drawn[-1])):
                return name
            if isinstance(drawn[-1], ChatResponse):
                ignored.append(f"{what} as {name}")
        return None

    async def _logprobs(self, more: Mapping[str, object]) -> dict[str, bool]:
        answer = await self._ask({"logprobs": True, **more})
        if isinstance(answer, Failure) and more:
            answer = await self._ask({"logprobs": True})
        if isinstance(answer, Failure):
            return {"logprobs": False, "top_logprobs": False}
        content = answer.choices[0].logprobs.content if answer.choices[0].logprobs else None
        return {"logprobs": bool(content), "top_logprobs": any(token.top_logprobs for token in content or ())}

    async def _ask(self, fields: Mapping[str, object], n: int = 1) -> ChatResponse | Failure:
        """A short answer to a greeting under `fields`; a Failure if the server refuses them or answers wrongly."""
        body = {
            "model": self.server.model,
            "messages": [{"role": "user", "content": "Hello!"}],
            "temperature": 0.0,
            "seed": 0,
            "n": n,
            "max_tokens": 16,
            **fields,
        }
        raw = await self._patient(lambda: self.server.post(self.client.session, body))
        if raw.status == 200:
            return answers.read(raw.content, n)
        message = f"the server answers {raw.status}: {answers.error_message(raw.content)}"
        return Failure(message, error=InputError)

    async def _patient(self, attempt: Callable[[], Awaitable[RawResponse | Failure]]) -> RawResponse:
        """The first response that is no passing failure, after retries with growing pauses. InputError if the key is
        refused."""
        timing = self.client.timing
        for tries in range(self.client.retries + 1):
            outcome = await attempt()
            if isinstance(outcome, RawResponse):
                if outcome.status in (401, 403):
                    hint = f"check the key in the environment variable {self.server.api_key_env}"
                    raise InputError(f"{self.server.address}: the server answers {outcome.status}; {hint}")
                torn = outcome.status == 200 and constraints.parsed(outcome.content) is None
                if not (outcome.passing or torn):
                    return outcome
            if tries < self.client.retries:
                await timing.sleep(timing.jitter(0.0, min(client.LONGEST_PAUSE, client.FIRST_PAUSE * 2**tries)))
        reason = outcome.reason if isinstance(outcome, Failure) else f"the server answers {outcome.status}"
        raise ResumableError(self.server.redact(f"{self.server.address}: {reason}"))


def _text(answer: ChatResponse | Failure) -> str:
    return "" if isinstance(answer, Failure) else answer.choices[0].message.content or ""
