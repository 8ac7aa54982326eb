"""From the text of a DOT drawing to what it shows."""

from __future__ import annotations

import itertools
import keyword
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

from engine.core.document import vocabulary
from engine.core.problem import Problem
from engine.core.section import short, suggestion
from engine.core.values import Json
from engine.formats import drawing as drawings
from engine.formats.dot import words
from engine.formats.dot.tokens import NoToken, Token, tokens
from engine.formats.drawing import Arrow, Drawing, Place

_STRICT_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def drawing(text: str, *, strict: bool = False) -> Drawing | tuple[Problem, ...]:
    """What a DOT text shows, or everything that is wrong with it."""
    if found := drawings.refused(text):
        return found
    text = text.removeprefix("\ufeff")
    try:
        reader = _Reader(_tokens=tokens(text))
        name = reader.read()
    except NoToken as wrong:
        return (_violation("INVALID_STRUCTURE", wrong.message, wrong.line, wrong.remedy),)
    problems = list(itertools.islice(_violations(reader, strict=strict), drawings.MAX_PROBLEMS))
    if problems:
        return tuple(problems)
    places = [_place(each) for each in reader.nodes.values()]
    arrows = [_arrow(each) for each in reader.edges]
    fields: dict[str, Json] = {"strict": True} if strict else {}
    return _with_start(
        Drawing(name=name, places=tuple(places), arrows=tuple(arrows), fields=fields)
    )


@dataclass(slots=True, kw_only=True)
class _Node:
    """A node and the attributes that it has come to have."""

    id: str
    line: int
    attributes: dict[str, str]
    #: Whether a statement is about it alone, and the lines of those that give it a type.
    declared: bool = False
    typed: list[int] = field(default_factory=list)

    @property
    def type(self) -> str:
        return self.attributes.get("type", "").lower()


@dataclass(slots=True, kw_only=True)
class _Edge:
    source: str
    target: str
    line: int
    attributes: dict[str, str]


