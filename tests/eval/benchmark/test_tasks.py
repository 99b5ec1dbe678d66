"""Tasks of lm-eval without lm-eval: what is refused, differences by hand, and where they are shown."""

import importlib.util
import io
import json

import pytest
from rich.console import Console

from aloe_jax import files
from aloe_jax.errors import InputError
from eval.benchmark.entries import task_names
from eval.benchmark.settings import BenchmarkSettings
from eval.benchmark.tasks import Document, TaskResult, figures, read_tasks, task_differences, task_file
from eval.compare.comparison import compare
from eval.compare.files import as_json
from eval.compare.sources import read_sources
from eval.compare.text import show
from eval.report.names import Style
from eval.report.parts import Shown, tasks_grid
from eval.report.reading import ModelResult
from helpers.aloe_in_process import refused
from helpers.synthetic_run import write_run

BARE = importlib.util.find_spec("lm_eval") is None


def did(*right, perplexity=None, definition="file", cut=0):
    """The result of a task with these accuracies by document, and a figure that is no mean of them."""
    documents = tuple(Document(id=k, hash=f"h{k}", values={"acc": value}) for k, value in enumerate(right))
    values = {"acc": sum(right) / len(right)} | ({} if perplexity is None else {"ppl": perplexity})
    return TaskResult(lm_eval="0.4.13", definition=definition, shots=0, limit=200, cut=cut,
                      figures=figures(values, {"acc": True, "ppl": False}, documents), documents=documents)  # fmt: skip


def test_names():
    assert task_names(("arc_easy", "my/own.yaml")) == {"arc_easy": "arc_easy", "own": "my/own.yaml"}
    with pytest.raises(InputError, match="two tasks are called 'own'"):
        BenchmarkSettings(tasks=("a/own.yaml", "b/own.yml"))
    with pytest.raises(InputError, match="'my/own' is neither the name of a task"):
        BenchmarkSettings(tasks=("my/own",))


def test_standard_errors_by_hand():
    """Of 1, 0, 1, 1 the mean is 0.75 and the variance 0.25: sqrt(0.25 / 4) = 0.25."""
    acc, ppl = did(1, 0, 1, 1, perplexity=7.5).figures
    assert (acc.value, acc.error) == (0.75, pytest.approx(0.25))
    assert (ppl.value, ppl.error, ppl.higher_is_better) == (7.5, None, False)
    assert did(1).figures[0].error is None


def test_differences_are_paired_by_document():
    """Differences 0, 1, 0, 0: mean 0.25, standard error 0.25, with 3.182 for three degrees of freedom +- 0.796. A
    document that one has not done does not count, nor one of another content."""
    [found] = task_differences({"t": did(1, 1, 1, 1)}, {"t": did(1, 0, 1, 1, 0)})
    assert (found.documents, found.found.value) == (4, 0.25)
    assert found.found.interval() == pytest.approx((0.25 - 0.79561, 0.25 + 0.79561), abs=1e-4)
    other = did(0, 0, 0)
    moved = other.documents[0].model_copy(update={"hash": "changed"})
    [found] = task_differences(
        {"t": did(1, 1, 0)}, {"t": other.model_copy(update={"documents": (moved, *other.documents[1:])})}
    )
    assert (found.documents, found.found.value) == (2, 0.5)
    assert not [*task_differences({"t": did(1, 0)}, {"t": did(1, 0, definition="another")})]
    assert not [*task_differences({"t": did(1, 0)}, {"u": did(1, 0)})]


def test_more_documents_are_asked_for():
    found = did(1, 0)
    assert [found.covers(limit, "") for limit in (100, 200, 201, 0)] == [True, True, False, False]
    assert found.covers(10, "file")
    assert not found.covers(10, "edited")
    assert found.model_copy(update={"limit": 0}).covers(10_000, "")


def test_the_table_has_the_difference_to_the_baseline():
    results = {"base": {"t": did(1, 0, 1, 1)}, "sft": {"t": did(1, 1, 1, 1, perplexity=2.0, cut=3)}, "far": {}}
    shown = {name: Shown(name, Style(name, "circle"), ModelResult(tasks=tasks)) for name, tasks in results.items()}
    grid = tasks_grid(shown, "base")
    assert [text for text, _ in grid.heads] == ["base", "sft"]
    table = {row.label: [cell.value for cell in row.cells] for row in grid.rows}
    assert table == {
        "t: acc": ["0.750 ± 0.250", "1.000 ± 0.000"],
        "t: acc, difference to base": ["–", "+0.250"],
        "t: ppl": ["–", "2.000"],
    }
    assert grid.rows[1].cells[1].remarks == ("[−0.546, +1.046]", "p 0.391")
    assert grid.rows[2].cells[1].remarks == ("4 documents", "lower is better", "3 prompts were cut")
    assert tasks_grid({"far": shown["far"]}, "base") is None


def test_they_are_read_and_compared(tmp_path):
    run = write_run(tmp_path / "one")
    for name, result in (("base", did(1, 0, 1, 1)), ("sft", did(1, 1, 1, 1))):
        path = task_file(files.existing(run / "benchmark" / name), "t")
        path.parent.mkdir()
        files.write_json(path, result.model_dump(mode="json"))
    assert read_tasks(files.existing(run / "benchmark/base")) == {"t": did(1, 0, 1, 1)}
    found = compare(read_sources([str(run)]))
    made = json.loads(files.json_line(as_json(found)))
    assert made["results"]["base"]["tasks"]["t"]["figures"][0]["error"] == pytest.approx(0.25)
    [difference] = made["task_differences"]
    assert (difference["first"], difference["second"], difference["estimate"]) == ("sft", "base", 0.25)
    text = io.StringIO()
    show(found, Console(file=text, width=60))
    assert "0.750 ± 0.250" in text.getvalue()
    assert "+0.250" in text.getvalue()


@pytest.mark.skipif(not BARE, reason="lm-eval is installed")
def test_a_run_that_needs_lm_eval_says_how_to_get_it_before_it_begins(aloe, tmp_path):
    where = ("run", "--config=demo:debug", f"--workdir={tmp_path / 'run'}", "--config.benchmark.tasks=('arc_easy',)")
    refused(aloe(*where), "lm-eval is not installed; run `pip install 'lm-eval>=0.4.13'`")
    assert not (tmp_path / "run/personas").exists()
