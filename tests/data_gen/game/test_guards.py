"""Each guard on what it is for, and on ordinary texts that must pass."""

import re

import pytest

from aloe_jax import settings
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.game import guards
from data_gen.game.guards import REPLY, USER, Scene
from data_gen.game.settings import TreeSettings
from data_gen.roles import Revealed
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play
from helpers.aloe_command import ROOT

PERSONA = Persona(
    id="p",
    profile="p",
    personality="q",
    facts=(
        Item(id="f1", text="They repair accordions in a workshop behind the station."),
        Item(id="f2", text="Their daughter studies marine biology in Lisbon."),
    ),
)
DIALOGUE = [Message(role="user", content="Long day at the workshop, three accordions with broken bellows.")]
SCENE = Scene(DIALOGUE, persona=PERSONA, revealed=(Revealed("f1", 1),), hint="They repair accordions in a workshop.")

BROKEN_REPLIES = {
    "empty": "  ...  ",
    "speaks_for_other": "That sounds tiring.\nUser: Yes, it was.",
    "stage_directions": "*smiles warmly* That sounds like a long one.",
    "near_copy": "A long day at the workshop, three accordions with broken bellows!",
    "loop": "it was fun and it was fun and it was fun and so on",
    "refusal": "I’m sorry, but I can't help with that.",
    "hint_leak": "According to my notes you fix instruments.",
    "unrevealed": "Does your daughter in Lisbon still study marine biology?",
}
GOOD_REPLIES = (
    "Three in one day! Which one gave you the most trouble?",
    "Bellows are a pain. I hope someone brought you coffee.",
    "My cousin has an old accordion he can't bring himself to sell.",
    "Let me guess: the last one came in five minutes before closing.",
    "You have an ear for this, and it shows (I could never).",
)


@pytest.mark.parametrize(("name", "text"), BROKEN_REPLIES.items())
def test_a_reply_that_a_guard_is_for(name, text):
    assert guards.broken(REPLY, guards.NAMES, text, SCENE) == name
    assert guards.broken(REPLY, [other for other in guards.NAMES if other != name], text, SCENE) != name


@pytest.mark.parametrize("text", GOOD_REPLIES)
def test_a_reply_that_all_let_through(text):
    assert guards.broken(REPLY, guards.NAMES, text, SCENE) is None


def test_truncated_is_what_the_server_says():
    cut = Scene(DIALOGUE, truncated=True)
    assert guards.broken(REPLY, guards.NAMES, GOOD_REPLIES[0], cut) == "truncated"
    assert guards.broken(USER, guards.NAMES, GOOD_REPLIES[0], cut) == "truncated"


def test_a_hint_may_be_used_and_not_recited():
    long_hint = Scene(
        DIALOGUE, persona=PERSONA, hint="They like it when nobody makes a fuss about small things at work."
    )
    told = "Fair enough, since you like it when nobody makes a fuss about small things."
    assert guards.broken(REPLY, ["hint_leak"], told, long_hint) == "hint_leak"
    assert guards.broken(REPLY, ["hint_leak"], told, Scene(DIALOGUE, persona=PERSONA)) is None  # it was given none
    said = Scene([*DIALOGUE, Message(role="user", content=told)], persona=PERSONA, hint=long_hint.hint)
    assert guards.broken(REPLY, ["hint_leak"], told, said) is None  # the user's own words


def test_what_the_user_has_shown_may_be_named():
    shown = Scene(DIALOGUE, persona=PERSONA, revealed=(Revealed("f1", 1), Revealed("f2", 1)))
    assert guards.broken(REPLY, guards.NAMES, BROKEN_REPLIES["unrevealed"], shown) is None


@pytest.mark.parametrize(
    "text", ["How can I help you today?", "As an AI language model, I have no days.", "Feel free to ask me anything."]
)
def test_a_user_that_talks_as_an_assistant(text):
    assert guards.broken(USER, guards.NAMES, text, Scene([])) == "role_flip"


def test_the_scripted_users_messages_pass():
    """1,200 messages that are ordinary by construction, but for near copies: the user comes back to what it told."""
    names = [name for name in guards.NAMES if name != "near_copy"]
    for persona in scripted_personas("train", 30, 16, 0, pairings=1):
        for strategy in ("oracle", "generic"):
            dialogue, _ = play(persona, strategy, 10)
            for place in range(0, len(dialogue), 2):
                assert guards.broken(USER, names, dialogue[place].content, Scene(dialogue[:place])) is None


def test_pairs_of_uneven_length():
    """Three times as many words are allowed, four are not."""
    assert not guards.uneven("one two three", "one two three four five six seven eight nine")
    assert guards.uneven("one two three", " ".join(["word"] * 12))
    assert guards.uneven("", "one two three four")


def test_every_guard_has_an_example_and_a_line_in_the_documentation():
    assert {*BROKEN_REPLIES, "truncated"} == set(REPLY)
    text = (ROOT / "docs/data_generation.md").read_text()
    lines = text.split("| guard |")[1].split("\n\n")[0].splitlines()[2:]
    assert sorted(name for line in lines for name in re.findall(r"`(\w+)`", line)) == sorted(guards.NAMES)


def test_names():
    usual = settings.plain(TreeSettings())
    assert settings.read(TreeSettings, usual, "config.tree") == TreeSettings()
    assert set(TreeSettings().guards) == set(guards.NAMES)
    with pytest.raises(InputError, match=r"config\.tree\.guards: 'lops' is unknown; choose from .*loop"):
        settings.read(TreeSettings, usual | {"guards": ["lops"]}, "config.tree")
