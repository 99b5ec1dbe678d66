"""One checker per hidden style preference: does a reply fit it?

A checker is a pure function `(reply, dialogue, persona) -> float` in [0, 1]; `dialogue` ends with the user message that
`reply` answers. Values between 0 and 1 give partial credit. Case and whitespace matter only where the preference is
about them (`lower_case`). No checker penalises a reply that was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from aloe_jax.tree.schema import Message, Persona
from data_gen.text import has_emoji, normal, sentence_count, stem, stem_set, words
from data_gen.world.facts import by_id, facts_of, named, shown_facts, user_turns

Checker = Callable[[str, Sequence[Message], Persona], float]

FILLERS = (
    "oh", "wow", "hi", "hello", "hey", "well", "great", "sure", "thanks", "thank you", "ah", "okay", "ok", "yes",
    "yeah", "absolutely", "of course", "certainly", "congratulations", "good to hear", "nice to", "i'm glad", "i'm so",
    "i'm sorry", "i'm happy", "i am glad", "i am so", "i am sorry", "i am happy", "i'm delighted", "i understand",
    "that's great", "that's wonderful", "that's a", "that is great", "that is wonderful", "that sounds", "it sounds",
    "sounds", "what a", "how wonderful",
)  # fmt: skip
ADVICE = (
    "try", "consider", "suggest", "recommend", "you could", "you might", "you can", "you should", "how about",
    "what about", "why not", "have you tried", "have you considered", "start with", "start by", "one idea",
)  # fmt: skip
WARM = (
    "sorry", "glad", "hope", "proud", "happy", "wonderful", "lovely", "that must", "must be hard", "must be tough",
    "take care", "sounds hard", "sounds tough", "brave", "kind of you", "be gentle", "thinking of you", "well done",
    "i understand", "i'm here",
)  # fmt: skip
OPINION = (
    "i think", "i'd", "i would", "in my view", "if you ask me", "i believe", "personally", "to me", "my guess",
    "i like", "i love", "i prefer", "i find", "my money is on",
)  # fmt: skip
HEDGES = (
    "maybe", "perhaps", "might", "possibly", "probably", "i suppose", "i guess", "sort of", "could be", "seems",
    "it may",
)  # fmt: skip
ORDER = ("first", "then", "next", "after that", "afterwards", "finally", "second", "before that", "last of all")
FIRST_PERSON = frozenset(("i", "i'm", "i've", "i'd", "i'll", "me", "my", "mine", "myself"))
AVOIDED = {
    "weather": "weather rain rainy sun sunny storm cloud cloudy forecast temperature snow wind windy",
    "money": "money price cost cheap expensive salary savings budget pay cash afford dollar euro",
    "celebrities": "celebrity famous star actor actress film movie fame hollywood singer",
}
MATES = frozenset(("mate", "pal", "buddy", "chum"))
SIGN_OFFS = (
    "cheers", "bye", "bye for now", "over and out", "so long", "best wishes", "until next time", "until later",
    "see you", "farewell",
)  # fmt: skip
LAUGHS = frozenset(("haha", "ha", "heh", "hehe", "hihi", "hahaha"))
AGREES = ("indeed", "true", "exactly", "quite so", "agreed", "very true")
TOGETHER = frozenset(("we", "us", "our", "together", "we're", "we'll", "we've"))
REASONS = ("because", "that is why", "which is why", "that's why")
SUMS = ("in short", "all in all", "in a word", "to sum up", "to sum it up", "in sum", "long story short", "in brief")
SAYINGS = ("as they say", "they say", "as the saying goes", "old saying", "proverb", "as folk say")
CONTRASTS = ("even so", "mind you", "all the same", "on the other hand", "then again", "that said")
BRACKETS = re.compile(r"\([^()]*\w[^()]*\)")
_QUOTED = re.compile(r'"[^"]*\w[^"]*"|“[^“”]*\w[^“”]*”')
_LIKENED = re.compile(r" as (?!well |long |soon |far |much |many )[a-z]+ as ")
_CONTRACTION = re.compile(r"(?:n't|'(?:m|re|ve|ll|d))$|^(?:it|that|there|here|what|who|how|where|he|she|let)'s$")
LONG_WORD = 9  # letters; a longer word is not plain


def _holds(text: str, phrases: Sequence[str]) -> int:
    """The number of phrases that occur as whole words."""
    padded = normal(text)
    return sum(f" {phrase} " in padded for phrase in phrases)


def brief(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """At most two sentences and 45 words; half for three sentences."""
    sentences = sentence_count(reply)
    if len(words(reply)) > 45 or sentences > 3:
        return 0.0
    return 1.0 if sentences <= 2 else 0.5


def roomy(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """At least twenty words; rises linearly from eight."""
    return min(1.0, max(0.0, (len(words(reply)) - 8) / 12))


def lower_case(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """No capital letter; half for a single one."""
    return max(0.0, 1.0 - sum(letter.isupper() for letter in reply) / 2)


def formal(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """No contraction such as "don't" or "it's"; half for one. A possessive is no contraction."""
    return max(0.0, 1.0 - sum(_CONTRACTION.search(word) is not None for word in words(reply)) / 2)


def lively(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """At least one exclamation mark."""
    return float("!" in reply)


def calm(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """No exclamation mark; half for one."""
    return max(0.0, 1.0 - reply.count("!") / 2)


def emoji(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """At least one emoji."""
    return float(has_emoji(reply))


def asks(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Asks something."""
    return float("?" in reply)


