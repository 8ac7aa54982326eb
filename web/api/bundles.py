"""Bundles, and the checks of a composer, at the addresses of seed 001."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from typing import Any

from flask import request
from werkzeug.datastructures import FileStorage

from engine.core.problem import Problem
from engine.core.section import short
from engine.errors import Invalid, NotFound
from engine.formats import bundle, composer
from engine.formats.composer import Composed, Line, Place
from engine.runs import bundles, catalogue
from engine.runs.bundles import Upload
from engine.store.bundles import Bundle
from web import body, envelope, pagination, principal, site
from web.errors import WrongMediaType
from web.routing import Routes
from web.schemas.bundles import (
    ComposedSchema,
    NodeNameSchema,
    ProcessSchema,
    TenantArguments,
    UploadSchema,
    ValidationSchema,
)
from web.schemas.pages import page_of

routes = Routes(
    "bundles",
    __name__,
    url_prefix="/api/graph-bundle",
    description="Archives of a drawing and the code of its nodes.",
)
check_routes = Routes(
    "validation",
    __name__,
    url_prefix="/api/v1/validation",
    description="Whether a graph that is being composed may be published.",
)

#: What stands around the file in a body.
_AROUND = 65_536
_PARTS = 10
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")
_TYPE = re.compile(r"([A-Z]+(?:_[A-Z]+)+): ")
_FIELDS = frozenset({"tenantId", "strict"})

_CORRELATED = {
    "in": "header",
    "name": "X-Correlation-ID",
    "description": "Kept with the process, and answered",
    "schema": {"type": "string", "maxLength": 128},
}
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "tenantId": {"type": "string"},
                    "strict": {"type": "string", "enum": ["true", "false"]},
                },
            }
        }
    },
}


@routes.on("POST", "/upload", needs="definition:write")
@routes.described(parameters=[_CORRELATED], requestBody=_FORM)
@routes.gives(UploadSchema, HTTPStatus.CREATED)
def upload() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Publish a bundle. What came of it, its status tells."""
    here, who = site.current(), principal.current()
    with here.places.taken():
        file, form = _form()
        _check_tenant(form.get("tenantId"))
        given = Upload(
            file=file.stream,
            name=_file_name(file),
            correlation_id=_correlation_id(),
            strict=_truth(form.get("strict", "false")),
        )
        with closing(file):
            found = bundles.upload(here.platform, who.tenant, given, by=who.user)
    told = {
        "processId": found.id,
        "status": "UPLOADED",
        "message": f"{found.file} is received; ask /api/graph-bundle/status/{found.id}",
    }
    headers = {"Location": f"/api/graph-bundle/status/{found.id}"}
    return told, HTTPStatus.CREATED, {**headers, "X-Correlation-ID": found.correlation_id}


@routes.on("GET", "/status/<process_id>", needs="definition:read")
@routes.gives(ProcessSchema)
def status(process_id: str) -> dict[str, Any]:
    """Get what came of an upload."""
    who = principal.current()
    return _process(bundles.process_of(site.current().platform, who.tenant, process_id), who.tenant)


