"""What stops the rounds before they make a policy worse without anybody seeing it."""

from __future__ import annotations

from collections.abc import Mapping

from data_gen.online.round_settings import AlarmSettings


def alarmed(record: Mapping[str, float], settings: AlarmSettings) -> str | None:
    """The first alarm that a line of metrics.jsonl sets off, as a sentence; None if there is none."""
    checks = (
        ("entropy", record.get("entropy"), settings.entropy, "the policy has almost no spread left"),
        ("reference_kl", record.get("reference_kl"), settings.reference_kl, "it is far from the reference model"),
        ("words", record.get("words"), settings.words, "replies grow long"),
        ("repetition", record.get("repeated"), settings.repetition, "replies repeat earlier ones"),
        ("flat", record.get("groups_without_spread"), settings.flat, "the judge tells hardly any siblings apart"),
    )
    for name, value, limit, meaning in checks:
        if not limit or value is None:
            continue
        side, other = ("below", "lower") if name == "entropy" else ("above", "raise")
        if (value < limit) if name == "entropy" else (value > limit):
            return (
                f"{name} is {value:.3g}, {side} config.online.alarm.{name}={limit:g}: {meaning}; look at rounds/, then "
                f"start over with --fresh and other settings, or {other} the alarm, and the same command continues"
            )
    return None
