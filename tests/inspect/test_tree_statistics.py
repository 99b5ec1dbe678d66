"""Statistics of a data set: by hand, and near-duplicates beside a comparison of all pairs."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.inspect.conversation import UNLIMITED
from aloe_jax.inspect.distribution import BINS, distribution
from aloe_jax.inspect.histogram import histogram
from aloe_jax.inspect.near_duplicates import ALIKE, NearDuplicates, runs
from aloe_jax.inspect.statistics import StatisticsOf, read_statistics
from aloe_jax.inspect.statistics_wording import sentences, table
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.schema import write_records
from aloe_jax.tree.trie import build_trie
from helpers.tree_samples import aloe_tree, chat_format, conversation


def counted(trees, longest=10_000):
    found, chat = StatisticsOf(longest), chat_format("chatml")
    for tree in trees:
        trie = build_trie(tree, chat, longest)
        found.add(tree, trie, fragments(tree, trie, UNLIMITED, 0))
    return found.read()


def test_figures_by_hand():
    """Two turns with two replies each, and a chat of one reply: 5 replies, 2 pairs, turns 2 and 1, siblings 2, 2 and 1.
    Of the tree the two chosen replies are trained on, of the chat its reply."""
    chat = conversation(("u", None, "user", "Hello there"), ("a", "u", "assistant", "Good day."), name="chat")
    trees, chat_of = [aloe_tree(2), chat], chat_format("chatml")
    tries = [build_trie(tree, chat_of) for tree in trees]
    found = counted(trees)
    assert (found.conversations, found.replies, found.pairs, found.untrained) == (2, 5, 2, 0)
    assert found.tree_tokens == sum(trie.tree_tokens for trie in tries)
    assert found.sharing == pytest.approx(sum(trie.path_tokens for trie in tries) / found.tree_tokens)
    trained = 0
    for tree, trie in zip(trees, tries, strict=True):
        chosen = [span for span in trie.replies if tree.nodes[span.node].id in ("good1", "good2", "a")]
        trained += sum(len(trie.pieces[span.piece].tokens) for span in chosen)
    assert found.trained_tokens == trained
    by_name = {each.name: each for each in found.distributions}
    assert (by_name["turns of a conversation"].low, by_name["turns of a conversation"].high) == (1, 2)
    assert by_name["replies to a message"].counts == (1, 2)
    assert by_name["replies to a message"].labels == ("1", "2")
    assert by_name["margin of a pair"].values == 2
    assert by_name["tokens of a reply"].values == 5
    longest = [max(len(trie.path_ids(span.piece)) for span in trie.replies) for trie in tries]
    assert by_name["tokens of the longest path"].mean == pytest.approx(np.mean(longest))
    assert "turns cut from a path" not in by_name
    said = list(sentences(found))
    assert said[0].startswith("2 conversations with 5 replies and 2 pairs; ")
    assert "so nothing is cut" in said[2]
    assert said[3].startswith("No two conversations are nearly the same")


def test_cuts_are_counted():
    """A path of at most 130 tokens holds fewer than six turns, so later replies lose some from the left."""
    found = counted([aloe_tree(6)], longest=130)
    trie = build_trie(aloe_tree(6), chat_format("chatml"), 130)
    assert trie.turns_cut > 0
    assert found.turns_cut == trie.turns_cut
    assert found.cut_paths == sum(bool(span.turns_cut) for span in trie.replies)
    assert any(f"{found.turns_cut:,} turns cut from the left" in sentence for sentence in sentences(found))


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_are_those_of_a_comparison_of_all_pairs(seed):
    """Texts of 300 random words with 0, 3, 30 or 150 of them replaced: resemblances near 1, 0.94, 0.6 and 0.1, so that
    the estimate's error decides nothing."""
    rng = np.random.default_rng(seed)
    texts = {}
    for family in range(6):
        base = rng.integers(0, 5000, 300)
        for copy, changed in enumerate((0, 0, 3, 30, 150)):
            words = base.copy()
            words[rng.choice(300, changed, replace=False)] = rng.integers(0, 5000, changed)
            texts[f"{family}.{copy}"] = " ".join(f"w{word}" for word in words)
    hashed = {name: runs([text]) for name, text in texts.items()}
    alike = {
        frozenset(pair)
        for pair in itertools.combinations(texts, 2)
        if len(hashed[pair[0]] & hashed[pair[1]]) / len(hashed[pair[0]] | hashed[pair[1]]) >= ALIKE
    }
    found = NearDuplicates()
    for name, text in texts.items():
        found.add(name, [text])
    got = {frozenset(pair) for group in found.groups() for pair in itertools.combinations(group, 2)}
    assert got == alike
    assert len(alike) == 6 * 3


