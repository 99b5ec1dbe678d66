"""A run's conversations as a data set in the Hugging Face layout: parquet files and a card that says how they came
about and what they cannot carry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats.convert import PERSONA_SCHEMA, TREES_SCHEMA, write_parquet
from aloe_jax.hub.folders import new_folder
from aloe_jax.tree.schema import Conversation, read_personas, read_trees
from data_gen.game.stage import HELD_OUT, PERSONAS, TREES
from data_gen.players.player import GAME
from data_gen.players.prompts import load_prompt
from data_gen.publish.summary import family_sentence, growth_sentences, judge_sentences
from data_gen.text import word_grams, words

CARD = "README.md"
CONVERSATIONS, TRAIN, BENCHMARK = "data/train.parquet", "personas/train.parquet", "personas/benchmark.parquet"
INTRODUCTION = """# Preference conversations with simulated users

Conversation trees after ALOE (arXiv 2410.03642): a simulated user with a persona talks with a model, each turn has
several candidate replies, and a judge says which of two the user prefers. Made with aloe_jax."""
USE = """## Use

Train on it with aloe_jax:

```sh
aloe run --config=CONFIG.py --workdir=DIR --stages=dataset,sft,preference \\
  --config.dataset.sources.trees.path=FOLDER/data/train.parquet
```

A row is one tree: `nodes` (parents before children), `preferences` between siblings with `margin` = 2p - 1, p the
judge's probability over both orders, and `path`, the continued one."""


def publish(workdir: str, out: str) -> list[str]:
    """Write the data set of a run directory to the folder `out`; returns what was written, in lines.

    Raises InputError if the run's conversations are not finished or `out` is not empty.
    """
    source, target = Path(workdir), Path(out)
    manifest_file = source / "conversations" / "manifest.json"
    if not manifest_file.exists() or (manifest := files.read_json(manifest_file))["status"] != "finished":
        raise InputError(
            f"'{workdir}' is a directory without finished conversations; name a run's --workdir, or a file"
        )
    with new_folder(target) as folder:
        diversity = Diversity()
        trees = diversity.seen(read_trees(source / "conversations" / TREES))
        written = {CONVERSATIONS: write_parquet(folder / CONVERSATIONS, trees, TREES_SCHEMA)}
        for name, path in ((TRAIN, PERSONAS), (BENCHMARK, HELD_OUT)):
            written[name] = write_parquet(folder / name, read_personas(source / "personas" / path), PERSONA_SCHEMA)
        pool = source / "personas" / "pool.json"
        report = files.read_json(pool) if pool.exists() else {}
        config = files.read_json(source / "config.json")
        files.write_text(folder / CARD, card(config, manifest, report, written, diversity))
    return [f"{target / name}: {count:,} rows" for name, count in written.items()] + [str(target / CARD)]


class Diversity:
    """Counts over texts that pass by."""

    def __init__(self) -> None:
        self.replies = self.reply_words = 0
        self.grams: dict[str, set[tuple[str, ...]]] = {"user": set(), "assistant": set()}
        self.totals: Counter[str] = Counter()

    def seen(self, trees: Iterable[Conversation]) -> Iterable[Conversation]:
        """The trees, counted as they are taken."""
        for tree in trees:
            for node in tree.nodes:
                if node.role in self.grams:
                    pairs = word_grams(node.text, 2)
                    self.grams[node.role].update(pairs)
                    self.totals[node.role] += len(pairs)
                if node.role == "assistant":
                    self.replies += 1
                    self.reply_words += len(words(node.text))
            yield tree

    def distinct(self, role: str) -> float | None:
        """Different pairs of neighbouring words over all of them (distinct-2, arXiv 1510.03055)."""
        return len(self.grams[role]) / self.totals[role] if self.totals[role] else None


