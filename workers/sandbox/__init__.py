"""The sandbox: user-supplied Python runs in a child process, never in the worker.

    with Sandbox() as sandbox:
        outcome = sandbox.run(Job(mode="node", name="increment", source=…, arguments={"state": …}))

**What it protects.** A worker holds the credentials of the database and the broker, and runs
several steps at once. A function that crashes, spins, eats memory, prints for ever, returns
nonsense or never returns ends alone, with its own reason (`error, timeout, memory, cpu,
killed, output_too_large, cancelled, refused`), and takes nothing with it.

**How.** Each worker keeps two *zygotes*: clean interpreters, started with an exec, that have
never seen the worker's memory, environment or descriptors. One has only the standard library
and an environment of two variables, for code registered as *source*; the other has the
worker's `sys.path` and the variables that the caller lists, for installed *library* code, which
is trusted. A zygote forks a child per execution; one of installed code then stands, and carries out
others of the same tenant. The child has a session of its own, /dev/null as input, two pipes for what
it prints, one socket for messages, and no other descriptor; limits on processor time, memory, files
and processes; and dies when the zygote dies. The zygote dies when the worker dies. When a child ends,
however it comes, its group is killed, then every descendant that left the group, and only then the
worker hears of it; one that stands is looked at before its next execution. A dead zygote is replaced
at the next run; what it ran ends as `killed`.

**What a standing child forgets, and what it keeps.** It carries out the code of one tenant alone
(`Job.whose`). After each execution its environment, the working folder, the umask, the handlers of
signals that Python set and the mask of signals are as they were at the fork; timers and alarms are
off; numbers are drawn from a new seed. It ends, and another one is forked, if an execution left a
thread of any kind, a process in its session, whoever that one's parent is now, or a signal that
waits; closed or moved its input, its output or its socket; lowered a hard limit, or changed one that
executions are not given or its priority; ran out of memory; or if its address space has grown by more than 64 MB since the fork.
Processes that went into a session of their own are killed. What is kept is the interpreter's: the
globals of modules, what was imported (`sys.path`, too), caches, pools of connections, other open
descriptors, the locale, variables that a C library set without Python. The next execution of the
same tenant sees them, whichever function it is of. Libraries that are large, or that start threads
when they are imported, are to be named for the zygote (`preload`): else each execution that imports
them has a child of its own. The limit of memory is counted from what the child has already, and the
`max_rss` of an outcome is the most that the process has ever had.

**What holds.** The process. Source is checked before (`engine.core.source`), and sees a few
builtins and modules (`inside.namespace`), but this is courtesy: a clear message early. Whoever
wants out of a Python namespace gets out, and is then in a process that knows no secret, has
limits and is watched.

**The walls** around source and templates stand in one of these modes, from the strongest:

    full      user, mount, network, pid, IPC and host name spaces; a root that holds the standard
              library, read-only, and nothing else; a pid namespace per execution; no capabilities;
              and all of portable
    portable  Landlock (no file but the standard library, no TCP, no sockets or signals of others)
              and seccomp (a list of calls: no program, no process, no socket, no memory that is
              written and run); where the worker is root, another user. Takes no privilege, and
              stands in a container with the default profile
    seccomp   that alone: code reads what its user can read
    landlock  that alone: programs, datagrams, sockets in the file system and the rest of the
              kernel are in reach
    limits    limits and the clean interpreter alone: code may do what the worker's user may

`Sandbox(mode=, minimum=)`, `CELERIAC_SANDBOX` and `CELERIAC_SANDBOX_MINIMUM`: `auto` takes the
strongest that can be had, and below the minimum (`portable`) nothing that strangers registered is
run: `SandboxUnavailable` says what is missing. At every start the walls are attacked (`proof`,
`attacks`: 57 cases, with the table of what each weaker mode lets through); if one gives way, source
is refused, too. `standing` says which stand. Processors other than x86_64 and aarch64 have no table
of calls, so `landlock` is their strongest mode.

**What code may be granted.** `Job.files`: files and folders within the folders that the operator
named (`CELERIAC_SANDBOX_FOLDERS`): `open` is there for them, and Landlock lets them through.
`Job.modules`: further modules of the standard library (`FURTHER_MODULES`); none that starts
programs or reaches the system. Threads can be had where they can be counted: in mode full, or as
another user than the worker's.

**What does not hold.** In portable, code learns whether a file exists and how large it is, if it
guesses its name (`stat`). Source shares the kernel, the caches of the processor and the memory of
the machine with the worker: a defect of the kernel within the calls on the list is a way out; over
the public internet a virtual machine around the worker is the further wall. Memory is bounded per
execution, not for all of them together, unless a cgroup does it. Where root's Python can be read by
root alone (pyenv in /root), portable keeps a root without rights instead of changing the user.
Trusted library code is limited against accidents only: it runs as the worker's user, who can signal
the worker; it cannot trace or read it, because workers close themselves to that (not to root).

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

A template is `Job(mode="template", source=TEXT, arguments={"variables": {…}})`: Jinja, in its own
sandbox and with undefined names being errors, rendered behind the same walls; its value is text.
"""

from __future__ import annotations

from workers.sandbox.execution import OnCall, OnLog, OnPrevious, OnUse
from workers.sandbox.grants import FURTHER_MODULES
from workers.sandbox.inside.landlock import Opened
from workers.sandbox.inside.walls import MODES
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
from workers.sandbox.standing import Standing

__all__ = [
    "FURTHER_MODULES",
    "MODES",
    "CallAnswer",
    "Choose",
    "Job",
    "Limits",
    "Mode",
    "OnCall",
    "OnLog",
    "OnPrevious",
    "OnUse",
    "Opened",
    "Outcome",
    "Reason",
    "Sandbox",
    "SandboxUnavailable",
    "Standing",
    "Stream",
]
