"""The judged replies of one model on the benchmark: a line of `scores.jsonl`, and the table for the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from etils import epath
from jaxtyping import Float, Int
from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Record, parse
from eval.benchmark.belief import BeliefCounts

SCORES = "scores.jsonl"
OPTIONAL = ("score_persona", "belief")
Scale = Literal["shown", "persona"]
FiniteScore = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class ScoreRecord(Record):
    """A judged reply. Other keys of the line (reply, criteria, ...) are ignored; numeric ids are read as text.

    `score` is on the judge's own scale (1 to 5 for ours); any finite number is legal. It counts only what the user has
    shown so far; `score_persona`, where the judge gives it, counts the whole persona.
    """

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    case: str
    profile: str
    personality: str
    turn: int = Field(ge=1, strict=True)
    score: FiniteScore | None = Field(description="scale `shown`; null: the judge gave no readable answer")
    score_persona: FiniteScore | None = Field(default=None, description="scale `persona`; null: no such score")
    belief: BeliefCounts | None = Field(default=None, description="what the model says that it has learned by then")

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without `score_persona` and `belief` where there is none."""
        line: dict[str, object] = write(self)
        return {key: value for key, value in line.items() if value is not None or key not in OPTIONAL}


@dataclass(frozen=True)
class ScoreTable:
    """Scores of N cases over K turns. Rows are sorted by (profile, personality, case), so that results do not depend on
    the order of the lines in the file."""

    cases: tuple[str, ...]
    profiles: Int[np.ndarray, " N"]  # number of the case's profile among the sorted profile ids
    personalities: Int[np.ndarray, " N"]
    scores: Float[np.ndarray, "N K"]  # NaN where unscored

    @property
    def levels(self) -> tuple[int, int]:
        """The numbers of different profiles and personalities."""
        return int(self.profiles.max()) + 1, int(self.personalities.max()) + 1


def carries_persona(records: Iterable[ScoreRecord]) -> bool:
    """Whether any reply has a score on the scale `persona`."""
    return any(record.score_persona is not None for record in records)


def score_table(
    records: Sequence[ScoreRecord], places: Sequence[str] | None = None, scale: Scale = "shown"
) -> ScoreTable:
    """The records as a table. `places` (one text per record, such as "line 3: ") are put before error messages.

    Raises InputError if there are no records, a (case, turn) comes twice, a case changes its profile or personality, or
    a case lacks a turn that another one has (an unscored reply is a line with score null, never a missing line).
    """
    if not records:
        raise InputError("there are no scores: expected at least one line {case, profile, personality, turn, score}")
    factors: dict[str, tuple[str, str]] = {}
    cells: dict[tuple[str, int], float | None] = {}
    for record, place in zip(records, places or [""] * len(records), strict=True):
        if (record.case, record.turn) in cells:
            raise InputError(f"{place}case '{record.case}' turn {record.turn} is scored twice; keep one line of it")
        found = (record.profile, record.personality)
        if factors.setdefault(record.case, found) != found:
            raise InputError(
                f"{place}case '{record.case}' has profile and personality {found}, but {factors[record.case]} earlier; "
                "a case is one pair of them"
            )
        cells[record.case, record.turn] = record.score if scale == "shown" else record.score_persona
    turns = max(turn for _, turn in cells)
    cases = sorted(factors, key=lambda case: (*factors[case], case))
    _check_complete(cases, turns, cells)
    values = [[cells[case, turn] for turn in range(1, turns + 1)] for case in cases]
    return ScoreTable(
        cases=tuple(cases),
        profiles=_numbered(factors[case][0] for case in cases),
        personalities=_numbered(factors[case][1] for case in cases),
        scores=np.array(values, dtype=np.float64),
    )


def check_paired(first: ScoreTable, second: ScoreTable) -> None:
    """InputError if two tables are not over the same cases and turns."""
    if first.cases != second.cases:
        odd = sorted(set(first.cases) ^ set(second.cases))
        raise InputError(f"cannot compare two models over different cases: '{odd[0]}' is in one of them only")
    if first.scores.shape != second.scores.shape:
        raise InputError(
            f"cannot compare two models over {first.scores.shape[1]} and {second.scores.shape[1]} turns; "
            "run both with the same number"
        )
    if not (
        np.array_equal(first.profiles, second.profiles) and np.array_equal(first.personalities, second.personalities)
    ):
        raise InputError("cannot compare two models whose cases of one name have different profiles or personalities")


def paired_table(first: ScoreTable, second: ScoreTable) -> ScoreTable:
    """The differences `first` minus `second`, NaN where either is unscored. Raises InputError as `check_paired`."""
    check_paired(first, second)
    return replace(first, scores=first.scores - second.scores)


def _check_complete(cases: Sequence[str], turns: int, cells: dict[tuple[str, int], float | None]) -> None:
    """InputError for the first case without a line for one of the turns 1 to `turns`."""
    if len(cells) == len(cases) * turns:
        return
    for case in cases:
        for turn in range(1, turns + 1):
            if (case, turn) not in cells:
                raise InputError(
                    f"case '{case}' has no line for turn {turn} of {turns}; write it with score null if the reply "
                    "could not be scored"
                )


def _numbered(names: Iterable[str]) -> Int[np.ndarray, " N"]:
    """The number of each name among the sorted distinct names."""
    return np.unique(list(names), return_inverse=True)[1]


def read_scores(path: epath.PathLike) -> list[ScoreRecord]:
    """Records of a `scores.jsonl`, in file order.

    Raises InputError, with the file and, if a line is at fault, its number, for a missing or empty file, a broken line
    (turn below 1, score not finite or given twice) and everything that `score_table` refuses.
    """
    records, places = [], []
    for number, line in files.lines(path):
        records.append(parse(ScoreRecord, line, f"{path} line {number}", strict=False))
        places.append(f"line {number}: ")
    try:
        score_table(records, places)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return records
