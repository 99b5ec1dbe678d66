"""`aloe run` from user files to a dataset: the mixture, its counts and weights, and every kind of bad data."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from etils import epath

from aloe_jax.cli import main as cli
from aloe_jax.cli.experiment import load_experiment
from aloe_jax.data.builder import FragmentSource
from aloe_jax.data.plan import REPLIES, TARGETS
from aloe_jax.errors import InputError
from aloe_jax.inspect.statistics import read_statistics
from aloe_jax.run.progress import Progress
from aloe_jax.run.stage import Run
from aloe_jax.train.plans import training_plans
from aloe_jax.tree.prune import compared, ranked, weighted
from aloe_jax.tree.schema import Node, write_records
from helpers import tiny
from helpers.aloe_command import ROOT
from helpers.tree_samples import aloe_tree, conversation, tokenizer

TREES = [aloe_tree(2, name=f"t{number}") for number in range(4)]
CHATS = [
    {"system": "Be brief.", "first": f"Question {number}?", "reply": "Yes.", "then": "Why?", "last": "It is so."}
    for number in range(3)
]
ROLES = {"system": "system", "first": "user", "reply": "assistant", "then": "user", "last": "assistant"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_folder(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture
def run(model, tmp_path, capsys):
    """`aloe run` up to the dataset, from TREES or `trees`: exit code and stderr."""

    def call(*arguments, trees=TREES, stages="personas,conversations,dataset"):
        given = tmp_path / "given.jsonl"
        if not given.exists():
            write_records(given, trees)
        code = cli.main(
            [
                "run",
                f"--config={ROOT / 'configs/demo.py'}:debug",
                f"--workdir={tmp_path / 'run'}",
                f"--config.model.source={model}",
                f"--config.conversations.source={given}",
                "--config.sft.batch=2",
                f"--stages={stages}",
                *arguments,
            ]
        )
        return code, capsys.readouterr().err

    return call


def chats(path, start=0):
    """`messages` records, as JSON lines or parquet."""
    records = [
        {"messages": [{"role": ROLES[name], "content": text} for name, text in chat.items()]} for chat in CHATS[start:]
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def refused(result, *parts):
    code, errors = result
    sentence = errors.splitlines()[-1]
    assert code == 2, errors
    assert sentence.startswith("aloe: ")
    assert "Traceback" not in errors
    for part in parts:
        assert str(part) in sentence


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_chats_beside_trees(run, tmp_path, suffix):
    """Every assistant turn of a chat is trained on, of a tree the preferred ones; loss weights scale both kinds."""
    path = chats(tmp_path / f"chat{suffix}")
    code, errors = run(
        f"--config.dataset.sources.chat.path={path}",
        "--config.dataset.sources.chat.loss_weight=0.25",
        "--config.dataset.sources.trees.loss_weight=2.0",
    )
    assert code == 0, errors
    source = FragmentSource(tmp_path / "run/dataset")
    assert source.sources == ("trees", "chat")
    assert source.origin.tolist() == [0] * 4 + [1] * 3
    assert source.conversation.tolist() == list(range(7))
    chat = json.loads((tmp_path / "run/dataset/conversations.jsonl").read_text().splitlines()[5])["id"]
    assert source.names([3, 5]) == f"'t3' (trees), '{chat}' (chat)"
    assert source.names(range(7)) == "'t0' (trees), 't1' (trees), 't2' (trees) and 4 more"
    tree, chat = source[0], source[4]
    assert set(tree.weight.tolist()) == {0.0, 2.0}
    assert tree.pair_weight.tolist() == [2.0, 2.0]
    assert chat.weight.tolist() == [0.25] * chat.target.size
    assert (chat.length.size, len(chat.pairs)) == (2, 0)
    assert FragmentSource(tmp_path / "run/dataset", ranked).sizes[:, REPLIES].tolist() == [4] * 4 + [0] * 3
    trained = FragmentSource(tmp_path / "run/dataset", weighted).sizes[:, TARGETS]
    assert trained.tolist() == [np.count_nonzero(source[number].weight) for number in range(7)]


def test_the_manifest_counts_each_source(run, tmp_path):
    path = chats(tmp_path / "chat.jsonl")
    code, errors = run(f"--config.dataset.sources.chat.path={path}")
    assert code == 0, errors
    source = FragmentSource(tmp_path / "run/dataset")
    manifest = json.loads((tmp_path / "run/dataset/manifest.json").read_text())
    counts = manifest["counts"]
    assert set(manifest["inputs"]) == {"conversations", "model", "source chat"}
    trained = FragmentSource(tmp_path / "run/dataset", weighted).sizes[:, TARGETS]
    for number, name in enumerate(("trees", "chat")):
        mine, found = source.origin == number, counts["sources"][name]
        assert found["conversations"] == mine.sum()
        assert found["tree_tokens"] == source.sizes[mine, 0].sum()
        assert found["trained_tokens"] == trained[mine].sum() > 0
        assert found["trained_share"] == pytest.approx(found["trained_tokens"] / found["tree_tokens"], abs=1e-4)
        line = next(line for line in errors.splitlines() if line.startswith(f"dataset: {name}: "))
        assert f"({found['trained_share']:.1%}) trained on in SFT" in " ".join(line.split())
    statistics = read_statistics(tmp_path / "run/dataset/statistics.json")
    for key in ("conversations", "tree_tokens", "trained_tokens", "pairs"):
        assert counts[key] == sum(counts["sources"][name][key] for name in ("trees", "chat"))
        assert getattr(statistics, key) == counts[key]
    assert round(statistics.sharing, 3) == counts["sharing"]


def test_pairs_of_equal_tokens_are_left_out_and_counted(run, model, tmp_path):
    """Llama 3's template trims texts, so that two replies which differ in white space alone have the same tokens."""
    folder = shutil.copytree(model, tmp_path / "trimming")
    shutil.copy(ROOT / "tests/fixtures/templates/llama3.jinja", folder / "chat_template.jinja")
    texts = {"same": ("Fine.", " Fine.\n"), "other": ("Fine.", "Bad.")}
    trees = [
        conversation(
            ("u", None, "user", "How are you?"),
            ("a", "u", "assistant", chosen),
            ("b", "u", "assistant", rejected),
            preferences=[("a", "b")],
            name=name,
        )
        for name, (chosen, rejected) in texts.items()
    ]
    code, errors = run(f"--config.model.source={folder}", trees=trees)
    assert code == 0, errors
    assert "1 pairs left out, whose replies have the same tokens" in errors
    counts = json.loads((tmp_path / "run/dataset/manifest.json").read_text())["counts"]
    assert (counts["pairs"], counts["equal_pairs"], counts["replies"]) == (1, 1, 4)


