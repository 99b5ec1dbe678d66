"""What users of the world can be learned to be, and how right that is: figures by hand."""

import pytest

from aloe_jax.tree.probe import MAX_ITEM, Claim
from aloe_jax.tree.schema import Item, Message, Persona
from data_gen.roles import Revealed
from data_gen.world.catalogue import Correctness, bank_id, catalogue, claims_of, correctness, shown_claims
from data_gen.world.facts import find_fact
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import play
from data_gen.world.styles import BY_ID, change_of, styles_of

MARE = find_fact("pet.mare~17")
PERSONA = Persona(
    id="p",
    profile="p",
    personality="s",
    facts=(MARE.item(), find_fact("job.nurse").item(), Item(id="event.wanders@9", text="Off topic in turn 9.")),
    traits=(
        Item(id="question.asks", text=""),
        Item(id="question.none@3", text=""),
        Item(id="laugh.laughs", text=""),
    ),
)
ASKS, NONE = BY_ID["question.asks"].phrases[0], BY_ID["question.none"].phrases[0]
# Four sentences each, as of a user whose habits are none.
TURNS = (
    f"Hi there. {MARE.forms[0]} It was late. {ASKS}",
    f"Fine, go on. {find_fact('job.nurse').forms[0]} It was late. So it goes.",
    f"Fair enough. {MARE.forms[0]} It was late. {NONE}",
)


def dialogue(turns):
    messages = []
    for text in TURNS[:turns]:
        messages += [Message(role="user", content=text), Message(role="assistant", content="I see.")]
    return messages


def test_the_catalogue_is_of_the_world_and_not_of_a_user():
    assert len(catalogue()) == len(set(catalogue())) == 36 + 144 + 60
    for persona in (*scripted_personas("train", 8, 8, 0), *scripted_personas("benchmark", 4, 4, 0)):
        items = [bank_id(item.id) for item in (*persona.facts, *persona.traits) if not item.id.startswith("event.")]
        assert set(items) <= set(catalogue())
    assert all(len(item) <= MAX_ITEM for item in catalogue())


def test_ids_are_those_of_the_banks():
    assert [bank_id(id) for id in ("pet.mare~17", "question.none@6", "job.nurse")] == [
        "pet.mare",
        "question.none",
        "job.nurse",
    ]
    assert shown_claims(PERSONA, dialogue(2)) == (
        Claim("pet.mare", 1),
        Claim("question.asks", 1),
        Claim("job.nurse", 2),
    )


def test_claims_of_other_users_are_sentences():
    other = Persona(id="o", profile="o", personality="o", facts=(Item(id="f1", text="Keeps bees." + "x" * 200),))
    [claim] = claims_of(other, [Revealed("f1", 3)])
    assert claim == Claim(("Keeps bees." + "x" * 200)[:MAX_ITEM], 3)


@pytest.mark.parametrize(
    ("claims", "turns", "expected"),
    [
        # Two of three claims are right, of three items shown; the third stands in no message.
        ([("pet.mare", 1), ("job.nurse", 2), ("saying.sayings", 1)], 2, Correctness(2 / 3, 2 / 3, 2 / 3, 1)),
        # One right claim of three items shown, whose turn did not show it: 2 x 1 / (1 + 3).
        ([("job.nurse", 1)], 2, Correctness(1.0, 1 / 3, 0.5, 1)),
        # It is shown again in turn 3.
        ([("pet.mare", 3)], 3, Correctness(1.0, 1 / 3, 0.5, 0)),
        # A turn that has not been yet.
        ([("pet.mare", 3)], 2, Correctness(1.0, 1 / 3, 0.5, 1)),
        ([], 2, Correctness(1.0, 0.0, 0.0, 0)),
        ([], 0, Correctness(1.0, 1.0, 1.0, 0)),
        ([("pet.mare", 1)], 0, Correctness(0.0, 1.0, 0.0, 1)),
    ],
)
def test_precision_recall_f1_and_evidence(claims, turns, expected):
    found = correctness([Claim(*claim) for claim in claims], PERSONA, dialogue(turns))
    assert found == expected


def test_after_a_change_the_new_setting_is_right_and_the_old_one_is_not():
    old, new, rest = Claim("question.asks", 1), Claim("question.none", 3), [Claim("pet.mare", 1), Claim("job.nurse", 2)]
    assert correctness([*rest, old], PERSONA, dialogue(2)) == Correctness(1.0, 1.0, 1.0, 0)
    assert correctness([*rest, new], PERSONA, dialogue(2)) == Correctness(2 / 3, 2 / 3, 2 / 3, 1)
    assert correctness([*rest, new], PERSONA, dialogue(3)) == Correctness(1.0, 1.0, 1.0, 0)
    # What it was before had its evidence.
    assert correctness([*rest, old], PERSONA, dialogue(3)) == Correctness(2 / 3, 2 / 3, 2 / 3, 0)


def test_so_it_is_when_the_scripted_user_changes():
    someone = next(persona for persona in scripted_personas("train", 8, 12, 0, pairings=4) if change_of(persona))
    new, turn = change_of(someone)
    [old] = [style.id for style in styles_of(someone) if style.axis == new.axis]
    talk, _ = play(someone, "constant", turn)
    for end in (2 * turn - 3, 2 * turn - 1):
        claims = shown_claims(someone, talk[:end])
        assert correctness(claims, someone, talk[:end]) == Correctness(1.0, 1.0, 1.0, 0)
        items = {claim.item for claim in claims}
        assert (new.id in items) == (end >= 2 * turn - 1)
        assert old not in items or end < 2 * turn - 1
    assert Claim(new.id, turn) in claims
