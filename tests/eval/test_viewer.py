"""The viewer's index, its HTTP interface, and kappa."""

import json
import os
import signal
import threading
import urllib.request

import pytest
from starlette.testclient import TestClient

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import read_trees
from data_gen.agreement import kappa
from eval.viewer import make_app, view
from eval.viewer.agreement import between, report
from eval.viewer.index import TreeIndex
from eval.viewer.labels import Label, LabelRequest, judgement, label
from helpers import viewer_trees

HOME = "http://127.0.0.1:8000"
ORIGIN = {"Origin": HOME}


@pytest.fixture
def run(tmp_path):
    return viewer_trees.write_run(tmp_path / "run", count=6, turns=4, candidates=3)


@pytest.fixture
def client(run):
    return TestClient(make_app(run), base_url=HOME, raise_server_exceptions=False)


def trees_file(run):
    return run / "conversations/trees.jsonl"


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def small_tree(name="t", **more):
    """Two turns; the judge prefers the first reply of the first, and saw no difference in the second."""
    score = {"scores": [{"judge": "j", "criterion": "overall", "value": 3.0}]}
    nodes = [
        {"id": "u1", "parent": None, "role": "user", "text": "good morning"},
        {"id": "a", "parent": "u1", "role": "assistant", "text": "good morning to you", **score},
        {"id": "b", "parent": "u1", "role": "assistant", "text": "hm", "flags": ["truncated"], **score},
        {"id": "u2", "parent": "a", "role": "user", "text": "and now"},
        {"id": "c", "parent": "u2", "role": "assistant", "text": "now we talk", **score},
        {"id": "d", "parent": "u2", "role": "assistant", "text": "now we rest", **score},
        {"id": "e", "parent": "u2", "role": "assistant", "text": "unjudged"},
    ]
    preferences = [{"chosen": "a", "rejected": "b", "margin": 0.5, "judge": "j"}]
    return {"schema_version": 1, "id": name, "nodes": nodes, "preferences": preferences, "path": ["u1", "a"], **more}


def post(client, headers=ORIGIN, **body):
    body = {"conversation": "t", "first": "a", "second": "b", "label": "first", "labeller": "ann"} | body
    return client.post("/api/labels", json=body, headers=headers)


@pytest.fixture
def small(tmp_path):
    """A run directory with one small tree, and a client for it."""
    (tmp_path / "conversations").mkdir()
    trees_file(tmp_path).write_text(json.dumps(small_tree()) + "\n")
    return tmp_path, TestClient(make_app(tmp_path), base_url=HOME)


