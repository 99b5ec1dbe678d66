"""Drawn attributes: a pure function, all values evenly used, combinations spread."""

import itertools
import random
from collections import Counter

import pytest

from aloe_jax.errors import InputError
from data_gen.personas.attributes import attribute_values, draw_attributes
from data_gen.personas.entry import SEED_FILES

KINDS = tuple(SEED_FILES)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_used_evenly_at_any_time(kind):
    uses = {name: Counter(dict.fromkeys(values, 0)) for name, values in attribute_values(kind).items()}
    for number in range(250):
        drawn = draw_attributes(kind, 3, number)
        assert list(drawn) == list(uses)
        for name, value in drawn.items():
            uses[name][value] += 1
            assert max(uses[name].values()) - min(uses[name].values()) <= 1


def repeated_pairs(draws):
    pairs = Counter(pair for drawn in draws for pair in itertools.combinations(drawn.items(), 2))
    return sum(count - 1 for count in pairs.values())


@pytest.mark.parametrize("kind", KINDS)
def test_combinations_repeat_less_than_by_chance(kind):
    rng, values = random.Random(0), attribute_values(kind)
    chance = [{name: rng.choice(options) for name, options in values.items()} for _ in range(400)]
    drawn = [draw_attributes(kind, 0, number) for number in range(400)]
    assert repeated_pairs(drawn) < 0.85 * repeated_pairs(chance)
    assert len({tuple(draw.values()) for draw in drawn}) == 400


def test_a_draw_depends_on_kind_seed_and_number_alone():
    late = draw_attributes("profile", 11, 40)
    early = [draw_attributes("profile", 11, number) for number in range(41)]
    assert early[40] == late
    early[40]["region"] = "changed by the caller"
    assert draw_attributes("profile", 11, 40) == late
    assert draw_attributes("profile", 12, 40) != late


@pytest.mark.parametrize("kind", KINDS)
def test_there_are_many_values_and_none_twice(kind):
    for name, values in attribute_values(kind).items():
        assert len(values) == len(set(values)) >= (8 if name == "age_band" else 12), name
        assert all(value == value.strip() != "" for value in values)


def test_bad_arguments():
    with pytest.raises(InputError, match="number is -1"):
        draw_attributes("profile", 0, -1)
    with pytest.raises(InputError, match="pool kind is 'persona'"):
        draw_attributes("persona", 0, 0)
