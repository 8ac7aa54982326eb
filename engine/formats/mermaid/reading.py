"""From the text of a flowchart to its drawing.

One statement is read after the other; one that cannot be read is a problem, and reading goes
on with the next line. Nothing looks further ahead than a label may be long, so the time it
takes is linear in the text.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from engine.core.document import vocabulary
from engine.core.problem import Problem
from engine.core.section import short
from engine.formats import drawing as drawings
from engine.formats.drawing import Arrow, Drawing, Place
from engine.formats.mermaid import words

#: What a label may take, quotes and entities included.
_LABEL = 20_000

_HEADER = re.compile(
    r"(?:flowchart-elk|flowchart|graph)\b[ \t]*(?:TB|TD|BT|RL|LR|[<>^v])?(?=[\s;]|$)"
)
_FRONT = re.compile(r"\s*---[ \t]*\n(?:(.*?)\n)?---[ \t]*(?:\n|$)", re.DOTALL)
_NAMED = re.compile(r"^title:[ \t]*(\S.*)$", re.MULTILINE)
_ID = re.compile(r"(?:[\w.!?'*+/\\$#`]|-(?![-.>])|=(?!=))+")
_EDGE_ID = re.compile(r"[\w-]+@(?=[<xo]?[-=]|~~~)")
_LINK = re.compile(
    r"(?P<tail>[xo<]?)(?:--+(?P<a>[-xo>])|==+(?P<b>[=xo>])|-?\.+-(?P<c>[xo>]?))|~~~+"
)
_OPENED = re.compile(r"(?P<tail>[xo<]?)(?P<line>--|==|-\.)")
_CLOSED = {
    "--": ("--", re.compile(r"--+(?P<head>[-xo>])")),
    "==": ("==", re.compile(r"==+(?P<head>[=xo>])")),
    "-.": (".-", re.compile(r"\.-(?P<head>[xo>]?)")),
}
_FOR_THE_EYE = re.compile(r"(?:classDef|class|style|linkStyle|click|direction)[ \t]+(?=[\w*\"])")
_UP_TO_SEMICOLON = re.compile(r'(?:[^;"\n]|"[^"\n]*"?)*')
_DESCRIBED = re.compile(r"acc(?:Title|Descr)[ \t]*(?=[:{])")
_SUBGRAPH = re.compile(r"subgraph(?=[\s;]|$)[ \t]*")
_END = re.compile(r"end(?![\w.!?'*+/\\$#`-])")
_OVER = re.compile(r"[\n;]|%%")
_SPACE = re.compile(r"[ \t\r]*")
_SPACE_AND_LINES = re.compile(r"\s*")
_BLANK = re.compile(r"[\s;]*")
_CLASS = re.compile(r":::[\w-]+")
_QUOTED = re.compile(r'\s*"([^"]*)"\s*')
_BRACKETS = re.compile(r'[\[\](){}"|]')
_PIPED = re.compile(r'\|\s*"([^"]*)"\s*\||\|([^|]*)\|')
_ATTRIBUTES = re.compile(r'@\{((?:[^}"]|"[^"]*")*)\}')
_SHAPE = re.compile(r'\bshape\s*:\s*"?([\w-]+)')
_TEXT = re.compile(r'\blabel\s*:\s*(?:"([^"]*)"|([^,\n]*))')


def drawing(text: str) -> Drawing | tuple[Problem, ...]:
    """What a flowchart shows, or everything that cannot be read of it."""
    if found := drawings.refused(text):
        return found
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    name, start = _front(text)
    reader = _Reader(text=text, at=start)
    reader.blank()
    header = _HEADER.match(text, reader.at)
    if header is None:
        drawn = reader.at < len(text)
        message = f"{_here(text, reader.at)} begins no flowchart" if drawn else "nothing is drawn"
        return (reader.problem(reader.at, message, "begin with graph TD, or flowchart LR"),)
    reader.at = header.end()
    reader.statements()
    _set_groups_aside(reader)
    if not reader.places and not reader.problems:
        reader.problems.append(reader.problem(start, "nothing is drawn", "write a --> b"))
    if reader.problems:
        return tuple(reader.problems[: drawings.MAX_PROBLEMS])
    places = _in_place(reader.places.values(), reader.arrows)
    return Drawing(name=name, places=tuple(places), arrows=tuple(reader.arrows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """An arrow between two lists of nodes."""

    text: str | None = None
    #: It has a head at either end.
    both: bool = False
    #: It is drawn to hold nodes in place, and not to be seen.
    invisible: bool = False


class _Unreadable(Exception):
    """A statement cannot be read."""

    def __init__(self, at: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message
        self.remedy = remedy


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Where reading has come to, and what has been drawn so far."""

    text: str
    at: int
    places: dict[str, Place] = field(default_factory=dict)
    arrows: list[Arrow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    #: Names of subgraphs, and of arrows that have one.
    groups: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    #: Where each subgraph began that is open.
    opened: list[int] = field(default_factory=list)
    #: The last place whose line was asked for, and that line.
    counted: tuple[int, int] = (0, 1)

    def statements(self) -> None:
        """Read all that there is."""
        self.blank()
        while self.at < len(self.text) and len(self.problems) < drawings.MAX_PROBLEMS:
            try:
                self.statement()
                self.over()
            except _Unreadable as wrong:
                self.problems.append(self.problem(wrong.at, wrong.message, wrong.remedy))
                self.at = _line_end(self.text, self.at)
            self.blank()
        for start in self.opened:
            self.problems.append(self.problem(start, "a subgraph does not end", "write `end`"))

    def statement(self) -> None:
        at = self.at
        if found := _FOR_THE_EYE.match(self.text, at):
            self.at = self.up_to_semicolon(found.end())
        elif found := _DESCRIBED.match(self.text, at):
            block = self.text.startswith("{", found.end())
            end = self.text.find("}", at, at + _LABEL) if block else -1
            self.at = end + 1 if end >= 0 else _line_end(self.text, at)
        elif found := _SUBGRAPH.match(self.text, at):
            self.open_group(found.end())
        elif found := _END.match(self.text, at):
            if not self.opened:
                remedy = "no node can be called so here: write end_((end))"
                raise _Unreadable(at, "`end` closes no subgraph", remedy)
            self.opened.pop()
            self.at = found.end()
        else:
            self.chain()

    def open_group(self, title: int) -> None:
        """`subgraph ID [text]`: its nodes are nodes like any other."""
        if len(self.opened) >= drawings.MAX_DEPTH:
            message = f"subgraphs in more than {drawings.MAX_DEPTH} others"
            raise _Unreadable(self.at, message, "flatten them")
        self.opened.append(self.at)
        self.at = self.up_to_semicolon(title)
        if name := _ID.match(self.text, title, self.at):
            self.groups.add(name[0])

    def chain(self) -> None:
        """`a & b -- text --> c --> d`"""
        before = self.nodes()
        while link := self.link():
            after = self.nodes()
            if not link.invisible:
                self.draw(before, after, link)
            before = after

    def draw(self, before: list[str], after: list[str], link: _Link) -> None:
        line = self.line(self.at)
        for source, target in itertools.product(before, after):
            for ends in ((source, target), (target, source))[: 1 + link.both]:
                arrow = Arrow(source=ends[0], target=ends[1], text=link.text, line=line)
                self.arrows.append(arrow)
            if len(self.arrows) > vocabulary.MAX_EDGES:
                message = f"more than {vocabulary.MAX_EDGES} edges"
                raise self.too_much(self.at, message)

    def nodes(self) -> list[str]:
        """`a & b & c`"""
        found = [self.node()]
        while self.follows("&"):
            self.at += 1
            found.append(self.node())
        return found

    def node(self) -> str:
        start = self.at = _after(_SPACE_AND_LINES, self.text, self.at)
        name = _ID.match(self.text, start)
        if name is None:
            message = f"{_here(self.text, start)} is no node"
            raise _Unreadable(start, message, "write ID, ID[text] or ID --> ID")
        self.at = name.end()
        plain = Place(id=name[0], line=self.line(start))
        place, known = self.shaped(plain), self.places.get(name[0])
        if known is None and name[0] in self.links and place is not plain:
            return name[0]  # `e1@{animate: true}` is about an arrow
        if known is None:
            self.places[name[0]] = place
        elif place is not plain:
            self.places[name[0]] = replace(place, line=known.line)
        if len(self.places) > vocabulary.MAX_NODES:
            raise self.too_much(start, f"more than {vocabulary.MAX_NODES} nodes")
        self.at = _after(_CLASS, self.text, self.at)
        return name[0]

    def shaped(self, place: Place) -> Place:
        """A place with the shape and the text that follow its id, if any do."""
        if self.text.startswith("@{", self.at):
            return self.attributed(place)
        for opening, closings, fields in words.SHAPES:
            if self.text.startswith(opening, self.at):
                text = self.label(self.at + len(opening), closings)
                return replace(place, text=text or None, fields=fields)
        return place

    def attributed(self, place: Place) -> Place:
        """`id@{shape: hex, label: "text"}`"""
        found = _ATTRIBUTES.match(self.text, self.at, self.at + _LABEL)
        if found is None:
            raise _Unreadable(self.at, "`@{` does not end", 'write id@{shape: hex, label: "text"}')
        self.at = found.end()
        shape, label = _SHAPE.search(found[1]), _TEXT.search(found[1])
        text = _decoded(label[1] or label[2] or "") if label else ""
        fields = words.NAMED.get(shape[1], words.TASK) if shape else words.TASK
        return replace(place, text=text or None, fields=fields)

    def label(self, start: int, closings: tuple[str, ...]) -> str:
        """The text from a place on up to a closing bracket."""
        text, limit = self.text, start + _LABEL
        if quoted := _QUOTED.match(text, start, limit):
            for closing in closings:
                if text.startswith(closing, quoted.end()):
                    self.at = quoted.end() + len(closing)
                    return _decoded(quoted[1])
        else:
            ends = [end for closing in closings if (end := text.find(closing, start, limit)) >= 0]
            if ends and not _BRACKETS.search(text, start, min(ends)):
                self.at = min(ends) + len(closings[0])
                return _decoded(text[start : min(ends)])
        message = f"the text that begins with {_here(text, start)} does not end as it began"
        raise _Unreadable(start, message, 'put it in quotes, such as ID["text"]')

    def link(self) -> _Link | None:
        """The arrow that follows, if one does; it may stand on a line of its own."""
        start = _after(_SPACE_AND_LINES, self.text, self.at)
        on_its_own = "\n" in self.text[self.at : start]
        if named := _EDGE_ID.match(self.text, start):
            self.links.add(named[0].removesuffix("@"))
            start = named.end()
        opened = _OPENED.match(self.text, start)
        if opened and on_its_own and opened["tail"] in {"x", "o"}:
            return None  # a node called so, of which an arrow leads on
        if found := _LINK.match(self.text, start):
            self.at = found.end()
            if found[0].startswith("~"):
                return _Link(invisible=True)
            head = found["a"] or found["b"] or found["c"]
            text = self.piped()
        elif found := opened:
            text, head = self.between(found.end(), found["line"])
        else:
            return None
        if head not in {">", "x", "o"}:
            raise _Unreadable(start, "a line without a head leads nowhere", "write a --> b")
        if found["tail"] and found["tail"] + head not in {"<>", "xx", "oo"}:
            raise _Unreadable(start, "an arrow whose ends do not match", "write a --> b")
        return _Link(text=text, both=found["tail"] != "")

    def piped(self) -> str | None:
        """`|text|` after an arrow."""
        start = _after(_SPACE_AND_LINES, self.text, self.at)
        if not self.text.startswith("|", start):
            return None
        found = _PIPED.match(self.text, start, start + _LABEL)
        if found is None:
            raise _Unreadable(start, "the text of an arrow does not end", "write -->|text| b")
        self.at = found.end()
        return _decoded(found[1] if found[1] is not None else found[2]) or None

    def between(self, start: int, line: str) -> tuple[str | None, str]:
        """`text -->`: the text up to the arrow's end, and the head there."""
        mark, closed = _CLOSED[line]
        limit = start + _LABEL
        quoted = _QUOTED.match(self.text, start, limit)
        at = quoted.end() if quoted else start
        while (at := self.text.find(mark, at, limit)) >= 0:
            if end := closed.match(self.text, at):
                text = self.text[start:at]
                if text.endswith(("<", " x", " o")):
                    text = text[:-1]
                self.at = end.end()
                return _decoded(text.rstrip(".") if line == "-." else text) or None, end["head"]
            at += 1
        raise _Unreadable(start - 2, "an arrow does not end", "write a -- text --> b")

    def over(self) -> None:
        """A statement ends with its line, or with a semicolon."""
        self.at = _after(_SPACE, self.text, self.at)
        if self.at < len(self.text) and not _OVER.match(self.text, self.at):
            message = f"{_here(self.text, self.at)} cannot be read"
            remedy = "write one statement on a line, such as a -->|text| b"
            raise _Unreadable(self.at, message, remedy)

    def blank(self) -> None:
        """Go on to the next statement."""
        self.at = _after(_BLANK, self.text, self.at)
        while self.text.startswith("%%", self.at):
            directive = self.text.startswith("%%{", self.at)
            end = self.text.find("}%%", self.at, self.at + _LABEL) if directive else -1
            self.at = end + 3 if end >= 0 else _line_end(self.text, self.at)
            self.at = _after(_BLANK, self.text, self.at)

    def up_to_semicolon(self, at: int) -> int:
        """Where a statement without an end of its own is over."""
        return _after(_UP_TO_SEMICOLON, self.text, at)

    def follows(self, sign: str) -> bool:
        self.at = _after(_SPACE, self.text, self.at)
        return self.text.startswith(sign, self.at)

    def too_much(self, at: int, message: str) -> _Unreadable:
        """What is wrong when nothing that follows could make it right."""
        self.at = len(self.text)
        return _Unreadable(at, message, "split the workflow")

    def line(self, at: int) -> int:
        """The line of a place, from 1. Places are asked for in order, more or less."""
        before, line = self.counted
        if at < before:
            return self.text.count("\n", 0, at) + 1
        self.counted = at, line + self.text.count("\n", before, at)
        return self.counted[1]

    def problem(self, at: int, message: str, remedy: str) -> Problem:
        return drawings.at_line(self.line(at), message, remedy)


def _front(text: str) -> tuple[str | None, int]:
    """The title in what may stand before a drawing, and where the drawing begins."""
    found = _FRONT.match(text)
    if found is None:
        return None, 0
    titled = _NAMED.search(found[1] or "")
    title = titled[1].strip() if titled else ""
    try:
        title = str(json.loads(title)) if title.startswith('"') else title.strip("'")
    except ValueError:
        title = title.strip('"')
    return title or None, found.end()


def _set_groups_aside(reader: _Reader) -> None:
    """A subgraph is no node. Named by itself, as for a class, it draws nothing."""
    for name in sorted(reader.groups & reader.places.keys()):
        arrow = next((each for each in reader.arrows if name in {each.source, each.target}), None)
        if arrow is not None:
            message = f"{short(name)} is a subgraph, and arrows lead to nodes"
            remedy = "draw it from or to a node in the subgraph"
            reader.problems.append(drawings.at_line(arrow.line, message, remedy))
        elif reader.places[name].text is None:
            del reader.places[name]


def _in_place(places: Iterable[Place], arrows: Iterable[Arrow]) -> Iterator[Place]:
    """Places with what their position says: at a circle one begins, ends, or passes."""
    ways = [arrow for arrow in arrows if arrow.source != arrow.target]
    reached, left = {arrow.target for arrow in ways}, {arrow.source for arrow in ways}
    started = False
    for place in places:
        text = place.text or ""
        named = vocabulary.matches(vocabulary.NODE_NAME, text) and words.stands_for(place.id, text)
        found = replace(place, name=text if named else None)
        if place.fields is words.CONTROL:
            begins = place.id not in reached and not started
            started = started or begins
            kind = "start" if begins else "pass" if place.id in left else "end"
            found = replace(found, fields={"kind": kind})
        yield found


def _decoded(text: str) -> str:
    """What a label says, without its quotes, entities and line breaks."""
    text = text.strip()
    for quote in '"`':
        if len(text) > 1 and text[0] == text[-1] == quote:
            text = text[1:-1].strip()
    text = re.sub(r"<br[ \t]*/?>", "\n", text)
    text = re.sub(r"#(?=\d{1,7};)", "&#", text)
    text = re.sub(r"#(?=[A-Za-z]{1,31};)", "&", text)
    return drawings.one_line(html.unescape(text))


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where the match of a pattern ends, if there is one."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _here(text: str, at: int) -> str:
    """What stands somewhere, as messages quote it."""
    return short(text[at : at + 60].partition("\n")[0].strip() or "the end of the line", 30)
