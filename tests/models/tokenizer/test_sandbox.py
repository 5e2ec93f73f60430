"""Templates that try to run for ever, to fill the memory, or to get out."""

from __future__ import annotations

import threading
import tracemalloc

import pytest

from lepton.errors import ModelFormatError, RequestError
from lepton.models.tokenizer import ChatTemplate
from lepton.models.tokenizer.budget import RenderLimits

LIMITS = RenderLimits(characters=100_000, total_characters=1_000_000, seconds=0.2)
MESSAGES = [{"role": "user", "content": "hi"}]


def render(source: str, limits: RenderLimits = LIMITS) -> str:
    return ChatTemplate(source, limits=limits).render(MESSAGES)


def doubling(step: str, start: str = "'ab'") -> str:
    return (
        "{% set ns = namespace(x=" + start + ") %}{% for _ in range(200) %}" + step + "{% endfor %}"
        "{{ ns.x }}"
    )


ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "nested loops in a block": "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}{% endset %}",
    "condition of a loop": "{% for i in range(99999) if range(99999)|sum < 0 %}{% endfor %}",
    "branching macro": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "recursive loop": "{% for i in range(99) recursive %}{% if loop.depth < 50 %}"
    "{{ loop(range(99)) }}{% endif %}{% endfor %}",
    "test in a filter": "{{ range(99999)|select('in', range(99999)|list)|list }}",
    "filter in a filter": "{% for i in range(99999) %}{% set x = range(99999)|map('string')|list %}"
    "{% endfor %}",
    "recursive macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}

