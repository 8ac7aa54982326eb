"""Publishing bundles: a drawing and the code of its nodes, as seed 001 uploads them.

An upload is dealt with while it is received: its code becomes functions named `WORKFLOW.NODE`,
its drawing a workflow version that names them by version, and what came of it one row, all in
one transaction. So whoever is given the id of a process finds how it ended, and a process that
dies on the way leaves nothing behind. What is wrong with a bundle is told there as well, with
every problem; nothing of it is published then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO

from sqlalchemy import Connection

from engine import documents
from engine.core import source
from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.core.section import short
from engine.core.values import Json
from engine.errors import Conflict, Invalid, NotFound
from engine.formats import bundle as archives
from engine.platform import Platform
from engine.runs import acts, catalogue, identity
from engine.store import bundles, session
from engine.store.bundles import Bundle, NewBundle
from engine.store.functions import NewFunction

#: Characters of the code of one node: more than of code that is registered by hand, because it
#: brings its own helpers.
SOURCE_CHARACTERS = 200_000
#: Problems of one bundle that are kept.
_KEPT = 200
_CHUNK = 1_048_576

#: What calls the code of a node: the last function of a source is the one that is run.
_CALLS = {
    role: f"\n\n\ndef celeriac_{role}(state, context):\n"
    f"    return agentic_common.run_{role}({role}, state, context)\n"
    for role in ("plan", "task")
}
#: What is there without being installed.
_THERE = ("agentic-common", "agentic_common")


class Step(StrEnum):
    """What is done to a bundle, in order."""

    EXTRACTING = "EXTRACTING"
    PARSING = "PARSING"
    PERSISTING = "PERSISTING"
    BUILDING_IMAGES = "BUILDING_IMAGES"  #: never: code runs in the sandbox of a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A bundle as it was handed in."""

    #: Seekable; read and left where it is.
    file: IO[bytes]
    name: str
    correlation_id: str
    #: Hold it to the seed's own rules, which its README's example breaks.
    strict: bool = False


@dataclass(kw_only=True)
class _Progress:
    """How far the processing of a bundle has come."""

    steps: list[dict[str, Json]] = field(default_factory=list)

    def begin(self, step: Step) -> None:
        self.end("COMPLETED")
        self.steps.append(
            {"step": step.value, "status": "IN_PROGRESS", "startedAt": _now(), "endedAt": None}
        )

    def end(self, status: str) -> None:
        if self.steps and self.steps[-1]["status"] == "IN_PROGRESS":
            self.steps[-1] |= {"status": status, "endedAt": _now()}

    def told(self) -> list[dict[str, Json]]:
        """Every step, those that were not come to as well."""
        left: list[dict[str, Json]] = [
            {"step": step.value, "status": "NOT_STARTED", "startedAt": None, "endedAt": None}
            for step in list(Step)[len(self.steps) :]
        ]
        return [*self.steps, *left]


def upload(platform: Platform, tenant: str, given: Upload, *, by: str) -> Bundle:
    """Publish a bundle, or keep what is wrong with it; the process that did, as it ended."""
    progress = _Progress()
    size, sha256 = _measured(given.file)
    process = identity.new_run()

    def kept(
        status: str, problems: Sequence[Problem], warnings: Sequence[str], version: str | None
    ) -> NewBundle:
        return NewBundle(
            id=process,
            correlation_id=given.correlation_id,
            file=given.name,
            size=size,
            sha256=sha256,
            status=status,
            steps=progress.told(),
            problems=[_told(problem) for problem in problems[:_KEPT]],
            warnings=list(warnings),
            version_id=version,
            created_by=by,
        )

    try:
        found = _read(given, progress)
        warnings = list(_warnings(found))
        progress.begin(Step.PERSISTING)
        with session.transaction(platform.database) as connection:
            version = _publish(connection, tenant, found, by=by)
            progress.end("COMPLETED")
            _keep(connection, tenant, kept("COMPLETED", (), warnings, version))
    except (Invalid, Conflict) as error:
        progress.end("FAILED")
        problems = (
            error.problems
            if isinstance(error, Invalid)
            else (Problem(path="", message=error.message, remedy="give it another version"),)
        )
        with session.transaction(platform.database) as connection:
            _keep(connection, tenant, kept("FAILED", problems, (), None))
    return process_of(platform, tenant, process)


def _keep(connection: Connection, tenant: str, new: NewBundle) -> None:
    bundles.add(connection, tenant, new)
    acts.record(
        connection,
        tenant,
        by=new.created_by,
        action="bundle.upload",
        subject=f"bundle:{new.id}",
        detail={"file": new.file, "sha256": new.sha256, "status": new.status},
    )


