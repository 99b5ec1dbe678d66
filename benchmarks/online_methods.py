"""Which method of on-policy training aligns best, at equal budgets of sampled tokens?

    uv run aloe run --config=configs/world.py:twin --workdir=runs/twin \
        --stages=personas,conversations,dataset,sft,preference
    uv run python benchmarks/online_methods.py --run=runs/twin --out=runs/methods --budget=1000000

Each METHOD (or METHOD:OBJECTIVE) trains from the SFT model of `--run` once per seed, which decides its users and its
draws, until its rounds have sampled `--budget` tokens. Then all policies, the SFT model and, where there is one, the
model of the stage `preference` talk with the same held-out users. Tables, in `OUT/table.md` too: what a method cost,
and by how much the mean over its seeds is above either model, with intervals over users (paired; `eval/benchmark`).

Killed, the same command goes on. So it does after exit 75: a signal or a server stopped a run, or an alarm of the
judge did, which is to be mended. A run that another alarm ends is measured at its last checkpoint and marked. What
follows `--` goes to all runs, such as `--config.online.rollout.turns=10 --config.benchmark.turns=10`, which also shows
the decay after turn 5. docs/online.md has the results.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from etils import epath

from aloe_jax import files
from aloe_jax.run.stage import CONFIG
from aloe_jax.train.metrics_log import METRICS, Record, read_metrics
from aloe_jax.train.objectives import OBJECTIVES
from aloe_jax.train.objectives.settings import ObjectiveSettings
from data_gen.online.alarm import alarmed
from data_gen.online.methods import METHODS
from data_gen.online.round_settings import AlarmSettings
from data_gen.world.judge import assess
from eval.benchmark.measures import PEAK, decay
from eval.benchmark.paired import Difference, paired_difference
from eval.benchmark.scores import Scale, ScoreTable, score_table
from eval.report.findings import SCALES, behaviour, said
from eval.report.reading import ModelResult, read_result

ALOE = Path(sys.executable).with_name("aloe")
SFT, BOTH = "SFT", "SFT-DPO"  # names of the models that all are compared with
STOPPED = 75
BETA = 0.1  # of objectives of pairs, as in the world's preference training
MANY = 10_000  # rounds, where the budget ends them


@dataclass(frozen=True)
class Trained:
    """A method with its objective, and a seed."""

    method: str
    objective: str
    seed: int

    @property
    def label(self) -> str:
        return self.method if self.objective == usual(self.method) else f"{self.method}.{self.objective}"

    @property
    def name(self) -> str:
        return f"{self.label}-{self.seed}"

    def settings(self) -> Iterator[str]:
        """What its run sets otherwise than the config. Settings that the objective does not read are the defaults."""
        reads = OBJECTIVES[self.objective].reads
        yield f"--config.seed={self.seed}"
        yield f"--config.online.method={self.method}"
        yield f"--config.online.objective={self.objective}"
        yield from (
            f"--config.online.{each.name}={each.default}"
            for each in fields(ObjectiveSettings)
            if each.name == "kl_weight" and each.name not in reads
        )
        if "beta" in reads:
            yield f"--config.online.beta={BETA}"


def usual(method: str) -> str:
    """The objective that a method has unless said otherwise."""
    known = METHODS[method].objectives
    return "policy_gradient" if "policy_gradient" in known else known[0]


def aloe(*arguments: str, workdir: Path | None = None) -> bool:
    """Run a command of aloe; whether it ran to its end. Where an alarm ended the rounds in `workdir` it did not; any
    other failure ends the benchmark with the same exit status, so after 75 the same command goes on."""
    code = subprocess.run([str(ALOE), *arguments]).returncode
    if code == STOPPED and workdir is not None and alarmed_in(workdir):
        return False
    if code:
        sys.exit(code)
    return True


def alarmed_in(workdir: Path) -> bool:
    """Whether the last round of a run sets off an alarm of its config. Those of the judge come before a round's line,
    and do not end rounds: once it is mended they go on."""
    records = read_metrics(epath.Path(workdir / "online" / METRICS))
    settings = AlarmSettings(**files.read_object(workdir / CONFIG)["online"]["alarm"])
    return bool(records) and alarmed(records, settings) is not None


class Comparison:
    """The runs of all methods and seeds in the folder `out`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        self.shared, self.common = Path(options.run).absolute(), [f"--config={options.config}"]
        self.trained = [
            Trained(method, objective or usual(method), seed)
            for seed in range(options.seeds)
            for method, _, objective in (each.partition(":") for each in options.methods.split(","))
        ]

    def train(self, one: Trained) -> None:
        """Train one policy and export it, unless that is done."""
        workdir = self.out / one.name
        if self.policy(one).exists():
            return
        options = self.options
        sizes = {"rounds": options.rounds or MANY, "budget": options.budget, "trees": options.trees}
        finished = aloe(
            "run", *self.common, f"--workdir={workdir}", "--stages=personas,online",
            f"--config.online.start={self.shared / 'sft'}", f"--config.online.reference={self.shared / 'sft'}",
            "--config.online.schedule=constant", "--config.online.keep_trees=1", *one.settings(),
            *(f"--config.online.{name}={size}" for name, size in sizes.items() if size), *options.more,
            workdir=workdir,
        )  # fmt: skip
        unfinished = [] if finished else ["--unfinished"]
        aloe("export", str(workdir / "online"), f"--out={self.policy(one)}", *unfinished)

    def measure(self) -> dict[str, ModelResult]:
        """The results of all models on the held-out users, by name."""
        models = {SFT: self.shared / "sft"}
        if (self.shared / "preference").exists():
            models[BOTH] = self.shared / "preference"
        models |= {one.name: self.policy(one) for one in self.trained}
        named = ",".join(f"'{name}={folder}'" for name, folder in models.items())
        workdir = self.out / "benchmark"
        aloe(
            "run", *self.common, f"--workdir={workdir}", "--stages=personas,benchmark",
            f"--config.benchmark.models=({named},)", "--config.benchmark.controls=()", *self.options.more,
        )  # fmt: skip
        return {name: read_result(epath.Path(workdir / "benchmark" / name)) for name in models}

    def policy(self, one: Trained) -> Path:
        """The folder of an exported policy."""
        return (self.out / "policies" / one.name).absolute()

    def by_method(self) -> dict[str, list[Trained]]:
        """What was trained, by label, one seed after the other."""
        found: dict[str, list[Trained]] = {}
        for one in self.trained:
            found.setdefault(one.label, []).append(one)
        return found


