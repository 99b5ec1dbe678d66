"""Users' records are read whole: what the common layouts hold, what is refused by name, what is reported."""

import json

import pytest

from aloe_jax.errors import InputError
from aloe_jax.formats.convert import convert, read_conversations
from aloe_jax.formats.dialogue import CUT, DECODED
from aloe_jax.tree.schema import read_trees
from aloe_jax.tree.supervision import supervision
from helpers.tree_samples import chat_format


def user(text, **more):
    return {"role": "user", "content": text, **more}


def reply(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "Be brief."}


def converted(tmp_path, *records, **options):
    source = tmp_path / "records.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    report = convert(source, tmp_path / "out.jsonl", **options)
    return list(read_trees(tmp_path / "out.jsonl")), report


def shape(tree):
    """(role, text) of each path's nodes, and the pairs by their texts."""
    texts = {node.id: node.text for node in tree.nodes}
    return [(node.role[0], node.text) for node in tree.nodes], [
        (texts[pair.chosen], texts[pair.rejected]) for pair in tree.preferences
    ]


FORK = ([("u", "Best tea?"), ("a", "Oolong."), ("a", "Gravel.")], [("Oolong.", "Gravel.")])
WITH_SYSTEM = ([("s", "Be brief."), *FORK[0]], FORK[1])
WHOLE = {"chosen": [user("Best tea?"), reply("Oolong.")], "rejected": [user("Best tea?"), reply("Gravel.")]}
SYSTEM_WHOLE = {side: [SYSTEM, *turns] for side, turns in WHOLE.items()}
TEXTS = {"chosen": "Oolong.", "rejected": "Gravel."}
SAID = {side: f"\n\nHuman: Best tea?\n\nAssistant: {text}" for side, text in TEXTS.items()}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"prompt": "Best tea?", **WHOLE, "messages": WHOLE["chosen"], "score_chosen": 9.0}, FORK),
        ({"prompt": "Best tea?", **WHOLE, "messages": WHOLE["rejected"]}, FORK),
        ({"prompt": "Best tea?", **WHOLE, "messages": None}, FORK),
        ({"prompt": "Best tea?", **WHOLE, "messages": []}, FORK),
        ({"messages": [user("Best tea?")], **TEXTS}, FORK),
        ({"prompt": "", **WHOLE, "messages": [user("Best tea?")]}, FORK),
        ({"system": "", "question": "Best tea?", **TEXTS}, FORK),
        ({"system": "Be brief.", "question": "Best tea?", **TEXTS}, WITH_SYSTEM),
        ({"system": "Be brief.", "prompt": "Best tea?", **WHOLE}, WITH_SYSTEM),
        ({"system": "Be brief.", "prompt": "Best tea?", **SYSTEM_WHOLE}, WITH_SYSTEM),
        ({"prompt": "Best tea?", **SYSTEM_WHOLE}, WITH_SYSTEM),
        ({"prompt": [SYSTEM, user("Best tea?")], **WHOLE}, WITH_SYSTEM),
        ({"prompt": [SYSTEM, user("Best tea?")], **SYSTEM_WHOLE}, WITH_SYSTEM),
        ({"prompt": " Best  tea?\n", **WHOLE}, FORK),
        ({"prompt": [user("Best tea? ")], **WHOLE}, FORK),
        (SAID, FORK),
        ({"prompt": "\n\nHuman: Best tea?\n\nAssistant:", "chosen": " Oolong.", "rejected": " Gravel."}, FORK),
        ({"prompt": "Best tea?", **TEXTS, "label": 0}, FORK),
        ({"instruction": "Best tea?", **TEXTS}, FORK),
        ({"instruction": "Best", "input": "tea?", **TEXTS}, ([("u", "Best\ntea?"), *FORK[0][1:]], FORK[1])),
        (
            {
                "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Best tea?"}],
                "chosen": {"from": "gpt", "value": "Oolong."},
                "rejected": {"from": "gpt", "value": "Gravel."},
            },
            WITH_SYSTEM,
        ),
    ],
)
def test_a_pair_of_any_layout_is_one_tree_with_one_preference(tmp_path, record, expected):
    (tree,), report = converted(tmp_path, record)
    assert shape(tree) == expected
    assert (report.kept, report.pairs, report.turns) == (1, 1, 1)


