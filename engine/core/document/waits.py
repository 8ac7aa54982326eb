"""Reading the nodes that wait: for a time, an event, people, another run, the items of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from engine.core import expressions
from engine.core.document import vocabulary as words
from engine.core.document.inputs import alone
from engine.core.document.names import called_workflow, is_expression, misnamed
from engine.core.graph import (
    Asked,
    Awaited,
    Child,
    Escalation,
    Map,
    Node,
    NodeId,
    Orphan,
    Timer,
    Wait,
)
from engine.core.section import Section, short
from engine.core.values import Json

Inner = Callable[[Section, str, NodeId, tuple[str, ...]], Node]


def wait(name: NodeId, kind: str, section: Section, inner: Inner) -> Wait:
    """What a node of a waiting kind waits for; `inner` reads a node that stands within it."""
    match kind:
        case "timer":
            return _timer(section)
        case "event":
            return _event(section)
        case "approval":
            return _approval(section)
        case "input":
            return _input(section)
        case "workflow":
            return child(section)
        case _:
            return _map(name, section, inner)


def default_save(kind: str, form: Mapping[str, Json]) -> dict[str, expressions.Template]:
    """What a node saves that does not say it: an input its fields, each in the variable it names."""
    if kind != "input":
        return {}
    return {name: expressions.template(f"$result.{name}") for name in form}


def child(section: Section) -> Child:
    """A workflow that runs as a run of its own."""
    workflow, called = called_workflow(section)
    if "workflow" not in section.fields:
        section.fail("workflow", "the node names no workflow", "write workflow: NAME")
    orphan = section.option("orphan", words.ORPHANS, ())
    return Child(
        workflow=workflow or "?",
        named=called,
        orphan=Orphan(orphan or "cancel"),
        expires=_expires(section),
    )


def _timer(section: Section) -> Timer:
    given = [field for field in ("for", "until") if field in section.fields]
    if not given:
        section.fail("for", "the timer has no time", "write for: 10m, or until: $due")
    for more in given[1:]:
        section.fail(more, "`for` says already how long", "keep one of them")
    if not _is_expression(section, "for"):
        section.duration("for", 0, words.MAX_WAIT_SECONDS)
    if "until" in section.fields and not _is_expression(section, "until"):
        _instant(section)
    return Timer(
        seconds=section.template("for") if "for" in section.fields else None,
        until=section.template("until") if "until" in section.fields else None,
    )


def _instant(section: Section) -> None:
    """Refuse what is no instant."""
    value = section.fields["until"]
    if not isinstance(value, str):
        section.wrong(section.at("until"), value, _INSTANT)
        return
    try:
        datetime.fromisoformat(value)
    except ValueError:
        section.fail("until", f"{short(value)} is no instant", f"write {_INSTANT}")


_INSTANT = "an instant such as 2030-01-31T09:00:00+00:00, or an expression of one"


def _is_expression(section: Section, field: str) -> bool:
    return is_expression(section.fields.get(field))


def name(section: Section, field: str, what: str) -> expressions.Template:
    """A name as text, or an expression of one; something else stands in for a wrong one."""
    value = section.fields.get(field)
    if not isinstance(value, str):
        section.wrong(section.at(field), value, f"{what}, as text")
    elif _is_expression(section, field):
        return section.template(field)
    elif not 0 < len(value) <= words.MAX_NAME:
        section.fail(field, f"{short(value)} does not fit", f"write {what}, up to 200 characters")
    return expressions.template(value if isinstance(value, str) else "?")


def _event(section: Section) -> Awaited:
    if "name" not in section.fields:
        section.fail("name", "the event has no name", "write name: paid")
    match = section.fields.get("match")
    if "match" in section.fields and not isinstance(match, dict):
        section.wrong(section.at("match"), match, "an object, such as {order: $order_id}")
    return Awaited(
        name=name(section, "name", "the name of an event")
        if "name" in section.fields
        else expressions.template("?"),
        match=section.template("match") if isinstance(match, dict) else None,
        schema=_schema(section, "schema"),
        transient=section.flag("transient"),
        expires=_expires(section),
    )


def _approval(section: Section) -> Asked:
    choices = _choices(section)
    each = _quorums(section, choices) if isinstance(section.fields.get("quorum"), dict) else {}
    return Asked(
        choices=choices,
        form=form(section),
        show=section.template("show") if "show" in section.fields else None,
        who=_who(section, "from"),
        quorum=1 if each else section.integer("quorum", 1, words.MAX_QUORUM, 1),
        quorums=each,
        reason=section.option("reason", ("required",), ()) is not None,
        four_eyes=section.flag("four_eyes"),
        escalate=_escalation(section),
        expires=_expires(section),
    )


def _input(section: Section) -> Asked:
    fields = form(section)
    if section.fields.get("form", {}) == {}:
        section.fail("form", "the form has no fields", "write form: {answer: {type: string}}")
    return Asked(
        form=fields,
        show=section.template("show") if "show" in section.fields else None,
        who=_who(section, "from"),
        four_eyes=section.flag("four_eyes"),
        escalate=_escalation(section),
        expires=_expires(section),
    )


def _quorums(section: Section, choices: tuple[str, ...]) -> dict[str, int]:
    """How many must choose each; one, of those that are not named."""
    given = section.section("quorum")
    denial = next((choice for choice in choices if choice in words.DENIALS), None)
    names = {choice: choice for choice in choices}
    if denial is not None:
        names.setdefault("deny", denial)
    given.known(names)
    found = dict.fromkeys(choices, 1)
    for name in given.fields:
        if name in names:
            found[names[name]] = given.integer(name, 1, words.MAX_QUORUM, 1)
    return found


def _escalation(section: Section) -> Escalation | None:
    if "escalate" not in section.fields:
        return None
    given = section.section("escalate")
    given.known(words.ESCALATE)
    after = given.duration("after", 0.001, words.MAX_WAIT_SECONDS)
    for field, example in (("after", "after: 2h"), ("to", "to: [role:admin]")):
        if field not in given.fields and isinstance(section.fields["escalate"], dict):
            given.fail(field, f"`{field}` is missing", f"write {example}")
    return Escalation(after=after or 0.001, to=_who(given, "to"))


def _choices(section: Section) -> tuple[str, ...]:
    given = section.fields.get("choices", [*words.CHOICES])
    fits = (
        isinstance(given, list)
        and 1 < len(given) <= words.MAX_CHOICES
        and all(isinstance(choice, str) and words.matches(words.LABEL, choice) for choice in given)
        and len(set(map(str, given))) == len(given)
    )
    if not fits or not isinstance(given, list):
        section.wrong(section.at("choices"), given, f"2 to {words.MAX_CHOICES} different texts")
        return words.CHOICES
    return tuple(str(choice) for choice in given)


def form(section: Section) -> dict[str, Json]:
    """The fields of a form: a JSON Schema each."""
    found: dict[str, Json] = {}
    fields = section.section("form")
    for name, schema in fields.fields.items():
        if wrong := misnamed(fields.at(name), name):
            section.problems.append(wrong)
        elif isinstance(schema, dict):
            alone(fields, name, schema)
            found[name] = schema
        else:
            fields.wrong(fields.at(name), schema, "a JSON Schema, such as {type: string}")
    return found


def _who(section: Section, field: str) -> tuple[str, ...]:
    given = section.fields.get(field, [])
    names = given if isinstance(given, list) else [given]
    found = [name for name in names if isinstance(name, str) and words.matches(words.WHO, name)]
    if len(found) < len(names) or (field in section.fields and not names):
        section.wrong(section.at(field), given, "who may answer: role:NAME or user:NAME, or a list")
    return tuple(found)


def _schema(section: Section, field: str) -> Json:
    if field not in section.fields:
        return None
    schema = section.fields[field]
    if not isinstance(schema, dict):
        section.wrong(section.at(field), schema, "a JSON Schema, such as {type: object}")
        return None
    alone(section, field, schema)
    return schema


def _expires(section: Section) -> float | None:
    return section.duration("expires", 0.001, words.MAX_WAIT_SECONDS)


def _map(name: NodeId, section: Section, inner: Inner) -> Map:
    if "over" not in section.fields:
        section.fail("over", "the map has no items", "write over: $files")
    elif not isinstance(over := section.fields["over"], list) and not _is_expression(
        section, "over"
    ):
        section.wrong(
            section.at("over"), over, "an expression of a list, such as $files, or a list"
        )
    if "do" not in section.fields:
        section.fail("do", "the map does nothing", "write do: FUNCTION")
    stop = section.section("stop_when")
    stop.known(words.STOP)
    enough = None
    if "succeeded" in stop.fields:
        enough = stop.template("succeeded")
        if not _is_expression(stop, "succeeded"):
            stop.integer("succeeded", 1, words.MAX_ITEMS, 1)
    named = section.text("as", words.VARIABLE_NAME, "the name of a variable") or "item"
    if named != "item" and (wrong := misnamed(section.at("as"), named)):
        section.problems.append(wrong)
    usual = Map(over=expressions.template(None), do=Node(id=name, kind="function"))
    return Map(
        over=section.template("over") if "over" in section.fields else usual.over,
        do=inner(section, "do", NodeId(f"{name}/item"), (*words.INNER_KINDS, "workflow"))
        if "do" in section.fields
        else usual.do,
        name=named,
        at_once=section.integer("at_once", 1, words.MAX_AT_ONCE, usual.at_once),
        most_failed=stop.integer("failed", 1, words.MAX_ITEMS, usual.most_failed),
        enough=enough,
    )
