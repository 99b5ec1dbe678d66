"""`config.serve`: the servers that stages call, and our own."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting


@dataclass(frozen=True)
class ServeSettings:
    """The servers of roles that name none themselves, and the size of our own engine."""

    base_url: str = setting(
        "",
        "OpenAI-compatible servers of one model, with commas between them; empty: our own engine for config.model",
        decides=False,
    )
    model: str = setting("", "the model's name on those servers")
    concurrency: int = setting(
        128,
        "calls under way to the servers of one model; fewer where they refuse so many",
        minimum=1,
        decides=False,
    )
    timeout: float = setting(600.0, "seconds that an answer may take", minimum=0, decides=False)
    patience: float = setting(
        600.0,
        "seconds that all servers may be down before the run stops (it can be resumed)",
        minimum=0,
        decides=False,
    )
    slots: int = setting(64, "sequences that decode together in our own engine", minimum=1, decides=False)
    context: int = setting(4096, "tokens that prompt and reply may have together there", minimum=1)