class TestIndex:
    def test_made_up_trees_are_valid_and_as_large_as_real_ones(self, run):
        trees = list(read_trees(trees_file(run)))
        assert len(trees) == 6
        assert all(node.token_ids and node.logprobs for tree in trees for node in tree.replies())

    def test_summaries_agree_with_the_schema_s_own_reader(self, run):
        found = TreeIndex(run).part().trees
        for summary, tree in zip(found, read_trees(trees_file(run)), strict=True):
            margins = [pair.margin for pair in tree.preferences]
            values = [node.value for node in tree.replies()]
            assert (summary.id, summary.profile, summary.personality) == (
                tree.id, tree.persona.profile, tree.persona.personality
            )  # fmt: skip
            assert (summary.turns, summary.replies) == (4, len(tree.replies()))
            assert (summary.preferences, summary.least_margin) == (len(margins), round(min(margins), 4))
            assert summary.mean_margin == pytest.approx(sum(margins) / len(margins), abs=1e-4)
            assert summary.value == pytest.approx(sum(values) / len(values), abs=1e-4)
            assert summary.flags.get("truncated", 0) == sum("truncated" in node.flags for node in tree.nodes)
            assert all(node.text[:40] in summary.text for node in tree.nodes if node.role == "user")

    def test_line_still_being_written_is_left_out_until_it_is_whole(self, run):
        line = json.dumps(small_tree("late"))
        append(trees_file(run), line[:100])
        index = TreeIndex(run)
        assert len(index.part().trees) == 6
        append(trees_file(run), line[100:])  # whole JSON, though the line end is missing
        assert index.line_of("late") == 7
        append(trees_file(run), "\n" + json.dumps(small_tree("later")) + "\n")
        assert [summary.line for summary in index.part().trees] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert index.tree(8)["id"] == "later"
        assert index.part().broken == []

    def test_file_put_into_another_order_is_read_again(self, run):
        index = TreeIndex(run)
        before = [summary.id for summary in index.part().trees]
        lines = trees_file(run).read_text().splitlines(keepends=True)
        trees_file(run).write_text("".join(reversed(lines)) + lines[0].replace(before[0], "added"))
        assert [summary.id for summary in index.part().trees] == [*reversed(before), "added"]
        assert index.tree(1)["id"] == before[-1]

    def test_list_comes_in_parts_that_read_no_further_than_they_must(self, run):
        index = TreeIndex(run)
        first = index.part(0, 2)
        assert ([tree.line for tree in first.trees], first.more) == ([1, 2], True)
        rest = index.part(2, 9)
        assert ([tree.line for tree in rest.trees], rest.more) == ([3, 4, 5, 6], False)
        assert index.part(4, 2).more is False
        assert index.part(3, 2).more is True
        assert (list(index.part(6, 2).trees), index.part(6, 2).more) == ([], False)
        append(trees_file(run), "broken\n" + json.dumps(small_tree()) + "\n")
        assert [tree.line for tree in index.part(6, 2).trees] == [8]
        trees_file(run).write_text(json.dumps(small_tree()) + "\n")
        assert index.part(0, 2).version == first.version + 1

    def test_broken_lines_are_counted_and_passed_over(self, run):
        append(trees_file(run), '{"id": "no nodes"}\nnot JSON\n[1]\n' + json.dumps(small_tree()) + "\n")
        index = TreeIndex(run)
        assert index.part().broken == [7, 8, 9]
        assert index.line_of("t") == 10

    def test_brackets_and_quotes_in_texts_do_not_confuse_it(self, run):
        tree = small_tree("odd")
        tree["nodes"][0]["text"] = 'she wrote "logprobs": [1, 2] and "token_ids":[ then ] stopped'
        append(trees_file(run), json.dumps(tree) + "\n")
        index = TreeIndex(run)
        assert index.part().trees[-1].text.startswith('she wrote "logprobs": [1, 2] and "token_ids":[ then ]')
        assert index.tree(7)["nodes"][0]["text"] == tree["nodes"][0]["text"]

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda path: None, "does not exist"),
            (lambda path: path.mkdir(), "aloe run --stages=personas,conversations"),
            (lambda path: path.write_text(""), "no whole line yet"),
            (lambda path: path.write_text('{"a": 1}\n'), "line 1 is not a conversation"),
        ],
    )
    def test_directory_without_trees_is_one_clear_sentence(self, tmp_path, make, said):
        make(tmp_path / "run")
        with pytest.raises(InputError, match=said) as caught:
            make_app(tmp_path / "run")
        assert caught.value.exit_code == 2

    def test_trees_file_alone_will_do(self, tmp_path):
        path = tmp_path / "mine.jsonl"
        path.write_text(json.dumps(small_tree()))
        client = TestClient(make_app(path), base_url=HOME)
        assert [tree["id"] for tree in client.get("/api/index").json()["trees"]] == ["t"]
        assert post(client).status_code == 200
        assert (tmp_path / "labels.jsonl").exists()