WRITTEN = {side: json.dumps(turns) for side, turns in WHOLE.items()}
REPLIES_ALONE = {side: turns[1:] for side, turns in WHOLE.items()}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Best tea?", **WRITTEN},
        {"prompt": "Best tea?", **{side: str(turns) for side, turns in WHOLE.items()}},
        {
            "prompt": "Best tea?",
            **{side: str(turns).replace("}, {", "}\n {") for side, turns in WHOLE.items()},
        },  # NumPy's
        {"prompt": "Best tea?", **{side: json.dumps(turns) for side, turns in REPLIES_ALONE.items()}},
        {"prompt": "Best tea?", **{side: json.dumps(turns[0]) for side, turns in REPLIES_ALONE.items()}},
        {"prompt": "Best tea?", **{side: json.dumps({"messages": turns}) for side, turns in WHOLE.items()}},
        {"prompt": json.dumps([user("Best tea?")]), **TEXTS},
        {"prompt": json.dumps(user("Best tea?")), **TEXTS},
        {"messages": json.dumps([user("Best tea?")]), **TEXTS},
        {"conversations": "[{'from': 'human', 'value': 'Best tea?'}]", **TEXTS},
    ],
)
def test_messages_that_are_written_as_text_are_messages(tmp_path, record):
    (tree,), report = converted(tmp_path, record)
    assert shape(tree) == FORK
    assert report.repairs.repaired == {DECODED: [1]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{'role': 'assistant', 'content': 'Oolong.'", "begins as a list of messages and cannot be read as one"),
        (
            json.dumps({"messages": WHOLE["chosen"], "tools": [{"name": "kettle"}]}),
            "messages beside 'messages', 'tools'",
        ),
    ],
)
def test_messages_that_are_written_as_text_and_cannot_be_read_whole_are_refused(tmp_path, text, said):
    with pytest.raises(InputError, match=f"line 1: .*{said}"):
        converted(tmp_path, {"prompt": "Best tea?", "chosen": text, "rejected": "Gravel."})


@pytest.mark.parametrize(
    "text", ['[{"tea": "Oolong"}]', '{"value": 3}', '[{"role": "cook"}]', '{"content": "tea"', "{}"]
)
def test_json_that_is_no_message_is_a_reply(tmp_path, text):
    (tree,), report = converted(tmp_path, {"prompt": "Give me JSON.", "chosen": text, "rejected": "No."})
    assert shape(tree)[1] == [(text, "No.")]
    assert report.repairs.repaired == {}


RENDERED = {
    "<|im_start|>": "<|im_start|>user\nBest tea?<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|>": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nBest tea?<|eot_id|>",
    "<s>[INST]": "<s>[INST] Best tea? [/INST]",
    "[INST]": "[INST] Best tea? [/INST]",
    "<start_of_turn>": "<start_of_turn>user\nBest tea?<end_of_turn>\n<start_of_turn>model\n",
    "<|user|>": "<|user|>\nBest tea?</s>\n<|assistant|>\n",
    "### Response:": "Do what is said.\n\n### Instruction:\nBest tea?\n\n### Response:\n",
    "ASSISTANT:": "A chat. USER: Best tea? ASSISTANT:",
    "Assistant:": "Human: Best tea?\nAssistant:",
}


@pytest.mark.parametrize("header", RENDERED)
def test_a_prompt_that_a_template_has_written_is_refused(tmp_path, header):
    """It would be rendered a second time, inside a user's turn."""
    records = {"prompt": RENDERED[header], **TEXTS}, {"messages": [user(RENDERED[header]), reply("Oolong.")]}
    for record in records:
        with pytest.raises(InputError, match=r"line 1: .* is rendered already: it holds ") as error:
            converted(tmp_path, record)
        assert f"'{header}'" in str(error.value)


