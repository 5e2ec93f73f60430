"""The sandbox that chat templates run in.

Jinja's immutable sandbox keeps a template from reaching anything but the values it is given. This
one bounds besides what it may spend: templates come with model files, and a model file may come
from anywhere. The template's syntax tree is rewritten so that every loop iteration looks at the
clock and every new text or list is counted; operators, filters, methods and formats are checked
before they are carried out. Nothing runs in another thread or process.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer

from lepton.models.tokenizer.bounded_operations import (
    FILTER_CHECKS,
    check_binary,
    check_method,
    check_width,
    check_widths,
)
from lepton.models.tokenizer.budget import RenderBudget, RenderLimits

_FILTERS = """
    abs attr batch capitalize center count d default dictsort e escape first float forceescape
    format groupby indent int items join last length list lower map max min reject rejectattr
    replace reverse round safe select selectattr slice sort string sum title trim unique upper
    urlencode wordcount
"""
_CHEAP_FILTERS = """
    attr count d default first items last length list map reject rejectattr reverse select
    selectattr
"""
"""Filters that look at no more than one level of their argument, or at nothing until iterated."""
_LAZY_FILTERS = frozenset({"map", "reject", "rejectattr", "select", "selectattr"})
_PICKING_FILTERS = frozenset({"attr", "d", "default", "first", "last", "max", "min"})
"""Filters that return something that was there before."""

# Names that no template can write, for the steps that the rewriting adds.
_TICK, _CONCATENATE, _CHARGE = "(tick)", "(concatenate)", "(charge)"

_budget: ContextVar[RenderBudget] = ContextVar("budget")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """A Jinja environment with the dialect of chat templates and bounds on what they spend.

    Safe for use from several threads: what a rendering has spent is kept in a context variable.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _GenerationBlock],
            optimized=False,
            finalize=_finalize,
        )
        self.filters = {
            name: _bounded_filter(name, function)
            for name, function in self.filters.items()
            if name in _FILTERS.split()
        } | {
            "tojson": _to_json,
            _TICK: _tick,
            _CONCATENATE: _concatenate,
            _CHARGE: _charge,
        }
        self.tests = {name: _bounded_test(function) for name, function in self.tests.items()}
        self.globals = {name: value for name, value in self.globals.items() if name != "lipsum"} | {
            "dict": _make_dict,
            "raise_exception": _raise,
            "strftime_now": _strftime_now,
        }

    def compile_template(self, source: str) -> Template:
        """Compile a template, rewritten to keep to its limits.

        Raises TemplateError, or what Python raises for code nested too deep.
        """
        return self.from_string(_Rewriter().visit(self.parse(source)))

    def render(self, template: Template, variables: Mapping[str, Any], limits: RenderLimits) -> str:
        """Render a template of `compile_template`; templates may raise any exception."""
        token = _budget.set(RenderBudget(limits))
        try:
            return self.concat(template.root_render_func(template.new_context(dict(variables))))
        finally:
            _budget.reset(token)

    def concat(self, parts: Iterable[str]) -> str:
        """Join the output of the template, of a block or of a macro."""
        budget = _budget.get()
        kept = []
        size = 0
        for part in parts:
            budget.tick()
            size += len(part)
            budget.allow(size)
            kept.append(part)
        return str(budget.charge("".join(kept)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Carry out an operator that may make something large."""
        budget = _budget.get()
        check_binary(budget, operator, left, right)
        return _counted(budget, super().call_binop(context, operator, left, right))

    def call(
        __self,  # noqa: N805
        __context: Context,
        __callee: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a macro, a method of a text or container, or a global function."""
        budget = _budget.get()
        budget.tick()
        if not isinstance(__callee, types.BuiltinMethodType):
            return super().call(__context, __callee, *args, **kwargs)
        owner = __callee.__self__
        args = tuple(_materialised(value) for value in args)
        check_method(budget, owner, __callee.__name__, (*args, *kwargs.values()))
        if isinstance(owner, dict):
            return super().call(__context, __callee, *args, **kwargs)
        return _counted(budget, super().call(__context, __callee, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Replace ``str.format`` by a version that keeps to the limits."""
        if super().wrap_str_format(value) is None:
            return None
        template = str(value.__self__)

        def bounded_format(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                args, kwargs = (), dict(*args)
            budget = _budget.get()
            return str(budget.charge(_BoundedFormatter(self).vformat(template, args, kwargs)))

        return bounded_format


class _BoundedFormatter(SandboxedFormatter):
    """``str.format`` without very wide fields or very long results."""

    def __init__(self, environment: TemplateSandbox) -> None:
        super().__init__(environment)
        self._size = 0

    def convert_field(self, value: Any, conversion: Any) -> Any:
        _budget.get().measure(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        budget = _budget.get()
        budget.tick()
        budget.measure(value)
        check_widths(format_spec)
        text = str(super().format_field(value, format_spec))
        self._size += len(text)
        budget.allow(self._size)
        return text


class _GenerationBlock(Extension):
    """``{% generation %}`` marks what the assistant wrote, for training; it prints its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Rewriter(NodeTransformer):
    """Adds the clock to loops, and counting to expressions that make texts or containers."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_step(nodes.Const(None), _TICK)))
        if node.test is not None:
            node.test = nodes.And(_step(nodes.Const(True), _TICK), node.test)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _step(nodes.Tuple(node.nodes, "load"), _CONCATENATE)

    def visit_List(self, node: nodes.List) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _step(node, _CHARGE)

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _step(node, _CHARGE) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _step(node, _CHARGE) if isinstance(node.arg, nodes.Slice) else node


def _step(value: nodes.Expr, name: str) -> nodes.Filter:
    """A call to one of the filters that templates cannot name."""
    return nodes.Filter(value, name, [], [], None, None)


def _tick(value: Any) -> Any:
    _budget.get().tick()
    return value


def _charge(value: Any) -> Any:
    return _counted(_budget.get(), value)


def _counted(budget: RenderBudget, value: Any) -> Any:
    """Count a new value; a container must not be too large when written out either."""
    if isinstance(value, (list, tuple, dict)):
        budget.measure(value)
    return budget.charge(value)


def _text(budget: RenderBudget, value: Any) -> str:
    if isinstance(value, str):
        return value
    budget.measure(value)
    return str(budget.charge(str(value)))


def _concatenate(values: tuple[Any, ...]) -> str:
    budget = _budget.get()
    parts = [_text(budget, value) for value in values]
    budget.allow(sum(map(len, parts)))
    return str(budget.charge("".join(parts)))


@pass_context
def _finalize(_context: Context, value: Any) -> str:
    return _text(_budget.get(), value)


def _materialised(value: Any) -> Any:
    """A list in place of an iterator, whose length could not be checked."""
    if not isinstance(value, Iterator):
        return value
    budget = _budget.get()
    items = []
    for item in value:
        budget.tick()
        items.append(item)
        budget.allow(len(items))
    return items


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """One of Jinja's filters, with its arguments and its result checked."""
    leading = 1 if hasattr(function, "jinja_pass_arg") else 0
    check = FILTER_CHECKS.get(name)
    cheap = name in _CHEAP_FILTERS.split()

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        budget = _budget.get()
        budget.tick()
        passed, values = args[:leading], args[leading:]
        if name not in _LAZY_FILTERS:
            values = tuple(_materialised(value) for value in values)
        if not cheap:
            budget.measure(*values, *kwargs.values())
        if check is not None:
            check(budget, *values, **kwargs)
        result = function(*passed, *values, **kwargs)
        return result if name in _PICKING_FILTERS else _counted(budget, result)

    return bounded


def _bounded_test(function: Any) -> Callable[..., Any]:
    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _budget.get().tick()
        return function(*args, **kwargs)

    return bounded


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON text of a value, without the HTML escapes of Jinja's own filter."""
    budget = _budget.get()
    budget.measure(value)
    check_width(indent)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    parts = []
    size = 0
    for part in encoder.iterencode(value):
        budget.tick()
        size += len(part)
        budget.allow(size)
        parts.append(part)
    return str(budget.charge("".join(parts)))


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(_charge(dict(*args, **kwargs)))


def _raise(message: Any) -> None:
    raise TemplateError(_text(_budget.get(), message))


def _strftime_now(specification: str) -> str:
    """The local time, formatted; some templates tell the model today's date."""
    check_widths(specification)
    _budget.get().allow(len(specification) * 64)
    return datetime.now().strftime(specification)
