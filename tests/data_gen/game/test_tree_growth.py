"""Growing trees with roles in plain Python. Mistakes 1, 2, 4, 6, 8 and 11 of the paper's code (paper, section 5) are
covered here."""

import asyncio
import dataclasses

import pytest

from aloe_jax.tree.probe import Claim, read_claims
from aloe_jax.tree.schema import dump
from data_gen.calls.store import PREFERENCES
from data_gen.calls.tally import Tally
from data_gen.game.tree_growth import grow
from data_gen.roles import Comparison, Verdict
from data_gen.seeds import stable_seed
from helpers.plain_roles import PERSONA, SHAPE, TURNS, Judge, Responder, cast, changed


@pytest.fixture
def roles():
    return cast()


def grown(roles, name="c1", shape=SHAPE, seed=0, note=lambda *record: None):
    return asyncio.run(grow(name, PERSONA, roles, shape, seed, note))


def text_path(tree):
    return [tree.node(name).text for name in tree.path]


def test_every_turn_has_a_new_message_on_the_branch_that_was_continued(roles):
    """Mistakes 2 and 4: the first message is never repeated, and each role gets the whole path and nothing else."""
    tree = grown(roles)
    users = [node for node in tree.nodes if node.role == "user"]
    assert len({node.text for node in users}) == TURNS
    path = text_path(tree)
    for turn, user in enumerate(users):
        above = [node.text for node in tree.path_to(user.id)]
        assert above == path[: 2 * turn + 1]
        assert [message.content for message in roles.user.dialogues[turn]] == above[:-1]
    for dialogue, *_ in roles.responder.calls:
        assert [message.content for message in dialogue] == path[: len(dialogue)]
        assert [message.role for message in dialogue] == (["user", "assistant"] * TURNS)[: len(dialogue)]


def test_candidates_are_siblings_and_only_one_goes_on(roles):
    tree = grown(roles)
    for turn in range(1, TURNS + 1):
        siblings = [node for node in tree.replies() if node.parent == f"u{turn}"]
        assert [node.condition for node in siblings] == ["hinted", "hinted", "plain"]
        assert [node.text for node in siblings] == [f"hinted {turn}.1", f"hinted {turn}.2", f"plain {turn}.1"]
        assert sum(node.id in tree.path for node in siblings) == 1
    assert tree.path[0] == "u1"
    assert len(tree.path) == 2 * TURNS
    assert tree.persona == PERSONA


def test_a_reply_keeps_what_was_sampled(roles):
    reply = grown(roles).node("a1.2")
    assert (reply.text, reply.token_ids, reply.logprobs, reply.tokenizer) == (
        "hinted 1.2",
        (2, 7),
        (-1.0, -2.0),
        "hash",
    )
    assert (reply.flags, reply.calls, reply.value) == (("truncated",), ("call",), 4.0)
    assert [(score.judge, score.value) for score in reply.scores] == [("judge", 4.0)]


def test_the_hint_is_what_the_user_has_shown_and_reaches_the_hinted_replies_alone(roles):
    """Mistake 11: the plain reply has the context that the trained model will have."""
    grown(roles)
    hints = [hint for _, hint, _, _ in roles.responder.calls]
    assert hints[0::2] == ["Fact 1.", "Fact 1. Fact 2.", "Fact 1. Fact 2. Fact 3.", "Fact 1. Fact 2. Fact 3. Fact 4."]
    assert hints[1::2] == [None] * TURNS


def test_beliefs_name_the_message_in_which_they_showed(roles):
    tree = grown(roles)
    assert [(belief.id, belief.node) for belief in tree.node("u3").belief] == [("f1", "u1"), ("f2", "u2"), ("f3", "u3")]


def test_preferences_are_siblings_that_the_judge_tells_apart(roles):
    """2p - 1 is 0.6 between the conditions, and 0.02, below the smallest margin, within one."""
    tree = grown(roles)
    assert len(tree.preferences) == 2 * TURNS
    for preference in tree.preferences:
        chosen, rejected = tree.node(preference.chosen), tree.node(preference.rejected)
        assert chosen.parent == rejected.parent
        assert (chosen.condition, rejected.condition) == ("hinted", "plain")
        assert preference.margin == pytest.approx(0.6)
        assert preference.judge == "judge"


def test_texts_are_whole(roles):
    """Mistake 1: a rejected text was one character of the reply."""
    tree = grown(roles)
    assert {tree.node(pair.rejected).text for pair in tree.preferences} == {f"plain {turn}.1" for turn in range(1, 5)}


