"""A program of a user of `import aloe_jax as aloe`, which `mypy` checks as with `--strict`. It is not run."""

from typing import assert_type

import aloe_jax as aloe


def replies(source: str, question: str) -> list[aloe.Reply]:
    """Two replies to a question."""
    model = aloe.load(source, slots=8, context=512)
    assert_type(model, aloe.Model)
    [found] = model.generate([[{"role": "user", "content": question}]], n=2, temperature=0.7)
    return found


def preferred(question: str, chosen: aloe.Reply, rejected: aloe.Reply) -> aloe.Conversation:
    """A tree in which one reply is preferred to another one."""
    return aloe.Conversation(
        id="typed",
        nodes=(
            aloe.Node(id="user", parent=None, role="user", text=question),
            chosen.node("chosen", "user"),
            rejected.node("rejected", "user"),
        ),
        preferences=(aloe.Preference(chosen="chosen", rejected="rejected"),),
    )


def trained(trees: list[aloe.Conversation], workdir: str) -> float:
    """The last loss of a preference training from the start model."""
    config = {"model": {"source": "embedded:smollm2"}, "preference": {"start": "base"}}
    run = aloe.train_model(config, workdir, trees=trees, stages=("dataset", "preference"))
    assert_type(run, aloe.Trained)
    scores = run.load().score(trees)
    assert_type(scores, list[aloe.ReplyScore])
    return run.metrics()[-1]["loss"]


def average(path: str) -> float | None:
    """The average alignment level of a file of trees whose nodes have scores of turn 1 alone."""
    trees = aloe.read_trees(path)
    assert_type(aloe.write_trees(path, trees), int)
    scores = [
        {"case": tree.id, "profile": tree.id, "personality": "any", "turn": 1, "score": tree.nodes[-1].value}
        for tree in trees
    ]
    found = aloe.metrics(scores)
    assert_type(found, aloe.Metrics)
    return found.average
