"""What the held-out simulator says in place of `remarks` and of the phrases and slights of `style_table`. Plain data.

The rules are those of `remarks`: but for `PHRASES`, which show their trait (`Style.shows`), no text names a fact, asks
a question, or contains an exclamation mark, an emoji or a style phrase. No text is one of the other simulator's.
"""

from __future__ import annotations

from collections.abc import Mapping

from data_gen.world.remarks import Temper

TEMPERS = (
    Temper(
        "curt",
        ("Yes, hello.", "Back.", "Go.", "Here.", "Well."),
        ("Correct.", "Works for me.", "That's it.", "Keep that up.", "Usable.", "No objection."),
        ("Next.", "Halfway.", "And.", "Passable.", "Go on, then."),
        ("Wrong.", "Again, but properly.", "Not it.", "Skip that.", "Useless to me."),
    ),
    Temper(
        "weary",
        ("Long one today.", "Still up.", "Evening, or whatever it is.", "I'm here, more or less.", "Sighing already."),
        ("That was easy on me.", "Oh, finally.", "I can live with that.", "That took no effort at all.",
         "Someone paid attention.", "A relief, honestly."),
        ("If it must be.", "Hm, could be.", "I've stopped expecting more.", "It'll pass.", "Sort of."),
        ("I'm too tired for that.", "You lost me halfway.", "That made it longer.", "I had to read it three times.",
         "That went past me."),
    ),
    Temper(
        "wary",
        ("Let's see about this.", "Trying this once.", "I was told to write here.", "We'll see.", "No promises."),
        ("You did listen.", "Huh, that fits.", "Okay, I didn't expect that.", "Credit where it's due.",
         "That was meant for me.", "I take some of it back."),
        ("I'll reserve judgement.", "Not sure what to do with that.", "It's half of it.", "Could be anyone's answer.",
         "Noted, with a raised brow."),
        ("That's what I was afraid of.", "As I thought, no.", "You weren't listening.", "That was for somebody else.",
         "I won't pretend that helped."),
    ),
    Temper(
        "brisk",
        ("Hello, on we go.", "One minute on the clock.", "Typing on the move.", "Between two doors.", "Make it count."),
        ("Sharp.", "That's the pace.", "Good, on to the next.", "Quick study.", "You read my mind, nearly.",
         "That hit home."),
        ("Fine for now.", "Moving along.", "Half marks.", "Close, not quite.", "Later, perhaps."),
        ("Off the mark.", "That cost me a minute.", "Try to keep up.", "Nope, not that.", "Beside the target."),
    ),
)  # fmt: skip

FAULTS = {
    "empty": ("Nothing came through.", "A blank, then.", "You left that empty."),
    "parrot": ("Those were my sentences.", "You copied me out.", "That is what I wrote, back at me."),
    "repeat": ("We had that one.", "Same answer as before.", "You're running in circles."),
    "garbled": ("I can't parse that.", "Those words don't add up.", "That fell apart halfway."),
    "leak": ("Where did you get that.", "I said nothing of the kind.", "You can't know that."),
    "recital": ("You're reading my file.", "That was an inventory.", "Stop counting me out."),
    "off_topic": ("Different subject.", "That isn't what I brought up.", "Missed my point by a mile."),
}
CORRECTIONS = {
    "leak": ("Strike that, it's invented.", "Incorrect, nobody told you so.", "You've confused me with a stranger."),
    "off_topic": ("Back to what I said.", "Off course, so once more.", "I'll repeat myself, then."),
}
TAKEN_BACK = (
    "Scrap how I wanted it.", "I've changed my tune.", "That was the old me.", "From here on it's different.",
    "I've had a change of heart.",
)  # fmt: skip
STRAYS = (
    "Leave that for now.", "Something cut in.", "Hold that thought.", "Quick interruption.", "One thing in between.",
)  # fmt: skip
TOO_PERSONAL = (
    "I asked a simple thing.", "Keep me out of that one.", "Spare me the fitting.", "That was about me, not about it.",
)  # fmt: skip
FOR_OTHERS = (
    "Someone made me ask.", "On behalf of another.", "A request, not from me.", "Passing this along.",
    "Nothing to do with me, this.",
)  # fmt: skip
PLAIN_WISHES = (
    "Bare answers from this point.", "No flourishes any more.", "Strip it down from now.", "Just the matter, always.",
    "I want it neutral henceforward.",
)  # fmt: skip

