"""The document that a session runs: a loop that takes one step after the other."""

from __future__ import annotations

from engine.core.document import vocabulary as words
from engine.core.values import Json, digest
from engine.sessions.config import Config

#: The name of the workflow; its version tells the configuration.
NAME = "celeriac.session"
#: The event that brings the next step. Nobody but `engine.runs.sessions` sends one of such a name.
EVENT = "celeriac.step"
#: What a person may answer.
APPROVE, DENY = "approve", "deny"

NEXT, WHICH, CALL, RETRIED, ASK, PARALLEL, INPUT = (
    *("next", "which", "call", "retried", "ask", "parallel", "input"),
)
#: Where a step is carried out by the way that it says.
ROUTES = (CALL, RETRIED, ASK, PARALLEL, INPUT)
DEADLINE, HALT = "deadline", "halt"

_FOREVER: dict[str, Json] = {"max_iterations": words.MAX_ITERATIONS}
#: No event has a payload that fits it: whoever waits for one waits until it expires, and fails.
_NEVER: dict[str, Json] = {"kind": "event", "schema": {"not": {}}}


def document(config: Config) -> dict[str, Json]:
    """The document of sessions of a configuration. The same for the same one."""
    expires: Json = config.approval_expiry_hours * 3600
    call: dict[str, Json] = {
        "kind": "tool",
        "tool": "$step.tool_name",
        "with": "$step.input_data",
        **_FOREVER,
    }
    tried: dict[str, Json] = {
        "attempts": config.max_retries + 1,
        "backoff": config.retry_backoff_seconds,
        "factor": 2,
        "jitter": 0,
    }
    nodes: dict[str, Json] = {
        "start": {"kind": "start"},
        NEXT: {
            "kind": "event",
            "name": EVENT,
            "save": {"step": "$result", "number": "$number + 1"},
            **_FOREVER,
        },
        WHICH: {"role": "plan", "rules": _rules(), **_FOREVER},
        CALL: call,
        RETRIED: {**call, "retry": tried},
        ASK: {
            "kind": "approval",
            "title": "A step waits for somebody to allow it",
            "choices": [APPROVE, DENY],
            "form": {"reason": {"type": "string", "default": ""}},
            "show": "$step.shown",
            "expires": expires,
            **_FOREVER,
        },
        "way": {
            "role": "plan",
            "rules": [
                {"when": "$step.child_steps", "next": [PARALLEL]},
                {"when": "$step.retry", "next": [RETRIED]},
                {"next": [CALL]},
            ],
            **_FOREVER,
        },
        "denied": {
            "role": "plan",
            "rules": [{"when": "$step.stop", "next": [HALT]}, {"next": [NEXT]}],
            **_FOREVER,
        },
        PARALLEL: {
            "kind": "map",
            "over": "$step.child_steps",
            "as": "child",
            "at_once": config.max_parallel_steps,
            "stop_when": {"failed": words.MAX_ITEMS},
            "do": {"kind": "tool", "tool": "$child.tool_name", "with": "$child.input_data"},
            **_FOREVER,
        },
        INPUT: {
            "kind": "input",
            "form": {"input": {}},
            "show": "$step.shown",
            "expires": expires,
            **_FOREVER,
        },
        # What fails here fails the session: nobody is sent where a failure might go.
        HALT: {
            **_NEVER,
            "name": HALT,
            "expires": 0.001,
            "title": "A step that stops it has failed",
        },
        "done": {"kind": "end"},
    }
    if config.max_duration_seconds is not None:
        nodes[DEADLINE] = {**_NEVER, "name": DEADLINE, "expires": config.max_duration_seconds}
    return {
        "workflow": NAME,
        "version": _version(config),
        "inputs": {
            **{name: {"type": "string"} for name in ("name", "description", "user_id")},
            "config": {"type": "object"},
            "context": {"type": "object"},
        },
        "variables": {"number": {"type": "integer", "default": 0}},
        "limits": {"steps": words.MAX_STEPS},
        "nodes": nodes,
        "edges": _edges(timed=config.max_duration_seconds is not None),
    }


def _rules() -> list[Json]:
    routes: list[Json] = [
        {"when": f"$step.route == '{name}'", "next": [name]} for name in (*ROUTES, HALT)
    ]
    return [
        # Another step came before it, and it was worked out as if there was none.
        {"when": "$step.number != $number", "next": [NEXT]},
        *routes,
        {"when": "$step.route == 'done'", "next": ["done"]},
        {"next": [NEXT]},
    ]


def _edges(*, timed: bool) -> list[Json]:
    edges: list[Json] = [f"{NEXT} -> {WHICH}"]
    if timed:
        edges += [{"from": "start", "to": to, "type": "parallel"} for to in (NEXT, DEADLINE)]
    else:
        edges.append(f"start -> {NEXT}")
    edges += [f"{WHICH} -> {name}" for name in (*ROUTES, HALT, NEXT)]
    edges.append({"from": WHICH, "to": "done", "type": "final"})
    edges += [
        {"from": ASK, "to": "way", "label": APPROVE},
        {"from": ASK, "to": "denied", "label": DENY},
    ]
    edges += [f"way -> {name}" for name in (PARALLEL, RETRIED, CALL)]
    edges += [f"denied -> {name}" for name in (HALT, NEXT)]
    for name in (CALL, RETRIED, PARALLEL, INPUT):
        edges.append(f"{name} -> {NEXT}")
    edges += [
        {"from": name, "to": NEXT, "on": "error", "when": "not $step.stop"} for name in ROUTES
    ]
    if timed:
        edges.append({"from": DEADLINE, "to": "done", "type": "final"})
    edges.append({"from": HALT, "to": "done", "type": "final"})
    return edges


def _version(config: Config) -> str:
    """A version for each configuration: the digest of it, as its pre-release."""
    return f"1.0.0-{digest(config.told())[:16]}"
