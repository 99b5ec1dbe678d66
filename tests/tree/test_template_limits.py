"""Templates of unknown origin end in one sentence, in bounded time and memory."""

from __future__ import annotations

import re
import resource
import time

import pytest

from aloe_jax.errors import InputError
from aloe_jax.tree.schema import Message
from aloe_jax.tree.template import ChatTemplate

SYSTEM = Message(role="system", content="Be kind.")
USER = Message(role="user", content="How are you?")
FAILING = {
    "division": "{{ 1 / 0 }}",
    "undefined": "{{ messages.nothing.at.all }}",
    "type": "{{ messages + 1 }}",
    "attribute": "{{ messages[0].content.nothing() }}",
    "power": "{{ 2.0 ** 10000 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "long reason": "{{ raise_exception('x' * 100000) }}",
    "lines": "{{ raise_exception('first\nsecond') }}",
    "random": "{{ messages | random }}",
}
EXCESSIVE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(99999) %}{% for j in range(999) %}some text{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "recursive loop": "{% for x in [[[[]]]] * 9 recursive %}{{ loop([x] * 9) }}{% endfor %}",
    "10 GB": "{{ 'a' * 10**10 }}",
    "10 GB turned": "{{ 10**10 * 'a' }}",
    "list": "{{ ([1] * 10**10) | length }}",
    "doubling +": "{% set a = 'a' %}" + "{% set a = a + a %}" * 40 + "{{ a | length }}",
    "doubling ~": "{% set a = 'a' %}" + "{% set a = a ~ a %}" * 40 + "{{ a | length }}",
    "doubling join": "{% set a = 'a' %}" + "{% set a = [a, a] | join %}" * 40,
    "laughs": "{% set a = ['a'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "laughs tojson": "{% set a = ['a'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a | tojson }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "center": "{{ 'a' | center(10**10) }}",
    "format": "{{ '%9999999999d' % 1 }}",
    "format of a method": "{{ '{:>9999999999}'.format(1) }}",
    "format with a width": "{{ '{:>{}}'.format(1, 10**10) }}",
    "format filter": "{{ '%*d' | format(10**10, 1) }}",
    "indent": "{{ 'a\nb' | indent(10**10) }}",
    "indent by text": "{{ ('a\n' * 10**5) | indent('x' * 10**5) }}",
    "join": "{{ range(99999) | join('x' * 10**6) }}",
    "join of a map": "{{ range(99999) | map('string') | join('x' * 10**6) }}",
    "join of a method": "{{ ('x' * 10**6).join(['y'] * 10**5) }}",
    "replace": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}",
    "replace of a method": "{{ ('a' * 10**6).replace('', 'b' * 10**6) }}",
    "expandtabs": "{{ ('\t' * 10**5).expandtabs(10**6) }}",
    "zfill": "{{ '1'.zfill(10**10) }}",
    "batch": "{{ [1] | batch(10**10, 'x') | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "tojson": "{{ ([1] * 10**5) | tojson(indent=10**9) }}",
    "powers": "{{ 9 ** (9 ** 9) }}",
    "product": "{% set a = 9 ** 999 %}" + "{% set a = a * a %}" * 30,
    "wordwrap": "{{ ('ab ' * 10**5) | wordwrap(1, wrapstring='x' * 10**6) }}",
    "wordwrap of one word": "{{ ('x' * 10**6) | wordwrap(1) | length }}",
    "trim": "{{ ('x' * 5 * 10**5) | trim('y' * 5 * 10**5 ~ 'x') | length }}",
    "strip of a method": "{{ ('x' * 5 * 10**5).strip('y' * 5 * 10**5 ~ 'x') | length }}",
    "rfind": "{{ ('a' * 7 * 10**5).rfind('ab' ~ 'a' * 3 * 10**5) }}",
    "rsplit": "{{ ('a' * 7 * 10**5).rsplit('ab' ~ 'a' * 3 * 10**5) | length }}",
    "round": "{{ 1.5 | round(2 * 10**7, 'ceil') }}",
    "sum of lists": "{{ ([['x'] * 20] * 20000) | sum(start=[]) | length }}",
    "date": "{{ strftime_now('%9999999999d') }}",
    "map": "{{ range(9999) | map('replace', '', 'x' * 10**6) | list | length }}",
    "set block": "{% set a %}{% for i in range(99999) %}" + "text " * 1000 + "{% endfor %}{% endset %}",
    "compared": "{% set a = ['a'] %}{% set b = ['a'] %}"
    + "{% set a = [a, a] %}{% set b = (b, b) | list %}" * 40
    + "{{ a == b }}",
    "arguments": "{% macro f(a) %}{{ f([a, a]) }}{% endmacro %}{{ f('a') }}",
    "varargs": "{% macro f(n) %}{% if n %}{{ f(n - 1, varargs, varargs) }}{% endif %}{{ varargs }}{% endmacro %}"
    "{{ f(60, 1) }}",
    "reason": "{% set a = ['a'] %}" + "{% set a = [a, a] %}" * 40 + "{{ raise_exception(a) }}",
    "dict": "{% set a = {'a': 1} %}" + "{% set a = dict(a=a, b=a) %}" * 40 + "{{ a }}",
    "lipsum": "{{ lipsum(n=10**9) }}",
}
DEEP = {
    "if": "{% if true %}" * 3000 + "{% endif %}" * 3000,
    "for": "{% for a in [1] %}" * 3000 + "{% endfor %}" * 3000,
    "for of 25": "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
    "parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "parentheses of 300": "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "lists": "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "minus": "{{ " + "-" * 3000 + "1 }}",
    "sum": "{{ " + "1 + " * 100_000 + "1 }}",
    "not": "{{ " + "not " * 3000 + "1 }}",
    "size": "x" * 1_000_001,
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_is_one_sentence(name):
    with pytest.raises(InputError, match=r"mine (refuses turn 1|does not compile): .") as caught:
        ChatTemplate(FAILING[name], name="mine").render([USER], add_generation_prompt=True)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EXCESSIVE)
