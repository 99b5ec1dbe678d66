"""Chat templates: from messages to the text that a model was trained on, cut into separately tokenised pieces."""

from __future__ import annotations

import contextlib
import dataclasses
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
from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.content import Content, find_content
from aloe_jax.tree.sandbox import WORK, BoundedEnvironment, ExcessiveWorkError
from aloe_jax.tree.schema import Message
from aloe_jax.tree.tokenizer import MARK, Tokenizer

DEFAULT_DATE = "26 Jul 2024"
SystemHandling = Literal["keep", "fold_into_first_user"]
LONGEST = 1_000_000  # characters of a template
PROBE_WORK = WORK // 50  # of a render that tries a template out; a conversation needs less
REPAIR = "repair the template in the model's folder, or use a model with another one"
_DATE_FORMAT = "%d %b %Y"
_THINKING = re.compile(r"(?:[<\[]/?\w*(?:think|thought|reason)\w*[>\]]\s*)+\Z", re.IGNORECASE)


class ExcessiveTemplateError(InputError):
    """A template that computes without end."""


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja chat template in the sandbox that Hugging Face's templates expect.

    Attributes:
        text: source of the template.
        bos: text of `bos_token`; None leaves it undefined. `eos` likewise.
        special: texts of further special tokens by their names, such as unk_token.
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
    special: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    date: str = field(default=DEFAULT_DATE, kw_only=True)
    system: SystemHandling = field(default="keep", kw_only=True)
    variables: Mapping[str, object] = field(default_factory=dict, kw_only=True)
    name: str = field(default="chat template", kw_only=True)

    def __post_init__(self) -> None:
        if self.system not in ("keep", "fold_into_first_user"):
            raise InputError(f"template.system is '{self.system}'; expected keep or fold_into_first_user")
        try:
            _ = self._day
        except ValueError:
            raise InputError(f"template.date is '{self.date}'; expected a day like '{DEFAULT_DATE}'") from None
        if len(self.text) > LONGEST:
            raise InputError(f"{self.name} has {len(self.text)} characters; expected at most {LONGEST}")
        try:
            _ = self._compiled
        except Exception as error:  # of Jinja, and of Python's compiler for deep nesting
            raise InputError(f"{self.name} does not compile: {_reason(error)}") from None

    @functools.cached_property
    def _day(self) -> datetime.datetime:
        return datetime.datetime.strptime(self.date, _DATE_FORMAT)

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        environment = BoundedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationBlock]
        )
        environment.add_filter("tojson", _tojson)
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = self._day.strftime
        return environment.from_string(self.text)

    @functools.cached_property
    def content(self) -> Content:
        """How the template takes the texts of messages."""
        return find_content(functools.partial(self._rendered, work=PROBE_WORK), without_thinking)

    @functools.cached_property
    def hash(self) -> str:
        """Digest of everything that the rendered text depends on."""
        rest: list[object] = [self.bos, self.eos, self.date, self.system, dict(self.variables)]
        used = {name: text for name, text in self.special.items() if name in self.text}
        return files.sha256(self.text, json.dumps(rest + [used] * bool(used), sort_keys=True))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as text, followed by the beginning of the next reply if `add_generation_prompt`.

        Raises InputError naming the template and the turn where the template refuses the messages or fails on them, and
        ExcessiveTemplateError where it exhausts its budget.
        """
        try:
            return self._render(messages, add_generation_prompt)
        except Exception as error:  # whatever a template raises
            turn = sum(message.role == "user" for message in messages)
            if isinstance(error, ExcessiveWorkError):
                raise ExcessiveTemplateError(f"{self.name} refuses turn {turn}: {error}; {REPAIR}") from None
            raise InputError(f"{self.name} refuses turn {turn}: {_reason(error)}{self._remedy(messages)}") from None

    def check_work(self) -> None:
        """Raise ExcessiveTemplateError for a template that computes without end on one message, as it would on each."""
        try:
            self.render([Message(role="user", content="Hello")], add_generation_prompt=True)
        except ExcessiveTemplateError:
            raise
        except InputError:
            return  # it may want other messages

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        folded = _fold_system(messages) if self.system == "fold_into_first_user" else messages
        given = [{"role": one.role, "content": self.content.given(one.role, one.content)} for one in folded]
        return self._rendered(given, add_generation_prompt)

    def _rendered(self, messages: Sequence[Mapping[str, object]], add_generation_prompt: bool, work: int = WORK) -> str:
        special = {"bos_token": self.bos, "eos_token": self.eos}
        values: dict[str, object] = {"tools": None, "documents": None, "date_string": self.date}
        values |= {name: text for name, text in special.items() if text is not None} | dict(self.special)
        values |= self.variables
        values["messages"] = list(messages)
        values["add_generation_prompt"] = add_generation_prompt
        environment = self._compiled.environment
        assert isinstance(environment, BoundedEnvironment)
        return environment.render(self._compiled, values, work)

    def _remedy(self, messages: Sequence[Message]) -> str:
        """What helps, tried out."""
        if self.system == "keep" and messages and messages[0].role == "system":
            folded = dataclasses.replace(self, system="fold_into_first_user")
            with contextlib.suppress(Exception):
                prompt = folded._render(messages[:-1], True) if messages[-1].role == "assistant" else ""
                rendered = folded._render(messages, False)
                if rendered and rendered.startswith(prompt):
                    return (
                        "; config.template.system=fold_into_first_user (of `aloe score`: --system) moves the system "
                        "message into the first user message"
                    )
        roles = [message.role for message in messages if message.role != "system"]
        if any(role != ("user", "assistant")[number % 2] for number, role in enumerate(roles)):
            return "; expected user and assistant messages in turn, a user message first"
        return f"; {REPAIR}"

    def check_written(self, messages: Sequence[Message], add_generation_prompt: bool) -> None:
        """Raise InputError if the template leaves out the text of one of `messages`, or has no generation prompt where
        one is needed."""
        folded = _fold_system(messages) if self.system == "fold_into_first_user" else messages
        lost = next((one.role for one in folded if one.role in self.content.dropped and one.content.strip()), None)
        if lost == "system":
            raise InputError(
                f"{self.name} leaves out the text of system messages; config.template.system=fold_into_first_user (of "
                "`aloe score`: --system) moves it into the first user message"
            )
        if lost is not None:
            raise InputError(
                f"{self.name} leaves out the text of {lost} messages, given as text and as parts; repair the template "
                "in the model's folder"
            )
        if add_generation_prompt and self.content.header:
            raise InputError(
                f"{self.name} has no generation prompt: {self.content.header!r} would count as a part of each reply; "
                "let the template write it also where add_generation_prompt is true"
            )

    def not_a_continuation(self, messages: Sequence[Message]) -> InputError:
        """The error for rendered `messages`, the last one a reply, that do not begin with the reply's prompt."""
        turn = sum(message.role == "user" for message in messages)
        return InputError(
            f"{self.name}: the rendered turn {turn} does not start with its own prompt, so the reply cannot be told "
            f"from it{self._remedy(messages)}"
        )


