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
                "strict": _flag("Tasks and plans take turns, and a task comes after one plan."),
                "inputs": _by_variable(
                    {"type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema"},
                    "What a run must be given: a JSON Schema by name. Without a default it is "
                    "required.",
                ),
                "variables": _by_variable(
                    {"$ref": "#/$defs/variable"}, "What a run remembers beside its inputs."
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
                    "description": "The ways between nodes. A source takes the first that holds, or "
                    "all if one is parallel.",
                    "type": "array",
                    "maxItems": words.MAX_EDGES,
                    "items": {"$ref": "#/$defs/edge"},
                },
                "steps": {
                    "description": "What runs one after the other, in place of nodes and edges.",
                    "type": "array",
                    "minItems": 1,
                    "maxItems": words.MAX_NODES,
                    "items": {"$ref": "#/$defs/step"},
                },
                "workflows": {
                    "description": "The agents among them that are workflows; publishing finds them.",
                    "type": "array",
                    "uniqueItems": True,
                    "items": {"$ref": "#/$defs/workflow"},
                },
                "return_on_fail": {
                    "description": "Whether a step that fails ends the run. If not, the next one "
                    "finds its $status.",
                    "type": "boolean",
                    "default": True,
                },
                "tests": {
                    "description": "What runs must come to, by the name of the test. No run looks "
                    "at it; `celeriac test` does.",
                    "type": "object",
                    "maxProperties": words.MAX_TESTS,
                    "propertyNames": {"pattern": words.LABEL},
                    "additionalProperties": {"$ref": "#/$defs/test"},
                },
                "origin": {
                    "description": "What the document was made from, in another language's words.",
                    "type": "object",
                },
            },
            required=["workflow"],
        ),
        "oneOf": [_only("nodes", words.TOP, words.LIST), _only("steps", words.LIST, words.TOP)],
        "$defs": {
            "reference_expression": {
                "description": "An expression, as $name or $(…).",
                "type": "string",
                "pattern": r"^\$",
                "maxLength": MAX_SOURCE,
            },
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
            "retry": _retry(words.REASONS),
            "retry_child": _retry(words.CHILD_REASONS),
            "wait": {
                "description": "A time: seconds, or 500ms, 90s, 10m, 2h, 3d.",
                "anyOf": [
                    {"type": "number", "minimum": 0, "maximum": words.MAX_WAIT_SECONDS},
                    {"type": "string", "pattern": DURATION},
                ],
            },
            "workflow": _text(
                words.WORKFLOW,
                "A workflow, its latest version or one: NAME, NAME@1.2.0, NAME@^1.2, NAME@1.x.",
            ),
            "inner": _inner(),
            "handler": _handler(),
            "lock": _lock(),
            "join": _join(),
            "variable": _variable(),
            "step": _step(),
            "test": _test(),
            "answer": _object(
                "One answer of a fake.",
                _answer(),
            )
            | {"oneOf": [{"required": [name]} for name in words.ANSWERS]},
            "fake": _object(
                "What stands for code: one answer for every call, or one after the other.",
                {
                    **_answer(),
                    "each": {
                        "description": "The answers of the first call, the second, and so on.",
                        "type": "array",
                        "minItems": 1,
                        "maxItems": words.MAX_ANSWERS,
                        "items": {"$ref": "#/$defs/answer"},
                    },
                },
            )
            | {"oneOf": [{"required": [name]} for name in (*words.ANSWERS, "each")]},
            "node": {
                "oneOf": [
                    _function(),
                    _tool(),
                    *_spelt(),
                    _foreign(),
                    *_waiting(),
                    _plan(),
                    _milestone(),
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
                    *(_arrow(on, fields) for on, fields in words.EDGES.items()),
                ]
            },
        },
    }


def _only(what: str, fields: Sequence[str], others: Sequence[str]) -> dict[str, Json]:
    """A document of one form has no field of the other."""
    foreign: list[Json] = [{"required": [name]} for name in others if name not in fields]
    return {"required": [what], "not": {"anyOf": foreign}}


