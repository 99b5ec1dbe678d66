"""A Jinja environment in which a template of unknown origin can neither reach Python nor use time and memory at will.

Jinja's sandbox keeps a template from Python's internals. On top of it every render has a budget of work, where a unit
is a character or an item that is made or looked at: loops, calls, filters, operators and output spend it before they
compute. Conversations need some thousandth of it.
"""

from __future__ import annotations

import functools
import re
import threading
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.visitor

WORK = 50_000_000  # units per render ...
SHARE = 100  # ... and for each unit of what is rendered
STEP = 200  # units of one turn of a loop and of one call, which take as long as copying so many characters
ITEM = 40  # units of an item that is not text
SECONDS = 10.0  # of computation per render, where a unit takes longer than that
# What makes a result, or looks at characters, as often as the product of its arguments says, not their sum.
_PRODUCTS = {"join", "indent", "tojson", "expandtabs", "urlize", "round"}
_PRODUCTS |= {"trim", "strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition"}
# What copies the rest of a text, or the sum of lists so far, for each of its pieces.
_SQUARES = {"wordwrap", "sum of lists"}
# What looks at the items of a list and not into them.
_SHALLOW = {"length", "count", "first", "last", "list", "items", "get", "keys", "values", "reverse", "sort", "map"}
_SHALLOW |= {"selectattr", "rejectattr", "select", "reject"}
_FORMATS = {"format", "format_map", "strftime"}
_NUMBER = re.compile(r"\d+")
_DROPPED = ("random",)  # a filter that gives another text each time


class ExcessiveWorkError(jinja2.TemplateError):
    """A template that computes more than rendering a conversation can need."""


