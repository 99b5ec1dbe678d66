"""Measures `general.json` of a model of a run: its parameters are loaded onto `config.mesh`, and plain dialogues run
through them once."""

from __future__ import annotations

from aloe_jax import files, memory
from aloe_jax.run.model import chat_model, mesh_of
from aloe_jax.run.stage import Run
from aloe_jax.train.forward import Compute
from aloe_jax.train.score import checked, score_trees
from aloe_jax.train.sources import find_model
from aloe_jax.tree.trie import build_trie
from eval.benchmark.general import General, PlainDialogue, general
from eval.benchmark.plain_chat import DIALOGUES, plain_dialogues


def texts_hash() -> str:
    """The hash of the texts of the plain dialogues."""
    return files.sha256(files.canonical(DIALOGUES))[:16]


def measure_general(run: Run, name: str) -> General:
    """The figures of the model `name` (as `find_model` takes it). Raises InputError for a model that cannot be loaded,
    or whose log-probabilities are no numbers."""
    source, mesh = find_model(run, name), mesh_of(run)
    config, chat = chat_model(run, source.folder)
    trees = plain_dialogues()
    tries = [build_trie(tree, chat, config.context, "error") for tree in trees]
    params = source.load(mesh, config, run.progress.line)
    sums: dict[str, list[float]] = {tree.id: [0.0, 0] for tree in trees}
    for score in checked(score_trees(params, config, trees, tries, Compute(dtype="float32"), mesh=mesh), name):
        sums[score.conversation][0] -= score.log_prob
        sums[score.conversation][1] += score.tokens
    del params
    memory.release()
    found = [PlainDialogue(id=case, nats=nats, tokens=int(tokens)) for case, (nats, tokens) in sums.items()]
    return general(found, texts_hash())
