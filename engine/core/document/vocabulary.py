"""The words and bounds of the document language, shared by its reader and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.core import reasons, versions
from engine.core.graph import Arrive, Join

MAX_NODES = 1000
MAX_EDGES = 5000
MAX_ITERATIONS = 1_000_000
MAX_STEPS = 1_000_000
MAX_ATTEMPTS = 100
MAX_RULES = 100
#: Threads that one rule, or one join, speaks of.
MAX_THREADS = 10_000
MIN_SHARE = 0.001
#: Names that one step of a list leaves its answer by.
MAX_OUTPUT = 100
MAX_SECONDS = 30 * 86_400.0
#: Names of what a step uses, and the most that it may say it will.
MAX_USAGES = 20
MAX_USAGE = 1e9

NODE_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_. -]{0,62}[A-Za-z0-9_.-])?$"
VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
WORKFLOW_NAME = r"^[^\s@/\x00-\x1f\x7f]([^@/\x00-\x1f\x7f]{0,126}[^\s@/\x00-\x1f\x7f])?$"
VERSION = r"^(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}(-[0-9A-Za-z.-]{1,40})?$"
USAGE = r"^[a-z][a-z0-9_]{0,62}$"
FUNCTION = r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$"
#: A function or tool, and its version if one is fixed.
REFERENCE = FUNCTION.removesuffix("$") + r"(@[1-9][0-9]{0,8})?$"
LABEL = r"^[^\x00-\x1f\x7f]{1,100}$"
#: A workflow, and the version of it if not the latest, as `core.versions` has it.
WORKFLOW = rf"{WORKFLOW_NAME.removesuffix('$')}(@{versions.ASKED})?$"
WHO = r"^(role|user):[A-Za-z0-9_.@-]{1,64}$"
QUEUE = r"^[A-Za-z0-9_.-]{1,100}$"
#: What a place of a run is called by its node: no number, which is a line; what follows # is a lap.
CHECKPOINT = r"^[^\x00-\x1f\x7f#0-9][^\x00-\x1f\x7f#]{0,99}$"
TITLE = r"^[^\x00-\x1f\x7f]{1,200}$"
NOTES = r"^[\s\S]{1,4000}$"

REASONS = reasons.REASONS
FAILURES = reasons.FAILURES
CHILD_REASONS = reasons.CHILD_REASONS

WAITING = ("timer", "event", "approval", "input", "workflow", "map")
#: Kinds that say in fields of their own what they are given, in place of `with`.
GIVEN: Mapping[str, tuple[str, ...]] = {
    "template": ("template", "with"),
    "llm": (
        *("model", "system", "prompt", "messages", "with", "tools", "schema", "temperature"),
        *("top_p", "max_tokens", "stop", "seed", "max_turns", "stream"),
    ),
    "http": ("method", "url", "headers", "query", "json", "text", "form", "accept", "dry_run"),
    "sql": ("statement", "parameters", "dry_run"),
}
#: Those of them that call a service, and the fields of which there must be one.
SERVICES = ("llm", "http", "sql")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "template": ("template",),
    "llm": ("prompt", "messages"),
    "http": ("url",),
    "sql": ("statement",),
}
KINDS = ("function", "tool", *GIVEN, *WAITING, "start", "pass", "milestone", "end")
LATER_KINDS = ("python", "agent", "code")
#: A kind that an installed package brings: `PACKAGE.NAME`.
FOREIGN_KIND = r"^[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){1,3}$"
#: The kinds of what stands within another node.
INNER_KINDS = ("function", "tool", *GIVEN)
ROLES = ("task", "plan")
#: What an edge does at its target. `parallel` says how its source chooses, too: all that hold.
EDGE_TYPES: Mapping[str, Arrive] = {
    "normal": Arrive.START,
    "parallel": Arrive.START,
    "join": Arrive.JOIN,
    "final": Arrive.FINAL,
}
#: How a source chooses, where its edges do not say it.
ROUTES = ("all",)
JOINS: Mapping[str, Join] = {"all": Join(all=True), "any": Join(count=1)}
#: The demands of a join, and what may stand beside one.
JOIN = ("all", "first", "share", "of", "surplus", "timeout")
SURPLUS = ("cancel", "finish", "keep")
#: Names of workflows and of events that begin so are the platform's own.
OWN_NAMES = "celeriac."
#: JSON types, as JSON Schema names them.
TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
#: The types that a variable may have whose contributions add up so.
REDUCED_TYPES: Mapping[str, tuple[str, ...]] = {
    "replace": TYPES,
    "append": ("array",),
    "set": ("array",),
    "merge": ("object",),
    "sum": ("number", "integer"),
    "min": ("number", "integer"),
    "max": ("number", "integer"),
}
#: Reducers that give the same whoever is first. (Of `set`: the same entries, in order of arrival.)
COMMUTING = ("sum", "min", "max", "set")

TOP = (
    *("workflow", "version", "strict", "inputs", "variables", "outputs", "limits", "start"),
    *("nodes", "edges", "tests", "origin"),
)
#: The same of a document that is a list of steps.
LIST = (
    *("workflow", "version", "inputs", "variables", "outputs", "limits", "steps"),
    *("workflows", "return_on_fail", "tests", "origin"),
)
STEP = ("agent", "params", "output", "save")
VARIABLE = ("type", "reduce", "shared", "default")
NODE = ("kind", "join", "route", "cancels", "checkpoint", "title", "notes", "max_iterations")
WORK = ("with", "save", "retry", "timeout", "estimate", "queue", "lock", "compensate")
#: What the nodes have that wait.
WAIT = ("save", "lock", "compensate")
ORPHANS = ("cancel", "finish")
LOCK = ("name", "until", "of")
LOCKS = ("run", "tenant")
STOP = ("failed", "succeeded")
CHOICES = ("approve", "reject")
#: The choices that refuse what was asked for. In a `quorum`, `deny` stands for either.
DENIALS = ("deny", "reject")
ESCALATE = ("after", "to")
MAX_CHOICES = 20
MAX_QUORUM = 100
#: Items of a map, to begin with and added.
MAX_ITEMS = 100_000
#: Items of a map that are started side by side.
MAX_AT_ONCE = 1000
MAX_WAIT_SECONDS = 3650 * 86_400.0
#: Characters of the name of an event or a lock.
MAX_NAME = 200
#: What may stand where a function alone would do.
INNER = (
    *(
        "kind",
        "uses",
        "tool",
        "workflow",
        "with",
        "retry",
        "timeout",
        "estimate",
        "queue",
        "orphan",
        "service",
    ),
    *(field for fields in GIVEN.values() for field in fields),
)
#: What the kinds of node have beside what all have.
OWN: Mapping[str, tuple[str, ...]] = {
    "function": ("uses", "role", "choose", *WORK),
    "tool": ("tool", *WORK),
    **{
        kind: (
            *(("service",) if kind in SERVICES else ()),
            *fields,
            *(field for field in WORK if field != "with"),
        )
        for kind, fields in GIVEN.items()
    },
    "timer": ("for", "until", "lock"),
    "event": ("name", "match", "schema", "transient", "expires", *WAIT),
    "approval": (
        *("show", "choices", "form", "from", "quorum", "reason", "four_eyes", "escalate"),
        *("expires", *WAIT),
    ),
    "input": ("show", "form", "from", "four_eyes", "escalate", "expires", *WAIT),
    "workflow": ("workflow", "with", "orphan", "expires", "retry", *WAIT),
    "map": ("over", "as", "do", "at_once", "stop_when", "timeout", "queue", *WAIT),
    "start": (),
    "pass": (),
    "milestone": ("at", "expires"),
    "end": (),
}
#: A plan that its rules decide. It runs nothing, so it has no kind.
PLAN = ("role", "rules", "join", "cancels", "checkpoint", "title", "notes", "max_iterations")
RULE = ("when", "next")
#: The fields of an edge, by what it is taken on.
EDGES: Mapping[str | None, tuple[str, ...]] = {
    None: ("from", "to", "type", "on", "when", "ask", "label", "title"),
    "error": ("from", "to", "type", "on", "reason", "when", "title"),
    "short": ("from", "to", "type", "on", "title"),
}

#: What a test of a document has (`engine.cases`).
TEST = ("inputs", "fakes", "acts", "expect")
#: What fakes stand for.
FAKES = ("nodes", "functions", "tools", "workflows")
#: What a fake has, and each answer of one that answers in turn; the first say what it answers.
ANSWERS = ("returns", "fails")
ANSWER = (*ANSWERS, "message", "used")
#: What is done from outside, each with what says more of it.
ACTS: Mapping[str, tuple[str, ...]] = {
    "answer": ("answer", "choice", "form", "reason", "roles", "by", "after"),
    "send": ("send", "payload", "match", "at", "by", "after"),
}
EXPECT = (
    *("status", "error", "message", "outputs", "variables", "path", "visits", "calls", "used"),
    "that",
)
#: How a run in memory may stand when nothing brings it any further; `running`: it waits.
STATUSES = ("completed", "failed", "running")
#: What the expressions of `that` may read.
TOLD = (*(name for name in EXPECT if name != "that"), "inputs")
MAX_TESTS = 200
#: Answers of one fake, acts of one test, entries of its path.
MAX_ANSWERS = 1000

LATER_TOP = ("policies", "compensate", "schema")
LATER_LIMITS = ("cost_usd", "duration", "tokens")
LATER_VARIABLE = ("sensitive",)
LATER_NODE = ("effect", "limits", "steps")
LATER_EDGE = ("priority",)
#: They could make a schema reach for something outside of the document.
REFERRING = ("$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema", "$anchor", "$dynamicAnchor")


def matches(pattern: str, text: str) -> bool:
    """Whether a whole text is of a pattern."""
    return re.fullmatch(pattern, text) is not None
