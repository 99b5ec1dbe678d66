"""The section `bucket`: how a run whose directory is in a bucket is kept there."""

from __future__ import annotations

from dataclasses import dataclass

from aloe_jax.settings import setting


@dataclass(frozen=True)
class BucketSettings:
    """`config.bucket`: read only if `--workdir` is in a bucket."""

    staging: str = setting("", "folder for the local copy of the run directory; empty: the cache, $ALOE_CACHE")
    upload_seconds: float = setting(
        60.0, "seconds between two uploads of what was appended: at most so much work is lost with the host", above=0
    )
    upload_bytes: int = setting(8 << 20, "bytes appended after which an upload does not wait for that", minimum=1)
    lease_seconds: float = setting(
        120.0, "seconds without a sign of the process that works in it, after which another one may", minimum=3
    )
