"""`aloe inspect`: its text, its page, its JSON and its refusals."""

import itertools
import json
import re

import pytest
from rich.console import Console

from aloe_jax.inspect.command import inspect
from aloe_jax.inspect.page import page
from aloe_jax.inspect.text import print_inspection
from aloe_jax.tree.schema import write_records
from helpers.aloe_in_process import refused
from helpers.tree_samples import aloe_tree, conversation
from helpers.viewer_browser import CHROMEDRIVER, CHROMIUM, chromium, size

HOSTILE = "<script>alert('!')</script>\x1b[31m & \u202ebadge"


@pytest.fixture
def trees(tmp_path):
    path = tmp_path / "trees.jsonl"
    write_records(path, [aloe_tree(3, name="first"), aloe_tree(2, name="second")])
    return path


@pytest.fixture
def odd(tmp_path):
    """Trees whose texts and ids try to be markup and commands of a terminal."""
    path = tmp_path / "odd.jsonl"
    rows = (("u", None, "user", HOSTILE), ("<b>a", "u", "assistant", HOSTILE), ("b", "u", "assistant", "w" * 400))
    write_records(path, [conversation(*rows, preferences=(("<b>a", "b"),), name=HOSTILE)])
    return path


def test_text_of_trees(aloe, folder, trees):
    code, out, err = aloe("inspect", trees, f"--model={folder('chatml')}", "--limit=1", "--turns=2")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].startswith(f"{trees}, 2 conversations, under ")
    assert "conversation first" in lines
    assert "turns 1 to 2 of 3 shown" in lines
    assert "    0 ▏ <|im_start|>·s·y·s·t·em·⏎" in lines
    heading = next(line for line in lines if "reply good1" in line)
    assert heading.startswith("├ reply good1, turn 1, chosen, weight 1, ")
    assert lines[lines.index(heading) + 1].endswith(" █ I· like· walk· ·1· alo·ng· the· ri·ver·.·<|im_end|>")
    assert any("reply poor2, turn 2, rejected, weight 0, " in line for line in lines)
    assert "↓ after reply good1" in lines
    assert not any("good3" in line for line in lines)
    assert "1 more conversation in the file; --conversation=ID shows one, --limit=N the first N." in lines


def test_both_orders_of_model_and_trees_are_the_same(aloe, folder, trees):
    model = folder("chatml")
    one = aloe("inspect", model, f"--trees={trees}", "--conversation=second")
    two = aloe("inspect", trees, f"--model={model}", "--conversation=second")
    assert one == two
    assert "conversation second" in one[1]
    assert "conversation first" not in one[1]


def test_text_of_a_model(aloe, folder):
    code, out, _ = aloe("inspect", folder("gemma"))
    assert code == 0
    assert "system message: refused: the template refuses turn 1: there is no system role" in out
    assert "vocabulary: 402 tokens, 408 rows in the model's embedding (6 of them belong to no token)" in out
    assert "conversation sample" in out