def _step() -> dict[str, Json]:
    return _object(
        "A step of a list.",
        {
            "agent": {
                "description": "The function that the step calls, or the workflow that it runs.",
                "$ref": "#/$defs/workflow",
            },
            "params": {
                "description": "What it gives it, by name.",
                "type": "object",
                "propertyNames": {"pattern": words.VARIABLE_NAME, "not": {"const": "output"}},
                "additionalProperties": _template(),
            },
            "output": {
                "description": "The names by which the step leaves its answer; of one value, the "
                "first.",
                "type": "array",
                "maxItems": words.MAX_OUTPUT,
                "items": {
                    "type": "string",
                    "pattern": words.VARIABLE_NAME,
                    "not": {"enum": [*sorted(RESERVED)]},
                },
            },
            "save": _by_variable(
                _template(), "What it leaves of the outputs of a workflow, by names of its own."
            ),
        },
        required=["agent"],
    )


def _function() -> dict[str, Json]:
    return {
        **_object(
            "A node where a function runs.",
            {
                "kind": {"description": "How the node runs.", "const": "function"},
                "uses": _reference(
                    "The function that runs here. That of a plan answers with a list of nodes."
                ),
                "role": _role([*words.ROLES]),
                "choose": _reference(
                    "The function that is asked next; its answer chooses among the edges: by "
                    "label or target, or true and false."
                ),
                **_work(),
                **_common(),
            },
        ),
        "if": {"required": ["role"], "properties": {"role": {"const": "plan"}}},
        "then": {"required": ["uses"], "not": {"required": ["choose"]}},
    }


def _tool() -> dict[str, Json]:
    return _object(
        "A node where a tool is called.",
        {
            "kind": {"description": "How the node runs.", "const": "tool"},
            "tool": _tool_name(),
            **_work(),
            "with": _arguments(),
            **_common(),
        },
        required=["kind", "tool"],
    )


def _spelt() -> list[Json]:
    """The nodes whose kinds have fields of their own for what they are given."""
    work = {name: each for name, each in _work().items() if name != "with"}
    return [
        _object(
            meaning,
            {"kind": _kind(kind), **fields, **work, **_common()},
            required=["kind", *needed],
        )
        | ({} if needed else {"anyOf": [{"required": [name]} for name in words.NEEDED[kind]]})
        for kind, (meaning, fields, needed) in _spelt_fields().items()
    ]


def _spelt_fields() -> Mapping[str, tuple[str, dict[str, Json], tuple[str, ...]]]:
    """Of each of these kinds: what it is, its own fields, and those that it must have."""
    given = _work()["with"]
    dry: Json = _any("Say what would be done, and do nothing.")
    service = _reference("The service that is called: a registered name.")
    fields: dict[str, tuple[str, dict[str, Json]]] = {
        "template": (
            "A node that fills in a text: its result.",
            {
                "template": _any("The text, in Jinja's language."),
                "with": {**_described(given, "What its names stand for; else all variables.")},
            },
        ),
        "llm": (
            "A node that asks a language model, which may use tools.",
            {
                "service": service,
                "model": _any("Which of the service's models."),
                "system": _any("What the model is told first, in Jinja's language."),
                "prompt": _any("What it is asked, in Jinja's language."),
                "messages": _any("What was said before: role and content of each."),
                "with": {**_described(given, "What their names stand for; else all variables.")},
                "tools": _any("Names of the tools that it may use."),
                "schema": _any("The JSON Schema of its answer."),
                "temperature": _any("How far it may stray."),
                "top_p": _any("How much of what is likely it chooses from."),
                "max_tokens": _any("The most that it may answer with at once."),
                "stop": _any("Texts at which it ends."),
                "seed": _any("A number by which it answers alike."),
                "max_turns": _any("How often it may be asked, tools between."),
                "stream": _any("Whether its words are shown as they come."),
            },
        ),
        "http": (
            "A node that sends a request to a host which its service allows.",
            {
                "service": service,
                "method": _any("GET, unless it says otherwise."),
                "url": _any("Where to, or the path behind the service's base."),
                "headers": _any("Header to value."),
                "query": _any("Parameter to value."),
                "json": _any("What is sent, as JSON."),
                "text": _any("What is sent, as text."),
                "form": _any("What is sent, as a form: field to value."),
                "accept": _any("Statuses from 400 on that are no failure."),
                "dry_run": dry,
            },
        ),
        "sql": (
            "A node that asks a database, or changes it where its service allows that.",
            {
                "service": service,
                "statement": _any("One statement, with :names or %s for what is bound."),
                "parameters": _any("What is bound: by name, or in order."),
                "dry_run": dry,
            },
        ),
    }
    alone = {kind: needed if len(needed) == 1 else () for kind, needed in words.NEEDED.items()}
    return {kind: (meaning, found, alone[kind]) for kind, (meaning, found) in fields.items()}


