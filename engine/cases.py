"""Tests that stand in documents: what a run is given, and what it must come to.

    tests:
      a poor draft is written anew:
        inputs: {text: My parcel is late}
        fakes:
          functions:
            write_draft: {returns: {text: We are sorry.}}
            grade_draft: {each: [{returns: 3}, {fails: timeout}, {returns: 9}]}
        expect:
          path: [draft, grade, draft, grade, end]
          outputs: {score: 9}
          that: [$used.cost_usd <= 0.05]

**Fakes** stand for code that is not to be called: nodes, functions, tools (services are called
by their names as well) and workflows, by name. One answers every call (`returns`, `fails`), or
each in turn (`each`), and may have `used` something. Of a node it is what the node's own work
comes to; what follows from that, its `save`, its edges, its retries, is as ever. Nodes that wait
have none: people answer and events come by `acts`, time passes at once, and another run is of a
workflow that may be faked.

**Acts** are done from outside, each once, as soon as it can be or some time `after` that:
`{answer: accept, choice: approve, by: ada, roles: [boss]}`, `{send: paid, payload: {cents: 100},
match: {order: 7}}`.

**Expectations.** Without a word a run must complete. `outputs` and `variables` are compared as far as
they are named, `path` and each entry of `visits` whole. `error` is why it fails, `message` a part of
what is said of its end. `that` are expressions, which may read what is compared elsewhere and the
`inputs`. Values are values: no text in them is an expression.

Nothing here does I/O. What is read runs elsewhere (`celeriac.testing.cases`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from engine.core import document, expressions
from engine.core.document import vocabulary as words
from engine.core.document.names import variable_name
from engine.core.expressions import Expression
from engine.core.graph import Graph, Map
from engine.core.problem import Problem
from engine.core.section import Section, short, suggestion
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one call of something faked comes to."""

    returns: Json = None
    #: Why it fails; None: it does not.
    fails: str | None = None
    message: str = ""
    used: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fake:
    """What stands for code."""

    answers: tuple[Answer, ...]
    #: The one answer is that of every call; else they are given in turn.
    always: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Somebody answers a node that asks."""

    node: str
    choice: str | None = None
    form: Mapping[str, Json] = field(default_factory=dict)
    reason: str = ""
    roles: tuple[str, ...] = ()
    by: str = "tester"
    #: Seconds.
    after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Somebody sends an event."""

    name: str
    payload: Json = None
    match: Mapping[str, Json] = field(default_factory=dict)
    at: str | None = None
    by: str = "tester"
    #: Seconds.
    after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a run must come to; None: whatever it may be."""

    status: str = "completed"
    error: str | None = None
    message: str | None = None
    outputs: Mapping[str, Json] = field(default_factory=dict)
    variables: Mapping[str, Json] = field(default_factory=dict)
    path: tuple[str, ...] | None = None
    visits: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    that: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test of a document."""

    name: str
    inputs: Mapping[str, Json]
    nodes: Mapping[str, Fake]
    functions: Mapping[str, Fake]
    tools: Mapping[str, Fake]
    workflows: Mapping[str, Fake]
    acts: tuple[Answering | Sending, ...]
    expected: Expected


def read(graph: Graph) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """The tests of a graph, and everything that is wrong with them but what their inputs are."""
    problems: list[Problem] = []
    section = Section(dict(graph.tests), "tests", problems)
    if len(section.fields) > words.MAX_TESTS:
        message = f"{len(section.fields)} tests"
        remedy = f"write at most {words.MAX_TESTS}"
        return (), (Problem(path="tests", message=message, remedy=remedy),)
    found = tuple(_case(graph, section, name) for name in section.fields)
    return found, tuple(problems)


def _case(graph: Graph, tests: Section, name: str) -> Case:
    section = tests.section(name)
    if not words.matches(words.LABEL, name):
        tests.fail(name, f"{short(name)} does not fit", "write up to 100 characters on one line")
    section.known(words.TEST)
    fakes = section.section("fakes")
    fakes.known(words.FAKES)
    return Case(
        name=name,
        inputs=section.section("inputs").fields,
        nodes=_fakes(fakes, "nodes", _working(graph)),
        functions=_fakes(fakes, "functions", _named(graph, "function")),
        tools=_fakes(fakes, "tools"),
        workflows=_fakes(fakes, "workflows", _named(graph, "workflow"), objects=True),
        acts=tuple(_acts(graph, section)),
        expected=_expected(graph, section.section("expect")),
    )


# --- fakes ------------------------------------------------------------------------------------