class BoundedEnvironment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The environment of one chat template; `render` begins a budget. Several threads may render at once."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(optimized=False, finalize=_finalize, **options)
        self._local = threading.local()
        for name in _DROPPED:
            self.filters.pop(name, None)
        self.globals.pop("lipsum", None)
        for name, function in list(self.filters.items()):
            self.add_filter(name, function)

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Make `function` the filter `name`, its work counted."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            args = tuple(map(_whole, args))
            self.spend(self._cost(name, args[bool(getattr(function, "jinja_pass_arg", None)) :], kwargs))
            return self._made(function(*args, **kwargs))

        self.filters[name] = counted

    def render(self, template: jinja2.Template, values: Mapping[str, object], work: int = WORK) -> str:
        """The rendered text, for at most `work` units beside those for its messages. Raises ExcessiveWorkError, or
        whatever the template raises."""
        self._local.left, self._local.until = work, time.thread_time() + SECONDS * work / WORK
        self._local.left += SHARE * self._size(values.get("messages"))
        return template.render(values)

    def spend(self, units: int) -> None:
        """Take units of work from the budget. Raises ExcessiveWorkError when it is exhausted."""
        self._local.left -= units
        if self._local.left < 0 or time.thread_time() > self._local.until:
            raise ExcessiveWorkError("it computes far more than a conversation needs (a loop or a text without end?)")

    def step(self, units: int) -> None:
        """Begin one turn of a loop, or one call of a macro, whose plain text has `units` characters."""
        self.spend(STEP + units)

    def joined(self, *parts: object) -> str:
        """The operator `~`."""
        self.spend(sum(map(self._size, parts)))
        return "".join(map(str, parts))

    def literal(self, value: Any) -> Any:
        """A list, tuple or object that a template writes: nested again and again it would grow without end."""
        return self._made(value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        return _Counting().visit(super()._parse(source, name, filename))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in jinja2
        name = getattr(__obj, "__name__", "")
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)  # jinja2 wraps `format`
        text = (owner,) if isinstance(owner, (str, bytes, list, tuple, dict)) else ()
        args = tuple(map(_whole, args))
        __self.spend(STEP + __self._cost(name, (*text, *args), kwargs))
        return __self._made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = self._size(left), self._size(right)
        if operator == "%" and isinstance(left, str):
            self.spend(self._cost("format", (left, right), {}))
        elif operator in ("*", "**"):
            self.spend(_product(operator, left, right, *sizes))
        else:
            self.spend(sum(sizes))
        return super().call_binop(context, operator, left, right)

    def _made(self, result: Any) -> Any:
        if isinstance(result, (str, bytes, list, tuple, dict, int)):
            self.spend(self._size(result))
        return result

    def _cost(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        """The units of a call, from the sizes of what it is given; numbers count as the lengths that they may mean."""
        first, rest = (args[0], [*args[1:], *kwargs.values()]) if args else ("", list(kwargs.values()))
        if (
            name == "replace"
            and len(rest) >= 2
            and isinstance(first, str)
            and all(isinstance(e, str) for e in rest[:2])
        ):
            return len(first) + first.count(rest[0]) * len(rest[1])
        if name in _SHALLOW:
            return ITEM * len(first) if isinstance(first, (str, list, tuple, dict)) else 1
        size, others = self._length(first), sum(map(self._length, rest))
        if name in _FORMATS:
            texts = [each for each in (first, *rest) if isinstance(each, str)]
            numbers = [number for text in texts for number in _NUMBER.findall(text)]
            others += sum(int(number) if len(number) < 20 else 10**20 for number in numbers)
            others += sum(self._length(item) for each in rest if isinstance(each, tuple) for item in each)
        if name == "sum" and any(isinstance(each, (list, tuple)) for each in rest):
            name = "sum of lists"
        if name in _SQUARES:
            return size * (size + others)
        return size * max(1, others) if name in _PRODUCTS else size + others

    def _length(self, value: Any) -> int:
        return abs(value) if isinstance(value, int) else self._size(value)

    def _size(self, value: Any) -> int:
        """The units of a value: its characters and items, at every depth, up to what is left of the budget."""
        total, waiting = 0, [value]
        while waiting and total <= self._local.left:
            value = waiting.pop()
            if isinstance(value, (str, bytes)):
                total += 1 + len(value)
                continue
            total += ITEM + (value.bit_length() // 4 if isinstance(value, int) else 0)
            if isinstance(value, Mapping):
                waiting += value.values()
            elif isinstance(value, (list, tuple, set, frozenset)):
                waiting += value
            elif isinstance(value, range):
                total += ITEM * len(value)
        return total


class _Counting(jinja2.visitor.NodeTransformer):
    """Adds a step to every body that may run more than once; `~` and literals of several items become calls."""

    def _stepping(self, node: Any) -> Any:
        text = sum(len(data.data) for data in node.find_all(jinja2.nodes.TemplateData))
        node = self.generic_visit(node)
        step = jinja2.nodes.EnvironmentAttribute("step")
        call = jinja2.nodes.Call(step, [jinja2.nodes.Const(text)], [], None, None)
        node.body.insert(0, jinja2.nodes.ExprStmt(call).set_lineno(node.lineno, override=True))
        return node

    visit_For = visit_Macro = visit_CallBlock = visit_Block = _stepping  # noqa: N815 - as jinja2 finds them

    def _counted(self, node: Any) -> jinja2.nodes.Node:
        node = self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":
            return node  # names that are set
        call = jinja2.nodes.Call(jinja2.nodes.EnvironmentAttribute("literal"), [node], [], None, None)
        return call.set_lineno(node.lineno)

    visit_List = visit_Tuple = visit_Dict = _counted  # noqa: N815

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:
        node = self.generic_visit(node)  # type: ignore[assignment]
        call = jinja2.nodes.Call(jinja2.nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None)
        return call.set_lineno(node.lineno)


def _whole(value: Any) -> Any:
    """What `map` and its like give, as a list, whose length is known."""
    return list(value) if isinstance(value, types.GeneratorType) else value


def _product(operator: str, left: Any, right: Any, left_size: int, right_size: int) -> int:
    """The units of a product or a power."""
    if isinstance(left, int) and isinstance(right, int):
        return left_size * (abs(right) if operator == "**" else right_size)
    times = next((abs(each) for each in (left, right) if isinstance(each, int)), 1)
    return max(left_size, right_size) * max(1, times)


@jinja2.pass_environment
def _finalize(environment: BoundedEnvironment, value: Any) -> Any:
    """Count what a template writes. A function of the environment is never evaluated when the template is compiled."""
    environment.spend(environment._size(value))
    return value
