"""A run's conversations as a data set in the Hugging Face layout: parquet files and a card that says how they were made
and what they cannot show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.formats.parquet import PERSONA_SCHEMA, TREES_SCHEMA, write_parquet
from aloe_jax.hub.card import front_matter
from aloe_jax.hub.folders import new_folder
from aloe_jax.run.manifest import check_outputs, find_manifest
from aloe_jax.run.stage import CONFIG
from aloe_jax.tree.schema import Conversation, read_personas, read_trees
from data_gen.personas.contamination import FactorOverlap
from data_gen.personas.pool_report import REPORT, PoolPart, PoolReport
from data_gen.players.settings import RESPONDER
from data_gen.players.table import GAME, load_prompt
from data_gen.publish.stored import StoredCounts, StoredModels
from data_gen.publish.summary import family_sentence, growth_sentences, judge_sentences, kind_sentences
from data_gen.run_files import HELD_OUT, PERSONAS, TREES
from data_gen.text import word_grams, words

CARD = "README.md"
CONVERSATIONS, TRAIN, BENCHMARK = "data/train.parquet", "personas/train.parquet", "personas/benchmark.parquet"
INTRODUCTION = """# Preference conversations with simulated users

Conversation trees after ALOE (arXiv 2410.03642): a simulated user with a persona talks with a model, each turn has
several candidate replies, and a judge decides which of two the user prefers. Made with aloe_jax."""
GIVEN = """# Preference conversations

Conversation trees that were given to a run of aloe_jax, which did not make them: who wrote them, in which language and
under which licence is for whoever publishes them to add here."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))  # the hub's names
USE = """## Use

Train on it with aloe_jax:

```sh
aloe run --config=CONFIG.py --workdir=DIR --stages=dataset,sft,preference \\
  --config.dataset.sources.trees.path=FOLDER/data/train.parquet
```

A row is one tree: `nodes` (parents before children), `preferences` between siblings with `margin` = 2p - 1, where p is
the judge's probability over both orders, and `path`, the ids of the continued path."""


def publish(workdir: str, out: str) -> list[str]:
    """Write the data set of a run directory to the folder `out`; returns one line per file that was written.

    Raises InputError if the run's conversations are not finished or `out` is not empty.
    """
    source, target = Path(workdir), Path(out)
    manifest = find_manifest(source / "conversations")
    if manifest is None or not manifest.finished:
        raise InputError(
            f"'{workdir}' is a directory without finished conversations; name a run's --workdir, or a file"
        )
    check_outputs(source / "conversations", manifest)
    with new_folder(target) as folder:
        diversity = Diversity()
        trees = diversity.seen(read_trees(source / "conversations" / TREES))
        written = {CONVERSATIONS: write_parquet(folder / CONVERSATIONS, trees, TREES_SCHEMA)}
        counts, personas = StoredCounts.of(manifest), ""
        if counts.wanted is not None:  # no persona of the run has to do with trees from a file
            for name, path in ((TRAIN, PERSONAS), (BENCHMARK, HELD_OUT)):
                written[name] = write_parquet(folder / name, read_personas(source / "personas" / path), PERSONA_SCHEMA)
            personas = _personas(source / "personas" / REPORT)
        models = StoredModels.of(files.read_object(source / CONFIG))
        files.write_text(folder / CARD, card(models, counts, personas, written, diversity))
    return [f"{target / name}: {rows:,} rows" for name, rows in written.items()] + [str(target / CARD)]


class Diversity:
    """Counts over the texts of conversations, taken one at a time."""

    def __init__(self) -> None:
        self.replies = self.reply_words = 0
        self.grams: dict[str, set[tuple[str, ...]]] = {"user": set(), "assistant": set()}
        self.totals: Counter[str] = Counter()

    def seen(self, trees: Iterable[Conversation]) -> Iterable[Conversation]:
        """The trees, each counted as it is taken."""
        for tree in trees:
            for node in tree.dialogue:
                if node.role in self.grams:
                    pairs = word_grams(node.text, 2)
                    self.grams[node.role].update(pairs)
                    self.totals[node.role] += len(pairs)
                if node.role == "assistant":
                    self.replies += 1
                    self.reply_words += len(words(node.text))
            yield tree

    def distinct(self, role: str) -> float | None:
        """The share of distinct pairs of neighbouring words (distinct-2, arXiv 1510.03055); None without any pair."""
        return len(self.grams[role]) / self.totals[role] if self.totals[role] else None


