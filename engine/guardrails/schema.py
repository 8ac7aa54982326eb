"""The language of policies as a JSON Schema, for editors and for whoever validates early.

What a schema can say it says as the reader does, from the same words and bounds. What it cannot
(that a rule's parts come together, that an expression or a pattern can be read, that names differ)
is left to `document.read`, which alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.core.document import vocabulary as graph_words
from engine.core.expressions.tokens import MAX_SOURCE
from engine.core.section import DURATION
from engine.core.values import Json
from engine.guardrails import patterns, plugins
from engine.guardrails import vocabulary as words


def policy_schema() -> dict[str, Json]:
    """The JSON Schema (2020-12) of a policy, be it written in YAML or in JSON."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:celeriac:policy",
        "title": "Celeriac policy",
        **_object(
            "What runs must keep to.",
            {
                "policy": _text(words.POLICY_NAME, "The name of the policy."),
                "title": _text(graph_words.TITLE, "What people call it."),
                "enforce": {
                    "description": "Whether its rules are obeyed; if not, they only warn.",
                    "type": "boolean",
                    "default": True,
                },
                "priority": {
                    "description": "Policies of a lower number are asked first.",
                    "type": "integer",
                    "minimum": -words.MAX_PRIORITY,
                    "maximum": words.MAX_PRIORITY,
                    "default": words.DEFAULT_PRIORITY,
                },
                "applies_to": _object(
                    "Whose runs it is for; without it, all of the tenant's.",
                    {
                        "workflows": _names("Names of workflows; * is any characters."),
                        "users": _names("Who submitted the run; * is any characters."),
                    },
                ),
                "rules": _list({"$ref": "#/$defs/rule"}, words.MAX_RULES, "Asked in this order."),
                "budgets": _list(
                    {"$ref": "#/$defs/budget"}, words.MAX_BUDGETS, "What may be spent."
                ),
                "plugins": _list(
                    {"$ref": "#/$defs/plugin"}, words.MAX_PLUGINS, "Installed plug-ins to be asked."
                ),
            },
            required=["policy"],
        ),
        "anyOf": [
            {"required": [name], "properties": {name: {"minItems": 1}}}
            for name in ("rules", "budgets", "plugins")
        ],
        "$defs": {
            "rule": _rule(),
            "line": {
                "description": "A rule of one line, such as sum(tokens_used) > 10 000 → abort_lifetime "
                "or per user per hour: sum(cost_usd) > 5 → reject_execution.",
                "type": "string",
                "pattern": "(→|->)",
                "maxLength": words.MAX_LINE,
            },
            "argument": _argument(),
            "budget": _budget(),
            "plugin": _plugin(),
            "action": {
                "description": "What follows. In any case; abort, pause, reject, deny and ask will do.",
                "type": "string",
                "examples": [*words.ACTIONS],
                "pattern": _any_case([*words.ACTION_WORDS]),
            },
            "metric": _text(
                words.METRIC,
                "What is measured: "
                + ", ".join(dict.fromkeys((*words.METRICS, *words.LIVE)))
                + ", or what executions report.",
            ),
            "scope": _word("Over whose executions.", [*words.SCOPE_WORDS]),
            "window": _word("Since when, by UTC; none is ever.", [*words.WINDOWS]),
            "number": {
                "description": "A number; as text its digits may be grouped: '10 000'.",
                "anyOf": [
                    {"type": "number"},
                    {"type": "string", "pattern": "^ *-?[0-9]"},
                ],
            },
            "moments": {
                "description": "When it is judged; without it, whenever what it asks is known.",
                "type": "array",
                "minItems": 1,
                "items": {"enum": [*words.MOMENTS]},
            },
            "pattern": {
                "description": "A regular expression of RE2, looked for anywhere in a text.",
                "type": "string",
                "minLength": 1,
                "maxLength": patterns.MAX_SOURCE,
            },
            "expression": {
                "description": "An expression over "
                + ", ".join(f"${name}" for name in words.NAMES)
                + ".",
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_SOURCE,
            },
        },
    }


