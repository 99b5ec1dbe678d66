"""What a round samples and learns from, by hand, and the plan of the stage `online`."""

import dataclasses
import json
import random

import pytest

from aloe_jax.errors import InputError
from aloe_jax.plan import program, rollouts
from aloe_jax.plan.settings import Rounds
from aloe_jax.tree.prune import advantaged
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import Conversation, Node
from helpers.tiny_plan import COMPILED, needs_libtpu

CAPACITY = Capacity(512, 384, 32, 16)
GIB = 2**30
SHAPE = ("trees=3", "max_tokens=8", "rollout.batch=2", "rollout.turns=2", "rollout.siblings=2", "rollout.futures=1")
ONLINE = ("--stage=online", *(f"--config.online.{each}" for each in SHAPE))


def tree(number):
    """Two turns; siblings with an advantage at the first, each followed by a second turn."""
    nodes = [Node(id="u1", parent=None, role="user", text="")]
    nodes += [Node(id=f"a{one}", parent="u1", role="assistant", text="", advantage=1.0 - one) for one in (0, 2)]
    nodes += [Node(id=f"u2{one}", parent=f"a{one}", role="user", text="") for one in (0, 2)]
    nodes += [Node(id=f"b{one}", parent=f"u2{one}", role="assistant", text="") for one in (0, 2)]
    return Conversation(id=str(number), nodes=tuple(nodes))


@pytest.fixture(scope="module")
def round_():
    trees = [tree(number) for number in range(2)]
    rng = random.Random(1)
    return trees, [rollouts.laid_out(each, 20, rng) for each in trees]


@pytest.mark.parametrize(
    ("batch", "at_once", "steps", "prefills"),
    [
        # Per tree 2 replies to 1 prompt, then 2 to 2. Together 4 to 2, then 4 to 4: of 3 slots and 2 chunks
        # ceil(4/3) + ceil(4/3) = 4 waves of 5 tokens, 1 + 2 prefills.
        (2, 4, 4 * 5, 3),
        # One after the other: (1 + 1) waves and (1 + 1) prefills each.
        (1, 2, 4 * 5, 4),
    ],
)
def test_what_is_sampled(round_, batch, at_once, steps, prefills):
    trees, tries = round_
    found = rollouts.sampled(trees, tries, Rounds(1, batch, 5, lambda: trees), slots=3, chunks=2)
    tokens = sum(len(trie.pieces[place].tokens) for trie in tries for place in (1, 2, 5, 6))
    assert found == rollouts.Sampled(8, tokens, at_once, steps, prefills)
    assert max(len(trie.pieces[place].tokens) for trie in tries for place in (1, 2, 5, 6)) == 20


def test_what_is_learned_from(round_):
    """The siblings and the message before them, without the last token of each, which predicts nothing. Replies of the
    second turn have no advantage. All of it fits one row."""
    trees, tries = round_
    found = rollouts.learned(trees, tries, CAPACITY, advantaged)
    first = [[len(trie.pieces[place].tokens) for place in range(3)] for trie in tries]
    assert (found.replies, found.tokens, found.rows) == (4, sum(sum(each) - 2 for each in first), 1)
    assert found.some.tokens.shape == (1, 512)


def test_nothing_to_learn_from(round_):
    trees, tries = round_
    nothing = [Conversation(id=each.id, nodes=[node.model_copy(update={"advantage": None}) for node in each.nodes])
               for each in trees]  # fmt: skip
    with pytest.raises(InputError, match="its objective learns from no reply of these trees"):
        rollouts.learned(nothing, tries, CAPACITY, advantaged)


@pytest.fixture
def online(here, tmp_path, monkeypatch):
    """`aloe plan --stage=online` with these figures for every program: exit code, stdout, last line of stderr, JSON."""

    def call(figures, *arguments):
        if figures is not None:
            monkeypatch.setattr(program, "figures", lambda *given: figures)
        path = tmp_path / "plan.json"
        code, out, said = here(None, *ONLINE, f"--json={path}", *arguments)
        return code, out, said[-1], json.loads(path.read_text())

    return call


@needs_libtpu
class TestPlan:
    def test_what_stays_beside_a_program(self, online):
        """The reference beside the step, moments and reference beside a pass, all of the trainer beside the engine."""
        code, out, _, found = online(COMPILED, "--price=3.6")
        assert code == 0
        held, memory = found["online"], {each["name"]: each["memory"] for each in found["programs"]}
        assert list(memory) == ["step", "pass", "prefill", "burst"]
        policy, moments = memory["step"]["parameters"], memory["step"]["optimizer"]
        assert (held["trainer"], held["reference"]) == (policy + moments, policy)
        assert memory["step"]["beside"] == policy
        assert memory["pass"]["beside"] == policy + moments
        assert memory["prefill"]["beside"] == memory["burst"]["beside"] == 2 * policy + moments
        for each in memory.values():
            assert each["total"] == GIB + each["beside"]
        # 2 x 2 layers, 2 pages of 128 tokens and 2 more for 1 of 4 slots, 4 heads of 32, in bfloat16
        assert held["pages"] == 2 * 2 * (1 + 2) * 128 * 4 * 32 * 2
        assert "beside the program" in out

    def test_seconds_of_a_round(self, online):
        """Three trees of two turns, one of which has two siblings, in batches of two trees, on four slots: every turn
        is one wave of 8 tokens at most."""
        _, out, _, found = online(COMPILED, "--price=3.6")
        held, seconds = found["online"], {each["name"]: each["time"]["seconds"] for each in found["programs"]}
        assert (held["trees"], held["steps"], held["prefills"], held["learned"]) == (3, 2 * 2 * 8, 2 * 2, 3 * 2)
        assert held["rollout_seconds"] == pytest.approx(32 * seconds["burst"] + 4 * seconds["prefill"])
        assert held["update_seconds"] == pytest.approx(2 * seconds["pass"] + seconds["step"])
        hours = 50 * held["seconds"] / 3600
        assert f"50 rounds {4 * hours * 3.6:,.2f} USD in {hours:.3g} hours" in out
        assert f"50 rounds: {hours:.3g} hours" in out

    def test_what_does_not_fit_together(self, online):
        """A step that fills the chip leaves nothing for the reference; a burst nothing for the trainer."""
        full = dataclasses.replace(COMPILED, needed=15.75 * GIB)
        code, out, said, found = online(full)
        assert (code, found["fits"]) == (1, False)
        assert "DOES NOT FIT" in out
        assert "rollout " not in out
        assert "its step needs 15.8 GiB per chip beside 0.0 of others; try shorter rows" in said

    def test_settings_that_suit_no_method(self, here):
        code, _, said = here(None, *ONLINE, "--config.online.rollout.siblings=1")
        assert code == 2
        assert "config.online.rollout.siblings: 1, but the method 'siblings' with the objective" in said[-1]

    @pytest.mark.slow
    def test_compiled(self, online):
        code, _, _, found = online(None)
        assert code == 0
        assert found["fits"] is True
        held, memory = found["online"], {each["name"]: each["memory"] for each in found["programs"]}
        assert held["trainer"] + held["reference"] < memory["step"]["total"]
        assert held["trainer"] + held["reference"] + held["engine"] + held["pages"] < memory["burst"]["total"]
        assert held["rollout_seconds"] > 0
        assert held["update_seconds"] > 0