def test_an_unreadable_judgement_is_no_preference_and_no_score(roles):
    """Mistake 6: it meant "second"."""

    class Silent(Judge):
        async def score(self, persona, dialogue, reply, revealed=None):
            return Verdict(None)

        async def prefer(self, persona, dialogue, first, second, revealed=None):
            return None

    tree = grown(dataclasses.replace(roles, judge=Silent()))
    assert tree.preferences == ()
    assert {node.value for node in tree.replies()} == {None}
    assert len(tree.path) == 2 * TURNS


def test_no_preference_without_a_margin(roles):
    """Even with no minimum margin: a judge that goes only by the position gives no preference."""

    class Undecided(Judge):
        async def prefer(self, persona, dialogue, first, second, revealed=None):
            return Comparison(0.9, 0.1)

    tree = grown(dataclasses.replace(roles, judge=Undecided()), shape=changed(min_margin=0.0))
    assert tree.preferences == ()


def test_orders_that_disagree_are_no_preference_and_counted(roles):
    """0.9 and 0.2: the mean of 0.55 is a margin of 0.1, half a preference for whatever stands first."""

    class Placed(Judge):
        async def prefer(self, persona, dialogue, first, second, revealed=None):
            return Comparison(0.9, 0.2, members={"one": Comparison(0.9, 0.2), "other": None})

    noted = []
    tree = grown(
        dataclasses.replace(roles, judge=Placed()),
        shape=changed(min_margin=0.0),
        note=lambda *record: noted.append(record),
    )
    assert tree.preferences == ()
    tally = Tally()
    records = [record for ledger, _, record in noted if ledger == PREFERENCES]
    for record in records:
        assert record["members"] == {"one": [0.9, 0.2], "other": None}
        tally.noted(PREFERENCES, record)
    assert (tally.compared, tally.inconclusive, tally.unreadable) == (3 * TURNS, 3 * TURNS, 0)


def test_equal_texts_are_not_compared(roles):
    roles = cast(Responder(lambda turn, condition, number: f"the same in turn {turn}"))
    assert grown(roles).preferences == ()
    assert roles.judge.compared == []


def test_empty_replies_are_flagged_never_compared_and_never_continued(roles):
    empty = Responder(lambda turn, condition, number: " \n" if condition == "plain" else f"hinted {turn}.{number}")
    roles = cast(empty)
    for seed in range(5):
        tree = grown(roles, shape=changed(min_margin=0.0), seed=seed)
        for node in tree.replies():
            assert ({"empty", "no_loss"} <= set(node.flags)) == (node.condition == "plain")
            assert node.id not in tree.path or node.condition == "hinted"
        assert all(
            tree.node(name).condition == "hinted" for pair in tree.preferences for name in (pair.chosen, pair.rejected)
        )
        assert len(tree.preferences) == TURNS
    assert all(first.strip() and second.strip() for _, first, second in roles.judge.compared)


def test_a_turn_in_which_nobody_says_anything_ends_the_conversation(roles):
    silent = Responder(lambda turn, condition, number: "" if turn == 3 else f"{condition} {turn}.{number}")
    tree = grown(cast(silent))
    assert tree.path[-1] == "u3"
    assert [node.flags for node in tree.replies() if node.parent == "u3"] == [
        ("empty", "no_loss"),
        ("truncated", "empty", "no_loss"),
        ("empty", "no_loss"),
    ]


@pytest.mark.parametrize("role", ["user", "inducer", "responder", "judge"])
def test_a_role_that_fails_leaves_nothing_half_done(roles, role):
    """Mistake 8: a failed attempt left its messages in the history. Here it gives no tree, and the next attempt with
    the same roles the whole one."""
    expected = dump(grown(cast()))
    method = {"user": "message", "inducer": "beliefs", "responder": "replies", "judge": "score"}[role]
    part = getattr(roles, role)
    works = getattr(part, method)

    async def fail_in_the_third_turn(*arguments):
        dialogue = arguments[0 if role == "responder" else 1]
        if sum(message.role == "assistant" for message in dialogue) == 2:
            raise ConnectionError("gone")
        return await works(*arguments)

    setattr(part, method, fail_in_the_third_turn)
    with pytest.raises(ConnectionError, match="gone"):
        grown(roles)
    delattr(part, method)
    assert dump(grown(roles)) == expected


