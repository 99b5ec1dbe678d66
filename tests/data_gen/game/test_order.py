"""Which persona each conversation has."""

import random
from collections import Counter

import pytest

from aloe_jax.tree.schema import Persona
from data_gen.calls.store import EVENTS, GIVEN_UP, NODES, Store
from data_gen.game.scheduler import Candidates, conversation_name, in_order, put_in_order
from data_gen.personas.split import spread


def pool(profiles, personalities, pairings, seed=0):
    """As the stage `personas` lists them: all personas of a profile together."""
    rng = random.Random(seed)
    return [
        Persona(id=f"p{row}-s{column}", profile=f"p{row}", personality=f"s{column}", facts=(), traits=())
        for row in range(profiles)
        for column in sorted(rng.sample(range(personalities), pairings))
    ]


POOL = pool(331, 330, 10)


@pytest.mark.parametrize("trees", [10, 100, 331, 1000, 3310])
def test_any_number_of_conversations_is_spread(trees):
    """100 of the 3,310 of the paper have 100 profiles and about as many personalities, not ten of them."""
    chosen = spread(POOL, 0)[:trees]
    profiles, styles = Counter(each.profile for each in chosen), Counter(each.personality for each in chosen)
    assert len(profiles) == min(trees, 331)
    assert max(profiles.values()) - min(profiles.values()) <= 1
    if trees < len(POOL):  # the whole pool has the personalities that it has
        assert max(styles.values()) <= -(-trees // 330) + 2
    if trees <= 100:
        assert len(styles) == trees


def test_it_is_an_order_of_all_determined_by_the_seed():
    assert sorted(each.id for each in spread(POOL, 3)) == sorted(each.id for each in POOL)
    assert spread(POOL, 3) == spread(POOL, 3) != spread(POOL, 4)


def test_shards_share_it():
    ordered = in_order(POOL, 0, ())
    parts = [list(Candidates(ordered, 100, 300, (number, 4))) for number in range(4)]
    assert sorted(name for part in parts for name, _ in part) == [conversation_name(n, ordered) for n in range(300)]
    assert len({persona.profile for part in parts for _, persona in part[:25]}) == 100


@pytest.mark.parametrize("ledger", [NODES, EVENTS])
@pytest.mark.parametrize("listed", [False, True])
def test_an_interrupted_run_keeps_its_order(tmp_path, listed, ledger):
    """An older one followed the list; its conversations' ids say so, and one order is never mixed with the other."""
    before = POOL if listed else spread(POOL, 0)
    with Store(tmp_path) as store:
        for number in (0, 1, 7, 40):
            name = conversation_name(number, before)
            store.add(ledger, f"{name} u1" if ledger == NODES else name + GIVEN_UP, {"conversation": name})
        store.add(EVENTS, "warning 1", {"event": "warning"})
    with Store(tmp_path) as store:
        assert len(store.begun()) == 4
        assert list(in_order(POOL, 0, store.begun())) == list(before)


def test_more_than_a_hundred_thousand_are_put_in_order(tmp_path):
    """Ids have five digits up to 99,999 and six above; as texts, the latter would come first."""
    names = [conversation_name(number, POOL) for number in (100_000, 99_999, 7, 1_000_000, 100_001)]
    path = tmp_path / "trees.jsonl"
    path.write_text("".join(f'{{"id": "{name}"}}\n' for name in names))
    assert put_in_order(path) == 5
    numbers = [int(line.split('"c')[1].partition("-")[0]) for line in path.read_text().splitlines()]
    assert numbers == [7, 99_999, 100_000, 100_001, 1_000_000]
