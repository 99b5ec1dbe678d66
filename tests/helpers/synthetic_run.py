"""A run directory as the stages would leave it, with made-up numbers and texts, for the report's tests.

`PYTHONPATH=.:tests python tests/helpers/synthetic_run.py DIR` writes one with its report, to look at.
"""

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np

from aloe_jax import files
from aloe_jax.cli.arguments import STAGES
from aloe_jax.inspect.statistics import STATISTICS, StatisticsOf
from aloe_jax.tree.fragments import fragments
from aloe_jax.tree.row import Capacity
from aloe_jax.tree.schema import Belief, Conversation, Item, Node, Persona, Preference, Score, write_records
from aloe_jax.tree.trie import build_trie
from eval.benchmark.belief import BeliefCounts, Change
from eval.benchmark.metrics import metrics
from eval.benchmark.scores import ScoreRecord
from eval.report import write_report
from helpers.tree_samples import chat_format

CONFIG = {
    "model": {"source": "embedded:smollm2"},
    "seed": 0,
    "conversations": {"trees": 12, "turns": 3, "mix": {"hinted": 2, "plain": 1}},
    "roles": {
        "teacher": {"player": "scripted"},
        "responder": {"player": "model", "temperature": 0.9, "max_tokens": 32},
        "judge": {"player": "scripted"},
    },
    "sft": {"objective": "sft", "learning_rate": 2e-5, "epochs": 1},
    "preference": {"objective": "dpo", "learning_rate": 5e-6, "beta": 0.1, "epochs": 1},
    "benchmark": {"models": ["base", "sft", "preference"], "turns": 3, "max_tokens": 32, "resamples": 2000},
}
COUNTS = {
    "personas": {"train": 12, "benchmark": 6},
    "conversations": {"trees": 12, "replies": 108, "preferences": 72, "dropped": {"empty": 2, "never_compared": 13}},
    "dataset": {"conversations": 12, "tree_tokens": 8123, "sharing": 4.6, "turns_cut": 0},
    "sft": {"steps": 18, "parameters": 134515008, "row_fill": 0.81},
    "preference": {"steps": 12, "parameters": 134515008, "row_fill": 0.78},
    "benchmark": {"cases": 6, "turns": 3},
    "export": {"parameters": 134515008},
}
SECONDS = (0.4, 71.2, 3.1, 104.9, 141.3, 96.0, 4.2)
MESSAGES = (
    "finally home. the kiln took all day again and my hands are grey",
    "ha, kind of. mira says i should sell the bowls on saturdays but i hate haggling",
    "ok so what would you do with forty of them stacked in a hallway",
)
REPLIES = (
    (
        "Grey hands, good day. What came out of the kiln?",
        "That sounds tiring! I am here to help you with anything you need. Kilns are ovens used for firing pottery!",
        "oh nice, a full firing? give the hands some oil and tell me which glaze won",
    ),
    (
        "fixed prices on a card, no haggling. does mira mind doing the talking?",
        "Selling bowls is a great way to earn money! You should consider selling them at a market on Saturdays.",
        "As a language model, I cannot sell bowls, but I can help you to sell bowls.",
    ),
    (
        "lend ten to the café downstairs, the rest in crates under the bench. which ten do you like least?",
        "You could stack them.",
        "Forty bowls is a lot of bowls! You should put the bowls in the kitchen or in the living room or in the",
    ),
)
PERSONA = Persona(
    id="potter-brief",
    profile="potter",
    personality="brief",
    facts=(Item(id="f1", text="Fires bowls in a kiln at home."), Item(id="f2", text="Has a sister called Mira.")),
    traits=(Item(id="t1", text="Writes in lower case."), Item(id="t2", text="Likes at most two sentences.")),
)
REVEALED = (("f1", "t1"), ("f2",), ("t2",))


def training_tree(number, rng, turns=3, candidates=3):
    """A tree that continues a random candidate each turn, as those of the stage `conversations` do."""
    nodes, preferences, path, parent = [], [], [], None
    for turn in range(turns):
        user = f"u{turn}"
        belief = tuple(Belief(id=item, node=f"u{k}") for k in range(turn + 1) for item in REVEALED[k])
        nodes.append(Node(id=user, parent=parent, role="user", text=MESSAGES[turn], belief=belief))
        values = [4.5 - turn * 0.2, *rng.choice([1.5, 2.0, 3.0, 3.5], size=candidates - 1)]
        for k in range(candidates):
            scores = (
                Score(judge="scripted", criterion="overall", value=values[k]),
                Score(judge="scripted", criterion="short", value=1.0 if k == 0 else 0.0),
                Score(judge="scripted", criterion="content", value=values[k] / 5),
            )
            flags = ("truncated",) if REPLIES[turn][k].endswith("in the") else ()
            condition = "hinted" if k != 1 else "plain"
            ids = tuple(range(32 if flags else 20))
            text = REPLIES[turn][k]
            nodes.append(
                Node(
                    id=f"a{turn}.{k}",
                    parent=user,
                    role="assistant",
                    text=text,
                    condition=condition,
                    scores=scores,
                    flags=flags,
                    token_ids=ids,
                )
            )
        preferences += [Preference(chosen=f"a{turn}.0", rejected=f"a{turn}.{k}") for k in range(1, candidates)]
        parent = f"a{turn}.{int(rng.integers(candidates))}"
        path += [user, parent]
    return Conversation(
        id=f"train-{number:03d}",
        persona=PERSONA,
        nodes=tuple(nodes),
        preferences=tuple(preferences),
        path=tuple(path),
    )


