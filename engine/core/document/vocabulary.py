"""The words and bounds of the document language, shared by its reader and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.core.graph import Arrive

MAX_NODES = 1000
MAX_EDGES = 5000
MAX_ITERATIONS = 1_000_000
MAX_STEPS = 1_000_000
MAX_ATTEMPTS = 100
MAX_SECONDS = 30 * 86_400.0

NODE_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_. -]{0,62}[A-Za-z0-9_.-])?$"
VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
WORKFLOW_NAME = r"^[^\s@/\x00-\x1f\x7f]([^@/\x00-\x1f\x7f]{0,126}[^\s@/\x00-\x1f\x7f])?$"
VERSION = r"^(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}(-[0-9A-Za-z.-]{1,40})?$"
FUNCTION = r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"
#: A function or tool, and its version if one is fixed.
REFERENCE = FUNCTION.removesuffix("$") + r"(@[1-9][0-9]{0,8})?$"
LABEL = r"^[^\x00-\x1f\x7f]{1,100}$"
QUEUE = r"^[A-Za-z0-9_.-]{1,100}$"
TITLE = r"^[^\x00-\x1f\x7f]{1,200}$"
NOTES = r"^[\s\S]{1,4000}$"

#: Reasons for which an attempt may be tried again. A worker that dies is not among them: its
#: steps are tried again whatever the node says, and counted apart.
REASONS = ("error", "timeout", "memory", "cpu", "output_too_large")

KINDS = ("function", "tool", "start", "pass", "end")
LATER_KINDS = (
    *("llm", "template", "http", "sql", "workflow", "approval", "input", "event", "timer"),
    *("map", "python", "agent", "code"),
)
EDGE_TYPES: Mapping[str, Arrive] = {"normal": Arrive.START, "final": Arrive.FINAL}

TOP = (
    *("workflow", "version", "inputs", "variables", "outputs", "limits", "start"),
    *("nodes", "edges", "origin"),
)
WORK = ("role", "with", "save", "choose", "retry", "timeout", "queue")
NODE = ("kind", "title", "notes", "max_iterations")
EDGE = ("from", "to", "type", "when", "ask", "label")

LATER_TOP = ("steps", "strict", "policies", "compensate", "schema")
LATER_LIMITS = ("cost_usd", "duration", "tokens")
LATER_VARIABLE = ("type", "reduce", "shared", "sensitive", "schema")
LATER_NODE = (
    *("rules", "effect", "limits", "compensate", "route", "join", "model", "prompt", "form"),
    *("show", "of", "from", "expires", "workflow", "over", "as", "do", "at_once", "stop_when"),
    *("for", "until", "name", "match", "schema", "steps", "strict"),
)
LATER_EDGE = ("on", "reason", "priority")
LATER_TYPES = ("parallel", "join")
#: They could make a schema reach for something outside of the document.
REFERRING = ("$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema", "$anchor", "$dynamicAnchor")


def matches(pattern: str, text: str) -> bool:
    """Whether a whole text is of a pattern."""
    return re.fullmatch(pattern, text) is not None
