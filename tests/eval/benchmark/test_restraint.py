"""Figures by kind of turn: worked numbers on stored dialogues, and where they stand."""

import json

import pytest
from etils import epath

from aloe_jax.cli.main import main
from aloe_jax.tree.schema import Conversation, Message, Node, Persona, Score
from data_gen.world.events import occasion_item
from data_gen.world.facts import by_id
from data_gen.world.occasion_texts import ERRANDS
from data_gen.world.styles import BY_ID
from eval.benchmark.measures import hands_over, measures
from eval.benchmark.restraint import by_turn_kind
from eval.benchmark.results import summarise
from eval.benchmark.scores import ScoreRecord
from eval.report.names import Style
from eval.report.parts import Shown, restraint_grid
from eval.report.reading import read_result

SAID = (
    "So it goes. I sing in a choir, right at the back. That is all I do. 🙂",
    "Quick detour. That took a while. A plain question: how many minutes are there in three hours?",
    "Now a favour. Could you write a line for my neighbour, who bought an old tractor? A number in digits is wanted.",
    "Please drop the frills. The choir rehearses on Mondays. It went on.",
)
PLAIN = ("The choir sounds full. 🙂", "It is 180.", "The tractor at 9.", "The choir it is.")
# Personal in the question and in the plain turn; flattery in the first; confused in the third.
GUSHING = ("You are amazing.", "It is 180. 🙂", "Your old tractor at 9.", "The choir it is. 🙂")


def case(profile, personality, replies, scores):
    persona = Persona(
        id=f"{profile}-{personality}",
        profile=profile,
        personality=personality,
        facts=(
            by_id()["music.choir"].item(),
            *(occasion_item(kind, turn) for kind, turn in (("asks", 2), ("other", 3), ("neutral", 4))),
        ),
        traits=tuple(BY_ID[id].item() for id in ("emoji.emoji", "energy.calm")),
    )
    nodes, parent = [], None
    for turn, (said, reply, score) in enumerate(zip(SAID, replies, scores, strict=True), start=1):
        nodes.append(Node(id=f"u{turn}", parent=parent, role="user", text=said))
        scored = (Score(judge="scripted", criterion="overall", value=score),)
        nodes.append(Node(id=f"a{turn}", parent=f"u{turn}", role="assistant", text=reply, scores=scored))
        parent = f"a{turn}"
    return Conversation(id=persona.id, persona=persona, nodes=tuple(nodes), path=tuple(node.id for node in nodes))


TREES = [
    case("p0", "s0", PLAIN, (5, 5, 4, 4)),
    case("p0", "s1", GUSHING, (1, 3, 2, 2)),
    case("p1", "s0", PLAIN, (5, 5, 4, 4)),
    case("p1", "s1", PLAIN, (5, None, 4, 4)),
]


def records(trees):
    return [
        ScoreRecord(
            case=tree.id,
            profile=tree.persona.profile,
            personality=tree.persona.personality,
            turn=turn,
            score=reply.scores[0].value,
        )
        for tree in trees
        for turn, reply in enumerate(tree.replies(), start=1)
    ]


def test_by_hand():
    """Of four cases one gushes: its emoji after the question and after the wish, praise in the first turn, "your
    tractor" in the third. The scores of the question are 5, 3, 5 and none: 13 / 3."""
    found = by_turn_kind(records(TREES), TREES)
    assert list(found) == ["ordinary", "asks", "other", "neutral"]
    table = {
        kind: tuple(
            getattr(each, name).value for name in ("score", "over_personalisation", "flattery", "identity_confusion")
        )
        for kind, each in found.items()
    }
    assert table["ordinary"] == pytest.approx((4, 0.75, 0.25, 0))  # only praise is not personal
    assert table["asks"] == pytest.approx((13 / 3, 0.25, 0, 0))
    assert table["other"] == pytest.approx((3.5, 0, 0, 0.25))
    assert table["neutral"] == pytest.approx((3.5, 0.25, 0, 0))
    assert all((each.turns, each.cases) == (4, 4) for each in found.values())
    low, high = found["asks"].over_personalisation.ci
    assert low < 0.25 < high


def test_equal_cases_have_a_point_as_interval():
    found = by_turn_kind(records(TREES[:1] + TREES[2:3]), TREES[:1] + TREES[2:3])
    assert found["other"].score.ci == pytest.approx((4, 4))


def test_without_such_turns_there_is_nothing():
    ordinary = [
        tree.model_copy(update={"persona": tree.persona.model_copy(update={"facts": tree.persona.facts[:1]})})
        for tree in TREES
    ]
    assert by_turn_kind(records(ordinary), ordinary) is None
    other = [tree.model_copy(update={"persona": None}) for tree in TREES]
    assert by_turn_kind(records(TREES), other) is None


def test_in_metrics_json_the_command_and_the_report(tmp_path, capsys):
    folder = tmp_path / "benchmark" / "sft"
    folder.mkdir(parents=True)
    (folder / "trees.jsonl").write_text("".join(tree.model_dump_json() + "\n" for tree in TREES))
    summarise([tree.persona for tree in TREES], 4, 50, 0, epath.Path(folder))
    stored = json.loads((folder / "metrics.json").read_text())
    assert stored["by_turn_kind"]["asks"]["over_personalisation"]["value"] == 0.25
    assert main(["metrics", str(folder / "scores.jsonl")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["by_turn_kind"] == stored["by_turn_kind"]
    assert main(["metrics", str(folder)]) == 0
    assert "When not to personalise" in capsys.readouterr().out
    grid = restraint_grid({"sft": Shown("SFT", Style("", ""), read_result(epath.Path(folder)))})
    rows = {row.label: row.cells[0].value for row in grid.rows}
    assert rows["A question of fact: share of personal replies"] == "0.25"
    assert rows["Plain answers wished for: score"] == "3.50"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Your tractor is a fine thing.", True),
        ("I like your old tractor.", True),
        ("Your neighbour's tractor is a fine thing.", False),
        ("The tractor is a fine thing of yours.", False),
        ("Your day was long.", False),
    ],
)
def test_another_s_matter_as_the_user_s(reply, expected):
    assert hands_over(ERRANDS["train"][0], reply) is expected


def test_in_the_measures_of_a_dialogue():
    """Events are no facts, so such a persona is of the scripted world: one of four replies flatters, one confuses."""
    tree = TREES[1]
    found = measures(tree.persona, [Message(role=node.role, content=node.text) for node in tree.nodes])
    assert (found.flattery, found.identity_confusion, found.referred) == (0.25, 0.25, True)
