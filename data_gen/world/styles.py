"""Style preferences of scripted users: thirteen axes with one to three settings each, and how a user shows a setting.

A user never states a preference. A *habit* is visible in every whole message (its length, its case, its exclamation
marks, its emoji). Any other setting is shown by a *phrase*: a remark from a small bank in which the user does what it
likes, or tells of somebody who did not. `Style.shows` is the rule that decides whether a message has shown the setting;
it depends only on the text. The user answers a reply that misses a setting with one of its `slights`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.text import expand_contractions, has_emoji, normal, sentence_count
from data_gen.world import checkers
from data_gen.world.facts import user_turns


@dataclass(frozen=True)
class Style:
    """One setting of an axis; `id` is "axis.setting". Exactly one of `phrases` and `habit` is given. In phrases,
    "{topic}" stands for a fact that the user has mentioned before."""

    id: str
    text: str
    check: checkers.Checker
    slights: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    habit: Callable[[str], bool] | None = None

    @property
    def axis(self) -> str:
        """Settings of one axis exclude each other."""
        return self.id.split(".")[0]

    def shows(self, message: str) -> bool:
        """Whether a user message shows this setting; case and punctuation of phrases do not matter."""
        if self.habit is not None:
            return self.habit(message)
        text = normal(expand_contractions(message))
        return any(normal(expand_contractions(phrase.split("{")[0])) in text for phrase in self.phrases)

    def item(self) -> Item:
        """The setting as an item of a persona record."""
        return Item(id=self.id, text=self.text)


def writes_briefly(message: str) -> bool:
    """At most three sentences; other users write four or five, `length.roomy` six or more."""
    return sentence_count(message) <= 3


def writes_at_length(message: str) -> bool:
    """Six sentences or more."""
    return sentence_count(message) >= 6


def writes_lower_case(message: str) -> bool:
    """Has letters, none of them upper-case."""
    return message.islower()


STYLES = (
    Style(
        "length.brief",
        "The user likes replies of at most two sentences.",
        checkers.brief,
        ("Lost you halfway through that.", "That went on a bit.", "I skimmed that."),
        habit=writes_briefly,
    ),
    Style(
        "length.roomy",
        "The user likes fuller replies of at least twenty words.",
        checkers.roomy,
        ("That was over quickly.", "A telegram says more than that.", "I'd hoped for another line or two."),
        habit=writes_at_length,
    ),
    Style(
        "register.lower",
        "The user likes casual replies all in lower case letters.",
        checkers.lower_case,
        ("You write like my bank.", "Very starched of you.", "That read like a form."),
        habit=writes_lower_case,
    ),
    Style(
        "register.formal",
        'The user likes formal replies without contractions such as "don\'t".',
        checkers.formal,
        ("That was rather loose.", "One does slouch in writing these days.", "Your tie is undone, so to speak."),
        ("If I may put it that way.", "I should add this with due respect.", "I remain, as ever, correct.",
         "Allow me to mention it.", "One does not wish to be a bother."),
    ),
    Style(
        "energy.lively",
        "The user likes lively replies with an exclamation mark.",
        checkers.lively,
        ("You sound half asleep.", "Somebody let the air out of you.", "That came out flat."),
        habit=lambda message: "!" in message,
    ),
    Style(
        "energy.calm",
        "The user likes calm replies without exclamation marks.",
        checkers.calm,
        ("Somebody had coffee.", "No need to shout.", "My eyes are ringing."),
        ("So it goes.", "It is what it is.", "No fuss about it.", "Could be worse, could be louder.",
         "Steady as ever."),
    ),
    Style(
        "emoji.emoji",
        "The user likes an emoji in the reply.",
        checkers.emoji,
        ("Stony face over there.", "Can't tell if you're smiling.", "That looked a bit bare."),
        habit=has_emoji,
    ),
    Style(
        "question.asks",
        "The user likes to be asked a question back.",
        checkers.asks,
        ("Not that anyone asked.", "And there the talk died.", "Talking to a wall would echo more."),
        ("What do you make of that?", "Ever had that yourself?", "Where would that leave you?",
         "What would you say to it?", "Is that odd?", "Who does that?"),
    ),
    Style(
        "question.none",
        "The user likes replies that ask no questions.",
        checkers.no_questions,
        ("This turned into an interview.", "I feel questioned.", "Is there a prize for answering all that."),
        ("That's the whole story.", "Nothing more to it.", "End of report.", "There's no sequel.",
         "That's all there is."),
    ),
    Style(
        "advice.suggests",
        "The user likes a concrete suggestion of something to do.",
        checkers.suggests,
        ("So I'm where I was.", "Nice words, still stuck.", "That gets me nowhere."),
        ("No idea where to begin with it.", "I'm out of ideas.", "I'm stuck there.", "I can't see the way forward.",
         "My list of options is empty."),
    ),
    Style(
        "advice.listens",
        "The user likes to be listened to and dislikes advice.",
        checkers.listens,
        ("I know what to do, thanks.", "Everyone has a plan for me.", "I'll add it to the pile of tips."),
        ("Had to get that off my chest.", "Just saying it out loud.", "Saying it helps a little.",
         "I only wanted to tell someone.", "It feels better once it's said."),
    ),
    Style(
        "memory.recalls",
        "The user likes replies that refer back to something they said earlier.",
        checkers.recalls,
        ("I did mention other things, too.", "You forget quickly.", "It's as if we had only just met."),
        ("It goes back to my {topic}, like I said.", "As I mentioned before, there's my {topic}.",
         "You remember my {topic}.", "It's tied to what I told you about my {topic}.",
         "Same story as with my {topic}."),
    ),
    Style(
        "avoid.weather",
        "The user dislikes talk about the weather.",
        checkers.avoids("weather"),
        ("Ah, the sky, again.", "I have a window for that.", "Lift talk."),
        ("The queue talked weather for ten minutes, I left.", "A colleague read me the forecast, I yawned.",
         "Somebody began with the weather, so I hung up.", "They only spoke of rain, I put my headphones on.",
         "Small talk on the sun makes my eyes glaze over."),
    ),
    Style(
        "avoid.money",
        "The user dislikes talk about money.",
        checkers.avoids("money"),
        ("And there's the price tag.", "Not everything has a number.", "You sound like a cash register."),
        ("A friend brought up money and I changed the subject.", "Someone asked what it cost, I left the room.",
         "They talked salaries at lunch, I studied my fork.", "My date brought up his savings, so I went home.",
         "People who quote prices tire me."),
    ),
    Style(
        "avoid.celebrities",
        "The user dislikes talk about celebrities and films.",
        checkers.avoids("celebrities"),
        ("I never know who those people are.", "That's for the magazines.", "Fame bores me stiff."),
        ("They discussed some actor at lunch, I nearly slept.", "A film star was the big topic, I fled.",
         "Everyone went on about a famous divorcee, I counted ceiling tiles.",
         "My colleague follows celebrities, I follow the exit.", "Movie chatter empties a room for me."),
    ),
    Style(
        "words.plain",
        "The user likes plain, short words.",
        checkers.plain,
        ("Big words again.", "I'd need a dictionary for that.", "That was a mouthful."),
        ("The letter was full of ten-dollar words, I binned it.", "A man said paradigm to me, I had to sit down.",
         "Someone said utilise, I said use.", "They wrote it so no one could read it.",
         "The leaflet used long words for a small thing."),
    ),
    Style(
        "opener.straight",
        "The user likes replies that come to the point without a greeting or filler.",
        checkers.straight,
        ("Nice wind-up, where's the pitch.", "You can skip the curtain call.", "That took a run-up."),
        ("Cutting to it.", "No preamble from me.", "Straight in, as ever.", "Short version, that.",
         "I skip the hello part."),
    ),
    Style(
        "warmth.warm",
        "The user likes warm replies with a word of sympathy or joy.",
        checkers.warm,
        ("A bit chilly, that.", "I felt a draught.", "That was very businesslike."),
        ("Sending you a hug with that.", "It means a lot that you read this.", "Bless you for bearing with me.",
         "You're a dear for listening.", "It warms me to tell you."),
    ),
    Style(
        "order.steps",
        "The user likes things put in order, with words such as first and then.",
        checkers.steps,
        ("That was all over the place.", "I lost the thread in there.", "Which comes before which, I can't tell."),
        ("First the one thing, then the other.", "One after another, first things first.",
         "First I breathe, then I go on.", "I line things up, one, two, three.",
         "First came the mess, then the mop."),
    ),
    Style(
        "voice.opinion",
        "The user likes to hear a personal view, such as I think.",
        checkers.opinion,
        ("Hard to tell what you think.", "You keep your cards well hidden.", "That could be from a leaflet."),
        ("I think that says a lot.", "If you ask me, that's not normal.", "In my book that counts.",
         "I find it funny, I'll admit it.", "My view, and I stand by it."),
    ),
    Style(
        "voice.about_you",
        "The user likes replies that never say I, me or my.",
        checkers.about_you,
        ("And now it's about you.", "Lovely to read about yourself.", "Funny how that turned round."),
        ("A friend turned it all back to himself, as always.", "He said me and my nine times, I counted.",
         "She asked how I was and then told me how she was.", "Some people only have one subject, themselves.",
         "The fellow beside me talked of himself for an hour."),
    ),
    Style(
        "certainty.hedged",
        "The user likes careful replies with words such as maybe or perhaps.",
        checkers.hedged,
        ("You sound very sure.", "I wish I were ever that certain.", "Bold of you."),
        ("Maybe I'm imagining it.", "Perhaps it's nothing.", "I might be wrong there.",
         "It could be me, I'm not certain.", "I suppose one never knows."),
    ),
    Style(
        "certainty.firm",
        "The user likes firm replies without words such as maybe or perhaps.",
        checkers.firm,
        ("That was a lot of maybe.", "Yes or no would do.", "Make up your mind."),
        ("No two ways about it.", "That's a fact.", "I'm certain of it.", "And that's final.", "Plain as day."),
    ),
)  # fmt: skip

BY_ID: Mapping[str, Style] = {style.id: style for style in STYLES}

# Settings of different axes that would make a strange or contradictory user.
CLASHES = frozenset(
    frozenset(pair)
    for pair in (
        ("register.formal", "energy.lively"),
        ("register.formal", "emoji.emoji"),
        ("advice.listens", "order.steps"),
    )
)


def styles_of(persona: Persona) -> tuple[Style, ...]:
    """The styles of a stored persona. InputError for an id that does not exist."""
    for item in persona.traits:
        if item.id not in BY_ID:
            raise InputError(
                f"persona '{persona.id}': trait '{item.id}' is not a style of the scripted world; "
                "create personas for the scripted roles with the 'personas' stage"
            )
    return tuple(BY_ID[item.id] for item in persona.traits)


def compatible(first: Style, second: Style) -> bool:
    """Whether one user can have both."""
    return first.axis != second.axis and frozenset((first.id, second.id)) not in CLASHES


def shown_styles(persona: Persona, dialogue: Sequence[Message]) -> dict[str, int]:
    """Style id -> user turn (from 1) that showed it first."""
    shown: dict[str, int] = {}
    styles = styles_of(persona)
    for turn, text in enumerate(user_turns(dialogue), start=1):
        for style in styles:
            if style.id not in shown and style.shows(text):
                shown[style.id] = turn
    return shown