def _described(rule: Json, meaning: str) -> dict[str, Json]:
    assert isinstance(rule, dict)
    return {**rule, "description": meaning}


def _foreign() -> dict[str, Json]:
    return _object(
        "A node of a kind that an installed package brings.",
        {
            "kind": _text(words.FOREIGN_KIND, "PACKAGE.NAME."),
            **_work(),
            **_common(),
        },
        required=["kind"],
    )


def _tool_name() -> dict[str, Json]:
    return {
        "description": "The tool that is called: its name, or an expression of it.",
        "anyOf": [
            {"$ref": "#/$defs/reference"},
            {"$ref": "#/$defs/reference_expression"},
        ],
    }


def _workflow_name() -> dict[str, Json]:
    return {
        "description": "The workflow that is run: its name, or an expression of it.",
        "anyOf": [
            {"$ref": "#/$defs/workflow"},
            {"$ref": "#/$defs/reference_expression"},
        ],
    }


def _arguments() -> dict[str, Json]:
    given = _work()["with"]
    assert isinstance(given, dict)
    return {
        "description": "Its arguments: name to template, or an expression of all of them.",
        "anyOf": [
            {name: each for name, each in given.items() if name != "description"},
            {"$ref": "#/$defs/reference_expression"},
        ],
    }


def _plan() -> dict[str, Json]:
    rule = _object(
        "A rule of a plan.",
        {
            "when": {"$ref": "#/$defs/expression"},
            "next": {
                "description": "The nodes that it chooses; none ends the thread here.",
                "type": "array",
                "maxItems": words.MAX_THREADS,
                "items": {"type": "string"},
            },
        },
        required=["next"],
    )
    common = _common()
    return _object(
        "A plan that chooses by rules, without running anything.",
        {
            "role": _role(["plan"]),
            "rules": {
                "description": "The first that holds chooses.",
                "type": "array",
                "minItems": 1,
                "maxItems": words.MAX_RULES,
                "items": rule,
            },
            **{name: common[name] for name in words.PLAN if name in common},
        },
        required=["role", "rules"],
    )


def _milestone() -> dict[str, Json]:
    return _object(
        "A node that is passed as long as some other thread of the run is at a third.",
        {
            "kind": {"description": "How the node runs.", "const": "milestone"},
            "at": _text(words.NODE_NAME, "The node at which somebody must be."),
            "expires": _seconds("How long to wait for that."),
            **_common(),
        },
        required=["kind", "at"],
    )


def _role(roles: Sequence[str]) -> dict[str, Json]:
    return {
        "description": "What the node is for: a task does, a plan chooses.",
        "enum": [*roles],
        "default": roles[0],
    }


