"""What stops the rounds before they make a policy worse without anybody seeing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from aloe_jax.train.metrics_log import Record, read_metrics
from data_gen.online.rewards import PARTS
from data_gen.online.round_settings import AlarmSettings

WINDOW = 5  # rounds at the beginning and at the end, over which the parts of the reward are compared
LEAST = 0.05  # rise of a part, in units of the reward, below which it is chance
_ONWARD = (
    "look at rounds/, then start over with --fresh and other settings, or {} the alarm, and the same command continues"
)


def judge_alarmed(measured: Record, settings: AlarmSettings) -> str | None:
    """Why the scores of a round cannot be trusted, as a sentence; None if they can. It is asked before anything is
    learned from them, so that the same replies can be judged again."""
    checks = (
        ("unscored", settings.unscored, "the judge gives hardly any readable verdict"),
        ("top_score", settings.top_score, "the judge gives everything its top score"),
    )
    for name, limit, meaning in checks:
        if limit and measured[name] > limit:
            return (
                f"{name} is {measured[name]:.3g}, above config.online.alarm.{name}={limit:g}: {meaning}; mend the "
                "judge (config.roles.judge), and the same command has the stored replies judged again and continues, "
                "or raise the alarm to learn from these scores"
            )
    return None


class Watch:
    """The alarms of the rounds whose metrics.jsonl is `path`. What they compare is kept: the first `WINDOW` lines and
    the last ones, of which those of earlier calls are read once."""

    def __init__(self, path: Path, settings: AlarmSettings) -> None:
        self._path, self._settings = path, settings
        self.lines: list[Record] | None = None

    def alarmed(self, record: Record) -> str | None:
        """The first alarm that the line of a further round sets off, as a sentence; None if there is none."""
        if self.lines is None:
            self.lines = [each for each in read_metrics(self._path) if each["step"] < record["step"]]
        self.lines.append(record)
        del self.lines[WINDOW:-WINDOW]
        return alarmed(self.lines, self._settings)


def alarmed(records: Sequence[Record], settings: AlarmSettings) -> str | None:
    """The first alarm that the last line of metrics.jsonl sets off after the others, as a sentence; None if there is
    none."""
    records = [_known(record) for record in records]
    record = records[-1]
    checks = (
        ("entropy", record.get("entropy"), settings.entropy, "the policy has almost no spread left"),
        ("reference_kl", record.get("reference_kl"), settings.reference_kl, "it is far from the reference model"),
        ("words", record.get("words"), settings.words, "replies grow long"),
        ("repetition", record.get("repeated"), settings.repetition, "replies repeat earlier ones"),
        ("truncated", record.get("truncated"), settings.truncated, "replies end at config.online.max_tokens"),
        ("silent", record.get("silent"), settings.silent, "the user (config.roles.user) says nothing"),
        ("unread", record.get("unread"), settings.unread, "the server of config.roles.inducer refuses messages"),
        ("sampler_gap", record.get("sampler_gap"), settings.sampler_gap, "the engine samples another distribution"),
        ("flat", _flat(record), settings.flat, "hardly any replies differ in value"),
    )
    for name, value, limit, meaning in checks:
        if not limit or value is None:
            continue
        side, other = ("below", "lower") if name == "entropy" else ("above", "raise")
        if (value < limit) if name == "entropy" else (value > limit):
            return f"{name} is {value:.3g}, {side} config.online.alarm.{name}={limit:g}: {meaning}; " + _ONWARD.format(
                other
            )
    return _one_part(records, settings.one_part)


def _known(record: Record) -> Record:
    """The figures of a line that there are: a mean over nothing is NaN, and null once it is written."""
    return {name: value for name, value in record.items() if value is not None and not math.isnan(value)}


def _flat(record: Record) -> float:
    """The share of what is compared that does not differ: of groups of siblings, or of replies whose advantage is 0, as
    methods without siblings give it."""
    return max(record.get("groups_without_spread") or 0.0, record.get("zero_advantages") or 0.0)


def _one_part(records: Sequence[Record], limit: float) -> str | None:
    """The sentence for a part of the reward that rose by more than `limit` times as much as the whole: the policy
    trades other parts for it."""
    if not limit or len(records) < 2 * WINDOW:
        return None
    rises = {name: _rise(records, name) for name in ("reward", *(f"reward_{part}" for part in PARTS))}
    whole = rises.pop("reward")
    part = max(rises, key=lambda name: rises[name])
    if rises[part] <= max(LEAST, limit * whole):
        return None
    return (
        f"{part} has risen by {rises[part]:.3g} since the first {WINDOW} rounds and the whole reward by {whole:.3g}, "
        f"above config.online.alarm.one_part={limit:g} times as much: other parts pay for it; {_ONWARD.format('raise')}"
    )


def _rise(records: Sequence[Record], name: str) -> float:
    first, last = (fmean(record.get(name) or 0.0 for record in part) for part in (records[:WINDOW], records[-WINDOW:]))
    return last - first
