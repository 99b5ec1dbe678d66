"""Tasks by lm-eval itself on our engine: log-probabilities and replies against a plain forward pass and against its own
`hf` model, and runs that go on. The tasks are local files, so nothing is fetched."""

import json
import os

import numpy as np
import pytest

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean_stderr
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from aloe_jax import files
from aloe_jax.decode.engine import Engine
from aloe_jax.decode.requests import Request, Sampling
from aloe_jax.errors import InputError
from aloe_jax.tree.template import ChatFormat
from eval.benchmark.task_model import EngineModel
from helpers import tiny
from helpers.aloe_command import run_arguments
from helpers.aloe_in_process import contents, refused

CONTEXT = 128
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/rows.jsonl"}}, cache_dir: "{folder}/cache"}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
PICK = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: answer
fewshot_split: test
num_fewshot: 1
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
SAY = """
output_type: generate_until
doc_to_target: "{{said}}"
generation_kwargs: {until: ["e"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
READ = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: bits_per_byte}]
"""
ROWS = [
    {"question": "One and", "choices": ["two", "one"], "answer": 1, "said": "two"},
    {"question": "The tea is", "choices": ["hot", "wet", "gone"], "answer": 2, "said": "hot"},
    {"question": "Yes,", "choices": ["no", "well"], "answer": 1, "said": "no"},
    {"question": "A long river runs", "choices": ["down", "up"], "answer": 0, "said": "down"},
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The files of three tasks by name."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, rest in (("pick", PICK), ("say", SAY), ("read", READ)):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, folder=folder) + rest.strip() + "\n")
    return {name: str(folder / f"{name}.yaml") for name in ("pick", "say", "read")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_folder(tmp_path_factory.mktemp("models") / "start", 0)


@pytest.fixture(scope="module")
def model(folder):
    chat = ChatFormat.load(folder)
    ends, vocab = chat.tokenizer.end_of_turn_ids, chat.tokenizer.vocab_size
    engine = Engine(tiny.MODEL, tiny.params(), slots=4, context=CONTEXT, end_of_turn=ends, vocab=vocab)
    return EngineModel(engine, chat, 3, lambda done, total: None)


def asked(kind, *arguments):
    return [Instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]


def test_log_probabilities_are_those_of_a_plain_forward_pass(model):
    """Behind the template's generation prompt, behind a begun reply, and behind nothing."""
    history = [{"role": "user", "content": "One and"}]
    prompt = model.apply_chat_template(history)
    begun = model.apply_chat_template([*history, {"role": "assistant", "content": "It is"}], False)
    assert begun == f"{prompt}It is"
    pairs = [(prompt, "two"), (prompt, "one"), (begun, " two"), ("", "two and one")]
    for (context, text), (value, greedy) in zip(
        pairs, model.loglikelihood(asked("loglikelihood", *pairs)), strict=True
    ):
        before = model.tok_encode(context.rstrip()) if context else [model.prefix_token_id]
        path = model.tok_encode(context + text) if context else [*before, *model.tok_encode(text)]
        assert value == pytest.approx(float(tiny.path_log_prob(tiny.params(), path, len(path) - len(before))), abs=1e-3)
        assert not greedy
    ids = tuple(model.tok_encode(prompt))
    [[best]] = model._engine.generate([Request(ids, Sampling(temperature=0, max_tokens=1))])
    [(value, greedy)] = model._loglikelihood_tokens([(("", ""), [*ids], [*best.token_ids])])
    assert greedy
    assert value == pytest.approx(best.log_probs[0], abs=1e-4)


def test_a_text_beyond_the_context_is_scored_in_windows(model):
    """Windows of C - 1 = 127 tokens: behind the prefix, behind the last token, and the rest behind as many as fit."""
    text = " ".join(f"The tea of day {number} is hot and wet." for number in range(13))
    ids, room, params = model.tok_encode(text), CONTEXT - 1, tiny.params()
    assert 2 * room < len(ids) < 3 * room
    paths = [([model.prefix_token_id, *ids[:room]], room), (ids[room - 1 : 2 * room], room)]
    paths.append((ids[len(ids) - CONTEXT :], len(ids) - 2 * room))
    expected = sum(float(tiny.path_log_prob(params, path, scored)) for path, scored in paths)
    [found] = model.loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))
    assert found == pytest.approx(expected, abs=1e-2)
    before = model.cut
    [(value, _)] = model.loglikelihood(asked("loglikelihood", (text, " tea")))
    own = len(model.tok_encode(text + " tea")) - len(ids)
    path = model.tok_encode(text + " tea")[-CONTEXT:]
    assert value == pytest.approx(float(tiny.path_log_prob(params, path, own)), abs=1e-3)
    assert model.cut == before + 1
    with pytest.raises(InputError, match=r"config\.serve\.context: a continuation"):
        model.loglikelihood(asked("loglikelihood", ("One", text)))