def _work() -> dict[str, Json]:
    """What a worker needs to know of a node."""
    return {
        "with": {
            "description": "What it is given: input to template. Without it, all variables.",
            "type": "object",
            "additionalProperties": _template(),
        },
        "save": _by_variable(
            _template(), "What its result leaves in the variables, such as $result.score."
        ),
        "retry": {"$ref": "#/$defs/retry"},
        "timeout": _seconds("How long one attempt may take."),
        "estimate": {
            "description": "What one attempt may use: set aside in its budgets before it starts.",
            "type": "object",
            "maxProperties": words.MAX_USAGES,
            "propertyNames": {"pattern": words.USAGE},
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": words.MAX_USAGE},
        },
        "queue": _text(words.QUEUE, "The Celery queue it goes to, if not the common one."),
        **_around(),
    }


def _around() -> dict[str, Json]:
    """What surrounds a step, whether it works or waits."""
    return {
        "lock": {"$ref": "#/$defs/lock"},
        "compensate": {"$ref": "#/$defs/handler"},
    }


def _waiting() -> list[Json]:
    """The nodes that wait; no worker is held meanwhile."""
    save = _work()["save"]
    expires: Json = {
        "$ref": "#/$defs/wait",
        "description": "After so long the step fails with the reason `expired`.",
    }
    show: Json = {"description": "What people are shown: any template."}
    form = _by_variable(
        {"type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema"},
        "What people fill in: a JSON Schema each; required unless a default is given.",
    )
    who: dict[str, Json] = {
        "description": "Who may answer; without it, whoever may see the run.",
        "anyOf": [
            _text(words.WHO, "role:NAME or user:NAME."),
            {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": words.WHO}},
        ],
    }
    asked: dict[str, Json] = {
        "show": show,
        "from": who,
        "four_eyes": _flag("Whoever submitted the run may not answer."),
        "escalate": _object(
            "Who is asked, too, when nobody has settled it in time.",
            {
                "after": {"$ref": "#/$defs/wait"},
                "to": {**who, "description": "Who may answer then, too."},
            },
            required=["after", "to"],
        ),
        "expires": expires,
        "save": save,
    }
    quorum = _integer(1, words.MAX_QUORUM, 1, "How many must choose the same before it counts.")
    kinds: dict[str, tuple[str, dict[str, Json], list[Json]]] = {
        "timer": (
            "A node that waits for a time.",
            {
                "for": {
                    "description": "How long: a time, or an expression of seconds.",
                    "anyOf": [{"$ref": "#/$defs/wait"}, {"$ref": "#/$defs/reference_expression"}],
                },
                "until": {
                    "description": "An instant as ISO 8601, or an expression of one.",
                    "type": "string",
                    "maxLength": MAX_SOURCE,
                },
            },
            [],
        ),
        "event": (
            "A node that waits for an event.",
            {
                "name": {
                    "description": "The name of the event, or an expression of it.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_SOURCE,
                },
                "match": {
                    "description": "What the event must be about, exactly: {order: $order_id}.",
                    "type": "object",
                    "additionalProperties": _template(),
                },
                "schema": {
                    "description": "The JSON Schema of its payload.",
                    "type": "object",
                    "$ref": "https://json-schema.org/draft/2020-12/schema",
                },
                "transient": _flag("What came before the step waited does not count."),
                "expires": expires,
                "save": save,
            },
            ["name"],
        ),
        "approval": (
            "A node that waits for people to choose.",
            {
                "choices": {
                    "description": "What they choose among; the edges may be labelled so.",
                    "type": "array",
                    "minItems": 2,
                    "maxItems": words.MAX_CHOICES,
                    "uniqueItems": True,
                    "items": {"type": "string", "pattern": words.LABEL},
                    "default": [*words.CHOICES],
                },
                "form": form,
                "quorum": {
                    "description": "How many must choose the same before it counts; or so many of "
                    "each choice, one of those that are not named: {approve: 2, deny: 1}.",
                    "anyOf": [
                        quorum,
                        {
                            "type": "object",
                            "additionalProperties": {**quorum, "description": "Of this choice."},
                        },
                    ],
                },
                "reason": {
                    "description": "Whoever chooses `deny` or `reject` must say why; where there "
                    "is neither, whoever answers.",
                    "const": "required",
                },
                **asked,
            },
            [],
        ),
        "input": (
            "A node that waits for somebody to fill in a form. Its fields are saved by their names.",
            {"form": {**form, "minProperties": 1}, **asked},
            ["form"],
        ),
        "workflow": (
            "A node that runs a workflow as a run of its own, and waits for its end.",
            {
                "workflow": _workflow_name(),
                "with": {
                    "description": "Its inputs: name to template, or an expression of all.",
                    "anyOf": [
                        {"type": "object", "additionalProperties": _template()},
                        {"$ref": "#/$defs/reference_expression"},
                    ],
                },
                "orphan": _orphan(),
                "retry": {"$ref": "#/$defs/retry_child"},
                "expires": expires,
                "save": save,
            },
            ["workflow"],
        ),
        "map": (
            "A node that does the same with every item of a list, side by side.",
            {
                "over": {
                    "description": "The items: an expression of a list, or a list.",
                    "anyOf": [{"$ref": "#/$defs/reference_expression"}, {"type": "array"}],
                },
                "as": {
                    **_text(
                        words.VARIABLE_NAME, "What an item is called there; `item` unless said."
                    ),
                    "not": {"enum": [*sorted(RESERVED - {"item"})]},
                },
                "do": {"$ref": "#/$defs/inner"},
                "at_once": _integer(1, words.MAX_AT_ONCE, 10, "How many at the same time."),
                "stop_when": _object(
                    "When no more items are waited for.",
                    {
                        "failed": _integer(
                            1, words.MAX_ITEMS, 1, "So many have failed: the map fails."
                        ),
                        "succeeded": {
                            "description": "So many have succeeded: they are enough.",
                            "anyOf": [
                                {"type": "integer", "minimum": 1, "maximum": words.MAX_ITEMS},
                                {"$ref": "#/$defs/reference_expression"},
                            ],
                        },
                    },
                ),
                "timeout": _seconds("How long putting the results together may take."),
                "queue": _text(words.QUEUE, "The Celery queue it goes to, if not the common one."),
                "save": save,
            },
            ["over", "do"],
        ),
    }
    found: list[Json] = []
    for kind, (meaning, fields, required) in kinds.items():
        node = _object(
            meaning,
            {
                "kind": {"description": "What the node waits for.", "const": kind},
                **fields,
                **{name: rule for name, rule in _around().items() if name in words.OWN[kind]},
                **_common(),
            },
            required=["kind", *(str(name) for name in required)],
        )
        if kind == "timer":
            node["oneOf"] = [{"required": ["for"]}, {"required": ["until"]}]
        found.append(node)
    return found


def _orphan() -> dict[str, Json]:
    return {
        "description": "What becomes of the run when the step that waits for it is gone.",
        "enum": [*words.ORPHANS],
        "default": words.ORPHANS[0],
    }


def _inner() -> dict[str, Json]:
    """What a map does with an item."""
    work = _work()
    common = {name: work[name] for name in ("with", "timeout", "queue")}
    retry: Json = {"$ref": "#/$defs/retry"}
    tried: dict[str, Json] = {**common, "estimate": work["estimate"], "retry": retry}
    around = {name: each for name, each in tried.items() if name != "with"}
    return {
        "description": "What is done with each: a function, a tool or a workflow.",
        "anyOf": [
            _reference("The function that runs."),
            _object(
                "A function.",
                {"kind": _kind("function"), "uses": _reference("The function that runs."), **tried},
                required=["uses"],
            ),
            _object(
                "A tool.",
                {"kind": _kind("tool"), "tool": _tool_name(), **tried, "with": _arguments()},
                required=["kind", "tool"],
            ),
            *(
                _object(
                    meaning, {"kind": _kind(kind), **fields, **around}, required=["kind", *needed]
                )
                for kind, (meaning, fields, needed) in _spelt_fields().items()
            ),
            _object(
                "A workflow.",
                {
                    "kind": _kind("workflow"),
                    "workflow": _workflow_name(),
                    "orphan": _orphan(),
                    **common,
                    "with": _arguments(),
                    "retry": {"$ref": "#/$defs/retry_child"},
                },
                required=["kind", "workflow"],
            ),
        ],
    }


def _handler() -> dict[str, Json]:
    """What undoes a step."""
    inner = _inner()
    options = inner["anyOf"]
    assert isinstance(options, list)
    return {
        "description": "What undoes the step when its run fails, or is cancelled and asked to undo "
        "what it did. It sees the step's $result.",
        "anyOf": options[:-1],
    }


def _lock() -> dict[str, Json]:
    return {
        "description": "A name that one thread holds at a time.",
        "anyOf": [
            {
                "description": "Held among the threads of the run while the step lives.",
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_SOURCE,
            },
            _object(
                "How far, and among whom, it is held.",
                {
                    "name": {
                        "description": "Text, or an expression.",
                        "type": "string",
                        "minLength": 1,
                        "maxLength": MAX_SOURCE,
                    },
                    "until": _text(
                        words.NODE_NAME, "The thread keeps it up to and with this node."
                    ),
                    "of": {
                        "description": "Among the threads of the run, or all runs of the tenant.",
                        "enum": [*words.LOCKS],
                        "default": words.LOCKS[0],
                    },
                },
                required=["name"],
            ),
        ],
    }


def _kind(kind: str) -> dict[str, Json]:
    return {"description": "How it runs.", "const": kind}


def _common() -> dict[str, Json]:
    return {
        "title": _text(words.TITLE, "What people call the node."),
        "notes": _text(words.NOTES, "What people should know of it."),
        "checkpoint": _text(
            words.CHECKPOINT,
            "What the place after each of its steps is called: that after the last one so, those of "
            "earlier laps NAME#LAP. No other node may give the name.",
        ),
        "max_iterations": _integer(
            1,
            words.MAX_ITERATIONS,
            DEFAULT_ITERATIONS,
            "How often its loop may turn before its ways back are closed.",
        ),
        "join": {"$ref": "#/$defs/join"},
        "cancels": {
            "description": "Nodes at which every other thread of the run ends when it succeeds.",
            "type": "array",
            "minItems": 1,
            "maxItems": words.MAX_NODES,
            "items": {"type": "string"},
        },
        "route": {
            "description": "Take all edges that hold, though none of them is parallel: they are "
            "waited for, or final.",
            "enum": [*words.ROUTES],
        },
    }


def _join() -> dict[str, Json]:
    """What a join demands. `join.surplus` means nothing without a demand or a timeout."""
    demands: list[Json] = [{"required": [name]} for name in ("all", "first", "share")]
    return {
        "description": "What is demanded of the threads that come together here. Without it, "
        "every thread that can still come is waited for.",
        "anyOf": [
            {"description": "One on each edge, or the first that comes.", "enum": [*words.JOINS]},
            {
                **_object(
                    "A demand, whose threads are meant, and what becomes of the others.",
                    {
                        "all": {"description": "One on each of its edges.", "const": True},
                        "first": _integer(1, words.MAX_THREADS, None, "So many, the first."),
                        "share": _number(
                            words.MIN_SHARE, 1, None, "Such a share of those that were forked."
                        ),
                        "of": _text(
                            words.NODE_NAME,
                            "The node whose fork is joined; by default the nearest that can be.",
                        ),
                        "surplus": {
                            "description": "What becomes of the threads that are not waited for: "
                            "they are cancelled, finish and end here, or wait here for the next time.",
                            "enum": [*words.SURPLUS],
                            "default": words.SURPLUS[0],
                        },
                        "timeout": _seconds(
                            "How long the first that waits here waits for the others."
                        ),
                    },
                ),
                "minProperties": 1,
                "if": {"required": ["surplus"], "not": {"required": ["timeout"]}},
                "then": {"oneOf": demands},
                "else": {"oneOf": [*demands, {"not": {"anyOf": demands}}]},
                # A share has no next time.
                "dependentSchemas": {
                    "share": {"properties": {"surplus": {"not": {"const": "keep"}}}}
                },
            },
        ],
    }


def _variable() -> dict[str, Json]:
    fitting: list[Json] = [
        {
            "if": {
                "required": ["reduce", "type"],
                "properties": {
                    "reduce": {"const": reducer},
                    "type": {"type": "string"},
                },
            },
            "then": {"properties": {"type": {"enum": [*types]}}},
        }
        for reducer, types in words.REDUCED_TYPES.items()
    ]
    commuting: Json = {
        "if": {"required": ["shared"], "properties": {"shared": {"const": True}}},
        "then": {"required": ["reduce"], "properties": {"reduce": {"enum": [*words.COMMUTING]}}},
    }
    return {
        **_object(
            "A variable.",
            {
                "type": {
                    "description": "What it may hold: the name of a JSON type, or a JSON Schema.",
                    "anyOf": [
                        {"enum": [*words.TYPES]},
                        {
                            "type": "object",
                            "$ref": "https://json-schema.org/draft/2020-12/schema",
                        },
                    ],
                },
                "reduce": {
                    "description": "How contributions of several steps add up. Without it two "
                    "threads that write it contradict each other.",
                    "enum": [*words.REDUCED_TYPES],
                },
                "shared": _flag(
                    "Every thread writes it at once, and sees what the others wrote. Its reducer "
                    "gives the same in any order."
                ),
                "default": _any("What it holds when a run begins."),
            },
        ),
        "allOf": [*fitting, commuting],
    }


def _retry(reasons: Sequence[str]) -> dict[str, Json]:
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
                "items": {"enum": [*reasons]},
            },
        },
    )


