"""The filter against a twin that compares everything with everything, and its figures by hand."""

import itertools
import math
import random
import re

import numpy as np
import pytest

from aloe_jax.errors import InputError
from data_gen.personas import filter
from data_gen.personas.entry import make_entry, read_seeds
from data_gen.personas.filter import MOST_SHARED_GRAMS, Pool, calibrate, distribution, nearest_neighbours
from data_gen.text import words

THRESHOLD = 0.9


def candidates(count, seed):
    """Entries of few words, so that all three kinds of duplicates come about: new ones, earlier ones in other letters,
    earlier ones with some items replaced."""
    rng = random.Random(seed)
    vocabulary = words("red hen old boat two ships cold sea they keep mend sell near town with dogs and maps by night")

    def item():
        return " ".join(rng.choices(vocabulary, k=rng.randint(4, 9))).capitalize() + "."

    made = []
    for _ in range(count):
        items = [item() for _ in range(8)]
        kind = rng.random()
        if made and kind < 0.2:
            items = [text.upper().replace(".", "!") for text in rng.sample(rng.choice(made), 8)]
        elif made and kind < 0.6:
            kept = rng.randint(1, 6)
            items[:kept] = rng.choice(made)[:kept]
        made.append(tuple(items))
    return [make_entry("profile", items, {}, "generated") for items in made]


def unit(angle):
    return np.array([math.cos(angle), math.sin(angle)], np.float32)


def twin(entries, vectors):
    """Reasons, by comparing each candidate with every entry taken before."""

    def tokens(text):
        return re.findall(r"\w+", text.lower())

    def grams(entry):
        found = set()
        for item in map(tokens, entry.items):
            found |= {tuple(item[i : i + 5]) for i in range(len(item) - 4)} or {tuple(item)}
        return found

    taken, reasons = [], []
    for entry, vector in zip(entries, vectors, strict=True):
        own = grams(entry)
        shared = {gram for gram in own for other, _ in taken if gram in grams(other)}
        if any(sorted(map(tokens, entry.items)) == sorted(map(tokens, other.items)) for other, _ in taken):
            reasons.append("exact duplicate")
        elif len(shared) / len(own) > MOST_SHARED_GRAMS:
            reasons.append("n-gram duplicate")
        elif any(sum(a * b for a, b in zip(vector, other, strict=True)) > THRESHOLD + 1e-6 for _, other in taken):
            reasons.append("too similar")
        else:
            reasons.append(None)
            taken.append((entry, vector))
    return reasons


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_brute_force_twin(seed):
    entries, rng = candidates(80, seed), np.random.default_rng(seed)
    vectors = rng.normal(size=(80, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pool = Pool(THRESHOLD)
    reasons = [pool.offer(entry, vector).reason for entry, vector in zip(entries, vectors, strict=True)]
    assert reasons == twin(entries, vectors)
    assert set(reasons) == {None, "exact duplicate", "n-gram duplicate", "too similar"}
    kept = [row for row, reason in enumerate(reasons) if reason is None]
    assert pool.entries == [entries[row] for row in kept]
    np.testing.assert_array_equal(pool.vectors, vectors[kept])


def test_a_verdict_names_the_nearest_and_how_near_it_is():
    first, second, third = read_seeds("profile")[:3]
    pool = Pool(threshold=0.9)
    empty = pool.offer(first, unit(0))
    assert (empty.reason, empty.similarity, empty.nearest) == (None, None, None)
    taken = pool.offer(second, unit(1))
    assert (taken.reason, taken.nearest) == (None, first.id)
    assert taken.similarity == pytest.approx(math.cos(1), abs=1e-6)
    near = pool.offer(third, unit(1.2))
    assert (near.reason, near.nearest) == ("too similar", second.id)
    assert near.similarity == pytest.approx(math.cos(0.2), abs=1e-6)
    mixed = pool.offer(make_entry("profile", (*second.items[:6], *third.items[:2]), {}, "generated"), unit(2.5))
    assert (mixed.reason, mixed.nearest) == ("n-gram duplicate", second.id)
    assert 0.5 < mixed.similarity < 1
    again = pool.offer(make_entry("profile", second.items[::-1], {}, "generated"), unit(2.5))
    assert (again.reason, again.similarity, again.nearest) == ("exact duplicate", 1.0, second.id)
    assert pool.offer(third, unit(2.5)).reason is None  # what was refused left no trace


def test_an_entry_stitched_together_from_many_is_found():
    seeds = read_seeds("profile")
    pool = Pool(threshold=1.0)
    for place, seed in enumerate(seeds[:8]):
        pool.add(seed, unit(place))
    patchwork = make_entry("profile", [seed.items[0] for seed in seeds[:8]], {}, "generated")
    verdict = pool.offer(patchwork, unit(9))
    assert (verdict.reason, verdict.similarity) == ("n-gram duplicate", 1.0)


def test_threshold_and_distribution_by_hand():
    """Angles 0, 0.1, 0.4 and 1.4: the nearest neighbours are 0.1, 0.1, 0.3 and 1.0 away."""
    vectors = np.stack([unit(angle) for angle in (0, 0.1, 0.4, 1.4)])
    cosines = [math.cos(angle) for angle in (0.1, 0.1, 0.3, 1.0)]
    np.testing.assert_allclose(nearest_neighbours(vectors), cosines, rtol=0, atol=1e-6)
    assert calibrate(vectors, 1.0) == pytest.approx(math.cos(0.1), abs=1e-6)
    assert calibrate(vectors, 0.0) == pytest.approx(math.cos(1.0), abs=1e-6)
    assert calibrate(vectors, 0.5) == pytest.approx((math.cos(0.1) + math.cos(0.3)) / 2, abs=1e-6)
    found = distribution(nearest_neighbours(vectors))
    assert list(found) == ["min", "q05", "q25", "q50", "q75", "q95", "max"]
    assert found["min"] == round(math.cos(1.0), 4)
    assert found["max"] == found["q75"] == round(math.cos(0.1), 4)
    assert all(one <= other for one, other in itertools.pairwise(found.values()))


def test_bad_arguments():
    with pytest.raises(InputError, match=r"quantile is 1\.5"):
        calibrate(np.eye(2), 1.5)
    with pytest.raises(InputError, match="at least 2 entries, found 1"):
        calibrate(np.eye(1), 0.5)


def test_nearest_neighbours_do_not_depend_on_the_blocks(monkeypatch):
    """Seven rows in blocks of two (14 cosines), the last one short, against the whole matrix."""
    vectors = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T - 3 * np.eye(7, dtype=np.float32)
    monkeypatch.setattr(filter, "BLOCK", 14)
    np.testing.assert_allclose(nearest_neighbours(vectors), cosines.max(axis=1), atol=1e-6)


def test_a_pool_keeps_all_vectors_as_it_grows():
    vectors = np.eye(200, dtype=np.float32)
    pool = Pool(THRESHOLD)
    for entry, vector in zip(candidates(200, seed=1), vectors, strict=True):
        pool.add(entry, vector)
    np.testing.assert_array_equal(pool.vectors, vectors)