def test_replies_end_where_until_says(model):
    prompt = model.apply_chat_template([{"role": "user", "content": "One and"}])
    greedy = {"until": [], "max_gen_toks": 16, "do_sample": False}
    [whole] = model.generate_until(asked("generate_until", (prompt, greedy)))
    ids = tuple(model.tok_encode(prompt))
    [[plain]] = model._engine.generate([Request(ids, Sampling(temperature=0, max_tokens=16))])
    assert whole == model._chat.tokenizer.decode(plain.text_ids)
    stop = whole[len(whole) // 2]
    [cut] = model.generate_until(asked("generate_until", (prompt, {**greedy, "until": [stop]})))
    assert cut == whole[: whole.index(stop)]
    drawn = {"until": [], "max_gen_toks": 16, "do_sample": True, "temperature": 1.0, "top_k": 50}
    twice = asked("generate_until", (prompt, drawn), (prompt, drawn))
    first, second = model.generate_until(twice)
    assert first != second
    assert model.generate_until(twice) == [first, second]
    with pytest.raises(InputError, match="num_beams=4 in its generation_kwargs"):
        model.generate_until(asked("generate_until", (prompt, {**greedy, "num_beams": 4})))


def results(model, tasks):
    return simple_evaluate(
        model=model,
        tasks=[*tasks.values()],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        apply_chat_template=True,
        log_samples=True,
    )


@pytest.mark.torch
def test_it_agrees_with_the_hf_model(model, folder, tasks):
    """The same tasks, with the folder read by transformers and PyTorch."""
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    theirs = huggingface.HFLM(str(folder), device="cpu", dtype="float32", batch_size=2, max_length=CONTEXT - 1)
    one, other = results(model, tasks), results(theirs, tasks)
    for name in tasks:
        pairs = zip(one["samples"][name], other["samples"][name], strict=True)
        for mine, hf in pairs:
            assert mine["arguments"] == hf["arguments"]
            if name == "say":
                assert mine["filtered_resps"] == hf["filtered_resps"]
                continue
            for got, wanted in zip(np.ravel(mine["filtered_resps"]), np.ravel(hf["filtered_resps"]), strict=True):
                assert float(got) == pytest.approx(float(wanted), abs=1e-3)
    for name, figure in (("pick", "acc,none"), ("say", "exact_match,none"), ("read", "bits_per_byte,none")):
        assert one["results"][name][figure] == pytest.approx(other["results"][name][figure], abs=1e-4)


def test_models_of_a_run_do_them_once(aloe, folder, tasks, tmp_path):
    def run(*names, limit=3, cases=1):
        items = ",".join(f"'{tasks[name]}'" for name in names)
        arguments = (f"--config.benchmark.tasks=({items},)", f"--config.benchmark.task_limit={limit}")
        models = f"--config.benchmark.models=('base', 'twin={folder}')"
        where = run_arguments(folder, tmp_path / "run", "--stages=personas,benchmark", models, *arguments)
        return aloe(*where, f"--config.benchmark.cases={cases}")

    def file(model, task):
        return tmp_path / "run/benchmark" / model / f"tasks/{task}.json"

    code, _, errors = run("pick")
    assert code == 0, errors
    found = json.loads(file("base", "pick").read_text())
    assert (found["shots"], found["limit"], found["cut"], len(found["documents"])) == (1, 3, 0, 3)
    [acc] = found["figures"]
    right = [each["values"]["acc"] for each in found["documents"]]
    assert acc["value"] == pytest.approx(np.mean(right))
    assert 0 < acc["value"] < 1
    assert acc["error"] == pytest.approx(mean_stderr(right))
    before = contents(tmp_path / "run/benchmark")

    code, _, errors = run("pick", limit=2)
    assert errors.count("finished before, skipped") == 2
    assert contents(tmp_path / "run/benchmark") == before
    file("twin", "pick").unlink()
    code, _, errors = run("pick", "say", "read")  # one is missing for one model, two for both
    assert code == 0, errors
    assert file("twin", "pick").read_bytes() == file("base", "pick").read_bytes()
    assert file("base", "pick").read_bytes() == before[file("base", "pick")]
    assert [each["name"] for each in json.loads(file("twin", "say").read_text())["figures"]] == ["exact_match"]
    [bits] = json.loads(file("base", "read").read_text())["figures"]
    assert bits["value"] > 0
    assert bits["error"] is None
    code, _, errors = run("pick", limit=0)
    assert code == 0, errors
    assert len(json.loads(file("base", "pick").read_text())["documents"]) == len(ROWS)


def test_a_broken_task_is_refused_before_the_first_stage(aloe, folder, tasks, tmp_path):
    def call(path):
        return aloe(*run_arguments(folder, tmp_path / "run", f"--config.benchmark.tasks=('{path}',)"))

    whole = (tmp_path / "lost.yaml", files.read_text(tasks["pick"]).replace("rows.jsonl", "none.jsonl"))
    for path, text in (whole, (tmp_path / "odd.yaml", "task: [unclosed\n")):
        path.write_text(text)
        refused(call(path), f"config.benchmark.tasks: lm-eval cannot load '{path}'")
    refused(call(tmp_path / "none.yaml"), "config.benchmark.tasks: file", "none.yaml' does not exist")
    assert not (tmp_path / "run/personas").exists()
