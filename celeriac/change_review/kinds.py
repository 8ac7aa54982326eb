"""Two kinds of nodes: `change_review.files` reads a range of Git, `change_review.trial` tries a program.

Both run in the worker, and leave the work to children of its sandbox. A repository is read by installed
code, in a folder that the operator opens to code and an admin granted to the workflow; a program is a
stranger's, and runs behind the walls, where it can call no tool and knows nothing of the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from celeriac.change_review import programs
from engine import capabilities, waiting
from engine.capabilities import Profile
from engine.core.values import Json
from engine.runs import capabilities as granted
from engine.runs.attempts import Failed, Outcome, Succeeded
from engine.store import session
from workers.kinds.execution import Execution, finished, saved
from workers.sandbox import Job

_READ = "celeriac.change_review.ranges:changed_files"
#: What a program may import beside what all code may; what starts threads is left out.
_MODULES = tuple(sorted(capabilities.GRANTABLE - {"asyncio", "queue", "threading"}))


def files(execution: Execution) -> Outcome:
    """Read what `base..head` of `repository` changed; `tests` names test files by path."""
    given = waiting.arguments(execution.node, execution.scope())
    repository = given.get("repository")
    if not isinstance(repository, str) or not repository.startswith("/") or "\0" in repository:
        return _refused(execution, "repository", "give the absolute path of a local repository")
    tests = given.get("tests") or {}
    if not isinstance(tests, dict) or not all(isinstance(path, str) for path in tests.values()):
        return _refused(execution, "tests", "give an object of paths by paths")
    for field in ("base", "head"):
        if not isinstance(given.get(field), str):
            return _refused(execution, field, "give the name of a commit")
    if why := _closed(execution, repository):
        return Failed(
            reason="not_granted", message=f"step {execution.node.id}: {why}", terminal=True
        )
    job = Job(
        mode="library-tool",
        name="changed_files",
        library=_READ,
        arguments={
            "kwargs": {
                "repository": str(_real(repository)),
                "base": given.get("base"),
                "head": given.get("head"),
                "tests": tests,
            }
        },
        limits=execution.limits,
    )
    return saved(execution, finished(execution, execution.run(job)))


def trial(execution: Execution) -> Outcome:
    """Run a program of `programs.program`, and say which of its tests passed.

    `{"passed": [names], "failed": [{"test", "message"}]}`; null where there is no program. That tests
    fail, or that it does not end, is no failure of the step.
    """
    given = waiting.arguments(execution.node, execution.scope())
    program = given.get("program")
    if program is None:
        return saved(execution, Succeeded(result=None))
    if not isinstance(program, str):
        return _refused(execution, "program", "give a text, or null")
    job = Job(
        mode="tool",
        name=programs.ENTRY,
        source=program,
        arguments={"args": []},
        limits=execution.limits,
        modules=_MODULES,
    )
    ended = execution.run(job, alone=True)
    if ended.reason == "cancelled":
        return finished(execution, ended)
    told = _told(ended.value) if ended.ok else None
    if told is None:
        why = ended.message or "the program answered with something else than its runner does"
        told = {"passed": [], "failed": [{"test": programs.LOADING, "message": why[:_SHOWN]}]}
    return saved(execution, Succeeded(result=told))


_SHOWN = 500


def _told(value: Json) -> dict[str, Json] | None:
    """What a runner tells, if it is that: a program may have put anything in its place."""
    match value:
        case {"passed": list(passed), "failed": list(failed)}:
            pass
        case _:
            return None
    if not all(isinstance(name, str) for name in passed):
        return None
    if not all(
        isinstance(each, Mapping)
        and isinstance(each.get("test"), str)
        and isinstance(each.get("message"), str)
        for each in failed
    ):
        return None
    return {"passed": passed, "failed": failed}


def _closed(execution: Execution, repository: str) -> str | None:
    """Why a repository may not be read; None where it may."""
    real = _real(repository)
    folders = [_real(folder.path) for folder in execution.platform.settings.sandbox_folders]
    if not any(real.is_relative_to(folder) for folder in folders):
        named = ", ".join(map(str, folders)) or "none"
        return (
            f"{repository} is in no folder that this worker's operator opens to code "
            f"(CELERIAC_SANDBOX_FOLDERS: {named})"
        )
    if not any(real.is_relative_to(_real(file.path)) for file in _profile(execution).files):
        return (
            f"{repository} is not granted to {execution.workflow.text}; "
            f"an admin grants it with files: [{real}]"
        )
    return None


def _real(path: str | Path) -> Path:
    """Where a path leads. Unlike `Path.resolve`, a loop of links is no error, and leads nowhere."""
    return Path(os.path.realpath(path))


def _profile(execution: Execution) -> Profile:
    with session.transaction(execution.platform.database) as connection:
        return granted.of(connection, execution.lease.step.tenant, execution.workflow)


def _refused(execution: Execution, field: str, remedy: str) -> Failed:
    return Failed(
        reason="input_failed",
        message=f"step {execution.node.id}, with.{field}: this is not what it takes; {remedy}",
        terminal=True,
    )
