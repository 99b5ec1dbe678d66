"""What users ask when a reply is not to be about them, for either split. Plain data, all written for this project.

The answers to the questions follow from arithmetic and from what words and units mean. An errand is for somebody else;
who that is and what it is about stands in its clause. The splits share no question, no errand and no frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_gen.world.facts import Fact, Split

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = ("january", "february", "march", "april", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip
SIDES = ("north", "south", "east", "west")


@dataclass(frozen=True)
class Question:
    """A question of fact in a frame of `FRAMES`. Each of `answers` is right, the first is how the oracle puts it; of
    `options`, if there are any, every other one is wrong, and so is any other number."""

    text: str
    answers: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def subject(self) -> Fact:
        """What the message is about."""
        return Fact(id="question.fact", text=self.text, topic="question", names=self.answers, related=(), forms=())


def _of(text: str, *answers: str, options: tuple[str, ...] = ()) -> Question:
    return Question(text, answers, options)


QUESTIONS: Mapping[Split, tuple[Question, ...]] = {
    "train": (
        _of("how many minutes are there in three hours", "180"),
        _of("how many sides has a hexagon", "6", "six"),
        _of("what is seven times eight", "56", "fifty-six"),
        _of("how many days are there in a leap year", "366"),
        _of("how many centimetres make two metres", "200", "two hundred"),
        _of("which day comes after Tuesday", "Wednesday", options=DAYS),
        _of("how many letters has the English alphabet", "26", "twenty-six"),
        _of("what is half of ninety", "45", "forty-five"),
        _of("how many things are in two dozen", "24", "twenty-four"),
        _of("which month comes after October", "November", options=MONTHS),
        _of("how many grams are in a kilogram", "1000", "1,000", "a thousand", "one thousand"),
        _of("how many corners has a cube", "8", "eight"),
        _of("what is a hundred minus thirty-seven", "63", "sixty-three"),
        _of("how many seconds are in five minutes", "300", "three hundred"),
        _of("how many weeks are in 28 days", "4", "four"),
        _of("how many quarters make three wholes", "12", "twelve"),
        _of("what is the next even number after 58", "60", "sixty"),
        _of("which way is opposite to north", "South", options=SIDES),
        _of("how many degrees has a right angle", "90", "ninety"),
        _of("what is nine squared", "81", "eighty-one"),
    ),
    "benchmark": (
        _of("how many hours make up two days", "48", "forty-eight"),
        _of("how many sides does an octagon have", "8", "eight"),
        _of("what do six and nine give as a product", "54", "fifty-four"),
        _of("how long is February in a leap year", "29 days", "29", "twenty-nine"),
        _of("how many millimetres go into three centimetres", "30", "thirty"),
        _of("which day stands before Saturday", "Friday", options=DAYS),
        _of("how many edges does a cube have", "12", "twelve"),
        _of("what does a third of sixty come to", "20", "twenty"),
        _of("how many pairs can fourteen socks make", "7", "seven"),
        _of("which month stands before April", "March", options=MONTHS),
        _of("how many millilitres go into two litres", "2000", "2,000", "two thousand"),
        _of("how many corners does a pentagon have", "5", "five"),
        _of("what does eighty minus nineteen leave", "61", "sixty-one"),
        _of("how many minutes does a quarter of an hour last", "15", "fifteen"),
        _of("how many months do three years have", "36", "thirty-six"),
        _of("what remains of 17 when 5 is taken away three times", "2", "two"),
        _of("which odd number follows 71", "73", "seventy-three"),
        _of("what lies opposite to east", "West", options=SIDES),
        _of("how many degrees make a full turn", "360"),
        _of("what does eleven squared come to", "121"),
    ),
}
FRAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("A plain question: {}?", "One thing to look up: {}?", "Settle this for me: {}?", "Short question: {}?",
              "For a form I fill in: {}?", "My pen is ready: {}?"),
    "benchmark": ("Only the answer, please: {}?", "A matter of fact: {}?", "For a sheet in front of me: {}?",
                  "Just so I know: {}?", "Something to check: {}?", "Help me with this one: {}?"),
}  # fmt: skip
ANSWERS: Mapping[Split, tuple[str, ...]] = {
    "train": ("It is {}.", "The answer is {}.", "{} is right.", "That is {}.", "{} it is."),
    "benchmark": ("That makes {}.", "The result: {}.", "{} would be it.", "You get {}.", "Put down {}."),
}


class Errand(Fact):
    """Something for somebody else; `text` is the clause that stands in a frame of `PLEAS`."""


def _for(text: str, topic: str, name: str, *related: str) -> Errand:
    return Errand(id=f"errand.{name}", text=text, topic=topic, names=(name,), related=related, forms=())


ERRANDS: Mapping[Split, tuple[Errand, ...]] = {
    "train": (
        _for("my neighbour, who bought an old tractor", "tractor", "tractor", "plough", "engine"),
        _for("a colleague, who mends clocks at night", "clocks", "clocks", "gears", "hands"),
        _for("my teacher, who keeps snails in the yard", "snails", "snails", "lettuce", "shells"),
        _for("the postman, who used to steer a ferry", "ferry", "ferry", "deck", "tide"),
        _for("a friend of mine, who waters one giant cactus", "cactus", "cactus", "thorns", "pots"),
        _for("my old boss, who took up a kayak", "kayak", "kayak", "paddle", "rapids"),
        _for("the lady upstairs, who mixes her own perfume", "perfume", "perfume", "bottles", "scent"),
        _for("my dentist, who won a prize for his beard", "beard", "beard", "comb", "razor"),
        _for(
            "a friend of mine, who builds a huge sandcastle each year", "sandcastle", "sandcastle", "bucket", "shovel"
        ),
        _for("the man next door, who restores a carousel", "carousel", "carousel", "horses", "paint"),
    ),
    "benchmark": (
        _for("my hairdresser, who lives for a surfboard", "surfboard", "surfboard", "waves", "wetsuit"),
        _for("someone at work, who raises an alpaca", "alpaca", "alpaca", "wool", "meadow"),
        _for("the janitor, who sweeps every chimney in town", "chimney", "chimney", "soot", "brushes"),
        _for("my tutor, who collects one globe after another", "globe", "globe", "atlas", "shelf"),
        _for("a girl I know, who trains on a trampoline", "trampoline", "trampoline", "bounce", "landing"),
        _for("our clerk, who pours candles by hand", "candles", "candles", "wick", "flame"),
        _for("a man from the club, who saves every pinball machine", "pinball", "pinball", "arcade", "coins"),
        _for("my former boss, who talks to each orchid", "orchid", "orchid", "greenhouse", "petals"),
        _for("a boy down the road, who walks on stilts", "stilts", "stilts", "parade", "balance"),
        _for("the woman across, who carves a sledge", "sledge", "sledge", "slope", "frost"),
    ),
}
PLEAS: Mapping[Split, tuple[str, ...]] = {
    "train": ("Could you write a line for {}?", "I need a few words for {}.", "Please fill a card for {}.",
              "What fits on a gift tag for {}?"),
    "benchmark": ("Which words would suit {}?", "Some words are due to {}.", "Give me a note to {}.",
                  "What could one write to {}?"),
}  # fmt: skip
# What the other person wants of it, by style setting.
WANTS: Mapping[Split, Mapping[str, tuple[str, ...]]] = {
    "train": {
        "length.brief": ("Two sentences at most are wanted.", "It has to stay within two sentences."),
        "emoji.emoji": ("An emoji has to be in it.", "One emoji is wanted."),
        "energy.lively": ("An exclamation mark is wanted.", "It has to have an exclamation mark."),
        "figures.digits": ("A number in digits is wanted.", "It has to have a number, in digits."),
        "question.asks": ("It has to ask something back.", "A question at the end is wanted."),
        "warmth.warm": ("Warm words are wanted.", "It has to be full of warmth."),
        "saying.sayings": ("A bit of folk wisdom is wanted.", "It has to quote what folk say."),
        "closing.signs_off": ("A cheers at the end is wanted.", "It has to end with a bye."),
    },
    "benchmark": {
        "length.brief": ("Make it two sentences and no more.", "No longer than two sentences, I was told."),
        "emoji.emoji": ("Make it one with an emoji.", "An emoji belongs in it, I was told."),
        "energy.lively": ("Make it one with an exclamation mark.", "Exclamation marks are welcome, I was told."),
        "figures.digits": ("Make it one with a figure in digits.", "Digits belong in it, I was told."),
        "question.asks": ("Make it one that asks something.", "A question belongs in it, I was told."),
        "warmth.warm": ("Make it a warm one.", "Warmth belongs in it, I was told."),
        "saying.sayings": ("Make it one with a piece of old wisdom.", "Folk wisdom belongs in it, I was told."),
        "closing.signs_off": ("Make it one that says farewell.", "A farewell belongs in it, I was told."),
    },
}
# What the oracle writes for somebody else.
NOTES: Mapping[Split, tuple[str, ...]] = {
    "train": (
        "To the {topic} and the {other}, and all that goes with them.",
        "No {topic} without the {other}, and no day without both.",
        "The {topic} and the {other} deserve a line of their own.",
        "Where the {topic} is, the {other} is never far.",
        "One word on the {topic}: the {other} does the rest.",
        "Long live the {topic}, and the {other} with it.",
    ),
    "benchmark": (
        "All who know the {topic} know the {other} too.",
        "Behind every {topic} stands the {other}.",
        "This goes out to the {topic}, {other} included.",
        "A fine thing, the {topic}, and so is the {other}.",
        "From the {topic} to the {other}, a job kept up for years.",
        "Let the {topic} speak, with the {other} to follow.",
    ),
}