def without_thinking(prompt: str) -> str:
    """A generation prompt without the tags that begin or skip the reply's thinking at its end.

    Many templates add `<think>` there and leave thinking out of the replies that they render.
    """
    return _THINKING.sub("", prompt)


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
        template: str = "",
        name: str = "",
    ) -> ChatFormat:
        """Load both from one Hugging Face folder, or the text `template` in place of the folder's own. `name` stands
        in messages for the template. Raises InputError as `Tokenizer.load` and `ChatTemplate` do."""
        tokenizer = Tokenizer.load(folder, template)
        made = ChatTemplate(
            tokenizer.chat_template,
            bos=tokenizer.bos_token,
            eos=tokenizer.eos_token,
            special={name: text for name, text in tokenizer.special.items() if name not in ("bos_token", "eos_token")},
            date=date,
            system=system,
            variables=dict(variables or {}),
            name=name or f"chat template of {folder}",
        )
        return cls(tokenizer, made)

    @functools.cached_property
    def end_of_turn(self) -> re.Pattern[str]:
        """A pattern that matches the text of any end-of-turn token, except where a message holds it as text."""
        texts = sorted(self.tokenizer.end_of_turn_texts, key=len, reverse=True)
        return re.compile(f"(?<!{MARK})(?:{'|'.join(map(re.escape, texts))})")

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as the template renders it, with marks around the texts of special tokens inside messages
        (`Tokenizer.marked`). Raises InputError as the template does, and where it leaves out a text or the generation
        prompt."""
        self.template.check_written(messages, add_generation_prompt)
        marked = [Message(role=one.role, content=self.tokenizer.marked(one.content)) for one in messages]
        return self.template.render(marked, add_generation_prompt)

    def cuts(self, prompt: str, generation_prompts: Iterable[str]) -> list[int]:
        """The places where a rendered prompt is cut, in order: after each end-of-turn text, after each of the earlier
        `generation_prompts` that it begins with (without their thinking, if it does not), and at its end."""
        found = {match.end() for match in self.end_of_turn.finditer(prompt)}
        for earlier in generation_prompts:
            shown = earlier if prompt.startswith(earlier) else without_thinking(earlier)
            found.update([len(shown)] if prompt.startswith(shown) else [])
        return sorted((found | {len(prompt)}) - {0})

    def generation_prompts(self, messages: Sequence[Message]) -> list[str]:
        """The rendered prompt of every assistant message in `messages`, in order."""
        return [
            self.render(messages[:index], add_generation_prompt=True)
            for index, message in enumerate(messages)
            if message.role == "assistant"
        ]

    def prompt_ids(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> list[int]:
        """The token ids of the prompt for the next reply to `messages`, in the same pieces as in training; without the
        generation prompt those of the messages alone.

        Raises InputError where the template refuses the messages.
        """
        prompt = self.render(messages, add_generation_prompt)
        ids: list[int] = []
        start = 0
        for end in self.cuts(prompt, self.generation_prompts(messages)):
            ids += self.tokenizer.encode(prompt[start:end], after=prompt[:start])
            start = end
        return ids

    def continued_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of the prompt for the last of `messages`, a reply that is to be continued, and of its text.

        Raises InputError where the template refuses the messages before it.
        """
        *history, begun = messages
        text = self.tokenizer.marked(begun.content)
        return self.prompt_ids(history) + self.tokenizer.encode(text, after=self.render(history, True))

    def with_variables(self, variables: Mapping[str, object]) -> ChatFormat:
        """The format whose template also has these variables."""
        both = {**self.template.variables, **variables}
        return dataclasses.replace(self, template=dataclasses.replace(self.template, variables=both))


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


def _reason(error: Exception) -> str:
    """The first line of an exception's message, shortened, or its name."""
    said = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return said if len(said) <= 300 else f"{said[:300]}..."


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message if isinstance(message, str) else "")
