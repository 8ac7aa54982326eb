"""The document language: what people write, editors draw and importers produce.

    workflow: summarize
    inputs: {text: {type: string}}
    nodes:
      draft: {uses: write_draft, with: {text: $text}, save: {draft: $result.text}}
      grade: {uses: grade_draft, with: {draft: $draft}, save: {score: $result}}
    edges:
      - draft -> grade -> end
      - {from: grade, to: draft, when: $score < 7, label: loop}

`read` makes a graph of it or says everything that is wrong with it; `write` gives the one
canonical document of a graph, and `read(write(graph)) == graph`. Text in YAML or JSON becomes
data elsewhere (`engine.documents`); the same rules as a JSON Schema are in `schema`.

A run starts at `start:`, by default at the node of kind `start`, else at the first node that
is declared. `end` need not be declared. The order of edges means something: a source takes
the first that holds. Objects have no order.

What the language has and this version does not carry out (`parallel`, `llm`, `approval`, …) is
refused by its name: ignoring it would be a promise broken at run time.
"""

from __future__ import annotations

from engine.core.document.names import Reference, names_used
from engine.core.document.reading import read
from engine.core.document.writing import write

__all__ = ["Reference", "names_used", "read", "write"]