def process_of(platform: Platform, tenant: str, process: str) -> Bundle:
    """What came of an upload. Raises `NotFound`."""
    with session.transaction(platform.database) as connection:
        found = bundles.get(connection, tenant, process)
    if found is None:
        raise NotFound(f"Process not found: {process}")
    return found


def processes(
    platform: Platform, tenant: str, *, before: str | None = None, limit: int = 100
) -> tuple[Bundle, ...]:
    """Uploads of a tenant, newest first; the next page is what lies `before` the last id."""
    with session.transaction(platform.database) as connection:
        return bundles.page(connection, tenant, before=before, limit=limit)


def _read(given: Upload, progress: _Progress) -> archives.Bundle:
    """What a bundle says. Raises `Invalid`."""
    progress.begin(Step.EXTRACTING)
    found = archives.read(given.file, strict=given.strict)
    if not isinstance(found, archives.Bundle):
        raise Invalid(found, "the bundle is not valid")
    progress.begin(Step.PARSING)
    problems = [*_name_problems(found), *_code_problems(found)]
    if problems:
        raise Invalid(problems, "the code of the bundle cannot be run")
    graph = documents.graph(_document(found, dict.fromkeys(found.sources, 1)))
    catalogue.check_name(graph.workflow)
    return found


def _publish(connection: Connection, tenant: str, found: archives.Bundle, *, by: str) -> str:
    """Register the code and publish the graph that names it; the id of the version."""
    versions = {}
    for node, code in found.sources.items():
        role = _role(found, node)
        new = NewFunction(
            namespace="function",
            name=_function(found, node),
            source=code + _CALLS[role],
            description=source.summary(code, role),
            parameters=source.parameters(code, role),
            effect="pure",
            checksum="",
            created_by=by,
        )
        versions[node] = catalogue.add_version(connection, tenant, new).version
    graph = documents.graph(_document(found, versions))
    return catalogue.publish_graph(connection, tenant, graph, by=by).id


def _document(found: archives.Bundle, versions: Mapping[str, int]) -> Json:
    """The document of a bundle, its nodes bound to the versions of their code."""
    nodes = found.document["nodes"]
    assert isinstance(nodes, dict)
    bound: dict[str, Json] = {}
    for name, fields in nodes.items():
        assert isinstance(fields, dict)
        uses = f"{_function(found, name)}@{versions[name]}" if name in versions else None
        bound[name] = fields if uses is None else {**fields, "uses": uses}
    return {**found.document, "nodes": bound}


def _name_problems(found: archives.Bundle) -> Iterator[Problem]:
    for node in found.sources:
        name = _function(found, node)
        if not words.matches(words.FUNCTION, name):
            yield Problem(
                path=f"nodes.{node}",
                message=f"INVALID_NAME: {short(name)} cannot name the function of {short(node)}",
                remedy="use up to 128 letters, digits, _ . - for the graph and the node together",
            )


def _code_problems(found: archives.Bundle) -> Iterator[Problem]:
    for node, code in found.sources.items():
        role = _role(found, node)
        file = f"{role}s/{node}/{role}.py"
        problems = source.check(code, name=role, limit=SOURCE_CHARACTERS, imports=source.IMPORTABLE)
        for problem in problems:
            yield Problem(path=file, message=problem.message, remedy=problem.remedy)
        if not problems and not source.defines(code, role):
            yield Problem(
                path=file,
                message=f"there is no function {role} in {file}",
                remedy=f"define it: def {role}({role}_input): ...",
            )


def _warnings(found: archives.Bundle) -> Iterator[str]:
    for node, lines in found.requirements.items():
        asked = [line for line in lines if not line.startswith(_THERE)]
        if asked:
            yield f"{node} asks for {', '.join(asked[:5])}: nothing is installed for code here"
    if found.unread:
        more = len(found.unread) - 5
        rest = f" and {more} more" if more > 0 else ""
        yield f"not read: {', '.join(map(short, found.unread[:5]))}{rest}"


def _role(found: archives.Bundle, node: str) -> str:
    nodes = found.document["nodes"]
    assert isinstance(nodes, dict)
    fields = nodes[node]
    return "plan" if isinstance(fields, dict) and fields.get("role") == "plan" else "task"


def _function(found: archives.Bundle, node: str) -> str:
    """The name of the function that the code of a node becomes."""
    return f"{found.document.get('workflow')}.{node}"


def _measured(file: IO[bytes]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK):
        size += len(chunk)
        digest.update(chunk)
    return size, digest.hexdigest()


def _told(problem: Problem) -> dict[str, Json]:
    return {"path": problem.path, "message": problem.message, "remedy": problem.remedy}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
