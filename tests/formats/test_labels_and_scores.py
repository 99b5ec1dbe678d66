"""Single replies with a label, and pairs whose margin is stated by scores."""

import json
import math

import pytest

from aloe_jax.errors import InputError
from aloe_jax.formats.convert import convert, read_conversations
from aloe_jax.formats.dialogue import SWAPPED
from aloe_jax.tree.schema import Conversation, read_trees
from aloe_jax.tree.supervision import supervision

TEXTS = {"chosen": "Oolong.", "rejected": "Gravel."}


def converted(tmp_path, *records):
    source = tmp_path / "records.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = convert(source, tmp_path / "out.jsonl")
    return list(read_trees(tmp_path / "out.jsonl")), report


def labels(trees):
    return {node.text: node.label for tree in trees for node in tree.nodes if node.role == "assistant"}


def signal(trees):
    """SFT weight and label of each reply, as training gets them."""
    found = {}
    for tree in trees:
        known = supervision(tree)
        for node, weight, label in zip(tree.nodes, known.weights, known.labels, strict=True):
            if node.role == "assistant":
                found[node.text] = (weight, label)
    return found


@pytest.mark.parametrize("no", [False, 0, "false", "0", "False"])
def test_labels_of_any_layout(tmp_path, no):
    """Good and bad replies to one prompt are siblings. Only good ones are trained on in SFT, and no earlier reply."""
    said = [{"role": "user", "content": "Best tea?"}, {"role": "assistant", "content": "Well."}]
    again = [*said, {"role": "user", "content": "So?"}]
    trees, report = converted(
        tmp_path,
        {"prompt": "Best tea?", "completion": "Oolong.", "label": True},
        {"prompt": [said[0]], "completion": [{"role": "assistant", "content": "Gravel."}], "label": no},
        {"messages": [*again, {"role": "assistant", "content": "Assam."}], "label": 1},
        {"prompt": "Worst tea?", "completion": "Dust.", "label": None},
        {"prompt": "Worst tea?", "completion": "Mud.", "label": ""},
    )
    assert labels(trees) == {
        "Oolong.": True,
        "Gravel.": False,
        "Well.": None,
        "Assam.": True,
        "Dust.": None,
        "Mud.": None,
    }
    assert len(trees) == 2
    assert signal(trees) == {
        "Oolong.": (1.0, 1.0), "Gravel.": (0.0, -1.0), "Well.": (0.0, 0.0), "Assam.": (1.0, 1.0),
        "Dust.": (1.0, 0.0), "Mud.": (1.0, 0.0),
    }  # fmt: skip
    assert (report.good, report.bad, report.pairs) == (2, 1, 0)
    assert any(line.split() == ["labelled", "replies", "2", "good,", "1", "bad"] for line in report.lines())


def test_labels_in_a_table(tmp_path):
    """Cells are text, and a label does not become one for a pair beside it."""
    (tmp_path / "t.csv").write_text("prompt,completion,label\nTea?,Oolong.,True\nTea?,Gravel.,False\n")
    assert labels(read_conversations(tmp_path / "t.csv").trees) == {"Oolong.": True, "Gravel.": False}


def test_labels_survive_parquet(tmp_path):
    trees, _ = converted(tmp_path, {"prompt": "Tea?", "completion": "Oolong.", "label": False})
    convert(tmp_path / "out.jsonl", tmp_path / "out.parquet")
    assert read_conversations(tmp_path / "out.parquet").trees == trees


def test_records_that_contradict_each_other_leave_no_label(tmp_path):
    record = {"prompt": "Tea?", "completion": "Oolong."}
    trees, report = converted(tmp_path, *({**record, "label": label} for label in (True, True, False)))
    assert labels(trees) == {"Oolong.": None}
    assert report.contradicted == 1
    assert "1 replies have no label: some records call them good, others bad" in report.lines()


def test_chats_and_labelled_replies_stay_apart(tmp_path):
    """In one tree the chat's reply would count as one without a label, which has weight 0 in SFT."""
    trees, _ = converted(
        tmp_path,
        {"prompt": "Tea?", "completion": "Oolong."},
        {"prompt": "Tea?", "completion": "Gravel.", "label": False},
        {"prompt": "Tea?", **TEXTS},
    )
    assert len(trees) == 3
    assert signal(trees[:1]) == {"Oolong.": (1.0, 0.0)}
    assert signal(trees[2:]) == {"Oolong.": (1.0, 1.0), "Gravel.": (0.0, -1.0)}  # of pairs: chosen good, rejected bad


def test_a_label_overrides_the_pairs_and_stands_on_replies_alone():
    nodes = [
        {"id": "u", "parent": None, "role": "user", "text": "Tea?"},
        {"id": "a", "parent": "u", "role": "assistant", "text": "Oolong.", "label": False},
        {"id": "b", "parent": "u", "role": "assistant", "text": "Gravel.", "label": False, "flags": ["no_loss"]},
    ]
    pair = {"chosen": "a", "rejected": "b"}
    tree = Conversation.model_validate({"id": "t", "nodes": nodes, "preferences": [pair]})
    assert signal([tree]) == {"Oolong.": (0.0, -1.0), "Gravel.": (0.0, 0.0)}
    nodes[0]["label"] = True
    with pytest.raises(ValueError, match="node 'u' of role user has a label"):
        Conversation.model_validate({"id": "t", "nodes": nodes})


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"score_chosen": 8.0, "score_rejected": 6.5}, math.tanh(0.75)),  # 2 / (1 + e^-1.5) - 1
        ({"score_chosen": "8.0", "score_rejected": "6.5"}, 2 / (1 + math.exp(-1.5)) - 1),
        ({"score_chosen": 100, "score_rejected": 0}, 1.0),
        ({"score_chosen": 8.0, "score_rejected": 6.5, "margin": 0.25}, 0.25),  # stated: the scores are not read
        ({"score_chosen": 8.0, "score_rejected": None}, 1.0),
    ],
)
def test_scores_make_a_margin(tmp_path, more, expected):
    (tree,), report = converted(tmp_path, {"prompt": "Tea?", **TEXTS, **more})
    assert tree.preferences[0].margin == pytest.approx(expected, rel=1e-12)
    read = "margin" not in more and None not in more.values()
    assert set(report.unread) == (set() if read else {key for key, value in more.items() if key != "margin" and value})


