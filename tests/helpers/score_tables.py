"""Tables of scores for the statistics of the benchmark."""

import numpy as np

from eval.benchmark.scores import ScoreTable


def crossed_table(scores):
    """A complete crossing from scores [profiles, personalities, turns]."""
    profiles, personalities, turns = scores.shape
    rows, columns = (index.ravel() for index in np.indices((profiles, personalities)))
    return table(rows, columns, scores.reshape(-1, turns))


def table(profiles, personalities, scores):
    """A table of cases named by their number."""
    cases = tuple(f"{number:04d}" for number in range(len(scores)))
    return ScoreTable(cases, np.array(profiles), np.array(personalities), np.array(scores, dtype=float))
