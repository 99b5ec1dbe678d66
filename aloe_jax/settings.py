"""Settings as frozen dataclasses: type, bounds, choices and meaning stand in the class, in the room that reads it.

`setting` and `section` declare a field, `read` makes an object of plain values, `plain` the values of an object. A
setting with `decides=False` does not change a stage's result and may change when an interrupted stage is continued.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from aloe_jax.errors import InputError

S = TypeVar("S")
_RULE = "rule"
_TYPES = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a field says of itself.

    Attributes:
        help: the meaning, one sentence.
        minimum, maximum, above, below: bounds, the last two exclusive; None for no bound.
        choices: the values there are; empty for any.
        decides: whether the result of a stage depends on it.
        was: an earlier name, which is refused with the present one.
        holds: a condition that bounds cannot state.
        expected: words for the bounds or the condition, where those of the bounds would not do.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    decides: bool = True
    was: str = ""
    holds: Callable[[Any], bool] | None = None
    expected: str = ""

    def check(self, value: Any, where: str) -> None:
        """InputError if a value is none of the choices or out of bounds; of several values, if one of them is."""
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if self.choices and one not in self.choices:
                choose = "choose from" if isinstance(value, (list, tuple)) else "choose one of"
                raise InputError(f"{where}: '{one}' is unknown; {choose} {', '.join(self.choices)}")
            if isinstance(one, (int, float)) and not self._within(one):
                raise InputError(f"{where}: {value} must be {self.expected or self._bounds()}")
        if self.holds is not None and not self.holds(value):
            raise InputError(f"{where}: {value} must be {self.expected}")

    def _within(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def _bounds(self) -> str:
        words = ("at least", self.minimum), ("above", self.above), ("at most", self.maximum), ("below", self.below)
        return " and ".join(f"{name} {bound:g}" for name, bound in words if bound is not None)


def setting(default: Any, help: str, **rule: Any) -> Any:
    """A field of a settings class with its default and what `Rule` says of it."""
    return dataclasses.field(default=default, metadata={_RULE: Rule(help, **rule)})


def section(kind: Callable[..., Any], help: str = "", decides: bool = True, **defaults: Any) -> Any:
    """A field that is made by `kind`, a settings class or another function, with `defaults` of its own."""
    return dataclasses.field(default_factory=lambda: kind(**defaults), metadata={_RULE: Rule(help, decides=decides)})


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """The rule of a settings field."""
    rule = field.metadata.get(_RULE)
    return rule if isinstance(rule, Rule) else Rule("")


def read(kind: type[S], values: Mapping[str, object], where: str) -> S:
    """The settings object of `kind` that has these values. `where` is its full name in messages, such as "config.sft".

    Raises InputError for an unknown key (with the nearest one there is), an earlier name of a setting, a missing key,
    and a value of the wrong type, out of bounds or not among the choices.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    earlier = {rule_of(field).was: name for name, field in fields.items() if rule_of(field).was}
    for key in values:
        if key in earlier:
            raise InputError(renamed_key(f"{where}.{key}", f"{where}.{earlier[key]}"))
        if key not in fields:
            raise InputError(unknown_key(f"{where}.{key}", key, fields, where))
    hints = typing.get_type_hints(kind)
    found = {}
    for name, field in fields.items():
        place = f"{where}.{name}"
        if name not in values:
            raise InputError(
                f"{place} is missing in the config file; aloe_jax.cli.experiment.experiment() has every key"
            )
        rule, given = rule_of(field), values[name]
        try:
            found[name] = _value(hints[name], given, place)
        except _TypeMismatchError:
            if not rule.expected:
                raise
            raise InputError(f"{place}: {given} must be {rule.expected}") from None
        rule.check(given, place)
    return kind(**found)


class _TypeMismatchError(InputError):
    pass


def renamed(kind: Any, path: str = "config") -> dict[str, str]:
    """Earlier full names of settings in a class and those below it, with the present ones."""
    found = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if was := rule_of(field).was:
            found[f"{path}.{was}"] = f"{path}.{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            found |= renamed(hints[field.name], f"{path}.{field.name}")
    return found


def missing_key(name: str) -> str:
    """The sentence about a key that the config file leaves out."""
    return f"{name} is missing in the config file; aloe_jax.cli.experiment.experiment() has every key"


def renamed_key(old: str, new: str) -> str:
    """The sentence about the earlier name of a setting."""
    return f"{old} is now called {new}; rename it"


def unknown_key(given: str, key: str, known: Iterable[str], where: str) -> str:
    """The sentence about a key that is not there: the nearest one there is, and all of them."""
    known = list(known)
    return f"{given}: the config has no key '{where}.{key}'; {where} has {', '.join(known)}{nearest(key, known)}"


def nearest(key: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" with the nearest of the known names; empty if none is near."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`; InputError if it is of another."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return read(typing.cast(Any, kind), _mapping(value, where), where)
    if origin in (typing.Union, types.UnionType):  # T | None
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _TypeMismatchError(f"{where}: {value!r} must be a list")
        return tuple(_value(arguments[0], one, f"{where}[{number}]") for number, one in enumerate(value))
    if kind is Mapping or origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        inner = arguments[1] if arguments else object
        return {key: _value(inner, one, f"{where}.{key}") for key, one in _mapping(value, where).items()}
    if kind is object or origin is typing.Literal:  # the rule has the choices
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _TypeMismatchError(f"{where}: {value!r} must be {_TYPES[kind]}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{where}: {value} is not a finite number; give one that is")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {value!r} must be a section with keys")
    return value


def plain(value: Any) -> Any:
    """A settings object, or a part of one, as JSON holds it: dicts, lists, numbers and texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def split(value: Any, unread: frozenset[str] = frozenset(), path: str = "") -> tuple[Any, Any]:
    """Plain values of a settings object in two: what decides a stage's result, and the rest. `unread` are the dotted
    names (from `path` on) of what the stage does not read."""
    if not (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return plain(value), {}
    decides: dict[str, object] = {}
    rest: dict[str, object] = {}
    for field in dataclasses.fields(value):
        name, one = f"{path}.{field.name}", getattr(value, field.name)
        if name in unread or not rule_of(field).decides:
            rest[field.name] = plain(one)
        else:
            decides[field.name], inner = split(one, unread, name)
            if inner:
                rest[field.name] = inner
    return decides, rest


def decided(value: Any, stored: Any, unread: frozenset[str] = frozenset(), path: str = "") -> Any:
    """Stored plain values, brought to what `split` gives for `value` today: what no longer decides is left out, and a
    setting that has been added since has its default, with which all is as it was before."""
    if not (dataclasses.is_dataclass(value) and not isinstance(value, type) and isinstance(stored, Mapping)):
        return stored
    found = dict(stored)
    for field in dataclasses.fields(value):
        name = f"{path}.{field.name}"
        if name in unread or not rule_of(field).decides:
            found.pop(field.name, None)
        elif field.name in found:
            found[field.name] = decided(getattr(value, field.name), found[field.name], unread, name)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = plain(field.default)
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """(dotted name, plain value, meaning) of every setting of an object, in the order of its class."""
    for field in dataclasses.fields(value):
        name, one = f"{path}.{field.name}" if path else field.name, getattr(value, field.name)
        yield from _leaves(one, name, rule_of(field).help)


def _leaves(value: Any, name: str, help: str) -> Iterator[tuple[str, Any, str]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from leaves(value, name)
    elif isinstance(value, Mapping) and any(dataclasses.is_dataclass(one) for one in value.values()):
        for key, one in value.items():
            yield from _leaves(one, f"{name}.{key}", help)
    else:
        yield name, plain(value), help
