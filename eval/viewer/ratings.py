"""Ratings: people's scores of single replies of the benchmark, a random sample of them, which correct the judge.

A rating is a line of `ratings.jsonl` beside the scores of its result, a label as `aloe metrics --labels` and the report
read it. Replies of all results come mixed, and neither the model's name nor the judge's score is shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from etils import epath

from aloe_jax import files
from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Conversation, read_trees
from data_gen.run_files import TREES
from data_gen.seeds import stable_seed
from eval.benchmark.labels import RATINGS, Label, order_of, read_labels, to_label
from eval.benchmark.scores import ScoreRecord, read_scores
from eval.report.names import is_control
from eval.viewer.benchmark import SCORES, results_under
from eval.viewer.labels import labeller_of

GRADES = (1, 2, 3, 4, 5)


class Offer(TypedDict):
    """What the page is told: how many replies the labeller has rated, of how many, and the next one; null: none."""

    rated: int
    total: int
    reply: dict[str, object] | None


@dataclass(frozen=True)
class RatingRequest:
    """A rating as the page sends it."""

    result: str
    case: str
    turn: int
    score: int
    labeller: str

    @classmethod
    def of(cls, body: object) -> RatingRequest:
        """The request of a JSON body. InputError for the first field that is wrong."""
        if not isinstance(body, dict) or set(body) != {"result", "case", "turn", "score", "labeller"}:
            raise InputError("the body must be a JSON object with result, case, turn, score and labeller")
        for name in ("result", "case"):
            if not isinstance(body[name], str):
                raise InputError(f"field '{name}' must be a text")
        if type(body["turn"]) is not int:
            raise InputError("field 'turn' must be a whole number")
        if type(body["score"]) is not int or body["score"] not in GRADES:
            raise InputError(f"field 'score' is {body['score']!r}; expected a whole number from 1 to 5")
        return cls(body["result"], body["case"], body["turn"], body["score"], labeller_of(body["labeller"]))


class _Result:
    """The scored replies of a result, read again when its files have changed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self._state: object = None
        self.scored: list[ScoreRecord] = []
        self.trees: dict[str, Conversation] = {}

    def refresh(self) -> None:
        """Read scores and dialogues if they have changed. InputError for a broken file."""
        stats = [(self.folder / name).stat() for name in (SCORES, TREES)]
        state = [(each.st_size, each.st_mtime_ns) for each in stats]
        if state != self._state:
            self.trees = {tree.id: tree for tree in read_trees(epath.Path(self.folder / TREES))}
            records = read_scores(self.folder / SCORES)
            self.scored = [each for each in records if each.score is not None and each.case in self.trees]
            self._state = state

    def ratings(self) -> list[Label]:
        """The ratings so far. InputError for a broken line that is not a torn last one."""
        path = epath.Path(self.folder / RATINGS)
        if not path.exists():
            return []
        files.repair_lines(path)
        return read_labels(path)


class Ratings:
    """The replies to rate of a folder that `aloe view` shows, and their ratings."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._results: dict[str, _Result] = {}

    def offer(self, labeller: str) -> Offer:
        """The labeller's next reply. Raises InputError for broken files."""
        found = self._refreshed()
        rated = {
            (result.name, each.case, each.turn)
            for result in found.values()
            for each in result.ratings()
            if each.labeller == labeller and each.score is not None
        }
        order = list(_mixed(found))
        left = (place for place in order if place not in rated)
        name, case, turn = next(left, ("", "", 0))
        reply = {"result": name, **to_label(found[name].trees[case], turn)} if name else None
        return {"rated": len(rated & set(order)), "total": len(order), "reply": reply}

    def add(self, wanted: RatingRequest) -> None:
        """Write a rating; an earlier one of the same labeller for the same reply is replaced. Raises InputError for a
        reply that is not there, ResumableError if there is no room."""
        result = self._refreshed().get(wanted.result)
        if result is None or not any((each.case, each.turn) == (wanted.case, wanted.turn) for each in result.scored):
            raise InputError(f"'{wanted.result}' has no scored reply of case '{wanted.case}' at turn {wanted.turn}")
        shown = to_label(result.trees[wanted.case], wanted.turn)
        line = files.json_line(
            {
                "case": wanted.case,
                "turn": wanted.turn,
                "score": wanted.score,
                "labeller": wanted.labeller,
                "reply": shown["reply"],
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )
        path = epath.Path(result.folder / RATINGS)
        mine = [
            (each.case, each.turn, each.labeller) == (wanted.case, wanted.turn, wanted.labeller)
            for each in result.ratings()
        ]
        if not any(mine):
            files.append_line(path, line)
            return
        before = [text for _, text in files.lines(path)]
        files.write_lines(path, [line if same else text for text, same in zip(before, mine, strict=True)])

    def _refreshed(self) -> dict[str, _Result]:
        """The results by name, but for controls, with what their files hold now."""
        folders = results_under(self._root)
        chosen = [folder for folder in folders if not is_control(folder.name)] if len(folders) > 1 else folders
        self._results = {folder.name: self._results.get(folder.name) or _Result(folder) for folder in chosen}
        for result in self._results.values():
            result.refresh()
        return self._results


def _mixed(results: dict[str, _Result]) -> Iterator[tuple[str, str, int]]:
    """(result, case, turn) of all replies to rate: those of one place of the order together, the results mixed."""
    places: dict[tuple[str, int], list[str]] = {}
    for name, result in results.items():
        for each in result.scored:
            places.setdefault((each.case, each.turn), []).append(name)
    for case, turn in sorted(places, key=lambda place: order_of(*place)):
        for name in sorted(places[case, turn], key=lambda name: stable_seed("result", case, turn, name)):
            yield name, case, turn