def _arrow(on: str | None, names: Sequence[str]) -> dict[str, Json]:
    ends: dict[str, Json] = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ]
    }
    every: dict[str, Json] = {
        "from": {"description": "The node or nodes that it leaves.", **ends},
        "to": {"description": "The node or nodes that it leads to.", **ends},
        "type": {
            "description": "What it does: start its target; start it beside the others that are "
            "taken; wait there for the others; end the run.",
            "enum": [kind for kind in words.EDGE_TYPES if on is None or kind != "parallel"],
            "default": "normal",
        },
        "on": {
            "description": "What it is taken on: its source failed for good, or it is a join that "
            "was short of what it demands or has waited long enough, or a milestone that was missed.",
            "enum": [on],
        },
        "reason": {
            "description": "The reasons of failure that it is for; without it, all.",
            "type": "array",
            "items": {"enum": [*words.FAILURES]},
        },
        "when": {"$ref": "#/$defs/expression"},
        "ask": _reference("The function that must answer true for it to be taken."),
        "label": _text(words.LABEL, "The choice that takes it; `loop` marks a way back."),
        "title": _text(words.TITLE, "What people call it. It routes nothing."),
    }
    named = [name for name in names if on is not None or name != "on"]
    return _object(
        {
            None: "An edge, or several that are alike.",
            "error": "A way for failures, or several that are alike.",
            "short": "A way for a join that is short of what it demands, or for a milestone that was "
            "missed.",
        }[on],
        {name: every[name] for name in named},
        required=["from", "to", *(["on"] if on else [])],
    )


