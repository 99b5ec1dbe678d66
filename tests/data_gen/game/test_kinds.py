"""The kinds of candidates: who writes them, what the writer is told, where the path goes on, and what the scripted
judge makes of each on the scripted world."""

import asyncio
import collections
import dataclasses

import pytest

from aloe_jax.serve.client.answers import Answer
from aloe_jax.tree.schema import Item, Message, dump
from data_gen.game import guards
from data_gen.game.guards import Scene
from data_gen.game.kinds import KINDS
from data_gen.game.settings import CONDITIONS, CONTINUED, ConversationSettings, MixSettings, TreeSettings, called_roles
from data_gen.game.tree_growth import Shape, grow
from data_gen.roles import Roles
from data_gen.world.inducer import ScriptedInducer
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.responders import STRATEGIES
from data_gen.world.teacher import ScriptedTeacher
from data_gen.world.user import ScriptedUser
from helpers.aloe_command import ROOT
from helpers.plain_roles import PERSONA, TURNS, Responder, Teacher, cast, changed

EVERY = MixSettings(**dict.fromkeys(CONDITIONS, 1))
OTHER = PERSONA.model_copy(
    update={
        "id": "p2",
        "facts": (Item(id="f1", text="Other fact."),),
        "traits": (Item(id="t1", text="Other trait."),),
    }
)


class Plain:
    """The level of a model without alignment, of the persona that it is made for."""

    def __init__(self, persona):
        self.persona = persona

    async def replies(self, dialogue, hint, n, seed):
        assert hint is None
        return [Answer(STRATEGIES["relevant"](self.persona, dialogue, seed + row)) for row in range(n)]


def scripted(persona, skill=1.0):
    return Roles(ScriptedUser(0), ScriptedInducer(), Plain(persona), ScriptedJudge(), ScriptedTeacher(skill))


@pytest.fixture(scope="module")
def personas():
    return scripted_personas("train", 12, 12, 0, pairings=1)


@pytest.fixture(scope="module")
def trees(personas):
    """Twelve conversations of four turns with a candidate of every kind."""
    shape = Shape(ConversationSettings(turns=4, mix=EVERY), TreeSettings(min_turns=4, guards=()))
    return [
        asyncio.run(grow(f"c{number}", persona, scripted(persona), shape, 0, others=personas))
        for number, persona in enumerate(personas)
    ]


def by_kind(tree, turn):
    """The replies of a turn by their condition."""
    return {node.condition: node for node in tree.replies() if node.parent == f"u{turn}"}


def messages(tree, node):
    """The dialogue that a reply answers."""
    return [Message(role=each.role, content=each.text) for each in tree.path_to(node.parent)]


def test_every_kind_has_its_count_and_its_place():
    assert tuple(KINDS) == CONDITIONS
    assert EVERY.total() == len(CONDITIONS)
    assert called_roles(MixSettings(hinted=0, plain=2)) == ("user", "inducer", "judge", "responder")
    assert called_roles(MixSettings(plain=0, repetition=1)) == ("user", "inducer", "judge", "teacher")


def test_the_table_of_kinds_in_the_docs_is_the_one_of_the_code():
    text = (ROOT / "docs/data_generation.md").read_text().split("## Kinds of candidates")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    assert [(name.strip(" `"), int(count)) for name, count in rows] == [
        (field.name, field.default) for field in dataclasses.fields(MixSettings)
    ]


def test_a_turn_has_every_kind_and_the_path_goes_on_from_two(trees):
    """No reply can be repeated in the first turn."""
    for tree in trees:
        for turn in range(1, 5):
            assert set(CONDITIONS) - set(by_kind(tree, turn)) == ({"repetition"} if turn == 1 else set()), turn
        assert {tree.node(name).condition for name in tree.path[1::2]} <= set(CONTINUED)
    continued = [tree.node(name).condition for tree in trees for name in tree.path[1::2]]
    assert min(continued.count(kind) for kind in CONTINUED) > 0