@pytest.mark.parametrize(
    "text", [RENDERED["<|im_start|>"] + "Oolong.<|im_end|>", "### Human: Best tea?\n### Assistant: Oolong."]
)
def test_a_rendered_dialogue_in_place_of_a_reply_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="'chosen' is rendered already"):
        converted(tmp_path, {"prompt": "Best tea?", "chosen": text, "rejected": "Gravel."})


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", "</s>", " <|eot_id|>", "<end_of_turn>\n<eos>"])
def test_an_end_of_turn_behind_a_reply_is_cut_and_reported(tmp_path, end):
    """Where both sides end so, the model would be trained to write the token's text before the token."""
    (tree,), report = converted(
        tmp_path, {"prompt": "Best tea?", "chosen": f"Oolong.{end}", "rejected": f"Gravel.{end}"}
    )
    assert shape(tree) == FORK
    assert report.repairs.repaired == {CUT: [1]}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("What does <|im_end|> mean?", "<|im_end|> ends a turn."),
        ("Strike it.", "Tea at <s>four</s>"),
        ("Write a dialogue.", "User: Tea?\nAssistant: Yes."),
        ("Assistant: who is that?", "Nobody."),
    ],
)
def test_markup_that_a_text_is_about_stays(tmp_path, prompt, said):
    (tree,), report = converted(tmp_path, {"prompt": prompt, "completion": said})
    assert shape(tree)[0] == [("u", prompt), ("a", said)]
    assert report.repairs.repaired == {}


def test_replies_that_repeat_the_prompt_are_refused(tmp_path):
    asked = "Which of all the teas is best?"
    record = {"prompt": asked, "chosen": f"{asked} Oolong.", "rejected": f"{asked}\nGravel."}
    with pytest.raises(InputError, match="both begin with the text of the prompt"):
        converted(tmp_path, record)
    (tree,), _ = converted(tmp_path, {"prompt": "Hello", "chosen": "Hello there.", "rejected": "Hello!"})
    assert shape(tree)[1] == [("Hello there.", "Hello!")]


def test_a_chat_with_the_prompt_of_a_pair_is_trained_on(tmp_path):
    """In one tree its reply would count as one that no pair prefers, which has weight 0 in SFT."""
    records = {"prompt": "Best tea?", **TEXTS}, {"messages": [user("Best tea?"), reply("Assam.")]}
    for given in (records, records[::-1]):
        trees, _ = converted(tmp_path, *given)
        weights = {
            node.text: weight
            for tree in trees
            for node, weight in zip(tree.nodes, supervision(tree).weights, strict=True)
            if node.role == "assistant"
        }
        assert weights == {"Oolong.": 1.0, "Gravel.": 0.0, "Assam.": 1.0}


def test_every_margin_that_is_stated_for_a_pair_counts(tmp_path):
    """The mean of 1 and 0.25; a record that repeats the pair without a margin states none."""
    records = [{"prompt": "Best tea?", **TEXTS, **more} for more in ({}, {"margin": 1}, {"margin": "0.25"}, {})]
    (tree,), _ = converted(tmp_path, *records)
    assert [pair.margin for pair in tree.preferences] == [1.0, 0.25]
    assert list(supervision(tree).pairs.values()) == [0.625]


def test_a_common_greeting_ties_nothing_together(tmp_path):
    hi = reply("Hi, I am Ann.")
    chats = [{"messages": [hi, user(text), reply("Yes.")]} for text in ("Tea?", "Cake?", "Tea?")]
    trees, _ = converted(tmp_path, *chats)
    assert [[node.text for node in tree.nodes] for tree in trees] == [
        ["Hi, I am Ann.", "Tea?", "Yes."],
        ["Hi, I am Ann.", "Cake?", "Yes."],
    ]


CHAT = [("u", "Best tea?"), ("a", "Oolong.")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [user("Best tea?"), reply("Oolong.")], "chosen": None, "rejected": None}, CHAT),
        ({"prompt": "Best tea?", "messages": [user("Best tea?"), reply("Oolong.")]}, CHAT),
        ({"system": "Be brief.", "messages": [user("Best tea?"), reply("Oolong.")]}, [("s", "Be brief."), *CHAT]),
        ({"conversations": [{"from": "human", "value": "Best tea?"}, {"from": "gpt", "value": "Oolong."}]}, CHAT),
        ({"conversations": [{"from": "user", "value": "Best tea?"}, {"from": "chatgpt", "value": "Oolong."}]}, CHAT),
        ({"conversations": [user("Best tea?"), reply("Oolong.")]}, CHAT),
        ({"instruction": "Best", "input": "tea?", "output": "Oolong."}, [("u", "Best\ntea?"), CHAT[1]]),
        ({"instruction": "Best tea?", "input": "", "output": "Oolong."}, CHAT),
        ({"prompt": "Best tea?", "completion": "Oolong.", "label": True}, CHAT),
        ({"prompt": [user("Best tea?")], "completion": [reply("Oolong.")]}, CHAT),
        ({"messages": [user([{"type": "text", "text": "Best "}, {"type": "text", "text": "tea?"}]), reply("Oolong.")]},
         CHAT),
        ({"messages": [user("Best tea?", tool_calls=None), reply("Oolong.", tool_calls=[], thinking="")]}, CHAT),
    ],
)  # fmt: skip
def test_a_chat_of_any_layout_is_one_path(tmp_path, record, expected):
    (tree,), _ = converted(tmp_path, record)
    assert shape(tree) == (expected, [])


