"""What models say that they have learned: an answer counted, the figures by hand, and the probe in a benchmark."""

import asyncio
import json
import math

import pytest
from etils import epath

from aloe_jax.serve.client.answers import Answer
from aloe_jax.serve.client.call_errors import RefusedCallError
from aloe_jax.tree.probe import QUESTION, Claim, answer_text, probe_answer, probe_question
from aloe_jax.tree.schema import Conversation, Item, Message, Node, Persona, Score, read_trees
from data_gen.world.catalogue import catalogue
from data_gen.world.judge import ScriptedJudge
from data_gen.world.personas import scripted_personas
from data_gen.world.user import ScriptedUser
from eval.benchmark.belief import BeliefCounts, Bin, Change, Revision, belief_metrics, belief_of
from eval.benchmark.cases import TREES, play_cases
from eval.benchmark.controls import LengthJudge, Rescoring, whole
from eval.benchmark.dialogues import Benchmark, replies_of
from eval.benchmark.dialogues import Tested as UnderTest
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.probing import PROBABILITY, Prober, item_probabilities
from eval.benchmark.results import METRICS, summarise
from eval.benchmark.scores import SCORES, ScoreRecord, read_scores

PERSONA = Persona(
    id="case",
    profile="p",
    personality="q",
    facts=(Item(id="job.nurse", text="The user works as a night nurse."),),
    traits=(Item(id="register.lower", text=""), Item(id="register.formal@2", text="")),
)
SAID = ("i am a night nurse.", "If I may put it that way. My ward was two short.")


def dialogue(*answers, persona=PERSONA, scores=()):
    """A dialogue of the persona with an answer to the probe under each reply."""
    nodes, path, parent = [], [], None
    for turn, answer in enumerate(answers, start=1):
        nodes.append(Node(id=f"u{turn}", parent=parent, role="user", text=SAID[turn - 1]))
        nodes.append(Node(id=f"a{turn}", parent=f"u{turn}", role="assistant", text="I see."))
        parent = f"a{turn}"
        path += [f"u{turn}", parent]
        if answer is not None:
            text = answer if isinstance(answer, str) else answer_text(answer)
            nodes += [probe_question(parent), probe_answer(parent, text).model_copy(update={"scores": scores})]
    return Conversation(id="case", persona=persona, nodes=tuple(nodes), path=tuple(path))


def beliefs(tree):
    return [belief_of(tree, reply) for reply in replies_of(tree)]


def test_an_answer_is_counted_against_what_was_shown():
    """Turn 1 shows the nurse and the lower case. In turn 2 the user turns formal, so the lower case is right no more,
    though turn 1 is evidence for it; nothing was ever said of a mare, and the nurse shows in turn 1, not in turn 2."""
    first, second = beliefs(
        dialogue(
            [Claim("job.nurse", 1), Claim("register.lower", 1)],
            [Claim("register.lower", 1), Claim("pet.mare", 1), Claim("job.nurse", 2)],
        )
    )
    assert first == BeliefCounts(claims=2, right=2, unfounded=0, shown=2)
    change = Change(since=0, shown=True, new=False, old=True)
    assert second == BeliefCounts(claims=3, right=1, unfounded=2, shown=2, change=change)


def test_a_preference_is_revised_once_the_new_one_is_named_alone():
    for claims, new, old in (
        ([Claim("register.formal", 2)], True, False),
        ([Claim("register.formal", 2), Claim("register.lower", 1)], True, True),
        ([], False, False),
    ):
        (_, found) = beliefs(dialogue(None, claims))
        assert found.change == Change(since=0, shown=True, new=new, old=old)


def test_what_is_no_answer_claims_nothing_and_what_was_not_asked_is_none():
    cut = answer_text([Claim("job.nurse", 1), Claim("register.lower", 1)])[:-6]
    first, second = beliefs(dialogue(cut, "I know you well."))
    assert (first.claims, first.right, first.readable) == (1, 1, True)
    assert (second.claims, second.shown, second.readable) == (0, 2, False)
    assert beliefs(dialogue(None, None)) == [None, None]
    foreign = PERSONA.model_copy(update={"facts": (Item(id="f1", text="Fires bowls."),), "traits": ()})
    assert beliefs(dialogue([Claim("f1", 1)], persona=foreign)) == [None]


def test_claims_keep_the_probabilities_that_they_have():
    scores = (
        Score(judge=PROBABILITY, criterion="job.nurse", value=0.75),
        Score(judge=PROBABILITY, criterion="pet.mare", value=0.25),
    )
    tree = dialogue([Claim("job.nurse", 1), Claim("pet.mare", 1), Claim("register.lower", 1)], scores=scores)
    assert beliefs(tree)[0].probabilities == ((0.75, True), (0.25, False))