def card(
    models: StoredModels,
    counts: StoredCounts,
    personas: str,
    written: Mapping[str, int],
    diversity: Diversity,
) -> str:
    """The card as markdown. `personas` is its section about them, `written` has the rows of each file."""
    if counts.wanted is None:
        parts = [_metadata(counts, written), GIVEN, _counts(counts, written), _diversity(diversity), USE]
    else:
        parts = [
            _metadata(counts, written),
            INTRODUCTION,
            _counts(counts, written),
            _who(models),
            "## Filters\n\n" + " ".join(growth_sentences(counts)),
            _diversity(diversity),
            personas,
            _limits(models, counts),
            USE,
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _metadata(counts: StoredCounts, written: Mapping[str, int]) -> str:
    names = (("conversations", CONVERSATIONS), ("personas", TRAIN), ("benchmark_personas", BENCHMARK))
    tags = ["preference-alignment", "aloe"]
    return front_matter(
        {
            "task_categories": ["text-generation"],
            "size_categories": [next((name for bound, name in SIZES if counts.trees < bound), "n>1M")],
            "tags": tags if counts.wanted is None else [*tags, "synthetic"],
            "configs": [{"config_name": name, "data_files": path} for name, path in names if path in written],
        }
    )


def _counts(counts: StoredCounts, written: Mapping[str, int]) -> str:
    rows = {
        "conversation trees": counts.trees,
        "replies": counts.replies,
        "preference pairs": counts.preferences,
        "training personas": written.get(TRAIN),
        "held-out personas": written.get(BENCHMARK),
    }
    table = "\n".join(f"| {name} | {number:,} |" for name, number in rows.items() if number is not None)
    return "\n\n".join([f"## Counts\n\n| | |\n|---|---|\n{table}", *kind_sentences(counts)])


def _who(models: StoredModels) -> str:
    """Models and templates by role, without addresses and keys, which are private."""
    rows = []
    for name in GAME:
        role = models.roles.get(name)
        if role is not None and role.player == "model":
            prompt = load_prompt(name, role.template, role.preset)
            template = f"{Path(prompt.name).name} ({prompt.hash[:12]})"
            rows += [
                f"| {name} | {model} | {template} | {role.temperature} |"
                for model in (models.model_of(role), *role.panel)
            ]
        elif name == "teacher" and (role is None or role.player == RESPONDER):
            rows.append(f"| {name} | the responder | | |")
        else:
            rows.append(f"| {name} | scripted | | |")
    return "## Who played\n\n| role | model | template | temperature |\n|---|---|---|---|\n" + "\n".join(rows)


def _diversity(found: Diversity) -> str:
    said = [f"A reply has {found.reply_words / max(1, found.replies):.1f} words on average."]
    for role, name in (("user", "user messages"), ("assistant", "replies")):
        if (share := found.distinct(role)) is not None:
            said.append(f"Of all pairs of neighbouring words in {name}, {share:.0%} are distinct (distinct-2).")
    return "## Diversity\n\n" + " ".join(said)


def _personas(path: Path) -> str:
    """How the persona pool was filtered, and how far held-out entries are from the others. InputError for a report of
    other content."""
    if not path.exists():
        return "## Personas\n\nScripted: train and held-out personas share no fact and no combination of styles."
    report = files.read_object(path)
    try:
        return _pool(cast(PoolReport, report))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"field {error} is missing" if isinstance(error, KeyError) else error
        raise InputError(
            f"{path}: it does not describe the pools of a run ({reason}); restore the file from a copy"
        ) from None


def _pool(pool: PoolReport) -> str:
    said = [_pool_line("profiles", pool["profiles"])]
    if (overlap := pool["contamination"].get("profiles")) is not None:
        said.append(_overlap_line("profiles", overlap))
    said.append(_pool_line("personalities", pool["personalities"]))
    if (overlap := pool["contamination"].get("personalities")) is not None:
        said.append(_overlap_line("personalities", overlap))
    return "## Personas\n\n" + "\n".join(said)


def _pool_line(name: str, part: PoolPart) -> str:
    dropped = ", ".join(f"{reason} {number:,}" for reason, number in part["rejects"].items()) or "none"
    nearest = (
        f"cosine of {part['nearest'].get('q50', 0):.2f} in the median, {part['nearest'].get('max', 0):.2f} at most"
    )
    return (
        f"- {name}: {part['entries']:,} ({part['origins']['seed']} by hand), nearest neighbour at a {nearest} "
        f"(threshold {part['threshold']:.2f}); proposals dropped: {dropped}; growth ended: {part['stopped']}"
    )


def _overlap_line(name: str, found: FactorOverlap) -> str:
    cosines = found["cosine"]["distribution"]
    return (
        f"- held-out {name}: {found['grams_13']['overlapping']} of {found['benchmark']} share a run of 13 words with "
        f"training, {found['grams_8']['overlapping']} a run of 8; the nearest training entry has a cosine of "
        f"{cosines['q50']:.2f} in the median, {cosines['max']:.2f} at most"
    )


def _limits(models: StoredModels, counts: StoredCounts) -> str:
    said = [
        "Users, judgements and replies are made by programs; they show how such programs talk, not how people do.",
        *judge_sentences(counts),
    ]
    if (warning := family_sentence(models)) is not None:
        said.append(f"Note: {warning}.")
    judge = models.roles.get("judge")
    if judge is not None and judge.player == "scripted":
        said.append("The judge is scripted: it checks ten kinds of style and named facts, and nothing else.")
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in said)
