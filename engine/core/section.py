"""Reading an object of a document field by field, collecting every problem of it at once.

A getter answers None, or its default, for a field that is absent and for one that is wrong;
the difference is in the problems.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from engine.core import expressions
from engine.core.problem import Problem
from engine.core.values import Json

#: Seconds in a unit of time.
UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"

#: Stands in for an expression that is wrong; graphs that are returned never hold it.
UNREAD = expressions.compile("false")

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


class Section:
    """One object of a document, its place in it, and the problems found so far."""

    def __init__(self, data: Json, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.fields: Mapping[str, Json] = data if isinstance(data, dict) else {}
        if not isinstance(data, dict):
            self.wrong(path, data, "an object of fields")

    def known(
        self, names: Iterable[str], *, later: Collection[str] = (), elsewhere: Collection[str] = ()
    ) -> None:
        """Refuse every field that is not among the names.

        `later`: fields of the language that this version does not carry out; `elsewhere`:
        fields that belong to other kinds of object.
        """
        names = list(names)
        for name in self.fields:
            if name in names:
                continue
            if name in elsewhere:
                self.fail(name, f"`{name}` means nothing here", f"it may have {_listed(names)}")
            elif name in later:
                self.unavailable(self.at(name), f"`{name}`")
            else:
                remedy = suggestion(name, names) or f"it may have {_listed(names)}"
                self.fail(name, f"there is no field `{name}`", remedy)

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def fail(self, name: str, message: str, remedy: str = "") -> None:
        """Note a problem with a field."""
        self.problems.append(Problem(path=self.at(name), message=message, remedy=remedy))

    def unavailable(self, path: str, what: str, remedy: str = "leave it out") -> None:
        """Note that something is part of the language and not of this version."""
        message = f"{what} is not available in this version"
        self.problems.append(Problem(path=path, message=message, remedy=remedy))

    def wrong(self, path: str, value: Json, wanted: str) -> None:
        """Note that a value is not of the kind that belongs there."""
        self.problems.append(
            Problem(path=path, message=f"{named(value)} stands here", remedy=f"write {wanted}")
        )

    def text(self, name: str, pattern: str, wanted: str) -> str | None:
        """A text that matches a pattern as a whole."""
        if name not in self.fields:
            return None
        value = self.fields[name]
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        if isinstance(value, str):
            self.fail(name, f"{short(value)} does not fit", f"write {wanted}")
        else:
            self.wrong(self.at(name), value, wanted)
        return None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Whether something is said to be true."""
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            self.wrong(self.at(name), value, f"{str(not default).lower()}, or leave it out")
            return default
        return value

    def integer(self, name: str, least: int, most: int, default: int) -> int:
        """An integer between two bounds."""
        value = self.fields.get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and least <= value <= most:
            return value
        self._misfit(name, value, f"an integer from {least} to {most}")
        return default

    def number(self, name: str, least: float, most: float, default: float) -> float:
        """A number between two bounds."""
        value = self.fields.get(name, default)
        if type(value) in {int, float} and least <= value <= most:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]  # a number, by the line above
        self._misfit(name, value, f"a number from {least:g} to {most:g}")
        return default

    def duration(self, name: str, least: float, most: float) -> float | None:
        """A time such as `90s`, `10m`, `2h`, `3d`, or a number of seconds."""
        if name not in self.fields:
            return None
        value = self.fields[name]
        seconds: float | None = None
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            seconds = float(match[1]) * UNITS[match[2]]
        elif type(value) in {int, float}:
            seconds = float(value)  # type: ignore[arg-type]  # a number, by the line above
        if seconds is not None and least <= seconds <= most:
            return seconds
        self._misfit(
            name, value, f"a time from {least:g}s to {most / UNITS['d']:g}d, such as 90s, 10m or 2h"
        )
        return None

    def option(self, name: str, options: Collection[str], later: Collection[str]) -> str | None:
        """One of a few words, some of which this version does not carry out."""
        if name not in self.fields:
            return None
        return self._option(self.at(name), self.fields[name], name, options, later)

    def options(self, name: str, options: Collection[str]) -> list[str]:
        """A list of some of a few words."""
        given = self.fields.get(name, [])
        if not isinstance(given, list):
            self.wrong(self.at(name), given, f"a list of {_listed(options)}")
            return []
        read = (
            self._option(f"{self.at(name)}[{index}]", word, "reason", options, ())
            for index, word in enumerate(given)
        )
        return [word for word in read if word is not None]

    def expression(self, name: str) -> expressions.Expression | None:
        """An expression; `UNREAD` stands in for a wrong one."""
        if name not in self.fields:
            return None
        value = self.fields[name]
        if isinstance(value, str):
            try:
                return expressions.compile(value)
            except expressions.ExpressionError as error:
                self.fail(name, str(error), error.remedy)
        else:
            self.wrong(self.at(name), value, "an expression as text, such as $score > 5")
        return UNREAD

    def template(self, name: str) -> expressions.Template:
        """Any JSON with expressions in it; an empty one stands in for a wrong one."""
        return self._template(self.fields[name], self.at(name))

    def whole(self, fields: Mapping[str, Json]) -> expressions.Template:
        """Some of its fields as one template; an empty one stands in for a wrong one."""
        return self._template(dict(fields), self.path)

    def section(self, name: str) -> Section:
        """An object within this one; an empty one if it is absent."""
        return Section(self.fields.get(name, {}), self.at(name), self.problems)

    def _template(self, value: Json, path: str) -> expressions.Template:
        try:
            return expressions.template(value)
        except expressions.TemplateError as error:
            self.problems += [
                Problem(path=below(path, p.path), message=p.message, remedy=p.remedy)
                for p in error.problems
            ]
            return expressions.template(None)

    def _option(
        self,
        path: str,
        value: Json,
        what: str,
        options: Collection[str],
        later: Collection[str],
    ) -> str | None:
        if not isinstance(value, str):
            self.wrong(path, value, _listed(options))
        elif value in options:
            return value
        elif value in later:
            self.unavailable(path, f"{what} `{value}`", f"write {_listed(options)}")
        else:
            remedy = suggestion(value, options) or f"write {_listed(options)}"
            message = f"there is no {what} {short(value)}"
            self.problems.append(Problem(path=path, message=message, remedy=remedy))
        return None

    def _misfit(self, name: str, value: Json, wanted: str) -> None:
        if type(value) in {int, float}:
            self.fail(name, f"{value} is out of bounds", f"write {wanted}")
        elif isinstance(value, str):
            self.fail(name, f"{short(value)} does not fit", f"write {wanted}")
        else:
            self.wrong(self.at(name), value, wanted)


def below(path: str, inner: str) -> str:
    """The path of something inside what stands at a path."""
    if not path or not inner or inner.startswith("["):
        return path + inner
    return f"{path}.{inner}"


def named(value: Json) -> str:
    """The name of a JSON value's kind, for messages."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        ((int, float), "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing (null)")


def short(text: str, length: int = 40) -> str:
    """A text as messages quote it."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of some names that a misspelt one most likely stands for."""
    return next(iter(difflib.get_close_matches(name[:100], list(names), n=1)), None)


def suggestion(name: str, names: Iterable[str], sign: str = "") -> str:
    """`did you mean …?`, or nothing."""
    near = nearest(name, names)
    return f"did you mean {sign}{near}?" if near else ""


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
