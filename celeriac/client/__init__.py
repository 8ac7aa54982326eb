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
    Blocked,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Outdated,
    Unauthenticated,
    Unavailable,
)
from celeriac.client.records import (
    Acted,
    Agent,
    Answered,
    AppliedPolicy,
    Approval,
    Attempt,
    Budget,
    Budgets,
    Call,
    Came,
    Capability,
    Checkpoint,
    Delegation,
    Draft,
    Effect,
    Event,
    Function,
    Heard,
    Key,
    Line,
    LiveStep,
    LogLine,
    Me,
    Migration,
    Move,
    Origin,
    Parent,
    Place,
    Policy,
    Result,
    Secret,
    SentEvent,
    Step,
    Tool,
    Usage,
    User,
    Version,
    Wait,
    WentBack,
)
from celeriac.client.run import Run
from celeriac.client.tool_servers import Difference, Synced

__all__ = [
    "Acted",
    "Agent",
    "Answered",
    "ApiError",
    "AppliedPolicy",
    "Approval",
    "Attempt",
    "Blocked",
    "Budget",
    "Budgets",
    "Call",
    "Came",
    "Capability",
    "Checkpoint",
    "Client",
    "Conflict",
    "Delegation",
    "Difference",
    "Draft",
    "Effect",
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
    "Migration",
    "Move",
    "NotFound",
    "Origin",
    "Outdated",
    "Parent",
    "Place",
    "Policy",
    "Result",
    "Run",
    "Secret",
    "SentEvent",
    "Step",
    "Synced",
    "Tool",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "User",
    "Version",
    "Wait",
    "WentBack",
]
