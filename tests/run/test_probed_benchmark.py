"""The benchmark with a model behind a server: follow-up questions probed later on, and the other simulator."""

import json

from etils import epath

from aloe_jax.serve.client import client
from aloe_jax.tree.schema import read_trees
from data_gen.seeds import stable_seed
from data_gen.text import normal
from data_gen.world.simulators import A, B
from data_gen.world.user import write_message
from eval.benchmark.dialogues import spoken
from eval.benchmark.hacking import read_hacking
from eval.report.findings import FOLLOW_UP, behaviour
from eval.report.reading import read_result
from helpers.fake_server import FakeServer, running

SETTINGS = {
    "personas.benchmark_profiles": 2,
    "personas.benchmark_personalities": 2,
    "benchmark.turns": 3,
    "benchmark.resamples": 20,
    "benchmark.controls": "('far+other_simulator',)",
}


class Curious(FakeServer):
    """Asks about the last word of the last message."""

    def choice(self, asked, index):
        found = super().choice(asked, index)
        found["message"]["content"] = f"What of {asked['messages'][-1]['content'].split()[-1]}?"
        found.pop("logprobs", None)
        return found


def test_a_finished_benchmark_is_probed(aloe, tmp_path, monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv("ALOE_API_KEY", raising=False)
    folder, server = tmp_path / "run/benchmark", Curious()
    with running(server) as url:
        given = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
        given += [f"--workdir={tmp_path / 'run'}", f"--config.benchmark.models=('far={url}#fake-1',)"]

        def run(*more):
            code, _, errors = aloe("run", "--config=demo:debug", "--stages=personas,benchmark", *given, *more)
            assert code == 0, errors
            return server.paid.total()

        before = run()
        trees = {name: list(read_trees(folder / name / "trees.jsonl")) for name in ("far", "far+other_simulator")}
        assert read_hacking(epath.Path(folder / "far")) is None
        after = run("--config.benchmark.hacking=True")
        assert list(read_trees(folder / "far/trees.jsonl")) == trees["far"]  # nothing was played again
        found = read_hacking(epath.Path(folder / "far"))
        assert (found.cases, len(found.follow_ups)) == (4, 8)  # two of three questions per case are answered
        assert 16 <= after - before <= 24  # two replies each, and the probe of the server
        assert run("--config.benchmark.hacking=True") == after
    for each in found.follow_ups:
        assert each.reply == f"What of {each.answer.split()[-1]}?"
        assert each.changed == (normal(each.answer.split()[-1]) != normal(each.other_answer.split()[-1]))
    assert read_hacking(epath.Path(folder / "far+other_simulator")) is None
    assert behaviour(read_result(epath.Path(folder / "far")))[FOLLOW_UP].value > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    for name, simulator in (("far", A), ("far+other_simulator", B)):
        for tree in trees[name]:
            opening = write_message(tree.persona, [], stable_seed(0, "benchmark user"), simulator)
            assert spoken(tree)[0].content == opening