def test_scores_against_the_names_of_the_replies(tmp_path):
    trees, report = converted(
        tmp_path,
        {"prompt": "Tea?", **TEXTS, "score_chosen": 1, "score_rejected": 3},
        {"prompt": "Milk?", **TEXTS, "score_chosen": 2, "score_rejected": 2},
    )
    swapped, tie = (tree.preferences[0] for tree in trees)
    assert (trees[0].node(swapped.chosen).text, swapped.margin) == ("Gravel.", pytest.approx(math.tanh(1)))
    assert tie.margin == 0
    assert supervision(trees[1]).pairs == {}
    assert report.repairs.repaired == {SWAPPED: [1]}
    assert "1 pairs are ties (margin 0), which nothing is trained on" in report.lines()


@pytest.mark.parametrize("value", ["high", True, "nan", "inf", [1]])
def test_scores_that_are_no_numbers(tmp_path, value):
    with pytest.raises(InputError, match=r"'score_rejected' is .*; expected a number"):
        converted(tmp_path, {"prompt": "Tea?", **TEXTS, "score_chosen": 1, "score_rejected": value})


ASKED = {"role": "user", "content": "Best tea?"}


@pytest.mark.parametrize(
    "record",
    [
        {"query": "Best tea?", "response": "Oolong.", "rejected_response": "Gravel."},
        {"messages": [ASKED, {"role": "assistant", "content": "Oolong."}], "rejected_response": "Gravel."},
        {
            "messages": [ASKED, {"role": "assistant", "content": "Oolong."}],
            "rejected_messages": [ASKED, {"role": "assistant", "content": "Gravel."}],
        },
    ],
)
def test_a_rejected_reply_beside_the_chosen_one(tmp_path, record):
    """A pair, not a chat whose chosen reply is all that is trained on."""
    (tree,), report = converted(tmp_path, record)
    texts = {node.id: node.text for node in tree.nodes}
    assert [(texts[pair.chosen], texts[pair.rejected]) for pair in tree.preferences] == [("Oolong.", "Gravel.")]
    assert not report.unread


def test_a_tag_is_a_label(tmp_path):
    record = {"instruction": "Best tea?", "input": "", "output": "Gravel."}
    (tree,), _ = converted(tmp_path, record | {"kto_tag": False})
    assert labels([tree]) == {"Gravel.": False}
    with pytest.raises(InputError, match="'label' and 'kto_tag' contradict each other"):
        converted(tmp_path, record | {"kto_tag": False, "label": True})


@pytest.mark.parametrize(("key", "value"), [("is_good", False), ("thumbs_up", 0), ("rejected_answer", "Gravel.")])
def test_a_verdict_that_is_not_read_is_refused(tmp_path, key, value):
    """Otherwise a bad reply would be trained on as a good one."""
    record = {"prompt": "Best tea?", "answer": "Gravel.", key: value}
    with pytest.raises(InputError, match=f"line 1: key '{key}' is not read, but says which replies are bad"):
        converted(tmp_path, record)
    (tree,), _ = converted(tmp_path, record | {key: None, "dogbadge": 1, "bad_words": ["gravel"]})
    assert labels([tree]) == {"Gravel.": None}
    _, report = converted(tmp_path, {"prompt": "Best tea?", **TEXTS, "chosen_is_good": False, "rejected_by": "me"})
    assert set(report.unread) == {"rejected_by"}


def test_one_side_alone(tmp_path):
    with pytest.raises(InputError, match="the record has 'chosen' alone; expected 'chosen' and 'rejected'"):
        converted(tmp_path, {"prompt": "Best tea?", "chosen": "Oolong.", "rejected": None})


def test_a_side_that_is_no_message(tmp_path):
    with pytest.raises(InputError, match="'chosen' message 0 has no role, but 'text', 'score'"):
        converted(tmp_path, {"prompt": "Best tea?", "chosen": {"text": "Oolong.", "score": 5}, "rejected": "Gravel."})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheets(tmp_path, delimiter):
    """Those of many countries separate by semicolons, and begin with a byte order mark."""
    source = tmp_path / "pairs.csv"
    rows = [("prompt", "chosen", "rejected"), ('"Best; tea, dear?"', '"Oolong, first."', "Gravel.")]
    source.write_text("\r\n".join(map(delimiter.join, rows)), encoding="utf-8-sig")
    convert(source, tmp_path / "out.jsonl")
    (tree,) = read_trees(tmp_path / "out.jsonl")
    assert [node.text for node in tree.nodes] == ["Best; tea, dear?", "Oolong, first.", "Gravel."]
