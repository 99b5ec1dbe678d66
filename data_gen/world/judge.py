"""The scripted judge: a score from 1 to 5 by the checkers, on two scales.

On the scale `shown` only what the user has shown so far counts: a reply that misses nothing it could know has 5 in
every turn. On the scale `persona` the style is the mean over all traits that the user holds, shown or not, as in the
paper: a model that fits what it is shown rises there as more is shown. All else is the same on both.

    value = 1 + 4 * engaging * tact * restraint * (style / 4 + content / 4 + style * content / 2)

- style: mean of the checkers of the traits (1 while none is shown). A user that has changed a preference holds the new
  setting only, which it shows in the turn of the change;
- content: 0.5 for naming a fact of the latest message, 0.25 for each of up to two of its topic words; a fact shown
  earlier counts 0.25 if nothing else is named;
- engaging: 1, lowered by the worst of: empty or tiny, garbled (hardly any function words, or the same words again and
  again), a near copy of a user message, a near copy of an earlier reply, more than three facts in one reply;
- tact: 1, lowered to 0.3 by one fact that the user has not shown, and to 0.1 by more of them;
- restraint: 1 in ordinary turns. Where a reply is not to be about the user (`occasions`), 0.4 for one fact or flourish
  that is out of place, 0.2 for more of them.
In such a turn style and content are of what it asks for, on both scales. For a question of fact style is 1, and content
1 for a right answer and half for one beside wrong ones; for somebody else style is the setting that is wanted, and the
errand takes the place of the fact.
The product of style and content makes both together worth more than twice one of them; the linear terms keep a slope
where one of them is 0, so that there is a learning signal at every level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message, Persona
from data_gen.roles import Comparison, Dialogue, Revealed, Verdict
from data_gen.text import FUNCTION_WORDS, content_stems, copied_share, falling, stem_set, words
from data_gen.world.facts import facts_of, named, shown_facts, user_turns
from data_gen.world.occasions import answered, counted_styles, frills, occasion_of, topics
from data_gen.world.styles import BY_ID, styles_of

TEMPERATURE = 0.5  # points of score; a lead of one point is preferred with probability 0.88
MAX_FACTS = 3  # that one reply may name; more are a recital
PERSONAL = "personal"  # the fault of a reply that is about the user where it should not be
PARROT, REPEAT = (0.4, 0.65), (0.6, 0.9)  # copied shares of user messages and of replies: harmless, and at their worst
_LEAK_FACTOR = (1.0, 0.3, 0.1)  # by number of named facts that the user has not shown; the last for two and more
_FRILL_FACTOR = (1.0, 0.4, 0.2)  # by number of facts and flourishes out of place; the last for two and more


@dataclass(frozen=True)
class Assessment:
    """The parts of a score, each in [0, 1]; `value` and `persona_value` are in [1, 5]. `styles` has the shown traits
    only, `all_styles` all that the user holds. `fault` is the worst fault other than style (a key of `remarks.FAULTS`),
    or `PERSONAL`, if there is one."""

    styles: Mapping[str, float]
    all_styles: Mapping[str, float]
    content: float
    engaging: float
    tact: float
    fault: str | None
    restraint: float = 1.0

    @property
    def style(self) -> float:
        """Mean over the shown traits; 1 without any."""
        return _mean(self.styles)

    @property
    def value(self) -> float:
        """The score from 1 to 5 on the scale `shown`."""
        return self._score(self.style)

    @property
    def persona_value(self) -> float:
        """The score from 1 to 5 on the scale `persona`."""
        return self._score(_mean(self.all_styles))

    def _score(self, style: float) -> float:
        mixed = (style + self.content) / 4 + style * self.content / 2
        return 1.0 + 4.0 * self.engaging * self.tact * self.restraint * mixed


def _mean(styles: Mapping[str, float]) -> float:
    return sum(styles.values()) / len(styles) if styles else 1.0


def assess(persona: Persona, dialogue: Sequence[Message], reply: str) -> Assessment:
    """The parts of the score of `reply`. InputError unless `dialogue` ends with a user message."""
    if not dialogue or dialogue[-1].role != "user":
        raise InputError("dialogue must end with a user message for a reply to be scored")
    shown = shown_facts(persona, dialogue)
    occasion, counted = occasion_of(persona, dialogue), counted_styles(persona, dialogue)
    whole = occasion is None or occasion.kind == "neutral"
    held = [style.id for style in styles_of(persona, len(user_turns(dialogue)))] if whole else counted
    fits = {id: BY_ID[id].check(reply, dialogue, persona) for id in held}
    styles = {id: fits[id] for id in counted}
    content = content_fit(persona, dialogue, reply, shown)
    faults = {**engagement(persona, dialogue, reply), "leak": tact(persona, dialogue, reply, shown)}
    faults[PERSONAL] = _FRILL_FACTOR[min(frills(persona, dialogue, reply), len(_FRILL_FACTOR) - 1)]
    worst = min(faults, key=lambda name: faults[name])
    fault = worst if faults[worst] < 1.0 else "off_topic" if content == 0.0 else None
    leak, restraint = faults.pop("leak"), faults.pop(PERSONAL)
    return Assessment(styles, fits, content, min(faults.values()), leak, fault, restraint)


def content_fit(persona: Persona, dialogue: Sequence[Message], reply: str, shown: Mapping[str, int]) -> float:
    """How far the reply is about the latest message; see the module's docstring."""
    latest, occasion = dialogue[-1].content, occasion_of(persona, dialogue)
    if occasion is not None and occasion.question is not None:
        return answered(occasion.question, reply)
    facts = [fact for fact in facts_of(persona) if fact.id in shown]
    topical = topics(persona, dialogue)
    field = frozenset().union(*(fact.name_stems | fact.related_stems for fact in topical))
    touched = content_stems(reply) & (content_stems(latest) | field)
    fit = 0.5 * bool(named(topical, reply)) + 0.25 * min(2, len(touched))
    return fit if occasion is not None else max(fit, 0.25 * bool(named(facts, reply)))


