"""`config.serve`: the servers that stages call, and our own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yarl import URL

from aloe_jax.errors import InputError
from aloe_jax.settings import setting


def plain_address(address: str, api_key_env: str) -> str:
    """The address of a server without its last slash. InputError for one that is no plain HTTP address; the sentence
    does not repeat it, since it may contain a key."""
    try:
        url = URL(address.strip())
        plain = url.scheme in ("http", "https") and url.host and not (url.user or url.password or url.query)
    except ValueError:
        plain = False
    if not plain:
        raise InputError(
            "base_url must look like http://127.0.0.1:8000/v1, without user name, password or query; "
            f"put the key into the environment variable {api_key_env}"
        )
    return str(url).rstrip("/")


def check_servers(base_url: str, api_key_env: str = "ALOE_API_KEY") -> None:
    """InputError for a list of addresses with one that is not plain, and for a key in place of its variable's name."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", api_key_env):
        raise InputError("api_key_env must be the name of an environment variable, not the key itself")
    for address in filter(None, base_url.split(",")):
        plain_address(address, api_key_env)


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

    def __post_init__(self) -> None:
        check_servers(self.base_url)