def _working(graph: Graph) -> set[str]:
    """The nodes that carry something out, those within others included."""
    inner = [node.wait.do for node in graph.nodes.values() if isinstance(node.wait, Map)]
    inner += [node.compensate for node in graph.nodes.values() if node.compensate is not None]
    every = (*graph.nodes.values(), *inner)
    return {node.id for node in every if node.wait is None and not node.passes}


def _named(graph: Graph, kind: str) -> set[str]:
    """The functions, or workflows, that a graph names. Of a list each agent may be either."""
    listed = graph.listing is not None
    return {
        used.name
        for used in document.names_used(graph)
        if used.kind == kind or (listed and used.kind != "tool")
    }


def _fakes(
    owner: Section, field: str, known: Collection[str] | None = None, *, objects: bool = False
) -> dict[str, Fake]:
    section = owner.section(field)
    found: dict[str, Fake] = {}
    for name in section.fields:
        if known is not None and name not in known:
            what = {
                "nodes": f"no node {short(name)} carries anything out",
                "functions": f"no node calls a function {short(name)}",
                "workflows": f"no node runs a workflow {short(name)}",
            }[field]
            there = ", ".join(sorted(known)) or "there are none"
            section.fail(name, what, suggestion(name, known) or f"those that may be faked: {there}")
        each = section.section(name)
        if isinstance(section.fields[name], dict):
            found[name] = _fake(each, objects=objects)
    return found


def _fake(section: Section, *, objects: bool) -> Fake:
    section.known([*words.ANSWER, "each"])
    if "each" not in section.fields:
        return Fake(answers=(_answer(section, objects=objects, also="each"),), always=True)
    for name in words.ANSWER:
        if name in section.fields:
            section.fail(name, "each call has an answer of its own", "write it within `each`")
    given = section.fields["each"]
    if not (isinstance(given, list) and 0 < len(given) <= words.MAX_ANSWERS):
        wanted = f"1 to {words.MAX_ANSWERS} answers: [{{returns: …}}, {{fails: timeout}}]"
        section.wrong(section.at("each"), given, wanted)
        return Fake(answers=())
    answers = []
    for index, entry in enumerate(given):
        each = Section(entry, section.at(f"each[{index}]"), section.problems)
        if isinstance(entry, dict):
            each.known(words.ANSWER)
            answers.append(_answer(each, objects=objects))
    return Fake(answers=tuple(answers))


def _answer(section: Section, *, objects: bool, also: str = "") -> Answer:
    ways = [*words.ANSWERS, *([also] if also else [])]
    said = [name for name in words.ANSWERS if name in section.fields]
    if len(said) != 1:
        message = "it says twice what is answered" if said else "it does not say what is answered"
        remedy = f"write one of {', '.join(ways)}"
        section.problems.append(Problem(path=section.path, message=message, remedy=remedy))
    returns = section.fields.get("returns")
    if objects and "returns" in section.fields and not isinstance(returns, dict):
        section.wrong(section.at("returns"), returns, "the outputs by name: {NAME: …}")
    for name in returns if objects and isinstance(returns, dict) else ():
        variable_name(section.section("returns"), name)
    if "message" in section.fields and "fails" not in section.fields:
        section.fail("message", "it says why something fails", "write `fails` beside it")
    return Answer(
        returns=returns,
        fails=section.option("fails", words.FAILURES, ()),
        message=_text(section, "message") or "",
        used=_amounts(section.section("used")),
    )


def _amounts(section: Section) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in section.fields:
        if not words.matches(words.USAGE, name):
            section.fail(name, f"{short(name)} is not a name", "use small letters, digits and _")
        found[name] = section.number(name, 0, words.MAX_USAGE, 0)
    return found


# --- acts -------------------------------------------------------------------------------------


def _acts(graph: Graph, owner: Section) -> Iterator[Answering | Sending]:
    for index, entry in enumerate(_list(owner, "acts", "acts: [{answer: NODE, choice: …}]")):
        section = Section(entry, owner.at(f"acts[{index}]"), owner.problems)
        if not isinstance(entry, dict):
            continue
        said = [name for name in words.ACTS if name in section.fields]
        if len(said) != 1:
            message = "it does not say what is done" if not said else "these are two acts"
            remedy = f"write one of {', '.join(words.ACTS)}"
            owner.problems.append(Problem(path=section.path, message=message, remedy=remedy))
            continue
        section.known(words.ACTS[said[0]])
        by = _text(section, "by") or "tester"
        after = section.duration("after", 0, words.MAX_WAIT_SECONDS) or 0.0
        if said[0] == "answer":
            yield _answering(graph, section, by, after)
        else:
            yield Sending(
                name=_text(section, "send") or "?",
                payload=section.fields.get("payload"),
                match=section.section("match").fields,
                at=_node(section, "at", [*graph.nodes]),
                by=by,
                after=after,
            )