def _rule() -> dict[str, Json]:
    fields = _object(
        "All that it asks must hold.",
        {
            "name": _text(words.RULE_NAME, "What people call it; unique in the policy."),
            "message": _text(words.MESSAGE, "What whoever is stopped is told."),
            "at": {"$ref": "#/$defs/moments"},
            "metric": {"$ref": "#/$defs/metric"},
            "agg": _word(
                "How the executions' figures are put together; sum, unless it is said, and for what "
                "the run itself knows its value now.",
                [*words.AGGREGATES],
            ),
            "op": _word("How it is compared with the limit.", [*words.COMPARISON_WORDS]),
            "value": {"$ref": "#/$defs/number"},
            "scope": {"$ref": "#/$defs/scope"},
            "window": {"$ref": "#/$defs/window"},
            "tool": _names("A call of one of these tools; * is any characters."),
            "arguments": {
                "description": "What the arguments of the call are like.",
                "anyOf": [
                    {"$ref": "#/$defs/argument"},
                    {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": words.MAX_CONDITIONS,
                        "items": {"$ref": "#/$defs/argument"},
                    },
                ],
            },
            "content": _object(
                "A text, number or key somewhere in there matches.",
                {
                    "matches": {"$ref": "#/$defs/pattern"},
                    "in": {
                        "description": "Where it is looked for; without it, everywhere.",
                        "type": "array",
                        "minItems": 1,
                        "items": {"enum": [*words.PLACES]},
                    },
                },
                required=["matches"],
            ),
            "when": {"$ref": "#/$defs/expression"},
            "no_progress": _progress(),
            "action": {"$ref": "#/$defs/action"},
            "set": {
                "description": "modify: what becomes of the arguments of a call, by dotted path.",
                "type": "object",
                "propertyNames": {"pattern": words.DOTTED},
            },
            "from": {
                "description": "require_approval: who may answer.",
                "anyOf": [
                    {"type": "string", "pattern": graph_words.WHO},
                    {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": words.MAX_NAMES,
                        "items": {"type": "string", "pattern": graph_words.WHO},
                    },
                ],
            },
            "quorum": _integer(1, graph_words.MAX_QUORUM, 1, "require_approval: how many must."),
            "four_eyes": {
                "description": "require_approval: whoever submitted the run may not answer.",
                "type": "boolean",
                "default": False,
            },
            "expires": {
                "description": "require_approval: how long it waits, in seconds or as 90s, 10m, 2h, 3d.",
                "anyOf": [
                    {"type": "number", "minimum": 1, "maximum": words.MAX_EXPIRES},
                    {"type": "string", "pattern": DURATION},
                ],
            },
        },
        required=["action"],
    )
    return {
        "anyOf": [
            {"$ref": "#/$defs/line"},
            {
                "description": "The same, where YAML takes the colon for one of its own.",
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "patternProperties": {r"^\s*[Pp][Ee][Rr]\b": {"$ref": "#/$defs/line"}},
                "additionalProperties": False,
            },
            {
                **fields,
                "anyOf": [{"required": [name]} for name in words.CONDITIONS],
                "dependentRequired": {name: ["metric", "op", "value"] for name in words.MEASURE},
            },
        ]
    }


def _argument() -> dict[str, Json]:
    anything: dict[str, Json] = {"description": "A value, compared as JSON."}
    listed: dict[str, Json] = {"type": "array", "minItems": 1, "maxItems": words.MAX_OPTIONS}
    kinds: Mapping[str, Json] = {
        **dict.fromkeys(words.OPERATORS, anything),
        **dict.fromkeys(("in", "not_in"), listed),
        **{order: {"type": "number"} for order in ("gt", "lt", "gte", "lte")},
        "regex": {"$ref": "#/$defs/pattern"},
    }
    return {
        **_object(
            "What stands at a path, compared in one way.",
            {"path": _text(words.DOTTED, "Keys, indexes, and * for any entry."), **kinds},
            required=["path"],
        ),
        "minProperties": 2,
        "maxProperties": 2,
    }