def _test() -> dict[str, Json]:
    return _object(
        "A test: what a run in memory is given, and what it must come to.",
        {
            "inputs": {"description": "What the run is given.", "type": "object"},
            "fakes": _object(
                "What stands for code that is not to be called, by its name.",
                {
                    "nodes": _faked("Nodes that carry something out: the result of each visit."),
                    "functions": _faked("Functions."),
                    "tools": _faked("Tools and services."),
                    "workflows": _faked("Workflows: their outputs."),
                },
            ),
            "acts": {
                "description": "What people and the outside do, each once and as soon as it can be.",
                "type": "array",
                "maxItems": words.MAX_ANSWERS,
                "items": {"oneOf": [_answering(), _sending()]},
            },
            "expect": _expect(),
        },
    )


def _faked(meaning: str) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/fake"},
    }


def _answer() -> dict[str, Json]:
    return {
        "returns": _any("What the call comes to."),
        "fails": {"description": "Why it fails.", "enum": [*words.FAILURES]},
        "message": {"description": "What it says of that.", "type": "string"},
        "used": _amounts("What the call has used, by name: cost_usd, tokens_used."),
    }


def _amounts(meaning: str) -> dict[str, Json]:
    return {
        "description": meaning,
        "type": "object",
        "maxProperties": words.MAX_USAGES,
        "propertyNames": {"pattern": words.USAGE},
        "additionalProperties": {"type": "number", "minimum": 0, "maximum": words.MAX_USAGE},
    }