def test_time_and_memory_are_bounded(name):
    """A billion of anything would take minutes and gigabytes: 12 s of computation and 1 GB are allowed here, about 3 s
    and 100 MB are measured."""
    template = ChatTemplate(EXCESSIVE[name], name="mine")
    began, before = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"mine refuses turn 1: "):
        template.render([USER], add_generation_prompt=True)
    assert time.thread_time() - began < 12
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB


@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_one_sentence(name):
    """Python's compiler refuses some depths that Jinja's takes; whatever compiles also renders."""
    said = ""
    try:
        ChatTemplate(DEEP[name], name="mine").render([USER], add_generation_prompt=True)
    except InputError as error:
        said = str(error)
    assert re.match("|mine does not compile|mine refuses turn 1|mine has [0-9]+ characters; expected at most", said)
    assert len(said) < 500


def test_long_conversations_are_far_from_the_limit():
    """2,000 messages of 2,000 characters each, with the usual operations on each of them."""
    text = (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% set c = m.content.split('</think>')[-1].strip() | replace('a', 'b') %}"
        "{{ '<|' + m['role'] + '|>\n' + c ~ '<|end|>' + '\n' }}{{ messages[loop.index0].role | upper }}{% endfor %}"
    )
    said = [Message(role=("user", "assistant")[n % 2], content="a long text " * 166) for n in range(2000)]
    assert len(ChatTemplate(text).render(said, add_generation_prompt=True)) > 4_000_000


def test_each_render_has_its_own_budget():
    template = ChatTemplate("{% for i in range(70000) %}some words {{ i }}{% endfor %}")
    for _ in range(2):
        template.render([USER], add_generation_prompt=True)


def test_the_remedy_is_one_that_helps():
    """Folding is suggested where it helps and only there."""
    refusing = (
        "{% for m in messages %}{{ raise_exception('no system') if m.role == 'system' }}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(InputError, match=r"no system; config\.template\.system=fold.*--system"):
        ChatTemplate(refusing).render([SYSTEM, USER], add_generation_prompt=True)
    with pytest.raises(InputError, match=r"division by zero; repair the template in the model's folder"):
        ChatTemplate("{{ 1 / 0 }}").render([SYSTEM, USER], add_generation_prompt=True)