def row(turn, belief, profile="p", personality="q"):
    return profile, personality, turn, belief


def test_figures_by_hand():
    """Claims 2 + 1, right 1 + 1, shown 2 + 4, unfounded 1: precision 2/3, recall 2/6, F1 2 x 2 / (3 + 6) = 4/9,
    unfounded 1/3. Brier ((1 - 0.9)^2 + 0.3^2 + (1 - 0.5)^2) / 3 = 0.35 / 3. Each claim has a bin of its own, so the
    calibration error is (0.1 + 0.3 + 0.5) / 3 = 0.3."""
    one = BeliefCounts(claims=2, right=1, unfounded=1, shown=2, probabilities=((0.9, True), (0.3, False)))
    other = BeliefCounts(claims=1, right=1, unfounded=0, shown=4, probabilities=((0.5, True),))
    found = belief_metrics([row(1, one), row(1, other)], 20, 0, 0.95)
    (turn,) = found.turns
    for each in (found.overall, turn):
        assert each.precision == pytest.approx(2 / 3)
        assert each.recall == pytest.approx(1 / 3)
        assert each.f1 == pytest.approx(4 / 9)
        assert each.unfounded == pytest.approx(1 / 3)
        assert each.brier == pytest.approx(0.35 / 3)
        assert each.calibration_error == pytest.approx(0.3)
    assert (turn.turn, turn.beliefs, turn.f1_interval) == (1, 2, None)  # one profile, one personality
    assert found.bins[0] == Bin(low=0.2, high=0.4, claims=1, probability=0.3, right=0.0)
    assert (found.claims, found.without_probability, found.unreadable, found.revision) == (3, 0, 0, ())


def test_calibration_puts_claims_into_bins():
    """Four claims of 0.75 of which three are right: the bin is calibrated, though each claim is off."""
    given = ((0.75, True), (0.75, True), (0.75, True), (0.75, False))
    found = belief_metrics(
        [row(1, BeliefCounts(claims=5, right=3, unfounded=2, shown=3, probabilities=given))], 5, 0, 0.95
    )
    assert found.overall.calibration_error == pytest.approx(0.0)
    assert found.overall.brier == pytest.approx((3 * 0.0625 + 0.5625) / 4)
    assert found.without_probability == 1
    ends = BeliefCounts(claims=2, right=2, unfounded=0, shown=2, probabilities=((1.0, True), (0.0, True)))
    bins = belief_metrics([row(1, ends)], 5, 0, 0.95).bins
    assert [(each.low, each.high) for each in bins] == [(0.0, 0.2), (0.8, 1.0)]


def test_nothing_to_divide_by_is_null():
    empty = BeliefCounts(claims=0, right=0, unfounded=0, shown=0)
    found = belief_metrics([row(1, empty)], 5, 0, 0.95).overall
    assert set(found.model_dump().values()) == {None}
    assert belief_metrics([], 5, 0, 0.95) is None


def test_revision_by_turns_since_the_change():
    def changed(since, new, old, shown=True):
        change = Change(since=since, shown=shown, new=new, old=old)
        return BeliefCounts(claims=1, right=0, unfounded=0, shown=1, change=change)

    rows = [
        row(6, changed(0, False, True, shown=False)),
        row(7, changed(1, True, False)),
        row(7, changed(1, True, True)),
    ]
    assert belief_metrics(rows, 5, 0, 0.95).revision == (
        Revision(since=0, cases=1, shown=0.0, new=0.0, old=1.0, revised=0.0),
        Revision(since=1, cases=2, shown=1.0, new=1.0, old=0.5, revised=0.5),
    )


def test_the_interval_of_f1_is_that_of_sums():
    """Two profiles, of which one is always right and one never: resamples have 0, 1 or 2 of the right one, each case
    with 1 claim and 1 item: F1 is 0, 1/2 or 1."""
    right, wrong = (BeliefCounts(claims=1, right=n, unfounded=0, shown=1) for n in (1, 0))
    rows = [row(1, right, "p1"), row(1, wrong, "p2")]
    (turn,) = belief_metrics(rows, 400, 0, 0.95).turns
    assert turn.f1 == 0.5
    assert turn.f1_interval == (0.0, 1.0)


def test_a_claims_probability_is_that_of_the_tokens_of_its_item():
    """The tokens that overlap `pet.mare"` are `"pet`, `.mare` and `"}`: 0.5 x 0.8 x 0.9. The second mention of an item
    counts no more."""
    tokens = ('{"known":[{"turn":1,"item":', '"pet', ".mare", '"}', ',{"turn":1,"item":"', "pet.mare", '"}]}', "</s>")
    logs = tuple(map(math.log, (0.1, 0.5, 0.8, 0.9, 0.1, 0.1, 0.1, 0.1)))
    answer = Answer("".join(tokens[:-1]), tokens=tokens, logprobs=logs)
    assert item_probabilities(answer) == {"pet.mare": pytest.approx(0.36)}
    assert item_probabilities(Answer(answer.text)) == {}
    assert item_probabilities(Answer(answer.text, tokens=tokens, logprobs=logs[:-1])) == {}


