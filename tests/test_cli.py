"""The `aloe` command without the pipeline: exit codes, one sentence per kind of bad input, and the tools."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from aloe_jax.cli import main as cli
from aloe_jax.tree.schema import Message, dump, write_records
from helpers import tiny
from helpers.aloe_command import ROOT, Aloe
from helpers.aloe_in_process import contents, refused
from helpers.tree_samples import aloe_tree, conversation

DEMO = f"--config={ROOT / 'configs/demo.py'}:debug"
COMMANDS = (
    "run",
    "plan",
    "launch",
    "config",
    "import",
    "export",
    "push",
    "convert",
    "inspect",
    "score",
    "metrics",
    "report",
    "compare",
    "view",
    "serve",
    "chat",
    "completion",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_folder(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as left:
        cli.main([*command, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(('aloe', *command))}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["score", "--model=m"], "--trees"),
        (["serve", "--model=m", "--port=http"], "--port"),
        (["metrics", "scores.jsonl", "--fast"], "--fast"),
        (["convert", "a.jsonl", "--out=b", "--config.seed=1"], "--config.seed=1"),
        (["run", "--workdir=w", "--stage=sft", DEMO], "--stage=sft"),
    ],
)
def test_wrong_arguments_are_named_with_the_help_that_tells_more(aloe, arguments, message):
    refused(aloe(*arguments), message, "--help`")


class TestRun:
    """Bad input of `aloe run`; nothing is written before it is refused."""

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            ([], ["--config is missing", "configs/demo.py"]),
            (["--config=nowhere.py"], ["'nowhere.py' does not exist"]),
            ([f"{DEMO}x"], ["'debugx'"]),
            ([DEMO, "--config.sft.lr=1"], ["config.sft.lr", "learning_rate"]),
            ([DEMO, "--config.sft.batch=many"], ["sft.batch", "many"]),
            ([DEMO, "--stages=sft,test"], ["--stages", "'test'", "personas, conversations, dataset, sft"]),
            ([DEMO, "--config.conversations.trees=99"], ["conversations.trees", "99", "36"]),
            ([DEMO, "--config.conversations.turns=0"], ["conversations.turns", "0", "at least 1"]),
            ([DEMO, "--config.conversations.concurrency=0"], ["conversations.concurrency", "at least 1"]),
            ([DEMO, "--config.conversations.source=nowhere.jsonl"], ["conversations.source", "nowhere.jsonl"]),
            ([DEMO, "--config.dataset.max_path=9999"], ["dataset.max_path", "9999", "1024"]),
            ([DEMO, "--config.sft.objective=ppo"], ["sft.objective", "'ppo'", "dpo"]),
            ([DEMO, "--config.preference.beta=0.0"], ["preference.beta", "0.0", "more than 0"]),
            ([DEMO, "--config.sft.turn_weights=(0.0,0.0)"], ["sft.turn_weights", "not all 0"]),
            ([DEMO, "--config.sft.schedule=steps"], ["sft.schedule", "'steps'", "cosine"]),
            ([DEMO, "--config.sft.warmup=100"], ["sft.warmup", "100.0", "below 1", "share of the steps"]),
            ([DEMO, "--config.preference.clip_norm=0.0"], ["preference.clip_norm", "0.0", "above 0"]),
            ([DEMO, "--config.preference.beta=inf"], ["config.preference.beta", "inf", "finite"]),
            ([DEMO, "--config.compute.chunk=0"], ["compute.chunk", "0", "at least 1"]),
            ([DEMO, "--config.preference.epochs=0"], ["preference.epochs", "0", "at least 1"]),
            ([DEMO, "--config.compute.dtype=float8"], ["compute.dtype", "'float8'", "bfloat16"]),
            ([DEMO, "--config.benchmark.models=('base','tuned')"], ["benchmark.models", "'tuned'", "preference"]),
            ([DEMO, "--config.export.model=base"], ["export.model", "'base'", "sft"]),
            ([DEMO, "--config.export.dtype=int8"], ["int8", "bfloat16"]),
            ([DEMO, "--config.model.source=nowhere/at/all"], ["nowhere/at/all", "does not exist"]),
        ],
    )
    def test_refused_before_anything_is_written(self, aloe, model, tmp_path, monkeypatch, arguments, parts):
        monkeypatch.chdir(tmp_path)
        source = [] if not arguments or arguments[0] != DEMO else [f"--config.model.source={model}"]
        size = ["--config.dataset.max_path=1024", "--config.serve.context=1024"] if source else []
        refused(aloe("run", "--workdir=run", *arguments[:1], *source, *size, *arguments[1:]), *parts)
        assert not [path for path in contents(tmp_path) if path.name != ".lock"]

    def test_a_workdir_that_is_a_file(self, aloe, tmp_path):
        (tmp_path / "run").write_text("mine")
        refused(aloe("run", DEMO, f"--workdir={tmp_path / 'run'}", "--stages=personas"), "--workdir", tmp_path / "run")
        assert (tmp_path / "run").read_text() == "mine"

    def test_a_stage_without_those_it_needs(self, aloe, model, tmp_path):
        arguments = [DEMO, f"--config.model.source={model}", "--stages=export", f"--workdir={tmp_path / 'run'}"]
        refused(aloe("run", *arguments), "'export' needs 'preference'")

    def test_a_changed_config(self, aloe, tmp_path):
        arguments = ["run", DEMO, f"--workdir={tmp_path / 'run'}", "--stages=personas"]
        assert aloe(*arguments)[0] == 0
        before = contents(tmp_path)
        refused(aloe(*arguments, "--config.seed=5"), "'personas'", "seed: 0 -> 5", "--fresh")
        assert contents(tmp_path) == before
        assert aloe(*arguments, "--config.seed=5", "--fresh")[0] == 0
        assert (
            contents(tmp_path)[tmp_path / "run/personas/personas.jsonl"]
            != before[tmp_path / "run/personas/personas.jsonl"]
        )

    def test_a_config_file_without_a_section(self, aloe, tmp_path):
        (tmp_path / "short.py").write_text(
            "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict({'seed': 0})\n"
        )
        result = aloe("run", f"--config={tmp_path / 'short.py'}", f"--workdir={tmp_path / 'run'}", "--stages=personas")
        refused(result, "config.personas is missing")


class TestBadFiles:
    """Files of users: missing, broken, a folder where a file is expected."""

    @pytest.mark.parametrize("command", ["score", "metrics", "convert"])
    @pytest.mark.parametrize(("name", "message"), [("nowhere.jsonl", "does not exist"), ("folder", "directory")])
    def test_missing_or_a_folder(self, aloe, model, tmp_path, command, name, message):
        (tmp_path / "folder").mkdir()
        path = tmp_path / name
        arguments = {
            "score": [f"--model={model}", f"--trees={path}", f"--out={tmp_path / 'out'}"],
            "metrics": [path],
            "convert": [path, f"--out={tmp_path / 'out'}"],
        }[command]
        refused(aloe(command, *arguments), path, message)
        assert not (tmp_path / "out").exists()

    def test_broken_json_is_named_with_its_line(self, aloe, model, tmp_path):
        trees, scores = tmp_path / "trees.jsonl", tmp_path / "scores.jsonl"
        trees.write_text(dump(aloe_tree(1)) + '\n\n{"id": "c2", "nodes": [\n')
        refused(aloe("score", f"--model={model}", f"--trees={trees}", f"--out={tmp_path / 'out'}"), f"{trees} line 3")
        record = {"case": "a", "profile": "p", "personality": "s", "turn": 1, "score": 3.0}
        scores.write_text(json.dumps(record) + "\n{broken\n")
        refused(aloe("metrics", scores), f"{scores} line 2")
        assert not (tmp_path / "out").exists()

    def test_a_tree_with_an_unknown_parent(self, aloe, model, tmp_path):
        record = json.loads(dump(aloe_tree(1)))
        record["nodes"][1]["parent"] = "nobody"
        trees = tmp_path / "trees.jsonl"
        trees.write_text(json.dumps(record) + "\n")
        result = aloe("score", f"--model={model}", f"--trees={trees}", f"--out={tmp_path / 'out'}")
        refused(result, f"{trees} line 1", "'good1' has unknown parent 'nobody'")

    def test_a_path_beyond_the_context_names_the_node(self, aloe, model, tmp_path):
        long = conversation(("u1", None, "user", "Hello"), ("a1", "u1", "assistant", "word " * 2000), name="long")
        write_records(tmp_path / "trees.jsonl", [aloe_tree(1), long])
        out = tmp_path / "out.jsonl"
        result = aloe("score", f"--model={model}", f"--trees={tmp_path / 'trees.jsonl'}", f"--out={out}")
        refused(result, "'long'", "'a1'", "1024")
        assert not out.exists()

    def test_an_unknown_dtype(self, aloe, model, tmp_path):
        result = aloe("score", f"--model={model}", "--trees=t", f"--out={tmp_path / 'out'}", "--dtype=float8")
        refused(result, "'float8'", "bfloat16")

    def test_an_output_below_a_file(self, aloe, tmp_path):
        (tmp_path / "file").write_text("mine")
        write_records(tmp_path / "trees.jsonl", [aloe_tree(1)])
        out = tmp_path / "file/trees.parquet"
        result = aloe("convert", tmp_path / "trees.jsonl", f"--out={out}")
        refused(result, tmp_path / "file", "run the same command again", code=75)
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_model_that_is_none(self, aloe, tmp_path):
        write_records(tmp_path / "trees.jsonl", [aloe_tree(1)])
        for command, rest in (
            ("score", [f"--trees={tmp_path / 'trees.jsonl'}", f"--out={tmp_path / 'out'}"]),
            ("serve", []),
            ("chat", []),
        ):
            refused(aloe(command, "--model=./nowhere", *rest), "./nowhere")
            refused(aloe(command, f"--model={tmp_path}", *rest), tmp_path, "config.json")
        refused(aloe("import", "embedded:gpt9", f"--out={tmp_path / 'out'}"), "gpt9", "smollm2")

    def test_a_folder_with_content_is_not_overwritten(self, aloe, model, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/notes.txt").write_text("mine")
        for command in ("import", "export"):
            refused(aloe(command, model, f"--out={tmp_path / 'out'}"), tmp_path / "out", "not empty")
        assert contents(tmp_path) == {tmp_path / "out/notes.txt": b"mine"}


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        ("--allow-origin=*", ["--allow-origin", "'*'", "https://app.example"]),
        ("--allow-host=http://models.example", ["--allow-host", "http://models.example"]),
        ("--queue=-1", ["--queue=-1"]),
        ("--drain=-1", ["--drain=-1"]),
    ],
)
def test_what_a_server_cannot_keep(aloe, option, parts):
    """Refused before a model is loaded."""
    refused(aloe("serve", "--model=./nowhere", option), *parts)


def test_a_port_in_use(aloe, model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = aloe("serve", f"--model={model}", f"--port={port}", "--context=64", "--slots=1")
        refused(result, f"port {port} on 127.0.0.1 is in use", "--port")


def test_nothing_to_view(aloe, tmp_path):
    refused(aloe("view", tmp_path / "nowhere"), tmp_path / "nowhere", "does not exist")
    refused(aloe("view", tmp_path), tmp_path, "aloe run")
    write_records(tmp_path / "trees.jsonl", [aloe_tree(1)])
    refused(aloe("view", tmp_path, "--host=0.0.0.0"), "0.0.0.0", "ssh -L")
    refused(aloe("view", tmp_path, "--port=70000"), "70000", "--port")


def test_score_is_the_log_probability_of_each_reply_given_its_path(aloe, model, tmp_path):
    """Lines in file order; the expected values come from plain causal attention over each path alone."""
    trees = [aloe_tree(3, name="first"), aloe_tree(2, system="Be kind.", name="second")]
    write_records(tmp_path / "trees.jsonl", trees)
    out = tmp_path / "scores.jsonl"
    code, _, _ = aloe("score", f"--model={model}", f"--trees={tmp_path / 'trees.jsonl'}", f"--out={out}")
    assert code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(set(line) == {"conversation", "node", "log_prob", "tokens"} for line in lines)
    replies = [(tree, node) for tree in trees for node in tree.replies()]
    assert [(line["conversation"], line["node"]) for line in lines] == [(tree.id, node.id) for tree, node in replies]
    for line, (tree, node) in zip(lines, replies, strict=True):
        history = [Message(role=step.role, content=step.text) for step in tree.path_to(node.id)[:-1]]
        reply = tiny.CHAT.tokenizer.encode(node.text + "<|im_end|>")
        path = tiny.CHAT.prompt_ids(history) + reply
        assert line["tokens"] == len(reply)
        # f32 rounding of a sum of up to 60 log-probabilities of magnitude 10, as in test_tree_equals_path.
        expected = float(tiny.path_log_prob(tiny.params(), path, len(reply)))
        assert line["log_prob"] == pytest.approx(expected, abs=1e-4)


def test_metrics_prints_what_the_paper_defines(aloe, tmp_path):
    """Two cases of three turns: AL = 2, 3, 4, so b = 1, R2 = 1, N-AL = 0, 1/2, 1 and N-IR = 1/2."""
    records = [
        {"case": case, "profile": case, "personality": "s", "turn": turn, "score": turn + shift}
        for case, shift in (("a", 0.5), ("b", 1.5))
        for turn in (1, 2, 3)
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, out, _ = aloe("metrics", path)
    found = json.loads(out)
    assert code == 0
    assert found["AL"] == pytest.approx([2, 3, 4])
    assert [found[name] for name in ("average", "IR", "R2", "N_IR", "N_R2")] == pytest.approx([3, 1, 1, 0.5, 1])
    assert (found["cases"], found["unscored"], found["turns"]) == (2, 0, 3)
    assert {"AL", "average", "IR", "R2", "N_IR", "N_R2"} <= set(found["ci"])


@pytest.mark.parametrize(
    ("curve", "n_ir", "n_r2"),
    [
        ([0, 18.92, 10.81, 9.46, 9.46, 1.35, 9.46, 9.46, 6.76, 4.05], -0.020, 0.047),
        ([6.76, 14.86, 54.05, 55.41, 70.27, 70.27, 60.81, 58.11, 55.41, 52.70], 0.070, 0.389),
    ],
)
def test_metrics_prints_the_published_rows(aloe, tmp_path, curve, n_ir, n_r2):
    """AL(1..10) of a model before and after DPO with the N-IR and N-R2 printed beside them (arXiv 2505.15456)."""
    lines = [
        {"case": "a", "profile": "p", "personality": "s", "turn": turn, "score": 1.0, "score_persona": level}
        for turn, level in enumerate(map(float, curve), start=1)
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, out, _ = aloe("metrics", path, "--scale=persona")
    found = json.loads(out)
    assert (round(found["N_IR"], 3), round(found["N_R2"], 3)) == (n_ir, n_r2)
    assert json.loads(aloe("metrics", path)[1])["persona"] == found


def test_convert_makes_trees_of_chats(aloe, tmp_path):
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": chat}) + "\n")
    code, out, _ = aloe("convert", tmp_path / "chats.jsonl", f"--out={tmp_path / 'trees.jsonl'}")
    assert code == 0
    assert "1 " in out
    [tree] = [json.loads(line) for line in (tmp_path / "trees.jsonl").read_text().splitlines()]
    assert [node["text"] for node in tree["nodes"]] == ["Hello", "Good day."]


@pytest.mark.parametrize("command", ["import", "export"])
def test_import_and_export_of_a_folder_keep_the_weights(aloe, model, tmp_path, command):
    code, out, _ = aloe(command, model, f"--out={tmp_path / 'out'}")
    assert code == 0
    assert out.strip() == str(tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert json.loads((tmp_path / "out/config.json").read_text()) == json.loads((model / "config.json").read_text())


def test_chat_answers_a_pipe(model, tmp_path):
    """A line of stdin is a message; each answer goes to stdout. In a process of its own, as a script would call it."""
    call = ["chat", f"--model={model}", "--context=512", "--max-tokens=4", "--temperature=0"]
    result = Aloe(tmp_path).call(call, stdin="Hello\n/reset\nHello\n/quit\nnever read\n")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    first, second = result.stdout[: len(result.stdout) // 2], result.stdout[len(result.stdout) // 2 :]
    assert first == second  # greedy, and /reset forgot the first
    assert first.strip()


def test_a_defect_of_ours_is_not_called_bad_input(aloe, monkeypatch):
    def broken(path, scale, labels):
        raise RuntimeError("a defect")

    monkeypatch.setattr("eval.benchmark.truth.metrics_file", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        aloe("metrics", "scores.jsonl")


def test_full_disk_while_a_tool_writes(aloe, tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("the system has no /dev/full")
    write_records(tmp_path / "trees.jsonl", [aloe_tree(1)])
    shutil.copy(tmp_path / "trees.jsonl", tmp_path / "in.jsonl")
    (tmp_path / ".trees.jsonl.partial").symlink_to(full)
    before = (tmp_path / "trees.jsonl").read_bytes()
    result = aloe("convert", tmp_path / "in.jsonl", f"--out={tmp_path / 'trees.jsonl'}")
    refused(result, "cannot write", "No space left on device", code=75)
    assert (tmp_path / "trees.jsonl").read_bytes() == before


def test_a_run_directory_in_another_object_store_is_refused(aloe):
    refused(aloe("run", DEMO, "--workdir=s3://bucket/run"), "s3://bucket/run", "gs://BUCKET/DIR")
    refused(aloe("run", DEMO, "--workdir=gs://bucket/"), "gs://bucket/", "expected gs://BUCKET/DIR")


def test_given_trees_take_the_place_of_grown_ones(aloe, model, tmp_path):
    given = tmp_path / "mine.jsonl"
    write_records(given, [aloe_tree(2, name="first"), aloe_tree(1, name="second")])
    code, _, errors = aloe(
        "run",
        DEMO,
        f"--workdir={tmp_path / 'run'}",
        "--stages=personas,conversations,dataset",
        f"--config.model.source={model}",
        f"--config.conversations.source={given}",
    )
    assert code == 0, errors
    assert (tmp_path / "run/conversations/trees.jsonl").read_text() == given.read_text()
    counts = json.loads((tmp_path / "run/dataset/manifest.json").read_text())["counts"]
    assert (counts["conversations"], counts["replies"], counts["pairs"]) == (2, 6, 3)


def test_a_sentence_that_quotes_a_long_value_or_control_characters_is_one_short_line(aloe, tmp_path):
    rows = [
        {"case": "a", "profile": name, "personality": "q", "turn": turn} for turn, name in ((1, "x" * 9_000), (2, "y"))
    ]
    lines = [json.dumps(row | {"score": 1.0}) for row in rows]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines))
    result = aloe("metrics", tmp_path / "scores.jsonl")
    refused(result, "line 2: case 'a' has profile and personality", "[...]", "a case is one pair of them")
    assert len(result[2]) < 1_300
    refused(aloe("metrics", "no\n\x1b[31mfile\u2028"), r"'no\n\x1b[31mfile\u2028' does not exist")


@pytest.mark.parametrize("distributed", ["", "127.0.0.1:1,2,0"])
def test_a_lost_process_is_a_reason_only_where_there_are_others(distributed):
    """A message with "heartbeat" in it is a defect of a single process, not a state to continue from."""
    found = cli._expected(RuntimeError("no heartbeat in 'patient.jsonl'"), bool(distributed))
    assert (found is not None and found.exit_code == 75) == bool(distributed)
