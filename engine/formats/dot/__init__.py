"""GraphViz DOT, as seed 001 uses it for its graphs.

    digraph Research {
      plan_search  [type="plan", label="What to look for"];
      search       [type="task"];
      plan_search -> search -> plan_search;
      plan_search -> answer [label="enough"];
      answer       [type="task"];
    }

Each node has a `type`: `plan` or `task`, or the kind of one that is only passed (`start`,
`end`, `pass`, `milestone`). A `label` is a title. Beside these, attributes named like the simple fields of
a document are those fields: `uses="find@3"` on a node, `type="join"`, `when="$x > 1"` or
`choice="enough"` (the document's `label`) on an edge. All others are for the eye. A run
starts at the node of type `start`, else at the node that nothing leads to; where there are
several, it starts at all of them at once.

What is wrong is named in the words of that seed, first in the message: DUPLICATE_NAME,
DANGLING_EDGE, TASK_MULTIPLE_PLANS, ORPHANED_NODE, INVALID_NAME, INVALID_STRUCTURE and, of
bundles, MISSING_DIRECTORY and MISSING_PYTHON_FILE. Its own example breaks three of its rules
(a task leads to a task, has two plans, is an entry): these hold only for who asks to be
`strict`.
"""

from __future__ import annotations

from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.values import Json
from engine.formats import drawing as drawings
from engine.formats.dot import reading, writing
from engine.formats.drawing import Drawing
from engine.formats.taken import Taken

__all__ = ["read", "read_graph", "sidecar", "write"]


def read(
    text: str, sidecar: Json = None, *, strict: bool = False
) -> dict[str, Json] | tuple[Problem, ...]:
    """Make a document of a DOT drawing and its sidecar, or say everything that is wrong."""
    drawing = reading.drawing(text, strict=strict)
    return drawings.lowered(drawing, sidecar) if isinstance(drawing, Drawing) else drawing


def read_graph(
    text: str, sidecar: Json = None, *, strict: bool = False
) -> Graph | tuple[Problem, ...]:
    """Make a graph of a DOT drawing and its sidecar; what is wrong is named with its line."""
    drawing = reading.drawing(text, strict=strict)
    return drawings.graph(drawing, sidecar) if isinstance(drawing, Drawing) else drawing


def write(graph: Graph, taken: Taken | None = None) -> str:
    """The DOT drawing of a graph, or of a run of it: the way it took is marked."""
    return writing.text(graph, taken)


def sidecar(graph: Graph) -> dict[str, Json]:
    """What the DOT drawing of a graph does not say, and what `read` needs to make it that graph."""
    drawing = reading.drawing(writing.text(graph))
    assert isinstance(drawing, Drawing), drawing
    return drawings.remainder(graph, drawing, {node: node for node in graph.nodes})