class TestTree:
    def test_tree_comes_with_persona_and_rejects_and_without_token_ids(self, client, run):
        index = client.get("/api/index").json()
        assert index["name"] == "run"
        first = index["trees"][0]
        answer = client.get(f"/api/tree?line={first['line']}").json()
        stored = json.loads(trees_file(run).read_text().splitlines()[0])
        assert answer["tree"]["id"] == stored["id"] == first["id"]
        assert answer["tree"]["persona"] == stored["persona"]
        for shown, node in zip(answer["tree"]["nodes"], stored["nodes"], strict=True):
            assert shown["text"] == node["text"]
            assert not {"token_ids", "logprobs"} & shown.keys()
            assert shown.get("tokens") == (len(node["token_ids"]) if "token_ids" in node else None)
        assert [reject["reason"] for reject in answer["rejects"]] == ["hint_leak", "near_copy", "refusal"]
        assert index["rejects"] == {tree["id"]: 3 for tree in index["trees"][::4]}
        assert client.get(f"/api/tree?line={index['trees'][1]['line']}").json()["rejects"] == []

    def test_persona_named_by_id_alone_is_filled_in(self, run):
        bare = {"id": "p002-s02", "profile": "p002", "personality": "s02"}
        append(trees_file(run), json.dumps(small_tree(persona=bare)) + "\n")
        assert TreeIndex(run).tree(7)["persona"] == viewer_trees.persona(2)

    def test_what_a_run_adds_is_there_on_the_next_request(self, client, run):
        append(trees_file(run), json.dumps(small_tree()) + "\n")
        reject = {"conversation": "t", "turn": 1, "role": "user", "reason": "role_flip", "text": "As an AI"}
        append(run / "conversations/rejects.jsonl", json.dumps(reject) + "\n")
        assert len(client.get("/api/index").json()["trees"]) == 7
        assert client.get("/api/tree?line=7").json()["rejects"] == [reject]

    @pytest.mark.parametrize(
        ("line", "status"), [("99", 404), ("0", 404), ("-1", 400), ("x", 400), ("", 400), ("²", 400)]
    )
    def test_line_that_is_not_there(self, client, line, status):
        answer = client.get("/api/tree", params={"line": line})
        assert answer.status_code == status
        assert line in answer.json()["error"]

    def test_what_utf8_and_json_cannot_carry(self, run):
        tree = small_tree()
        tree["nodes"][0]["text"] = "half \ud83d a smile"
        tree["nodes"][1]["value"] = float("nan")
        append(trees_file(run), json.dumps(tree) + "\n")
        nodes = TestClient(make_app(run), base_url=HOME).get("/api/tree?line=7").json()["tree"]["nodes"]
        assert nodes[0]["text"] == "half \ud83d a smile"
        assert nodes[1]["value"] is None


class TestLabels:
    def test_label_is_appended_with_what_the_judge_said(self, small):
        root, client = small
        assert post(client, first="b", second="a", label="second", blind=True).status_code == 200
        (line,) = map(json.loads, (root / "labels.jsonl").read_text().splitlines())
        assert line.pop("time").endswith("Z")
        assert line == {
            "conversation": "t",
            "parent": "u1",
            "first": "b",
            "second": "a",
            "label": "second",
            "chosen": "a",
            "rejected": "b",
            "labeller": "ann",
            "blind": True,
            "judge": "j",
            "judge_label": "second",
            "judge_margin": 0.5,
        }
        (answered,) = client.get("/api/labels").json()["labels"]
        assert answered == {"time": answered["time"], **line}

    def test_last_label_of_a_labeller_for_a_pair_counts_in_either_order(self, small):
        root, client = small
        post(client, label="first")
        post(client, first="b", second="a", label="first")
        post(client, labeller="bob", label="tie")
        found = client.get("/api/labels").json()["labels"]
        assert [(label["labeller"], label["chosen"]) for label in found] == [("ann", "b"), ("bob", None)]
        assert len((root / "labels.jsonl").read_text().splitlines()) == 3

    def test_labels_of_another_process_and_torn_or_foreign_lines(self, small):
        root, client = small
        post(client)
        path = root / "labels.jsonl"
        other = json.loads(path.read_text()) | {"labeller": "bob"}
        append(path, f'{json.dumps(other)}\n{{"labeller": "x"}}\n[]\n{{"time": "to')
        assert [label["labeller"] for label in client.get("/api/labels").json()["labels"]] == ["ann", "bob"]
        post(client, labeller="cy")
        assert [label["labeller"] for label in client.get("/api/labels").json()["labels"]] == ["ann", "bob", "cy"]
        assert '"to' not in path.read_text()

    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            ({"conversation": "elsewhere"}, 404, "elsewhere"),
            ({"first": "z"}, 400, "no reply 'z'"),
            ({"first": "u1"}, 400, "no reply 'u1'"),
            ({"second": "a"}, 400, "not two replies"),
            ({"second": "c"}, 400, "not two replies"),
            ({"label": "third"}, 400, "third"),
            ({"labeller": "  "}, 400, "labeller"),
            ({"labeller": "x" * 61}, 400, "60"),
            ({"labeller": "a\nb"}, 400, "printable"),
            ({"blind": 1}, 400, "blind"),
            ({"first": ["a"]}, 400, "first"),
            ({"path": "../../x"}, 400, "path"),
        ],
    )
    def test_wrong_labels_are_refused_and_nothing_is_written(self, small, body, status, said):
        root, client = small
        answer = post(client, **body)
        assert answer.status_code == status
        assert said in answer.json()["error"]
        assert not (root / "labels.jsonl").exists()

    @pytest.mark.parametrize(("content", "status"), [("{", 400), ("[1]", 400), ('"' + "x" * 70_000 + '"', 413)])
    def test_body_that_is_no_label(self, small, content, status):
        headers = {**ORIGIN, "Content-Type": "application/json"}
        assert small[1].post("/api/labels", content=content, headers=headers).status_code == status

    def test_label_that_cannot_be_written_says_so(self, small):
        root, _ = small
        (root / "labels.jsonl").mkdir()
        answer = post(TestClient(make_app(root), base_url=HOME, raise_server_exceptions=False))
        assert answer.status_code == 507
        assert "was not written" in answer.json()["error"]

    def test_judge_s_word_on_a_pair(self):
        tree = small_tree()
        nodes = {node["id"]: node for node in tree["nodes"]}
        assert judgement(tree, nodes["a"], nodes["b"]) == ("j", "first", 0.5)
        assert judgement(tree, nodes["b"], nodes["a"]) == ("j", "second", 0.5)
        assert judgement(tree, nodes["c"], nodes["d"]) == ("j", "tie", None)  # scored both, preferred neither
        assert judgement(tree, nodes["c"], nodes["e"]) == (None, None, None)
        tree["preferences"][0]["margin"] = -0.25  # p under a half: the judge prefers what is called rejected
        assert judgement(tree, nodes["a"], nodes["b"]) == ("j", "second", 0.25)


