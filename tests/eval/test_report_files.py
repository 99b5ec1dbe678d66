"""What `aloe report` writes beside the page, how it watches a run, and how large a page may become."""

import json
import shutil
import signal

import pytest

from aloe_jax import files
from aloe_jax.cli.arguments import STAGES
from aloe_jax.tree.schema import read_trees, write_records
from eval import report
from helpers.aloe_in_process import refused
from helpers.html_page import Page
from helpers.synthetic_run import write_run


def logs(run):
    """The logs by the name of their model."""
    found = [json.loads(path.read_text()) for path in (run / "report" / report.LOGS).iterdir()]
    return {log["eval"]["model"]: log for log in found}


def test_command_writes_page_and_logs(aloe, run, tmp_path):
    code, out, _ = aloe("report", run)
    assert (code, out) == (0, f"{run / 'report/index.html'}\n")
    names = [path.name for path in sorted((run / "benchmark").iterdir()) if path.is_dir()]
    assert sorted(logs(run)) == [f"run/{name}" for name in names]
    assert aloe("report", run, f"--out={tmp_path / 'page.html'}")[0] == 0
    assert (tmp_path / "page.html").read_text() == (run / "report/index.html").read_text()
    refused(aloe("report", tmp_path / "nowhere"), "run directory", "does not exist")


def test_a_log_has_the_scores_of_its_cases(run):
    report.write_report(run, stages=STAGES)
    log = logs(run)["run/sft"]
    metrics = files.read_json(run / "benchmark/sft/metrics.json")
    shown, persona = log["results"]["scores"]
    assert (shown["name"], persona["name"]) == ("shown", "persona")
    assert shown["metrics"]["average"]["value"] == metrics["average"]
    assert shown["metrics"]["AL_3"]["value"] == metrics["AL"][2]
    assert shown["metadata"] == {"unscored_replies": 1}
    assert log["stats"]["model_usage"]["run/sft"] == {
        "input_tokens": 18 * 70, "output_tokens": 18 * 30, "total_tokens": 18 * 100
    }  # fmt: skip
    tree = next(read_trees(run / "benchmark/sft/trees.jsonl"))
    sample = log["samples"][0]
    assert [message["content"] for message in sample["messages"]] == [node.text for node in tree.nodes]
    values = [node.scores[0].value for node in tree.replies()]
    assert sample["scores"]["shown"]["value"] == pytest.approx(sum(values) / 3)
    assert sample["output"]["completion"] == tree.replies()[-1].text


def test_inspect_ai_reads_the_logs(run):
    log = pytest.importorskip("inspect_ai.log")
    report.write_report(run, stages=STAGES)
    for path in (run / "report" / report.LOGS).iterdir():
        whole, head = log.read_eval_log(str(path)), log.read_eval_log(str(path), header_only=True)
        assert whole.status == head.status == "success"
        assert len(whole.samples) == whole.eval.dataset.samples
    assert len(log.list_eval_logs(str(run / "report" / report.LOGS))) == 5


def test_a_log_of_other_scores_replaces_the_one_before(run):
    report.write_report(run, stages=STAGES)
    path = run / "benchmark/base/scores.jsonl"
    files.write_text(path, path.read_text())  # of another time
    report.write_report(run, stages=STAGES)
    assert len(list((run / "report" / report.LOGS).glob("*+base.json"))) == 1


def test_logs_of_names_and_runs_that_are_nearly_alike_stay_apart(run, tmp_path):
    """One log took the other's place (evaleval/every_eval_ever#60)."""
    for name in ("my_model", "my-model"):
        shutil.copytree(run / "benchmark/base", run / "benchmark" / name)
    other = shutil.copytree(run, tmp_path / "run_2")
    for each in (run, other):
        report.write_report(each, tmp_path / "pages" / f"{each.name}.html", stages=STAGES)
    found = [json.loads(path.read_text())["eval"]["model"] for path in (tmp_path / "pages" / report.LOGS).iterdir()]
    names = [path.name for path in (run / "benchmark").iterdir() if path.is_dir()]
    assert sorted(found) == sorted(f"{each.name}/{name}" for each in (run, other) for name in names)
    assert {"run/my_model", "run/my-model", "run_2/my_model"} <= set(found)


def test_a_log_says_what_was_cut_off_and_what_did_not_end(run):
    """A reply over the limit looked whole (UKGovernmentBEIS/inspect_ai#3582), and so did a dialogue that a failing
    server ended."""
    path = run / "benchmark/sft/trees.jsonl"
    cut, short, *rest = read_trees(path)
    last = cut.nodes[-1].model_copy(update={"flags": ("truncated",)})
    cut = cut.model_copy(update={"nodes": (*cut.nodes[:-1], last)})
    short = short.model_copy(update={"nodes": short.nodes[:-2], "path": short.path[:-2]})
    write_records(path, [cut, short, *rest])
    report.write_report(run, stages=STAGES)
    log = logs(run)["run/sft"]
    reasons = [sample["output"]["choices"][0]["stop_reason"] for sample in log["samples"]]
    assert reasons == ["max_tokens", *["stop"] * 5]
    assert (log["results"]["total_samples"], log["results"]["completed_samples"]) == (6, 5)


def test_watching_writes_when_files_change(run):
    """Three looks: written at the first one, again at the second as the first has changed a file, not at the third."""
    told = []

    def tell(line):
        told.append(line)
        if len(told) == 1:
            with open(run / "sft/metrics.jsonl", "a") as file:
                file.write('{"step": 19, "loss": 1.25}\n')

    report.watch(run, None, tell, stages=STAGES, looks=3, pause=0)
    assert told == [str(run / "report/index.html")] * 2
    assert "→ 1.250" in (run / "report/index.html").read_text()


def test_watching_goes_on_after_a_line_that_is_being_written(run):
    told = []

    def tell(line):
        told.append(line)
        if len(told) < 3:
            with open(run / "sft/metrics.jsonl", "a") as file:
                file.write('{"step": 19,' if len(told) == 1 else ' "loss": 1.25}\n')

    report.watch(run, None, tell, stages=STAGES, looks=3, pause=0)
    assert [line.endswith("; trying again") for line in told] == [False, True, False]


def test_ctrl_c_ends_watching_with_success(aloe, run, monkeypatch):
    monkeypatch.setattr(report.time, "sleep", lambda seconds: signal.raise_signal(signal.SIGINT))
    code, out, err = aloe("report", run, "--watch")
    assert (code, out, err) == (0, f"{run / 'report/index.html'}\n", "")


def test_a_page_of_a_hundred_cases_is_small_and_complete(tmp_path):
    """100 cases x 10 turns with messages of 250 to 400 characters: under 5 MB."""
    run = write_run(tmp_path / "run", profiles=20, personalities=5, turns=10)
    for path in (run / "benchmark").glob("*/trees.jsonl"):
        trees = [
            tree.model_copy(
                update={"nodes": tuple(node.model_copy(update={"text": f"{node.text} " * 4}) for node in tree.nodes)}
            )
            for tree in read_trees(path)
        ]
        write_records(path, trees)
    text = report.write_report(run, stages=STAGES).read_text()
    assert len(text.encode()) < 5e6
    page = Page(text)
    assert page.self_contained
    assert "Case p19-q4" in page.text