def _progress() -> dict[str, Json]:
    laps = _integer(2, words.MAX_LAPS, 3, "Over so many laps of a node.")
    kinds: Mapping[str, Json] = {
        "repeated_state": {
            "description": "A node has left the same state so many times.",
            "anyOf": [
                _integer(2, words.MAX_LAPS, 3, "So many times."),
                _object(
                    "What counts as the state.",
                    {
                        "times": _integer(2, words.MAX_LAPS, 3, "So many times."),
                        "of": {"$ref": "#/$defs/expression"},
                    },
                ),
            ],
        },
        "same_call": _integer(
            2, 1_000_000, 3, "A tool is called with the same arguments for the so-manieth time."
        ),
        "flat_score": _object(
            "A score has moved by no more than this.",
            {
                "of": {
                    "description": "score, or an expression such as $result.score.",
                    "type": "string",
                },
                "laps": laps,
                "by": {"$ref": "#/$defs/number"},
            },
            required=["of"],
        ),
        "cost_slope": _object(
            "Each lap uses more than the one before, by more than this on average.",
            {
                "metric": {"$ref": "#/$defs/metric"},
                "laps": _integer(3, words.MAX_LAPS, 5, "Over so many laps of a node."),
                "above": {"$ref": "#/$defs/number"},
            },
            required=["above"],
        ),
    }
    return {
        **_object("A loop that comes to nothing.", kinds),
        "minProperties": 1,
        "maxProperties": 1,
    }


def _budget() -> dict[str, Json]:
    return _object(
        "What may be spent.",
        {
            "name": _text(words.RULE_NAME, "What people call it; unique in the policy."),
            "scope": {"$ref": "#/$defs/scope"},
            "window": {"$ref": "#/$defs/window"},
            "metric": {"$ref": "#/$defs/metric"},
            "limit": {"$ref": "#/$defs/number"},
            "on_shortfall": _word("What becomes of whoever would spend more.", [*words.SHORTFALLS]),
            "ask_above": {
                "description": "The share of the limit above which a person is asked.",
                "$ref": "#/$defs/number",
            },
        },
        required=["scope", "metric", "limit"],
    )


def _plugin() -> dict[str, Json]:
    return _object(
        "An installed plug-in.",
        {
            "use": _text(words.PLUGIN_NAME, f"Its name in the entry point group {plugins.GROUP}."),
            "with": {"description": "What it is set up with.", "type": "object"},
            "at": {"$ref": "#/$defs/moments"},
        },
        required=["use"],
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
    return {**found, "required": [*required]} if required else found


def _list(item: Json, most: int, meaning: str) -> dict[str, Json]:
    return {"description": meaning, "type": "array", "maxItems": most, "items": item}


def _names(meaning: str) -> dict[str, Json]:
    name: Json = {"type": "string", "pattern": words.GLOB}
    many: Json = {"type": "array", "minItems": 1, "maxItems": words.MAX_NAMES, "items": name}
    return {"description": meaning, "anyOf": [name, many]}


def _text(pattern: str, meaning: str) -> dict[str, Json]:
    return {"description": meaning, "type": "string", "pattern": pattern}


def _word(meaning: str, known: Sequence[str]) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "string",
        "pattern": _any_case(known),
        "examples": [*known],
    }


def _any_case(known: Sequence[str]) -> str:
    """A pattern of words in any case, `-` or a space for `_`."""
    return f"^ *({'|'.join(map(_cased, known))}) *$"


def _cased(word: str) -> str:
    return "".join(
        f"[{char}{char.upper()}]" if char.isalpha() else "[_ -]" if char == "_" else char
        for char in word
    )


def _integer(least: int, most: int, default: int, meaning: str) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "integer",
        "minimum": least,
        "maximum": most,
        "default": default,
    }
