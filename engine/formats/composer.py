"""Graphs as seed 001's composer draws them, and what is wrong with them by its rules.

    {"name": "Research",
     "plans": [{"name": "plan_search", "files": [{"name": "plan.py", "contents": "…"}]}],
     "tasks": [{"name": "search"}],
     "edges": [{"from": "plan_search", "fromType": "PLAN", "to": "search", "toType": "TASK"}]}

The graph is written as the DOT drawing that it stands for and read by the rules of `dot`, held
to the seed's own: one plan before each task, every plan before a task, plans and tasks in turn.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.core.problem import Problem
from engine.core.section import short
from engine.formats.dot import reading, words
from engine.formats.drawing import Drawing

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_CHARACTERS = 64
_LINE = re.compile(r" \(line ([0-9]+)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A plan or a task; the names of its files, where they are told."""

    name: str
    files: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An edge, with the types that it says its ends have."""

    source: str
    source_type: str
    target: str
    target_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A graph as it is composed."""

    name: str
    plans: tuple[Place, ...]
    tasks: tuple[Place, ...]
    edges: tuple[Line, ...]


def problems(composed: Composed) -> tuple[Problem, ...]:
    """Everything that is wrong with a graph, in the words of the seed."""
    return (*_drawn(composed), *_typed(composed), *_files(composed))


def warnings(composed: Composed) -> tuple[str, ...]:
    """What may surprise."""
    return tuple(
        warning
        for place in (*composed.plans, *composed.tasks)
        for warning in name_warnings(place.name)
    )


def name_problems(name: str, taken: Collection[str] = ()) -> tuple[str, ...]:
    """What keeps a name from being given to a node, beside those that are taken."""
    return tuple(_wrong_name(name, taken))


def name_warnings(name: str) -> tuple[str, ...]:
    """What may surprise about a name."""
    if name.startswith("_"):
        return (f"{short(name)} begins with _, which reads as private",)
    return ()


def _wrong_name(name: str, taken: Collection[str]) -> Iterator[str]:
    if not name.strip():
        yield "INVALID_NAME: the name is empty"
    elif not _NAME.fullmatch(name):
        yield f"INVALID_NAME: {short(name)} is not of letters, digits and _, a digit not first"
    elif keyword.iskeyword(name):
        yield f"INVALID_NAME: {short(name)} is a word of Python"
    elif len(name) > _CHARACTERS:
        yield f"INVALID_NAME: {short(name)} has more than {_CHARACTERS} characters"
    if name in taken:
        yield f"DUPLICATE_NAME: {short(name)} is taken"


def _drawn(composed: Composed) -> Iterator[Problem]:
    """What the rules of drawings say, with the place in the composed graph."""
    if not composed.name.strip():
        remedy = "name the graph"
        yield Problem(path="name", message="INVALID_NAME: the graph has no name", remedy=remedy)
    lines = [f"digraph {words.quoted(composed.name)} {{"]
    places = ["name"]
    for kind, nodes in (("plan", composed.plans), ("task", composed.tasks)):
        for index, place in enumerate(nodes):
            lines.append(f'{_quoted(place.name)} [type="{kind}"];')
            places.append(f"{kind}s[{index}]")
    for index, edge in enumerate(composed.edges):
        lines.append(f"{_quoted(edge.source)} -> {_quoted(edge.target)};")
        places.append(f"edges[{index}]")
    found = reading.drawing("\n".join((*lines, "}")), strict=True)
    if isinstance(found, Drawing):
        return
    for problem in found:
        line = _LINE.search(problem.message)
        number = int(line[1]) - 1 if line else len(places)
        yield Problem(
            path=places[number] if number < len(places) else "",
            message=_LINE.sub("", problem.message),
            remedy=problem.remedy,
        )


def _quoted(name: str) -> str:
    # A line each: else the places would be wrong.
    return words.quoted(re.sub(r"[\r\n]", " ", name))


def _typed(composed: Composed) -> Iterator[Problem]:
    types: Mapping[str, str] = {
        **{place.name: "TASK" for place in composed.tasks},
        **{place.name: "PLAN" for place in composed.plans},
    }
    for index, edge in enumerate(composed.edges):
        ends = (("from", edge.source, edge.source_type), ("to", edge.target, edge.target_type))
        for end, name, said in ends:
            if name in types and said != types[name]:
                yield Problem(
                    path=f"edges[{index}].{end}Type",
                    message=f"INVALID_STRUCTURE: {short(name)} is a {types[name]}, not a {said}",
                    remedy=f"write {types[name]}",
                )


def _files(composed: Composed) -> Iterator[Problem]:
    kinds: Sequence[tuple[str, tuple[Place, ...]]] = (
        ("plan", composed.plans),
        ("task", composed.tasks),
    )
    for kind, nodes in kinds:
        for index, place in enumerate(nodes):
            if place.files is not None and f"{kind}.py" not in place.files:
                yield Problem(
                    path=f"{kind}s[{index}].files",
                    message=f"MISSING_PYTHON_FILE: {short(place.name)} has no {kind}.py",
                    remedy=f"add {kind}.py",
                )
