"""Pools read from pool files of the paper's code and from our own personas."""

import json

import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import write_records
from data_gen.personas.entry import read_seeds
from data_gen.personas.paper import read_pool
from data_gen.personas.split import personas


def test_a_pool_of_the_paper_s_code_with_its_defects(tmp_path):
    """One string per line; one line holds two, one is broken, one repeats an earlier text (paper, section 5)."""
    path = tmp_path / "pool.jsonl"
    path.write_text(
        '"He mends shoes. He sings with Dr. Bell in a choir."\n"She sells fish." "She dives."\n"broken\n"She dives."\n'
    )
    entries = read_pool(path, "profile")
    assert [entry.items for entry in entries] == [
        ("He mends shoes.", "He sings with Dr. Bell in a choir."),
        ("She sells fish.",),
        ("She dives.",),
    ]
    assert {entry.origin for entry in entries} == {"file"}
    assert len({entry.id for entry in entries}) == 3
    assert all(entry.id.startswith("personality-") for entry in read_pool(path, "personality"))


def test_the_halves_of_our_own_personas(tmp_path):
    profiles, personalities = read_seeds("profile")[:3], read_seeds("personality")[:2]
    write_records(tmp_path / "personas.jsonl", personas(profiles, personalities, None, seed=0))
    for kind, expected in (("profile", profiles), ("personality", personalities)):
        found = read_pool(tmp_path / "personas.jsonl", kind)
        assert [(entry.id, entry.items) for entry in found] == [(entry.id, entry.items) for entry in expected]


def test_what_holds_nothing_of_the_kind_is_refused(tmp_path):
    path = tmp_path / "half.jsonl"
    path.write_text(json.dumps({"id": "a", "profile": "a", "personality": "", "facts": [{"id": "f", "text": "Yes."}]}))
    assert len(read_pool(path, "profile")) == 1
    with pytest.raises(InputError, match=r"half\.jsonl holds no personality"):
        read_pool(path, "personality")
    with pytest.raises(InputError, match="does not exist"):
        read_pool(tmp_path / "nowhere.jsonl", "profile")
    (tmp_path / "other.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(InputError, match=r"other\.jsonl line 1"):
        read_pool(tmp_path / "other.jsonl", "profile")