SMALL_TALK = (
    "Never mind the details.",
    "It is late, I know.",
    "Nobody died.",
    "I sat down twice.",
    "Not my best hour.",
    "The street was loud.",
    "I kept my coat on.",
    "It took an age.",
    "Enough said on that.",
    "I slept badly.",
    "You would have left earlier.",
    "They all stared.",
    "I said nothing at first.",
    "The clock stopped meanwhile.",
    "That was Tuesday, or Thursday.",
    "I lost count of it.",
    "It dragged on.",
    "Not that it matters.",
    "I stood there for a bit.",
    "The rest is a blur.",
    "I shut the door on it.",
    "Nobody called back.",
    "It wore me out.",
    "My head hurts a little.",
    "I may sort it tomorrow.",
    "I skipped lunch over it.",
    "The lights went off early.",
    "I kept the receipt.",
    "That part I can't explain.",
    "We left it there.",
)

LEAD_INS = (
    "Fact is,",
    "For the record,",
    "Besides,",
    "Next thing,",
    "At any rate,",
    "To be clear,",
    "As of late,",
    "In passing,",
    "Not to forget,",
    "Separately,",
    "Before I forget,",
    "Of all things,",
)

# By the id of a style: how a user shows it.
PHRASES: Mapping[str, tuple[str, ...]] = {
    "register.formal": ("Pardon the directness of it.", "I trust this finds you well.", "Kindly take note of it.",
                        "With all courtesy intended."),
    "energy.calm": ("Nothing to raise a voice over.", "Calmly does it.", "All at an even pace.", "I let it wash by."),
    "question.asks": ("Does that happen to others?", "How would you see it?", "Whose fault is that?",
                      "When does it end?"),
    "question.none": ("There it ends.", "Period, new line.", "No more to tell.", "That covers all of it."),
    "advice.suggests": ("I've tried all I know.", "I'm open to any way out.", "What I lack is a plan.",
                        "My own tricks are used up."),
    "advice.listens": ("I just needed to put it into words.", "Telling it is enough.", "It only wants an ear.",
                       "I'm venting, that's the lot."),
    "memory.recalls": ("See what I wrote about my {topic}.", "It links up with my {topic}.",
                       "I already raised my {topic}.", "Think back to my {topic}."),
    "avoid.weather": ("The neighbour chatted about clouds, I shut the window.", "He opened with the heat, I left.",
                      "An hour of storm stories, I saw the exit."),
    "avoid.money": ("A visitor listed his costs, I did the dishes.", "They split the bill aloud, I eyed the floor.",
                    "She told me her rent, I never asked."),
    "avoid.celebrities": ("The whole carriage talked of an idol, I got off early.", "They named some star, I shrugged.",
                          "Gossip on actors, I switched it off."),
    "words.plain": ("He said henceforth, I nearly left.", "The form had words with five corners.",
                    "They could have said it in half the letters."),
    "opener.straight": ("I get to it at once.", "Door open, point made.", "I leave out the overture."),
    "warmth.warm": ("It does me good that you're there.", "You have my thanks from the heart.",
                    "I hope your day is kind to you.", "Be well while you read this."),
    "order.steps": ("Step by step, I tell myself.", "I number my mornings.", "Top of the list, then the second line.",
                    "Shoes first, laces after."),
    "voice.opinion": ("My verdict is in.", "I hold a strong view there.", "I'd call that wrong.",
                      "To my mind that's odd."),
    "voice.about_you": ("The man spoke of no one but himself.", "She made my story hers within a minute.",
                        "All roads led back to his own tale."),
    "certainty.hedged": ("I can't swear to it.", "It seems so, at least.", "I may have got that wrong.",
                         "There's room for doubt."),
    "certainty.firm": ("I'd bet on it.", "No doubt there.", "That much is settled.", "It is so, full stop."),
    "address.mate": ("That's how it is, chum.", "You with me, buddy.", "I tell you, old friend."),
    "closing.signs_off": ("I'll leave it there, bye.", "I'm off now, bye.", "Catch you another time.",
                          "Until the next one."),
    "figures.digits": ("I'd put it at sixty out of a hundred.", "Two thirds done.", "I chalk tallies on a wall.",
                       "Give me a sum over an adjective."),
    "quote.marks": ("They called it progress, in inverted commas.", "That term deserves tweezers.",
                    "Their own term, so help me."),
    "laugh.laughs": ("I'm grinning as I type.", "I laughed until I hiccuped.", "My belly ached from laughing."),
    "image.likens": ("It felt like chewing wool.", "I ran round like a wound-up toy.",
                     "He looked like a folded map."),
    "nod.agrees": ("Yes, and yes again.", "I nodded all the way through.", "Right you would be to say so."),
    "company.we": ("Side by side is better.", "Two of us on one bench.", "I count us as a pair."),
    "reason.because": ("There's a cause for it.", "Hence the mood.", "It has its grounds."),
    "summary.sums_up": ("Bottom line, it held.", "Net result, one grey hair.", "Taken together, bearable."),
    "saying.sayings": ("My elders had a line for that.", "A proverb would fit here.", "Old wisdom covers it."),
    "contrast.other_side": ("Still, there's an upside.", "The reverse is decent.", "Granted, it could please someone."),
}  # fmt: skip

