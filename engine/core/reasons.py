"""Why steps fail, by what they are: the words of `retry.on` and of the edges `on: error`."""

from __future__ import annotations

from collections.abc import Mapping

#: Reasons for which an attempt may be tried again. A worker that dies is not among them: its
#: steps are tried again whatever the node says, and counted apart.
REASONS = (
    *("error", "timeout", "memory", "cpu", "output_too_large"),
    # Of what is reached over a network.
    *("rate_limited", "unreachable", "interrupted", "server_error", "bad_response"),
    "schema_mismatch",
)
#: Reasons for which a step fails for good.
FAILURES = (
    *REASONS,
    *(
        "killed",
        "lost",
        "refused",
        "rejected",
        "denied",
        "input_failed",
        "save_failed",
        "variables_too_large",
    ),
    *("no_plan", "no_such_function", "no_such_tool", "nondeterministic_call", "unknown_outcome"),
    # Of calls: what they are refused for, and what is answered to them.
    *("arguments_refused", "forbidden", "tool_closed", "over_budget", "aborted"),
    *("no_such_service", "no_such_secret", "not_granted", "blocked", "client_error", "max_turns"),
    # Of definitions that a run has written.
    *("invalid", "over_quota", "not_found", "conflict"),
    *("unknown_kind", "defect", "expired", "items_failed", "no_such_workflow", "too_deep"),
    *("child_failed", "child_cancelled"),
    *("arguments_too_large", "result_too_large", "damaged"),
)
#: Reasons for which a node that runs a workflow may run it again.
CHILD_REASONS = ("child_failed", "child_cancelled")

#: What can go wrong before a step has begun, whatever it is.
_BEFORE = ("refused", "denied", "input_failed")
_SAVING = ("save_failed", "variables_too_large")
_ENDED = (*_BEFORE, *_SAVING, "expired")
_CHILD = (*CHILD_REASONS, "no_such_workflow", "too_deep")
#: The reasons for which the nodes fail that wait.
FAILING: Mapping[str, tuple[str, ...]] = {
    "timer": _BEFORE,
    "event": _ENDED,
    "approval": _ENDED,
    "input": _ENDED,
    "workflow": (*_ENDED, *_CHILD),
    # A worker puts its results together.
    "map": tuple(reason for reason in FAILURES if reason not in {"expired", *_CHILD}),
}
#: The reasons for which the others do.
WORK_FAILING = tuple(
    reason for reason in FAILURES if reason not in {"expired", "items_failed", *_CHILD}
)


def of_kind(kind: str) -> tuple[str, ...]:
    """The reasons for which a node of a kind may fail for good."""
    return FAILING.get(kind, WORK_FAILING)
