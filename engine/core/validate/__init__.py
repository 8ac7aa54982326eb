"""What must hold of a graph as a whole, beyond the form of its parts.

Every run of a graph that passes here ends by itself, because each loop is bounded and a way
out leads from each node. What could only be a mistake, an edge that is never taken, a join
whose demand can never be met, a name that nothing gives a value, is refused here and not
found out by a run.

`wiring` looks at nodes and edges, `work` at who carries nodes out and who chooses, `threads`
at forks and joins, `beside` at nodes that speak of other threads, `naming` at the names in
expressions, `strict` at what seed 001 asks for.
"""

from __future__ import annotations

from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.core.validate import beside, naming, strict, threads, wiring, work
from engine.core.validate.naming import RESERVED, remembered

__all__ = ["RESERVED", "problems", "remembered"]


def problems(graph: Graph) -> tuple[Problem, ...]:
    """Everything that is wrong with a graph whose parts are well formed.

    The nodes that edges name need not exist: a name close to one that does is taken for it,
    so that one slip of the pen is one problem.
    """
    found = list(wiring.dangling(graph))
    sound = wiring.mended(graph)
    found += wiring.problems(sound)
    found += work.problems(sound)
    found += threads.problems(sound)
    found += beside.problems(sound)
    found += naming.problems(sound)
    if graph.strict:
        found += strict.problems(sound)
    return tuple(found)
