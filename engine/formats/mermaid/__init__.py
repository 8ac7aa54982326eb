"""Mermaid flowcharts.

    graph TD
        Start((Start)) --> draft[Write a draft]
        draft --> grade{{Good enough?}}
        grade -- once more --> draft
        grade -->|good| End((End))

A hexagon or a diamond is a plan, a circle or a stadium is a start, an end or a node that is
only passed, by where it stands; every other shape is a task. Arrows lead where their heads
point; how thick or dashed they are says nothing. Subgraphs, classes, styles and links are for
the eye. The grammar is Mermaid's own, quirks included, so that what renders is what is read.

Names that Mermaid cannot write (`end`, or with spaces) are written as a word that stands for
them (`end_`) with the name as its text; a sidecar says the same by `drawn: end_`.
"""

from __future__ import annotations

from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.values import Json
from engine.formats import drawing as drawings
from engine.formats.drawing import Drawing
from engine.formats.mermaid import reading, writing
from engine.formats.taken import Taken

__all__ = ["read", "read_graph", "sidecar", "write"]


def read(text: str, sidecar: Json = None) -> dict[str, Json] | tuple[Problem, ...]:
    """Make a document of a flowchart and its sidecar, or say everything that is wrong with them."""
    drawing = reading.drawing(text)
    return drawings.lowered(drawing, sidecar) if isinstance(drawing, Drawing) else drawing


def read_graph(text: str, sidecar: Json = None) -> Graph | tuple[Problem, ...]:
    """Make a graph of a flowchart and its sidecar; what is wrong is named with its line."""
    drawing = reading.drawing(text)
    return drawings.graph(drawing, sidecar) if isinstance(drawing, Drawing) else drawing


def write(graph: Graph, taken: Taken | None = None) -> str:
    """The flowchart of a graph, or of a run of it: the way it took is marked."""
    return writing.text(graph, taken)


def sidecar(graph: Graph) -> dict[str, Json]:
    """What the flowchart of a graph does not say, and what `read` needs to make it that graph."""
    drawing = reading.drawing(writing.text(graph))
    assert isinstance(drawing, Drawing), drawing
    return drawings.remainder(graph, drawing, writing.names(graph))
