"""The hand-written seeds: enough, sound, different from each other, and not only pleasant company."""

import json
from importlib import resources

import pytest

from aloe_jax.errors import InputError
from data_gen.personas.attributes import attribute_values
from data_gen.personas.entry import SEED_FILES, read_seeds
from data_gen.personas.filter import Pool, calibrate, distribution, item_grams, nearest_neighbours
from data_gen.personas.rules import broken_rule

KINDS = tuple(SEED_FILES)
PLEASANT = {
    *("warm and nosy", "dreamy", "dutiful and formal", "playful", "stoic", "curious", "practical", "spiritual"),
    *("overexcited", "sceptical scientist", "lonely and talkative", "laid-back", "flirtatious", "scatterbrained"),
    *("people-pleasing", "poetic", "contrarian humorist", "shy", "indecisive"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def vectors(kind, minilm):
    return minilm.encode([seed.text for seed in read_seeds(kind)])


def test_there_are_enough_and_every_one_keeps_the_rules(kind):
    seeds = read_seeds(kind)
    assert len(seeds) >= 40
    assert len({seed.id for seed in seeds}) == len(seeds)
    for seed in seeds:
        assert broken_rule(kind, seed.items) is None, seed.text
        assert seed.origin == "seed"


def test_every_one_passes_the_filter_that_is_calibrated_on_them(kind, vectors):
    pool = Pool(calibrate(vectors, quantile=1.0))
    for seed, vector in zip(read_seeds(kind), vectors, strict=True):
        assert pool.offer(seed, vector).reason is None, seed.text


def test_no_two_are_alike(kind, vectors):
    """Different in meaning (the nearest two profiles are at 0.61, the nearest personalities, two kinds of joker, at
    0.74), hardly a phrase in common, no sentence twice."""
    assert distribution(nearest_neighbours(vectors))["max"] < 0.75
    seeds = read_seeds(kind)
    items = [item for seed in seeds for item in seed.items]
    assert len(set(items)) == len(items)
    grams = [item_grams(seed.items) for seed in seeds]
    for row, own in enumerate(grams):
        others = set().union(*grams[:row], *grams[row + 1 :])
        assert len(own & others) <= 0.05 * len(own), seeds[row].text


def test_attributes_are_those_that_are_drawn(kind):
    first = "region" if kind == "profile" else "tone"
    for seed in read_seeds(kind):
        assert list(seed.attributes) == list(attribute_values(kind))
    assert len({seed.attributes[first] for seed in read_seeds(kind)}) == len(read_seeds(kind))


def test_profiles_are_of_all_ages():
    assert {seed.attributes["age_band"] for seed in read_seeds("profile")} == set(
        attribute_values("profile")["age_band"]
    )


def test_at_least_half_the_personalities_are_no_easy_company():
    tones = {seed.attributes["tone"] for seed in read_seeds("personality")}
    assert tones >= PLEASANT
    assert len(tones - PLEASANT) >= len(tones) / 2


def test_files_hold_one_object_per_line(kind):
    text = resources.files("data_gen.personas").joinpath("seeds", SEED_FILES[kind]).read_text(encoding="utf-8")
    assert [set(json.loads(line)) for line in text.splitlines()] == [{"attributes", "items"}] * len(read_seeds(kind))


def test_another_kind_is_refused():
    with pytest.raises(InputError, match="pool kind is 'facts'"):
        read_seeds("facts")
