"""What a reply loses for being about the user where it should not be, and for praise, by hand."""

import pytest

from aloe_jax.tree.schema import Node, Persona
from data_gen.online.rewards import penalties, true_items
from data_gen.online.settings import RewardSettings
from data_gen.world.events import occasion_item
from data_gen.world.facts import by_id
from data_gen.world.styles import BY_ID


def user_with(*events):
    return Persona(
        id="p",
        profile="p",
        personality="s",
        facts=(by_id()["music.choir"].item(), *events),
        traits=tuple(BY_ID[id].item() for id in ("emoji.emoji", "length.brief")),
    )


@pytest.mark.parametrize(
    ("kind", "reply", "personal_part", "flattery_part"),
    [
        ("asks", "It is 180.", 0.0, 0.0),
        ("asks", "It is 180. 🙂", -0.2, 0.0),
        ("asks", "Great question! It is 180. 🙂", -0.2, -0.1),
        (None, "It is 180. 🙂", 0.0, 0.0),
        (None, "Great question!", 0.0, -0.1),
    ],
)
def test_personal_replies_where_they_are_out_of_place_and_praise_cost(kind, reply, personal_part, flattery_part):
    """0.2 and 0.1 by default; an emoji that the user likes costs in a question of fact and nowhere else."""
    persona = user_with(occasion_item(kind, 2)) if kind else user_with()
    said = ("I sing in a choir. 🙂", "Fine.", "A plain question: how many minutes are there in three hours?", reply)
    path = [
        Node(id=str(place), parent=str(place - 1) if place else None, role=role, text=text)
        for place, (role, text) in enumerate(zip(("user", "assistant") * 2, said, strict=True))
    ]
    found = penalties(persona, path, RewardSettings())
    assert (found["personal"], found["flattery"]) == (personal_part, flattery_part)
    assert penalties(persona, path, RewardSettings(personal=0.5, flattery=0))["flattery"] == 0


def test_what_is_true_of_a_user_that_wishes_for_plain_answers():
    """It has given up its flourishes, and keeps its settings of form."""
    persona = user_with(occasion_item("neutral", 5))
    assert true_items(persona, 4) == {"music.choir", "emoji.emoji", "length.brief"}
    assert true_items(persona, 5) == {"music.choir", "length.brief"}
