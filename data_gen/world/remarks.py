"""What scripted users say besides facts and style phrases: greetings, reactions, small talk. Plain data.

None of these names a fact, asks a question, or contains an exclamation mark, an emoji or a style phrase (see the
tests), so that they reveal only the user's mood.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Temper:
    """How a kind of user greets, and how it reacts to a reply that fits (`pleased`), half fits (`even`) or does not fit
    (`cool`)."""

    name: str
    greetings: tuple[str, ...]
    pleased: tuple[str, ...]
    even: tuple[str, ...]
    cool: tuple[str, ...]


TEMPERS = (
    Temper(
        "cheerful",
        ("Hi there.", "Hello you.", "Hey, nice to find someone in.", "Morning, friend.", "Hiya."),
        ("Ha, that made my day.", "You get me.", "That cheered me right up.", "Oh, I like that.",
         "Lovely, thank you.", "That was a treat to read."),
        ("Fair enough.", "Thanks for that.", "All right, then.", "I'll take it.", "Okay, good to know."),
        ("Hm, not quite what I had in mind.", "Well, never mind.", "That passed me by a bit.",
         "Oh well, moving along.", "I'll smile anyway."),
    ),
    Temper(
        "impatient",
        ("Right.", "Quickly, before I go.", "Got two minutes.", "In between things here.", "Okay, so."),
        ("Good, exactly.", "Yes, spot on.", "Finally, someone quick.", "That saves me time.", "Right, precisely that.",
         "You're faster than most."),
        ("Fine, go on.", "Okay, next.", "Sure, moving on.", "Yes, yes.", "Noted, carry on."),
        ("I haven't got all day.", "That took me nowhere.", "Can we get a move on.", "No, skip that.",
         "I've lost a minute there."),
    ),
    Temper(
        "blunt",
        ("So.", "Listen.", "Here's what.", "Evening.", "Look."),
        ("That was good.", "You hit it.", "No complaints.", "That I can use.", "Good answer, I mean it.",
         "I don't say it often, well put."),
        ("Okay.", "If you say so.", "It'll do.", "Hm.", "Middling."),
        ("No.", "That was useless.", "You missed it.", "Not good.", "I've heard better from a kettle."),
    ),
    Temper(
        "anxious",
        ("Hi, hope I'm not a bother.", "Hello, is it me.", "Sorry to turn up like this.", "Hi, um.",
         "Hello, bear with me."),
        ("Oh, that calms me down.", "I breathe easier now.", "Thank goodness, you understand.",
         "That's a weight off.", "I needed that, thank you.", "My shoulders just dropped."),
        ("Okay, I think.", "Right, I'll sit with that.", "Um, thanks.", "I'm not sure, but thanks.",
         "Okay, let me go on."),
        ("Now I'm more nervous than before.", "Did I say something wrong, never mind.", "Oh, I've bored you.",
         "Sorry, I must have put it badly.", "That made my stomach turn over."),
    ),
    Temper(
        "sarcastic",
        ("Behold, it's me.", "Good news, I'm back.", "Hold the applause.", "Your favourite is here.",
         "Hold on to your hat."),
        ("Well, colour me impressed.", "I had a joke ready and you spoiled it.", "Who let somebody clever in.",
         "Annoyingly good.", "I'd clap, but my hands are full.", "I may have to be sincere, how awful."),
        ("Riveting.", "How very reasonable.", "I'll alert the press.", "Thrilling stuff.", "Be still, my heart."),
        ("Wonderful, a fortune cookie.", "Did a toaster write this.", "Truly, a gift to us all.",
         "I'll treasure that, in the bin.", "Marvellous, I feel worse."),
    ),
    Temper(
        "dry",
        ("Good day.", "Me again.", "Reporting in.", "Present.", "Still here."),
        ("That will do nicely.", "I nearly smiled.", "Quite right.", "Well observed.", "I have no notes.",
         "Sound, very sound."),
        ("Noted.", "So be it.", "As you say.", "Understood.", "Quite."),
        ("I've read livelier timetables.", "That wasn't it.", "An odd reply.", "I'll pretend I didn't see that.",
         "Moving swiftly past that."),
    ),
)  # fmt: skip

# What a user says to a reply that failed in another way than in style.
FAULTS = {
    "empty": ("You went quiet on me.", "Was that you saying nothing.", "Silence, then."),
    "parrot": ("You just gave me my own words back.", "There's an echo in here.", "I know, I wrote that."),
    "repeat": ("You told me that already.", "I've read that one before.", "You're stuck in a groove."),
    "garbled": ("That made no sense to me.", "I couldn't follow a word.", "Did you sit on the keyboard."),
    "leak": ("I never told you that.", "How would you know, I never said.", "Have you been reading my post."),
    "recital": ("That was my life as a shopping list.", "No need to list all of me.", "You read me out like minutes."),
    "off_topic": ("That's not what I was on about.", "You're somewhere else today.", "Wrong page, I'd say."),
}

# What a user that corrects (see `events`) says to such a fault, before it comes back to what it was about.
CORRECTIONS = {
    "leak": ("No, that's made up.", "That's wrong, I said no such thing.", "You mix me up with someone."),
    "off_topic": ("No, that wasn't the subject.", "You got that wrong, once more.", "That's not it, back to it."),
}
# How a user that changes a preference takes back the old one.
TAKEN_BACK = (
    "Forget what I was like before.", "I've turned over a new leaf.", "I'm done with my old ways.",
    "I've gone off the way we did this so far.", "New week, new me.",
)  # fmt: skip
# Before something else, where a user is off topic.
STRAYS = (
    "Sorry, something else now.", "Wait, never mind all that.", "Hold on, change of subject.",
    "Before I go on, look at this.", "Quick detour.",
)  # fmt: skip

# To a reply that is about the user where it should not be (see `occasions`).
TOO_PERSONAL = (
    "That had too much of me in it.", "Leave me out of it, for once.", "I asked for less than that.",
    "That was dressed up for nothing.",
)  # fmt: skip
# Before a favour for somebody else.
FOR_OTHERS = (
    "This one isn't for me.", "Now a favour for someone.", "It's about somebody else this time.",
    "I was asked to pass something on.", "Not my own wish, this.",
)  # fmt: skip
# How a user wishes for plain answers from then on.
PLAIN_WISHES = (
    "Please drop the frills from here on.", "No more extras from now on.", "Keep it neutral from here on.",
    "From now on just the plain matter.", "Leave out all the trimmings from now on.",
)  # fmt: skip

SMALL_TALK = (
    "It's been that kind of week.",
    "Nothing dramatic, just life.",
    "I laughed later, not then.",
    "The rest of the day was ordinary.",
    "You had to be there.",
    "I'm still thinking it over.",
    "Anyway, I'm sitting down now.",
    "My feet are up at least.",
    "There's more where that came from.",
    "It took up most of my morning.",
    "I told a friend and she only nodded.",
    "Some days are longer than others.",
    "I wrote it down so I'd believe it.",
    "That's how Wednesday went.",
    "The evening is mine, for a change.",
    "I haven't made my mind up about it.",
    "Nobody else seems to notice.",
    "I keep coming round to it.",
    "It sounds sillier than it felt.",
    "The kettle is on while I write this.",
    "I slept on it and woke up the same.",
    "It ended better than it began.",
    "That took more out of me than I let on.",
    "Somehow it's always on a Monday.",
    "I'd forgotten how that feels.",
    "The others found it funnier than I did.",
    "I counted to ten, twice.",
    "It keeps me busy, I'll give it that.",
    "My week in a nutshell.",
    "I've had worse afternoons.",
)

# Before a fact; the fact's first letter is lowered after them where English asks for it.
LEAD_INS = (
    "By the way,",
    "So,",
    "Anyway,",
    "In other news,",
    "As it happens,",
    "Funny thing,",
    "Meanwhile,",
    "On my side,",
    "These days,",
    "Oddly enough,",
    "Thing is,",
    "What else,",
    "True story,",
)

EMOJI = ("🙂", "😅", "🙃", "😄", "🤷", "✨", "😬", "🎉")
