"""The terms on which a tool may be called, and what is wrong with the arguments of a call.

A tool's *terms* are part of its version: whatever changes what a call means or costs makes a new
one. Its *standing* (status, tags) is not: it holds for every version, from the next call on. No
I/O here; who asks for a call (`engine.runs.calls`) asks here what the definition says of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from engine import documents
from engine.core import expressions, values
from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.core.section import below, named, short, suggestion
from engine.core.values import Json
from engine.errors import Invalid

STATUSES = ("active", "deprecated", "disabled", "maintenance")
#: Nothing calls a tool of these, whatever version of it was pinned.
CLOSED = frozenset({"disabled", "maintenance"})
CATEGORIES = (
    "data_read",
    "data_write",
    "external_api",
    "phi_access",
    "admin",
    "search",
    "compute",
)
EFFECTS = ("pure", "idempotent", "at_most_once", "compensable")

DEFAULT_SECONDS = 30.0
MAX_COST = Decimal(1_000_000_000)
MAX_TOKENS = 2**53
MAX_RATE = 1_000_000_000
MAX_PERMISSIONS = 100
MAX_TAGS = 50
#: Bytes of a schema.
MAX_SCHEMA = 65_536

PERMISSION = r"^[a-z][a-z0-9_.-]{0,99}:[a-z][a-z0-9_.-]{0,99}$"
TAG = r"^[^\x00-\x1f\x7f,]{1,64}$"

#: What is given by position to code that has no name for it; no name of an argument is like it.
_REST = "*"
#: What may be read of a call that is undone, and what undoes it is given where nothing is said.
_UNDONE = ("arguments", "result")
_AS_THEY_ARE: Mapping[str, Json] = {name: f"${name}" for name in _UNDONE}
#: What code asks for by this name is the run's, not the caller's.
_GIVEN = "context"
_CENTS = Decimal("0.000000001")
_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
    "dict": "object",
    "None": "null",
}


#: A value that is read from a call as it is.
_PATH = re.compile(r"\$(arguments|result)((?:\.[A-Za-z_]\w*|\[-?\d+\])*)", re.ASCII)
_KEY = re.compile(r"\.(\w+)|\[(-?\d+)\]", re.ASCII)


def _paths(given: Json) -> Iterator[re.Match[str]]:
    match given:
        case str() if found := _PATH.fullmatch(given):
            yield found
        case dict():
            for each in given.values():
                yield from _paths(each)
        case list():
            for each in given:
                yield from _paths(each)
        case _:
            pass


def _leads(path: re.Match[str], scope: Mapping[str, Json]) -> bool:
    value: Json = scope[path[1]]
    for key in _KEY.finditer(path[2]):
        try:
            value = value[key[1] or int(key[2])]  # type: ignore[index]  # or it leads to nothing
        except (LookupError, TypeError):
            return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What undoes a call of a tool: a call of another one."""

    #: Its name, with its version if one is fixed.
    tool: str
    #: Its arguments by name, in which `$arguments` and `$result` are those of the call that is undone. None:
    #: it is given these two.
    given: Mapping[str, Json] | None = None

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Undo:
        """It from what `told` gave."""
        return cls(tool=told["tool"], given=told["with"])

    def told(self) -> dict[str, Json]:
        """It as JSON."""
        return {"tool": self.tool, "with": None if self.given is None else dict(self.given)}

    def arguments(self, scope: Mapping[str, Json]) -> dict[str, Json]:
        """The arguments of the call that undoes one.

        Raises `EvaluationError` and `TooLarge`, and `LookupError` for a path that leads to nothing of the call:
        what undoes it must not be told null for what it should be told.
        """
        given = dict(_AS_THEY_ARE if self.given is None else self.given)
        found = expressions.template(given).evaluate(scope)
        for path in _paths(given):
            if not _leads(path, scope):
                raise LookupError(f"{path.group()} leads to nothing of the call")
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a version of a tool asks of whoever calls it."""

    #: The JSON Schema of the arguments by name; None where nothing is declared, and all goes.
    schema: Mapping[str, Json] | None = None
    required_permissions: tuple[str, ...] = ()
    #: USD that a call is taken to cost, until it is known.
    cost_estimate_usd: Decimal = Decimal(0)
    #: LLM tokens that a call is taken to use.
    tokens_estimate: int = 0
    #: Seconds that a call may take.
    timeout_seconds: float = DEFAULT_SECONDS
    #: Calls of one user; None for any number.
    rate_per_minute: int | None = None
    rate_per_hour: int | None = None
    #: A person is asked before each call.
    requires_approval: bool = False
    category: str | None = None
    #: What undoes a call, should somebody ask for that (`engine.runs.compensations`).
    undo: Undo | None = None

    @property
    def guarded(self) -> bool:
        """Whether somebody or something is asked before a call, beside what it is given."""
        return bool(
            self.required_permissions
            or self.cost_estimate_usd
            or self.tokens_estimate
            or self.rate_per_minute
            or self.rate_per_hour
            or self.requires_approval
        )

    @property
    def estimate(self) -> dict[str, float]:
        """What a call is taken to use, by unit; nothing of what is not declared."""
        found = {
            "cost_usd": float(self.cost_estimate_usd),
            "tokens_used": float(self.tokens_estimate),
        }
        return {name: amount for name, amount in found.items() if amount}

    def told(self) -> dict[str, Json]:
        """The terms as JSON."""
        return {
            "schema": None if self.schema is None else dict(self.schema),
            "required_permissions": [*self.required_permissions],
            "cost_estimate_usd": float(self.cost_estimate_usd),
            "tokens_estimate": self.tokens_estimate,
            "timeout_seconds": self.timeout_seconds,
            "rate_per_minute": self.rate_per_minute,
            "rate_per_hour": self.rate_per_hour,
            "requires_approval": self.requires_approval,
            "category": self.category,
            "undo": None if self.undo is None else self.undo.told(),
        }


#: The terms of a tool that declares none.
USUAL = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What may change about a tool without a new version of it."""

    #: `active`, `deprecated` (still called), `disabled` or `maintenance` (not called).
    status: str = "active"
    tags: tuple[str, ...] = ()