def mean_table(results: Sequence[ModelResult], scale: Scale) -> ScoreTable:
    """The scores of the same users, averaged over results."""
    tables = [score_table(result.scores, scale=scale) for result in results]
    return replace(tables[0], scores=np.mean([table.scores for table in tables], axis=0))


def garbled(result: ModelResult) -> float:
    """The share of replies whose worst fault, as the scripted judge has it, is that they are no running English."""
    faults = []
    for tree in result.trees:
        assert tree.persona is not None
        dialogue = said(tree)
        faults += [
            assess(tree.persona, dialogue[:place], message.content).fault == "garbled"
            for place, message in enumerate(dialogue)
            if message.role == "assistant"
        ]
    return fmean(faults)


def costs(workdir: Path) -> tuple[Record, bool]:
    """Sums over the rounds of a run, and whether it ended by itself."""
    lines = read_metrics(epath.Path(workdir / "online/metrics.jsonl"))
    names = ("sampled_tokens", "judge_calls", "seconds")
    total = {name: sum(line[name] for line in lines) for name in names}
    finished = files.read_object(workdir / "online/manifest.json").get("status") == "finished"
    return {"rounds": float(len(lines)), **total}, finished


def interval(found: Difference | None) -> str:
    """A difference with its interval, in bold if that is clear of zero."""
    if found is None or found.interval is None:
        return ""
    low, high = found.interval
    value = f"{found.estimate:+.3f}"
    return f"{f'**{value}**' if low > 0 or high < 0 else value} [{low:.3f}, {high:.3f}]"


