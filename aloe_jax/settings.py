"""Settings as frozen dataclasses, which hold the type, bounds, choices and meaning of every setting.

`setting` and `section` declare a field, `read` turns plain values into a settings object, and `plain` turns it back. A
setting with `decides=False` does not affect a stage's result, so it may change when an interrupted stage continues.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
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
    """The meaning of a setting and the values that it may have.

    Attributes:
        help: the meaning, printed by `aloe config`.
        minimum, maximum, above, below: bounds, the last two exclusive; None for no bound.
        choices: the allowed values; empty for any.
        decides: whether the result of a stage depends on the setting.
        was: an earlier name, which is refused with a hint to the present one.
        took: of a section, the names of settings that stood beside it before and are in it now; they are refused alike.
        holds: a condition that bounds cannot express.
        expected: how messages describe the bounds or the condition, in place of the default text.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    decides: bool = True
    was: str = ""
    took: tuple[str, ...] = ()
    holds: Callable[[Any], bool] | None = None
    expected: str = ""

    def check(self, value: Any, where: str) -> None:
        """Raise InputError if the value, or one of several values, is not among the choices or out of bounds."""
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
    """A field of a settings class, with its default and the attributes of its `Rule`."""
    return dataclasses.field(default=default, metadata={_RULE: Rule(help, **rule)})


def section(
    kind: Callable[..., Any], help: str = "", decides: bool = True, took: tuple[str, ...] = (), **defaults: Any
) -> Any:
    """A field that `kind(**defaults)` creates, a settings class or another function. `took` is as in `Rule`."""
    rule = Rule(help, decides=decides, took=took)
    return dataclasses.field(default_factory=lambda: kind(**defaults), metadata={_RULE: rule})


def is_json_object(text: str) -> bool:
    """Whether the text of a setting is empty or a JSON object: what `holds` of such a setting checks."""
    try:
        return not text or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """The rule of a settings field."""
    rule = field.metadata.get(_RULE)
    return rule if isinstance(rule, Rule) else Rule("")


def read(kind: type[S], values: Mapping[str, object], where: str) -> S:
    """The settings object of class `kind` with these values. `where` is its full name in messages, such as
    "config.sft".

    Raises InputError for an unknown key (suggesting the most similar one), an earlier name of a setting, a missing key,
    and a value of the wrong type, out of bounds or not among the choices.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    earlier = {old: new for field in fields.values() for old, new in _earlier(field)}
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
            raise InputError(missing_key(place))
        rule, given = rule_of(field), values[name]
        try:
            found[name] = _value(hints[name], given, place)
        except _TypeMismatchError:
            if not rule.expected:
                raise
            raise InputError(f"{place}: {given} must be {rule.expected}") from None
        rule.check(given, place)
    try:
        return kind(**found)
    except InputError as error:  # of the class as a whole, which does not have its full name
        raise InputError(str(error) if str(error).startswith("config.") else f"{where}.{error}") from None


class _TypeMismatchError(InputError):
    pass


def renamed(kind: Any, path: str = "config") -> dict[str, str]:
    """Earlier full names of settings, mapped to the present ones, in a settings class and its sections."""
    found: dict[str, str] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        found |= {f"{path}.{old}": f"{path}.{new}" for old, new in _earlier(field)}
        if dataclasses.is_dataclass(hints[field.name]):
            found |= renamed(hints[field.name], f"{path}.{field.name}")
    return found


def _earlier(field: dataclasses.Field[Any]) -> Iterator[tuple[str, str]]:
    """(earlier name, present name) of a field, or of what a section took over; both as seen from the class."""
    rule = rule_of(field)
    if rule.was:
        yield rule.was, field.name
    yield from ((name, f"{field.name}.{name}") for name in rule.took)


def missing_key(name: str) -> str:
    """The error sentence for a key that the config file lacks."""
    return f"{name} is missing in the config file; aloe_jax.cli.experiment.experiment() has every key"


def renamed_key(old: str, new: str) -> str:
    """The error sentence for an earlier name of a setting."""
    return f"{old} is now called {new}; rename it"


def unknown_key(given: str, key: str, known: Iterable[str], where: str) -> str:
    """The error sentence for an unknown key, with all known ones and the most similar."""
    known = list(known)
    return f"{given}: the config has no key '{where}.{key}'; {where} has {', '.join(known)}{nearest(key, known)}"


def nearest(key: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' with the most similar of the known names; empty if none is similar."""
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` converted to the type `kind`; InputError if it has another type."""
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
        usual = (
            plain(inner()) if dataclasses.is_dataclass(inner) else {}
        )  # an entry may leave out what it does not change
        return {
            key: _value(inner, {**usual, **one} if usual and isinstance(one, Mapping) else one, f"{where}.{key}")
            for key, one in _mapping(value, where).items()
        }
    if kind is object or origin is typing.Literal:  # the choices are in the rule
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _TypeMismatchError(f"{where}: {value!r} must be {_TYPES[kind]}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{where}: {value} is not a finite number; give one that is")
    return value


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: {value!r} must be a section with keys")
    return value


def plain(value: Any) -> Any:
    """A settings object, or a part of one, as JSON values: dicts, lists, numbers and strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def split(value: Any, unread: frozenset[str] = frozenset(), path: str = "") -> tuple[Any, Any]:
    """The plain values of a settings object in two parts: those that decide a stage's result, and the rest. `unread`
    are the dotted names, starting with `path`, of settings that the stage does not read."""
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
    """Stored plain values, made comparable with what `split` returns for `value`: without settings that no longer
    decide the result, with those that a section took over inside it, and with the default of settings and sections
    added since, which stands for the behaviour before."""
    if not (dataclasses.is_dataclass(value) and not isinstance(value, type) and isinstance(stored, Mapping)):
        return stored
    found = dict(stored)
    for field in dataclasses.fields(value):
        name, one = f"{path}.{field.name}", getattr(value, field.name)
        if taken := {key: found.pop(key) for key in rule_of(field).took if key in found}:
            found.setdefault(field.name, taken)
        if name in unread or not rule_of(field).decides:
            found.pop(field.name, None)
        elif field.name in found:
            found[field.name] = decided(one, found[field.name], unread, name)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = plain(field.default)
        elif dataclasses.is_dataclass(one) and field.default_factory is not dataclasses.MISSING:
            found[field.name] = split(field.default_factory(), unread, name)[0]
    return found


def completed(value: Any, stored: Any) -> Any:
    """Stored plain values of a settings object, with those of `value` for the settings added since."""
    if not (dataclasses.is_dataclass(value) and not isinstance(value, type) and isinstance(stored, Mapping)):
        return stored
    found = dict(stored)
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        found[field.name] = completed(one, found[field.name]) if field.name in found else plain(one)
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