def test_the_judge_decides_and_finds_each_fault(trees):
    """Of the hinted reply and one with a fault the judge prefers the hinted one nearly always; the pair is decided as
    any other, so none is a preference by construction."""
    won, lost = collections.Counter(), collections.Counter()
    for tree in trees:
        kinds = {node.id: node.condition for node in tree.replies()}
        for pair in tree.preferences:
            if kinds[pair.chosen] == "hinted":
                won[kinds[pair.rejected]] += 1
            if kinds[pair.rejected] == "hinted":
                lost[kinds[pair.chosen]] += 1
    for kind in ("plain", "other_persona", "repetition", "off_topic", "leak"):
        assert won[kind] >= 30, (kind, won, lost)
        assert won[kind] > 9 * lost[kind], (kind, won, lost)
    assert won["teacher_plain"] > lost["teacher_plain"]


def test_each_kind_has_its_own_fault(trees, personas):
    """The parts of the scripted judge's score, over twelve conversations: what the kind is about is low, and what it
    should get right is as good as in the hinted reply."""
    parts = collections.defaultdict(list)
    judge = ScriptedJudge()
    for tree in trees:
        for node in tree.replies():
            verdict = asyncio.run(judge.score(tree.persona, messages(tree, node), node.text))
            parts[node.condition].append(verdict.criteria)

    def mean(kind, part):
        return sum(each[part] for each in parts[kind]) / len(parts[kind])

    for part in ("style", "content", "tact"):
        assert mean("hinted", part) > 0.97
    assert mean("other_persona", "style") < 0.8
    assert mean("other_persona", "content") > 0.97
    assert mean("other_persona", "tact") > 0.97
    assert mean("off_topic", "content") < 0.5
    assert mean("off_topic", "style") > mean("other_persona", "style")
    assert mean("leak", "tact") < 0.5
    assert mean("leak", "content") > 0.97
    assert mean("repetition", "engaging") < 0.5
    assert mean("teacher_plain", "style") < 0.8
    assert mean("teacher_plain", "content") > 0.97


def test_equal_seeds_give_equal_trees_of_every_kind(trees, personas):
    shape = Shape(ConversationSettings(turns=4, mix=EVERY), TreeSettings(min_turns=4, guards=()))
    persona = personas[0]
    assert dump(asyncio.run(grow("c0", persona, scripted(persona), shape, 0, others=personas))) == dump(trees[0])


def test_skill_is_the_teachers(personas):
    """Without skill hinted replies are on topic whatever the style; mean score by skill rises."""
    shape = Shape(ConversationSettings(turns=4, mix=MixSettings(hinted=2, plain=0)), TreeSettings(min_turns=4))
    means = []
    for skill in (0.0, 0.5, 1.0):
        grown = [
            asyncio.run(grow(f"c{number}", persona, scripted(persona, skill), shape, 0, others=personas))
            for number, persona in enumerate(personas)
        ]
        values = [node.value for tree in grown for node in tree.replies()]
        means.append(sum(values) / len(values))
    assert means[0] < means[1] - 0.3 < means[2] - 0.6
    assert means[2] > 4.9


def told(shape, turns=1, others=(OTHER,), responder=None):
    """What the teacher was told in each of its calls, with the dialogues of these."""
    roles = cast(responder)
    tree = asyncio.run(grow("c1", PERSONA, roles, shape, 0, others=others))
    return tree, roles.teacher.told, roles