def case_tree(case, persona, scores, which):
    """An evaluation dialogue: a path whose replies carry the judge's score."""
    nodes, parent = [], None
    for turn, score in enumerate(scores):
        nodes.append(Node(id=f"u{turn}", parent=parent, role="user", text=MESSAGES[turn % 3]))
        nodes.append(
            Node(
                id=f"a{turn}",
                parent=f"u{turn}",
                role="assistant",
                text=REPLIES[turn % 3][which],
                scores=(
                    Score(judge="scripted", criterion="overall", value=score),
                    Score(judge="scripted", criterion="persona", value=(1 + score) / 2),
                    Score(judge="scripted", criterion="style", value=score / 5),
                ),
            )
        )
        parent = f"a{turn}"
    return Conversation(id=case, persona=persona, nodes=tuple(nodes), path=tuple(node.id for node in nodes))


def belief(turn, gain, personality):
    """An answer to the probe: of two more items each turn a share that rises with `gain` is named, and one claim is
    wrong. Users of the first personality change a preference in turn 2, which the better models notice a turn later."""
    shown = 2 * turn
    right = min(shown, round((0.3 + gain) * shown))
    pairs = tuple((0.9 - 0.1 * number, number < right) for number in range(right + 1))
    since = turn - 2
    noticed = since >= 1 and gain > 0
    change = Change(since=since, shown=since >= 0, new=noticed, old=not noticed) if since >= 0 else None
    return BeliefCounts(
        claims=right + 1,
        right=right,
        unfounded=1,
        shown=shown,
        probabilities=pairs if gain else (),
        change=change if personality == 0 else None,
    )


def write_benchmark(directory, gain, which, rng, profiles, personalities, turns, start=2.0, seed=0):
    """Write the files of a result whose scores start at `start` and rise by `gain` per turn. The score on the scale
    `persona` is the mean of 1 and the other one."""
    records, trees = [], []
    ease = np.random.default_rng(11).normal(scale=0.4, size=(profiles, personalities))  # shared by all models
    for p in range(profiles):
        for q in range(personalities):
            case, persona = f"p{p}-q{q}", PERSONA.model_copy(update={"profile": f"p{p}", "personality": f"q{q}"})
            means = start + ease[p, q] + gain * np.arange(turns)
            scores = [float(np.clip(round(2 * value) / 2, 1, 5)) for value in means + rng.normal(scale=0.5, size=turns)]
            trees.append(case_tree(case, persona, scores, which))
            records += [
                ScoreRecord(
                    case=case,
                    profile=f"p{p}",
                    personality=f"q{q}",
                    turn=k + 1,
                    score=score,
                    score_persona=(1 + score) / 2,
                    belief=None if "+" in directory.name or directory.name == "oracle" else belief(k + 1, gain, q),
                )
                for k, score in enumerate(scores)
            ]
    records[1] = records[1].model_copy(update={"score": None})
    files.write_lines(directory / "scores.jsonl", (record.model_dump_json() for record in records))
    files.write_lines(directory / "calls.jsonl", [json.dumps({"role": "tested", "tokens": [70, 30]})] * len(records))
    manifest = {"stage": f"benchmark/{directory.name}", "status": "finished", "seconds": 12.5, "seed": seed}
    files.write_json(directory / "manifest.json", manifest | {"counts": {"unscored": {"unreadable verdict": 1}}})
    files.write_json(directory / "metrics.json", metrics(records).model_dump(mode="json"))
    write_records(directory / "trees.jsonl", trees)


def write_statistics(directory, trees):
    """Write the statistics of the data set as the stage `dataset` does."""
    found, chat = StatisticsOf(8192), chat_format("chatml")
    for tree in trees:
        trie = build_trie(tree, chat, 8192)
        found.add(tree, trie, fragments(tree, trie, Capacity(), 0))
    files.write_json(directory / STATISTICS, dataclasses.asdict(found.read()))


def write_run(root, profiles=3, personalities=2, turns=3, steps=18):
    """Write a finished run of the demo's size (or larger) to `root`; equal arguments give equal files."""
    rng = np.random.default_rng(4)
    files.write_json(root / "config.json", CONFIG)
    for (stage, counts), seconds in zip(COUNTS.items(), SECONDS, strict=True):
        manifest = {"stage": stage, "inputs": {}, "config": {}, "versions": {"jax": "0.10.2"}, "seed": 0}
        files.write_json(
            root / stage / "manifest.json", {**manifest, "counts": counts, "seconds": seconds, "status": "finished"}
        )
    write_records(root / "personas/personas.jsonl", [PERSONA])
    write_records(root / "conversations/trees.jsonl", [training_tree(number, rng) for number in range(12)])
    write_statistics(root / "dataset", [training_tree(number, np.random.default_rng(number)) for number in range(12)])
    sft = [{"step": k + 1, "loss": 1.6 + 1.4 * math.exp(-k / 6) + 0.05 * rng.normal()} for k in range(steps)]
    preference = [
        {"step": k + 1, "loss": math.log(2) * 0.97**k, "accuracy": 1 - 0.5 * 0.93**k, "reward_margin": 0.05 * k}
        for k in range(steps * 2 // 3)
    ]
    for stage, rows in (("sft", sft), ("preference", preference)):
        files.write_lines(root / stage / "metrics.jsonl", (json.dumps(row) for row in rows))
    for which, (model, gain) in enumerate((("preference", 0.45), ("base", 0.0), ("sft", 0.2))):
        write_benchmark(root / "benchmark" / model, gain, which, rng, profiles, personalities, turns)
    for name, start in (("oracle", 9.0), ("preference+wrong_persona", 1.5)):  # of the first half of the profiles
        write_benchmark(root / "benchmark" / name, 0.0, 0, rng, (profiles + 1) // 2, personalities, turns, start)
    return root


if __name__ == "__main__":
    run = Path(sys.argv[1])
    write_run(run, *map(int, sys.argv[2:]))
    print(write_report(run, stages=STAGES))
