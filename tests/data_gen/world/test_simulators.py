"""The two scripted users: A as it always was, B held out, and both read exactly by the same inducer."""

import asyncio
import hashlib
import itertools

import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from data_gen.players.settings import UserSettings
from data_gen.players.table import ROLES
from data_gen.text import expand_contractions, normal
from data_gen.world.events import corrects, wanders_in
from data_gen.world.facts import facts_of, named
from data_gen.world.inducer import shown
from data_gen.world.judge import assess
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import STRATEGIES
from data_gen.world.simulators import SIMULATORS, A, B
from data_gen.world.styles import BY_ID, change_of, shown_styles, styles_of
from data_gen.world.user import temper, write_message

PERSONAS = [*scripted_personas("train", 30, 40, 0, pairings=2), *scripted_personas("benchmark", 6, 5, 0)]
PLAIN = [p for p in PERSONAS if not (change_of(p) or corrects(p) or wanders_in(p))]


def played(persona, simulator, strategies, seed=0):
    """A dialogue in which the replies are of these strategies, one after the other."""
    dialogue = []
    for strategy in strategies:
        dialogue.append(Message(role="user", content=write_message(persona, dialogue, seed, simulator)))
        dialogue.append(Message(role="assistant", content=STRATEGIES[strategy](persona, dialogue, seed)))
    return dialogue


def test_the_first_simulator_is_what_it_was():
    """The hash of 180 messages of the world before it had a second simulator."""
    digest = hashlib.sha256()
    for persona in PERSONAS[::6]:
        for strategy in ("oracle", "generic"):
            for message in played(persona, A, [strategy] * 6)[::2]:
                digest.update(message.content.encode() + b"\n")
    assert digest.hexdigest() == "218d9badddd02a90195f59f150dd6f0f68c7129031b1b6d7315f2ea1c118f28f"


@pytest.mark.parametrize("simulator", SIMULATORS.values(), ids=SIMULATORS)
def test_all_that_shows_is_found_and_nothing_else(simulator):
    """Over all settings: what a message was written to show, the inducer finds in that turn; what it finds, the user
    holds and the message shows; no message shows another setting of a phrase or a habit."""
    found = set()
    for persona in PERSONAS[::2]:
        dialogue = played(persona, simulator, ["oracle"] * 4 + ["generic"] + ["oracle"] * 7)
        texts = [message.content for message in dialogue[::2]]
        held = {style.id for style in (*styles_of(persona), *styles_of(persona, len(texts)))}
        known = shown(persona, dialogue[:-1])
        for belief in known:
            setting, text = belief.id.partition("@")[0], texts[belief.turn - 1]
            if setting in BY_ID:
                found.add(setting)
                assert BY_ID[setting].shows(text)
            else:
                assert belief.id in [fact.id for fact in named(facts_of(persona), text)]
        for text in texts:
            assert {style.id for style in BY_ID.values() if style.shows(text)} <= held, text
        assert not simulator.opens > 1 or shown_styles(persona, dialogue[:1]) == {}
    assert found == set(BY_ID)


def test_the_held_out_user_opens_later_and_withholds_longer():
    """Pleased, it shows n - 1 traits by turn n instead of n. After one empty reply the other user shows nothing new for
    one turn, this one for two."""
    for persona in [each for each in PLAIN if len(styles_of(each)) > 4][::4]:
        for simulator, late in ((A, 0), (B, 1)):
            dialogue = played(persona, simulator, ["oracle"] * 12)
            count = len(styles_of(persona))
            turns = sorted(shown_styles(persona, dialogue[:-1]).values())
            assert turns == list(range(1 + late, count + 1 + late))
            spoiled = played(persona, simulator, ["oracle", "oracle", "empty", "oracle", "oracle", "oracle"])
            quiet = {4, 5, 6} - set(shown_styles(persona, spoiled[:-1]).values())
            assert quiet == ({4} if simulator is A else {4, 5})


def test_the_held_out_user_is_harder_to_please():
    """A score of 2.5 is no miss to A and one to B."""
    assert A.miss < 2.5 < B.miss
    found = 0
    for persona, seed in itertools.product(PLAIN[::2], range(3)):
        dialogue = played(persona, A, ["oracle", "half oracle"], seed)
        if not A.miss <= assess(persona, dialogue[:3], dialogue[3].content).value < B.miss:
            continue
        said = [Message(role="user", content=write_message(persona, dialogue, seed, each)) for each in (A, B)]
        new = [len(shown_styles(persona, [*dialogue, message])) for message in said]
        assert new == [len(shown_styles(persona, dialogue)) + 1, len(shown_styles(persona, dialogue))]
        found += 1
    assert found


def test_reactions_are_of_the_simulators_own_temper():
    for persona in PLAIN[::5]:
        mood = temper(persona, B)
        other, text = (played(persona, each, ["oracle"] * 2)[2].content for each in (A, B))
        if "register.formal" not in {style.id for style in styles_of(persona)}:
            assert any(normal(text).startswith(normal(remark)) for remark in (*mood.pleased, *mood.even, *mood.cool))
        assert normal(expand_contractions(text)) != normal(expand_contractions(other))


def test_the_setting_chooses_the_simulator():
    persona, make = PLAIN[0], ROLES["user"].scripted
    for name, simulator in SIMULATORS.items():
        said = asyncio.run(make(3, UserSettings(simulator=name)).message(persona, []))
        assert said.text == write_message(persona, [], 3, simulator)
    with pytest.raises(InputError, match="simulator: a user whose player is 'model' does not read it"):
        UserSettings(player="model", simulator="B")
    with pytest.raises(InputError, match="prompt: a user whose player is 'scripted' does not read it"):
        UserSettings(prompt="dialogue")
