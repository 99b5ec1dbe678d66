"""Corrected scores beside the raw ones: in metrics.json, on both pages, in the terminal, and why there are none."""

import csv
import io
import json
import shutil
from dataclasses import replace

import pytest
from etils import epath
from rich.console import Console

from aloe_jax import files
from aloe_jax.cli.arguments import STAGES
from aloe_jax.tree.schema import Conversation, dump, parse
from eval.benchmark.calibration import Refusal
from eval.benchmark.scores import read_scores
from eval.benchmark.truth import find_truth, outdated, write_corrections
from eval.compare.comparison import compare
from eval.compare.files import as_json, write_csv
from eval.compare.sources import read_sources
from eval.compare.text import show
from eval.report import write_report
from eval.report.labelled import unlabelled
from eval.report.reading import read_result, read_results
from helpers.html_page import Page


def rate(run, name, kindness, skip=2):
    """People rate every `skip`-th scored reply of a result `kindness` points lower than its judge."""
    scored = [each for each in read_scores(run / "benchmark" / name / "scores.jsonl") if each.score is not None]
    lines = [
        {"case": each.case, "turn": each.turn, "score": each.score - kindness, "labeller": "ann"}
        for each in scored[::skip]
    ]
    files.write_lines(run / "benchmark" / name / "ratings.jsonl", map(json.dumps, lines))
    return len(lines)


def truth(run, name, cases):
    """A scripted judge that scored some of the cases of a result, one point lower on both scales."""
    records = read_scores(run / "benchmark" / name / "scores.jsonl")
    chosen = sorted({each.case for each in records})[:cases]
    lines = [
        each.model_copy(update={key: value - 1 for key in ("score", "score_persona") if (value := getattr(each, key))})
        for each in records
        if each.case in chosen
    ]
    folder = run / "benchmark" / f"{name}+scripted_judge"
    files.write_lines(folder / "scores.jsonl", (line.model_dump_json() for line in lines))


def page(run):
    return Page(write_report(run, stages=STAGES).read_text()).text


def test_without_labels_the_page_says_why_nothing_is_corrected(run):
    assert "The scripted judge is the truth of the scripted world, so its scores need no correction." in page(run)
    results = read_results(epath.Path(run / "benchmark")).values()

    def judged_by_a_model(tree):
        return parse(Conversation, dump(tree).replace('"scripted"', '"model"'), "tree")

    others = [replace(each, trees=tuple(map(judged_by_a_model, each.trees))) for each in results]
    assert unlabelled(others).startswith("These are the judge's own scores: no reply has been rated by people")
    assert unlabelled([]) == ""


def test_labels_stand_beside_the_raw_average_on_the_report(run):
    """The judge is half a point too kind to SFT by people's ratings, and one point to preference by the scripted truth
    on both scales; the truth of two cases corrects nothing."""
    count = rate(run, "sft", 0.5)
    truth(run, "preference", 6)
    truth(run, "base", 2)
    text = page(run)
    raw = {name: files.read_json(run / "benchmark" / name / "metrics.json") for name in ("sft", "preference")}
    sft, preference = raw["sft"]["average"], raw["preference"]
    assert f"{sft:.2f} average AL," in text
    assert f"corrected by labels {sft - 0.5:.2f}, " in text
    assert f"corrected by labels {preference['average'] - 1:.2f}, " in text
    assert f"corrected by labels {preference['persona']['average'] - 1:.2f}, " in text
    assert "Average AL, corrected by labels refused reason below " in text
    assert f"{count} labels" in text
    assert "no labels" in text  # of SFT on the scale persona
    assert "The judge against labels" in text
    assert "Judge minus labels, mean +0.50 +1.00 +1.00" in text
    assert (
        "base is not corrected by the labels of base+scripted_judge: the scripted judge scored 2 of 6 cases, the first "
        "ones, which are no random sample; set config.benchmark.control_cases=6."
    ) in text
    assert "need no correction" not in text


