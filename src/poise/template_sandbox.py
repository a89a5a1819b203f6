"""Jinja's sandbox for chat templates, with a meter: what a template computes and makes is counted while it runs.

The sandbox keeps a template from Python's internals; it does not keep it from `'A' * 10**9` or a hundred nested loops.
So loops, calls, operators and what is written are metered, and only functions are there whose cost can be told before.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

SECONDS = 1.0
"""Of computing, for one rendering."""
NUMBER = 4_000
"""The largest width, repetition of a filter, or power."""
TICKS = 256
"""Between two looks at the clock."""
FILTERS = frozenset((
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "format", "groupby",
    "indent", "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr",
    "replace", "reverse", "round", "safe", "select", "selectattr", "sort", "string", "sum", "title", "tojson", "trim",
    "truncate", "unique", "upper",
))  # fmt: skip
METHODS: dict[type, frozenset[str]] = {
    str: frozenset((
        "capitalize", "casefold", "center", "count", "endswith", "find", "format", "format_map", "index", "isalnum",
        "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join",
        "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust",
        "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
        "zfill",
    )),
    dict: frozenset(("get", "items", "keys", "values", "copy")),
    list: frozenset(("index", "count", "copy")),
    tuple: frozenset(("index", "count")),
}  # fmt: skip
EACH, KEPT, WHOLE, JOINED = "each of", "as kept", "as a whole", "joined up"
"""Filters that only this file can write into a template, for their names have no place in jinja's language."""
WIDE = re.compile(r"%[^a-zA-Z%]*(?:\d{4}|\*)|\{[^{}]*:[^{}]*\d{4}|\{[^{}]*\{")
"""A width in the thousands in a format string, or one that is given beside it."""


Args = tuple[Any, ...]


class _Running(threading.local):
    meter: "Meter | None" = None


_running = _Running()


class Meter:
    """What one rendering has left."""

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self.until = time.thread_time() + SECONDS
        self.ticks = 0

    def tick(self) -> None:
        """Count a turn of a loop or a call."""
        self.ticks += 1
        if self.ticks % TICKS == 0 and time.thread_time() > self.until:
            raise SecurityError(f"it computes for more than {SECONDS:g} s")

    def spend(self, characters: int) -> None:
        """Take characters, or as much memory, before or after they are made."""
        self.tick()
        self.characters -= characters
        if self.characters < 0:
            raise SecurityError("it makes more text than its messages can need")

    def keep(self, value: Any) -> Any:
        """Take what a value's own characters or items cost."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, list | tuple | dict):
            self.spend(8 * len(cast("Sequence[Any]", value)))
        else:
            self.tick()
        return value

    def keep_whole(self, value: Any) -> Any:
        """Take what a value costs with all that is in it, as often as it is in it."""
        self.keep(value)
        if isinstance(value, Mapping):
            for pair in cast("Mapping[Any, Any]", value).items():
                self.keep_whole(pair[0])
                self.keep_whole(pair[1])
        elif isinstance(value, list | tuple):
            for part in cast("Sequence[Any]", value):
                self.keep_whole(part)
        return value

    def each(self, values: Iterable[Any]) -> Iterator[Any]:
        """Count the turns of a loop."""
        for value in values:
            self.tick()
            yield value


@contextmanager
def metering(meter: Meter) -> Generator[None]:
    """Let templates of this thread run by a meter."""
    _running.meter = meter
    try:
        yield
    finally:
        _running.meter = None


def metered(tree: nodes.Node) -> nodes.Node:
    """Put meters into a parsed template."""
    return _Metering().visit(tree)


def _meter() -> Meter:
    if _running.meter is None:  # while compiling, where jinja computes constants
        raise nodes.Impossible
    return _running.meter


class _Metering(NodeTransformer):
    """Put meters into a parsed template: at loops, slices, lists, and wherever text is written or joined."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Change the parts of a node, then the node."""
        node = self.generic_visit(node)
        if isinstance(node, nodes.For):
            node.iter = _filtered(EACH, node.iter)
        elif isinstance(node, nodes.Output):
            node.nodes = [
                part if isinstance(part, nodes.TemplateData) else _filtered(WHOLE, part) for part in node.nodes
            ]
        elif isinstance(node, nodes.Concat):
            return _filtered(JOINED, nodes.List(node.nodes, lineno=node.lineno))
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            return _filtered(KEPT, node)
        elif isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
            return _filtered(WHOLE, node)
        return node


