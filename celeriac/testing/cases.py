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
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

from celeriac.testing import RUN
from celeriac.testing.acts import Act, Answered, Sent
from celeriac.testing.calling import Died
from celeriac.testing.clock import Clock
from celeriac.testing.drive import drive
from celeriac.testing.fakes import Faked
from celeriac.testing.performer import Render
from celeriac.testing.record import Record
from celeriac.testing.supplies import Supply
from engine import cases, documents
from engine.cases import Answering, Case, Fake
from engine.core import document, expressions, values
from engine.core.document import vocabulary as words
from engine.core.expressions import holds
from engine.core.graph import Graph
from engine.core.section import below
from engine.core.transitions import RunStatus
from engine.core.values import Json
from engine.errors import CeleriacError

#: What is written of a value that is not there.
ABSENT = "nothing"
_LEGIBLE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field that is not as it was expected."""

    field: str
    expected: str
    actual: str


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
    differences = (*_differences(case, record), *_not_done(acts, record))
    return Checked(
        workflow=graph.workflow,
        name=case.name,
        outcome="failed" if differences else "passed",
        differences=differences,
        path=_path(record),
        ended=_ended(record),
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


# --- comparing --------------------------------------------------------------------------------


def _differences(case: Case, record: Record) -> Iterator[Difference]:
    expected, told = case.expected, _told(case, record)
    if expected.status != told["status"]:
        yield Difference(field="status", expected=expected.status, actual=_ended(record))
    for name, text in (("error", expected.error), ("message", expected.message)):
        said = told[name]
        fits = said == text if name == "error" else text is None or text in str(said)
        if text is not None and not fits:
            yield Difference(field=name, expected=text, actual=_shown(said))
    for name, wanted in (("outputs", expected.outputs), ("variables", expected.variables)):
        yield from _within(name, dict(wanted), told[name], whole=False)
    if expected.path is not None and [*expected.path] != told["path"]:
        shown = " → ".join(expected.path), " → ".join(_path(record))
        yield Difference(field="path", expected=shown[0], actual=shown[1] or ABSENT)
    for name, counts in (("visits", expected.visits), ("calls", expected.calls)):
        found = told[name]
        assert isinstance(found, dict)
        for each, count in counts.items():
            if found.get(each, 0) != count:
                yield _unequal(below(name, each), count, found.get(each, 0))
    for name, amount in expected.used.items():
        if not isclose(record.used.get(name, 0.0), amount, rel_tol=1e-9, abs_tol=1e-9):
            yield _unequal(below("used", name), amount, record.used.get(name, 0.0))
    for index, expression in enumerate(expected.that):
        try:
            answer = expression.evaluate(told)
        except expressions.EvaluationError as error:
            yield Difference(
                field=f"that[{index}]",
                expected=expression.source,
                actual=f"without a value: {error}",
            )
            continue
        if not holds(answer.value):
            saw = ", ".join(f"{path} is {_shown(value)}" for path, value in answer.saw.items())
            yield Difference(
                field=f"that[{index}]", expected=expression.source, actual=saw or "it does not hold"
            )


def _told(case: Case, record: Record) -> dict[str, Any]:
    """What expectations can be about, by the names that expressions have for it."""
    path = _path(record)
    failed = record.status is RunStatus.FAILED
    told = {
        "status": record.status.value,
        "error": record.reason if failed else None,
        "message": record.message,
        "outputs": dict(_outputs(record)),
        "variables": dict(record.variables),
        "path": [*path],
        "visits": dict(Counter(path)),
        "calls": dict(_calls(record)),
        "used": dict(record.used),
        "inputs": dict(case.inputs),
    }
    assert told.keys() == {*words.TOLD}
    return told


def _outputs(record: Record) -> Mapping[str, Json]:
    """What a run gives that has completed; nothing, else."""
    return record.outputs if record.status is RunStatus.COMPLETED else {}


def _path(record: Record) -> tuple[str, ...]:
    """The nodes that a run visited; of a list of steps the steps alone."""
    listing = record.graph.listing
    return tuple(node for node in record.path if listing is None or node != listing.index)


def _calls(record: Record) -> Counter[str]:
    """How often tools were called, those of the runs included that it started."""
    found = Counter(call.tool for call in record.calls)
    for child in record.children:
        found += _calls(child)
    return found


def _ended(record: Record) -> str:
    if record.waiting and not record.state.terminal:
        waits = ", ".join(f"{each.node} for {each.kind}" for each in record.waiting)
        return f"running (it waits: {waits})"
    if record.status is RunStatus.FAILED:
        return f"failed ({record.reason}: {record.message})"[:_LEGIBLE]
    return str(record.status.value)


def _not_done(acts: list[Act], record: Record) -> Iterator[Difference]:
    for index, act in enumerate(acts):
        if any(act is unused for unused in record.unused):
            yield Difference(
                field=f"acts[{index}]", expected="it is done", actual="there was no occasion for it"
            )


def _within(path: str, expected: Json, actual: Json, *, whole: bool = True) -> Iterator[Difference]:
    """Where two values differ, as deep down as it can be told."""
    match expected, actual:
        case dict(), dict():
            extra = [key for key in actual if key not in expected] if whole else []
            for key in [*expected, *extra]:
                if key not in actual or key not in expected:
                    yield Difference(
                        field=below(path, key),
                        expected=_shown(expected[key]) if key in expected else ABSENT,
                        actual=_shown(actual[key]) if key in actual else ABSENT,
                    )
                else:
                    yield from _within(below(path, key), expected[key], actual[key])
        case list(), list() if len(expected) == len(actual):
            for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
                yield from _within(f"{path}[{index}]", one, other)
        case _:
            if not _same(expected, actual):
                yield _unequal(path, expected, actual)


def _same(one: Json, other: Json) -> bool:
    """Whether two values that are no objects are the same JSON: 1 is 1.0, and not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _unequal(path: str, expected: Json, actual: Json) -> Difference:
    return Difference(field=path, expected=_shown(expected), actual=_shown(actual))


def _shown(value: Json) -> str:
    text = values.canonical(value)
    return text if len(text) <= _LEGIBLE else f"{text[:_LEGIBLE]}… ({len(text)} characters)"
