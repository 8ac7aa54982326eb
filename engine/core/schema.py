"""The document language as a JSON Schema, for editors, clients and whoever validates early.

What a schema can say it says exactly as the reader does, from the same words and bounds.
What it cannot (that edges name nodes, that ends can be reached, that names have values) is
left to `document.read`, which alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.core.document import vocabulary as words
from engine.core.expressions.tokens import MAX_SOURCE
from engine.core.graph import DEFAULT_ITERATIONS, DEFAULT_STEPS, Retry
from engine.core.section import DURATION
from engine.core.validate import RESERVED
from engine.core.values import Json


def document_schema() -> dict[str, Json]:
    """The JSON Schema (2020-12) of a workflow document, be it written in YAML or in JSON."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:celeriac:workflow",
        "title": "Celeriac workflow",
        **_object(
            "A workflow: what runs, in which order, and what it remembers.",
            {
                "workflow": _text(words.WORKFLOW_NAME, "The name of the workflow."),
                "version": _text(words.VERSION, "Its version: three numbers, such as 1.2.0."),
                "inputs": _by_variable(
                    {"type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema"},
                    "What a run must be given: a JSON Schema by name. Without a default it is "
                    "required.",
                ),
                "variables": _by_variable(
                    _object("A variable.", {"default": _any("What it holds when a run begins.")}),
                    "What a run remembers beside its inputs.",
                ),
                "outputs": _by_variable(_template(), "What a run comes to, once it has ended."),
                "limits": _object(
                    "The run's own bounds.",
                    {
                        "steps": _integer(
                            1, words.MAX_STEPS, DEFAULT_STEPS, "Visits to nodes, in all."
                        )
                    },
                ),
                "start": _text(
                    words.NODE_NAME,
                    "Where a run starts; by default at the node of kind start, else at the first.",
                ),
                "nodes": {
                    "description": "The nodes by name. An end named `end` need not be declared.",
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": words.MAX_NODES,
                    "propertyNames": {"pattern": words.NODE_NAME},
                    "additionalProperties": {"$ref": "#/$defs/node"},
                },
                "edges": {
                    "description": "The ways between nodes. A source takes the first that holds.",
                    "type": "array",
                    "maxItems": words.MAX_EDGES,
                    "items": {"$ref": "#/$defs/edge"},
                },
                "origin": {
                    "description": "What the document was made from, in another language's words.",
                    "type": "object",
                },
            },
            required=["workflow", "nodes"],
        ),
        "$defs": {
            "expression": {
                "description": "An expression, such as $score > 5 and not ($verdict == 'spam').",
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_SOURCE,
            },
            "seconds": {
                "description": "A time: seconds, or 500ms, 90s, 10m, 2h, 3d.",
                "anyOf": [
                    {"type": "number", "minimum": 0, "maximum": words.MAX_SECONDS},
                    {"type": "string", "pattern": DURATION},
                ],
            },
            "reference": _text(
                words.REFERENCE, "A registered name, newest or of a fixed version: NAME, NAME@3."
            ),
            "retry": _retry(),
            "node": {
                "oneOf": [
                    _worker("function", "uses", "The function that runs here.", []),
                    _worker("tool", "tool", "The tool that is called here.", ["kind", "tool"]),
                    _object(
                        "A node that the coordinator passes by itself.",
                        {
                            "kind": {
                                "description": "Where a run starts, passes or ends.",
                                "enum": ["start", "pass", "end"],
                            },
                            **_common(),
                        },
                        required=["kind"],
                    ),
                ]
            },
            "edge": {
                "anyOf": [
                    {
                        "description": "A chain of nodes: a -> b -> c.",
                        "type": "string",
                        "pattern": "->",
                    },
                    _arrow(),
                ]
            },
        },
    }