class Model:
    """Replies "Fine." and to a probe names the first item of the catalogue with probability 1/2, in the last turn; the
    probe of the first turn is refused where it is told to."""

    def __init__(self, refuses=False):
        self.refuses, self.probes = refuses, []

    async def replies(self, dialogue, hint, n, seed):
        return [Answer("Fine.")] * n

    async def chat(self, messages, *, affinity="", **options):
        self.probes.append((list(messages), options))
        turn = options["schema"]["properties"]["known"]["items"]["properties"]["turn"]["maximum"]
        if self.refuses and turn == 1:
            raise RefusedCallError("too long", "400")
        text = answer_text([Claim(catalogue()[0], turn)])
        return [Answer(text, call=f"call {turn}", tokens=(text[:-20], text[-20:]), logprobs=(math.log(0.5), 0.0))]


def play(directory, model, stored=None, prober=True):
    tested = UnderTest(lambda persona: model, whole, prober=Prober(model) if prober else None)
    personas = scripted_personas("benchmark", 2, 1, 0)
    made = Benchmark(tested, ScriptedUser(seed=1), ScriptedJudge(), 2, 3, stored)
    asyncio.run(play_cases(made.case, personas, directory, turns=2, concurrency=2))
    summarise(personas, 2, 5, 0, directory)
    return personas, {tree.id: tree for tree in read_trees(directory / TREES)}


def test_probes_stand_beside_the_dialogue_and_change_nothing_in_it(tmp_path):
    model = Model()
    directory = epath.Path(tmp_path / "base")
    personas, trees = play(directory, model)
    _, plain = play(epath.Path(tmp_path / "plain"), Model(), prober=False)
    for name, tree in trees.items():
        assert [node.id for node in tree.nodes if node.is_probe] == ["a1/probe", "a1/belief", "a2/probe", "a2/belief"]
        assert tree.path == ("u1", "a1", "u2", "a2")
        spoken = tuple(node for node in tree.nodes if not node.is_probe)
        assert tree.model_copy(update={"nodes": spoken}) == plain[name]
        assert tree.node("a2/belief").calls == ("call 2",)
        assert tree.node("a2/belief").scores == (Score(judge=PROBABILITY, criterion=catalogue()[0], value=0.5),)
    asked, options = model.probes[-1]
    assert asked[-1] == Message(role="user", content=QUESTION)
    assert len(asked) == 5
    assert options["temperature"] == 0
    assert options["schema"]["properties"]["known"]["items"]["properties"]["item"]["enum"] == list(catalogue())
    written = json.loads((directory / METRICS).read_text())["belief"]
    assert [turn["beliefs"] for turn in written["turns"]] == [2, 2]
    assert metrics(read_scores(directory / SCORES), 5, 0).model_dump(mode="json")["belief"] == written
    assert Metrics.model_validate(json.loads((directory / METRICS).read_text())).belief.claims == 4
    rescored = asyncio.run(Rescoring(LengthJudge(), trees, 2).case(personas[0])).tree
    assert [node.id for node in rescored.nodes] == ["u1", "a1", "u2", "a2"]


def test_a_probe_that_is_refused_leaves_its_turn_without_one(tmp_path):
    _, trees = play(epath.Path(tmp_path / "base"), Model(refuses=True))
    assert {tuple(node.id for node in tree.nodes) for tree in trees.values()} == {
        ("u1", "a1", "u2", "a2", "a2/probe", "a2/belief")
    }
    lines = [json.loads(line) for line in (tmp_path / "base" / SCORES).read_text().splitlines()]
    assert ["belief" in line for line in lines] == [False, True] * 2


def test_in_replay_the_model_is_asked_under_its_own_reply(tmp_path):
    _, stored = play(epath.Path(tmp_path / "base"), Model(), prober=False)
    model = Model()
    _, trees = play(epath.Path(tmp_path / "other"), model, stored)
    for tree in trees.values():
        assert tree.path == ("u1", "s1", "u2", "a2")
        assert tree.node("a1/probe").parent == "a1"
    assert model.probes[-1][0][-2].content == "Fine."


def test_scores_without_beliefs_are_as_before():
    record = ScoreRecord(case="c", profile="p", personality="q", turn=1, score=3.0)
    assert record.model_dump(mode="json").keys() == {"case", "profile", "personality", "turn", "score"}
    assert "belief" not in metrics([record], 5, 0).model_dump(mode="json")