HUGE = {
    "long output": "{% for i in range(99999) %}0123456789{% endfor %}",
    "range": "{% for i in range(10**9) %}a{% endfor %}",
    "repeated text": "{{ 'a' * 10**10 }}",
    "repeated list": "{{ [1] * 10**10 }}",
    "number first": "{{ 10**10 * 'a' }}",
    "center filter": "{{ 'a'|center(10**9) }}",
    "center method": "{{ 'a'.center(10**9) }}",
    "stored method": "{% set f = 'a'.ljust %}{{ f(10**9) }}",
    "zfill": "{{ 'a'.zfill(10**9) }}",
    "expandtabs": "{{ '\t'.expandtabs(tabsize=10**9) }}",
    "join method": "{{ ('b' * 50000).join(['a'] * 50000) }}",
    "join filter": "{{ (['a'] * 50000)|join('b' * 50000) }}",
    "join of an iterator": "{{ range(9999)|map('string')|join('b' * 50000) }}",
    "join by method of an iterator": "{{ ('b' * 50000).join(range(9999)|map('string')) }}",
    "replace method": "{{ ('a' * 50000).replace('', 'b' * 50000) }}",
    "replace filter": "{{ ('a' * 50000)|replace('a', 'b' * 50000) }}",
    "indent filter": "{{ ('\\n' * 50000)|indent(9999) }}",
    "translate": "{{ 'a'.translate({97: 'b' * 50000}) }}",
    "batch": "{{ [1]|batch(10**9, 'x')|list }}",
    "slice filter": "{{ [1]|slice(10**9)|list }}",
    "percent width": "{{ '%999999999d' % 1 }}",
    "percent argument width": "{{ '%*d' % (999999999, 1) }}",
    "percent repeats": "{{ ('%(a)s' * 9999) % {'a': 'b' * 50000} }}",
    "percent filter": "{{ '%999999999d'|format(1) }}",
    "format width": "{{ '{:999999999}'.format(1) }}",
    "format argument width": "{{ '{:{}}'.format(1, 999999999) }}",
    "format repeats": "{{ ('{0}' * 9999).format('b' * 50000) }}",
    "format_map": "{{ '{a:999999999}'.format_map({'a': 1}) }}",
    "doubling by ~": doubling("{% set ns.x = ns.x ~ ns.x %}"),
    "doubling by +": doubling("{% set ns.x = ns.x + ns.x %}"),
    "doubling by block": doubling("{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
    "doubling by join": doubling("{% set ns.x = [ns.x, ns.x]|join %}"),
    "doubling by macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}"
    + doubling("{% set ns.x = f(ns.x) %}"),
    "doubling by nesting": doubling("{% set ns.x = [ns.x, ns.x] %}"),
    "doubling by dicts": doubling("{% set ns.x = {'a': ns.x, 'b': ns.x} %}"),
    "doubling by namespaces": doubling("{% set ns.x = namespace(a=ns.x, b=ns.x) %}"),
    "doubling behind a view": "{% set n = namespace(x=1) %}{% set d = {'k': n} %}"
    "{% for i in range(200) %}{% set n.x = namespace(a=n.x, b=n.x) %}{% endfor %}{{ d.items() }}",
    "doubling by tuples": doubling("{% set ns.x = (ns.x, ns.x) %}"),
    "squaring": doubling("{% set ns.x = ns.x * ns.x %}", "99"),
    "power": "{{ 9 ** 99999999 }}",
    "digits": "{{ 1|round(10**9, 'ceil') }}",
    "parsed number": "{{ ('f' * 90000)|int(0, 16) }}",
    "json indent": "{{ 1|tojson(indent=10**9) }}",
    "json nesting": "{{ ([1] * 50000)|tojson(indent=9999) }}",
    "many texts": "{% set b = 'a' * 90000 %}"
    + "".join(f"{{% set b{i} = b[1:] %}}" for i in range(100)),
    "many concatenations": "{% for i in range(99999) %}{% set b = 'a' * 9000 ~ i %}{% endfor %}",
    "date": "{{ strftime_now('%999999999Y') }}",
    "markup": "{{ ('<' * 90000)|escape }}",
}  # fmt: skip

ESCAPES = {
    "class": "{{ ''.__class__.__mro__ }}",
    "class by filter": "{{ (''|attr('__class__')).__mro__ }}",
    "globals": "{{ raise_exception.__globals__['os'] }}",
    "format field": "{{ '{0.__class__.__mro__}'.format('') }}",
    "format by filter": "{{ (''|attr('format')).__self__.x }}",
    "changing a list": "{{ messages.append(1) }}",
    "changing a message": "{{ messages[0].update({}) }}",
    "method of a number": "{{ (5).to_bytes(10, 'big') }}",
    "class method": "{{ messages[0].fromkeys([1]) }}",
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "environment": "{{ self._TemplateReference__context.environment.globals }}",
    "lipsum": "{{ lipsum.__globals__ }}",
    "hidden filter": "{{ namespace.__init__.__globals__ }}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_endless_templates_are_stopped(source: str) -> None:
    before = threading.active_count()
    with pytest.raises(RequestError, match=r"ran for more than|recursion"):
        render(source)
    assert threading.active_count() == before


@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE)
def test_huge_values_are_stopped(source: str) -> None:
    template = ChatTemplate(source, limits=RenderLimits(100_000, 1_000_000, seconds=60))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            template.render(MESSAGES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "ran for" not in str(caught.value)
    assert peak < 30_000_000


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES)
def test_nothing_gets_out(source: str) -> None:
    with pytest.raises(RequestError, match="chat template failed"):
        render(source)


def test_internal_steps_cannot_be_named() -> None:
    with pytest.raises(ModelFormatError, match="not valid"):
        ChatTemplate("{{ 1|(tick) }}")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% endfor %}",
         "1/1True"),
        ("{% for i in range(9) if i % 2 %}{% if i == 7 %}{% break %}{% endif %}{{ i }}{% endfor %}",
         "135"),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{{ [1, 2][::-1] }}{{ (1, 2) }}{{ {'a': none} }}", "[2, 1](1, 2){'a': None}"),
        ("{% set a, b = 1, 2 %}{{ a ~ b ~ none ~ true }}", "12NoneTrue"),
        ("{{ 'abc'.upper()[1:] + 'x'.join(['1', '2']) }}", "BC1x2"),
        ("{{ '%05.1f|%s' % (3.14159, 'x') }}{{ '{:>4}{a}'.format(1, a=2) }}", "003.1|x   12"),
        ("{{ 'a b'.split() }}{{ ' x '.strip() }}{{ 'x'|center(5) }}|", "['a', 'b']x  x  |"),
        ("{{ messages|map(attribute='role')|join(', ') }}", "user"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        ("{{ {'b': '<é>', 'a': [1, 2.5, none]}|tojson(sort_keys=true) }}",
         '{"a": [1, 2.5, null], "b": "<é>"}'),
        ("{{ {'a': [1]}|tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{% macro f(x, y='d') %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}{{ f(2, y=3) }}", "1d23"),
        ("{% filter upper %}a{{ 'b' }}{% endfilter %}", "AB"),
        ("{% macro f() %}{{ caller(5) }}{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}", "5"),
        ("{{ missing|default('d') }}{{ missing }}{{ missing is defined }}", "dFalse"),
        ("{{ 2 ** 10 }} {{ 7 // 2 }} {{ 7.5|round|int }} {{ [3, 1]|sum }} {{ [3, 1]|sort }}",
         "1024 3 8 4 [1, 3]"),
        ("{{ dict(a=1).get('b', 2) }}{{ dict(a=1)|dictsort }}", "2[('a', 1)]"),
        ("{% generation %}\n  x\n{% endgeneration %}", "  x\n"),
        ("  {% if true %}\nyes\n  {% endif %}\n", "yes\n"),
        ("{{ 'a\nb'|indent(2, true) }}", "  a\n  b"),
        ("{% set x %}a{% endset %}{{ x is string }}{{ x }}", "Truea"),
        ("{% with y = 3 %}{{ y }}{% endwith %}{{ 3|abs }}{{ 'x' in 'xyz' }}", "33True"),
    ],
)  # fmt: skip
def test_what_templates_use_works(source: str, expected: str) -> None:
    assert render(source) == expected


def test_the_clock_is_the_threads_own() -> None:
    """A rendering that finished leaves no budget behind for the next."""
    template = ChatTemplate("{% for i in range(2000) %}{{ i }}{% endfor %}", limits=LIMITS)
    assert {template.render(MESSAGES) for _ in range(20)} == {"".join(map(str, range(2000)))}


def test_a_long_conversation_fits() -> None:
    messages = [{"role": "user", "content": "好" * 500}] * 2000
    source = "{% for m in messages %}{{ m.role ~ ': ' + m['content']|trim + '\\n' }}{% endfor %}"
    assert len(ChatTemplate(source).render(messages)) == 2000 * (500 + 7)
