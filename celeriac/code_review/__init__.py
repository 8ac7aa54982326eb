"""The Code Review agent: measures a Python module, names what is wrong, mends what it safely can.

Trusted library code. A platform installs a library from three constants: `FUNCTIONS` (what
nodes and conditions name), `TOOLS` (what running steps call) and `GRAPHS` (seed-000 bodies to
register). Functions and tools are two namespaces: `extract_functions` is in both.

One lap of the graph `code_review_agent` reads the code anew: functions, complexity, issues,
suggestions, score. While the score is under `quality_threshold` and laps remain, one change
that raises it is made and the next lap begins; `stop_reason` then says why there is no other:
`threshold`, `max_iterations` or `nothing_left`. `code` stays as it came; `code_after`, once
there is one, is what lines and figures speak of, and `diff` leads from the one to the other.

- Everything is read from the syntax tree, so a word inside a string never counts. A node
  belongs to the innermost function around it, annotations to none.
- An improvement is a real change of the source: a literal gets a name at the top of the
  module. A change is kept only when the tree after it, its constants put back, equals the
  tree before it. What cannot be mended so (a broad `except`, a `print`, a TODO) stays an issue.
- Code that is not Python is an issue, and scores 0: there is nothing that could be rated.
"""

from __future__ import annotations

from collections.abc import Mapping

from celeriac.code_review.agent import FUNCTIONS, GRAPHS, TOOLS

#: They compute, and touch nothing.
EFFECTS: Mapping[str, str] = dict.fromkeys(TOOLS, "pure")

__all__ = ["EFFECTS", "FUNCTIONS", "GRAPHS", "TOOLS"]
