"""Running the tests of a document in memory, and saying what differed.

    found = check(graph, case, supply)
    found.outcome         # passed, failed, or broken: it could not be run as it is written
    found.differences     # what was expected of which field, and what it was

What a test does not fake is asked of a `supply` when it is called, and not before: a test names
what its run comes to call. `engine.cases` says what stands in a test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celeriac.testing import RUN
from celeriac.testing.acts import Act, Answered, Sent
from celeriac.testing.calling import Died
from celeriac.testing.clock import Clock
from celeriac.testing.drive import drive
from celeriac.testing.expectations import Difference, differences, ended, not_done, visited
from celeriac.testing.fakes import Faked
from celeriac.testing.performer import Render
from celeriac.testing.record import Record
from celeriac.testing.supplies import Supply
from engine import cases, documents
from engine.cases import Answering, Case, Fake
from engine.core import document
from engine.core.graph import Graph
from engine.core.values import Json
from engine.errors import CeleriacError


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of a test."""

    workflow: str
    name: str
    #: `passed`, `failed`, or `broken`: it could not be run as it is written.
    outcome: str
    differences: tuple[Difference, ...] = ()
    #: Of one that is broken: why, and what to do.
    problems: tuple[str, ...] = ()
    #: The nodes that its run visited.
    path: tuple[str, ...] = ()
    #: How its run ended, in words.
    ended: str = ""
    seconds: float = 0.0


def check_all(graph: Graph, supply: Supply, render: Render | None = None) -> Iterator[Checked]:
    """Run every test of a graph, in their order; see `check`."""
    for case in cases.read(graph)[0]:
        yield check(graph, case, supply, render)


def check(graph: Graph, case: Case, supply: Supply, render: Render | None = None) -> Checked:
    """Run one test. Templates are filled in by this process, or by what is given for it."""
    began = time.perf_counter()
    lacking: list[str] = []
    acts = [_act(each) for each in case.acts]
    try:
        record = _run(graph, case, supply, render=render, acts=acts, lacking=lacking)
    except CeleriacError as error:
        return _broken(graph, case, (*lacking, str(error).strip()), began)
    if lacking:
        return _broken(graph, case, tuple(dict.fromkeys(lacking)), began)
    found = (*differences(case, record), *not_done(acts, record))
    return Checked(
        workflow=graph.workflow,
        name=case.name,
        outcome="failed" if found else "passed",
        differences=found,
        path=visited(record),
        ended=ended(record),
        seconds=time.perf_counter() - began,
    )


def _broken(graph: Graph, case: Case, problems: tuple[str, ...], began: float) -> Checked:
    return Checked(
        workflow=graph.workflow,
        name=case.name,
        outcome="broken",
        problems=problems,
        seconds=time.perf_counter() - began,
    )


# --- running ----------------------------------------------------------------------------------


def _run(
    graph: Graph,
    case: Case,
    supply: Supply,
    *,
    render: Render | None,
    acts: list[Act],
    lacking: list[str],
) -> Record:
    """Run a graph with what the test gives it. Raises `CeleriacError` where it cannot be run so."""
    standing: dict[str, Callable[..., object]] = {}
    others = dict(_others(graph, case, supply, standing, lacking))
    named = [used for each in (graph, *others.values()) for used in document.names_used(each)]
    called = {used.text: used.name for used in named if used.kind == "function"}
    fakes = {text: _fake_of(graph, case, name) for text, name in called.items()}
    functions = _Code(
        "function",
        {name: Faked(name, fake, lacking.append) for name, fake in fakes.items() if fake}
        | standing,
        lambda name: supply.function(name) or supply.tool(name),
        lacking,
        {each for pair in called.items() if pair[1] not in case.tools for each in pair},
    )
    tools = {name: Faked(name, fake, lacking.append) for name, fake in case.tools.items()}
    return asyncio.run(
        drive(
            graph,
            case.inputs,
            run=RUN,
            functions=functions,
            tools=_Code("tool", tools, supply.tool, lacking),
            nodes={name: Faked(name, fake, lacking.append) for name, fake in case.nodes.items()},
            workflows=others,
            acts=acts,
            clock=Clock(),
            secrets=_Secrets(),
            render=render,
        )
    )