def card(
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    pool: Mapping[str, Any],
    written: Mapping[str, int],
    diversity: Diversity,
) -> str:
    """The card as markdown."""
    counts = manifest["counts"]
    filters = growth_sentences(counts) or ["The trees were taken from a file."]
    parts = [
        _metadata(),
        INTRODUCTION,
        _counts(counts, written),
        _who(config),
        "## Filters\n\n" + " ".join(filters),
        _diversity(diversity),
        _pool(pool),
        _limits(config, counts),
        USE,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _metadata() -> str:
    names = (("conversations", CONVERSATIONS), ("personas", TRAIN), ("benchmark_personas", BENCHMARK))
    rows = ["---", "tags: [preference-alignment, aloe, synthetic]", "configs:"]
    for name, path in names:
        rows += [f"- config_name: {name}", f"  data_files: {json.dumps(path)}"]
    return "\n".join([*rows, "---"])


def _counts(counts: Mapping[str, Any], written: Mapping[str, int]) -> str:
    rows = {
        "conversation trees": counts["trees"],
        "replies": counts["replies"],
        "preference pairs": counts["preferences"],
        "training personas": written[TRAIN],
        "held-out personas": written[BENCHMARK],
    }
    table = "\n".join(f"| {name} | {number:,} |" for name, number in rows.items())
    return f"## Counts\n\n| | |\n|---|---|\n{table}"


def _who(config: Mapping[str, Any]) -> str:
    """Models and templates by role; addresses and keys are nobody's business."""
    rows = []
    for role in GAME:
        section = config["roles"][role]
        if section["player"] == "model":
            model = section["model"] or config["serve"]["model"] or config["model"]["source"]
            prompt = load_prompt(role, section["template"])
            rows.append(
                f"| {role} | {model} | {Path(prompt.name).name} ({prompt.hash[:12]}) | {section['temperature']} |"
            )
        else:
            rows.append(f"| {role} | scripted | | |")
    return "## Who played\n\n| role | model | template | temperature |\n|---|---|---|---|\n" + "\n".join(rows)


def _diversity(found: Diversity) -> str:
    said = [f"A reply has {found.reply_words / max(1, found.replies):.1f} words on average."]
    for role, name in (("user", "user messages"), ("assistant", "replies")):
        if (share := found.distinct(role)) is not None:
            said.append(f"Of all pairs of neighbouring words in {name}, {share:.0%} are different ones (distinct-2).")
    return "## Diversity\n\n" + " ".join(said)


def _pool(pool: Mapping[str, Any]) -> str:
    """Filters of the persona pool and how far the held-out ones are from the others."""
    if not pool:
        return "## Personas\n\nScripted: train and held-out personas share no fact and no combination of styles."
    said = []
    for name in ("profiles", "personalities"):
        part = pool[name]
        dropped = ", ".join(f"{reason} {number:,}" for reason, number in part["rejects"].items()) or "none"
        nearest = (
            f"cosine of {part['nearest'].get('q50', 0):.2f} in the median, {part['nearest'].get('max', 0):.2f} at most"
        )
        said.append(
            f"- {name}: {part['entries']:,} ({part['origins']['seed']} by hand), nearest neighbour at a {nearest} "
            f"(threshold {part['threshold']:.2f}); proposals dropped: {dropped}; growth ended: {part['stopped']}"
        )
        if found := pool["contamination"].get(name):
            cosines = found["cosine"]["distribution"]
            said.append(
                f"- held-out {name}: {found['grams_13']['overlapping']} of {found['benchmark']} share a run of 13 "
                f"words with training, {found['grams_8']['overlapping']} a run of 8; nearest training one at a cosine "
                f"of {cosines['q50']:.2f} in the median, {cosines['max']:.2f} at most"
            )
    return "## Personas\n\n" + "\n".join(said)


def _limits(config: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    said = [
        "Users, judgements and replies are made by programs; they show how such programs talk, not how people do.",
        *judge_sentences(counts),
    ]
    if (warning := family_sentence(config)) is not None:
        said.append(f"Note: {warning}.")
    if config["roles"]["judge"]["player"] == "scripted":
        said.append("The judge is scripted: it checks ten kinds of style and named facts, and nothing else.")
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in said)