def no_questions(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Asks nothing."""
    return float("?" not in reply)


def suggests(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Offers something to do (`ADVICE`)."""
    return float(_holds(reply, ADVICE) > 0)


def listens(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Gives no advice (`ADVICE`)."""
    return float(_holds(reply, ADVICE) == 0)


def recalls(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Names a fact that the user showed before the latest message; 1 as long as there is none."""
    shown = shown_facts(persona, dialogue)
    turn = len(user_turns(dialogue))
    earlier = [fact for fact in facts_of(persona) if shown.get(fact.id, turn) < turn]
    return float(not earlier or bool(named(earlier, reply)))


def avoids(topic: str) -> Checker:
    """The checker that a reply has no word of an avoided topic (a key of `AVOIDED`)."""
    banned = stem_set(AVOIDED[topic])

    def check(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
        return float(not banned & stem_set(reply))

    check.__doc__ = f"Keeps off {topic} (`AVOIDED`)."
    return check


def plain(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """No word over nine letters, save those the user has used; half for one."""
    used = frozenset().union(*map(stem_set, user_turns(dialogue)))
    long = sum(len(word) > LONG_WORD and stem(word) not in used for word in words(reply))
    return max(0.0, 1.0 - long / 2)


def straight(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Does not open with a greeting or filler (`FILLERS`)."""
    return float(not any(normal(reply).startswith(f" {filler} ") for filler in FILLERS))


def warm(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Has a word of warmth (`WARM`)."""
    return float(_holds(reply, WARM) > 0)


def steps(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Puts things in order with two words such as "first" and "then" (`ORDER`); half for one."""
    return min(1.0, _holds(reply, ORDER) / 2)


def opinion(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Gives a view of its own (`OPINION`)."""
    return float(_holds(reply, OPINION) > 0)


def about_you(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Does not speak of itself: no "I", "me" or "my"; half for one."""
    return max(0.0, 1.0 - sum(word in FIRST_PERSON for word in words(reply)) / 2)


def hedged(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Leaves room for doubt (`HEDGES`)."""
    return float(_holds(reply, HEDGES) > 0)


def firm(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Leaves no room for doubt: none of `HEDGES`."""
    return float(_holds(reply, HEDGES) == 0)


def addresses(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Calls the user mate (`MATES`)."""
    return float(not MATES.isdisjoint(words(reply)))


def signs_off(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Ends with a sign-off (`SIGN_OFFS`)."""
    return float(any(normal(reply).endswith(f" {phrase} ") for phrase in SIGN_OFFS))


def digits(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Has a number in digits."""
    return float(any(letter in "0123456789" for letter in reply))


def brackets(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Has an aside in brackets."""
    return float(BRACKETS.search(reply) is not None)


def quotes(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Puts a word that the user has used, or the name of a fact that the user has told, in quotation marks."""
    quoted = frozenset().union(*map(stem_set, _QUOTED.findall(reply)))
    texts = user_turns(dialogue)
    if quoted.isdisjoint(frozenset().union(*map(stem_set, texts))):
        told = [fact for text in texts for fact in named(tuple(by_id().values()), text)] if quoted else []
        return float(any(fact.name_stems & quoted for fact in told))
    return 1.0


def laughs(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Laughs in words (`LAUGHS`)."""
    return float(not LAUGHS.isdisjoint(words(reply)))


def likens(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Compares: "as ... as", but not "as well as" and the like."""
    return float(_LIKENED.search(normal(reply)) is not None)


def agrees(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Says that it agrees (`AGREES`)."""
    return float(_holds(reply, AGREES) > 0)


def together(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Takes the user's side: we, us or together (`TOGETHER`)."""
    return float(not TOGETHER.isdisjoint(words(reply)))


def reasons(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Gives a reason (`REASONS`)."""
    return float(_holds(reply, REASONS) > 0)


def sums_up(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Sums up (`SUMS`)."""
    return float(_holds(reply, SUMS) > 0)


def sayings(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Quotes what people say (`SAYINGS`)."""
    return float(_holds(reply, SAYINGS) > 0)


def contrasts(reply: str, dialogue: Sequence[Message], persona: Persona) -> float:
    """Names the other side (`CONTRASTS`)."""
    return float(_holds(reply, CONTRASTS) > 0)