def said(labeller, pair, choice, judge, blind=False):
    """A label of the pair (a, b) of conversation `pair`."""
    return Label("", str(pair), "u", "a", "b", choice, None, None, labeller, blind, "j", judge, None)


class TestAgreement:
    def test_kappa_by_hand(self):
        """The docstring's example: agreement 3/5, chance 8/25, kappa 7/17; the same from a table of both orders.

        In both orders there are ten items. Rows (one), columns (other), of first, second, tie: the diagonal has
        first-first 2, second-second 2, tie-tie 2, so 6/10 agree. One says first 3, second 3, tie 4 times; the other
        first 4, second 4, tie 2 times: chance = (12 + 12 + 8) / 100 = 8/25.
        """
        pairs = [("first", "first"), ("first", "first"), ("second", "first"), ("tie", "second"), ("tie", "tie")]
        found = kappa(pairs)
        assert (found.n, found.agreement) == (5, 0.6)
        assert found.kappa == pytest.approx(7 / 17)

    def test_kappa_does_not_depend_on_which_reply_is_called_the_first(self):
        """Three labels for the hinted reply, one against the judge: 3/4 agree, chance 1/2, kappa 1/2 in any order."""
        turned = {"first": "second", "second": "first"}
        pairs = [("first", "first"), ("first", "first"), ("first", "first"), ("second", "first")]
        mixed = [pairs[0], tuple(map(turned.get, pairs[1])), pairs[2], tuple(map(turned.get, pairs[3]))]
        assert kappa(pairs).kappa == kappa(mixed).kappa == 0.5
        assert kappa(pairs[:3]).kappa == 1.0

    @pytest.mark.parametrize(
        ("pairs", "n", "agreement"),
        [([], 0, None), ([("first", "first")], 1, 1.0), ([("tie", "tie"), ("tie", "tie")], 2, 1.0)],
    )
    def test_no_kappa_under_two_labels_or_where_chance_agrees_always(self, pairs, n, agreement):
        assert vars(kappa(pairs)) == {"n": n, "agreement": agreement, "kappa": None}

    def test_two_labellers_agree_whichever_order_they_saw(self):
        ann = [said("ann", 1, "first", "first"), said("ann", 2, "second", None), said("ann", 3, "tie", None)]
        turned = Label("", "1", "u", "b", "a", "second", None, None, "bob", False, "j", "second", None)
        bob = [turned, said("bob", 2, "first", None)]
        found = between(ann, bob)
        assert (found.n, found.agreement, found.kappa) == (2, 0.5, 0.0)

    def test_report_has_all_labellers_and_leaves_unjudged_pairs_out(self):
        labels = [
            said("ann", 1, "first", "first", blind=True),
            said("ann", 2, "first", "second"),
            said("ann", 3, "first", None),
            said("bob", 1, "first", "first"),
        ]
        found = report(labels)
        assert found["judge"] == {"n": 3, "agreement": pytest.approx(2 / 3), "kappa": pytest.approx(1 / 3)}
        assert found["blind"] == {"n": 1, "agreement": 1.0, "kappa": None}
        assert found["labellers"]["ann"] == {"n": 2, "agreement": 0.5, "kappa": 0.0}
        assert found["between"] == [{"labellers": ["ann", "bob"], "n": 1, "agreement": 1.0, "kappa": None}]

    def test_over_http(self, small):
        client = small[1]
        post(client, label="first")
        assert client.get("/api/agreement").json()["judge"] == {"n": 1, "agreement": 1.0, "kappa": None}
        post(client, first="c", second="d", label="first")
        # the judge called the second pair a tie: chance 0 * 1/2 + 1 * 1/2 / 2 = 1/4
        found = client.get("/api/agreement").json()["judge"]
        assert found == {"n": 2, "agreement": 0.5, "kappa": pytest.approx(1 / 3)}

    def test_label_request_turns_into_the_pair_that_was_shown(self):
        body = {"conversation": "t", "first": "d", "second": "c", "label": "tie", "labeller": " ann "}
        made = label(LabelRequest.of(body), small_tree())
        assert (made.labeller, made.parent, made.chosen, made.judge_label) == ("ann", "u2", None, "tie")
        assert made.pair == ("t", "c", "d")


