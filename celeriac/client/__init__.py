"""Speaking to a platform from Python: publish, submit, follow.

    with Client() as client:
        client.publish(graph)
        run = client.submit("my_workflow", {"input": 5}).wait()
        print(run.status, run.variables)

`client` names what can be asked, `run` what can be asked of a run, `records` what is told;
`sources` makes Python functions travel; `wire` sends, waits and sends again; `errors` is what
may be answered instead.
"""

from __future__ import annotations

from celeriac.client.client import Client
from celeriac.client.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from celeriac.client.records import (
    Acted,
    Answered,
    AppliedPolicy,
    Approval,
    Attempt,
    Budget,
    Budgets,
    Call,
    Came,
    Checkpoint,
    Delegation,
    Event,
    Function,
    Heard,
    Key,
    Line,
    LiveStep,
    LogLine,
    Me,
    Parent,
    Policy,
    Result,
    SentEvent,
    Step,
    Tool,
    Usage,
    User,
    Version,
    Wait,
)
from celeriac.client.run import Run

__all__ = [
    "Acted",
    "Answered",
    "ApiError",
    "AppliedPolicy",
    "Approval",
    "Attempt",
    "Budget",
    "Budgets",
    "Call",
    "Came",
    "Checkpoint",
    "Client",
    "Conflict",
    "Delegation",
    "Event",
    "Forbidden",
    "Function",
    "Heard",
    "Invalid",
    "Key",
    "Line",
    "LiveStep",
    "LogLine",
    "Me",
    "NotFound",
    "Parent",
    "Policy",
    "Result",
    "Run",
    "SentEvent",
    "Step",
    "Tool",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "User",
    "Version",
    "Wait",
]
