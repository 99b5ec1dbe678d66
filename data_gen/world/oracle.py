"""The oracle: replies that fit everything the user has shown, composed of sentences of its own.

It proves that the top of the scripted judge's scale can be reached at every turn. It reads the persona, which no model
is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from aloe_jax.tree.schema import Message, Persona
from data_gen.seeds import draw
from data_gen.world.facts import Fact, facts_of, named, shown_facts, user_turns
from data_gen.world.judge import assess
from data_gen.world.remarks import EMOJI
from data_gen.world.styles import shown_styles

# "{topic}" and "{other}" (a word of the same field) make the reply relevant. None of these sentences has an exclamation
# mark, a question, advice, a hedge, a contraction, a word of the first person, a filler at its start or a long word.
CORES = (
    "Between your {topic} and the {other}, that makes a full week.",
    "Your {topic} asks a lot of a person, the {other} most of all.",
    "Such a tale about your {topic}, with the {other} on top.",
    "No wonder your {topic} is on your mind, {other} and all.",
    "People without your {topic} have no clue about the {other}.",
    "Your {topic} would fill a book, {other} included.",
    "Any day with your {topic} and the {other} counts double.",
    "All that with your {topic}, and nobody even saw the {other}.",
    "Life with your {topic} and the {other} is never dull.",
    "The {other} alone would do, and on top of it comes your {topic}.",
    "Few can picture your {topic} without the {other}.",
    "Your {topic} deserves a medal, the {other} as well.",
)
PADDING = (
    "It shows how much goes on behind an ordinary day.",
    "Most folk only ever see the tidy side of it.",
    "A thing like that stays in the head for a good long while.",
    "There is a whole chapter hidden in that one remark.",
    "Nobody hands out prizes for it, and that is a shame.",
    "It takes a steady hand to get through such a day.",
    "The small parts of it are often the ones that last.",
    "From the outside it looks simple, from the inside it is not.",
)
EXTRAS = {
    "advice.suggests": (
        "Try ten quiet minutes with it tomorrow.",
        "Start with the smallest part of it tonight.",
        "Consider asking a friend along.",
        "Why not write down three ways out.",
        "Try it once with the door shut.",
        "You could hand half of it over.",
        "You could sleep on it and call someone at noon.",
        "Start by clearing one hour on Saturday.",
    ),
    "memory.recalls": (
        "It fits with your {older}.",
        "Your {older} comes to mind as well.",
        "No small thing next to your {older}.",
        "On top of your {older}, that is plenty.",
        "And there is still your {older}.",
        "It has a touch of your {older} about it.",
        "Your {older} must feel far away on such a day.",
        "So much for rest after your {older}.",
    ),
    "warmth.warm": (
        "That must take some strength.",
        "Take care of yourself in all this.",
        "So sorry it came to that.",
        "So glad you told the story.",
        "Thinking of you tonight.",
        "Be proud of that.",
        "Well done for getting through it.",
        "Here is to a happy end.",
    ),
    "order.steps": (
        "First comes the shock, then the laugh.",
        "First it hurts, then it heals.",
        "First the worst of it, next the rest.",
        "First a deep breath, afterwards the work.",
        "First the tears, finally the joke.",
        "The mess comes first, then the calm.",
        "First one corner, next the other one.",
        "Rest comes first, the answer comes then.",
    ),
    "voice.opinion": (
        "I think it says a lot about you.",
        "In my view that took nerve.",
        "Personally, a day like that would floor me.",
        "I would have run a mile.",
        "I find it rather grand.",
        "I like how you tell it.",
        "My guess is that it changes you.",
        "I believe few would cope as well.",
    ),
    "certainty.hedged": (
        "Perhaps it will pass.",
        "Maybe that is how it has to be.",
        "It might look better by the weekend.",
        "Possibly the worst is over.",
        "It could be a turn for the better.",
        "It probably seems bigger at night.",
        "It may well turn out fine.",
        "Maybe nobody else saw it at all.",
    ),
    "question.asks": (
        "What happens next?",
        "How did the day end?",
        "Who else was there?",
        "When did it begin?",
        "What was the best part?",
        "How do you feel now?",
        "Which part was the worst?",
        "What did the others say?",
    ),
}
_DRAFTS = 24


def oracle_reply(persona: Persona, dialogue: Sequence[Message], seed: int = 0) -> str:
    """A reply that names a fact of the latest message and fits all shown styles: the best of some drafts by the judge's
    score, so that it does not repeat itself either. It depends only on its arguments."""
    latest = dialogue[-1].content
    best, best_value = "", 0.0
    for number in range(_DRAFTS):
        reply = _draft(persona, dialogue, (seed, number, latest))
        value = assess(persona, dialogue, reply).value
        if value > best_value:
            best, best_value = reply, value
        if value > 5.0 - 1e-6:
            break
    return best


def _draft(persona: Persona, dialogue: Sequence[Message], key: tuple[object, ...]) -> str:
    held = set(shown_styles(persona, dialogue))
    turn = len(user_turns(dialogue))
    shown = shown_facts(persona, dialogue)
    facts = [fact for fact in facts_of(persona) if fact.id in shown]
    topical = named(facts, dialogue[-1].content)
    older = [fact for fact in facts if shown[fact.id] < turn and fact not in topical]
    topic: Fact = draw(topical, *key, "topic")
    fields = {
        "topic": topic.topic,
        "other": draw(topic.related, *key, "other"),
        "older": draw(older or facts, *key, "older").topic,
    }
    parts = [draw(CORES, *key, "core")]
    parts += [draw(EXTRAS[id], *key, id) for id in EXTRAS if id in held]  # the question comes last
    if "length.roomy" in held:
        parts.insert(1, draw(PADDING, *key, "padding"))
    sentences = [part.format_map(fields) for part in parts]
    if "length.brief" in held:
        sentences = _joined(sentences)
    return _dressed(sentences, held, key)


def _joined(sentences: Sequence[str]) -> list[str]:
    """At most two sentences: the question, and the rest joined into one."""
    questions = [text for text in sentences if text.endswith("?")]
    told = [text.removesuffix(".") for text in sentences if not text.endswith("?")]
    one = "; ".join([told[0], *(text if text.startswith("I ") else text[0].lower() + text[1:] for text in told[1:])])
    return [f"{one}.", *questions]


def _dressed(sentences: Sequence[str], held: set[str], key: tuple[object, ...]) -> str:
    text = " ".join(sentences)
    if "energy.lively" in held:
        text = text.replace(".", "!", 1)
    if "register.lower" in held:
        text = text.lower()
    if "emoji.emoji" in held:
        text = f"{text} {draw(EMOJI, *key, 'emoji')}"
    return text