CALL = [{"type": "function", "function": {"name": "kettle", "arguments": {}}}]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {"messages": [user("Boil."), reply("", tool_calls=CALL)], "tools": CALL},
            "1 has the key 'tool_calls'",
        ),
        ({"messages": [user("Boil."), reply(None, tool_calls=CALL)]}, "1 has the key 'tool_calls'"),
        ({"messages": [user("Boil."), reply("Done.")], "tools": CALL}, "key 'tools' is not read here"),
        ({"messages": [user("Boil."), reply("Done.", reasoning_content="So.")]}, "has the key 'reasoning_content'"),
        ({"messages": [user("Boil."), reply("Done.", thinking="So.")]}, "message 1 has the key 'thinking'"),
        ({"prompt": "Boil.", "chosen": "a", "rejected": "b", "images": ["x.png"]}, "key 'images'"),
        ({"messages": [user("Boil."), reply("Done.")], "input": "Water."}, "key 'input'"),
        ({"instruction": "Boil.", "history": [["a", "b"]], "output": "c"}, "key 'history'"),
        ({"messages": [user("Boil."), reply(" ")]}, "message 1 is an empty reply"),
        ({"prompt": "Boil.", "chosen": "", "rejected": "b"}, "'chosen' ends with an empty reply"),
        ({"prompt": "Boil.", "chosen": "a", "rejected": " "}, "'rejected' ends with an empty reply"),
        ({"instruction": "Boil.", "output": ["Yes.", "No."]}, "'output' message 0 is str; expected an object"),
        ({"messages": [user("Boil.")]}, "has no assistant message"),
        ({"messages": [reply("Hello.")]}, "no user message before the reply"),
        ({"chosen": "a", "rejected": "b"}, "the pair has no prompt"),
        ({"system": "Be brief.", "chosen": "a", "rejected": "b"}, "the pair has no prompt"),
        ({"chosen": [reply("a")], "rejected": [reply("b")]}, "the pair has no prompt"),
        ({"prompt": "Boil it.", **WHOLE}, "the prompt is not the head of the dialogue in 'chosen'"),
        ({"prompt": "Boil.", "messages": [user("Best tea?"), reply("Oolong.")]}, "is not the head"),
        ({**WHOLE, "messages": [user("Boil."), reply("No.")]}, "'messages' is the head of neither"),
        ({"prompt": "Boil.", "question": "Why?", "chosen": "a", "rejected": "b"}, "'prompt' and 'question' with diff"),
        ({"system": "Be rude.", **SYSTEM_WHOLE}, "different system messages"),
        ({"prompt": "Boil.", "completion": "No.", "label": "spam"}, "'label' is 'spam'; expected true or 1 for a good"),
        ({"messages": [user("Boil."), reply("No."), user("Why?")], "label": True}, "dialogue that ends with no reply"),
        (
            {"prompt": "Boil.", **TEXTS, "score_chosen": "high", "score_rejected": 1},
            "'score_chosen' is 'high'; expected a",
        ),
        ({"messages": [user("Boil."), reply("No.")], "train": False}, "key 'train' is False"),
        ({"messages": [user("Boil."), reply("No.", weight=0.5)]}, "weight '0.5'; expected true or 1, false or 0"),
        ({"messages": [user("Boil."), reply("No.", weight=0, train=True)]}, "contradict each other"),
        ({"messages": [user([{"type": "image_url"}]), reply("A cat.")]}, "message 0 has content that is not text"),
        ({"messages": [{"from": "function", "value": "x"}]}, "has role 'function'"),
        ({"prompt": "Boil.", "chosen": "a", "rejected": "b", "margin": True}, "'margin' is True"),
        ({"data": [{"prompt": "Boil."}]}, "if the records are the list 'data'"),
    ],
)
def test_what_would_change_the_dialogue_is_refused_by_line_and_name(tmp_path, record, said):
    good = {"prompt": "Best tea?", **WHOLE}
    with pytest.raises(InputError) as caught:
        converted(tmp_path, good, record)
    assert said in str(caught.value)
    assert f"{tmp_path / 'records.jsonl'} line 2: " in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()
    (tree,), report = converted(tmp_path, good, record, refused="drop")  # the remedy that the sentence names
    assert "--refused=drop" in str(caught.value)
    assert shape(tree) == FORK
    assert (report.read, report.kept, [line for line, _ in report.repairs.dropped]) == (2, 1, [2])


