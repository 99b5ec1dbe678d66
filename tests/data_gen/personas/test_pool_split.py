"""Train and benchmark: disjoint, far apart, and what they still share is found and named."""

from collections import Counter

import numpy as np
import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Item, Persona
from data_gen.personas.contamination import contamination
from data_gen.personas.entry import make_entry, read_seeds
from data_gen.personas.filter import nearest_neighbours
from data_gen.personas.split import personas, split


def numbered(kind, count):
    texts = [(f"They own {number} hens.", f"Boat {number} leaks.") for number in range(count)]
    return [make_entry(kind, items, {}, "file") for items in texts]


def random_vectors(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_split_is_disjoint_whole_and_repeatable():
    entries, vectors = numbered("profile", 60), random_vectors(60)
    train, benchmark = split(entries, vectors, 12, seed=3)
    assert (len(train), len(benchmark)) == (48, 12)
    assert [entry for entry in entries if entry in train] == train
    assert sorted(train + benchmark, key=entries.index) == entries
    assert split(entries, vectors, 12, seed=3) == (train, benchmark)
    assert any(split(entries, vectors, 12, seed=seed) != (train, benchmark) for seed in range(9))
    assert split(entries, vectors, 0, seed=3) == (entries, [])


def test_held_out_entries_are_far_from_the_rest():
    """Forty entries in twenty near pairs and ten apart: the ten, and no half of a pair, are held out."""
    apart, pairs = np.eye(30, dtype=np.float32)[:10], np.eye(30, dtype=np.float32)[10:]
    moved = pairs + 0.1 * apart[0]
    vectors = np.concatenate([pairs, apart[1:], moved / np.linalg.norm(moved, axis=1, keepdims=True)])
    entries = numbered("profile", len(vectors))
    _, benchmark = split(entries, vectors, 3, seed=0)
    assert {entries.index(entry) for entry in benchmark} <= set(range(20, 29))


def test_held_out_entries_are_varied():
    """Among the candidates the chosen ones lie farther from each other than the most isolated ones do."""
    entries, vectors = numbered("profile", 200), random_vectors(200)
    order = np.argsort(nearest_neighbours(vectors), kind="stable")[:10]
    _, benchmark = split(entries, vectors, 10, seed=1)
    chosen = [entries.index(entry) for entry in benchmark]
    assert nearest_neighbours(vectors[chosen]).max() < nearest_neighbours(vectors[order]).max()


def test_entries_that_share_a_long_phrase_stay_in_training():
    phrase = "They walk to the old harbour wall every morning before the sun is up."
    entries = [make_entry("profile", (f"They own {number} hens.", phrase), {}, "file") for number in range(2)]
    entries += numbered("profile", 12)
    vectors = random_vectors(14)
    for seed in range(5):
        train, benchmark = split(entries, vectors, 4, seed)
        assert set(entries[:2]) <= set(train)
        assert len(benchmark) == 4


@pytest.mark.parametrize("held_out", [-1, 5, 6])
def test_held_out_must_leave_a_training_set(held_out):
    with pytest.raises(InputError, match=f"held_out is {held_out}, expected 0 to 4"):
        split(numbered("profile", 5), random_vectors(5), held_out, seed=0)


def persona(profile, personality, facts, traits):
    return Persona(
        id=f"{profile}-{personality}",
        profile=profile,
        personality=personality,
        facts=tuple(Item(id=f"fact{number}", text=text) for number, text in enumerate(facts, start=1)),
        traits=tuple(Item(id=f"trait{number}", text=text) for number, text in enumerate(traits, start=1)),
    )


def test_planted_overlaps_are_found_and_named(word_encoder):
    """Thirteen words in a row over a border of two sentences; eight, but not nine; a personality in both."""
    thirteen = ("They sold the boat in May.", "Nobody has asked them for the key since.")  # 6 + 8 words
    changed = (thirteen[0].upper(), "Nobody has asked them for the key, which has rusted.")
    train = [
        persona("p1", "s1", ("They have a hen.", *thirteen), ("They shout.",)),
        persona("p2", "s2", ("They mend old maps by the light of one lamp and sing.",), ("They whisper a lot.",)),
        persona("p2", "s1", ("They mend old maps by the light of one lamp and sing.",), ("They shout.",)),
    ]
    benchmark = [
        persona("q1", "s1", changed, ("They shout.",)),
        persona("q2", "t2", ("She mends old maps by the light of one lamp, slowly.",), ("They hum.",)),
        persona("q3", "t2", ("The weather is their only subject.",), ("They hum.",)),
    ]
    report = contamination(train, benchmark, word_encoder)
    assert list(report) == ["profiles", "personalities"]
    profiles, personalities = report["profiles"], report["personalities"]
    assert (profiles["train"], profiles["benchmark"], profiles["shared_ids"]) == (2, 3, [])
    long = "they sold the boat in may nobody has asked them for the key"
    assert profiles["grams_13"] == {"overlapping": 1, "pairs": [{"benchmark": "q1", "train": "p1", "gram": long}]}
    assert profiles["grams_8"]["overlapping"] == 2
    assert profiles["grams_8"]["pairs"][1] == {
        "benchmark": "q2",
        "train": "p2",
        "gram": "old maps by the light of one lamp",
    }
    worst = profiles["cosine"]["pairs"]
    assert [pair["benchmark"] for pair in worst] == ["q1", "q2", "q3"]
    assert [pair["train"] for pair in worst[:2]] == ["p1", "p2"]
    assert profiles["cosine"]["distribution"]["max"] == worst[0]["similarity"] > 0.8
    assert personalities["shared_ids"] == ["s1"]
    assert personalities["cosine"]["pairs"][0] == {"benchmark": "s1", "train": "s1", "similarity": 1.0}
    assert personalities["grams_13"] == {"overlapping": 0, "pairs": []}


def test_a_factor_that_is_not_there_is_left_out(word_encoder):
    train, benchmark = [persona("p", "", ("They have a hen.",), ())], [persona("q", "", ("They have a dog.",), ())]
    assert list(contamination(train, benchmark, word_encoder)) == ["profiles"]


def test_the_split_seeds_share_no_long_phrase(word_encoder):
    sides = ([], [])
    for kind in ("profile", "personality"):
        seeds = list(read_seeds(kind))
        vectors = word_encoder.encode([seed.text for seed in seeds])
        for side, part in zip(sides, split(seeds, vectors, 8, seed=0), strict=True):
            side.append(part)
    train, benchmark = (personas(*side, None, seed=0) for side in sides)
    for factor in contamination(train, benchmark, word_encoder).values():
        assert factor["shared_ids"] == []
        assert factor["grams_8"]["overlapping"] == factor["grams_13"]["overlapping"] == 0


def test_full_size_and_even_use():
    profiles, personalities = numbered("profile", 331), numbered("personality", 71)
    found = personas(profiles, personalities, 10, seed=0)
    assert len(found) == 3310 == len({persona.id for persona in found})
    assert set(Counter(persona.profile for persona in found).values()) == {10}
    assert set(Counter(persona.personality for persona in found).values()) == {46, 47}
    assert personas(profiles[:50], personalities, 10, seed=0) == found[:500]
    assert personas(profiles, personalities, 10, seed=1) != found
    partners = {frozenset(p.personality for p in found[row : row + 10]) for row in range(0, 3310, 10)}
    assert len(partners) == 331


def test_the_benchmark_is_crossed_and_items_are_numbered():
    profiles, personalities = read_seeds("profile")[:20], read_seeds("personality")[:5]
    found = personas(profiles, personalities, None, seed=0)
    assert len({(persona.profile, persona.personality) for persona in found}) == 100 == len(found)
    first = found[0]
    assert (first.profile, first.personality) == (profiles[0].id, personalities[0].id)
    assert [(item.id, item.text) for item in first.facts][:2] == [
        ("fact1", profiles[0].items[0]),
        ("fact2", profiles[0].items[1]),
    ]
    assert first.traits[-1].id == f"trait{len(personalities[0].items)}"


@pytest.mark.parametrize("pairings", [0, 4])
def test_pairings_need_as_many_personalities(pairings):
    with pytest.raises(InputError, match=f"pairings is {pairings}, expected 1 to the number of personalities, 3"):
        personas(numbered("profile", 2), numbered("personality", 3), pairings, seed=0)