def _fake_of(graph: Graph, case: Case, name: str) -> Fake | None:
    """What stands for a function. Of a list an agent may be a function or a workflow."""
    if graph.listing is not None and name not in case.functions:
        return case.workflows.get(name)
    return case.functions.get(name)


def _others(
    graph: Graph,
    case: Case,
    supply: Supply,
    standing: dict[str, Callable[..., object]],
    lacking: list[str],
) -> Iterator[tuple[str, Graph]]:
    """The workflows that a run may run, by name, and those that they may.

    What stands for one is called by a function, which is left in `standing`.
    """
    seen, left = {graph.workflow}, [graph]
    while left:
        for used in document.names_used(left.pop()):
            if used.kind != "workflow" or used.name in seen:
                continue
            seen.add(used.name)
            fake = case.workflows.get(used.name) or (
                case.functions.get(used.name) if graph.listing is not None else None
            )
            found = None if fake is not None else supply.workflow(used.text)
            if found is None:
                stands = f"celeriac.fake_{len(seen)}"
                standing[stands] = (
                    _Absent("workflow", used.text, lacking)
                    if fake is None
                    else Faked(used.name, fake, lacking.append)
                )
                found = _standing(used.name, stands, fake)
            else:
                left.append(found)
            yield used.name, found


def _standing(name: str, function: str, fake: Fake | None) -> Graph:
    """A workflow that does nothing but call what stands for it."""
    given = () if fake is None else fake.answers
    keys = {key for each in given if isinstance(each.returns, dict) for key in each.returns}
    body: dict[str, Json] = {"workflow": name, "nodes": {"fake": {"uses": function}}}
    if keys:
        body["outputs"] = {key: f"${key}" for key in sorted(keys)}
    return documents.graph(body)


class _Absent:
    """Stands for what is called and is nowhere: the test must say what that comes to."""

    def __init__(self, kind: str, named: str, lacking: list[str]) -> None:
        self.__name__ = named
        name = named.partition("@")[0]
        self._message = (
            f"{kind} {named} is called, and there is none that may be called here; "
            f"write fakes: {{{kind}s: {{{name}: {{returns: …}}}}}}"
        )
        self._lacking = lacking

    def __call__(self, *_args: Any, **_given: Any) -> object:
        self._lacking.append(self._message)
        raise Died("error", self._message, terminal=True)


class _Code(Mapping[str, Callable[..., object]]):
    """What can be called by its name: looked for when it is called, and not before."""

    def __init__(
        self,
        kind: str,
        known: Mapping[str, Callable[..., object]],
        find: Callable[[str], Callable[..., object] | None],
        lacking: list[str],
        names: Collection[str] | None = None,
    ) -> None:
        self._kind = kind
        self._known = dict(known)
        self._find = find
        self._lacking = lacking
        #: None: code may name others at any time, and each is there until it is called.
        self._names = names

    def __getitem__(self, name: str) -> Callable[..., object]:
        if name not in self:
            raise KeyError(name)
        if name not in self._known:
            absent = _Absent(self._kind, name, self._lacking)
            self._known[name] = self._find(name) or absent
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return self._names is None or name in self._names or name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Secrets(Mapping[str, str]):
    """Every secret is there, and is its own name: a test knows no others."""

    def __getitem__(self, name: str) -> str:
        return f"$env.{name}"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _act(said: cases.Answering | cases.Sending) -> Act:
    if isinstance(said, Answering):
        return Answered(
            said.node,
            said.choice,
            said.form,
            roles=said.roles,
            reason=said.reason,
            by=said.by,
            after=said.after,
        )
    return Sent(said.name, said.payload, match=said.match, at=said.at, by=said.by, after=said.after)
