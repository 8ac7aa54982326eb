"""Where the code of tests comes from that they do not fake.

What a call leaves nothing in the world by can be called really: installed libraries in this
process, source behind the walls of a sandbox (`walls`). All else must be faked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from celeriac.testing.walls import Walls
from engine import documents
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.errors import Invalid, NotFound

if TYPE_CHECKING:
    from celeriac.client import Client

#: As `engine.runs.libraries` has it, which imports all that a platform stands on.
GROUP = "celeriac.libraries"
_PURE = "pure"

T = TypeVar("T")


class Supply(Protocol):
    """What knows code and workflows by their names, as documents name them: `total`, `total@3`."""

    def function(self, named: str) -> Callable[..., object] | None: ...

    def tool(self, named: str) -> Callable[..., object] | None: ...

    def workflow(self, named: str) -> Graph | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is at hand: source by the names of functions, and workflows."""

    walls: Walls
    sources: Mapping[str, str] = field(default_factory=dict)
    workflows: Mapping[str, Graph] = field(default_factory=dict)

    def function(self, named: str) -> Callable[..., object] | None:
        name = named.partition("@")[0]
        source = self.sources.get(name)
        return None if source is None else self.walls.function(name, source)

    def tool(self, named: str) -> Callable[..., object] | None:  # noqa: ARG002  # a file does not say what a tool does
        return None

    def workflow(self, named: str) -> Graph | None:
        return self.workflows.get(named.partition("@")[0])


class Installed:
    """What libraries bring that are installed here."""

    def function(self, named: str) -> Callable[..., object] | None:
        return _brought("FUNCTIONS").get(named.partition("@")[0])

    def tool(self, named: str) -> Callable[..., object] | None:
        name = named.partition("@")[0]
        return _brought("TOOLS").get(name) if _brought("EFFECTS").get(name) == _PURE else None

    def workflow(self, named: str) -> Graph | None:  # noqa: ARG002  # a library's are on its platform
        return None


class Platform:
    """What is registered and published on a platform."""

    def __init__(self, client: Client, walls: Walls) -> None:
        self._client = client
        self._walls = walls

    def function(self, named: str) -> Callable[..., object] | None:
        name, _, version = named.partition("@")
        try:
            found = self._client.function(name, int(version) if version else None)
        except NotFound:
            return None
        if found.library is not None:
            return _installed("FUNCTIONS", found.library)
        return None if found.source is None else self._walls.function(name, found.source)

    def tool(self, named: str) -> Callable[..., object] | None:
        name = named.partition("@")[0]
        try:
            found = self._client.tool(name)
        except NotFound:
            return None
        if found.effect != _PURE or found.service is not None:
            return None
        if found.library is not None:
            return _installed("TOOLS", found.library)
        return None if found.source is None else self._walls.tool(name, found.source)

    def workflow(self, named: str) -> Graph | None:
        name, _, version = named.partition("@")
        try:
            found = self._client.workflow(name, version or None)
        except NotFound:
            return None
        return documents.graph(dict(found.document or {}))


@dataclass(frozen=True, slots=True)
class Several:
    """Several supplies, the first of which that knows a name counts."""

    supplies: tuple[Supply, ...]

    def function(self, named: str) -> Callable[..., object] | None:
        return _first(each.function(named) for each in self.supplies)

    def tool(self, named: str) -> Callable[..., object] | None:
        return _first(each.tool(named) for each in self.supplies)

    def workflow(self, named: str) -> Graph | None:
        return _first(each.workflow(named) for each in self.supplies)


def _first(found: Iterable[T | None]) -> T | None:
    return next((each for each in found if each is not None), None)


@cache
def _brought(constant: str) -> Mapping[str, Any]:
    """What the installed libraries have under one of their constants. Raises `Invalid`."""
    found: dict[str, Any] = {}
    for entry in metadata.entry_points(group=GROUP):
        try:
            library = entry.load()
        except Exception as error:
            problem = Problem(
                path=entry.value,
                message=f"the library cannot be imported: {type(error).__name__}: {error}",
                remedy=f"install what it needs, or take it out of the group {GROUP}",
            )
            raise Invalid([problem]) from error
        found.update(getattr(library, constant, {}))
    return found


def _installed(constant: str, place: str) -> Callable[..., object] | None:
    """What a library that is installed here has at a place, `module:attribute`.

    Of nothing else is code called that a platform names: it could name whatever Python can import.
    """
    for function in _brought(constant).values():
        if place == f"{function.__module__}:{function.__qualname__}":
            return function  # type: ignore[no-any-return]  # a library's constants hold functions
    return None