def cost_table(comparison: Comparison) -> Iterator[str]:
    """What a training of each method took, the mean over its seeds."""
    yield "| method | seeds | rounds | sampled tokens | judge calls | seconds |"
    yield "|---|---|---|---|---|---|"
    for label, trained in comparison.by_method().items():
        found = [costs(comparison.out / one.name) for one in trained]
        mean = {name: fmean(cost[name] for cost, _ in found) for name in found[0][0]}
        stopped = sum(not finished for _, finished in found)
        seeds = f"{len(found)}, {stopped} ended by an alarm" if stopped else str(len(found))
        yield (
            f"| `{label}` | {seeds} | {mean['rounds']:.1f} | {mean['sampled_tokens']:,.0f} | "
            f"{mean['judge_calls']:,.0f} | {mean['seconds']:,.0f} |"
        )


def effect_table(comparison: Comparison, results: Mapping[str, ModelResult]) -> Iterator[str]:
    """The mean over each method's seeds beside the models that all are compared with, on both scales."""
    bases = [name for name in (SFT, BOTH) if name in results]
    contrasts = [(scale, base) for base in bases for scale in SCALES]
    late = [scale for scale in SCALES if score_table(results[SFT].scores).scores.shape[1] > PEAK]
    heads = [
        *("model", *(f"`{scale}`" for scale in SCALES), *(f"`{scale}` less {base}" for scale, base in contrasts)),
        *("by seed", *(f"`{scale}` after turn {PEAK}" for scale in late), "repetition", "words", "garbled"),
    ]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    rows = {name: [results[name]] for name in bases}
    rows |= {f"`{label}`": [results[one.name] for one in each] for label, each in comparison.by_method().items()}
    for label, found in rows.items():
        means = {scale: mean_table(found, scale) for scale in SCALES}
        cells = [label, *(f"{np.nanmean(means[scale].scores):.3f}" for scale in SCALES)]
        for scale, base in contrasts:
            known = label in bases and bases.index(label) <= bases.index(base)
            cells.append("" if known else interval(difference(means[scale], mean_table([results[base]], scale))))
        shown = [difference(score_table(one.scores), score_table(results[SFT].scores)) for one in found]
        cells.append("" if label in bases else ", ".join(f"{each.estimate:+.2f}" for each in shown if each))
        for scale in late:
            made = decay(means[scale])
            ends = made.interval() if made else None
            cells.append(f"{made.value:+.3f} [{ends[0]:.3f}, {ends[1]:.3f}]" if made and ends else "")
        measured = [behaviour(one) for one in found]
        cells += [f"{fmean(one[name].value for one in measured):.3f}" for name in ("repetition", "words")]
        cells.append(f"{fmean(garbled(one) for one in found):.3f}")
        yield f"| {' | '.join(cells)} |"


def difference(first: ScoreTable, second: ScoreTable) -> Difference | None:
    """The paired difference of the mean alignment levels."""
    return paired_difference(first, second).average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="run directory with `sft`, and `preference` to compare with it")
    parser.add_argument("--out", required=True, help="folder of all that is made")
    parser.add_argument("--config", default="configs/world.py:twin", help="of all runs")
    parser.add_argument("--methods", default=",".join(METHODS), help="METHOD or METHOD:OBJECTIVE, with commas between")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each method")
    parser.add_argument("--budget", type=int, default=0, help="sampled tokens of a training; 0: rounds alone end it")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of a training; 0: the budget alone ends it")
    parser.add_argument("--trees", type=int, default=0, help="trees per round; 0: as the config has it")
    parser.add_argument("more", nargs="*", help="after --: settings of all runs")
    options = parser.parse_args()
    if not (options.budget or options.rounds):
        parser.error("give --budget, --rounds or both")
    if unknown := [each for each in options.methods.split(",") if each.partition(":")[0] not in METHODS]:
        parser.error(f"--methods: {unknown[0]} is unknown; choose from {', '.join(METHODS)}")
    comparison = Comparison(options)
    for one in comparison.trained:
        comparison.train(one)
    results = comparison.measure()
    lines = [*cost_table(comparison), "", *effect_table(comparison, results)]
    files.write_text(comparison.out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