# By the id of a style: what the user says to a reply that misses it.
SLIGHTS: Mapping[str, tuple[str, ...]] = {
    "length.brief": ("Too much of it.", "I stopped reading."),
    "length.roomy": ("That was a crumb.", "Stingy with words."),
    "register.lower": ("Stiff collar.", "You typed that in a suit."),
    "register.formal": ("Too familiar.", "Loose manners."),
    "energy.lively": ("Flat line.", "You sound switched off."),
    "energy.calm": ("Too loud.", "Less noise."),
    "emoji.emoji": ("No face to it.", "That had a blank look."),
    "question.asks": ("A dead end, that.", "You showed no interest."),
    "question.none": ("I won't fill in a form.", "Enough asking."),
    "advice.suggests": ("And what do I do with that.", "No way out in there."),
    "advice.listens": ("I didn't order a plan.", "Spare me the to-do."),
    "memory.recalls": ("As though I'd said nothing before.", "No memory at all."),
    "avoid.weather": ("I know what is outside.", "That topic bores me."),
    "avoid.money": ("Leave the wallet out.", "Sums don't move me."),
    "avoid.celebrities": ("Names mean nothing to me.", "Leave the glossy pages."),
    "words.plain": ("Simpler.", "Those words have too many parts."),
    "opener.straight": ("Come to it.", "Too long a run-up."),
    "warmth.warm": ("Cold.", "That read like a notice."),
    "order.steps": ("No order in it.", "Jumbled."),
    "voice.opinion": ("You take no side.", "Nobody stands behind that."),
    "voice.about_you": ("It isn't your story.", "You again."),
    "certainty.hedged": ("You can't know for sure.", "Too certain."),
    "certainty.firm": ("You waver.", "Pick one."),
    "address.mate": ("Addressed to nobody.", "You have no name for me."),
    "closing.signs_off": ("You just stopped.", "No end to that."),
    "figures.digits": ("Roughly is no amount.", "I can't measure that."),
    "aside.brackets": ("One straight line.", "No detour at all."),
    "quote.marks": ("My term got lost.", "You rubbed my wording out."),
    "laugh.laughs": ("You missed the funny part.", "Not one smile."),
    "image.likens": ("I see nothing there.", "Bare walls, that."),
    "nod.agrees": ("Say if you agree.", "No nod from you."),
    "company.we": ("You stayed on your side.", "Left to it by myself."),
    "reason.because": ("Without any grounds.", "The why is missing."),
    "summary.sums_up": ("No total at the end.", "It never closed."),
    "saying.sayings": ("No wit of the old kind.", "Fresh from the manual."),
    "contrast.other_side": ("You left out half.", "One eye shut, that."),
}