def _filtered(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """The tag `{% generation %}`, which marks an answer and writes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own declaration

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with the functions that templates of the Hub are written for, and a meter."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.globals = {
            "range": safe_range,
            "cycler": Cycler,
            "joiner": Joiner,
            "dict": _dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.filters["tojson"] = _to_json
        self.filters = {name: _wrapped(name, self.filters[name]) for name in FILTERS} | {
            EACH: lambda values: _meter().each(values),
            KEPT: lambda value: _meter().keep(value),
            WHOLE: lambda value: _meter().keep_whole(value),
            JOINED: lambda values: "".join(str(_meter().keep_whole(value)) for value in values),
        }

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute an operator, of which some make much of little."""
        meter = _meter()
        if operator == "*":
            _refuse_product(meter, left, right)
        elif operator == "**" and (abs(right) > NUMBER or abs(left) > 10**NUMBER):
            raise SecurityError("it raises a number to a huge power")
        elif operator == "%" and isinstance(left, str):
            _refuse_wide(left)
            meter.keep_whole(right)
        return meter.keep(super().call_binop(context, operator, left, right))

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Call what a template may call."""
        meter = _meter()
        meter.tick()
        args = (meter.each(args[0]),) if isinstance(obj, LoopContext) else _checked(obj, args, kwargs)
        made = super().call(context, obj, *args, **kwargs)
        return meter.keep_whole(made) if obj is _dict else meter.keep(made)


def _checked(obj: Any, args: Args, kwargs: dict[str, Any]) -> Args:
    """Refuse a call whose cost cannot be told, or is too high; returns its arguments."""
    method = getattr(obj, "__wrapped__", obj)  # jinja wraps str.format
    owner = getattr(method, "__self__", None)
    if isinstance(obj, CALLABLE) or isinstance(owner, LoopContext | Cycler | _Dict) or obj in GIVEN:
        return args
    kind = next((kind for kind in METHODS if isinstance(owner, kind)), None)
    name = getattr(method, "__name__", "")
    if kind is None or name not in METHODS[kind]:
        raise SecurityError(f"it calls {name or type(obj).__name__}, which no chat template needs")
    if kind is str:
        return _checked_text(cast(str, owner), name, args, kwargs)
    return args


def _checked_text(text: str, name: str, args: Args, kwargs: dict[str, Any]) -> Args:
    if name in ("center", "ljust", "rjust", "zfill"):
        _refuse_large(args)
    elif name in ("format", "format_map"):
        _refuse_wide(text)
        _meter().keep_whole([*args, kwargs])
    elif name == "replace" and len(args) > 1:
        _refuse_replacement(text, args[0], args[1])
    elif name == "join":
        parts = [_meter().keep(part) for part in _at(args, 0, ())]
        _meter().spend(len(text) * len(parts))
        return (parts,)
    _meter().spend(len(text) // 16)  # reading it takes time too
    return args


def _wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter; what jinja passes to it beside the value is passed on."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        meter = _meter()
        if name in CHECKS:
            args = CHECKS[name](args, kwargs)
        made = function(*args, **kwargs)
        return meter.each(made) if isinstance(made, Iterator) else meter.keep(made)

    return wrapped


def _check_format(args: Args, kwargs: dict[str, Any]) -> Args:
    _refuse_wide(str(args[0]))
    _meter().keep_whole([*args[1:], kwargs])
    return args


def _check_replace(args: Args, kwargs: dict[str, Any]) -> Args:
    said = [*args[2:4], *kwargs.values()]
    if len(said) > 1:
        _refuse_replacement(str(_meter().keep(args[1])), str(said[0]), str(said[1]))
    return args


def _check_indent(args: Args, kwargs: dict[str, Any]) -> Args:
    width = _at(args, 1, kwargs.get("width", 4))
    _meter().spend(str(args[0]).count("\n") * (width if isinstance(width, int) else len(str(width))))
    return args


def _check_list(args: Args, kwargs: dict[str, Any]) -> Args:
    """Take what `|list` reads one by one; the first argument is jinja's own, here and below."""
    return (args[0], _meter().keep(list(_meter().each(args[1]))))


def _check_join(args: Args, kwargs: dict[str, Any]) -> Args:
    """Take the separators here; the parts are taken with the text that comes of them."""
    parts = [_meter().keep_whole(part) for part in args[1]]
    separator = _at(args, 2, kwargs.get("d", ""))
    _meter().spend(len(str(separator)) * len(parts))
    return (args[0], parts, *args[2:])


def _check_sum(args: Args, kwargs: dict[str, Any]) -> Args:
    start = _at(args, 3, kwargs.get("start", 0))
    if not isinstance(start, int | float):
        raise SecurityError("it sums what are no numbers")
    return args


def _check_whole(args: Args, kwargs: dict[str, Any]) -> Args:
    _meter().keep_whole(args[0])
    return args


def _check_width(args: Args, kwargs: dict[str, Any]) -> Args:
    _refuse_large([*args[1:], *kwargs.values()])
    return args


CHECKS: dict[str, Callable[[Args, dict[str, Any]], Args]] = {
    "format": _check_format,
    "replace": _check_replace,
    "indent": _check_indent,
    "list": _check_list,
    "join": _check_join,
    "sum": _check_sum,
    "string": _check_whole,
    "tojson": _check_whole,
    "round": _check_width,
}
"""What is looked at before a filter runs."""


def _at(args: Args, index: int, default: Any) -> Any:
    return args[index] if len(args) > index else default


def _refuse_product(meter: Meter, left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            meter.spend(len(cast("Sequence[Any]", value)) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > NUMBER:
        raise SecurityError("it multiplies huge numbers")


def _refuse_wide(form: str) -> None:
    if WIDE.search(form.replace("{{", "").replace("}}", "")):
        raise SecurityError("it formats to a huge width")


def _refuse_large(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > NUMBER for value in values):
        raise SecurityError(f"it asks for a width over {NUMBER:,}")


def _refuse_replacement(text: str, old: Any, new: Any) -> None:
    found = text.count(str(old)) if old else len(text) + 1
    _meter().spend(found * len(str(new)))


class _Namespace(Namespace):
    """Jinja's, whose names do not reach Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        names = dict(*args, **kwargs)
        for name in names:
            _refuse_private(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"it writes to {name!r}")


class _Dict:
    """`dict` as templates know it, without the type's other ways."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """Make a dict whose values are all the same."""
        return _meter().keep_whole(dict.fromkeys(_meter().each(keys), value))


_dict = _Dict()
CALLABLE = (Macro, Undefined, Cycler, Joiner, _Dict)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Write JSON without jinja's HTML escapes."""
    if isinstance(indent, int):
        _refuse_large([indent * 100])
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    if len(form) > 100 or WIDE.search(form):
        raise SecurityError("it formats the time to a huge width")
    return datetime.now().strftime(form)


GIVEN = (safe_range, _Namespace, _raise_exception, _strftime_now, Cycler, Joiner)
"""The functions that a template finds."""