@routes.on("GET", "/list", needs="definition:read")
@routes.query(TenantArguments)
@routes.gives(page_of(ProcessSchema))
def list_bundles(arguments: dict[str, Any]) -> dict[str, Any]:
    """List uploads, newest first."""
    _check_tenant(arguments.get("tenantId"))
    who, limit = principal.current(), arguments["limit"]
    found = bundles.processes(
        site.current().platform,
        who.tenant,
        before=pagination.id_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    page = pagination.page(found, limit=limit, key=lambda each: each.id)
    return {**page, "items": [_process(each, who.tenant) for each in page["items"]]}


@check_routes.on("POST", "/graph", needs="definition:read")
@check_routes.takes(ComposedSchema)
@check_routes.gives(ValidationSchema)
def check_graph(asked: dict[str, Any]) -> dict[str, Any]:
    """Say what is wrong with a graph by the rules of seed 001."""
    _check_tenant(asked.get("tenantId"))
    composed = Composed(
        name=asked["name"],
        plans=tuple(_place(node) for node in asked["plans"]),
        tasks=tuple(_place(node) for node in asked["tasks"]),
        edges=tuple(
            Line(
                source=edge["from"],
                source_type=edge["fromType"],
                target=edge["to"],
                target_type=edge["toType"],
            )
            for edge in asked["edges"]
        ),
    )
    found = [
        f"{problem.message} ({problem.path})" if problem.path else problem.message
        for problem in composer.problems(composed)
    ]
    return {"valid": not found, "errors": found, "warnings": composer.warnings(composed)}


@check_routes.on("POST", "/node-name", needs="definition:read")
@check_routes.takes(NodeNameSchema)
@check_routes.gives(ValidationSchema)
def check_node_name(asked: dict[str, Any]) -> dict[str, Any]:
    """Say whether a node may have a name."""
    taken = asked["existingNodeNames"]
    if taken is None:
        taken = _names_in(asked["graphId"])
    name = asked["nodeName"]
    found = composer.name_problems(name, {each for each in taken if each != asked["excludeNodeId"]})
    return {"valid": not found, "errors": found, "warnings": composer.name_warnings(name)}


def _form() -> tuple[FileStorage, Mapping[str, str]]:
    """The one file of a form, and its fields. Large files are read into a temporary one."""
    if request.mimetype != "multipart/form-data":
        raise WrongMediaType("a bundle is sent as multipart/form-data, in the part `file`")
    request.max_content_length = bundle.MAX_BYTES + _AROUND
    request.max_form_memory_size = _AROUND
    request.max_form_parts = _PARTS
    with body.received():
        files, form = request.files, request.form
    if not all({*form, *files}):
        message = "a part of the form has no name"
        raise Invalid([Problem(path="", message=message, remedy="name it, or leave it out")])
    problems = [
        Problem(path=name, message="is not known here", remedy="remove it, or check its spelling")
        for name in sorted({*form, *files} - _FIELDS - {"file"})
    ]
    counts = {name: len(form.getlist(name)) + len(files.getlist(name)) for name in {*form, *files}}
    problems += [
        Problem(path=name, message="is given more than once", remedy="keep one of them")
        for name, count in sorted(counts.items())
        if count > 1
    ]
    file = files.get("file")
    if file is None:
        problems.append(Problem(path="file", message="is missing", remedy="send it as a file"))
    if file is None or problems:
        raise Invalid(problems)
    body.check_texts(form.to_dict())
    return file, form.to_dict()


def _file_name(file: FileStorage) -> str:
    name = (file.filename or "").replace("\\", "/").rpartition("/")[2]
    body.check_texts({"file": name})
    if not name.lower().endswith(_ARCHIVES):
        remedy = f"send one of {', '.join(_ARCHIVES)}"
        message = f"{short(name)} is not named like an archive"
        raise Invalid([Problem(path="file", message=message, remedy=remedy)])
    return name[:255]


def _truth(text: str) -> bool:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    raise Invalid([Problem(path="strict", message="is neither true nor false", remedy="send one")])


def _correlation_id() -> str:
    given = request.headers.get("X-Correlation-ID", "")
    return given if _CORRELATION.fullmatch(given) else envelope.request_id()


def _check_tenant(named: str | None) -> None:
    """The tenant is the credential's. Raises `NotFound` where another is named, there or not."""
    if named is not None and named != principal.current().tenant:
        raise NotFound(f"Tenant not found: {short(named)}")


def _names_in(version: str | None) -> list[str]:
    """The names of the nodes of a published graph. Raises `NotFound`."""
    if version is None:
        return []
    found = catalogue.version(site.current().platform, principal.current().tenant, version)
    document: Any = found.document
    return list(document["nodes"])


def _place(node: Mapping[str, Any]) -> Place:
    files = node["files"]
    return Place(
        name=node["name"],
        files=None if files is None else tuple(file["name"] for file in files),
    )


def _process(found: Bundle, tenant: str) -> dict[str, Any]:
    done = found.status == "COMPLETED"
    return {
        "processId": found.id,
        "correlationId": found.correlation_id,
        "tenantId": tenant,
        "fileName": found.file,
        "sizeBytes": found.size,
        "sha256": found.sha256,
        "status": found.status,
        "message": (
            f"published as {found.workflow} {found.version}"
            if done
            else f"{len(found.problems)} problems; nothing was published"
        ),
        "steps": found.steps,
        "errors": [_error(problem) for problem in found.problems],
        "warnings": found.warnings,
        "graphId": found.version_id,
        "graphName": found.workflow,
        "version": found.version,
        "createdBy": found.created_by,
        "createdAt": found.created_at,
    }


def _error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """A problem with the type that its message begins with, where it is one of the seed's."""
    named = _TYPE.match(problem["message"])
    return {**problem, "type": named[1] if named else "INVALID_STRUCTURE"}
