"""What a run directory says of its conversations and its models; keys that another version lacks have defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ConfigDict, Field

from aloe_jax.run.manifest import Manifest, Values
from aloe_jax.tree.schema import Record, parse


class _Counts(Record):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StoredTrials(_Counts):
    """How a model judge did on pairs of the scripted world whose better reply is known; no pairs for a scripted one."""

    pairs: int = 0
    unreadable: int = 0
    agreement: float | None = None
    kappa: float | None = None
    flip_rate: float | None = None


class StoredJudge(_Counts):
    """How the judge did in the conversations, and in its trial."""

    compared: int = 0
    unreadable: int = 0
    flip_rate: float | None = None
    trials: StoredTrials | None = None


class StoredKind(_Counts):
    """Replies of one condition, the preferences that they are in, and those in which they are preferred."""

    replies: int = 0
    preferences: int = 0
    preferred: int = 0


class StoredCounts(_Counts):
    """Counts in the manifest of the stage `conversations`. `wanted` is None if the trees were taken from a file."""

    trees: int = 0
    replies: int = 0
    preferences: int = 0
    wanted: int | None = None
    given_up: int = 0
    given_up_because: dict[str, int] = Field(default_factory=dict)
    rejects: dict[str, int] = Field(default_factory=dict)
    judge: StoredJudge | None = None
    kinds: dict[str, StoredKind] = Field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest) -> StoredCounts:
        """The counts of the stage's manifest. InputError for a value of the wrong type."""
        return parse(cls, json.dumps(manifest.counts), "counts of the conversations' manifest.json")


@dataclass(frozen=True)
class StoredRole:
    """A role in a `config.json`. `model` is empty for the model of `config.serve` or the start model."""

    player: str
    model: str
    template: str
    temperature: object


@dataclass(frozen=True)
class StoredModels:
    """The models of a `config.json`: those of the roles, and the ones that a role without a model of its own has."""

    roles: Mapping[str, StoredRole]
    served: str
    start: str

    @classmethod
    def of(cls, config: Values) -> StoredModels:
        """The models of the values in a `config.json`."""
        roles = _section(config, "roles")
        return cls(
            roles={name: _role(_section(roles, name)) for name in roles},
            served=_text(_section(config, "serve"), "model"),
            start=_text(_section(config, "model"), "source"),
        )

    def played(self) -> dict[str, str]:
        """The model of each role that a model plays."""
        return {name: self.model_of(role) for name, role in self.roles.items() if role.player == "model"}

    def model_of(self, role: StoredRole) -> str:
        """The model that plays a role: its own, else that of `config.serve`, else the start model."""
        return role.model or self.served or self.start


def _role(values: Values) -> StoredRole:
    return StoredRole(
        player=_text(values, "player"),
        model=_text(values, "model"),
        template=_text(values, "template"),
        temperature=values.get("temperature", ""),
    )


def _section(values: Values, name: str) -> Values:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(values: Values, name: str) -> str:
    found = values.get(name)
    return found if isinstance(found, str) else ""