def test_a_changed_chat_file_is_noticed(run, tmp_path):
    path = chats(tmp_path / "chat.jsonl")
    argument = f"--config.dataset.sources.chat.path={path}"
    assert run(argument)[0] == 0
    chats(path, start=1)
    refused(run(argument), "stage 'dataset'", "input 'source chat'", "last changed", "--fresh")
    assert run(argument, "--fresh")[0] == 0
    assert len(FragmentSource(tmp_path / "run/dataset")) == 4 + 2


def test_a_training_leaves_out_what_it_cannot_train_on(run, tmp_path, capsys):
    """Of four trees one has no reply to train on. SFT takes the three others and as many chats, preference training
    the three alone."""
    muted = [node.model_copy(update={"flags": ("no_loss",)}) for node in TREES[0].nodes]
    trees = [TREES[0].model_copy(update={"nodes": tuple(muted)}), *TREES[1:]]
    path = f"--config.dataset.sources.chat.path={chats(tmp_path / 'chat.jsonl')}"
    code, errors = run(path, trees=trees)
    assert code == 0, errors
    assert "1 conversations have nothing to train on in SFT" in " ".join(errors.split())
    aside = [f"--config.{name}.held_out={share}" for name, share in (("sft", 0.0), ("preference", 0.3))]
    settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", path, *aside])
    for name, chooses, kept in (("sft", weighted, range(1, 7)), ("preference", compared, range(1, 4))):
        source = FragmentSource(tmp_path / "run/dataset", chooses)
        trained, held_out = training_plans(Run(epath.Path(tmp_path / "run"), settings, Progress()), name, source)
        assert sorted(trained.fragments + held_out.fragments) == list(kept)
        assert bool(held_out.steps) == (name == "preference")
        message = " ".join(capsys.readouterr().err.split())
        assert message == f"{name}: {7 - len(kept)} conversations with nothing to train on are left out"
    settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", path, "--config.preference.held_out=0.5"])
    with pytest.raises(InputError, match=r"config\.preference\.held_out: 0\.5 leaves nothing of so few"):
        training_plans(Run(epath.Path(tmp_path / "run"), settings, Progress()), "preference", source)