def test_colours_in_a_terminal_and_marks_without(folder, trees, monkeypatch, capsys):
    found = inspect(str(folder("chatml")), trees=str(trees))

    def printed(**options):
        print_inspection(found, Console(width=60, highlight=False, markup=False, **options))
        return capsys.readouterr().out

    coloured = printed(force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert "s·y·s" not in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert max(map(len, plain.splitlines())) <= 60
    monkeypatch.setenv("NO_COLOR", "1")
    bare = printed(force_terminal=True)
    assert "s·y·s" in bare
    assert not re.search(r"\x1b\[[\d;]*(3|4|9|10)\d[;m]", bare)  # no colour of ink or background


def test_hostile_texts_are_shown_and_not_obeyed(aloe, folder, odd, tmp_path):
    model = folder("chatml")
    _, out, _ = aloe("inspect", odd, f"--model={model}")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b" in out
    html = tmp_path / "page.html"
    code, said, _ = aloe("inspect", odd, f"--model={model}", f"--html={html}")
    assert (code, said) == (0, f"{html}\n")
    text = html.read_text()
    assert "<script" not in text
    assert "&lt;b&gt;a" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_page_loads_nothing(folder):
    text = page(inspect(str(folder("qwen3"))))
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?:", text)
    assert "history rewritten: the template renders good1 in other tokens here" in text
    assert "prefers-color-scheme: dark" in text


@pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs Chromium and its driver")
def test_the_page_in_a_browser(folder, odd, tmp_path):
    """At 390 and 1280 pixels nothing sticks out to the side, siblings stand side by side where there is room,
    neighbouring tokens differ in their background, and the console is empty."""
    model, html = folder("chatml"), tmp_path / "page.html"
    inspect(str(model), trees=str(odd), html=str(html))
    with chromium() as driver:
        for width, columns in ((390, 1), (1280, 2)):
            size(driver, width, 900, mobile=width < 500)
            driver.get(html.as_uri())
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            tops = "[...document.querySelectorAll('.fork > .branch')].map(each => each.getBoundingClientRect().top)"
            assert len(driver.execute_script(f"return [...new Set({tops})]")) == 3 - columns
        first = driver.execute_script("return document.querySelector('.piece .text').textContent")
        assert first.startswith("<|im_start|>system⏎\n")
        spans = "[...document.querySelectorAll('.branch .trained span')]"
        found = driver.execute_script(f"return {spans}.map(each => getComputedStyle(each).backgroundColor)")
        assert len(set(found)) == 2
        assert all(one != other for one, other in itertools.pairwise(found))
        assert driver.get_log("browser") == []


def test_json_has_the_findings(aloe, folder, trees, tmp_path):
    out = tmp_path / "found.json"
    assert aloe("inspect", folder("chatml"), f"--trees={trees}", f"--json={out}")[:2] == (0, f"{out}\n")
    found = json.loads(out.read_text())
    first = found["conversations"][0]
    assert (found["total"], first["id"]) == (2, "first")
    assert first["replies"][0]["verdict"] == "chosen"
    assert first["pieces"][0]["tokens"][0] == {
        "id": 1,
        "text": "<|im_start|>",
        "entry": "<|im_start|>",
        "special": True,
        "position": 0,
        "weight": None,
    }
    alone = tmp_path / "alone.json"
    aloe("inspect", tmp_path / "chatml", f"--json={alone}")
    assert json.loads(alone.read_text())["template"]["traits"][0]["name"] == "system message"


def test_other_formats_and_run_directories(aloe, folder, trees, tmp_path):
    model = folder("chatml")
    chats = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]
    chats.write_text(json.dumps({"messages": turns}) + "\n")
    assert "1 turn, 1 reply, 0 pairs" in aloe("inspect", chats, f"--model={model}")[1]
    run = tmp_path / "run" / "conversations"
    run.mkdir(parents=True)
    (run / "trees.jsonl").write_bytes(trees.read_bytes())
    assert "conversation second" in aloe("inspect", run.parent, f"--model={model}")[1]


class TestRefusals:
    """Bad arguments and inputs: one sentence, with a remedy of this command."""

    def test_arguments(self, aloe, folder, trees, tmp_path):
        model = folder("chatml")
        refused(aloe("inspect", trees), "is a data file", "--model=MODEL")
        refused(aloe("inspect", "nowhere"), "nowhere", "does not exist")
        refused(aloe("inspect", "x", f"--model={model}", f"--trees={trees}"), "both")
        refused(aloe("inspect", model, "--turns=2"), "--turns", "--trees=FILE")
        refused(aloe("inspect", model, "--limit=3"), "--limit", "--trees=FILE")
        refused(aloe("inspect", model, f"--trees={trees}", "--limit=0"), "--limit is 0", "at least 1")
        refused(aloe("inspect", model, f"--trees={trees}", "--max-path=513"), "--max-path is 513", "512")
        refused(aloe("inspect", model, f"--trees={trees}", "--conversation=third"), "third", "'first', 'second'")
        refused(aloe("inspect", model, "--trees=nowhere.jsonl"), "nowhere.jsonl", "does not exist")
        refused(aloe("inspect", model, f"--trees={tmp_path}"), "conversations/trees.jsonl")
        refused(aloe("inspect", tmp_path), "config.json")

    def test_outputs_are_no_inputs(self, aloe, folder, trees):
        model, before = folder("chatml"), trees.read_bytes()
        refused(aloe("inspect", model, f"--trees={trees}", f"--html={trees}"), "--html", "another file")
        refused(aloe("inspect", trees, f"--model={model}", f"--json={trees}"), "--json", "another file")
        refused(aloe("inspect", model, f"--html={model}"), "--html", "folder")
        refused(aloe("inspect", model, "--html=same", "--json=same"), "same", "two files")
        assert trees.read_bytes() == before

    def test_conversations(self, aloe, folder, trees, tmp_path):
        gemma, system = folder("gemma"), tmp_path / "system.jsonl"
        write_records(system, [aloe_tree(2, "Be kind.")])
        refused(aloe("inspect", system, f"--model={gemma}"), "'good1'", "--system=fold_into_first_user")
        assert aloe("inspect", system, f"--model={gemma}", "--system=fold_into_first_user")[0] == 0
        refused(aloe("inspect", trees, f"--model={gemma}", "--max-path=20"), "'first'", "raise --max-path")
        (tmp_path / "broken.jsonl").write_text('{"nodes": 3}\n')
        refused(aloe("inspect", tmp_path / "broken.jsonl", f"--model={gemma}"), "line 1")

    def test_tokens_beyond_the_model(self, aloe, folder, trees):
        model = folder("chatml")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
        refused(aloe("inspect", trees, f"--model={model}"), "vocab_size is 100")
