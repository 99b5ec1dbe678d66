"""Sources of a mixture: the draws of an epoch, their files, and refused settings."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aloe_jax import files
from aloe_jax.data.mixture import Source, drawn, read_source, sources_of
from aloe_jax.data.settings import DatasetSettings, SourceSettings
from aloe_jax.errors import InputError


def section(**sources):
    return DatasetSettings(sources={"trees": SourceSettings()} | sources)


def chat_line(text):
    return f'{{"messages": [{{"role": "user", "content": "{text}"}}, {{"role": "assistant", "content": "Yes."}}]}}'


@given(
    trees=st.integers(1, 20), chats=st.integers(1, 30), weight=st.sampled_from([0.25, 1.0, 1.5]), seed=st.integers(0, 3)
)
def test_shares_of_an_epoch(trees, chats, weight, seed):
    pools = [range(trees), range(trees, trees + chats)]
    epochs = [drawn(pools, (1.0, weight), seed, epoch) for epoch in range(6)]
    wanted = round(trees * weight)
    for epoch in epochs:
        assert sorted(epoch[:trees]) == list(range(trees))
        assert len(epoch) == trees + wanted
    # Independent of the epoch boundaries, no chat is repeated before all others were drawn.
    stream = list(itertools.chain.from_iterable(epoch[trees:] for epoch in epochs))
    for lap in range(0, len(stream) - chats + 1, chats):
        assert sorted(stream[lap : lap + chats]) == list(pools[1])
    assert epochs == [drawn(pools, (1.0, weight), seed, epoch) for epoch in range(6)]


def test_weights_by_hand():
    """Four trees at weight 2; of three others at 1, 3 and 0: two, six (each twice) and none."""
    pools = [[0, 1, 2, 3], [10, 11, 12], [20, 21, 22], [30]]
    found = drawn(pools, (2.0, 1.0, 3.0, 0.0), seed=0, epoch=0)
    assert [sum(owner // 10 == source for owner in found) for source in range(4)] == [4, 2, 6, 0]
    assert sorted(owner for owner in found if owner // 10 == 2) == [20, 20, 21, 21, 22, 22]


def test_without_trees_the_largest_other_source_is_taken_once():
    found = drawn([[], [10, 11], [20, 21, 22, 23]], (1.0, 1.0, 2.0), seed=0, epoch=0)
    assert sorted(found) == [10, 11, 20, 21, 22, 23]
    assert drawn([[], [10]], (1.0, 0.0), seed=0, epoch=0) == []


def test_sources_of_a_config(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        (tmp_path / name).write_text(chat_line(name) + "\n")
    path = f"{tmp_path}/*.jsonl, {tmp_path}/c.txt"
    found = sources_of(
        section(absent=SourceSettings(), pairs=SourceSettings(path, 2.0), chat=SourceSettings(f"{tmp_path}/c.txt"))
    )
    assert [(one.name, one.weight) for one in found] == [("trees", 1.0), ("chat", 1.0), ("pairs", 2.0)]
    assert [epath.rpartition("/")[2] for epath in found[2].paths] == ["a.jsonl", "b.jsonl", "c.txt"]
    texts = [tree.nodes[0].text for tree in read_source(found[2], own=tmp_path / "nowhere")]
    assert texts == ["a.jsonl", "b.jsonl", "c.txt"]


def test_the_hash_is_of_the_content(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(chat_line("one") + "\n")
    before = Source("chat", (str(path),), 1.0, 1.0).hash()
    assert before == files.sha256(files.hash_file(path))
    path.write_text(chat_line("two") + "\n")
    assert Source("chat", (str(path),), 1.0, 1.0).hash() != before


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (SourceSettings("nowhere.jsonl"), r"sources\.chat\.path: file 'nowhere\.jsonl' does not exist"),
        (SourceSettings("nowhere/*.jsonl"), r"sources\.chat\.path: no file matches 'nowhere/\*\.jsonl'"),
        (SourceSettings(weight=-1.0), r"sources\.chat\.weight: -1\.0 must be a number of at least 0"),
        (SourceSettings(weight=float("nan")), r"sources\.chat\.weight: nan must be"),
        (SourceSettings(loss_weight=0.0), r"sources\.chat\.loss_weight: 0\.0 must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(entry, message):
    with pytest.raises(InputError, match=message):
        sources_of(section(chat=entry))


def test_trees_have_to_be_there_to_count_by():
    with pytest.raises(InputError, match=r"sources\.trees\.weight: 0\.0 leaves nothing"):
        sources_of(section(trees=SourceSettings(weight=0.0)))
    with pytest.raises(InputError, match=r"has no 'trees'"):
        sources_of(DatasetSettings(sources={}))
