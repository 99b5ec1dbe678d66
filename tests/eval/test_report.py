"""The report as a whole: its content, that it loads nothing, and that an unfinished run has one too."""

import json
import shutil
from functools import partial

import pytest

from aloe_jax import files
from aloe_jax.cli.arguments import STAGES
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import read_trees, write_records
from eval import report
from eval.report.reading import read_run
from eval.report.tables import stage_rows
from helpers.html_page import Page
from helpers.synthetic_run import CONFIG

write_report = partial(report.write_report, stages=STAGES)


def page(run):
    return Page(write_report(run).read_text())


def test_is_well_formed_and_loads_nothing(finished):
    target = write_report(finished)
    assert str(target) == str(finished / "report" / "index.html")
    assert Page(target.read_text()).self_contained


def test_shows_what_the_run_holds(finished):
    text = page(finished).text
    assert "embedded:smollm2" in text
    assert "135M parameters" in text
    scores = files.read_json(finished / "benchmark/preference/metrics.json")
    low, high = scores["ci"]["average"]
    assert f"{scores['average']:.2f} average AL, {low:.2f} to {high:.2f}" in text
    assert "dropped.never_compared 13" in text
    assert "roles.responder.max_tokens 32" in text
    assert "train-000" in text
    assert "fixed prices on a card, no haggling." in text
    assert "✓ chosen 2×" in text
    assert "shows for the first time: Fires bowls in a kiln at home." in text
    assert "Case p0-q0" in text
    assert "After supervised fine-tuning on 12 trees by the scripted teacher, " in text
    for heading in (
        "What users had shown counts",
        "The whole persona counts",
        "One user, base beside preference",
        "Biggest wins",
        "Controls",
        "What the models say they have learned",
        "After a user changes a preference",
        "Time and tokens",
    ):
        assert heading in text
    assert "preference, wrong persona the model reads another user's dialogue before the last message 4 " in text
    assert "oracle (ceiling)" in text
    assert "18 calls 1,260 tokens read 540 written" in text  # 6 cases x 3 turns x (70, 30)
    assert "17 1 1 x unreadable verdict" in text
    for curve in ("SFT loss", "Preference loss", "Preference accuracy", "Reward margin"):
        assert curve in text
    assert "12 conversations with 108 replies and 72 pairs; " in text
    assert "Sharing factor " in text
    assert "missing" not in text


def test_the_report_does_not_list_itself(run):
    """While it is written, its own stage is always running."""
    files.write_json(
        run / "report/manifest.json", {**files.read_json(run / "export/manifest.json"), "status": "running"}
    )
    assert "report" not in [each.name for each in stage_rows(read_run(run, STAGES))]
    assert "running" not in page(run).text


def test_sources_stand_beside_each_other_where_there_are_several(run):
    path = run / "dataset/manifest.json"
    counts = {
        "conversations": 12,
        "replies": 108,
        "pairs": 72,
        "tree_tokens": 1234,
        "trained_share": 0.25,
        "sharing": 4.6,
    }
    assert "share trained on in SFT" not in page(run).text
    found = files.read_json(path)
    found["counts"]["sources"] = {"trees": counts, "chat": counts | {"conversations": 30}}
    files.write_json(path, found)
    assert "chat 30 108 72 1,234 0.25 4.6" in page(run).text


def test_says_how_it_was_sized_from_the_files(finished):
    text = page(finished).text
    assert "12 conversation trees of up to 3 turns with up to 3 candidate replies per turn: 108 replies" in text
    assert "6 held-out cases (3 profiles, 2 personalities) of 3 turns" in text
    assert "Replies were cut at 32 tokens." in text
    assert "took 7 min 1 s" in text
    assert "A model of 135M parameters can show that the pipeline works from end to end" in text


def test_a_large_model_has_no_paragraph_on_smallness(run):
    for stage in ("sft", "preference"):
        path = run / stage / "manifest.json"
        manifest = files.read_json(path)
        files.write_json(path, {**manifest, "counts": {"parameters": 8_030_000_000}})
    text = page(run).text
    assert "8.03B parameters" in text
    assert "can show that the pipeline works from end to end" not in text


