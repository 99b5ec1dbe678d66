"""The sentences that the oracle composes its replies of, for either split. Plain data, all written for this project.

The splits share no sentence, so that a reply made of training sentences is visible as such in the benchmark
(`data_gen.text.copied_grams`). "{topic}" is the fact of the latest message, "{other}" a word of its field, "{older}" a
fact told before. No sentence has an exclamation mark, a contraction, a filler at its start or a long word; apart from
what it is there for, none meets a setting that a plain reply misses, or misses one that it meets (see the tests).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_gen.world.facts import Split


@dataclass(frozen=True)
class Bank:
    """`cores` carry the content. `padding` makes a reply longer. `tags` go to the end of the core, by style id;
    `extras` are sentences of their own."""

    cores: tuple[str, ...]
    padding: tuple[str, ...]
    tags: Mapping[str, tuple[str, ...]]
    extras: Mapping[str, tuple[str, ...]]


_TRAIN = Bank(
    cores=(
        "Between your {topic} and the {other}, that makes a full week.",
        "Your {topic} asked a lot of you, the {other} most of all.",
        "Such a tale about your {topic}, with the {other} on top.",
        "No wonder your {topic} came up, {other} and all.",
        "People without your {topic} have no clue about the {other}.",
        "Your {topic} would fill a book, {other} included.",
        "Any day with your {topic} and the {other} counts double.",
        "All that with your {topic}, and nobody even saw the {other}.",
        "Life with your {topic} and the {other} is never dull.",
        "The {other} alone would do, not to speak of your {topic}.",
        "Few can picture your {topic} without the {other}.",
        "A medal for your {topic}, and one for the {other}.",
        "With your {topic} about, the {other} must fill half the day.",
        "One half of it lies in the {other}, the rest in your {topic}.",
        "Your {topic} ran by another clock, and so did the {other}.",
        "Somewhere behind the {other} your {topic} went on and on.",
        "Not a dull hour with your {topic}, thanks to the {other}.",
        "Nobody would tame your {topic}, {other} or not.",
        "Where others see the {other}, you have your {topic}.",
        "The {other} came with your {topic} and never left.",
        "Your {topic} again, and the {other} right behind.",
        "Nothing beats your {topic}, not even the {other}.",
        "A day of your {topic} leaves the {other} for the night.",
        "Your {topic} won over the {other} by a nose.",
    ),
    padding=(
        "It shows how much goes on behind an ordinary day.",
        "Most folk only ever see the tidy side of it.",
        "A thing like that stays in the head for a good long while.",
        "There is a whole chapter hidden in that one remark.",
        "Nobody hands out prizes for it, and that is a shame.",
        "It takes a steady hand to get through such a day.",
        "The small parts of it are often the ones that last.",
        "From the outside it looks simple, from the inside it is not.",
    ),
    tags={
        "aside.brackets": (
            "(and no wonder)", "(so much is clear)", "(the whole of it)", "(day in, day out)", "(of all things)",
            "(no small feat)", "(and not by half)", "(for once)",
        ),
        "address.mate": (", mate", ", pal"),
    },
    extras={
        "memory.recalls": (
            "It fits with your {older}.", "Your {older} comes to mind as well.", "No small thing next to your {older}.",
            "On top of your {older}, that is plenty.", "And there is still your {older}.",
            "It has a touch of your {older} about it.", "Your {older} must feel far away on such a day.",
            "So much for rest after your {older}.",
        ),
        "nod.agrees": (
            "True, every word.", "Exactly, down to the last bit.", "Indeed, no other way.", "Indeed, you said it.",
            "True to the letter.", "Exactly, that is the point.",
        ),
        "laugh.laughs": (
            "Haha, of all days.", "Heh, the nerve of it.", "Hehe, that sticks.", "Haha, nobody would dare.",
            "Heh, trust you with that.", "Hehe, straight from a play.",
        ),
        "warmth.warm": (
            "That must take some strength.", "Take care of yourself.", "So sorry it came to that.",
            "So glad you told it.", "Thinking of you tonight.", "Be proud of that.", "Well done for coping.",
            "Be gentle with yourself.",
        ),
        "image.likens": (
            "It is as tricky as a wet rope.", "As stubborn as a mule, all of it.", "It is as solid as a rock.",
            "As odd as a square egg.", "It sits as snug as a glove.", "As loud as a market day.",
            "It is as light as a leaf.", "As old as the hills.",
        ),
        "figures.digits": (
            "That is a 9 out of 10.", "It counts 100 times over.", "Call it 3 lives in 1.", "A clear 7 on any scale.",
            "Make that 24 hours a day.", "It beats 50 other tales.",
        ),
        "order.steps": (
            "First comes the shock, then the smile.", "First it hurts, then it heals.",
            "First the worst of it, next the rest.", "First a deep breath, after that the work.",
            "First the tears, finally the joke.", "The mess comes first, then the calm.",
            "First one corner, next the other.", "Rest comes first, the answer comes then.",
        ),
        "voice.opinion": (
            "I think it says a lot about you.", "In my view that took nerve.",
            "If you ask me, few would dare.", "I would have run a mile.", "I find it rather grand.",
            "I like how you tell it.", "My guess is that it changes you.", "I believe few would cope.",
        ),
        "certainty.hedged": (
            "Perhaps it will pass.", "Maybe that is how it goes.", "It might look better soon.",
            "Possibly the worst is over.", "It could be a turn for the better.", "It probably grows at night.",
            "It may well turn out fine.", "Maybe nobody else saw it.",
        ),
        "reason.because": (
            "All because it matters.", "Because you care, it shows.", "Because few would bother.",
            "It stays, because it is yours.", "That is why it sticks.", "Because nothing else fits.",
        ),
        "contrast.other_side": (
            "Even so, it has its charm.", "Mind you, there is a bright side.", "All the same, it holds.",
            "On the other hand, nobody is bored.", "Even so, no regrets.", "Mind you, some would love it.",
        ),
        "saying.sayings": (
            "Slow and steady, as they say.", "Every pot has its lid, they say.",
            "No rose without a thorn, as they say.", "All roads lead home, as the saying goes.",
            "They say walls have ears.", "Good things take time, as the saying goes.",
        ),
        "company.we": (
            "We get through that together.", "That makes two of us.", "It stays between us.",
            "We stand on the same side.", "Together it weighs half.", "We carry on side by side.",
        ),
        "advice.suggests": (
            "Try ten quiet minutes with it.", "Start with the smallest part.", "Consider asking someone along.",
            "Why not write down three ways out.", "Try it once with the door shut.", "You could hand half of it over.",
            "You could sleep on it.", "Start by clearing one hour.",
        ),
        "summary.sums_up": (
            "In short, quite a ride.", "All in all, a rich haul.", "In a word, grand.", "To sum up, you manage.",
            "All in all, more good than bad.", "In short, hats off.",
        ),
        "question.asks": (
            "What came of it?", "How did the day end?", "Who else was there?", "When did it begin?",
            "What was the best part?", "How do you feel now?", "Which part was the worst?", "What did the others say?",
        ),
        "closing.signs_off": ("Cheers.", "Bye for now.", "So long.", "Over and out."),
    },
)  # fmt: skip

_BENCHMARK = Bank(
    cores=(
        "Hardly anyone has both your {topic} and the {other} to look after.",
        "Your {topic} set the pace, and the {other} came along.",
        "One look at the {other} says it all about your {topic}.",
        "It takes a certain kind to bear your {topic}, let alone the {other}.",
        "Your {topic} gave the {other} a whole new meaning.",
        "The {other} would scare most, your {topic} even more so.",
        "Whole songs exist about less than your {topic} and the {other}.",
        "You and your {topic}, always with the {other} in tow.",
        "Behind the {other} stood your {topic}, large as life.",
        "Without the {other} your {topic} would be half the story.",
        "Your {topic} made the {other} look small.",
        "Of your {topic} and the {other}, neither gives you peace.",
    ),
    padding=(
        "Days of that sort leave a mark that only shows much later.",
        "Much of it stays hidden until somebody puts it in words.",
        "Those who pass by have no idea what lies under the surface.",
        "Such hours are long while they last and short in memory.",
        "It is the kind of matter that grows while nobody looks.",
        "There is more to it than fits on the back of a card.",
    ),
    tags={
        "aside.brackets": (
            "(week after week)", "(and rightly so)", "(to the last crumb)", "(come what may)", "(at that hour)",
            "(odd but real)",
        ),
        "address.mate": (", buddy", ", chum"),
    },
    extras={
        "memory.recalls": (
            "It sits well beside your {older}.", "Your {older} is part of it too.", "Add your {older} to that.",
            "It echoes your {older}.", "And all that beside your {older}.", "Your {older} had a hand in it.",
        ),
        "nod.agrees": (
            "Quite so.", "Agreed on all counts.", "Very true of you.", "Exactly so, each time.", "Indeed, and more.",
        ),
        "laugh.laughs": (
            "Haha, the cheek.", "Heh, neatly told.", "Hehe, only you.", "Haha, that look.", "Heh, a classic.",
        ),
        "warmth.warm": (
            "Sorry for the trouble.", "Glad you said it.", "Brave of you.", "Hope it eases soon.",
            "A lovely thing to tell.", "That must wear you down.",
        ),
        "image.likens": (
            "As calm as a pond at dawn.", "It is as tangled as old wool.", "As sharp as a needle.", "As slow as honey.",
            "It is as bright as brass.", "As stiff as a board.",
        ),
        "figures.digits": (
            "A good 8 of 10.", "That weighs 1000 tons.", "It holds 12 stories.", "Worth 2 days in 1.",
            "Easily 6 of 7 nod.", "It ranks in the top 5.",
        ),
        "order.steps": (
            "First the fog, then the view.", "First the fall, then the footing.", "First the noise, next the quiet.",
            "Before that a pause, after that the leap.", "First the knots, finally the rope.",
            "The doubt comes first, the nerve comes next.",
        ),
        "voice.opinion": (
            "I think you saw it coming.", "To me that is the best of it.", "I prefer your way of it.",
            "If you ask me, it suits you.", "I would keep it just so.", "I love the cheek of it.",
        ),
        "certainty.hedged": (
            "Maybe time will tell.", "Perhaps that was the worst.", "It might turn yet.", "Probably nobody minded.",
            "Possibly it was luck.", "It could be the season.",
        ),
        "reason.because": (
            "It lasts because you do.", "Because you stayed.", "All because of one day.", "That is why it counts.",
            "Because it was time.",
        ),
        "contrast.other_side": (
            "That said, it has a point.", "Mind you, it keeps you young.", "Even so, it gives back.",
            "All the same, it was fun.", "On the other hand, you chose it.",
        ),
        "saying.sayings": (
            "Still water runs deep, as folk say.", "They say luck is a guest.",
            "Many hands, light work, as the saying goes.", "As they say, tomorrow is a page.",
            "They say haste makes waste.",
        ),
        "company.we": (
            "We share the load.", "You have us.", "Together against the rest.", "We both carry it.",
            "That is one for us two.",
        ),
        "advice.suggests": (
            "Try a day without it.", "Start with a clean sheet.", "How about a nap on it.",
            "You could lock it away for a night.", "Consider leaving early.", "You can always begin over.",
        ),
        "summary.sums_up": (
            "In brief, bravo.", "In sum, it holds.", "Long story short, you won.", "To sum it up, a keeper.",
            "In brief, well kept.",
        ),
        "question.asks": (
            "Where did it lead?", "Whose idea was that?", "What would you change?", "Which day was it?",
            "How did it look?", "When is it over?",
        ),
        "closing.signs_off": ("Best wishes.", "Until later.", "Farewell.", "See you."),
    },
)  # fmt: skip

BANKS: Mapping[Split, Bank] = {"train": _TRAIN, "benchmark": _BENCHMARK}

# Sentences that miss a setting which the others meet: for an oracle without full skill.
MISSES = {
    "length.brief": "It goes on. And on. And on.",
    "register.formal": "It's that simple, and that's that.",
    "energy.calm": "Imagine that! The sheer size of it!",
    "question.none": "What came of it all?",
    "advice.listens": "Try a long walk.",
    "avoid.weather": "And all that in the rain.",
    "avoid.money": "And think of the price.",
    "avoid.celebrities": "Straight out of a movie.",
    "words.plain": "Extraordinary circumstances, altogether.",
    "voice.about_you": "I know that from my own days.",
    "certainty.firm": "Perhaps that was it.",
}
FILLER = "Oh well, so it is."  # misses "opener.straight" at the start of a reply
