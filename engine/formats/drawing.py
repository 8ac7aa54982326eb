"""What drawings say, in whichever notation, and what stands in their sidecar."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from engine.core import document, values
from engine.core.document import vocabulary as words
from engine.core.graph import Arrive, Edge, Graph, Node, Role, Route
from engine.core.problem import Problem
from engine.core.section import Section, below, short, suggestion
from engine.core.values import Json

MAX_BYTES = 1_048_576
#: Nesting of groups of nodes.
MAX_DEPTH = 64
#: Faults of one text that are listed.
MAX_PROBLEMS = 100

_TITLE = 200
_NOTES = 4000
_CAPTION = 80
#: What says how a node works; where any of it stands, nothing is taken for granted.
_WORK = frozenset({"kind", "uses", "tool", "choose", "rules"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A node as it is drawn."""

    id: str
    text: str | None = None
    #: The name that the id stands for, where it is not the name itself.
    name: str | None = None
    #: What the drawing says of it, as fields of the document.
    fields: Mapping[str, Json] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An edge as it is drawn."""

    source: str
    target: str
    text: str | None = None
    fields: Mapping[str, Json] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawing, whatever it was written in."""

    name: str | None
    places: tuple[Place, ...]
    arrows: tuple[Arrow, ...]
    #: What the drawing says of the workflow, as fields of the document.
    fields: Mapping[str, Json] = field(default_factory=dict)


def refused(text: str) -> tuple[Problem, ...]:
    """What keeps a text from being read at all."""
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        return (whole(f"a drawing of more than {MAX_BYTES} bytes", "split the workflow"),)
    return tuple(values.problems(text))


def whole(message: str, remedy: str) -> Problem:
    """A problem with a drawing as a whole."""
    return Problem(path="", message=message, remedy=remedy)


def at_line(line: int, message: str, remedy: str, *, path: str = "") -> Problem:
    """A problem with what stands on a line of a drawing."""
    return Problem(path=path, message=f"{message} (line {line})", remedy=remedy)


def lowered(drawing: Drawing, sidecar: Json = None) -> dict[str, Json] | tuple[Problem, ...]:
    """The document of a drawing and its sidecar, or what is wrong with them."""
    if found := tuple(values.problems(sidecar, path="sidecar")) + tuple(_too_large(drawing)):
        return found
    problems: list[Problem] = []
    top = Section({} if sidecar is None else sidecar, "sidecar", problems)
    nodes = top.section("nodes")
    names = _names(drawing, nodes)
    found_nodes = _nodes(drawing, nodes, names)
    found_edges = _edges(drawing, top, names)
    if problems:
        return tuple(problems)
    name: dict[str, Json] = {} if drawing.name is None else {"workflow": drawing.name}
    return {**name, **drawing.fields, **top.fields, "nodes": found_nodes, "edges": found_edges}


def graph(drawing: Drawing, sidecar: Json = None) -> Graph | tuple[Problem, ...]:
    """The graph of a drawing and its sidecar, or what is wrong with them, line by line."""
    data = lowered(drawing, sidecar)
    if not isinstance(data, dict):
        return data
    found = document.read(data)
    return found if isinstance(found, Graph) else tuple(_with_lines(found, drawing, data))


def remainder(graph: Graph, drawing: Drawing, names: Mapping[str, str]) -> dict[str, Json]:
    """What the drawing of a graph does not say. `names` are its nodes by their drawn ids."""
    whole = document.write(graph)
    top = {
        key: value
        for key, value in whole.items()
        if key not in {"nodes", "edges"} and not (key == "workflow" and value == drawing.name)
    }
    nodes: dict[str, Json] = {}
    entries = _fields(whole, "nodes")
    for place in drawing.places:
        name = names[place.id]
        entry = _missing(place, name, _object(entries[name]))
        if name != (place.name or place.id):
            entry = {"drawn": place.id, **entry}
        if entry:
            nodes[name] = entry
    edges = _untold(drawing.arrows, [_object(each) for each in _list(whole.get("edges"))])
    if nodes:
        top["nodes"] = nodes
    if edges:
        top["edges"] = [*edges]
    return top


def caption(fields: Mapping[str, Json]) -> str | None:
    """What is written beside an edge, from the fields of its document."""
    said: Json = None
    for name in ("title", "label", "when", "ask"):
        said = said or fields.get(name)
    if said is None and fields.get("on") is not None:
        reasons = fields.get("reason")
        listed = reasons if isinstance(reasons, list) else [reasons] if reasons else []
        said = ": ".join([str(fields["on"]), *([", ".join(map(str, listed))] if listed else [])])
    if not isinstance(said, str):
        return None
    return one_line(said) if fields.get("title") else _cut(one_line(said), _CAPTION)


def edge_caption(edge: Edge) -> str | None:
    """What is written beside an edge of a graph."""
    return caption(
        {
            "title": edge.title,
            "label": edge.label,
            "when": None if edge.when is None else edge.when.source,
            "ask": edge.ask,
            "on": edge.on,
            "reason": [*sorted(edge.reasons)],
        }
    )


