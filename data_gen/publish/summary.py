"""Sentences about the conversations of a run and their judge, for the report and for the dataset card."""

from __future__ import annotations

from data_gen.calls.given_up import told
from data_gen.players.player import one_family
from data_gen.publish.stored import StoredCounts, StoredModels, StoredTrials

# Landis and Koch (Biometrics 33, 1977): the names of kappas up to a bound.
KAPPAS = (
    (0.0, "no better than chance"),
    (0.2, "hardly better than chance"),
    (0.4, "fair"),
    (0.6, "moderate"),
    (0.8, "good"),
)
TRUSTED = 0.4  # kappa from which on a judge's preferences carry more signal than noise


def judge_sentences(counts: StoredCounts) -> list[str]:
    """How reliable a model judge is; nothing for a scripted judge, which is the measure itself."""
    judge = counts.judge
    if judge is None or judge.trials is None or not judge.trials.pairs:
        return []
    if judge.trials.pairs == judge.trials.unreadable:
        return [f"The judge gave no readable verdict on {judge.trials.pairs} pairs: its preferences are worth nothing."]
    said = _trial_sentences(judge.trials)
    if judge.compared and judge.flip_rate is not None:
        said.append(
            f"In the conversations it compared {judge.compared:,} pairs, {judge.unreadable:,} without a readable "
            f"verdict; {judge.flip_rate:.0%} of the verdicts turned with the order."
        )
    return said


def _trial_sentences(trial: StoredTrials) -> list[str]:
    kappa = trial.kappa
    worth = "" if kappa is None else f" (kappa {kappa:.2f}, {in_words(kappa)}; 0 is chance, 1 full agreement)"
    said = [
        f"The judge was tried on {trial.pairs} pairs of the scripted world whose better reply is known and clear. It "
        f"agrees with the truth on {trial.agreement or 0:.0%} of the {trial.pairs - trial.unreadable} pairs for which "
        f"it gave a readable verdict{worth}, and {trial.flip_rate or 0:.0%} of its verdicts turn when the same two "
        "replies are shown in the other order."
    ]
    if kappa is None or kappa < TRUSTED:
        said.append(
            "Preferences and scores by this judge are mostly noise: a benchmark with it ranks nothing, training "
            "on them teaches nothing about users. Give config.roles.judge a stronger model."
        )
    return said


def in_words(kappa: float) -> str:
    """The name of an agreement of that kappa."""
    return next((name for bound, name in KAPPAS if kappa <= bound), "very good")


def growth_sentences(counts: StoredCounts) -> list[str]:
    """How many conversations were wanted, accepted and given up, and what the guards turned down; nothing for trees
    from a file."""
    if counts.wanted is None:
        return []
    why = f" ({told(counts.given_up_because)})" if counts.given_up_because else ""
    said = [f"{counts.trees:,} of {counts.wanted:,} conversations were accepted and {counts.given_up:,} given up{why}."]
    if counts.rejects:
        parts = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in counts.rejects.items())
        said.append(f"Texts that were turned down, by the first guard that did: {parts}.")
    return said


def kind_sentences(counts: StoredCounts) -> list[str]:
    """How often the judge preferred the replies of each kind; nothing where there is only one kind, or no
    preference."""
    if len(counts.kinds) < 2 or not counts.preferences:
        return []
    parts = [
        f"{name.replace('_', ' ')} {kind.preferred / kind.preferences:.0%} of {kind.preferences:,}"
        for name, kind in counts.kinds.items()
        if kind.preferences
    ]
    return [f"Share of the preferences with a reply of a kind in which it is the preferred one: {', '.join(parts)}."]


def family_sentence(models: StoredModels) -> str | None:
    """A warning if all roles are models of one family; None otherwise."""
    return one_family(models.played())
