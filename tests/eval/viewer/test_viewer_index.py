"""The viewer's index of a run directory, and the trees that it serves."""

import json

import pytest
from starlette.testclient import TestClient

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import read_trees
from eval.viewer import make_app
from eval.viewer.index import TreeIndex
from helpers import viewer_trees
from helpers.viewer_client import HOME, append, post, small_tree, trees_file


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
