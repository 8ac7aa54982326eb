"""Nodes that ask a language model, which may use tools on the way.

Each time that the model is asked is a call of the node's service, and each tool that it uses is a call
of that tool, by the same durable way as every call: policies, permissions, budgets and approvals hold
for it, and what was recorded is not done again when the step begins anew (`engine.services.conversation`).

The result:

    content          what the model said in the end
    value            the same, read as JSON, where the node has a `schema`
    turns            how often it was asked
    tool_calls       how many tools it asked for
    usage            tokens and dollars, all turns together
    model, finish_reason, refusal
    messages         all that was said, to be gone on with (`messages: $steps.ask.messages`)

`system` and `prompt` are texts in Jinja's language, filled in behind the walls of the sandbox with what
the node's `with` names, else with all variables; what is secret is left out on the way, so that no
model's provider is told it. Only what stands in the document itself is such a text: what an expression comes to, as in `prompt: $question`, was written by somebody else, and is asked
as it is.

A model that asks for tools still in the last of its `max_turns` fails the step, as `max_turns`. So
does a conversation that has grown too long, as `arguments_too_large`: each turn sends and records all
of it, and all turns together may do that with 128 MiB.
"""

from __future__ import annotations

from engine import tools, waiting
from engine.core.values import Json
from engine.runs.attempts import Failed, Outcome, Succeeded
from engine.services import conversation
from engine.services.conversation import Broken, End, Heard, Said, Talk, Tool, Unusable
from workers.kinds import template
from workers.kinds.execution import Execution, finished, saved
from workers.kinds.service import misplaced, named
from workers.kinds.tool import FOR_GOOD

#: What makes a text one that is to be filled in.
_SIGNS = ("{{", "{%", "{#")


def run(execution: Execution) -> Outcome:
    """Talk with the node's model until it has come to an end."""
    node = execution.node
    given = waiting.arguments(node, execution.scope())
    offered = _offered(execution, given)
    if (misnamed := misplaced(execution)) is not None:
        return misnamed
    for name in (named(execution), *(tool.uses for tool in offered)):
        # What any of them is told is hidden from the first call on, and in the texts already.
        execution.open(name)
    if (wrong := _filled_in(execution, given)) is not None:
        return wrong
    try:
        talk = conversation.begun(named(execution), given, offered)
    except Unusable as unusable:
        return _unfit(execution, unusable)
    return _ended(execution, _carried_on(execution, talk))


def _filled_in(execution: Execution, given: dict[str, Json]) -> Outcome | None:
    """Fill in the texts of the node; how the attempt ends where one of them cannot be."""
    node = execution.node
    assert node.inputs is not None
    for name in ("system", "prompt"):
        text = given.get(name)
        if name in node.inputs.expressions or not isinstance(text, str):
            continue
        if not any(sign in text for sign in _SIGNS):
            continue
        ended = template.filled_in(execution, text, given.get("with"), name=f"{node.id}.{name}")
        if not ended.ok:
            return finished(execution, ended)
        given[name] = ended.value
    return None


def _carried_on(execution: Execution, talk: Talk) -> End | None:
    """A conversation to its end; None where the attempt has ended before."""
    steps = conversation.converse(talk)
    try:
        call = next(steps)
        while True:
            answer = execution.call(call.uses, [], dict(call.arguments), settled=call.by_model)
            if execution.ended is not None:
                return None
            call = steps.send(
                Heard(
                    ok=answer.ok, value=answer.value, reason=answer.reason, message=answer.message
                )
            )
    except StopIteration as stopped:
        end: End = stopped.value
        return end


def _ended(execution: Execution, end: End | None) -> Outcome:
    match end:
        case Said(result=result):
            return saved(execution, Succeeded(result=dict(result)))
        case Broken(reason=reason, message=message, for_good=for_good):
            # Whoever begins anew hears the same again.
            terminal = for_good or reason in FOR_GOOD
            return Failed(reason=reason, message=message, terminal=terminal)
        case None:
            assert execution.ended is not None
            return execution.ended


def _offered(execution: Execution, given: dict[str, Json]) -> list[Tool]:
    """The tools that the model may use. Raises `Unfit`."""
    found: list[Tool] = []
    node = execution.node
    try:
        names = conversation.wanted(given)
    except Unusable as unusable:
        raise waiting.Unfit("input_failed", f"node {node.id}, {unusable}") from None
    for name in names:
        definition = execution.definition("tool", name)
        if definition is None:
            message = f"node {node.id}: tool {name!r} is not registered"
            raise waiting.Unfit("no_such_tool", message)
        schema = definition.terms.schema
        found.append(
            Tool(
                uses=name,
                description=definition.description,
                schema=tools.derived(definition.signature) if schema is None else schema,
                held=schema is not None,
            )
        )
    return found


def _unfit(execution: Execution, unusable: Unusable) -> Failed:
    message = f"node {execution.node.id}, {unusable}"
    return Failed(reason="input_failed", message=message, terminal=True)