class TestGuard:
    @pytest.mark.parametrize("path", ["/", "/api/index", "/api/tree?line=1", "/api/labels", "/nothing"])
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
    )
    def test_foreign_names_are_refused(self, client, path, host):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "trees" not in answer.text

    @pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000"])
    def test_names_of_this_machine_are_answered(self, client, host):
        assert client.get("/api/index", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://127.0.0.1:9000", "https://127.0.0.1:8000"]
    )
    def test_other_origins_are_refused(self, small, origin):
        root, client = small
        assert client.get("/api/index", headers={"Origin": origin}).status_code == 403
        assert post(client, headers={"Origin": origin}).status_code == 403
        assert not (root / "labels.jsonl").exists()

    def test_post_needs_an_origin_and_json(self, small):
        root, client = small
        assert post(client, headers={}).status_code == 403
        body = json.dumps({"conversation": "t", "first": "a", "second": "b", "label": "tie", "labeller": "x"})
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
            answer = client.post("/api/labels", content=body, headers={**ORIGIN, "Content-Type": kind})
            assert answer.status_code == 415
        assert not (root / "labels.jsonl").exists()

    @pytest.mark.parametrize("path", ["/", "/api/index", "/nothing", "/api/tree?line=x"])
    def test_every_response_forbids_what_it_does_not_need(self, client, path):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers

    def test_page_loads_nothing_from_elsewhere(self, client):
        page = client.get("/").text
        assert "http://www.w3.org/2000/svg" in page  # a name, not an address that is loaded
        assert page.count("://") == 1
        assert " src=" not in page
        assert "innerHTML" not in page

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_other_methods(self, client, method):
        assert client.request(method, "/api/labels", json={}, headers=ORIGIN).status_code == 405

    def test_nothing_but_labels_is_written_and_nothing_outside_is_read(self, client, run):
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        for path in ("/api/../../etc/passwd", "/..%2f..%2fetc/passwd", "/personas/personas.jsonl"):
            assert client.get(path).status_code == 404
        client.get("/api/index")
        client.get("/api/agreement")
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


class TestView:
    def test_serves_until_a_signal(self, run):
        found = []

        def announce(sentence):
            def ask():
                address = sentence.split(" at ")[1].split(";")[0]
                with urllib.request.urlopen(f"{address}/api/index", timeout=10) as answer:
                    found.append(len(json.load(answer)["trees"]))
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=ask).start()

        view(run, announce=announce)
        assert found == [6]

    def test_other_machines_are_not_served(self, run):
        with pytest.raises(InputError, match=r"0\.0\.0\.0.*ssh -L"):
            view(run, host="0.0.0.0")
