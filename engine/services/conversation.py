"""A conversation with a language model that may use tools: who is asked what next.

    steps = converse(talk)
    call = next(steps)
    call = steps.send(Heard(…))     # until it returns how it ended

It is a pure function of what it hears. So a conversation that was broken off is taken up by having it
hear again what was recorded: it asks for the same calls in the same order, those that were made are
not made anew, and it goes on where it was.

A model that asks for what cannot be, a tool that it was not offered, arguments that are no JSON or do
not fit, a call that is denied or fails, is told so as the answer of that tool, and may do better. The
number of turns bounds that. When the last of them asks for tools still, none of those is called.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from engine import documents, tools
from engine.core import values
from engine.core.fold.guard import added
from engine.core.section import named
from engine.core.values import Json

TURNS = 10
MAX_TURNS = 1000
MAX_TOOLS = 128
#: Characters of what a tool answers that a model is told.
TOLD = 131_072
#: What APIs take as the name of a function.
_NAME = re.compile(r"[^A-Za-z0-9_-]")
_NAME_LENGTH = 64
#: What a node may say of how it is asked, passed on as it is.
_PASSED = ("model", "schema", "temperature", "top_p", "max_tokens", "stop", "seed", "stream")
#: Bytes that all turns together may send. Each sends again, and records, all that was said before it.
MOST_BYTES = 134_217_728
#: Problems of arguments that a model is told at once.
_PROBLEMS = 20


class Unusable(ValueError):
    """What a node is given comes to no conversation; the message begins with the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A registered tool that a model may use."""

    #: `NAME` or `NAME@VERSION`, as the node names it.
    uses: str
    description: str
    #: The JSON Schema of its arguments, as the model is told.
    schema: Mapping[str, Json]
    #: Whether calls are held to that; else it only says what the code looks like.
    held: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A conversation as it begins."""

    #: The registered service that is asked.
    service: str
    messages: Sequence[Json]
    #: By the name under which the model knows them.
    tools: Mapping[str, Tool] = field(default_factory=dict)
    #: How it is asked: `model`, `schema`, `temperature`, …
    manner: Mapping[str, Json] = field(default_factory=dict)
    turns: int = TURNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is to be called next: the service, or a tool."""

    uses: str
    arguments: Mapping[str, Json]
    #: Whether the model asked for it: then a failure is an answer, too.
    by_model: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """How a call ended."""

    ok: bool
    value: Json = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The model has come to an end: what a node is left with."""

    result: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The conversation cannot go on."""

    reason: str
    message: str
    #: Whether whoever begins anew would come to the same, whatever answers.
    for_good: bool = False


End: TypeAlias = Said | Broken


def begun(service: str, given: Mapping[str, Json], offered: Iterable[Tool]) -> Talk:
    """A conversation by what its node says. Raises `Unusable`."""
    turns = given.get("max_turns")
    turns = TURNS if turns is None else turns
    if isinstance(turns, bool) or not isinstance(turns, int) or not 1 <= turns <= MAX_TURNS:
        raise Unusable(f"max_turns: write an integer from 1 to {MAX_TURNS}")
    return Talk(
        service=service,
        messages=_messages(given),
        tools=_named(offered),
        manner={name: given[name] for name in _PASSED if given.get(name) is not None},
        turns=turns,
    )


def wanted(given: Mapping[str, Json]) -> list[str]:
    """The names of the tools that a node offers. Raises `Unusable`."""
    listed = given.get("tools")
    found = [] if listed is None else listed
    texts = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    if not isinstance(found, list) or len(texts) != len(found):
        raise Unusable("tools: write a list of names of tools, such as [search, read@3]")
    if len(texts) > MAX_TOOLS:
        raise Unusable(f"tools: {len(texts)} are offered, more than {MAX_TOOLS}")
    return list(dict.fromkeys(texts))


def converse(talk: Talk) -> Generator[Call, Heard, End]:
    """Ask the model, call the tools that it asks for, and ask again, until it asks for none."""
    messages = list(talk.messages)
    used: Mapping[str, float] = {}
    called = said = sent = measured = 0
    for turn in range(1, talk.turns + 1):
        said += sum(len(values.canonical(each).encode()) for each in messages[measured:])
        measured = len(messages)
        sent += said
        if sent > MOST_BYTES:
            return Broken(
                reason="arguments_too_large", message=_too_much(turn, said), for_good=True
            )
        heard = yield Call(uses=talk.service, arguments=_asked(talk, messages), by_model=False)
        if not heard.ok:
            return Broken(reason=heard.reason, message=heard.message)
        reply = heard.value
        asks = reply.get("tool_calls", []) if isinstance(reply, dict) else None
        if not isinstance(reply, dict) or not isinstance(asks, list):
            message = f"{named(reply)} stands where the reply of a model belongs"
            return Broken(reason="bad_response", message=message)
        used = added(used, _usage(reply))
        messages.append(_repeated(reply, asks))
        if not asks:
            return Said(result=_result(reply, messages, used, turn, called))
        if turn == talk.turns:
            break
        for ask in asks:
            called += 1
            messages.append((yield from _answered(talk, ask)))
    message = f"the model asks for tools still after {talk.turns} turns; set max_turns, or a bound"
    return Broken(reason="max_turns", message=message, for_good=True)


def _too_much(turn: int, said: int) -> str:
    return (
        f"turn {turn} would send {said} bytes, and all turns together more than {MOST_BYTES}; let"
        " tools answer with less, or go on in another node with a summary of what was said"
    )


def _asked(talk: Talk, messages: Sequence[Json]) -> dict[str, Json]:
    """The arguments of a call of the service."""
    found: dict[str, Json] = {**talk.manner, "messages": [*messages]}
    if talk.tools:
        found["tools"] = [
            tools.for_models(name, tool.description, tool.schema)
            for name, tool in talk.tools.items()
        ]
    return found


def _answered(talk: Talk, ask: Json) -> Generator[Call, Heard, Json]:
    """What a model is told of a tool that it asks for, once that was called if it can be."""
    ask = ask if isinstance(ask, dict) else {}
    known = str(ask.get("name") or "")
    tool = talk.tools.get(known)
    told: str
    if tool is None:
        offered = ", ".join(talk.tools) or "none"
        told = _refused("no_such_tool", f"there is no tool {known!r}; there are: {offered}")
    else:
        given, wrong = _arguments(tool, ask.get("arguments"))
        if wrong:
            told = _refused("arguments_refused", wrong)
        else:
            heard = yield Call(uses=tool.uses, arguments=given, by_model=True)
            told = _told(heard)
    return {"role": "tool", "tool_call_id": str(ask.get("id") or ""), "content": told}


def _arguments(tool: Tool, text: Json) -> tuple[dict[str, Json], str]:
    """The arguments of a call, and what is wrong with them."""
    given: Json = {}
    if text not in (None, ""):
        try:
            given = values.parse(str(text), path="arguments")
        except values.InvalidJson as error:
            return {}, str(error)
    if not isinstance(given, dict):
        return {}, f"{named(given)} stands where an object of arguments belongs"
    if not tool.held:
        return given, ""
    problems = documents.argument_problems(dict(tool.schema), given, path="arguments")
    return given, "; ".join(f"{one.path}: {one.message}" for one in problems[:_PROBLEMS])


def _told(heard: Heard) -> str:
    """How a call ended, as a model is told."""
    if not heard.ok:
        return _refused(heard.reason, heard.message)
    text = heard.value if isinstance(heard.value, str) else values.canonical(heard.value)
    if len(text) <= TOLD:
        return text
    return f"{text[:TOLD]}\n… (the first {TOLD} of {len(text)} characters)"


def _refused(reason: str, message: str) -> str:
    return values.canonical({"error": reason, "message": message[:TOLD]})


def _repeated(reply: Mapping[str, Json], asks: Sequence[Json]) -> Json:
    """What the model said, as it is told again what it said."""
    said: dict[str, Json] = {"role": "assistant", "content": reply.get("content")}
    if not asks:
        if said["content"] is None:
            said["content"] = str(reply.get("refusal") or "")
        return said
    said["tool_calls"] = [_repeated_ask(ask if isinstance(ask, dict) else {}) for ask in asks]
    return said


def _repeated_ask(ask: Mapping[str, Json]) -> Json:
    arguments = str(ask.get("arguments") or "{}")
    try:
        readable = isinstance(values.parse(arguments), dict)
    except values.InvalidJson:
        readable = False
    # Servers refuse a conversation in which a name or arguments cannot be read.
    name = _NAME.sub("_", str(ask.get("name") or "unknown"))[:_NAME_LENGTH]
    return {
        "id": str(ask.get("id") or ""),
        "type": "function",
        "function": {"name": name, "arguments": arguments if readable else "{}"},
    }


def _result(
    reply: Mapping[str, Json],
    messages: Sequence[Json],
    used: Mapping[str, float],
    turn: int,
    called: int,
) -> dict[str, Json]:
    found: dict[str, Json] = {
        name: reply[name] for name in ("content", "value", "refusal") if name in reply
    }
    return {
        **found,
        "finish_reason": reply.get("finish_reason"),
        "model": reply.get("model"),
        "turns": turn,
        "tool_calls": called,
        "usage": dict(used),
        "messages": [*messages],
    }


def _usage(reply: Mapping[str, Json]) -> dict[str, float]:
    usage = reply.get("usage")
    listed = usage.items() if isinstance(usage, dict) else ()
    return {
        name: amount
        for name, amount in listed
        if isinstance(amount, int | float) and not isinstance(amount, bool)
    }


def _messages(given: Mapping[str, Json]) -> list[Json]:
    """What is said to begin with: the system's word, what was said before, what is asked now."""
    found: list[Json] = []
    if given.get("system") is not None:
        found.append({"role": "system", "content": _content(given, "system")})
    before = given.get("messages")
    if not isinstance(before, list | None):
        raise Unusable("messages: write a list of messages, each with role and content")
    found += before or []
    if given.get("prompt") is not None:
        found.append({"role": "user", "content": _content(given, "prompt")})
    if not found or (before is None and given.get("prompt") is None):
        raise Unusable("prompt: there is nothing to ask; write prompt or messages")
    return found


def _content(given: Mapping[str, Json], name: str) -> Json:
    content = given[name]
    if not isinstance(content, str | list):
        raise Unusable(f"{name}: {named(content)} stands here; write text")
    return content


def _named(offered: Iterable[Tool]) -> dict[str, Tool]:
    """Tools by names that every API takes, no two alike."""
    found: dict[str, Tool] = {}
    for tool in offered:
        plain = _NAME.sub("_", tool.uses.partition("@")[0])[:_NAME_LENGTH]
        name, number = plain, 1
        while name in found:
            number += 1
            name = f"{plain[: _NAME_LENGTH - 4]}_{number}"
        found[name] = tool
    return found
