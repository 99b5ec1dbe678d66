"""Chat templates: from messages to the text that a model was trained on, cut into separately tokenised pieces."""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from aloe_jax.tree.tokenizer import MARK, Tokenizer

DEFAULT_DATE = "26 Jul 2024"
SystemHandling = Literal["keep", "fold_into_first_user"]
_DATE_FORMAT = "%d %b %Y"


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template in the sandbox that Hugging Face's templates expect.

    Attributes:
        text: source of the template.
        bos: text of `bos_token`; None leaves it undefined. `eos` likewise.
        date: the day, such as "26 Jul 2024", that `strftime_now` and `date_string` give, fixed so that runs repeat.
        system: "fold_into_first_user" prepends the system message to the first user message, for templates that refuse
            the system role.
        variables: further variables of the template, such as `enable_thinking`; JSON-serialisable.
        name: the name of the template in error messages.

    Raises InputError for a template that does not compile and for a date in another form.
    """

    text: str
    bos: str | None = field(default=None, kw_only=True)
    eos: str | None = field(default=None, kw_only=True)
    date: str = field(default=DEFAULT_DATE, kw_only=True)
    system: SystemHandling = field(default="keep", kw_only=True)
    variables: Mapping[str, object] = field(default_factory=dict, kw_only=True)
    name: str = field(default="chat template", kw_only=True)

    def __post_init__(self) -> None:
        if self.system not in ("keep", "fold_into_first_user"):
            raise InputError(f"template.system is '{self.system}'; expected keep or fold_into_first_user")
        try:
            _ = self._day, self._compiled
        except ValueError:
            raise InputError(f"template.date is '{self.date}'; expected a day like '{DEFAULT_DATE}'") from None
        except jinja2.TemplateError as error:
            raise InputError(f"{self.name} does not compile: {error}") from None

    @functools.cached_property
    def _day(self) -> datetime.datetime:
        return datetime.datetime.strptime(self.date, _DATE_FORMAT)

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationBlock]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = self._day.strftime
        return environment.from_string(self.text)

    @functools.cached_property
    def hash(self) -> str:
        """Digest of everything that the rendered text depends on."""
        rest = [self.bos, self.eos, self.date, self.system, dict(self.variables)]
        return files.sha256(self.text, json.dumps(rest, sort_keys=True))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as text, followed by the beginning of the next reply if `add_generation_prompt`.

        Raises InputError naming the template and the turn where the template refuses the messages.
        """
        folded = _fold_system(messages) if self.system == "fold_into_first_user" else messages
        special = {"bos_token": self.bos, "eos_token": self.eos}
        values: dict[str, object] = {"tools": None, "documents": None, "date_string": self.date}
        values |= {name: text for name, text in special.items() if text is not None}
        values |= self.variables
        values["messages"] = [{"role": message.role, "content": message.content} for message in folded]
        try:
            return self._compiled.render(values, add_generation_prompt=add_generation_prompt)
        except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
            turn = sum(message.role == "user" for message in messages)
            raise InputError(f"{self.name} refuses turn {turn}: {error}{self._remedy(messages)}") from None

    def _remedy(self, messages: Sequence[Message]) -> str:
        if self.system == "keep" and messages and messages[0].role == "system":
            return "; config.template.system=fold_into_first_user moves the system message into the first user message"
        return "; expected user and assistant messages in turn, a user message first"

    def not_a_continuation(self, messages: Sequence[Message]) -> InputError:
        """The error for rendered `messages`, the last one a reply, that do not begin with the reply's prompt."""
        turn = sum(message.role == "user" for message in messages)
        return InputError(
            f"{self.name}: the rendered turn {turn} does not start with its own prompt, so the reply cannot be told "
            f"from it{self._remedy(messages)}"
        )


@dataclass(frozen=True)
class ChatFormat:
    """A tokenizer and a chat template, which together determine the token ids of a conversation."""

    tokenizer: Tokenizer
    template: ChatTemplate

    @classmethod
    def load(
        cls,
        folder: epath.PathLike,
        *,
        date: str = DEFAULT_DATE,
        system: SystemHandling = "keep",
        variables: Mapping[str, object] | None = None,
    ) -> ChatFormat:
        """Load both from one Hugging Face folder. Raises InputError as `Tokenizer.load` and `ChatTemplate` do."""
        tokenizer = Tokenizer.load(folder)
        template = ChatTemplate(
            tokenizer.chat_template,
            bos=tokenizer.bos_token,
            eos=tokenizer.eos_token,
            date=date,
            system=system,
            variables=dict(variables or {}),
            name=f"chat template of {folder}",
        )
        return cls(tokenizer, template)

    @functools.cached_property
    def end_of_turn(self) -> re.Pattern[str]:
        """A pattern that matches the text of any end-of-turn token, except where a message holds it as text."""
        texts = sorted(self.tokenizer.end_of_turn_texts, key=len, reverse=True)
        return re.compile(f"(?<!{MARK})(?:{'|'.join(map(re.escape, texts))})")

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as the template renders it, with marks around the texts of special tokens inside messages
        (`Tokenizer.marked`). Raises InputError as the template does."""
        marked = [Message(role=one.role, content=self.tokenizer.marked(one.content)) for one in messages]
        return self.template.render(marked, add_generation_prompt)

    def cuts(self, prompt: str, generation_prompts: Iterable[str]) -> list[int]:
        """The places where a rendered prompt is cut, in order: after each end-of-turn text, after each of the earlier
        `generation_prompts` that it begins with, and at its end."""
        found = {match.end() for match in self.end_of_turn.finditer(prompt)}
        found.update(len(earlier) for earlier in generation_prompts if prompt.startswith(earlier))
        return sorted((found | {len(prompt)}) - {0})

    def generation_prompts(self, messages: Sequence[Message]) -> list[str]:
        """The rendered prompt of every assistant message in `messages`, in order."""
        return [
            self.render(messages[:index], add_generation_prompt=True)
            for index, message in enumerate(messages)
            if message.role == "assistant"
        ]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of the prompt for the next reply to `messages`, in the same pieces as in training.

        Raises InputError where the template refuses the messages.
        """
        prompt = self.render(messages, add_generation_prompt=True)
        ids: list[int] = []
        start = 0
        for end in self.cuts(prompt, self.generation_prompts(messages)):
            ids += self.tokenizer.encode(prompt[start:end], after=prompt[:start])
            start = end
        return ids


class _GenerationBlock(jinja2.ext.Extension):
    """Renders the body of `{% generation %}`, which some templates put around replies; the trie finds them itself."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - declared like this by jinja2

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _fold_system(messages: Sequence[Message]) -> Sequence[Message]:
    """`messages` with a leading system message prepended to the text of the first user message."""
    if not messages or messages[0].role != "system":
        return messages
    system, rest = messages[0], list(messages[1:])
    first = next((index for index, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return [Message(role="user", content=system.content), *rest]
    rest[first] = Message(role="user", content=f"{system.content}\n\n{rest[first].content}")
    return rest


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of Jinja's own filter: models are trained on the plain characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