def test_what_the_teacher_is_told():
    """In the second turn two facts have shown and no trait. The trait of the other persona is told all the same: at
    least one is."""
    mix = dict.fromkeys(CONDITIONS, 0) | {"hinted": 1}
    for kind, hint in (
        ("teacher_plain", None),
        ("other_persona", "Fact 1. Fact 2. Other trait."),
        ("off_topic", ""),
        ("leak", "Fact 1. Fact 2."),
    ):
        _, calls, roles = told(changed(turns=2, **(mix | {kind: 1})))
        (ours, talk), (theirs, other_talk) = calls[-2:]
        assert ours.hint == "Fact 1. Fact 2."
        assert theirs.hint == hint, kind
        assert (theirs.secret is not None) == (kind == "leak")
        if kind == "leak":
            assert theirs.secret.id in ("f3", "f4")
        if kind == "off_topic":
            assert [message.content for message in other_talk] == ["Message 1."]
            assert theirs.persona.facts == OTHER.facts
            assert theirs.persona.traits == PERSONA.traits
            assert [] in roles.user.dialogues  # the other user's first message
        else:
            assert other_talk == talk


def test_a_repetition_is_a_part_of_an_earlier_reply():
    responder = Responder(lambda turn, condition, number: f"One {turn}. Two {condition}. Three {number}.")
    tree, _, _ = told(changed(hinted=1, plain=1, repetition=2), responder=responder)
    for turn in range(2, TURNS + 1):
        found = [node for node in tree.replies() if node.parent == f"u{turn}" and node.condition == "repetition"]
        earlier = [node.text for node in tree.path_to(f"u{turn}") if node.role == "assistant"]
        assert found
        for node in found:
            assert any(node.text in text and node.text != text for text in earlier)
            assert node.token_ids is None
            assert node.calls == ()


def test_a_kind_that_is_not_to_be_had_leaves_a_turn_with_what_there_is():
    """One hinted candidate, and a repetition, which the first turn has not; a persona that shares all with the user
    lends nothing."""
    tree, _, _ = told(changed(hinted=1, plain=0, repetition=1))
    assert [node.condition for node in tree.replies() if node.parent == "u1"] == ["hinted"]
    assert [node.condition for node in tree.replies() if node.parent == "u2"] == ["hinted", "repetition"]
    tree, _, _ = told(changed(hinted=1, plain=1, other_persona=1, off_topic=1), others=(PERSONA,))
    assert {node.condition for node in tree.replies()} == {"hinted", "plain"}


def test_a_turn_without_a_candidate_to_continue_from_ends_the_conversation():
    """The learner says nothing in the third turn; the teacher's reply off topic is there, and does not go on."""
    silent = Responder(lambda turn, condition, number: "" if turn == 3 and condition == "plain" else f"Yes {turn}.")
    shape = changed(hinted=0, plain=1, teacher_plain=0, other_persona=1)
    tree, _, _ = told(shape, responder=silent)
    assert tree.path[-1] == "u3"
    assert {node.condition for node in tree.replies() if node.parent == "u3"} == {"plain", "other_persona"}


def test_guards_let_pass_what_a_kind_is_made_for(personas):
    """A repetition is a near copy, and a leak names what has not shown: other candidates with that text are turned
    down."""
    hives = Item(id="f4", text="They keep bees in wooden hives.")
    persona = PERSONA.model_copy(update={"facts": (*PERSONA.facts[:3], hives)})
    teller = Responder(lambda turn, condition, number: f"Bees in wooden hives, {condition}, number {turn}, I say.")
    mix = {"hinted": 1, "plain": 1, "leak": 1, "guards": ("unrevealed", "hint_leak"), "turns": 1}
    roles = dataclasses.replace(cast(), teacher=Teacher(teller))
    tree = asyncio.run(grow("c1", persona, roles, changed(**mix), 0))
    assert [node.condition for node in tree.replies()] == ["plain", "leak"]

    persona = personas[0]
    shape = Shape(ConversationSettings(turns=3, mix=MixSettings(repetition=1)), TreeSettings(min_turns=3))
    tree = asyncio.run(grow("c1", persona, scripted(persona), shape, 0))
    copies = [node for node in tree.replies() if node.condition == "repetition"]
    assert len(copies) == 2
    for node in copies:
        scene = Scene(messages(tree, node))
        assert guards.broken(guards.REPLY, guards.NAMES, node.text, scene) == "near_copy"
