"""What the manifest's counts say, in sentences: for the report and for the dataset card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_gen.players.player import one_family

# Landis and Koch (Biometrics 33, 1977): what a kappa up to so much is called.
KAPPAS = (
    (0.0, "no better than chance"),
    (0.2, "hardly better than chance"),
    (0.4, "fair"),
    (0.6, "moderate"),
    (0.8, "good"),
)
TRUSTED = 0.4  # kappa from which on a judge's preferences carry more signal than noise


def judge_sentences(counts: Mapping[str, Any]) -> list[str]:
    """What the judge is worth, plainly; nothing of a scripted judge, which is the measure itself."""
    judge = counts.get("judge") or {}
    trial = judge.get("trials") or {}
    said = []
    if trial.get("pairs"):
        read = trial["pairs"] - trial["unreadable"]
        if not read:
            return [f"The judge gave no readable verdict on {trial['pairs']} pairs: its preferences are worth nothing."]
        kappa = trial["kappa"]
        worth = "" if kappa is None else f" (kappa {kappa:.2f}, {in_words(kappa)}; 0 is chance, 1 full agreement)"
        said.append(
            f"The judge was tried on {trial['pairs']} pairs of the scripted world whose better reply is known and "
            f"clear. It agrees with the truth on {trial['agreement']:.0%} of the {read} it gave a readable verdict "
            f"on{worth}, and {trial['flip_rate']:.0%} of its verdicts turn when the same two replies are shown in the "
            "other order."
        )
        if kappa is None or kappa < TRUSTED:
            said.append(
                "Preferences and scores by this judge are mostly noise: a benchmark with it ranks nothing, training "
                "on them teaches nothing about users. Give config.roles.judge a stronger model."
            )
    if judge.get("compared") and judge.get("flip_rate") is not None and trial.get("pairs"):
        said.append(
            f"In the conversations it compared {judge['compared']:,} pairs, {judge['unreadable']:,} without a readable "
            f"verdict; {judge['flip_rate']:.0%} of the verdicts turned with the order."
        )
    return said


def in_words(kappa: float) -> str:
    """What an agreement of that kappa is called."""
    return next((name for bound, name in KAPPAS if kappa <= bound), "very good")


def growth_sentences(counts: Mapping[str, Any]) -> list[str]:
    """How many conversations were wanted, accepted and given up, and what the guards turned down."""
    if "wanted" not in counts:
        return []
    said = [
        f"{counts['trees']:,} of {counts['wanted']:,} conversations were accepted and {counts['given_up']:,} given up."
    ]
    if counts["rejects"]:
        parts = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in counts["rejects"].items())
        said.append(f"Texts that were turned down, by the first guard that did: {parts}.")
    return said


def family_sentence(config: Mapping[str, Any]) -> str | None:
    """A warning where all roles are one family of models."""
    roles, own = config.get("roles") or {}, (config.get("model") or {}).get("source", "")
    shared = (config.get("serve") or {}).get("model", "")
    models = {name: role.get("model") or shared or own for name, role in roles.items() if role.get("player") == "model"}
    return one_family(models)