@pytest.mark.parametrize(
    "mark", [{"train": False}, {"weight": 0}, {"weight": "0"}, {"train": "False"}, {"weight": 0.0}, {"loss": False}]
)
def test_turns_that_are_not_to_be_trained_on_have_no_loss(tmp_path, mark):
    turns = [user("Hi"), reply("Poor", **mark), user("Again"), reply("Good", train=True, weight="1")]
    (tree,), _ = converted(tmp_path, {"messages": turns})
    assert [node.flags for node in tree.nodes] == [(), ("no_loss",), (), ()]


def test_columns_that_are_not_read_are_named_and_the_table_counts(tmp_path):
    records = [
        {"prompt": "Best tea?", **WHOLE, "comment": "nice", "score": 3},
        {"prompt": " Best tea?", **WHOLE, "score": 4, "messages": [user("Best tea?", name="Ann"), reply("Oolong.")]},
        {"chosen": "a", "rejected": "b"},
        {"prompt": "Best tea?", "chosen": "Oolong.", "rejected": "Oolong."},
    ]
    _, report = converted(tmp_path, *records, refused="drop", chat=chat_format("chatml"))
    lines = report.lines()
    named = "not read: comment (text, 1 times, first: 1), messages[].name (text, 1 times, first: 2), score (2 times"
    assert any(line.startswith(named) for line in lines)
    table = dict(line.strip().split("  ", 1) for line in lines[lines.index("") + 1 :])
    found = {name: value.strip() for name, value in table.items()}
    assert found["records read"] == "4"
    assert (found["kept"], found["repaired"], found["refused"]) == ("3", "1", "1")
    assert next(value for name, value in found.items() if name.startswith("the pair has no prompt")) == "1 (first: 3)"
    assert found["columns not read"] == "comment, messages[].name, score"
    assert [found[name] for name in ("trees", "turns", "replies", "pairs")] == ["1", "1", "2", "1"]
    assert int(found["tokens"]) > 20
    assert report.equal_pairs == 1


def test_a_source_of_a_mixture_says_what_is_not_read(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "Hi", **TEXTS, "origin": "forum"}))
    found = read_conversations(tmp_path / "pairs.jsonl")
    assert found.report.warnings() == ["not read: origin (text, 1 times, first: 1)"]


def test_negative_margins_prefer_the_reply_called_rejected(tmp_path):
    rows = [{"prompt": "Best tea?", **TEXTS, "margin": -0.5}, {"prompt": "And milk?", **TEXTS, "margin": "-1"}]
    trees, _ = converted(tmp_path, *rows)
    assert [shape(tree)[1] for tree in trees] == [[("Gravel.", "Oolong.")]] * 2
    assert [tree.preferences[0].margin for tree in trees] == [0.5, 1.0]


def test_conversations_of_the_paper_are_read_whole_too(tmp_path):
    turn = {"user": "Hi", "assistant": {"preferred": "a", "rejected": "b"}, "chosen": "preferred", "mood": "glad"}
    record = {"profile": "He cooks.", "personality": "She jokes.", "conversations": [turn]}
    trees, report = converted(tmp_path, record, record | {"tools": [{"name": "x"}]}, record | {"seed": 3})
    assert len(trees) == 2
    assert report.repairs.dropped[0][0] == 2
    assert "key 'tools' is not read here" in report.repairs.dropped[0][1]
    assert {name: (one.records, one.first) for name, one in report.unread.items()} == {
        "conversations[].mood": (2, 1),
        "seed": (1, 3),
    }
