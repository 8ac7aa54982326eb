"""The sandbox: user-supplied Python runs in a child process, never in the worker.

    with Sandbox() as sandbox:
        outcome = sandbox.run(Job(mode="node", name="increment", source=…, arguments={"state": …}))

**What it protects.** A worker holds the credentials of the database and the broker, and runs
several steps at once. A function that crashes, spins, eats memory, prints for ever, returns
nonsense or never returns ends alone, with its own reason (`error, timeout, memory, cpu,
killed, output_too_large, cancelled`), and takes nothing with it.

**How.** Each worker keeps two *zygotes*: clean interpreters, started with an exec, that have
never seen the worker's memory, environment or descriptors. One has only the standard library
and an environment of two variables, for code registered as *source*; the other has the
worker's `sys.path` and the variables that the caller lists, for installed *library* code, which
is trusted. A zygote forks a child per execution. The child has a session of its own, /dev/null
as input, two pipes for what it prints, one socket for messages, and no other descriptor;
limits on processor time, memory, files and processes; and dies when the zygote dies. The
zygote dies when the worker dies. At the end of an execution, however it comes, the child's
group is killed, then every descendant that left the group, and only then the worker hears of
it. A dead zygote is replaced at the next run; what it ran ends as `killed`.

**What holds.** The process. Source is checked before (`engine.core.source`), and sees a few
builtins and modules (`inside.namespace`), but this is courtesy: a clear message early. Whoever
wants out of a Python namespace gets out, and is then in a process that knows no secret, has
limits and is watched.

**What does not hold yet.** That process runs as the worker's user. Who breaks out of the
namespace can read what this user can read (/proc/PID/environ of the worker among it, unless
the worker has made itself undumpable), reach the network, and signal other processes of the
user; limits of processes do not bind root. The zygote for source is closed to tracing, and
cannot fork (unless root) or write files. So: code from people who may log in to the worker
is safe to run; code from strangers belongs in a hardened container, until the walls of
namespaces, Landlock and seccomp stand here. `inside.walls` is where they go, and nothing
else needs to change. Trusted library code is limited against accidents only.

Linux alone: it relies on parent-death signals, subreapers and /proc.

**What an execution is given and gives back.** A node gets the state (`WorkflowState`, a dict
with `set` and `snapshot`) and, if it has a second parameter, the context of its step. What it
sets or changes in place comes back as `patch`, what it deletes as `removed`. It may return
the state (then `value` is the patch), a dict (`value`, and taken into the state: every key
counts as set, but of a dict that has all keys of the state only those that differ), any
other JSON value (`value` alone) or nothing. A tool gets its arguments by value; an argument
that is an object has the methods of a state, so that `invoke("add_one", state)` works with a
tool written for a state and returns the changed copy: `return invoke("add_one", state)`. With
`{"state": …}` as arguments a tool is run as a node. `choose` names a condition that is asked
about the resulting state; it must answer True, False or a text, and what it changes is lost.

A step of a list gets its params by name, and `output`, the names it leaves its answer by, where
it has a parameter for them. It returns a value, or a tuple of a value and its status,
`(value, {"status": {"value": 0, "reason": "…"}})`. JSON has no tuples, so the child itself takes
the two apart: a list of the same two is a value.

Tool calls are answered by the worker (`on_call`), in the thread that called `run`; so is
`context.previous` (`on_previous`), the executions that led to the step: asked for only when it
is used, and recorded nowhere, because history answers it the same in every attempt. The
deadline includes them. Values that are not storable JSON are refused with their place:
`state["items"][3] is a set, which is not a JSON value; use sorted(...) or list(...)`.
Nothing from a child is trusted: it is bounded before it is read, by what the job may return (a
worker allows half of the child's memory, `CELERIAC_SANDBOX_BYTES`), and parsed strictly.
"""

from __future__ import annotations

from workers.sandbox.execution import OnCall, OnLog, OnPrevious, OnUse
from workers.sandbox.job import (
    CallAnswer,
    Choose,
    Job,
    Limits,
    Mode,
    Outcome,
    Reason,
    SandboxUnavailable,
    Stream,
)
from workers.sandbox.sandbox import Sandbox

__all__ = [
    "CallAnswer",
    "Choose",
    "Job",
    "Limits",
    "Mode",
    "OnCall",
    "OnLog",
    "OnPrevious",
    "OnUse",
    "Outcome",
    "Reason",
    "Sandbox",
    "SandboxUnavailable",
    "Stream",
]