#: How a tool stands of which nobody has said anything.
USUALLY = Standing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The arguments of a call by name, with the defaults of those that are not given."""

    arguments: Mapping[str, Json]
    problems: tuple[Problem, ...] = field(default=())


# --- reading ----------------------------------------------------------------------------------


def terms(given: Mapping[str, Any], *, path: str = "") -> Terms:
    """Terms from fields as people write them; `parameters` is a schema or its short form.

    Raises `Invalid` with every problem.
    """
    problems: list[Problem] = []
    reader = _Reader(given, path, problems)
    reader.known(
        *("parameters", "required_permissions", "cost_estimate_usd", "tokens_estimate"),
        *("timeout_seconds", "rate_per_minute", "rate_per_hour", "requires_approval", "category"),
        "undo",
    )
    schema = None
    if given.get("parameters") is not None:
        place = below(path, "parameters")
        schema = spelt_out(given["parameters"]) if isinstance(given["parameters"], Mapping) else {}
        problems += schema_problems(given["parameters"], schema, place)
    found = Terms(
        schema=schema,
        required_permissions=reader.texts("required_permissions", PERMISSION, MAX_PERMISSIONS),
        cost_estimate_usd=reader.money("cost_estimate_usd"),
        tokens_estimate=reader.whole("tokens_estimate", 0, MAX_TOKENS) or 0,
        timeout_seconds=reader.seconds("timeout_seconds"),
        rate_per_minute=reader.whole("rate_per_minute", 1, MAX_RATE),
        rate_per_hour=reader.whole("rate_per_hour", 1, MAX_RATE),
        requires_approval=reader.flag("requires_approval"),
        category=reader.one_of("category", CATEGORIES),
        undo=reader.undo("undo"),
    )
    if problems:
        raise Invalid(problems, "the terms of the tool are not valid")
    return found


def standing(given: Mapping[str, Any], before: Standing = USUALLY, *, path: str = "") -> Standing:
    """How a tool stands when the fields given, `status` and `tags`, have changed.

    Raises `Invalid` with every problem.
    """
    problems: list[Problem] = []
    reader = _Reader(given, path, problems)
    reader.known("status", "tags")
    status = reader.one_of("status", STATUSES)
    tags = before.tags
    if given.get("tags") is not None:
        tags = tuple(sorted({*reader.texts("tags", TAG, MAX_TAGS)}))
    if problems:
        raise Invalid(problems, "the tool cannot stand so")
    return Standing(status=status or before.status, tags=tags)


def spelt_out(parameters: Mapping[str, Any]) -> dict[str, Json]:
    """The JSON Schema of parameters, be they given as one or in the short form.

    The short form is an object of schemas by name. There a parameter must be given unless it has
    a `default` or says `required: false`, and others are not taken.
    """
    if parameters.get("type") == "object" or not all(
        isinstance(each, Mapping | bool) for each in parameters.values()
    ):
        return dict(parameters)
    required: list[Json] = []
    properties: dict[str, Json] = {}
    for name, each in parameters.items():
        schema = dict(each) if isinstance(each, Mapping) else each
        optional = isinstance(schema, dict) and "default" in schema
        if isinstance(schema, dict) and isinstance(schema.get("required"), bool):
            optional = not schema.pop("required")
        if not optional:
            required.append(name)
        properties[name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


# --- calls ------------------------------------------------------------------------------------


def bound(
    schema: Mapping[str, Json] | None,
    takes: Sequence[str],
    arguments: Mapping[str, Any],
    *,
    path: str = "arguments",
) -> Bound:
    """The arguments of a call, `{"args": […], "kwargs": {…}}`, by name, and what is wrong with them.

    Those by position go to the names that the code `takes`, in order; where those are not known,
    to the properties of the schema.
    """
    args: Sequence[Json] = arguments.get("args") or []
    found: dict[str, Json] = dict(arguments.get("kwargs") or {})
    if schema is None:
        names = [name for name in takes if name != _GIVEN]
        named: dict[str, Json] = {**dict(zip(names, args, strict=False)), **found}
        # What has no name is looked at, too.
        rest: dict[str, Json] = {_REST: [*args[len(names) :]]} if len(args) > len(names) else {}
        twice = [_given_twice(path, name) for name in names[: len(args)] if name in found]
        return Bound(arguments={**named, **rest}, problems=tuple(twice))
    properties: Any = schema.get("properties", {})
    names = [name for name in takes if name != _GIVEN] or [*properties]
    problems: list[Problem] = []
    if len(args) > len(names):
        problems.append(
            Problem(
                path=f"{path}[{len(names)}]",
                message=f"{len(args)} arguments by position, {len(names)} are taken",
                remedy="give them by name",
            )
        )
    for name, value in zip(names, args, strict=False):
        if name in found:
            problems.append(_given_twice(path, name))
        found[name] = value
    usual = {
        name: each["default"]
        for name, each in properties.items()
        if isinstance(each, dict) and "default" in each
    }
    whole = {**usual, **found}
    problems += documents.argument_problems(dict(schema), whole, path=path)
    return Bound(arguments=whole, problems=tuple(problems))


def guarded(terms: Terms, newest: Terms) -> Terms:
    """The terms of a version, with the guards of the newest one beside its own."""

    def fewer(one: int | None, other: int | None) -> int | None:
        return min((most for most in (one, other) if most is not None), default=None)

    wanted = dict.fromkeys((*terms.required_permissions, *newest.required_permissions))
    return replace(
        terms,
        required_permissions=tuple(wanted),
        requires_approval=terms.requires_approval or newest.requires_approval,
        cost_estimate_usd=max(terms.cost_estimate_usd, newest.cost_estimate_usd),
        tokens_estimate=max(terms.tokens_estimate, newest.tokens_estimate),
        rate_per_minute=fewer(terms.rate_per_minute, newest.rate_per_minute),
        rate_per_hour=fewer(terms.rate_per_hour, newest.rate_per_hour),
        # Who learns later how a call is undone can undo those of versions that said nothing of it.
        undo=terms.undo or newest.undo,
    )


def handed(
    takes: Sequence[str], before: Mapping[str, Any], named: Mapping[str, Json]
) -> dict[str, Json]:
    """Arguments by name as they are handed to a tool, in the form in which they were `before`."""
    names = [name for name in takes if name != _GIVEN][: len(before.get("args") or [])]
    kept = [name for name in names if name in named]
    rest = named.get(_REST)
    args: list[Json] = [*(named[name] for name in kept), *(rest if isinstance(rest, list) else [])]
    given = {name: value for name, value in named.items() if name not in {*kept, _REST}}
    return {"args": args, "kwargs": given}


def _given_twice(path: str, name: str) -> Problem:
    return Problem(
        path=below(path, name),
        message="it is given twice, by position and by name",
        remedy="give it once",
    )


# --- for models -------------------------------------------------------------------------------


def derived(signature: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """A JSON Schema from what code says that it takes; for readers, nothing is held to it."""
    properties: dict[str, Json] = {}
    required: list[Json] = []
    for name, each in signature.items():
        if name == _GIVEN:
            continue
        annotation = str(each.get("annotation", "Any"))
        kind = _TYPES.get(annotation.partition("[")[0])
        schema: dict[str, Json] = {} if kind is None else {"type": kind}
        if each.get("required", True):
            required.append(name)
        elif each.get("default") is not None:
            schema["default"] = each["default"]
        properties[name] = schema
    return {"type": "object", "properties": properties, "required": required}


def for_models(name: str, description: str, schema: Mapping[str, Json]) -> dict[str, Json]:
    """A tool in the format in which language models are told of functions."""
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": dict(schema)},
    }


# --- details ----------------------------------------------------------------------------------


def schema_problems(given: Json, schema: Mapping[str, Json], path: str) -> Iterator[Problem]:
    """What is wrong with the schema of a tool's arguments, as it was `given` and is spelt out."""
    if not isinstance(given, Mapping):
        yield Problem(
            path=path, message=f"{named(given)} stands here", remedy="write a JSON Schema"
        )
        return
    if found := tuple(values.problems(dict(given), path=path)):
        yield from found
        return
    if values.size(dict(schema)) > MAX_SCHEMA:
        message = f"a schema of more than {MAX_SCHEMA} bytes"
        yield Problem(path=path, message=message, remedy="say less")
        return
    if schema.get("type") != "object":
        yield Problem(
            path=below(path, "type"),
            message="arguments have names, so their schema is of an object",
            remedy="write type: object, with properties",
        )
        return
    reaching = tuple(_reaching(dict(schema), path))
    yield from reaching
    if not reaching:
        yield from documents.declared_problems(dict(schema), path=path)


