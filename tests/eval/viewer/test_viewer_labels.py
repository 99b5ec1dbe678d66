"""Labels of pairs of replies, and their agreement with the judge and with each other."""

import json

import pytest
from starlette.testclient import TestClient

from data_gen.agreement import kappa
from eval.viewer import make_app
from eval.viewer.agreement import between, report
from eval.viewer.labels import Label, LabelRequest, judgement, label
from helpers.viewer_client import HOME, ORIGIN, append, post, small_tree


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
