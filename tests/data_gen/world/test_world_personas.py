"""Scripted personas: reproducible, re-creatable from their record, and disjoint between train and benchmark."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Persona, dump
from data_gen.world.events import corrects, wanders_in
from data_gen.world.facts import facts_of
from data_gen.world.personas import Size, held_out, scripted_personas
from data_gen.world.style_table import STYLES
from data_gen.world.styles import change_of, compatible, styles_of
from data_gen.world.user import temper, write_message


def combinations(personas):
    return {frozenset(item.id for item in persona.traits) for persona in personas}


def test_full_size():
    train = scripted_personas("train", profiles=300, personalities=70, seed=0, pairings=10)
    assert len(train) == 3000
    assert len({persona.id for persona in train}) == 3000
    profiles = {persona.profile: frozenset(fact.id for fact in facts_of(persona)) for persona in train}
    assert len(set(profiles.values())) == 300
    assert {len(facts) for facts in profiles.values()} == set(range(6, 13))
    assert len(combinations(train)) == 70
    assert {style.id for persona in train for style in styles_of(persona)} == {style.id for style in STYLES}
    assert {len(styles_of(persona)) for persona in train} == set(range(4, 11))
    assert len({temper(persona).name for persona in train}) == 6
    benchmark = scripted_personas("benchmark", profiles=20, personalities=5, seed=0)
    assert all(8 <= len(persona.traits) <= 10 and 6 <= len(persona.facts) <= 12 for persona in benchmark)
    pairs = {(persona.profile, persona.personality) for persona in benchmark}
    assert len(pairs) == 100 == len({p for p, _ in pairs}) * len({s for _, s in pairs})


def test_pairings_are_different_personalities():
    personas = scripted_personas("train", profiles=5, personalities=8, seed=3, pairings=4)
    for _, group in itertools.groupby(personas, key=lambda persona: persona.profile):
        assert len({persona.personality for persona in group}) == 4


@settings(max_examples=8, deadline=None)
@given(train_seed=st.integers(0, 999), benchmark_seed=st.integers(0, 999))
def test_splits_are_disjoint_whatever_the_seeds(train_seed, benchmark_seed):
    train = scripted_personas("train", 10, 12, train_seed)
    benchmark = scripted_personas("benchmark", 10, 5, benchmark_seed)
    for kind in ("id", "text"):
        shared = {getattr(item, kind) for p in train for item in p.facts}
        assert not shared & {getattr(item, kind) for p in benchmark for item in p.facts}
    assert not combinations(train) & combinations(benchmark)
    for persona in (*train, *benchmark):
        kept = sum(held_out(one, other) for one, other in itertools.combinations(styles_of(persona), 2))
        assert kept >= 2 if persona in benchmark else kept == 0


@given(seed=st.integers(0, 999))
@settings(max_examples=10, deadline=None)
def test_one_fact_a_slot_and_styles_that_go_together(seed):
    for persona in scripted_personas("train", 3, 6, seed):
        assert len({fact.slot for fact in facts_of(persona)}) == len(facts_of(persona))
        assert all(compatible(one, other) for one, other in itertools.combinations(styles_of(persona), 2))


def test_surprises_fall_on_a_set_share():
    """Of 40 personalities four change and four correct; of 20 profiles every
    tenth goes off topic. None where the share is 0."""
    size = Size((6, 12), (4, 10), 0.1)
    personas = scripted_personas("train", 20, 40, 0, size=size)
    assert len({p.profile for p in personas if wanders_in(p)}) == 2
    assert len({p.personality for p in personas if corrects(p)}) == 4
    changing = [p for p in personas if change_of(p)]
    assert 3 <= len({p.personality for p in changing}) <= 4  # the last one may be owed at the end
    for persona in changing:
        later = styles_of(persona, 6)
        assert len(later) == len(styles_of(persona)) == len(styles_of(persona, 5))
        assert all(
            compatible(one, other) and not held_out(one, other) for one, other in itertools.combinations(later, 2)
        )
    plain = scripted_personas("train", 20, 40, 0, size=Size((6, 12), (4, 10), 0.0))
    assert not any(change_of(p) or corrects(p) or wanders_in(p) for p in plain)
    assert [styles_of(p) for p in plain] == [styles_of(p) for p in personas]


@pytest.mark.parametrize(
    "size", [Size((0, 3), (4, 4), 0), Size((6, 13), (4, 4), 0), Size((6, 6), (5, 4), 0), Size((6, 6), (4, 4), 0.3)]
)
def test_bad_sizes(size):
    with pytest.raises(InputError, match="expected"):
        scripted_personas("train", 1, 1, 0, size=size)


def test_equal_arguments_equal_personas_and_seeds_differ():
    assert scripted_personas("train", 4, 4, 1, 2) == scripted_personas("train", 4, 4, 1, 2)
    assert scripted_personas("train", 4, 4, 1, 2) != scripted_personas("train", 4, 4, 2, 2)
    few, many = scripted_personas("train", 2, 3, 1), scripted_personas("train", 4, 3, 1)
    assert many[: len(few)] == few


def test_recreated_from_the_stored_line():
    persona = scripted_personas("train", 1, 1, 5)[0]
    stored = Persona.model_validate_json(dump(persona))
    assert write_message(stored, [], 0) == write_message(persona, [], 0)
    reworded = stored.model_copy(update={"traits": tuple(Item(id=item.id, text="?") for item in stored.traits)})
    assert write_message(reworded, [], 0) == write_message(persona, [], 0)  # the ids carry the meaning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("test", 1, 1, 0), "split is 'test'"),
        (("train", 0, 1, 0), "profiles is 0"),
        (("train", 1, 2, 0, 3), "pairings is 3"),
        (("benchmark", 2, 2, 0, 1), "crosses all"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        scripted_personas(*arguments)


def test_unknown_ids_are_named():
    persona = scripted_personas("train", 1, 1, 0)[0]
    with pytest.raises(InputError, match=r"fact 'job\.astronaut'"):
        facts_of(persona.model_copy(update={"facts": (Item(id="job.astronaut", text=""),)}))
    with pytest.raises(InputError, match=r"trait 'length\.endless'"):
        styles_of(persona.model_copy(update={"traits": (Item(id="length.endless", text=""),)}))