def _reaching(schema: Json, path: str) -> Iterator[Problem]:
    """Where a schema reaches for what is outside of it."""
    if isinstance(schema, dict):
        for key, entry in schema.items():
            inner = key == "$ref" and isinstance(entry, str) and entry.startswith("#/")
            if key in words.REFERRING and key != "$schema" and not inner:
                message = "a schema here stands for itself"
                yield Problem(
                    path=below(path, key), message=message, remedy="write out what it refers to"
                )
            yield from _reaching(entry, below(path, key))
    elif isinstance(schema, list):
        for index, entry in enumerate(schema):
            yield from _reaching(entry, f"{path}[{index}]")


def _seen(value: object) -> str:
    """A value as messages show it."""
    if isinstance(value, bool | int | float | str | Decimal):
        return short(str(value)) if isinstance(value, str) else str(value)
    return named(value)  # type: ignore[arg-type]  # whatever else it is, it has a kind or none


class _Reader:
    """Reads fields one by one; null is as good as absent."""

    def __init__(self, given: Mapping[str, Any], path: str, problems: list[Problem]) -> None:
        self._given = given
        self._path = path
        self._problems = problems

    def known(self, *names: str) -> None:
        for name in self._given:
            if name not in names:
                remedy = suggestion(str(name), names) or f"it may have {', '.join(names)}"
                self._fail(str(name), f"there is no field `{name}`", remedy)

    def texts(self, name: str, pattern: str, most: int) -> tuple[str, ...]:
        value = self._given.get(name)
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > most:
            self._fail(name, f"{_seen(value)} stands here", f"write a list of up to {most} texts")
            return ()
        for index, each in enumerate(value):
            if not isinstance(each, str) or not words.matches(pattern, each):
                self._fail(f"{name}[{index}]", f"{_seen(each)} cannot stand here", f"use {pattern}")
                return ()
        return tuple(dict.fromkeys(value))

    def money(self, name: str) -> Decimal:
        value = self._given.get(name)
        if value is None:
            return Decimal(0)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            self._fail(name, f"{_seen(value)} stands here", "write a number of USD")
            return Decimal(0)
        amount = Decimal(str(value))
        if not amount.is_finite() or not 0 <= amount <= MAX_COST:
            self._fail(name, f"{amount} USD", f"write a number from 0 to {MAX_COST}")
            return Decimal(0)
        return amount.quantize(_CENTS)

    def whole(self, name: str, least: int, most: int) -> int | None:
        value = self._given.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._fail(
                name, f"{_seen(value)} stands here", f"write a whole number from {least} to {most}"
            )
            return None
        return value

    def seconds(self, name: str) -> float:
        value = self._given.get(name)
        if value is None:
            return DEFAULT_SECONDS
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or not math.isfinite(value) or not 0 < value <= words.MAX_SECONDS:
            remedy = f"write seconds, more than 0 and at most {words.MAX_SECONDS:.0f}"
            self._fail(name, f"{_seen(value)} stands here", remedy)
            return DEFAULT_SECONDS
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._given.get(name)
        if value is not None and not isinstance(value, bool):
            self._fail(name, f"{_seen(value)} stands here", "write true or false")
        return value is True

    def one_of(self, name: str, known: Sequence[str]) -> str | None:
        value = self._given.get(name)
        if value is not None and value not in known:
            remedy = suggestion(str(value), known) or f"write one of {', '.join(known)}"
            self._fail(name, f"{_seen(value)} stands here", remedy)
            return None
        return None if value is None else str(value)

    def undo(self, name: str) -> Undo | None:
        """A tool's name, or `{tool, with}`."""
        value = self._given.get(name)
        if value is None:
            return None
        told = value if isinstance(value, Mapping) else {"tool": value}
        for key in told:
            if key not in ("tool", "with"):
                self._fail(f"{name}.{key}", f"there is no field `{key}`", "it may have tool, with")
                return None
        if not isinstance(told.get("tool"), str) or not words.matches(
            words.REFERENCE, told["tool"]
        ):
            place = f"{name}.tool" if isinstance(value, Mapping) else name
            self._fail(place, f"{_seen(told.get('tool'))} stands here", "write the name of a tool")
            return None
        given = told.get("with")
        if given is not None and not self._reads_a_call(f"{name}.with", given):
            return None
        return Undo(tool=told["tool"], given=given)

    def _reads_a_call(self, name: str, given: object) -> bool:
        """Whether arguments for what undoes a call can be worked out from that call."""
        if not isinstance(given, Mapping):
            self._fail(name, f"{_seen(given)} stands here", "write arguments by name")
            return False
        if found := tuple(values.problems(dict(given), path=below(self._path, name))):
            self._problems += found
            return False
        try:
            template = expressions.template(dict(given))
        except expressions.TemplateError as error:
            for one in error.problems:
                self._fail(below(name, one.path), one.message, one.remedy)
            return False
        for unknown in sorted(template.names - {*_UNDONE}):
            self._fail(name, f"${unknown} is nothing of a call", "read $arguments and $result")
            return False
        return True

    def _fail(self, name: str, message: str, remedy: str) -> None:
        self._problems.append(Problem(path=below(self._path, name), message=message, remedy=remedy))
