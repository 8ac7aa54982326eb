"""Trusted library code: what installed Python packages bring along.

A library is a module with any of these constants: `FUNCTIONS` and `TOOLS` (callables by name),
`EFFECTS` (by a tool's name, what a call of it leaves in the world: `pure`, `idempotent`,
`at_most_once`, `compensable`; a tool that says nothing is called at most once), `TERMS` (by a
tool's name, what it asks of its callers: the fields that `engine.tools.terms` reads, as a mapping)
and `GRAPHS` (documents, or bodies of `POST /graph/create`). It is found by the entry point
group `celeriac.libraries` or named in the settings. Of its code only the place is stored; a
checksum over its files makes a changed library a new version.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine

from engine import documents, tools
from engine.core import source
from engine.core.problem import Problem
from engine.errors import Invalid
from engine.runs import catalogue
from engine.store import session
from engine.store.functions import Namespace, NewFunction

GROUP = "celeriac.libraries"
#: Who registers what a library brings.
BY = "library"


def install(engine: Engine, tenant: str, more: Iterable[str] = ()) -> None:
    """Register for a tenant whatever the installed libraries bring, and the named modules.

    Every start may ask: nothing is added where nothing has changed. Raises `Invalid` for a
    library that cannot be used.
    """
    modules = [_module(name) for name in names(more)]
    with session.transaction(engine) as connection:
        for module in modules:
            install_module(connection, tenant, module)


def names(more: Iterable[str] = ()) -> tuple[str, ...]:
    """The modules of the entry points, then those that are named, each once."""
    found = sorted(entry.value for entry in metadata.entry_points(group=GROUP))
    return tuple(dict.fromkeys((*found, *more)))


def install_module(connection: Connection, tenant: str, module: ModuleType) -> None:
    """Register what one library brings. Raises `Invalid`."""
    files = _checksum(module)
    effects: Mapping[str, str] = getattr(module, "EFFECTS", {})
    asked: Mapping[str, Mapping[str, Any]] = getattr(module, "TERMS", {})
    for namespace, name, function in _callables(module):
        text = inspect.getsource(inspect.getmodule(function) or module)
        new = NewFunction(
            namespace=namespace,
            name=name,
            library=_place(module, name, function),
            description=source.summary(text, function.__name__),
            parameters=source.parameters(text, function.__name__),
            effect=effects.get(name, "at_most_once") if namespace == "tool" else "pure",
            checksum="",
            created_by=BY,
            terms=tools.terms(
                asked.get(name, {}) if namespace == "tool" else {},
                path=f"{module.__name__}.TERMS.{name}",
            ),
        )
        catalogue.add_version(connection, tenant, new, salt=files)
    for body in getattr(module, "GRAPHS", ()):
        graph = documents.graph(body) if "workflow" in body else catalogue.simple(body)
        catalogue.publish_graph(connection, tenant, graph, by=BY)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _unusable(name, f"cannot be imported: {type(error).__name__}: {error}") from error


def _callables(module: ModuleType) -> Iterator[tuple[Namespace, str, Callable[..., Any]]]:
    constants: tuple[tuple[Namespace, str], ...] = (("function", "FUNCTIONS"), ("tool", "TOOLS"))
    for namespace, constant in constants:
        found: Mapping[str, Callable[..., Any]] = getattr(module, constant, {})
        for name, function in found.items():
            yield namespace, name, function


def _place(module: ModuleType, name: str, function: Callable[..., Any]) -> str:
    """`module:attribute`, under which a worker finds the very same function."""
    place = f"{function.__module__}:{function.__qualname__}"
    found: Any = importlib.import_module(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not function:
        raise _unusable(module.__name__, f"{name} cannot be found as {place}")
    return place


def _checksum(module: ModuleType) -> str:
    """Over every file of Python that the library lies beside."""
    place = Path(inspect.getfile(module))
    files = sorted(place.parent.rglob("*.py")) if place.name == "__init__.py" else [place]
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(place.parent)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()


def _unusable(name: str, why: str) -> Invalid:
    return Invalid(
        [
            Problem(
                path="CELERIAC_LIBRARIES",
                message=f"library {name} {why}",
                remedy=f"install it, or take it out of the setting and of the group {GROUP}",
            )
        ]
    )
