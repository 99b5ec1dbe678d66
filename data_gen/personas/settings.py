"""`config.personas`: where personas come from, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting


@dataclass(frozen=True)
class PersonaSettings:
    """The pools, the pairs drawn from them, and what ends their growth (paper, section 1)."""

    source: str = setting(
        "scripted",
        "scripted: of the scripted world; generated: hand-written seeds and what a model makes of them; or the paper's "
        "way with pools of one's own: files",
        choices=("scripted", "generated", "files"),
    )
    profile_pool: str = setting("", "of source 'files': pool files of the paper's code, or personas.jsonl")
    personality_pool: str = setting("", "the same for personalities")
    profiles: int = setting(331, "training profiles", minimum=1)
    personalities: int = setting(71, "training personalities", minimum=1)
    pairings: int = setting(10, "personalities drawn for each training profile", minimum=1)
    benchmark_profiles: int = setting(20, "held-out profiles", minimum=1)
    benchmark_personalities: int = setting(5, "held-out personalities, crossed with them", minimum=1)
    min_traits: int = setting(4, "of source 'scripted': fewest traits of a training personality ...", minimum=1)
    max_traits: int = setting(10, "... and most", minimum=1)
    benchmark_min_traits: int = setting(8, "fewest traits of a held-out personality ...", minimum=1)
    benchmark_max_traits: int = setting(10, "... and most", minimum=1)
    min_facts: int = setting(6, "fewest facts of a scripted profile ...", minimum=1)
    max_facts: int = setting(12, "... and most", minimum=1)
    surprises: float = setting(
        0.1,
        "share of the scripted training personalities that change a preference, of others that correct a wrong reply, "
        "and of the profiles that go off topic; up to 0.25",
        minimum=0,
    )
    benchmark_surprises: float = setting(0.0, "the same of the held-out ones", minimum=0)
    restraint: float = setting(
        0.0,
        "share of the scripted training profiles whose user asks a question of fact, asks for somebody else, and every "
        "second time wishes for plain answers: turns in which a reply is not to be about the user; up to 1",
        minimum=0,
        maximum=1,
    )
    benchmark_restraint: float = setting(0.0, "the same of the held-out ones", minimum=0, maximum=1)
    renamed: float = setting(
        0.0,
        "share of the scripted training profiles whose facts have made-up words, which cannot be learnt by heart; "
        "up to 1",
        minimum=0,
    )
    rounds: int = setting(3000, "maximum number of calls for proposals", minimum=0)
    proposals: int = setting(20, "people asked for per call", minimum=1)
    # It decides: a round draws its examples from the pool as of so many rounds earlier.
    concurrency: int = setting(8, "calls for proposals at the same time", minimum=1)
    quantile: float = setting(
        0.95,
        "how near a proposal may come to the nearest one in the pool: this quantile of the hand-written seeds' own "
        "nearest neighbours (cosine of sentence embeddings)",
        minimum=0,
    )
    saturation_rounds: int = setting(20, "the pool is full when in so many rounds ...", minimum=1)
    saturation_rate: float = setting(0.02, "... a smaller share of the proposals than this was new", minimum=0)