def test_case_and_punctuation_make_no_difference_and_empty_texts_resemble_nothing():
    found = NearDuplicates()
    for name, text in (("a", "Hello, old Friend!"), ("b", "hello old friend"), ("c", ""), ("d", " … ")):
        found.add(name, [text])
    assert found.groups() == (("a", "b"),)


@pytest.mark.parametrize("whole", [True, False])
def test_bins_hold_every_value_once(whole):
    rng = np.random.default_rng(0)
    for scale in (0, 3, 40, 900, 70_000):
        values = (rng.integers(0, scale + 1, 200) if whole else rng.random(200) * scale).tolist()
        found = distribution("x", values, whole)
        assert sum(found.counts) == 200
        assert len(found.counts) <= BINS
        inside = [low <= value for value in values for low in found.edges[:1]]
        assert all(inside)
        assert max(values) <= found.edges[-1]
        for index, count in enumerate(found.counts[:-1]):
            low, high = found.edges[index], found.edges[index + 1]
            assert count == pytest.approx(sum(low - 1e-9 <= value < high - 1e-9 for value in values))
        assert len(set(found.labels)) == len(found.labels)


def test_pictures_name_their_bins():
    found = distribution("turns", [1, 2, 2, 10])
    svg = histogram(found)
    assert svg.count("<rect") == len(found.counts)
    assert "<title>2: 2</title>" in svg
    assert svg.count("<text") == 10  # one- and two-digit numbers fit below ten bars
    wide = histogram(distribution("tokens", list(range(100_000, 1_000_000, 1000))))
    labels = wide.count("<text")
    assert 1 < labels * 7 * len("1,000,000") < 300 + 7 * len("1,000,000")
    rows = list(table([found]))
    assert max(map(len, rows)) <= 80
    assert rows[1].split()[:6] == ["turns", "1", "2", "3.75", "7.6", "10"]


def test_what_the_stage_writes_is_read_again(tmp_path):
    found = counted([aloe_tree(2), aloe_tree(2, name="again")])
    assert found.groups == (("aloe", "again"),)
    files.write_json(tmp_path / "statistics.json", dataclasses.asdict(found))
    assert read_statistics(tmp_path / "statistics.json") == found
    (tmp_path / "statistics.json").write_text(json.dumps({"replies": "many"}))
    with pytest.raises(InputError, match="not the statistics of a data set"):
        read_statistics(tmp_path / "statistics.json")


def test_the_command_counts_all_and_the_page_shows_it(aloe, folder, tmp_path, monkeypatch):
    trees, model = tmp_path / "trees.jsonl", folder("chatml")
    write_records(trees, [aloe_tree(3, name=f"tree{number}") for number in range(4)])
    code, out, _ = aloe("inspect", trees, f"--model={model}", "--limit=1")
    assert code == 0
    assert "4 conversations with 24 replies and 12 pairs; " in out
    assert "4 conversations nearly the same as another one" in out
    assert "margin of a pair" in out
    code, out, _ = aloe("inspect", trees, f"--model={model}", "--conversation=tree1")
    assert "4 conversations with" not in out
    code, *_ = aloe("inspect", trees, f"--model={model}", f"--html={tmp_path / 'page.html'}")
    page = (tmp_path / "page.html").read_text()
    assert "All 4 conversations in numbers" in page
    assert page.count('<svg class="histogram"') == 6
    monkeypatch.setattr("aloe_jax.inspect.inspection.COUNTED", 3)
    code, out, _ = aloe("inspect", trees, f"--model={model}", "--limit=1")
    assert "Statistics of all 4 conversations: add --statistics." in out
    code, out, _ = aloe("inspect", trees, f"--model={model}", "--limit=1", "--statistics")
    assert "4 conversations with 24 replies" in out