@dataclass(slots=True, kw_only=True)
class _Defaults:
    """The attributes that nodes and edges have unless they say otherwise."""

    node: MutableMapping[str, str] = field(default_factory=dict)
    edge: MutableMapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads one token after the other and notes what is drawn."""

    _tokens: Iterator[Token]
    nodes: dict[str, _Node] = field(default_factory=dict)
    edges: list[_Edge] = field(default_factory=list)
    token: Token = field(default_factory=lambda: Token(kind="end", text="", line=1))

    def read(self) -> str:
        """Read the drawing; answer its name. Raises `NoToken`."""
        self.next()
        if self.is_keyword("strict"):
            self.next()
        if self.is_keyword("graph"):
            raise self.wrong(
                "a graph without directions is no workflow", "write digraph NAME { … }"
            )
        if not self.is_keyword("digraph"):
            raise self.wrong("no digraph begins here", "write digraph NAME { … }")
        self.next()
        name = drawings.one_line(self.id("the digraph has no name", "write digraph NAME { … }"))
        self.expect("{", "write digraph NAME { … }")
        self.statements(_Defaults(), 1)
        if self.token.kind != "end":
            raise self.wrong("something follows the digraph", "write one digraph in a file")
        return name

    def statements(self, defaults: _Defaults, depth: int) -> list[str]:
        """Statements up to the closing brace; answers the nodes that they name."""
        if depth > drawings.MAX_DEPTH:
            raise self.wrong(f"subgraphs in more than {drawings.MAX_DEPTH} others", "flatten them")
        named: dict[str, None] = {}
        while not self.take("}"):
            if self.token.kind == "end":
                raise self.wrong("a brace does not close", "write }")
            if not self.take(";"):
                named.update(dict.fromkeys(self.statement(defaults, depth)))
        return list(named)

    def statement(self, defaults: _Defaults, depth: int) -> list[str]:
        about = self.token.text.lower()
        if self.token.kind == "keyword" and about in {"graph", "node", "edge"}:
            self.next()
            given = self.attributes()
            if about != "graph":
                (defaults.node if about == "node" else defaults.edge).update(given)
            return []
        line = self.token.line
        if self.token.kind == "id":
            name = self.id("", "")
            if self.take("="):
                self.id("`=` says nothing", "write NAME=VALUE")
                return []
            self.port()
            ends = [name]
            single = not self.is_sign("->") and not self.is_sign("--")
            if single:
                self.declare(name, line, defaults)
                return ends
            self.mention(name, line, defaults)
        else:
            ends = self.group(defaults, depth)
        return self.chain(ends, line, defaults, depth)

    def chain(self, ends: list[str], line: int, defaults: _Defaults, depth: int) -> list[str]:
        """`a -> {b c} -> d [attributes]`"""
        chained = [ends]
        while self.token.kind == "sign" and self.token.text in {"->", "--"}:
            if self.token.text == "--":
                raise self.wrong("a line without a direction leads nowhere", "write a -> b")
            self.next()
            if self.token.kind == "id":
                name = self.id("", "")
                self.port()
                self.mention(name, line, defaults)
                chained.append([name])
            else:
                chained.append(self.group(defaults, depth))
        given = {**defaults.edge, **self.attributes()} if len(chained) > 1 else {}
        for sources, targets in itertools.pairwise(chained):
            for source, target in itertools.product(sources, targets):
                self.edges.append(_Edge(source=source, target=target, line=line, attributes=given))
                if len(self.edges) > vocabulary.MAX_EDGES:
                    raise NoToken(line, f"more than {vocabulary.MAX_EDGES} edges", _SPLIT)
        return [name for ends in chained for name in ends]

    def group(self, defaults: _Defaults, depth: int) -> list[str]:
        """`subgraph NAME { … }`, or `{ … }`"""
        if self.is_keyword("subgraph"):
            self.next()
            if self.token.kind == "id":
                self.id("", "")
            if not self.is_sign("{"):
                return []
        self.expect("{", "write a statement: NAME [type=task], or NAME -> NAME")
        inner = _Defaults(node=ChainMap({}, defaults.node), edge=ChainMap({}, defaults.edge))
        return self.statements(inner, depth + 1)

    def declare(self, name: str, line: int, defaults: _Defaults) -> None:
        """A statement about one node."""
        self.mention(name, line, defaults)
        node, given = self.nodes[name], self.attributes()
        node.declared = True
        if "type" in given:
            node.typed.append(line)
        node.attributes.update(given)

    def mention(self, name: str, line: int, defaults: _Defaults) -> None:
        if name not in self.nodes:
            self.nodes[name] = _Node(id=name, line=line, attributes=dict(defaults.node))
            if len(self.nodes) > vocabulary.MAX_NODES:
                raise NoToken(line, f"more than {vocabulary.MAX_NODES} nodes", _SPLIT)

    def attributes(self) -> dict[str, str]:
        """`[name=value, …]`, any number of times. What is for the eye is not kept."""
        found: dict[str, str] = {}
        while self.take("["):
            while not self.take("]"):
                name = self.id("an attribute has no name", "write [NAME=VALUE]")
                value = "true"
                if self.take("="):
                    value = self.id("an attribute has no value", "write [NAME=VALUE]")
                if name in words.KNOWN:
                    found[name] = value
                if not self.take(","):
                    self.take(";")
        return found

    def port(self) -> None:
        """`:port:compass`, which says where an edge begins, for the eye."""
        while self.take(":"):
            self.id("a port has no name", "write NAME:PORT")

    def id(self, message: str, remedy: str) -> str:
        """A name or a text; several in quotes may be added up."""
        if self.token.kind != "id":
            raise self.wrong(message, remedy)
        found = [self.token.text]
        self.next()
        while self.take("+"):
            if self.token.kind != "id":
                raise self.wrong("nothing is added", 'write "a" + "b"')
            found.append(self.token.text)
            self.next()
        return "".join(found)

    def expect(self, sign: str, remedy: str) -> None:
        if not self.take(sign):
            here = short(self.token.text, 30) if self.token.text else "the end"
            raise self.wrong(f"{here} stands where {sign} belongs", remedy)

    def take(self, sign: str) -> bool:
        """Go on if a sign is there."""
        found = self.is_sign(sign)
        if found:
            self.next()
        return found

    def is_sign(self, text: str) -> bool:
        return self.token.kind == "sign" and self.token.text == text

    def is_keyword(self, text: str) -> bool:
        return self.token.kind == "keyword" and self.token.text.lower() == text

    def next(self) -> None:
        self.token = next(self._tokens, self.token)

    def wrong(self, message: str, remedy: str) -> NoToken:
        return NoToken(self.token.line, message, remedy)


_SPLIT = "split the workflow"


def _violations(reader: _Reader, *, strict: bool) -> Iterator[Problem]:
    if not reader.nodes:
        yield _violation("INVALID_STRUCTURE", "the digraph has no nodes", 1, "write a [type=task];")
    for node in reader.nodes.values():
        yield from _wrong_names(node, strict=strict)
        for again in node.typed[1:]:
            message = f"{node.id} is declared already, on line {node.typed[0]}"
            yield _violation("DUPLICATE_NAME", message, again, "rename one of the nodes")
        if node.type:
            if node.type not in (*words.ROLES, *words.PASSED):
                near = suggestion(node.type, [*words.ROLES, *words.PASSED])
                message = f"there is no type {short(node.type)}"
                remedy = near or 'write type="task" or type="plan"'
                yield _violation("INVALID_STRUCTURE", message, node.line, remedy)
        elif node.declared:
            message = f"{node.id} has no type"
            remedy = f'write {words.name(node.id)} [type="task"] or [type="plan"]'
            yield _violation("INVALID_STRUCTURE", message, node.line, remedy)
    yield from _dangling(reader)
    yield from _orphans(reader)
    if strict:
        yield from _against_the_seed(reader)


def _wrong_names(node: _Node, *, strict: bool) -> Iterator[Problem]:
    if strict and (not _STRICT_NAME.fullmatch(node.id) or keyword.iskeyword(node.id)):
        remedy = "use letters, digits and _, and no word of Python"
    elif not vocabulary.matches(vocabulary.NODE_NAME, node.id) and not strict:
        remedy = "use up to 64 letters, digits, _ . - and spaces"
    else:
        return
    message = f"{short(node.id)} is not a name for a node"
    yield _violation("INVALID_NAME", message, node.line, remedy)


def _dangling(reader: _Reader) -> Iterator[Problem]:
    unknown = {node.id for node in reader.nodes.values() if not node.declared and not node.type}
    for edge in reader.edges:
        for end in dict.fromkeys((edge.source, edge.target)):
            if end in unknown:
                unknown.discard(end)
                near = suggestion(end, [n.id for n in reader.nodes.values() if n.type])
                remedy = near or f'declare it: {words.name(end)} [type="task"]'
                message = f"{edge.source} -> {edge.target} names {end}, which is no node"
                yield _violation("DANGLING_EDGE", message, edge.line, remedy)


def _orphans(reader: _Reader) -> Iterator[Problem]:
    if len(reader.nodes) == 1:
        return
    ends = {end for edge in reader.edges for end in (edge.source, edge.target)}
    for node in reader.nodes.values():
        if node.id not in ends:
            remedy = "add an edge from or to it, or remove it"
            yield _violation("ORPHANED_NODE", f"no edge touches {node.id}", node.line, remedy)


def _against_the_seed(reader: _Reader) -> Iterator[Problem]:
    """Rules that a drawing may break unless it asks to be held to them."""
    types = {node.id: node.type for node in reader.nodes.values()}
    plans: dict[str, set[str]] = {}
    feeds: set[str] = set()
    for edge in reader.edges:
        source, target = types[edge.source], types[edge.target]
        if source == target and source in words.ROLES:
            message = f"{edge.source} -> {edge.target} leads from a {source} to a {target}"
            remedy = "put a plan between two tasks, and a task between two plans"
            yield _violation("INVALID_STRUCTURE", message, edge.line, remedy)
        if (source, target) == ("plan", "task"):
            plans.setdefault(edge.target, set()).add(edge.source)
            feeds.add(edge.source)
    for node in reader.nodes.values():
        if node.type == "plan" and node.id not in feeds:
            message = f"the plan {node.id} leads to no task"
            yield _violation("INVALID_STRUCTURE", message, node.line, "add an edge to a task")
        if node.type == "task" and len(several := plans.get(node.id, set())) != 1:
            found = ", ".join(sorted(several)[:5]) or "none"
            yield _violation(
                "TASK_MULTIPLE_PLANS" if several else "INVALID_STRUCTURE",
                f"the task {node.id} has {len(several)} plans before it ({found})",
                node.line,
                "give it exactly one",
            )


def _place(node: _Node) -> Place:
    fields: dict[str, Json] = {}
    if node.type == "plan":
        fields["role"] = "plan"
    elif node.type in words.PASSED:
        fields["kind"] = node.type
    fields.update(_fields(node.attributes, words.NODE))
    label = drawings.one_line(node.attributes.get("label", "").replace(words.OWN_NAME, node.id))
    return Place(id=node.id, text=label or None, fields=fields, line=node.line)


def _arrow(edge: _Edge) -> Arrow:
    label = drawings.one_line(edge.attributes.get("label", ""))
    return Arrow(
        source=edge.source,
        target=edge.target,
        text=label or None,
        fields=_fields(edge.attributes, words.EDGE),
        line=edge.line,
    )


def _fields(attributes: Mapping[str, str], known: Mapping[str, str]) -> dict[str, Json]:
    return {
        called: _number(attributes[name]) if name in words.NUMBERS else attributes[name]
        for name, called in known.items()
        if name in attributes
    }


def _number(text: str) -> Json:
    """A number where the text is one; what else it may be, the document's reader says."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]{1,15}\.[0-9]{1,15}", text) else text


def _with_start(found: Drawing) -> Drawing:
    """A drawing that begins in one place."""
    reached = {arrow.target for arrow in found.arrows if arrow.source != arrow.target}
    started = any(place.fields.get("kind") == "start" for place in found.places)
    entries = [place for place in found.places if place.id not in reached]
    if started or not entries:
        return found
    if len(entries) == 1:
        rest = [place for place in found.places if place is not entries[0]]
        return replace(found, places=(entries[0], *rest))
    ids = {place.id for place in found.places}
    numbers = itertools.chain([""], map(str, itertools.count(2)))
    name = next(f"start{number}" for number in numbers if f"start{number}" not in ids)
    start = Place(id=name, fields={"kind": "start"}, line=entries[0].line)
    ways = [
        Arrow(source=name, target=each.id, fields={"type": "parallel"}, line=each.line)
        for each in entries
    ]
    return replace(found, places=(start, *found.places), arrows=(*ways, *found.arrows))


def _violation(type: str, message: str, line: int, remedy: str) -> Problem:  # noqa: A002  # its word
    return drawings.at_line(line, f"{type}: {message}", remedy)
