"""Nodes that fill in a text, in Jinja's language, behind the walls of the sandbox.

What the text may name is what the node's `with` gives, else all variables as the step sees them. The
text is the document's, or what an expression comes to, such as `template: $letter`: whoever wrote it,
it can do no more there than any code of a stranger's.
"""

from __future__ import annotations

from engine import waiting
from engine.core import remembered
from engine.core.values import Json
from engine.runs.attempts import Failed, Outcome
from workers.kinds.execution import Execution, finished, saved
from workers.sandbox import Job
from workers.sandbox import Outcome as Ended


def run(execution: Execution) -> Outcome:
    """Fill the node's text in; the text is the result."""
    node = execution.node
    given = waiting.arguments(node, execution.scope())
    text = given["template"]
    if not isinstance(text, str):
        message = f"node {node.id}, template: a text is filled in, and this is none"
        return Failed(reason="input_failed", message=message, terminal=True)
    ended = filled_in(execution, text, given.get("with"), name=node.id)
    return saved(execution, finished(execution, ended))


def filled_in(execution: Execution, text: str, names: Json, *, name: str) -> Ended:
    """Fill in a text with what is named, else with all variables; `name` stands in messages."""
    variables = execution.lease.variables
    if names is None:
        names = dict(variables.over(remembered.visible(variables.kept)))
    job = Job(
        mode="template",
        name=name,
        source=text,
        arguments={"variables": names},
        limits=execution.limits,
    )
    return execution.run(job)