@pytest.mark.parametrize(("objective", "marked"), [("dpo", True), ("ipo", False), ("simpo", False)])
def test_log_2_is_marked_where_training_starts_there(run, objective, marked):
    preference = CONFIG["preference"] | {"objective": objective, "gamma": 0.5}
    files.write_json(run / "config.json", CONFIG | {"preference": preference})
    assert ("log 2, where training starts" in page(run).text) == marked


def test_an_interrupted_stage_is_marked(run):
    path = run / "export/manifest.json"
    assert "export 4.2 s parameters" in page(run).text
    files.write_json(path, {**files.read_json(path), "status": "running"})
    assert "export 4.2 s · running" in page(run).text


def test_texts_of_the_run_are_escaped(run):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    trees = list(read_trees(run / "conversations/trees.jsonl"))
    first = trees[0].nodes[0].model_copy(update={"text": evil})
    trees[0] = trees[0].model_copy(update={"id": evil, "nodes": (first, *trees[0].nodes[1:])})
    write_records(run / "conversations/trees.jsonl", trees)
    files.write_json(run / "config.json", {**CONFIG, "model": {"source": evil}})
    found = page(run)
    assert found.loads == []
    assert "script" not in found.elements
    assert found.text.count(evil) >= 3


def test_an_empty_directory_has_a_page_that_says_what_is_missing(tmp_path):
    text = page(tmp_path).text
    assert "There are no benchmark results in this run yet" in text
    assert "Conversations are missing: the conversations stage" in text
    assert "There is no config.json in this run directory." in text
    assert "not finished in this run directory: personas, conversations, dataset" in text


@pytest.mark.parametrize(
    "missing",
    [
        "config.json",
        "sft",
        "preference",
        "conversations",
        "benchmark/base",
        "benchmark/preference",
        "benchmark/sft/trees.jsonl",
        "benchmark/base/scores.jsonl",
        "benchmark",
    ],
)
def test_any_part_may_be_missing(run, missing):
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = page(run)
    assert found.open == []
    assert "alignment" in found.text.lower()


def test_figures_come_from_the_scores_where_metrics_json_is_missing(run):
    before = page(run).text
    (run / "benchmark/sft/metrics.json").unlink()
    assert page(run).text == before


def test_steps_that_are_not_finite_are_counted_not_drawn(run):
    with open(run / "sft/metrics.jsonl", "a") as file:
        file.write('{"step": NaN, "loss": 1.0}\n{"step": 19, "loss": NaN}\n')
    found = page(run)
    assert "SFT loss, nats per token (1 step not finite)" in found.text
    assert "nan" not in found.text.split()


def test_writes_where_it_is_told_and_repeats_itself(finished, tmp_path):
    first = write_report(finished, tmp_path / "a.html")
    second = write_report(finished, tmp_path / "b.html")
    assert first.read_text() == second.read_text()
    fewer = write_report(finished, tmp_path / "c.html", conversations=1)
    assert "<summary>train-001" in first.read_text()
    assert "<summary>train-001" not in fewer.read_text()


def test_broken_input_is_named(run, tmp_path):
    with pytest.raises(InputError, match=r"run directory '.*nowhere' does not exist"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json' is a file"):
        write_report(run / "config.json")
    (run / "sft/metrics.jsonl").write_text('{"step": 1}\n{"step": \n')
    with pytest.raises(InputError, match=r"metrics\.jsonl line 2: broken JSON"):
        write_report(run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made["AL"].pop(), "AL has 2 values and 3 intervals for 3 turns"),
        (lambda made: made["ci"]["AL"].pop(), "AL has 3 values and 2 intervals for 3 turns"),
        (lambda made: made.update(turns=10**9), "AL has 3 values and 3 intervals for 1000000000 turns"),
        (lambda made: made["bootstrap"].update(resamples=10**12), "bootstrap.resamples"),
        (lambda made: made["bootstrap"].update(level=2.0), "bootstrap.level"),
    ],
)
def test_metrics_that_contradict_themselves_are_refused(run, change, said):
    path = run / "benchmark/sft/metrics.json"
    made = json.loads(path.read_text())
    change(made)
    path.write_text(json.dumps(made))
    with pytest.raises(InputError, match=said):
        write_report(run)


def test_metrics_that_are_no_utf_8_are_refused(run):
    (run / "benchmark/sft/metrics.json").write_text("{}", encoding="utf-16")
    with pytest.raises(InputError, match=r"metrics\.json: not UTF-8"):
        write_report(run)
