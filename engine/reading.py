"""Text that people hand in becomes data, and the place of everything in it is known.

YAML is read as data and nothing else. Its version 1.1, which libraries speak by default,
has surprises that a document must not depend on: `on` and `no` are booleans, `1:30` a number,
`2026-01-01` a date; anchors let a short text mean gigabytes; of two equal keys one is
dropped. Here a plain scalar is null, a boolean or a number as JSON knows them, or text, and
anchors, tags and equal keys are refused, with their line and column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import yaml

from engine.core import values
from engine.core.problem import Problem
from engine.core.section import below
from engine.core.values import Json
from engine.errors import Invalid

MAX_BYTES = 1_048_576


@dataclass(slots=True)
class Place:
    """Where a value begins, from 1, and where what it holds does."""

    line: int
    column: int
    #: By key or index. A tree, because paths written out would repeat a long key for each value.
    inner: dict[str | int, Place] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"(line {self.line}, column {self.column})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text that has been read."""

    data: Json
    place: Place | None  #: None: the text is JSON, or says nothing
    source: str

    def located(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Problems with data, each with the place of its field, or of the nearest around it."""
        place = self.place if self.place is not None else _place_in_json(self.source)
        for problem in problems:
            yield problem if place is None else _located(problem, place)


def read(text: str | bytes, *, most_bytes: int = MAX_BYTES, most_values: int | None = None) -> Text:
    """Read YAML, or JSON if it begins with `{`. Raises `Invalid`.

    `most_values` bounds how many keys, values, lists and objects are read before the rest of
    the text is refused unread.
    """
    if isinstance(text, bytes):
        if len(text) > most_bytes:
            _refuse_size(most_bytes)
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            _refuse(f"the text is not UTF-8 at byte {error.start}", "save it as UTF-8")
    if len(text) > most_bytes:
        _refuse_size(most_bytes)
    if found := tuple(values.problems(text)):
        raise Invalid(found)
    if len(text.encode()) > most_bytes:
        _refuse_size(most_bytes)
    try:
        if text.lstrip().startswith("{"):
            return Text(data=_json(text, most_values), place=None, source=text)
        reader = _events(text, most_values)
        if found := tuple(values.problems(reader.data)):
            place = reader.place
            raise Invalid(_located(each, place) if place else each for each in found)
    except values.InvalidJson as invalid:
        raise Invalid(invalid.problems) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        _refuse(f"not YAML: {error.problem or error.context}{where}", "quote text with : # { [ !")
    except yaml.YAMLError as error:
        _refuse(f"not YAML: {str(error).splitlines()[0]}", "remove the character")
    return Text(data=reader.data, place=reader.place, source=text)


def _json(text: str, most_values: int | None) -> Json:
    if most_values is not None and sum(map(text.count, ",:{[")) > most_values:
        _refuse_values(most_values)
    return values.parse(text)


def _events(text: str, most_values: int | None = None) -> _YamlReader:
    reader = _YamlReader()
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if most_values is not None and count > most_values:
            mark = event.start_mark
            _refuse_values(most_values, _at(mark) if mark else "")
        reader.take(event)
    return reader


def _place_in_json(text: str) -> Place | None:
    """The places in a text of JSON, which almost always is YAML too."""
    try:
        return _events(text).place
    except (Invalid, yaml.YAMLError):
        return None


def _located(problem: Problem, place: Place) -> Problem:
    path = problem.path
    while path:
        inner = _inner(place, path)
        if inner is None:
            break
        place, path = inner
    return replace(problem, message=f"{problem.message} {place}")


def _inner(place: Place, path: str) -> tuple[Place, str] | None:
    """The place of the first step of a path, and the rest of it. A key may hold dots itself."""
    if match := _INDEX.match(path):
        found = place.inner.get(int(match[1]))
        return None if found is None else (found, path[match.end() :])
    for cut in (*(match.start() for match in _CUT.finditer(path)), len(path)):
        if path[:cut] in place.inner:
            return place.inner[path[:cut]], path[cut:].removeprefix(".")
    return None


_INDEX = re.compile(r"\[([0-9]{1,9})\]\.?")
_CUT = re.compile(r"[.\[]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: What an unquoted scalar stands for, by YAML 1.2; everything else is text.
_WORDS: Mapping[str, Json] = {
    "": None,
    "~": None,
    **dict.fromkeys(["null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(slots=True)
class _Open:
    """A list or an object that is being built."""

    container: list[Json] | dict[str, Json]
    place: Place
    waiting: list[str] = field(default_factory=list)  #: the key whose value comes next


class _YamlReader:
    """Builds data from the events of a parser, one by one, hence without recursion."""

    def __init__(self) -> None:
        self.data: Json = None
        self.place: Place | None = None
        self._documents = 0
        self._open: list[_Open] = []  #: outermost first

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        where = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    _refuse(f"a second document begins {where}", "send one at a time")
            case yaml.AliasEvent():
                _refuse(f"*{event.anchor} refers to another place {where}", _WRITE_OUT)
            case yaml.ScalarEvent():
                self._check(event, where)
                self._scalar(event, where)
            case yaml.SequenceStartEvent():
                self._check(event, where)
                self._begin([], where)
            case yaml.MappingStartEvent():
                self._check(event, where)
                self._begin({}, where)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._open.pop()
            case _:
                pass

    def _check(self, event: yaml.NodeEvent, where: Place) -> None:
        if event.anchor is not None:
            _refuse(f"&{event.anchor} names a place {where}", _WRITE_OUT)
        tag = getattr(event, "tag", None)
        if tag is not None:
            _refuse(
                f"{tag} is a tag {where}", "remove it, or put text that begins with ! in quotes"
            )

    def _scalar(self, event: yaml.ScalarEvent, where: Place) -> None:
        outer = self._open[-1] if self._open else None
        if outer is not None and isinstance(outer.container, dict) and not outer.waiting:
            if event.value in outer.container:
                _refuse(f"{self._path(event.value)} is given twice {where}", "keep one")
            outer.waiting.append(event.value)
        elif event.implicit[0]:
            self._put(_plain(event.value, where), where)
        else:
            self._put(event.value, where)

    def _begin(self, container: list[Json] | dict[str, Json], where: Place) -> None:
        if len(self._open) >= values.MAX_DEPTH:
            _refuse(f"nested deeper than {values.MAX_DEPTH} levels {where}", "flatten it")
        self._put(container, where)
        self._open.append(_Open(container, where))

    def _put(self, value: Json, where: Place) -> None:
        """Put a value where it belongs."""
        if not self._open:
            self.data, self.place = value, where
            return
        outer = self._open[-1]
        if isinstance(outer.container, list):
            outer.place.inner[len(outer.container)] = where
            outer.container.append(value)
        elif outer.waiting:
            key = outer.waiting.pop()
            outer.place.inner[key] = where
            outer.container[key] = value
        else:
            _refuse(f"a key that is no text {where}", "write KEY: VALUE")

    def _path(self, key: str) -> str:
        """Where a key stands that is about to be taken."""
        path = ""
        for each in self._open[:-1]:
            last = each.container
            step = f"[{len(last) - 1}]" if isinstance(last, list) else next(reversed(last))
            path = below(path, step)
        return below(path, key)


_WRITE_OUT = "write it out: anchors and aliases are not read"


def _plain(text: str, where: Place) -> Json:
    """What an unquoted scalar stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > len(str(-values.MAX_INTEGER)):
            _refuse(f"an integer beyond 64 bits {where}", "put it in quotes")
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def _at(mark: Any) -> str:
    return f" {Place(mark.line + 1, mark.column + 1)}"


def _refuse_size(most: int) -> NoReturn:
    _refuse(f"a document of more than {most} bytes", "split it")


def _refuse_values(most: int, where: str = "") -> NoReturn:
    _refuse(f"a document of more than {most} values{where}", "split it")


def _refuse(message: str, remedy: str) -> NoReturn:
    raise Invalid([Problem(path="", message=message, remedy=remedy)])