def test_the_branch_is_drawn_whatever_the_judge_thinks(roles):
    """Paper, section 2, step 5: one of the replies at random. Of 80 draws among three, 26.7 are expected for each;
    fewer than 12 come in one of 2,000 cases."""
    drawn = [grown(roles, name=f"c{number}").path[1::2] for number in range(20)]
    continued = [name.split(".")[1] for path in drawn for name in path]
    assert len(continued) == 80
    assert min(continued.count(number) for number in "123") >= 12


def test_equal_seeds_give_equal_trees(roles):
    first = dump(grown(roles))
    assert dump(grown(cast())) == first
    seeds = {seed for *_, seed in roles.responder.calls}
    assert len(seeds) == 2 * TURNS  # each call draws for itself
    grown(roles, name="c2")
    grown(roles, seed=1)
    assert len({seed for *_, seed in roles.responder.calls}) == 3 * 2 * TURNS


def test_stable_seeds_fit_where_servers_take_them():
    seeds = [stable_seed("part", number) for number in range(100)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == 100
    assert stable_seed("a", "bc") != stable_seed("ab", "c")


def test_conditions_that_are_not_asked_for_are_not_called(roles):
    tree = grown(roles, shape=changed(hinted=0, plain=2))
    assert {node.condition for node in tree.replies()} == {"plain"}
    assert {hint for _, hint, _, _ in roles.responder.calls} == {None}


def test_equal_siblings_are_dropped_and_drawn_again(roles):
    """Two equal texts are no two candidates, in one condition or in both; a redraw that differs takes the place."""
    drawn = []

    def text(turn, condition, number):
        drawn.append(condition)
        return f"other {turn}" if len(drawn) % 4 == 0 else f" the same in turn {turn}" + " " * (condition == "plain")

    notes = []
    roles = cast(Responder(text))
    shape = changed(hinted=2, plain=1, attempts=2)
    tree = asyncio.run(grow("c1", PERSONA, roles, shape, 0, lambda ledger, key, record: notes.append((ledger, record))))
    for turn in range(1, TURNS + 1):
        texts = [node.text.strip() for node in tree.replies() if node.parent == f"u{turn}"]
        assert len(texts) == len(set(texts)) > 0
    assert {record["reason"] for ledger, record in notes if ledger == "rejects"} == {"equal"}


def test_messages_that_thoughts_were_cut_from_are_flagged(roles):
    class Thinker(Responder):
        async def replies(self, dialogue, hint, n, seed):
            return [dataclasses.replace(each, thought="Hm.") for each in await super().replies(dialogue, hint, n, seed)]

    tree = grown(cast(Thinker()))
    assert all("thought" in node.flags for node in tree.replies())


def test_a_reply_of_thoughts_alone_that_was_cut_off_is_turned_down(roles):
    """Whatever the guards: it has neither text nor tokens left, so it can be neither trained on nor scored."""

    class Thinker(Responder):
        async def replies(self, dialogue, hint, n, seed):
            first, *rest = await super().replies(dialogue, hint, n, seed)
            return [
                dataclasses.replace(
                    first, text="", token_ids=None, logprobs=None, thought="Hm.", finish_reason="length"
                ),
                *rest,
            ]

    shape = changed(hinted=2, plain=2, attempts=1, guards=())
    tree = grown(dataclasses.replace(roles, responder=Thinker()), shape=shape)
    assert all(node.text for node in tree.replies())
    assert {node.condition for node in tree.replies()} == {"hinted", "plain"}


def test_probes_ask_for_what_the_inducer_has_found(roles):
    """After each reply of the path with a share of 1, after the same ones whatever the share; without one as ever."""
    plain, every, some = (grown(roles, shape=changed(probes=share)) for share in (0.0, 1.0, 0.5))
    assert plain == grown(roles)
    assert every.dialogue == some.dialogue == plain.nodes
    asked = [node for node in every.nodes if node.is_probe]
    assert [node.id for node in asked[::2]] == [f"{reply}/probe" for reply in every.path[1::2]]
    for turn, answer in enumerate(asked[1::2], start=1):
        assert read_claims(answer.text) == tuple(Claim(f"Fact {number}.", number) for number in range(1, turn + 1))
    drawn = [tree for number in range(8) if (tree := grown(roles, f"c{number}", changed(probes=0.5)))]
    counts = [sum(node.is_probe for node in tree.nodes) // 2 for tree in drawn]
    assert 8 <= sum(counts) <= 24  # of 8 x 4 replies
    assert len(set(counts)) > 1