def engagement(persona: Persona, dialogue: Sequence[Message], reply: str) -> dict[str, float]:
    """Factors in [0, 1] by fault, of which the lowest counts."""
    tokens = words(reply)
    earlier = [message.content for message in dialogue if message.role == "assistant"]
    function_share = sum(token in FUNCTION_WORDS for token in tokens) / max(1, len(tokens))
    variety = len(set(tokens)) / max(1, len(tokens))
    garbled = 1.0
    if len(tokens) >= 3:
        garbled = 1.0 - 0.75 * falling(function_share, 0.15, 0.3)
    if len(tokens) >= 6:
        garbled = min(garbled, 1.0 - 0.8 * falling(variety, 0.4, 0.6))
    parrot = max(copied_share(reply, text, PARROT[0]) for text in user_turns(dialogue))
    repeat = max((copied_share(reply, text, REPEAT[0]) for text in earlier), default=0.0)
    facts = len(named(facts_of(persona), reply))
    return {
        "empty": (0.0, 0.5, 0.75)[len(tokens)] if len(tokens) < 3 else 1.0,
        "garbled": garbled,
        "parrot": 0.1 + 0.9 * falling(parrot, *PARROT),
        "repeat": 0.2 + 0.8 * falling(repeat, *REPEAT),
        "recital": 1.0 if facts <= MAX_FACTS else 0.4,
    }


def tact(persona: Persona, dialogue: Sequence[Message], reply: str, shown: Mapping[str, int]) -> float:
    """1 unless the reply names facts that the user has not shown; words that the user has used give nothing away."""
    said = frozenset().union(*map(stem_set, user_turns(dialogue)))
    hidden = [fact for fact in facts_of(persona) if fact.id not in shown]
    leaks = [fact for fact in hidden if (fact.name_stems & stem_set(reply)) - said]
    return _LEAK_FACTOR[min(len(leaks), len(_LEAK_FACTOR) - 1)]


def preference(first: float, second: float) -> float:
    """Probability that the user prefers the first of two scored replies: the logistic function of their difference over
    `TEMPERATURE`."""
    return 1.0 / (1.0 + math.exp(-(first - second) / TEMPERATURE))


class ScriptedJudge:
    """Implements `data_gen.roles.Judge` without a model. It scores each reply alone, so it has no position bias."""

    name = "scripted"

    async def score(
        self, persona: Persona, dialogue: Dialogue, reply: str, revealed: Sequence[Revealed] | None = None
    ) -> Verdict:
        """Both scores with the criteria `style`, `content`, `engaging` and `tact` (of the scale `shown`), each in
        [0, 1], in turns in which a reply is not to be about the user `restraint` as well, and a reason for each trait
        that the reply missed and for the worst other fault."""
        parts = assess(persona, dialogue, reply)
        criteria = {"style": parts.style, "content": parts.content, "engaging": parts.engaging, "tact": parts.tact}
        if occasion_of(persona, dialogue) is not None:
            criteria["restraint"] = parts.restraint
        reasons = [f"missed: {BY_ID[id].text}" for id, fit in parts.styles.items() if fit < 1.0]
        if parts.fault is not None:
            reasons.append(_REASONS[parts.fault])
        return Verdict(parts.value, criteria, tuple(reasons), persona=parts.persona_value)

    async def prefer(
        self, persona: Persona, dialogue: Dialogue, first: str, second: str, revealed: Sequence[Revealed] | None = None
    ) -> Comparison:
        """`preference` of the two scores: 0.5 for equal ones, and p(a, b) = 1 - p(b, a)."""
        p = preference(assess(persona, dialogue, first).value, assess(persona, dialogue, second).value)
        return Comparison(p, p)


_REASONS = {
    "empty": "says next to nothing",
    "parrot": "hands the user's own words back",
    "repeat": "repeats an earlier reply",
    "garbled": "is not running English",
    "leak": "names a fact the user has not shown",
    "recital": "recites the user's facts",
    PERSONAL: "is about the user where it should not be",
    "off_topic": "does not touch what the user said",
}
