"""The tables of the status panel on terminals of any width."""

import io

from rich.console import Console

from data_gen.calls.narrow_table import NarrowableTable

TABLE = NarrowableTable(
    ("role", "model", "calls", "stored"),
    [("teacher", "a-model-with-a-long-name", "3456", "12"), ("judge", "base", "7", "0")],
    text="model",
    dropped=("stored",),
)


def shown(width):
    display = io.StringIO()
    Console(file=display, width=width).print(TABLE)
    lines = [line.rstrip() for line in display.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines if line and "─" not in line]


def test_long_texts_are_cut_before_a_column_is_left_out():
    """The other columns take 7 + 5 + 6 characters and 3 beside each of four columns: 30; a text of 24 fits in 54, and
    one of 16 in 46. Without `stored` the rest takes 7 + 5 + 9 = 21, and 16 more are 37."""
    whole = ["teacher", "a-model-with-a-long-name", "3456", "12"]
    assert shown(54) == shown(120) == [["role", "model", "calls", "stored"], whole, ["judge", "base", "7", "0"]]
    assert shown(53)[1] == ["teacher", "a-model-with-a-long-na…", "3456", "12"]
    assert shown(46)[1] == ["teacher", "a-model-with-a-…", "3456", "12"]
    assert shown(45) == [["role", "model", "calls"], [*whole[:2], "3456"], ["judge", "base", "7"]]
    assert shown(37)[1] == ["teacher", "a-model-with-a-…", "3456"]
