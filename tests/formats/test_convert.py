"""`convert`: the files of the paper's code with their defects, chats and preference records merged into trees,
parquet."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aloe_jax.errors import InputError
from aloe_jax.formats.convert import convert, read_conversations, stream_conversations
from aloe_jax.tree.schema import dump, read_personas, read_trees, write_records
from helpers.tree_samples import aloe_tree

PROFILE = "He is a 40-year-old baker who lives by the sea. He owns two boats. He likes Dr. Seuss."
PERSONALITY = "She is curious and open-minded. She jokes a lot."


def turn(number, chosen="preferred", **changes):
    record = {
        "user": f"Message {number}",
        "assistant": {"preferred": f"Good {number}", "rejected": f"Poor {number}"},
        "chosen": chosen,
        "inferred_profile": "None",
        "inferred_personality": "None",
    }
    return record | changes


def record(*turns):
    # The paper's code keeps raw JSON lines as texts, quotes and line break included.
    return {"profile": json.dumps(PROFILE) + "\n", "personality": PERSONALITY, "conversations": list(turns)}


def write(path, *lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def trees_of(tmp_path, *lines, name="conversations.jsonl"):
    report = convert(write(tmp_path / name, *lines), tmp_path / "trees.jsonl")
    return list(read_trees(tmp_path / "trees.jsonl")), report


def test_paper_conversation_follows_the_chosen_branch(tmp_path):
    (tree,), report = trees_of(tmp_path, record(turn(1), turn(2, "rejected"), turn(3)))
    assert [(node.id, node.parent, node.text) for node in tree.nodes] == [
        ("user1", None, "Message 1"),
        ("preferred1", "user1", "Good 1"),
        ("rejected1", "user1", "Poor 1"),
        ("user2", "preferred1", "Message 2"),
        ("preferred2", "user2", "Good 2"),
        ("rejected2", "user2", "Poor 2"),
        ("user3", "rejected2", "Message 3"),
        ("preferred3", "user3", "Good 3"),
        ("rejected3", "user3", "Poor 3"),
    ]
    assert tree.path == ("user1", "preferred1", "user2", "rejected2", "user3", "preferred3")
    assert [(pair.chosen, pair.rejected) for pair in tree.preferences] == [
        (f"preferred{number}", f"rejected{number}") for number in (1, 2, 3)
    ]
    assert report.lines()[0] == "read 1 reference records, wrote 1"


def test_paper_persona_is_clean_and_split_into_sentences(tmp_path):
    (first, second), report = trees_of(tmp_path, record(turn(1)), record(turn(1)))
    assert [fact.text for fact in first.persona.facts] == [
        "He is a 40-year-old baker who lives by the sea.",
        "He owns two boats.",
        "He likes Dr. Seuss.",
    ]
    assert len(first.persona.traits) == 2
    assert first.persona == second.persona
    assert report.repairs.repaired == {"JSON inside a string": [1, 2]}


def test_paper_belief_grows_with_what_the_user_showed(tmp_path):
    turns = [
        turn(1, inferred_profile="He/She owns two boats."),
        turn(2, inferred_profile="He owns two boats. He is a baker.", inferred_personality="She jokes a lot."),
    ]
    (tree,), _ = trees_of(tmp_path, record(*turns))
    shown = [[(belief.id, belief.node) for belief in node.belief] for node in tree.nodes if node.role == "user"]
    assert shown == [[("fact2", "user1")], [("fact2", "user1"), ("trait2", "user2")]]


def test_paper_defects_are_repaired_and_reported(tmp_path):
    doubled = json.dumps(record(turn(1))) + json.dumps(record(turn(1), turn(2))) + "\n"
    wrapped = json.dumps(json.dumps(record(turn(1)))) + "\n"
    cut_short = record(turn(1), turn(2, chosen="both"), turn(3))
    same = record(turn(1, "rejected", assistant={"preferred": "Yes", "rejected": "Yes"}))
    torn = json.dumps(record(turn(1)))[:-9] + "\n"
    trees, report = trees_of(tmp_path, doubled, wrapped, cut_short, same, torn, {"conversations": []})
    assert [len(tree.preferences) for tree in trees] == [1, 2, 1, 1, 0]
    assert report.repairs.repaired == {
        "several JSON values on one line": [1],
        "JSON inside a string": [1, 2, 3, 4],
        "conversation cut before a turn with no chosen reply": [3],
        "equal candidates kept once, without a preference": [4],
    }
    assert [line for line, _ in report.repairs.dropped] == [5, 6]
    assert any("left out: broken JSON" in line and "(lines 5)" in line for line in report.lines())


def test_pool_with_two_strings_on_a_line_and_raw_lines_inside_strings(tmp_path):
    """One line of the released pool holds two JSON strings; texts written back as raw lines carry their quotes."""
    source = write(
        tmp_path / "profile.jsonl",
        '"She paints. She runs."\n',
        '"He cooks.""He sails."\n',
        json.dumps('"He \\"hums\\" at work."\n') + "\n",
        '"She paints. She runs."\n',
    )
    report = convert(source, tmp_path / "personas.jsonl")
    personas = read_personas(tmp_path / "personas.jsonl")
    assert [[fact.text for fact in persona.facts] for persona in personas] == [
        ["She paints.", "She runs."], ["He cooks."], ["He sails."], ['He "hums" at work.'],
    ]  # fmt: skip
    assert all(persona.profile == persona.id and persona.personality == "" for persona in personas)
    assert report.repairs.repaired == {"several JSON values on one line": [2], "JSON inside a string": [3]}
    assert report.repairs.dropped == [(4, "the same text as before")]
    assert (report.read, report.written) == (5, 4)


def test_personality_pool_gives_traits_and_an_unnamed_pool_is_refused(tmp_path):
    source = write(tmp_path / "personality_eval.jsonl", json.dumps(PERSONALITY))
    convert(source, tmp_path / "personas.jsonl")
    assert [len(persona.traits) for persona in read_personas(tmp_path / "personas.jsonl")] == [2]
    with pytest.raises(InputError, match="rename it to have 'profile' or 'personality'"):
        convert(source.rename(tmp_path / "pool.jsonl"), tmp_path / "personas.jsonl")


def chat(*texts, system=None, **last):
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
    messages[-1] |= last
    return {"messages": messages}


def test_chats_with_a_common_prefix_share_a_tree(tmp_path):
    rows = [chat("Hi", "Ho", "Tea?", "Yes"), chat("Hi", "Ho", "Tea?", "No"), chat("Hi", "Ha"), chat("Bye", "Ho")]
    (shared, other), report = trees_of(tmp_path, *rows)
    assert [(node.id, node.parent, node.text) for node in shared.nodes] == [
        ("n0", None, "Hi"), ("n1", "n0", "Ho"), ("n2", "n1", "Tea?"), ("n3", "n2", "Yes"), ("n4", "n2", "No"),
        ("n5", "n0", "Ha"),
    ]  # fmt: skip
    assert [node.text for node in other.nodes] == ["Bye", "Ho"]
    assert report.sharing_messages == 12 / 8
    assert report.sharing_characters == (11 + 10 + 4 + 5) / (15 + 5)
    assert "sharing factor 1.50 in messages" in report.lines()[1]


def test_a_common_system_message_alone_ties_nothing_together(tmp_path):
    trees, _ = trees_of(tmp_path, chat("Hi", "Ho", system="Be kind."), chat("Bye", "Ho", system="Be kind."))
    assert [[node.text for node in tree.nodes] for tree in trees] == [
        ["Be kind.", "Hi", "Ho"],
        ["Be kind.", "Bye", "Ho"],
    ]


def test_message_weight_zero_is_kept_out_of_the_loss(tmp_path):
    (tree,), _ = trees_of(tmp_path, chat("Hi", "Ho", weight=0), chat("Hi", "Ha"))
    assert [node.flags for node in tree.nodes] == [(), ("no_loss",), ()]


@pytest.mark.parametrize(
    "pair",
    [
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Ha"},
        {"prompt": "Hi", "chosen": chat("", "Ho")["messages"][1:], "rejected": chat("", "Ha")["messages"][1:]},
        {"prompt": chat("Hi")["messages"], "chosen": "Ho", "rejected": "Ha"},
        {"chosen": chat("Hi", "Ho")["messages"], "rejected": chat("Hi", "Ha")["messages"]},
        {"prompt": "Hi", "chosen": chat("Hi", "Ho")["messages"], "rejected": chat("Hi", "Ha")["messages"]},
        {
            "prompt": "Hi",
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "Ho"}]}],
            "rejected": "Ha",
        },
    ],
)
def test_preference_records_in_every_layout_are_a_fork(tmp_path, pair):
    (tree,), _ = trees_of(tmp_path, pair)
    assert [(node.id, node.parent, node.role, node.text) for node in tree.nodes] == [
        ("n0", None, "user", "Hi"), ("n1", "n0", "assistant", "Ho"), ("n2", "n0", "assistant", "Ha"),
    ]  # fmt: skip
    assert [(item.chosen, item.rejected, item.margin) for item in tree.preferences] == [("n1", "n2", 1.0)]


def test_preference_records_merge_and_equal_pairs_are_counted(tmp_path):
    rows = [
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Ha", "margin": 0.5},
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Hm"},
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Ha"},
        {"prompt": "Hi", "chosen": "Ho", "rejected": "Ho"},
    ]
    (tree,), report = trees_of(tmp_path, *rows)
    assert [(item.chosen, item.rejected, item.margin) for item in tree.preferences] == [
        ("n1", "n2", 0.5),
        ("n1", "n3", 1.0),
    ]
    assert report.equal_pairs == 1
    assert report.sharing_messages == 12 / 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"messages": [', "line 2: broken JSON"),
        ({"messages": []}, "line 2: 'messages' is list; expected a list of messages"),
        ({"messages": [{"role": "tool", "content": ""}]}, "line 2: 'messages' message 0 has role 'tool'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "message 0 has content that is not text"),
        (chat("a", "b", role="system"), "message 1 is a system message; expected it first"),
        ({"prompt": "a", "chosen": "b"}, "line 2: the record has 'chosen' alone"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "'rejected' is int"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 2}, "'margin' is 2; expected a number from -1 to 1"),
        (
            {"chosen": chat("a")["messages"], "rejected": chat("b")["messages"]},
            "differ first in a message of role user",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": chat("a", "b", "c")["messages"]}, "differ only in length"),
    ],
)
def test_broken_records_of_users_are_refused_with_their_line(tmp_path, line, said):
    source = write(tmp_path / "data.jsonl", chat("Hi", "Ho"), line)
    with pytest.raises(InputError) as caught:
        convert(source, tmp_path / "trees.jsonl")
    assert said in str(caught.value)
    assert str(source) in str(caught.value)
    assert not (tmp_path / "trees.jsonl").exists()


@pytest.mark.parametrize(
    ("content", "said"), [("", "is empty"), ("{oops\n", "line 1: broken JSON"), ("[1]\n", "none of the")]
)
def test_unknown_files_are_refused(tmp_path, content, said):
    with pytest.raises(InputError, match=said):
        convert(write(tmp_path / "data.jsonl", content), tmp_path / "trees.jsonl")


def test_file_without_a_whole_record_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="holds no whole record"):
        trees_of(tmp_path, {"conversations": []})
    assert not (tmp_path / "trees.jsonl").exists()


def test_trees_go_to_parquet_and_back(tmp_path):
    (converted,), _ = trees_of(tmp_path, record(turn(1, inferred_profile="He owns two boats.")))
    node = converted.nodes[1].model_copy(
        update={"token_ids": (1, 2), "logprobs": (-0.5, -1.0), "tokenizer": "x", "value": 2.0, "flags": ("truncated",)}
    )
    full = converted.model_copy(update={"nodes": (converted.nodes[0], node, converted.nodes[2])})
    write_records(tmp_path / "trees.jsonl", [full, aloe_tree(2)])
    report = convert(tmp_path / "trees.jsonl", tmp_path / "trees.parquet")
    assert (report.format, report.read, report.written) == ("trees", 2, 2)
    convert(tmp_path / "trees.parquet", tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_text() == (tmp_path / "trees.jsonl").read_text()


@pytest.mark.parametrize(
    "rows", [[chat("Hi", "Ho"), chat("Hi", "Ha")], [{"prompt": "Hi", "chosen": "Ho", "rejected": "Ha"}]]
)
def test_records_are_read_from_parquet(tmp_path, rows):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    convert(tmp_path / "data.parquet", tmp_path / "trees.jsonl")
    (tree,) = read_trees(tmp_path / "trees.jsonl")
    assert [node.text for node in tree.nodes] == ["Hi", "Ho", "Ha"]


def test_damaged_parquet_is_refused(tmp_path):
    (tmp_path / "data.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="not a readable parquet file"):
        convert(tmp_path / "data.parquet", tmp_path / "trees.jsonl")


@pytest.mark.parametrize("token", [-1, 2**31, 2**63])
def test_token_ids_that_no_vocabulary_has_are_refused(tmp_path, token):
    tree = json.loads(dump(aloe_tree(1))) | {"id": "one"}
    tree["nodes"][1]["token_ids"] = [1, token]
    source = write(tmp_path / "trees.jsonl", json.dumps(tree))
    with pytest.raises(InputError, match=r"line 1: field nodes\.1\.token_ids\.1: .* found '-?\d+'"):
        convert(source, tmp_path / "trees.parquet")
    assert not (tmp_path / "trees.parquet").exists()


def test_a_stream_has_the_same_trees_without_the_whole_file(tmp_path):
    """The first tree comes before the second line is read, whose fault is the same sentence as for the whole file."""
    path = tmp_path / "trees.jsonl"
    write_records(path, trees := [aloe_tree(2, name=f"t{number}") for number in range(3)])
    assert list(stream_conversations(path)) == trees == read_conversations(path).trees
    write(tmp_path / "records.jsonl", {"prompt": "Hi", "completion": "Yes.", "extra": 1})
    notices = []
    assert (
        list(stream_conversations(tmp_path / "records.jsonl", notices.append))
        == read_conversations(tmp_path / "records.jsonl").trees
    )
    assert "not read: extra" in notices[0]
    first, second, third = path.read_text().splitlines()
    for fault, said in ((second[:-9], "broken JSON"), (first, "'t0' is used twice")):
        path.write_text("\n".join((first, fault, third)) + "\n")
        with pytest.raises(InputError, match=f"line 2: .*{said}") as whole:
            read_conversations(path)
        stream = stream_conversations(path)
        assert next(stream) == trees[0]
        with pytest.raises(InputError) as streamed:
            next(stream)
        assert str(streamed.value) == str(whole.value)
