"""What a chat template does with the texts of messages, found by rendering a few words: whether it writes them, whether
it takes them as text or as a list of parts (as those of models with images do), and whether it has a generation prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aloe_jax.tree.sandbox import ExcessiveWorkError
from aloe_jax.tree.schema import Role

Form = Literal["text", "parts"]
Render = Callable[[Sequence[Mapping[str, object]], bool], str]
FORMS: tuple[Form, Form] = ("text", "parts")
WORDS: Mapping[Role, str] = {"system": "anchorage", "user": "harbour", "assistant": "lighthouse"}


@dataclass(frozen=True)
class Content:
    """How a template takes the content of each role, the roles whose text it writes nowhere, and what it writes before
    a reply because it has no generation prompt."""

    forms: Mapping[Role, Form]
    dropped: frozenset[Role] = frozenset()
    header: str = ""

    def given(self, role: Role, text: str) -> object:
        """The content as the template takes it."""
        return text if self.forms[role] == "text" else [{"type": "text", "text": text}]


def find_content(render: Render, thinking: Callable[[str], str]) -> Content:
    """What the template behind `render` does with messages; `thinking` removes a prompt's tags of thinking. What it
    raises here counts as no finding: it raises the same where it is used."""
    try:
        return _found(render, thinking)
    except ExcessiveWorkError:
        return Content(dict.fromkeys(WORDS, "text"))


def _found(render: Render, thinking: Callable[[str], str]) -> Content:
    pairs: list[dict[Role, Form]] = [
        {"user": user, "assistant": reply} for user, reply in itertools.product(FORMS, FORMS)
    ]
    forms = max(pairs, key=lambda forms: _shown(render, forms, "user", "assistant"))  # the first of equals: texts
    dropped: set[Role] = set()
    roles: tuple[Role, Role] = ("user", "assistant")
    if not _refused(render, forms):
        dropped |= {role for role in roles if not _shown(render, forms, role)}
    with_system: list[dict[Role, Form]] = [{**forms, "system": form} for form in FORMS]
    forms = max(with_system, key=lambda forms: _shown(render, forms, "system"))
    if not dropped and not _refused(render, forms) and not _shown(render, forms, "system"):
        dropped.add("system")
    return Content(forms, frozenset(dropped), "" if dropped else _header(render, forms, thinking))


def _rendered(render: Render, forms: Mapping[Role, Form], *given: tuple[Role, bool]) -> list[str | None]:
    """The conversation up to a role, with or without a generation prompt; None where it is refused."""
    content, found = Content(forms), list[str | None]()
    roles: list[Role] = [role for role in WORDS if role in forms]
    for last, prompt in given:
        messages: list[Mapping[str, Any]] = [
            {"role": role, "content": content.given(role, WORDS[role])} for role in roles[: roles.index(last) + 1]
        ]
        try:
            found.append(render(messages, prompt))
        except ExcessiveWorkError:
            raise
        except Exception:  # whatever a template raises
            found.append(None)
    return found


def _shown(render: Render, forms: Mapping[Role, Form], *roles: Role) -> int:
    """How many of the roles' words the template writes, into the prompt or into the whole conversation."""
    text = "".join(filter(None, _rendered(render, forms, ("user", True), ("assistant", False)))).lower()
    return sum(WORDS[role] in text for role in roles)


def _refused(render: Render, forms: Mapping[Role, Form]) -> bool:
    return None in _rendered(render, forms, ("user", True), ("assistant", False))


def _header(render: Render, forms: Mapping[Role, Form], thinking: Callable[[str], str]) -> str:
    """What stands before a reply's text, white space and thinking aside, where the generation prompt adds nothing."""
    plain: dict[Role, Form] = {role: form for role, form in forms.items() if role != "system"}
    bare, prompt, whole = _rendered(render, plain, ("user", False), ("user", True), ("assistant", False))
    if bare is None or bare != prompt or whole is None or not whole.startswith(bare):
        return ""
    return thinking(whole[len(bare) :].partition(WORDS["assistant"])[0]).strip()
