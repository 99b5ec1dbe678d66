"""`aloe compare`: curves of several results over the same cases, their paired differences, and training curves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from etils import epath

from aloe_jax.errors import InputError
from aloe_jax.run.manifest import leaves
from aloe_jax.train.names import BASE
from eval.benchmark.entries import ORACLE, OTHER_SIMULATOR
from eval.benchmark.metrics import Metrics, metrics
from eval.benchmark.scores import Scale, check_paired, score_table
from eval.benchmark.truth import corrected_metrics
from eval.compare.curves import Curves, training_curves
from eval.compare.sources import Sources, Subject, config_of, differing_settings
from eval.report.findings import SCALES, Contrast, check_same_users, common, contrasts_of, metrics_on, restricted
from eval.report.reading import is_result, read_result
from eval.report.simulators import Trial, trials

JUDGED_WITH = ("roles.judge.", "roles.user.", "benchmark.mode", "benchmark.replay")  # settings that scores depend on
# Where a model that plays the user or judges stands in its run's config if the role names none itself.
SHARED = ("serve.model", "model.source")


@dataclass(frozen=True)
class Comparison:
    """Results over their common cases, and the trainings of their runs. `notes` are sentences on what was left out or
    makes them hard to compare. There may be no results, and no training that several runs have."""

    subjects: tuple[Subject, ...]
    baseline: str
    cases: int
    contrasts: tuple[Contrast, ...]
    settings: dict[str, dict[str, str]]
    notes: tuple[str, ...]
    curves: tuple[Curves, ...] = ()
    trials: tuple[Trial, ...] = ()  # of simulators of the user

    @property
    def scales(self) -> list[Scale]:
        """The scales on which there are metrics."""
        return [scale for scale in SCALES if any(metrics_on(each.result, scale) for each in self.subjects)]


def compare(sources: Sources, baseline: str = "") -> Comparison:
    """Compare results over the cases that all of them have: each with `baseline` (a label; default: the first `base`,
    else the first result), and with the result of the same name in the run named first; and lay the curves of trainings
    over each other.

    Raises InputError if they have no case in common, if a common case is not the same everywhere (persona, seed of the
    user, number of turns), and for an unknown baseline.
    """
    subjects = sources.subjects
    labels = [each.label for each in subjects]
    if baseline and baseline not in labels:
        known = f"choose from {', '.join(labels)}" if labels else "there are no results, so leave it out"
        raise InputError(f"--baseline: '{baseline}' is unknown; {known}")
    settings, curves = differing_settings(sources.runs), tuple(training_curves(sources.runs))
    if not subjects:
        return Comparison((), "", 0, (), settings, (), curves)
    reference = baseline or next((each.label for each in subjects if each.name == BASE), labels[0])
    _check(subjects)
    shared = _shared(subjects)
    kept, notes = _distinct(subjects, reference)
    notes += _notes(kept, shared, list(settings), _of_roles(subjects))
    ready = tuple(replace(each, result=replace(restricted(each.result, shared), metrics=_metrics(each, shared)))
                  for each in kept)  # fmt: skip
    by_label = {each.label: each for each in ready}
    pairs = [(each.label, reference) for each in ready if each.label != reference]
    for one, other in itertools.combinations(ready, 2):
        if one.name == other.name and (other.label, one.label) not in pairs and one.label != reference:
            pairs.append((other.label, one.label))
    contrasts = contrasts_of({label: each.result for label, each in by_label.items()}, pairs)
    return Comparison(ready, reference, len(shared), tuple(contrasts), settings, tuple(notes), curves,
                      tuple(_trials(subjects, sources)))  # fmt: skip


def _trials(subjects: Sequence[Subject], sources: Sources) -> Iterator[Trial]:
    """The results that were played with a simulator of the user, those with the other one included."""
    for label, run in sources.runs.items():
        results = {each.name: each.result for each in subjects if each.run == run}
        for name in list(results):
            other = epath.Path(run / "benchmark" / f"{name}+{OTHER_SIMULATOR}")
            if other.name not in results and is_result(other):
                results[other.name] = read_result(other)
        yield from trials(run, config_of(run), results, f"{label}/" if len(sources.runs) > 1 else "")


def _check(subjects: Sequence[Subject]) -> None:
    """InputError where the cases are not the same, of the first such two results."""
    check_same_users([(each.label, each.result) for each in subjects])
    first = subjects[0]
    for other in subjects[1:]:
        shared = common([first.result, other.result])
        if not shared:
            raise InputError(
                f"'{first.label}' and '{other.label}' have no case in common; compare results over the same held-out "
                "personas"
            )
        tables = [score_table(restricted(each.result, shared).scores) for each in (first, other)]
        try:
            check_paired(tables[0], tables[1])
        except InputError as error:
            raise InputError(f"'{first.label}' and '{other.label}': {error}") from None
    if not _shared(subjects):
        raise InputError("no case is common to all results; compare fewer of them at a time")


def _shared(subjects: Sequence[Subject]) -> set[str]:
    """The cases of all results but the oracle's, which is played on the first few of them only."""
    return common([each.result for each in subjects if not is_ceiling(each)] or [each.result for each in subjects])


def _distinct(subjects: Sequence[Subject], reference: str) -> tuple[list[Subject], list[str]]:
    """Without results that are equal to one of the same name before them (`base` of runs from one model)."""
    kept: list[Subject] = []
    notes = []
    for each in subjects:
        same = next((one for one in kept if one.name == each.name and one.result.scores == each.result.scores), None)
        if same is None or each.label == reference:
            kept.append(each)
        else:
            notes.append(f"{each.label} has the same scores as {same.label} and is left out.")
    return kept, notes


def _of_roles(subjects: Sequence[Subject]) -> set[str]:
    """The settings among `SHARED` that say which model judges or plays the user in one of the runs."""
    found = set()
    for config in (dict(leaves(each.config)) for each in subjects):
        for role in ("judge", "user"):
            if config.get(f"roles.{role}.player") != "model" or config.get(f"roles.{role}.model"):
                continue
            served = config.get(f"roles.{role}.base_url") or config.get("serve.base_url")
            found.add(SHARED[0] if served else SHARED[1])
    return found


def _notes(subjects: Sequence[Subject], shared: set[str], differing: Sequence[str], roles: set[str]) -> list[str]:
    notes = []
    cases = {each.label: {record.case for record in each.result.scores} for each in subjects}
    if more := [f"{label} {len(own)}" for label, own in cases.items() if own - shared]:
        notes.append(f"{len(shared)} cases are common to all and counted; there are more of {', '.join(more)}.")
    if fewer := [f"{label} has {len(own & shared)}" for label, own in cases.items() if shared - own]:
        notes.append(f"Of these {len(shared)} cases {', '.join(fewer)}.")
    if judged := [key for key in differing if key.startswith(JUDGED_WITH) or key in roles]:
        notes.append(f"Users or judges differ ({', '.join(judged)}), so differences are not of the models alone.")
    return notes


def _metrics(subject: Subject, shared: set[str]) -> Metrics:
    """The metrics over the common cases: those that are stored if these are all."""
    result = subject.result
    if result.metrics is not None and {record.case for record in result.scores} <= shared:
        return result.metrics
    made = result.metrics.bootstrap if result.metrics is not None else None
    kept = restricted(result, shared)
    found = metrics(kept.scores, made.resamples, made.seed, made.level) if made else metrics(kept.scores)
    return corrected_metrics(found, kept.scores, kept.truth)


def is_ceiling(subject: Subject) -> bool:
    """Whether a result is the oracle's."""
    return subject.name == ORACLE
