"""`aloe compare`: which results, over which cases, what it prints and what it writes."""

import csv
import io
import json
import shutil

import pytest
from rich.console import Console

from aloe_jax import files
from eval.benchmark.scores import read_scores
from eval.compare.comparison import compare
from eval.compare.sources import read_sources
from eval.compare.text import show
from eval.compare.write import write_comparison
from helpers.aloe_in_process import refused
from helpers.html_page import Page
from helpers.synthetic_run import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with the same base: the second has another config and other trainings."""
    folder = tmp_path_factory.mktemp("runs")
    one, two = write_run(folder / "one"), write_run(folder / "two", steps=20)
    shutil.rmtree(two / "benchmark/base")
    shutil.copytree(one / "benchmark/base", two / "benchmark/base")
    config = files.read_object(two / "config.json")
    config["preference"]["beta"] = 0.5
    files.write_json(two / "config.json", config)
    return one, two


@pytest.fixture
def copied(runs, tmp_path):
    """Copies that a test may damage."""
    return [shutil.copytree(run, tmp_path / run.name) for run in runs]


def compared(*directories, baseline=""):
    return compare(read_sources([str(each) for each in directories]), baseline)


def means(run, name):
    """The mean score by case and turn."""
    return {(each.case, each.turn): each.score for each in read_scores(run / "benchmark" / name / "scores.jsonl")}


def test_runs_are_compared_with_the_first_base_and_with_each_other(runs):
    one, two = runs
    found = compared(one, two)
    labels = [each.label for each in found.subjects]
    assert labels == ["one/base", "one/sft", "one/preference", "one/oracle", "two/sft", "two/preference"]
    assert found.baseline == "one/base"
    assert found.notes == (
        "two/base has the same scores as one/base and is left out.",
        "two/oracle has the same scores as one/oracle and is left out.",  # it is at the top everywhere
        "Of these 6 cases one/oracle has 4.",
    )
    pairs = {(each.first, each.second) for each in found.contrasts}
    assert {(label, "one/base") for label in labels[1:]} <= pairs
    assert {("two/sft", "one/sft"), ("two/preference", "one/preference")} <= pairs
    assert found.settings == {"preference.beta": {"one": "0.1", "two": "0.5"}}


def test_a_difference_is_the_mean_over_replies_that_both_have(runs):
    one, two = runs
    found = compared(one, two)
    contrast = next(each for each in found.contrasts if (each.first, each.second) == ("two/sft", "one/sft"))
    mine, theirs = means(two, "sft"), means(one, "sft")
    by_turn = [
        [mine[cell] - theirs[cell] for cell in mine if cell[1] == turn and None not in (mine[cell], theirs[cell])]
        for turn in (1, 2, 3)
    ]
    expected = sum(sum(values) / len(values) for values in by_turn) / 3
    assert contrast.found.average.estimate == pytest.approx(expected)
    assert contrast.found.unscored == 18 - sum(map(len, by_turn)) == 1


def test_results_of_one_run_need_no_prefix_and_take_any_baseline(runs):
    folder = runs[0] / "benchmark"
    found = compared(folder / "sft", folder / "preference", folder / "preference+wrong_persona", baseline="preference")
    assert [each.label for each in found.subjects] == ["sft", "preference", "preference+wrong_persona"]
    assert {each.second for each in found.contrasts} == {"preference"}
    assert found.cases == 4  # a control has the first cases alone
    assert found.notes == ("4 cases are common to all and counted; there are more of sft 6, preference 6.",)
    assert all(each.result.metrics.cases == 4 for each in found.subjects)
    assert found.settings == {}
    assert [each.label for each in compared(runs[0]).subjects] == ["base", "sft", "preference", "oracle"]


def test_names_of_runs_are_told_apart(runs, tmp_path):
    other = shutil.copytree(runs[1], tmp_path / "one")
    labels = [each.label for each in compared(runs[0], other).subjects]
    assert labels[0] == f"{runs[0].parent.name}/one/base"
    assert labels[-1] == f"{tmp_path.name}/one/preference"


def test_other_cases_are_refused(aloe, copied):
    one, two = copied
    refused(aloe("compare", one / "benchmark/sft"), "expected at least two to compare")
    refused(aloe("compare", one / "sft", two), f"'{one / 'sft'}' has no benchmark results")
    refused(aloe("compare", one, one.parent / "nowhere"), "does not exist")
    refused(aloe("compare", one, two, "--baseline=base"), "--baseline: 'base' is unknown; choose from one/base, ")
    refused(aloe("compare", one, two, f"--out={two / 'compare'}"), "--out", "lies in")
    path = two / "benchmark/sft/manifest.json"
    files.write_json(path, files.read_object(path) | {"seed": 7})
    refused(aloe("compare", one, two), "'two/sft' has users of seed 7 and 'one/base' of seed 0")
    shutil.rmtree(two / "benchmark")
    for name in ("trees.jsonl", "scores.jsonl"):
        text = (one / "benchmark/sft" / name).read_text()
        files.write_text(two / "benchmark/sft" / name, text.replace("p0-q0", "other").replace("grey", "gray"))
    text = (two / "benchmark/sft/trees.jsonl").read_text()
    files.write_text(two / "benchmark/sft/trees.jsonl", text.replace("sister called Mira", "cat called Mira"))
    refused(aloe("compare", one, two), "case 'p0-q1' has another persona in 'two/sft' than in 'one/base'")
    (two / "benchmark/sft/trees.jsonl").unlink()
    lines = (two / "benchmark/sft/scores.jsonl").read_text().splitlines()
    files.write_lines(two / "benchmark/sft/scores.jsonl", [line for line in lines if '"turn":3' not in line])
    refused(aloe("compare", one, two), "'one/base' and 'two/sft'", "3 and 2 turns")
    files.write_text(two / "benchmark/sft/scores.jsonl", "\n".join(lines).replace("-q", "-z"))
    refused(aloe("compare", one, two), "'one/base' and 'two/sft' have no case in common")


@pytest.mark.parametrize(
    ("roles", "where", "noted"),
    [
        ({"player": "model"}, ("model", "source"), True),  # the start model judges
        ({"player": "model"}, ("serve", "model"), False),  # and no server of config.serve
        ({"player": "model", "base_url": "http://127.0.0.1:1/v1"}, ("serve", "model"), True),
        ({"player": "model", "base_url": "http://127.0.0.1:1/v1", "model": "j"}, ("serve", "model"), False),
        ({"player": "scripted"}, ("model", "source"), False),
    ],
)
def test_judges_that_differ_by_a_shared_setting_are_noted(copied, roles, where, noted):
    """Scores of different judges stood side by side without a word (etalab-ia/evalap#126)."""
    section, key = where
    for number, run in enumerate(copied):
        config = files.read_object(run / "config.json")
        config["roles"]["judge"] = roles
        config.setdefault(section, {})[key] = f"other-{number}"
        files.write_json(run / "config.json", config)
    sentence = f"Users or judges differ ({section}.{key}), so differences are not of the models alone."
    assert (sentence in compared(*copied).notes) is noted


def test_fits_a_terminal_of_60_columns(runs):
    text = io.StringIO()
    show(compared(*runs), Console(file=text, width=60, highlight=False, markup=False))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert "…" not in text.getvalue()
    assert "two/preference − one/base" in [line.strip() for line in lines]
    assert any(line.startswith("preference.beta") and line.split()[1:] == ["0.1", "0.5"] for line in lines)


def test_writes_page_data_and_figures(aloe, runs, tmp_path):
    out = tmp_path / "out"
    code, said, _ = aloe("compare", *runs, f"--out={out}", "--json")
    assert code == 0
    printed = json.loads(said)
    assert printed == files.read_json(out / "compare.json")
    assert printed["cases"] == 6
    with open(out / "levels.csv") as file:
        rows = list(csv.DictReader(file))
    levels = [float(row["AL"]) for row in rows if (row["result"], row["scale"]) == ("two/sft", "shown")]
    assert levels == files.read_json(runs[1] / "benchmark/sft/metrics.json")["AL"]
    assert len(rows) == 6 * 2 * 3  # results, scales, turns
    with open(out / "differences.csv") as file:
        found = next(row for row in csv.DictReader(file) if (row["first"], row["figure"]) == ("one/sft", "average"))
    difference = next(each for each in printed["differences"] if each["first"] == "one/sft")["average"]
    assert float(found["estimate"]) == difference["estimate"]
    assert float(found["p"]) == difference["p"]
    for name in ("levels", "differences"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    page = Page((out / "index.html").read_text())
    assert page.self_contained
    for text in ("over the same 6 cases", "The whole persona counts", "Paired differences", "preference.beta 0.1 0.5"):
        assert text in page.text


def test_equal_results_give_equal_files(runs, tmp_path):
    found = compared(*runs)
    first, second = (write_comparison(found, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