def _worker(kind: str, field: str, meaning: str, required: Sequence[str]) -> dict[str, Json]:
    """A node that a worker carries out."""
    return {
        **_object(
            f"A node where a {kind} runs.",
            {
                "kind": {"description": "How the node runs.", "const": kind},
                field: _reference(meaning),
                "role": {
                    "description": "What the node is for: a task does, a plan chooses.",
                    "enum": ["task", "plan"],
                    "default": "task",
                },
                "with": {
                    "description": "What it is given: input to template. Without it, all "
                    "variables.",
                    "type": "object",
                    "additionalProperties": _template(),
                },
                "save": _by_variable(
                    _template(), "What its result leaves in the variables, such as $result.score."
                ),
                "choose": _reference(
                    "The function that is asked next; its answer chooses among the edges: by "
                    "label or target, or true and false."
                ),
                "retry": {"$ref": "#/$defs/retry"},
                "timeout": _seconds("How long one attempt may take."),
                "queue": _text(words.QUEUE, "The Celery queue it goes to, if not the common one."),
                **_common(),
            },
            required=required,
        ),
        "if": {"required": ["role"], "properties": {"role": {"const": "plan"}}},
        "then": {"required": ["choose"]},
    }


def _common() -> dict[str, Json]:
    return {
        "title": _text(words.TITLE, "What people call the node."),
        "notes": _text(words.NOTES, "What people should know of it."),
        "max_iterations": _integer(
            1,
            words.MAX_ITERATIONS,
            DEFAULT_ITERATIONS,
            "How often its loop may turn before its ways back are closed.",
        ),
    }


def _retry() -> dict[str, Json]:
    usual = Retry()
    return _object(
        "When a failed attempt is tried again.",
        {
            "attempts": _integer(1, words.MAX_ATTEMPTS, usual.attempts, "Attempts in all."),
            "backoff": _seconds("How long to wait before the second."),
            "factor": _number(1, 100, usual.factor, "What each wait is multiplied by."),
            "max": _seconds("The longest wait."),
            "jitter": _number(0, 1, usual.jitter, "Share of a wait that varies."),
            "on": {
                "description": "Reasons that are tried again; without it, all that can help.",
                "type": "array",
                "items": {"enum": [*words.REASONS]},
            },
        },
    )


def _arrow() -> dict[str, Json]:
    ends: dict[str, Json] = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ]
    }
    return _object(
        "An edge, or several that are alike.",
        {
            "from": {"description": "The node or nodes that it leaves.", **ends},
            "to": {"description": "The node or nodes that it leads to.", **ends},
            "type": {
                "description": "What it does at its target: start it, or end the run.",
                "enum": [*words.EDGE_TYPES],
                "default": "normal",
            },
            "when": {"$ref": "#/$defs/expression"},
            "ask": _reference("The function that must answer true for it to be taken."),
            "label": _text(words.LABEL, "The choice that takes it; `loop` marks a way back."),
        },
        required=["from", "to"],
    )


def _object(
    meaning: str, properties: Mapping[str, Json], *, required: Sequence[str] = ()
) -> dict[str, Json]:
    found: dict[str, Json] = {
        "description": meaning,
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }
    if required:
        found["required"] = [*required]
    return found


def _by_variable(schema: Json, meaning: str) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "object",
        "propertyNames": {"pattern": words.VARIABLE_NAME, "not": {"enum": [*sorted(RESERVED)]}},
        "additionalProperties": schema,
    }


def _template() -> dict[str, Json]:
    return _any(
        "Any JSON. A text that begins with $ is an expression: $name, or $(…) around one that "
        "begins otherwise; $$ is a dollar."
    )


def _any(meaning: str) -> dict[str, Json]:
    return {"description": meaning}


def _text(pattern: str, meaning: str) -> dict[str, Json]:
    return {"description": meaning, "type": "string", "pattern": pattern}


def _reference(meaning: str) -> dict[str, Json]:
    return {"description": meaning, "$ref": "#/$defs/reference"}


def _seconds(meaning: str) -> dict[str, Json]:
    return {"description": meaning, "$ref": "#/$defs/seconds"}


def _integer(least: int, most: int, default: int, meaning: str) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "integer",
        "minimum": least,
        "maximum": most,
        "default": default,
    }


def _number(least: float, most: float, default: float, meaning: str) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "number",
        "minimum": least,
        "maximum": most,
        "default": default,
    }
