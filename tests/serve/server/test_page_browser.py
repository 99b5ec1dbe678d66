"""The page of `aloe serve` in a headless Chromium: a conversation held there, and what becomes of it."""

import json

import jax
import pytest

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from aloe_jax.cli import main as cli
from aloe_jax.data.builder import FragmentSource
from aloe_jax.decode.constraint import Grammar
from aloe_jax.decode.engine import Engine
from aloe_jax.models import decoder
from aloe_jax.serve.chat.belief import correction
from aloe_jax.serve.server.server import Server
from aloe_jax.serve.trees_file import TreesFile
from aloe_jax.tree.probe import QUESTION, schema
from aloe_jax.tree.schema import read_trees
from helpers import tiny, viewer_browser, waiting
from helpers.aloe_command import ROOT
from helpers.byte_model import TINY
from helpers.streaming_server import BELIEF, CUT, HELD, LOST, MODELS, REFUSED, SHOWN, StreamingServer
from helpers.viewer_browser import size, until

pytestmark = pytest.mark.skipif(
    not (viewer_browser.CHROMIUM and viewer_browser.CHROMEDRIVER),
    reason="chromium and chromedriver are not installed (apt-get install chromium chromium-driver)",
)

COME = f"[...state.running.keys()].every((node) => node.ids.length === {SHOWN})"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with viewer_browser.chromium() as driver:
        driver.downloads = tmp_path_factory.mktemp("downloads")
        allow = {"behavior": "allow", "downloadPath": str(driver.downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
        yield driver


def visit(driver, address):
    """Load the page and wait until it knows its models."""
    size(driver, 1280, 900)
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get(address)
    until(driver, "document.querySelector('#model-a').value")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trees.jsonl"


@pytest.fixture
def server(path):
    with StreamingServer(trees=TreesFile(path)) as server:
        yield server


@pytest.fixture
def page(driver, server):
    """The page of `server`, which has logged nothing at the end."""
    visit(driver, server.http.url)
    yield driver
    assert driver.get_log("browser") == []
    driver.execute_script("state.talks = []; sessionStorage.clear()")  # nothing to warn of


def idle(page):
    until(page, "state.running.size === 0")


def say(page, text):
    field = page.find_element("id", "message-field")
    field.send_keys(text + Keys.ENTER)
    until(page, f"[...document.querySelectorAll('.user p')].some((node) => node.textContent === {text!r})")


def press(page, *keys):
    page.execute_script("document.activeElement.blur()")
    for key in keys:
        ActionChains(page).send_keys(key).perform()


def press_here(page, *keys):
    """As `press`, where the focus is."""
    for key in keys:
        ActionChains(page).send_keys(key).perform()


def click(page, selector, number=0):
    page.execute_script("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, number)


def texts(page, selector):
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((n) => n.textContent)", selector
    )


def saved(page, path):
    """The conversations of the server's file after Save."""
    click(page, "#save")
    until(page, "/^Saved/.test(document.querySelector('#message').textContent)")
    page.execute_script("document.querySelector('#message').textContent = ''")
    return list(read_trees(path))


def hold(page):
    """A conversation of two turns with branches, as a visitor would hold it: by keys and buttons."""
    say(page, "What could I do here?")
    idle(page)
    press(page, "2")  # B is better, and the conversation goes on from it
    say(page, "I like old books.")
    idle(page)
    press(page, "r")  # two more replies
    idle(page)
    press(page, "1")
    click(page, ".turn:last-child .thumb[aria-label='Good reply']", 2)
    click(page, ".turn:last-child .thumb[aria-label='Bad reply']", 3)
    click(page, ".turn:first-child .edit")
    field = page.find_element("css selector", ".editor textarea")
    field.clear()
    field.send_keys("What could I do in winter?" + Keys.ENTER)
    idle(page)


@pytest.fixture(scope="module")
def held(driver, tmp_path_factory):
    """The file of a conversation that was held on the page, and the requests that it took."""
    path = tmp_path_factory.mktemp("held") / "trees.jsonl"
    with StreamingServer(trees=TreesFile(path)) as server:
        visit(driver, server.http.url)
        driver.execute_script("$('system').value = 'Be brief.'; $('seed').value = '7'")
        hold(driver)
        saved(driver, path)
        assert driver.get_log("browser") == []
    return path, server.requests


def test_a_conversation_becomes_a_tree_with_preferences(held):
    path, requests = held
    (tree,) = read_trees(path)
    system, first, second = (node for node in tree.nodes if node.role != "assistant" and "winter" not in node.text)
    (winter,) = (node for node in tree.nodes if "winter" in node.text)
    assert (system.role, system.text, first.parent, winter.parent) == ("system", "Be brief.", system.id, system.id)
    below = {user.id: [node for node in tree.replies() if node.parent == user.id] for user in (first, second, winter)}
    assert [len(replies) for replies in below.values()] == [2, 4, 2]
    assert [node.condition for node in below[second.id]] == [*MODELS, *MODELS]
    a, b = below[first.id]
    assert second.parent == b.id
    c, d, good, bad = below[second.id]
    pairs = {(pair.chosen, pair.rejected, pair.margin, pair.judge) for pair in tree.preferences}
    assert pairs == {(b.id, a.id, 1, "human"), (c.id, d.id, 1, "human"), (good.id, bad.id, 1, "human")}
    assert [(score.criterion, score.value) for score in good.scores + bad.scores] == [("thumb", 1), ("thumb", 0)]
    assert tree.path == (system.id, winter.id, below[winter.id][0].id)
    for node in tree.replies():
        assert len(node.token_ids) == len(node.logprobs) > 0
        assert node.tokenizer == tiny.CHAT.tokenizer.hash
    # Later samples of a model under one message count up from the seed; both models get the same messages.
    assert [body["seed"] for body in requests] == [7, 7, 7, 7, 8, 8, 7, 7]
    assert requests[2]["messages"] == requests[3]["messages"]
    assert [message["role"] for message in requests[2]["messages"]] == ["system", "user", "assistant", "user"]
    assert requests[2]["messages"][2]["content"] == b.text


def run(trees, folder, *arguments):
    """The exit code of `aloe run` of the tiny debugging demo from a file of trees."""
    model = folder / "tiny-llama"
    return cli.main(
        [
            "run",
            f"--config={ROOT / 'configs/demo.py'}:debug",
            f"--workdir={folder / 'run'}",
            f"--config.model.source={model if model.exists() else tiny.write_folder(model)}",
            f"--config.conversations.source={trees}",
            *arguments,
        ]
    )


def test_the_dataset_reads_it_with_its_pairs_and_tokens(held, tmp_path, capsys):
    assert run(held[0], tmp_path, "--stages=personas,conversations,dataset") == 0, capsys.readouterr().err
    source = FragmentSource(tmp_path / "run/dataset")
    assert [len(source[number].pairs) for number in range(len(source))] == [3]
    counts = json.loads((tmp_path / "run/dataset/manifest.json").read_text())["counts"]
    assert counts["pairs"] == 3
    assert "were replaced" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_conversation_held_there_trains(held, tmp_path, capsys):
    stages = "--stages=personas,conversations,dataset,sft,preference"
    assert run(held[0], tmp_path, stages, "--config.sft.batch=1") == 0, capsys.readouterr().err
    for stage in ("sft", "preference"):
        steps = [json.loads(line) for line in (tmp_path / f"run/{stage}/metrics.jsonl").read_text().splitlines()]
        assert steps
        assert all(step["loss"] is not None for step in steps)


def test_a_download_opens_again_as_it_was(page, path, driver):
    say(page, "What could I do here?")
    idle(page)
    press(page, "2")
    click(page, ".thumb[aria-label='Bad reply']", 0)
    (tree,) = saved(page, path)
    click(page, "#download")
    file = driver.downloads / "trees.jsonl"
    assert waiting.until(file.exists)
    assert list(read_trees(file)) == [tree]
    spots = texts(page, "#picture title")
    page.execute_script("state.talks = [newConversation()]; openTalk(0)")
    page.find_element("id", "file").send_keys(str(file))
    until(page, "talk().nodes.size > 0")
    assert texts(page, "#picture title") == spots
    say(page, "Where were we?")
    idle(page)
    (longer,) = saved(page, path)
    assert longer.nodes[: len(tree.nodes)] == tree.nodes
    assert longer.preferences == tree.preferences
    file.unlink()


def test_tokens_say_their_probability_to_mouse_and_keys(page):
    say(page, "hello")
    idle(page)
    spans = page.find_elements("css selector", ".turns .reply:first-child .token")
    assert "".join(texts(page, ".turns .reply:first-child .token:not(.end)")) == page.execute_script(
        "return childrenOf(talk(), talk().nodes.get(talk().tip).parent)[0].text"
    )
    ActionChains(page).move_to_element(spans[1]).perform()
    until(page, "!document.querySelector('#readout').hidden")
    said = page.find_element("id", "readout").text
    logprob = page.execute_script("return arguments[0].token.logprob", spans[1])
    assert f"log-probability {logprob:.2f}".replace("-", "−", 2).replace("log−", "log-") in said
    assert "most probable: “ the” 30 %, “ a” 15 %" in said
    page.execute_script("hideToken(); $('readout').textContent = ''")
    page.execute_script("document.querySelector('.turns .reply .text').focus()")
    ActionChains(page).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    assert page.execute_script("return document.querySelector('#readout').textContent").startswith("“")
    press(page, Keys.ESCAPE)
    until(page, "document.querySelector('#readout').hidden")


def test_stop_keeps_what_came_and_frees_the_server(page, server, path):
    say(page, HELD)
    until(page, COME)
    press(page, Keys.ESCAPE)
    idle(page)
    assert page.execute_script("return [...talk().nodes.values()].filter((node) => node.state === 'cut').length") == 2
    waiting.until(lambda: server.gone >= 2)
    assert server.gone == 2
    (tree,) = saved(page, path)
    for node in tree.replies():
        assert node.flags == ("truncated",)
        assert len(node.token_ids) == SHOWN
        assert node.text == tiny.CHAT.tokenizer.decode(node.token_ids)


def test_a_lost_connection_keeps_what_came(driver, server, path):
    visit(driver, server.http.url)
    say(driver, LOST)
    until(driver, COME)
    server.release()
    idle(driver)
    assert texts(driver, ".error") == ["The connection was lost in the middle of the reply; what came is kept."] * 2
    assert all(node.flags == ("truncated",) and node.text for node in saved(driver, path)[0].replies())
    say(driver, CUT)
    idle(driver)
    assert texts(driver, ".turn:last-child .mark.warn") == ["cut", "cut"]
    driver.execute_script("state.talks = []")


def test_refusals_are_sentences_and_leave_nothing_behind(driver, server):
    visit(driver, server.http.url)
    say(driver, REFUSED)
    idle(driver)
    sentence = "The server refused (429): too many requests are waiting Try again in 7 s."
    assert texts(driver, ".error") == [sentence] * 2
    assert driver.execute_script("return toRecord(talk())") is None
    click(driver, "#save")
    assert texts(driver, "#message") == ["There is no reply to save yet."]


def test_text_is_text(page):
    page.execute_script(
        "addNode(talk(), null, 'user', arguments[0]); addNode(talk(), 'n1', 'assistant', arguments[0]);"
        "goTo(talk(), 'n2'); draw()",
        "<img src=x onerror=\"document.title='owned'\"><b>bold</b>",
    )
    assert texts(page, ".turns .text") == ["<img src=x onerror=\"document.title='owned'\"><b>bold</b>"]
    assert page.execute_script("return document.querySelectorAll('img, .turns .text b').length") == 0
    assert page.title == "aloe chat"


def test_what_the_model_has_learned_is_asked_beside_the_conversation_and_struck_out_in_it(page, server, path):
    """By keys alone: b asks, Tab reaches the button of each item, Escape leaves."""
    press(page, "b")
    assert "There is no reply yet" in page.find_element("id", "message").text
    press(page, Keys.ESCAPE)
    say(page, "I have just moved here.")
    idle(page)
    press(page, "b")
    until(page, "document.querySelectorAll('#claims li').length === 2")
    assert texts(page, "#claims .item") == [each["item"] for each in BELIEF]
    assert texts(page, "#claims .evidence") == ["“I have just moved here.”"]  # of turn 2 there is no message
    probe = server.requests[-1]
    assert [message["role"] for message in probe["messages"]] == ["user", "assistant", "user"]
    assert probe["messages"][-1]["content"] == QUESTION
    assert probe["response_format"]["json_schema"]["schema"] == schema(None, 1)
    assert probe["temperature"] == 0
    page.execute_script("document.querySelector('#ask-belief').focus()")
    press_here(page, Keys.TAB, Keys.ENTER)
    idle(page)
    assert server.requests[-1]["messages"][-1]["content"] == correction(BELIEF[0]["item"])
    assert texts(page, "#claims .strike") == ["Struck out", "Strike out"]
    press(page, Keys.ESCAPE)
    assert page.execute_script("return document.body.dataset.screen") == "talk"
    (tree,) = saved(page, path)
    assert [node.text for node in tree.nodes if node.role == "user"] == [
        "I have just moved here.",
        correction(BELIEF[0]["item"]),
    ]


def test_nothing_is_wider_than_the_screen(page):
    hold(page)
    page.execute_script("askBelief()")
    until(page, "document.querySelectorAll('#claims li').length")
    for width, height in ((1280, 900), (390, 844)):
        size(page, width, height, mobile=width < 500)
        for screen in ("settings", "belief", "talk"):
            page.execute_script(f"showScreen('{screen}')")
            assert page.execute_script("return document.documentElement.scrollWidth") <= width
            assert page.execute_script("return document.querySelector('#talk').scrollWidth") <= width
    boxes = page.execute_script(
        "return [...document.querySelectorAll('main button')].filter((n) => n.offsetParent)"
        ".map((n) => n.getBoundingClientRect()).map((box) => [box.left, box.right])"
    )
    assert all(left >= 0 and right <= width for left, right in boxes)


def test_a_server_with_a_key_is_asked_once_it_is_typed(driver, engine, chat_format, monkeypatch):
    monkeypatch.setenv("ALOE_API_KEY", "sesame")
    size(driver, 1280, 900)
    with Server(engine, chat_format, "tiny") as server:
        driver.get(f"http://127.0.0.1:{server.port}/")
        assert texts(driver, "#served") == ["This server wants its API key."]
        driver.find_element("id", "key").send_keys("sesame" + Keys.TAB)
        until(driver, "document.querySelector('#model-a').value === 'tiny'")
        assert driver.execute_script("return [sessionStorage.length, localStorage.length]") == [1, 0]
        driver.refresh()
        until(driver, "document.querySelector('#model-a').value === 'tiny'")
        driver.execute_script("sessionStorage.clear()")


def test_two_samples_of_one_model_with_its_real_engine(driver, chat_format, path):
    """A random model of bytes: its tokens are pieces of characters, which the page has to put together."""
    engine = Engine(
        TINY,
        decoder.init_params(TINY, jax.random.key(0)),
        slots=3,
        context=128,
        end_of_turn=chat_format.tokenizer.end_of_turn_ids,
        grammar=Grammar(chat_format.tokenizer),
    )
    with Server(engine, chat_format, "runs/tiny", trees=TreesFile(path)) as server:
        visit(driver, f"http://127.0.0.1:{server.port}/")
        driver.execute_script("$('seed').value = '3'; $('max-tokens').value = '8'")
        say(driver, "hi")
        idle(driver)
        (tree,) = saved(driver, path)
        first, second = tree.replies()
        assert (first.condition, second.condition) == ("runs/tiny", "runs/tiny")
        assert first.token_ids != second.token_ids
        for node in (first, second):
            ids = node.token_ids if "truncated" in node.flags else node.token_ids[:-1]
            assert node.text == chat_format.tokenizer.decode(ids)
            assert len(node.logprobs) == len(node.token_ids)
        driver.execute_script("$('model-b').value = ''")
        say(driver, "more")
        idle(driver)
        assert len(saved(driver, path)[0].replies()) == 3
        assert driver.get_log("browser") == []