def _answering() -> dict[str, Json]:
    return _object(
        "Somebody answers a node that asks.",
        {
            "answer": _text(words.NODE_NAME, "The node."),
            "choice": _text(words.LABEL, "Of an approval: what is chosen."),
            "form": {"description": "The fields that are filled in.", "type": "object"},
            "reason": {"description": "Why.", "type": "string"},
            "roles": {
                "description": "The roles of who answers.",
                "type": "array",
                "items": {"type": "string"},
            },
            **_done(),
        },
        required=["answer"],
    )


def _sending() -> dict[str, Json]:
    return _object(
        "Somebody sends an event.",
        {
            "send": {
                "description": "The name of the event.",
                "type": "string",
                "minLength": 1,
                "maxLength": words.MAX_NAME,
            },
            "payload": _any("What it carries."),
            "match": {"description": "What it is matched by.", "type": "object"},
            "at": _text(words.NODE_NAME, "The node that must be under way for it."),
            **_done(),
        },
        required=["send"],
    )


def _done() -> dict[str, Json]:
    return {
        "by": {"description": "Who does it.", "type": "string", "minLength": 1},
        "after": {
            "description": "How long after it can be done it is done.",
            "$ref": "#/$defs/wait",
        },
    }


def _expect() -> dict[str, Json]:
    counts: dict[str, Json] = {"type": "integer", "minimum": 0}
    return _object(
        "What the run must come to; without a word, that it completes.",
        {
            "status": {
                "description": "How it stands in the end; running: it waits.",
                "enum": [*words.STATUSES],
            },
            "error": {
                "description": "Why it fails, in one word; it must have failed then.",
                "type": "string",
            },
            "message": {
                "description": "A part of what it says of how it ended.",
                "type": "string",
                "minLength": 1,
            },
            "outputs": {"description": "Outputs that it must have.", "type": "object"},
            "variables": {"description": "Variables that it must have.", "type": "object"},
            "path": {
                "description": "All the nodes that it visits, in their order.",
                "type": "array",
                "maxItems": words.MAX_ANSWERS,
                "items": {"type": "string"},
            },
            "visits": {
                "description": "How often it visits nodes, by name; 0: never.",
                "type": "object",
                "additionalProperties": counts,
            },
            "calls": {
                "description": "How often tools are called, by name; 0: never.",
                "type": "object",
                "additionalProperties": counts,
            },
            "used": _amounts("What it must have used, by name."),
            "that": {
                "description": "Expressions that must hold of what is told of the run.",
                "type": "array",
                "maxItems": words.MAX_ANSWERS,
                "items": {"$ref": "#/$defs/expression"},
            },
        },
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


def _flag(meaning: str) -> dict[str, Json]:
    return {"description": meaning, "type": "boolean", "default": False}


def _integer(least: int, most: int, default: int | None, meaning: str) -> dict[str, Json]:
    return _bounded("integer", least, most, default, meaning)


def _number(least: float, most: float, default: float | None, meaning: str) -> dict[str, Json]:
    return _bounded("number", least, most, default, meaning)


def _bounded(
    kind: str, least: float, most: float, default: float | None, meaning: str
) -> dict[str, Json]:
    found: dict[str, Json] = {
        "description": meaning,
        "type": kind,
        "minimum": least,
        "maximum": most,
    }
    return found if default is None else {**found, "default": default}