def refusal(run):
    made = read_result(epath.Path(run / "benchmark/sft")).metrics.corrected
    assert isinstance(made, Refusal)
    return made.refused


def test_labels_that_cannot_be_used_are_told_and_nothing_breaks(run):
    path = run / "benchmark/sft/ratings.jsonl"
    line = {"case": "p0-q0", "turn": 1, "score": 3}
    files.write_text(path, json.dumps(line))
    assert refusal(run) == "1 judged replies have a label, expected at least 2; label more of them"
    files.write_text(path, '{"case": "p0-q0", "turn":')
    assert "ratings.jsonl line 1" in refusal(run)
    files.write_text(path, json.dumps(line | {"reply": "something else"}))
    assert "is labelled for another reply than that in" in refusal(run)


def test_a_judge_that_says_nothing_of_the_truth_is_refused(run):
    """Scores of 0 and 1 that are all wrong: sensitivity and specificity add up to 0."""
    scored = files.read_json_lines(run / "benchmark/sft/scores.jsonl")
    for number, line in enumerate(scored):
        line["score"] = number % 2
        line.pop("score_persona", None)
    files.write_lines(run / "benchmark/sft/scores.jsonl", map(json.dumps, scored))
    labels = [{**line, "score": 1 - line["score"]} for line in scored]
    files.write_lines(run / "benchmark/sft/ratings.jsonl", map(json.dumps, labels))
    (run / "benchmark/sft/metrics.json").unlink()
    assert "add up to at most 1: its scores say nothing of the truth and cannot be corrected" in refusal(run)


def test_compare_carries_them_over_the_common_cases(run, tmp_path):
    """A second run has two thirds of the cases: the labels of the others count nowhere."""
    rate(run, "sft", 0.5)
    other = shutil.copytree(run, tmp_path / "other")
    for path in (other / "benchmark").glob("*/*.jsonl"):
        files.write_lines(path, [line for line in files.read_text(path).splitlines() if '"p2-q' not in line])
    for path in (other / "benchmark").glob("*/metrics.json"):
        path.unlink()
    found = compare(read_sources([str(run), str(other)]))
    results = as_json(found)["results"]
    made = results["run/sft"]["shown"]
    assert found.cases == 4
    assert made["corrected"]["average"]["raw"] == pytest.approx(made["average"])
    assert made["corrected"]["average"]["corrected"] == pytest.approx(made["average"] - 0.5)
    labelled = files.read_json_lines(run / "benchmark/sft/ratings.jsonl")
    assert made["corrected"]["labelled"] == sum(line["case"][:2] != "p2" for line in labelled)
    assert "corrected" not in results["run/base"]["shown"]
    text = io.StringIO()
    show(found, Console(file=text, width=60, highlight=False, markup=False))
    assert max(map(len, text.getvalue().splitlines())) <= 60
    assert f"by {made['corrected']['labelled']} labels" in text.getvalue()
    write_csv(found, tmp_path)
    rows = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    [row] = [row for row in rows if row["figure"] == "average_corrected" and row["result"] == "run/sft"]
    assert float(row["value"]) == made["corrected"]["average"]["corrected"]
    assert float(row["low"]) < float(row["value"]) < float(row["high"])


def test_metrics_json_follows_the_labels(run, aloe):
    folder = run / "benchmark/sft"
    before = files.read_json(folder / "metrics.json")
    assert find_truth(folder) is None
    rate(run, "sft", 0.5)
    assert outdated(folder)
    write_corrections(folder)
    after = files.read_json(folder / "metrics.json")
    made = after.pop("corrected")
    assert after == before
    assert made["average"]["corrected"] == pytest.approx(before["average"] - 0.5)
    assert not outdated(folder)
    code, out, errors = aloe("metrics", folder / "scores.jsonl")
    assert (code, errors) == (0, "")
    assert json.loads(out) == files.read_json(folder / "metrics.json")
    (folder / "ratings.jsonl").unlink()
    assert outdated(folder)
    write_corrections(folder)
    assert files.read_json(folder / "metrics.json") == before