def test_list_wise_training_refuses_lists_of_different_loss_weights(run, tmp_path):
    """It counts all lists alike; equal weights, or a pairwise objective, are no error."""
    more = tmp_path / "more.jsonl"
    write_records(more, [aloe_tree(2, name=f"m{number}") for number in range(2)])
    path = f"--config.dataset.sources.chat.path={more}"
    assert run(path)[0] == 0
    source = FragmentSource(tmp_path / "run/dataset")

    def plans(objective, trees, chat):
        weights = (
            f"--config.dataset.sources.trees.loss_weight={trees}",
            f"--config.dataset.sources.chat.loss_weight={chat}",
        )
        changed = (path, *weights, f"--config.preference.objective={objective}", "--config.sft.batch=2")
        settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", *changed])
        return training_plans(Run(epath.Path(tmp_path / "run"), settings, Progress()), "preference", source)

    with pytest.raises(
        InputError, match=r"chat\.loss_weight: 2\.0, .*trees\.loss_weight: 1\.0: .*'listwise' counts all"
    ):
        plans("listwise", 1.0, 2.0)
    plans("listwise", 2.0, 2.0)
    plans("dpo", 1.0, 2.0)


def test_nothing_to_train_on_at_all(run):
    trees = [tree.model_copy(update={"preferences": TREES[0].preferences[:0]}) for tree in TREES]
    muted = [
        tree.model_copy(update={"nodes": tuple(node.model_copy(update={"flags": ("no_loss",)}) for node in tree.nodes)})
        for tree in trees
    ]
    refused(run(trees=muted), "no reply of the conversations is trained on")


def test_turns_without_weight_leave_nothing_to_train_on(run, tmp_path):
    """The trees have two turns. One turn of any weight is enough; the last weight holds for later ones."""
    assert run()[0] == 0
    source = FragmentSource(tmp_path / "run/dataset")

    def plans(name, weights, *more):
        changed = (f"--config.{name}.turn_weights={weights}", *more)
        settings = load_experiment([f"--config={ROOT / 'configs/demo.py'}:debug", "--config.sft.batch=2", *changed])
        return training_plans(Run(epath.Path(tmp_path / "run"), settings, Progress()), name, source)

    lists = "--config.preference.objective=listwise"
    for name, more in (("sft", ()), ("preference", ()), ("preference", (lists,))):
        with pytest.raises(InputError, match=rf"config\.{name}\.turn_weights: \(0.0, 0.0, 1.0\) leaves nothing to"):
            plans(name, "(0.0,0.0,1.0)", *more)
        for weights in ("(0.0,1e-6)", "(1.0,0.0)", "(0.0,2.0,0.0)"):
            assert plans(name, weights, *more)[0].steps


def test_no_trees_at_all(run):
    refused(run(trees=[]), "trees.jsonl", "is empty")


def test_an_exchange_longer_than_a_row_names_conversation_and_setting(run):
    refused(run("--config.dataset.row.tokens=16"), "conversation 't0'", "16", "raise config.dataset.row.tokens")


def test_more_targets_than_a_row_holds(run):
    refused(run("--config.dataset.row.targets=4"), "conversation 't0'", "raise config.dataset.row.targets")


