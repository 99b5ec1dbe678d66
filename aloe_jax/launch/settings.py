"""`config.launch`: what `aloe launch` has to be told about a cloud account. No stage reads it."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting


@dataclass(frozen=True)
class LaunchSettings:
    """Prices, places and images, which stay the same from one launch to the next."""

    price: float = setting(
        0.0,
        "US dollars per hour of a chip, or of a GPU of --servers; 0: not known",
        minimum=0,
    )
    zone: str = setting("", "zone, such as us-west4-a; empty: the launcher's choice")
    image: str = setting("", "of --on=jobset: container image with aloe on its path")
    queue: str = setting("", "of --on=jobset: name of Kueue's LocalQueue")
    server_image: str = setting(
        "", "of --on=jobset with --servers: container image with vllm; empty: vLLM's own, of its latest version"
    )