def _answering(graph: Graph, section: Section, by: str, after: float) -> Answering:
    asking = [node.id for node in graph.nodes.values() if node.kind in {"approval", "input"}]
    return Answering(
        node=_node(section, "answer", asking) or "?",
        choice=_text(section, "choice"),
        form=section.section("form").fields,
        reason=_text(section, "reason") or "",
        roles=tuple(_texts(section, "roles", "the roles of who answers")),
        by=by,
        after=after,
    )


# --- expectations -----------------------------------------------------------------------------


def _expected(graph: Graph, section: Section) -> Expected:
    section.known(words.EXPECT)
    error = _text(section, "error")
    status = section.option("status", words.STATUSES, ())
    if error is not None and status not in {None, "failed"}:
        section.fail("error", f"a run that is {status} has none", "leave one of the two out")
    outputs = section.section("outputs")
    for name in outputs.fields if graph.outputs else ():
        if name not in graph.outputs:
            remedy = suggestion(name, graph.outputs) or f"they are {', '.join(graph.outputs)}"
            outputs.fail(name, f"the workflow has no output {short(name)}", remedy)
    path = None
    if "path" in section.fields:
        path = tuple(_texts(section, "path", "the nodes in their order: [draft, grade]"))
        for index, name in enumerate(path):
            _known_node(graph, section, f"path[{index}]", name)
    visits = section.section("visits")
    for name in visits.fields:
        _known_node(graph, visits, name, name)
    return Expected(
        status=status or ("completed" if error is None else "failed"),
        error=error,
        message=_text(section, "message"),
        outputs=outputs.fields,
        variables=section.section("variables").fields,
        path=path,
        visits=_counts(visits),
        calls=_counts(section.section("calls")),
        used=_amounts(section.section("used")),
        that=tuple(_that(section)),
    )


def _counts(section: Section) -> dict[str, int]:
    return {name: section.integer(name, 0, words.MAX_STEPS, 0) for name in section.fields}


def _that(section: Section) -> Iterator[Expression]:
    """Expressions that must hold."""
    for index, source in enumerate(_texts(section, "that", "expressions: [$outputs.score > 5]")):
        field = f"that[{index}]"
        try:
            found = expressions.compile(source)
        except expressions.ExpressionError as error:
            section.fail(field, str(error), error.remedy)
            continue
        for name in sorted(found.names - {*words.TOLD}):
            remedy = suggestion(name, words.TOLD, "$") or f"it may read {', '.join(words.TOLD)}"
            section.fail(field, f"${name} is nothing that is told of a run", remedy)
        yield found


def _known_node(graph: Graph, section: Section, field: str, name: str) -> None:
    known = {*graph.nodes, *_working(graph)}
    if name not in known:
        remedy = suggestion(name, known) or f"they are {', '.join(sorted(known))}"
        section.fail(field, f"there is no node {short(name)}", remedy)


def _node(section: Section, field: str, known: Collection[str]) -> str | None:
    name = _text(section, field)
    if name is not None and name not in known:
        remedy = suggestion(name, known) or f"those are {', '.join(sorted(known)) or 'none'}"
        what = "asks anybody" if field == "answer" else "is there"
        section.fail(field, f"no node {short(name)} {what}", remedy)
    return name


def _text(section: Section, field: str) -> str | None:
    """A text that says something."""
    value = section.fields.get(field)
    if field not in section.fields or (isinstance(value, str) and value):
        return value if isinstance(value, str) else None
    section.wrong(section.at(field), value, "a text that says something")
    return None


def _texts(section: Section, field: str, wanted: str) -> list[str]:
    found = []
    for index, value in enumerate(_list(section, field, wanted)):
        if isinstance(value, str):
            found.append(value)
        else:
            section.wrong(section.at(f"{field}[{index}]"), value, "a text")
    return found


def _list(section: Section, field: str, wanted: str) -> list[Json]:
    given = section.fields.get(field, [])
    if isinstance(given, list) and len(given) <= words.MAX_ANSWERS:
        return given
    section.wrong(section.at(field), given, f"up to {words.MAX_ANSWERS} of a list: {wanted}")
    return []