def node_caption(node: Node) -> str:
    """What is written in a node of a graph: its title, or its name if that shows nothing."""
    return one_line(node.title or "") or node.id


def one_line(text: str) -> str:
    """A text without line breaks and what else cannot be printed."""
    parts = re.split(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", text)
    return " ".join(part for part in (each.strip() for each in parts) if part)


def counted(text: str, count: int | None) -> str:
    """A text with how often a run came by, where that is more than once."""
    return f"{text} ×{count}".strip() if count and count > 1 else text  # noqa: RUF001  # times


def ordered(graph: Graph) -> list[Node]:
    """The nodes of a graph, its start first: a drawing begins there."""
    return sorted(graph.nodes.values(), key=lambda node: node.id != graph.start)


def style(graph: Graph, edge: Edge) -> str:
    """How an edge is drawn: `error`, `parallel`, `final`, `join` or `normal`."""
    if edge.on is not None:
        return "error"
    if edge.arrive is not Arrive.START:
        return edge.arrive.value
    return "parallel" if graph.nodes[edge.source].route is Route.ALL else "normal"


def shape(node: Node) -> str:
    """How a node is drawn: `plan`, `control` or `task`."""
    if node.role is Role.PLAN:
        return "plan"
    return "control" if node.role is Role.CONTROL else "task"


def _with_lines(
    problems: Iterable[Problem], drawing: Drawing, data: Mapping[str, Json]
) -> Iterator[Problem]:
    places = dict(zip(_fields(data, "nodes"), drawing.places, strict=True))
    for problem in problems:
        line = 0
        if edge := re.match(r"edges\[(\d+)\]", problem.path):
            line = drawing.arrows[int(edge[1])].line
        elif problem.path.startswith("nodes."):
            # Names may have dots in them: the longest that fits is meant.
            path = problem.path.removeprefix("nodes.") + "."
            fitting = [name for name in places if path.startswith(f"{name}.")]
            line = places[max(fitting, key=len)].line if fitting else 0
        yield replace(problem, message=f"{problem.message} (line {line})") if line else problem


def _too_large(drawing: Drawing) -> Iterator[Problem]:
    for what, found, most in (
        ("nodes", drawing.places, words.MAX_NODES),
        ("edges", drawing.arrows, words.MAX_EDGES),
    ):
        if len(found) > most:
            yield whole(f"more than {most} {what}", "split the workflow")


def _names(drawing: Drawing, nodes: Section) -> dict[str, str]:
    """The name of every drawn id."""
    ids = {place.id for place in drawing.places}
    given: dict[str, str] = {}
    for name in nodes.fields:
        drawn = nodes.section(name).fields.get("drawn", name)
        if drawn in given:
            nodes.fail(name, f"{given[str(drawn)]} is drawn as {short(str(drawn))} too", "keep one")
        elif isinstance(drawn, str):
            given[drawn] = name
        else:
            nodes.section(name).wrong(
                below(nodes.at(name), "drawn"), drawn, "the id in the drawing"
            )
    names: dict[str, str] = {}
    taken: set[str] = set()
    for place in drawing.places:
        name = given.get(place.id) or place.name or place.id
        if name in taken:
            nodes.problems.append(at_line(place.line, f"{name} is drawn twice", "rename one"))
        names[place.id] = name
        taken.add(name)
    for drawn, name in given.items():
        if drawn not in ids and name not in taken:
            remedy = suggestion(drawn, ids) or "draw it, or leave it out"
            nodes.fail(name, f"no node {short(drawn)} is drawn", remedy)
    for place in drawing.places:
        name = names[place.id]
        if not words.matches(words.NODE_NAME, name):
            nodes.problems.append(
                at_line(
                    place.line,
                    f"{short(name)} is not a name for a node",
                    "use up to 64 letters, digits, _ . - and spaces, or name it in the sidecar: "
                    "NAME: {drawn: ID}",
                )
            )
    return names


def _nodes(drawing: Drawing, section: Section, names: Mapping[str, str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for place in drawing.places:
        name = names[place.id]
        entry = section.section(name).fields if name in section.fields else {}
        found[name] = _node(place, name, entry)
    return found


def _node(place: Place, name: str, entry: Mapping[str, Json]) -> dict[str, Json]:
    """The fields of a node: what is drawn, under what the sidecar says."""
    base = _drawn_node(place, name)
    if "kind" in entry:
        # Another kind of node than its shape shows; what the shape says of it is void.
        base.pop("role", None)
    said = {key: value for key, value in {**base, **entry}.items() if key != "drawn"}
    fields: dict[str, Json] = {key: value for key, value in said.items() if value is not None}
    if not _WORK & said.keys() and words.matches(words.FUNCTION, name):
        fields["uses"] = name
    return fields


def _drawn_node(place: Place, name: str) -> dict[str, Json]:
    fields = dict(place.fields)
    if place.text and place.text != name:
        fields["title"] = _cut(place.text, _TITLE)
        if len(place.text) > _TITLE:
            fields["notes"] = _cut(place.text, _NOTES)
    return fields


def _missing(place: Place, name: str, whole: Mapping[str, Json]) -> dict[str, Json]:
    """The least that a sidecar has to say of a node."""
    drawn, usual = _drawn_node(place, name), _node(place, name, {})
    # A node that names no function says so by its kind.
    entries = [_changes(drawn, whole), _changes(usual, whole)]
    entries.append({"kind": "function", **entries[0], **whole})
    return _least(entry for entry in entries if _same(_node(place, name, entry), whole))


def _same(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    return {"kind": "function", **one} == {"kind": "function", **other}


def _edges(drawing: Drawing, top: Section, names: Mapping[str, str]) -> list[Json]:
    entries = _entries(top)
    found: list[Json] = []
    count: Counter[tuple[str, str]] = Counter()
    for arrow in drawing.arrows:
        ends = names[arrow.source], names[arrow.target]
        count[ends] += 1
        _, entry = entries.pop((*ends, count[ends]), ("", {}))
        found.append({"from": ends[0], "to": ends[1], **_edge(arrow, entry)})
    for (source, target, number), (path, _) in entries.items():
        drawn = "no edge" if number == 1 else f"no edge number {number}"
        message = f"{drawn} {source} -> {target} is drawn"
        top.problems.append(Problem(path=path, message=message, remedy="draw it, or leave it out"))
    return found


def _entries(top: Section) -> dict[tuple[str, str, int], tuple[str, Mapping[str, Json]]]:
    """What a sidecar says of edges: by their ends and, between the same two nodes, in order."""
    found: dict[tuple[str, str, int], tuple[str, Mapping[str, Json]]] = {}
    count: Counter[tuple[str, str]] = Counter()
    given = top.fields.get("edges", [])
    if not isinstance(given, list):
        top.wrong(top.at("edges"), given, "a list of edges: {from: a, to: b, …}")
        return found
    for index, each in enumerate(given):
        path = f"{top.at('edges')}[{index}]"
        section = Section(each, path, top.problems)
        for source in _ends(section, "from"):
            for target in _ends(section, "to"):
                count[source, target] += 1
                found[source, target, count[source, target]] = path, section.fields
                if len(found) > words.MAX_EDGES:
                    top.fail("edges", f"more than {words.MAX_EDGES} edges", "leave some out")
                    return {}
    return found


def _ends(section: Section, name: str) -> list[str]:
    given = section.fields.get(name)
    found = given if isinstance(given, list) else [given]
    if all(isinstance(each, str) for each in found):
        return [str(each) for each in found]
    section.wrong(section.at(name), given, "the name of a node, or a list of names")
    return []


def _edge(arrow: Arrow, entry: Mapping[str, Json]) -> dict[str, Json]:
    """The fields of an edge beside its ends: what is drawn, under what the sidecar says."""
    said = {key: value for key, value in entry.items() if key not in {"from", "to"}}
    fields = {**arrow.fields, **said}
    if "title" not in said and arrow.text and arrow.text != caption({**fields, "title": None}):
        fields["title"] = _cut(arrow.text, _TITLE)
    return {key: value for key, value in fields.items() if value is not None}


def _untold(arrows: Iterable[Arrow], whole: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The entries of a sidecar for edges that are not all drawn."""
    found: list[dict[str, Json]] = []
    #: Entries that say nothing, and keep the place of an edge between the same nodes.
    idle: dict[tuple[Json, Json], list[dict[str, Json]]] = {}
    for arrow, edge in zip(arrows, whole, strict=True):
        ends: dict[str, Json] = {"from": edge["from"], "to": edge["to"]}
        fields = {key: value for key, value in edge.items() if key not in ends}
        entries = [_changes(_edge(arrow, {}), fields), _changes(arrow.fields, fields)]
        entries.append({"title": None, **entries[1]})
        entry = _least(entry for entry in entries if _edge(arrow, entry) == fields)
        waiting = idle.setdefault((edge["from"], edge["to"]), [])
        waiting.append({**ends, **entry})
        if entry:
            found += waiting
            waiting.clear()
    return found


def _changes(base: Mapping[str, Json], whole: Mapping[str, Json]) -> dict[str, Json]:
    """What makes the one of the other; null takes away."""
    gone: dict[str, Json] = dict.fromkeys(base.keys() - whole.keys())
    return {**{key: value for key, value in whole.items() if base.get(key) != value}, **gone}


def _least(entries: Iterable[dict[str, Json]]) -> dict[str, Json]:
    """The entry that says no more than it must, and takes away as little as it can."""
    return min(entries, key=lambda entry: (list(entry.values()).count(None), len(entry)))


def _fields(data: Mapping[str, Json], name: str) -> dict[str, Json]:
    return _object(data.get(name))


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
