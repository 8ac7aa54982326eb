"""A graph as a picture: SVG that needs nothing else, light or dark as its reader prefers.

Shapes tell what a node is for: a box does, a hexagon chooses, a pill begins, ends or is passed;
a bar on top brings threads together. A thick line runs beside others, a dashed one is for
what goes wrong, and lines that lead up are the laps of loops. With the way that a run took,
what it passed is coloured and counted, and the rest steps back.

Whatever people wrote is text here and nothing else. The same graph gives the same picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from xml.sax import saxutils

from engine.core.graph import Arrive, Edge, Graph, Node, NodeId, Role
from engine.formats import drawing as drawings
from engine.formats import lettering
from engine.formats.layout import Box, Layout, Line, Route, layout
from engine.formats.taken import Taken

_MARGIN = 24.0
_TITLE, _SUB, _LABEL = 13.0, 11.0, 11.5
_LEADING = 17.0
#: How wide the lines of a title, and of what is written on an edge, may be.
_WRAP, _WRAP_LABEL = 190.0, 170.0
_LINES = 3
_SLANT = 14.0
#: A line that strays no further needs no bend.
_STRAIGHT = 3.0

_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_STYLE = """
.celeriac text { font-family: FONT; text-anchor: middle; fill: #1f2328; }
.celeriac .paper { fill: #ffffff; }
.celeriac .title { font-size: 13px; font-weight: 600; }
.celeriac .sub { font-size: 11px; fill: #59636e; }
.celeriac .label { font-size: 11.5px; fill: #424a53; }
.celeriac .plate { fill: #ffffff; fill-opacity: 0.94; }
.celeriac .shape { stroke-width: 1.25; fill: #f6f8fa; stroke: #afb8c1; }
.celeriac .plan .shape { fill: #f5f0ff; stroke: #b9a3e3; }
.celeriac .control .shape { fill: #ffffff; stroke: #59636e; }
.celeriac .start .shape { fill: #32383f; stroke: #32383f; }
.celeriac .start .title { fill: #ffffff; }
.celeriac .ring { fill: none; stroke: #59636e; stroke-width: 1.25; }
.celeriac .bar { stroke: #59636e; stroke-width: 4; stroke-linecap: round; }
.celeriac .edge .line { fill: none; stroke: #818b98; stroke-width: 1.4; }
.celeriac .edge .head { fill: #818b98; stroke: none; }
.celeriac .parallel .line { stroke-width: 2.4; }
.celeriac .error .line { stroke: #cf222e; stroke-dasharray: 5 3; }
.celeriac .error .head { fill: #cf222e; }
.celeriac .taken .shape { fill: #dafbe1; stroke: #1a7f37; stroke-width: 2; }
.celeriac .start.taken .shape { fill: #1a7f37; }
.celeriac .taken .ring { stroke: #1a7f37; }
.celeriac .edge.taken .line { stroke: #1a7f37; stroke-width: 2.4; }
.celeriac .edge.taken .head { fill: #1a7f37; }
.celeriac .live .shape { fill: #fff8c5; stroke: #bf8700; stroke-width: 2.5; stroke-dasharray: 6 3; }
.celeriac .untaken { opacity: 0.45; }
.celeriac .count { fill: #1a7f37; }
.celeriac .times { font-size: 10.5px; font-weight: 600; fill: #ffffff; }
@media (prefers-color-scheme: dark) {
.celeriac text { fill: #e6edf3; }
.celeriac .paper { fill: #0d1117; }
.celeriac .sub { fill: #9198a1; }
.celeriac .label { fill: #c4ccd5; }
.celeriac .plate { fill: #0d1117; }
.celeriac .shape { fill: #1c2128; stroke: #545d68; }
.celeriac .plan .shape { fill: #271f3d; stroke: #7e64b8; }
.celeriac .control .shape { fill: #0d1117; stroke: #9198a1; }
.celeriac .start .shape { fill: #d1d7e0; stroke: #d1d7e0; }
.celeriac .start .title { fill: #1f2328; }
.celeriac .ring { stroke: #9198a1; }
.celeriac .bar { stroke: #9198a1; }
.celeriac .edge .line { stroke: #768390; }
.celeriac .edge .head { fill: #768390; }
.celeriac .error .line { stroke: #f85149; }
.celeriac .error .head { fill: #f85149; }
.celeriac .taken .shape { fill: #12341d; stroke: #3fb950; }
.celeriac .start.taken .shape { fill: #3fb950; stroke: #3fb950; }
.celeriac .taken .ring { stroke: #3fb950; }
.celeriac .edge.taken .line { stroke: #3fb950; }
.celeriac .edge.taken .head { fill: #3fb950; }
.celeriac .live .shape { fill: #3b2f08; stroke: #d29922; }
.celeriac .count { fill: #238636; }
}
""".replace("FONT", _FONT)


def svg(graph: Graph, taken: Taken | None = None) -> str:
    """The picture of a graph, or of a run of it."""
    nodes = drawings.ordered(graph)
    number = {node.id: index for index, node in enumerate(nodes)}
    joins = {edge.target for edge in graph.edges if edge.arrive is Arrive.JOIN}
    faces = [_face(node, joins=node.id in joins) for node in nodes]
    labels = [
        lettering.wrapped(_written(edge, taken), _LABEL, _WRAP_LABEL, 2) for edge in graph.edges
    ]
    placed = layout(
        [face.box for face in faces],
        [_line(number, edge, label) for edge, label in zip(graph.edges, labels, strict=True)],
    )
    body = [
        *(_edge(graph, *each, taken) for each in zip(graph.edges, placed.routes, strict=True)),
        *(
            _written_label(edge, route, label, taken)
            for edge, route, label in zip(graph.edges, placed.routes, labels, strict=True)
            if route.label
        ),
        *(_node(face, at, taken) for face, at in zip(faces, placed.boxes, strict=True)),
    ]
    return "\n".join([*_opening(graph, placed), *body, "</g>", "</svg>"]) + "\n"


_Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Face:
    """What is seen of a node."""

    node: NodeId
    kind: str  #: `task`, `plan` or `control`
    tip: str
    title: tuple[str, ...]
    sub: str
    box: Box
    begins: bool
    ends: bool
    joins: bool


def _face(node: Node, *, joins: bool) -> _Face:
    kind = drawings.shape(node)
    title = lettering.wrapped(drawings.node_caption(node), _TITLE, _WRAP, _LINES)
    sub = _sub(node)
    width = max(
        [lettering.width(line, _TITLE) * 1.06 for line in title] + [lettering.width(sub, _SUB)]
    )
    height = len(title) * _LEADING + (15.0 if sub else 0.0) + 17.0
    if kind == "plan":
        width, level = width + 2 * _SLANT + 16, width
    elif kind == "control":
        width = max(width + 28, height)
        level = width - height
    else:
        width += 28
        level = width - 28
    return _Face(
        node=node.id,
        kind=kind,
        tip="\n".join(filter(None, [f"{node.id} ({node.kind})", node.title, node.notes])),
        title=title,
        sub=sub,
        box=Box(width=max(width, 44.0), height=height, level=max(level, 0.0)),
        begins=node.kind == "start",
        ends=node.kind == "end",
        joins=joins,
    )


def _sub(node: Node) -> str:
    """The small line under a title: what runs there or of what kind it is, and what it cancels."""
    said = node.uses or node.choose
    if node.at is not None:
        said = f"waits for {node.at}"
    if said is None and node.role is not Role.CONTROL and node.kind not in {"function", "plan"}:
        said = node.kind
    if said == node.id and not node.title:
        said = None
    if node.cancels:
        said = "; ".join(filter(None, [said, f"cancels {', '.join(node.cancels)}"]))
    if said is None:
        return ""
    return lettering.cut(said, _SUB, _WRAP)


def _written(edge: Edge, taken: Taken | None) -> str:
    return drawings.counted(
        drawings.edge_caption(edge) or "", taken.edges.get(edge.id) if taken else 0
    )


def _line(number: Mapping[NodeId, int], edge: Edge, label: tuple[str, ...]) -> Line:
    width = max((lettering.width(line, _LABEL) for line in label), default=0.0)
    return Line(
        source=number[edge.source],
        target=number[edge.target],
        width=width + 8 if label else 0.0,
        height=len(label) * 15.0 + 2 if label else 0.0,
    )


def _opening(graph: Graph, placed: Layout) -> Iterator[str]:
    width, height = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN
    name = _text(f"{graph.workflow} {graph.version or ''}".strip())
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" class="celeriac" role="img" {size}>'
    yield f"<title>{name}</title>"
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="paper" width="{_n(width)}" height="{_n(height)}"/>'
    yield f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN)})">'


def _edge(graph: Graph, edge: Edge, route: Route, taken: Taken | None) -> str:
    classes = ["edge", drawings.style(graph, edge), *(["back"] if route.back else [])]
    classes += _marks(taken.edges.get(edge.id, 0) if taken else None)
    line, head = _curve(route)
    return (
        f'<g class="{" ".join(classes)}" data-edge="{_attribute(edge.id)}">'
        f'<path class="line" d="{line}"/><path class="head" d="{head}"/></g>'
    )


def _curve(route: Route) -> tuple[str, str]:
    """A line and its head, which touches what it leads to."""
    points = list(route.points)
    if route.loop:
        (x, top), (side, _), (_, bottom) = points
        line = f"M{_n(x)} {_n(top)}C{_n(side)} {_n(top - 6)} {_n(side)} {_n(bottom + 6)} {_n(x + 7)} {_n(bottom)}"
        return line, _head(x, bottom, -1, 0)
    (_, begin), (x, y) = points[0], points[-1]
    down, across = (1 if y > begin else -1), 0
    if route.aside[1]:
        down, across = 0, (1 if x > points[-2][0] else -1)
    points[-1] = (x - 7 * across, y - 7 * down)
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for index, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(points)):
        if index == 0 and route.aside[0]:
            parts.append(_corner((x0, y0), (x1, y0), (x1, y1)))
        elif index == len(points) - 2 and route.aside[1]:
            parts.append(_corner((x0, y0), (x0, y1), (x1, y1)))
        elif abs(x0 - x1) < _STRAIGHT:
            parts.append(f"L{_n(x1)} {_n(y1)}")
        else:
            bend = (y0 + y1) / 2
            parts.append(f"C{_n(x0)} {_n(bend)} {_n(x1)} {_n(bend)} {_n(x1)} {_n(y1)}")
    return "".join(parts), _head(x, y, across, down)


def _corner(start: _Point, corner: _Point, end: _Point) -> str:
    """A line with a round corner, from a start that is drawn already."""
    (x0, y0), (x, y), (x1, y1) = start, corner, end
    apart = abs(x0 - x) + abs(y0 - y), abs(x1 - x) + abs(y1 - y)
    near, far = (min(1.0, 14.0 / max(length, 1.0)) for length in apart)
    return (
        f"L{_n(x + (x0 - x) * near)} {_n(y + (y0 - y) * near)}"
        f"Q{_n(x)} {_n(y)} {_n(x + (x1 - x) * far)} {_n(y + (y1 - y) * far)}L{_n(x1)} {_n(y1)}"
    )


def _head(x: float, y: float, across: int, down: int) -> str:
    """The head of an arrow with its tip at a point."""
    back_x, back_y = x - 8 * across, y - 8 * down
    wide_x, wide_y = 4 * abs(down), 4 * abs(across)
    return (
        f"M{_n(x)} {_n(y)}L{_n(back_x - wide_x)} {_n(back_y - wide_y)}"
        f"L{_n(back_x + wide_x)} {_n(back_y + wide_y)}Z"
    )


def _written_label(edge: Edge, route: Route, label: tuple[str, ...], taken: Taken | None) -> str:
    assert route.label is not None
    x, y = route.label
    width = max(lettering.width(line, _LABEL) for line in label) + 6
    height = len(label) * 15.0 + 1
    marks = _marks(taken.edges.get(edge.id, 0) if taken else None)
    lines = "".join(
        f'<text class="label" x="{_n(x)}" y="{_n(y - height / 2 + 12 + index * 15)}">{_text(line)}</text>'
        for index, line in enumerate(label)
    )
    plate = (
        f'<rect class="plate" x="{_n(x - width / 2)}" y="{_n(y - height / 2)}" '
        f'width="{_n(width)}" height="{_n(height)}" rx="3"/>'
    )
    return f'<g class="{" ".join(["text", *marks])}">{plate}{lines}</g>'


def _node(face: _Face, at: tuple[float, float], taken: Taken | None) -> str:
    count = taken.nodes.get(face.node, 0) if taken else None
    live = taken is not None and face.node in taken.live
    classes = [
        "node",
        face.kind,
        *(["start"] if face.begins else []),
        *(["end"] if face.ends else []),
    ]
    classes += ["live"] if live else _marks(count)
    parts = [_outline(face), *_texts(face)]
    if count and count > 1:
        parts.append(_badge(face, count))
    return (
        f'<g class="{" ".join(classes)}" data-node="{_attribute(face.node)}" '
        f'transform="translate({_n(at[0])} {_n(at[1])})">'
        f"<title>{_text(face.tip)}</title>{''.join(parts)}</g>"
    )


def _marks(count: int | None) -> list[str]:
    """What a run says of something: nothing if there is no run."""
    return [] if count is None else ["taken"] if count else ["untaken"]


def _outline(face: _Face) -> str:
    w, h = face.box.width / 2, face.box.height / 2
    if face.kind == "plan":
        inner = w - _SLANT
        points = ((-w, 0), (-inner, -h), (inner, -h), (w, 0), (inner, h), (-inner, h))
        listed = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        found = f'<polygon class="shape" points="{listed}" stroke-linejoin="round"/>'
    else:
        found = _rectangle("shape", w, h, h if face.kind == "control" else 8.0)
    if face.ends:
        found += _rectangle("ring", w - 3.5, h - 3.5, h - 3.5)
    if face.joins:
        across = max(face.box.level / 2, 10.0)
        found += f'<path class="bar" d="M{_n(-across)} {_n(-h)}H{_n(across)}"/>'
    return found


def _rectangle(name: str, w: float, h: float, round_: float) -> str:
    return (
        f'<rect class="{name}" x="{_n(-w)}" y="{_n(-h)}" width="{_n(2 * w)}" '
        f'height="{_n(2 * h)}" rx="{_n(round_)}"/>'
    )


def _texts(face: _Face) -> Iterator[str]:
    height = len(face.title) * _LEADING + (15.0 if face.sub else 0.0)
    y = -height / 2 + 12.5
    for line in face.title:
        yield f'<text class="title" y="{_n(y)}">{_text(line)}</text>'
        y += _LEADING
    if face.sub:
        yield f'<text class="sub" y="{_n(y - 1)}">{_text(face.sub)}</text>'


def _badge(face: _Face, count: int) -> str:
    text = f"×{count}"  # noqa: RUF001  # times
    width = lettering.width(text, 10.5) + 12
    x = face.box.width / 2 - (face.box.height / 4 if face.kind == "control" else 4)
    y = -face.box.height / 2
    return (
        f'<rect class="count" x="{_n(x - width / 2)}" y="{_n(y - 8.5)}" width="{_n(width)}" '
        f'height="17" rx="8.5"/><text class="times" x="{_n(x)}" y="{_n(y + 3.7)}">{text}</text>'
    )


def _text(text: str) -> str:
    return saxutils.escape(lettering.printable(text))


def _attribute(text: str) -> str:
    return saxutils.escape(lettering.printable(text), {'"': "&quot;"})


def _n(number: float) -> str:
    """A number as short as it can be said."""
    found = f"{number:.1f}".removesuffix(".0")
    return "0" if found == "-0" else found