def test_a_path_longer_than_the_model_is_given(run):
    refused(run("--config.dataset.max_path=9"), "conversation 't0'", "9", "raise config.dataset.max_path")


def test_a_tokenizer_with_ids_that_the_model_does_not_know(run, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 40}))
    result = run(f"--config.model.source={folder}")
    refused(result, folder, f"{tokenizer().vocab_size} ids", "vocab_size is 40")


def test_token_ids_of_another_tokenizer_are_not_used(run, tmp_path):
    """Such a reply is tokenised from its text, with a message; ids of our own tokenizer are kept whatever the text."""
    end = min(tokenizer().end_of_turn_ids)

    def tree(name, kept):
        reply = Node(id="a", parent="u", role="assistant", text="Yes.", token_ids=(30, 31, end), tokenizer=kept)
        return conversation(("u", None, "user", "Well?"), reply, name=name)

    code, errors = run(trees=[tree("ours", tokenizer().hash), tree("theirs", "another")])
    assert code == 0, errors
    assert "1 replies of another tokenizer are taken by their text" in " ".join(errors.split())
    source = FragmentSource(tmp_path / "run/dataset")
    assert source[0].target.tolist() == [30, 31, end]
    text = tokenizer().encode("Yes.", after="\n")
    assert source[1].target.tolist()[: len(text)] == text


def test_a_source_without_conversations(run, tmp_path):
    (tmp_path / "pool.jsonl").write_text('"You like tea."\n')
    refused(run(f"--config.dataset.sources.chat.path={tmp_path / 'pool.jsonl'}"), "pool.jsonl", "personas")
    (tmp_path / "pool.jsonl").write_text("")
    refused(run(f"--config.dataset.sources.chat.path={tmp_path / 'pool.jsonl'}", "--fresh"), "pool.jsonl is empty")


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [flipped, lambda data: data[: len(data) // 2], lambda data: b""], ids=["flipped", "cut", "empty"]
)
def test_a_damaged_shard_is_named_and_made_again(run, tmp_path, damage):
    folder = tmp_path / "run/dataset"
    trees = [aloe_tree(2, name=f"t{number}") for number in range(200)]  # more than the file's first block
    assert run(trees=trees)[0] == 0
    whole = FragmentSource(folder)
    before = [whole[number].tokens for number in range(len(whole))]
    shard = next(folder.rglob("*.array_record*"))
    shard.write_bytes(damage(shard.read_bytes()))
    refused(run(stages="sft"), f"'{folder}' is damaged", "delete the folder and run the stage `dataset` again")
    shutil.rmtree(folder)
    assert run(stages="dataset")[0] == 0
    again = FragmentSource(folder)
    for number, tokens in enumerate(before):
        np.testing.assert_array_equal(again[number].tokens, tokens)


def test_a_broken_line_of_a_source_is_named(run, tmp_path):
    path = chats(tmp_path / "chat.jsonl")
    path.write_text(path.read_text() + "{broken\n")
    refused(run(f"--config.dataset.sources.chat.path={path}"), "chat.jsonl line 4", "broken JSON")


def test_a_path_for_trees_takes_the_place_of_the_runs_own(run, tmp_path):
    write_records(tmp_path / "other.jsonl", TREES[:1])
    assert run(f"--config.dataset.sources.trees.path={tmp_path / 'other.jsonl'}")[0] == 0
    assert len(FragmentSource(tmp_path / "run/dataset")) == 1


def test_a_path_for_trees_needs_no_conversations(run, tmp_path):
    """As the card of a published data set says: in a folder of its own, from the file alone."""
    write_records(tmp_path / "other.jsonl", TREES[:1])
    path = f"--config.dataset.sources.trees.path={tmp_path / 'other.jsonl'}"
    assert run(path, stages="dataset")[0] == 0
    assert len(FragmentSource(tmp_path / "run/dataset")) == 1
    shutil.rmtree(tmp_path / "run")
    refused(run(stages="dataset"), "needs 'conversations'", "run it first")
