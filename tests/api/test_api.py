"""The public Python interface: `import aloe_jax as aloe`."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import aloe_jax
from aloe_jax.errors import InputError
from helpers import tiny
from helpers.aloe_command import ROOT
from helpers.aloe_in_process import contents
from helpers.tree_samples import aloe_tree

QUESTION = [{"role": "user", "content": "Question about the old bridge?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return aloe_jax.load(tiny.write_folder(tmp_path_factory.mktemp("api") / "model"), context=256)


def test_importing_the_package_loads_nothing():
    """Not JAX, not even a part of the package itself; and a name from it loads what it needs alone."""
    program = (
        "import sys; before = set(sys.modules); import aloe_jax as aloe\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "assert new == {'aloe_jax'} and not [n for n in sys.modules if n.startswith('aloe_jax.')], new\n"
        "assert aloe.InputError.exit_code == 2 and 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_public_name_is_there_and_in_the_guide():
    guide = (ROOT / "docs/python.md").read_text()
    lines = [line.split("|")[1] for line in guide.splitlines() if line.startswith("| `")]
    named = {name for line in lines for name in re.findall(r"`(\w+)", line)}
    assert named == set(aloe_jax.__all__)
    assert dir(aloe_jax) == sorted(aloe_jax.__all__)
    for name in aloe_jax.__all__:
        assert getattr(aloe_jax, name).__doc__, name
    with pytest.raises(AttributeError, match=r"no attribute 'train_modle'; its public names are AloeError, .*"):
        _ = aloe_jax.train_modle


def test_sampled_siblings_are_scored_as_they_were_drawn(model):
    """The log-probabilities of two replies as decoding gives them, and their sums as scoring does, in one row."""
    [siblings] = model.generate([QUESTION], n=2, max_tokens=6, seed=3)
    assert [siblings] == model.generate([QUESTION], n=2, max_tokens=6, seed=3)
    assert siblings[0] != siblings[1]
    tree = {
        "id": "drawn",
        "nodes": [
            {"id": "user", "parent": None, "role": "user", "text": QUESTION[0]["content"]},
            *(reply.node(f"reply{number}", "user").model_dump() for number, reply in enumerate(siblings)),
        ],
    }
    found = model.score([tree])
    assert [(one.conversation, one.node) for one in found] == [("drawn", "reply0"), ("drawn", "reply1")]
    for score, reply in zip(found, siblings, strict=True):
        assert score.tokens == len(reply.token_ids) == len(reply.log_probs)
        assert score.log_prob == pytest.approx(sum(reply.log_probs), abs=1e-3)


def test_packed_rows_hold_each_token_once(model):
    trees = [aloe_tree(2, name="a"), aloe_tree(2, name="b")]
    row = model.pack([tree.model_dump(mode="json") for tree in trees], tokens=512, targets=256, replies=8, pairs=4)
    same = model.pack(trees, tokens=512, targets=256, replies=8, pairs=4)
    assert row.tokens.shape == (1, 512)
    assert np.array_equal(row.tokens, same.tokens)
    assert sorted(row.conversation[row.conversation >= 0].tolist()) == [0] * 4 + [1] * 4
    with pytest.raises(InputError, match="needs 91 tokens where a row has 32"):
        model.pack(trees, tokens=32, targets=32)
    assert model.pack([]).tokens.shape == (1, 2048)


def test_trees_go_to_files_and_back(tmp_path):
    trees = [aloe_tree(2, name="a"), aloe_tree(1, name="b")]
    assert aloe_jax.write_trees(tmp_path / "trees.jsonl", [trees[0], trees[1].model_dump(mode="json")]) == 2
    assert aloe_jax.read_trees(tmp_path / "trees.jsonl") == trees
    pair = {"prompt": "Hello?", "chosen": "Good day!", "rejected": "What?"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    [tree] = aloe_jax.read_trees(tmp_path / "pairs.jsonl")
    assert [node.text for node in tree.nodes] == ["Hello?", "Good day!", "What?"]


def test_metrics_are_those_of_the_command(tmp_path, aloe):
    """Two cases over two turns: AL = (1.5, 3), a slope of 1.5."""
    scores = [
        {"case": case, "profile": case, "personality": case, "turn": turn, "score": float(score)}
        for case, levels in (("a", (1, 2)), ("b", (2, 4)))
        for turn, score in enumerate(levels, start=1)
    ]
    found = aloe_jax.metrics(scores)
    assert ((1.5, 3.0), pytest.approx(1.5)) == (found.AL, found.IR)
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(score) + "\n" for score in scores))
    code, out, _ = aloe("metrics", tmp_path / "scores.jsonl")
    assert code == 0
    assert json.loads(out) == json.loads(found.model_dump_json())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda model: model.generate([[{"role": "bot", "content": "Hi"}]]), "message 0: field role: "),
        (lambda model: model.generate(["Hi"]), 'messages: expected a list of {"role"'),
        (lambda model: model.generate([QUESTION], temperature=-1.0), "temperature -1.0 must be"),
        (lambda model: model.generate([QUESTION], max_tokens=-1), "max_tokens -1 must be"),
        (lambda model: model.generate([QUESTION], max_tokens="8"), "max_tokens is '8', expected a whole number"),
        (lambda model: model.generate([QUESTION], seed=None), "seed is None, expected a whole number"),
        (lambda model: model.generate([QUESTION], temperature="0"), "temperature is '0', expected a number"),
        (lambda model: model.generate([[]]), "messages: the list is empty"),
        (lambda model: aloe_jax.load(None), "source is None, expected the place"),
        (lambda model: model.score([{"id": "x", "nodes": [{"id": "a"}]}]), r"tree 0: field nodes\.0\.parent: "),
        (lambda model: model.score([["a"]]), "tree 0: expected a Conversation or a dict, found list"),
        (lambda model: model.score([aloe_tree(1)], dtype="int8"), "int8"),
        (lambda model: aloe_jax.load("no/such/folder/here"), "does not exist"),
        (lambda model: aloe_jax.metrics([{"case": "a", "turn": 0}]), "score 0: field "),
    ],
)
def test_mistakes_are_one_sentence(model, call, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        call(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"sft": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"sftt": {}}, "did you mean 'sft'"),
        ({"sft": {"epochs": "one"}}, r"config\.sft\.epochs"),
        ({"model": {"source": "random:nobody"}}, "random model 'nobody' is unknown"),
    ],
)
def test_a_config_that_cannot_work_writes_nothing(tmp_path, config, sentence):
    with pytest.raises(InputError, match=sentence):
        aloe_jax.train_model(config, tmp_path / "run", trees=tmp_path / "trees.jsonl")
    assert not [path for path in contents(tmp_path) if path.name != ".lock"]


def test_a_trained_model_without_training_is_named(tmp_path):
    with pytest.raises(InputError, match="dataset hold no training"):
        aloe_jax.Trained(tmp_path, ("dataset",)).load()
    assert aloe_jax.Trained(tmp_path, ("sft",)).metrics() == []
