"""lm-eval as it comes: scoring of choices over text completions, generation with stop strings over chat."""

import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
lm_eval = pytest.importorskip("lm_eval")

from lm_eval.tasks import TaskManager  # noqa: E402 - after the check that it is there

from aloe_jax.models import decoder  # noqa: E402
from aloe_jax.ops.attention import dense  # noqa: E402
from helpers.byte_model import TINY  # noqa: E402

CHOICE = """
task: pick
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""
GENERATION = """
task: say
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["{stop}"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
QUESTIONS = [
    {"question": "One and", "choices": ["two", "one"], "answer": 0},
    {"question": "The tea is", "choices": ["hot", "wet", "gone"], "answer": 2},
    {"question": "Yes,", "choices": ["no", "well"], "answer": 1},
]


def evaluate(folder, task, definition, rows, **options):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{task}.yaml").write_text(definition)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(tasks=[task], task_manager=manager, bootstrap_iters=0, **options)


def log_prob(params, context, continuation):
    """Of a continuation, by the plain forward pass; a token is a byte."""
    ids = [*context, *continuation]

    def attend(layer, query, key, value, carry):
        ends = jnp.full((1, query.shape[1]), query.shape[1])
        return dense(query, key, value, ends, None, None, None, scale=8**-0.5), carry

    hidden, _ = decoder.hidden_states(params, TINY, jnp.asarray([ids]), jnp.arange(len(ids))[None], attend)
    scores = np.asarray(jax.nn.log_softmax(hidden[0] @ decoder.head_weight(params, TINY)))
    places = np.arange(len(context) - 1, len(ids) - 1)
    return scores[places, continuation].sum(), bool((scores[places].argmax(-1) == continuation).all())


def test_choices_are_scored_as_by_the_model_itself(server, params, chat_format, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    found = evaluate(
        tmp_path,
        "pick",
        CHOICE.format(data=tmp_path / "rows.jsonl"),
        QUESTIONS,
        model="local-completions",
        model_args={"model": "tiny", "base_url": f"{server.base_url}/completions", "max_length": 100},
        batch_size=2,
        log_samples=True,
    )
    encode, right = chat_format.tokenizer.encode, 0
    samples = sorted(found["samples"]["pick"], key=lambda sample: sample["doc_id"])
    for row, sample in zip(QUESTIONS, samples, strict=True):
        given = [(float(value), greedy in (True, "True")) for value, greedy in sample["filtered_resps"]]
        expected = [log_prob(params, encode(row["question"]), encode(f" {choice}")) for choice in row["choices"]]
        np.testing.assert_allclose([value for value, _ in given], [value for value, _ in expected], atol=1e-3)
        assert [greedy for _, greedy in given] == [greedy for _, greedy in expected]
        right += int(np.argmax([value for value, _ in expected])) == row["answer"]
    assert found["results"]["pick"]["acc,none"] == pytest.approx(right / len(QUESTIONS))


def test_generation_ends_where_until_says(server, greedy, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    text = greedy("hello")
    stop = next(each for each in text[len(text) // 2 :] if re.match(r"[A-Za-z0-9]", each))
    answer = text[: text.index(stop)]
    found = evaluate(
        tmp_path,
        "say",
        GENERATION.format(data=tmp_path / "rows.jsonl", stop=stop),
        [{"question": "hello", "answer": answer}],
        model="local-chat-completions",
        model_args={"model": "tiny", "base_url": f"{server.base_url}/chat/completions"},
        apply_chat_template=True,
        log_samples=True,
    )
    assert found["samples"]["say"][0]["filtered_resps"] == [answer]
