"""Settings classes: reading, the error sentences, and which settings decide a result."""

import dataclasses
from collections.abc import Mapping

import pytest

from aloe_jax.errors import InputError
from aloe_jax.settings import decided, leaves, plain, read, renamed, section, setting, split


@dataclasses.dataclass(frozen=True)
class Row:
    tokens: int = setting(8, "of a row", minimum=1)
    pace: float = setting(1.0, "how fast", decides=False)


@dataclasses.dataclass(frozen=True)
class Example:
    rate: float = setting(0.5, "at the peak", above=0)
    batch: int = setting(4, "per step", minimum=1, maximum=64)
    share: float = setting(0.1, "of the steps", minimum=0, below=1, expected="a share, at least 0 and below 1")
    loss: str = setting("dpo", "which", choices=("dpo", "sft"))
    turns: tuple[float, ...] = setting((), "weights", minimum=0)
    fast: bool = setting(True, "or not", decides=False, was="quick")
    row: Row = section(Row, tokens=16)
    sources: Mapping[str, Row] = section(dict, "by name")
    sizes: Mapping[str, object] = section(dict, "whatever a file says")


VALUES = plain(Example())


def test_plain_values_give_back_the_object():
    changed = Example(rate=1.0, turns=(1.0, 0.5), row=Row(tokens=2), sources={"a": Row()}, sizes={"x": [1, None]})
    assert VALUES["row"] == {"tokens": 16, "pace": 1.0}
    assert read(Example, plain(changed), "config.sft") == changed
    assert read(Example, VALUES | {"rate": 2}, "config.sft").rate == 2.0  # a whole number is a number


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": 1.0}, r"config\.sft\.rates: the config has no key 'config\.sft\.rates'; .*; did you mean 'rate'\?"),
        ({"quick": True}, r"config\.sft\.quick is now called config\.sft\.fast; rename it"),
        ({"rate": 0.0}, r"config\.sft\.rate: 0\.0 must be above 0"),
        ({"rate": "fast"}, r"config\.sft\.rate: 'fast' must be a number"),
        ({"rate": float("nan")}, r"config\.sft\.rate: nan is not a finite number"),
        ({"batch": 0}, r"config\.sft\.batch: 0 must be at least 1 and at most 64"),
        ({"batch": 1.5}, r"config\.sft\.batch: 1\.5 must be a whole number"),
        ({"batch": True}, r"config\.sft\.batch: True must be a whole number"),
        ({"share": 1.0}, r"config\.sft\.share: 1\.0 must be a share, at least 0 and below 1"),
        ({"loss": "ppo"}, r"config\.sft\.loss: 'ppo' is unknown; choose one of dpo, sft"),
        ({"turns": [1.0, -1.0]}, r"config\.sft\.turns: \[1\.0, -1\.0\] must be at least 0"),
        ({"turns": 1.0}, r"config\.sft\.turns: 1\.0 must be a list"),
        ({"fast": 1}, r"config\.sft\.fast: 1 must be True or False"),
        ({"row": 3}, r"config\.sft\.row: 3 must be a section with keys"),
        ({"row": {"tokens": 0, "pace": 1.0}}, r"config\.sft\.row\.tokens: 0 must be at least 1"),
        ({"sources": {"a": {"tokens": 0, "pace": 1.0}}}, r"config\.sft\.sources\.a\.tokens: 0 must be at least 1"),
        ({"row": {"tokens": 1}}, r"config\.sft\.row\.pace is missing"),
    ],
)
def test_a_wrong_key_or_value_is_named_in_full(change, message):
    with pytest.raises(InputError, match=message) as caught:
        read(Example, VALUES | change, "config.sft")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named_in_full():
    with pytest.raises(InputError, match=r"config\.sft\.batch is missing"):
        read(Example, {key: value for key, value in VALUES.items() if key != "batch"}, "config.sft")


def test_earlier_names_are_found_at_any_depth():
    @dataclasses.dataclass(frozen=True)
    class Whole:
        sft: Example = section(Example)

    hints = {"sft": Example}
    Whole.__annotations__ = hints
    assert renamed(Whole) == {"config.sft.quick": "config.sft.fast"}


def test_what_decides_and_what_does_not():
    decides, rest = split(Example(), frozenset({"sft.row.tokens", "sft.sizes"}), "sft")
    assert decides.keys() == VALUES.keys() - {"fast", "sizes"}
    assert decides["row"] == {}
    assert rest == {"fast": True, "row": {"tokens": 16, "pace": 1.0}, "sizes": {}}


def test_stored_values_are_brought_to_what_decides_today():
    """`fast` decided the result then, `share` has been added since; a removed key remains as a difference."""
    stored = {key: value for key, value in VALUES.items() if key != "share"} | {"gone": 1}
    assert decided(Example(), stored) == {key: value for key, value in VALUES.items() if key != "fast"} | {
        "gone": 1,
        "row": {"tokens": 16},
    }


@dataclasses.dataclass(frozen=True)
class Parts:
    red: int = setting(1, "how many")
    blue: int = setting(0, "how many")


@dataclasses.dataclass(frozen=True)
class Moved:
    size: int = setting(2, "of all")
    parts: Parts = section(Parts, took=("red",))


def test_a_section_takes_over_settings_that_stood_beside_it():
    with pytest.raises(InputError, match=r"config\.x\.red is now called config\.x\.parts\.red; rename it"):
        read(Moved, plain(Moved()) | {"red": 3}, "config.x")
    assert renamed(Moved, "config.x") == {"config.x.red": "config.x.parts.red"}
    assert decided(Moved(), {"size": 2, "red": 3}) == plain(Moved(parts=Parts(red=3)))


def test_a_section_added_since_counts_with_its_defaults():
    assert decided(Moved(parts=Parts(blue=4)), {"size": 2}) == plain(Moved())
    assert decided(Moved(), {"size": 2}, frozenset({".parts.red"}))["parts"] == {"blue": 0}


def test_every_setting_has_a_name_a_value_and_a_meaning():
    found = {name: (value, help) for name, value, help in leaves(Example(sources={"a": Row()}), "sft")}
    assert found["sft.rate"] == (0.5, "at the peak")
    assert found["sft.row.tokens"] == (16, "of a row")
    assert found["sft.sources.a.pace"] == (1.0, "how fast")
    assert found["sft.sizes"] == ({}, "whatever a file says")
