"""What a language model answers, put together from the pieces in which it comes.

A server is a stranger: whatever it sends is taken apart here, bounded, and either becomes a reply or
is a `BadReply` that says what is wrong with it. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine import documents
from engine.core import values
from engine.core.section import named, short
from engine.core.values import Json
from engine.services.llm import Used, used

#: Bytes of all that a reply says, arguments of tools included.
REPLY_BYTES = 4 * 1024 * 1024
#: Tools that are asked for in one reply.
TOOL_CALLS = 128
#: Characters of the id and of the name of a call.
_NAME = 256
#: Of what is wrong with an answer, so much is told.
_PROBLEMS = 5
_SHOWN = 500


class BadReply(Exception):
    """What came is no reply: why, in a word and in a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(slots=True)
class _Call:
    """A tool that the model asks for, as far as it has come."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Reply:
    """A reply that is being put together, piece by piece."""

    model: str = ""
    finish_reason: str | None = None
    used: Used | None = None
    _text: list[str] = field(default_factory=list)
    _refusal: list[str] = field(default_factory=list)
    _calls: list[_Call] = field(default_factory=list)
    #: By the index that the server gives them: where in the list they are.
    _places: dict[int, int] = field(default_factory=dict)
    _bytes: int = 0
    #: Whether the server has spoken for the model at all.
    _begun: bool = False

    @property
    def said(self) -> str:
        """All that the model has said so far, arguments included: what it is charged for."""
        arguments = (piece for call in self._calls for piece in (call.name, *call.arguments))
        return "".join((*self._text, *self._refusal, *arguments))

    @property
    def complete(self) -> bool:
        """Whether the model has come to an end."""
        return self.finish_reason is not None

    def take(self, data: str) -> str:
        """Take one event of a stream; the text that it adds. Raises `BadReply`."""
        return self._take(read(data), "delta")

    def take_whole(self, data: bytes) -> str:
        """Take a reply that came in one piece; its text. Raises `BadReply`."""
        text = self._take(read(data), "message")
        if not self._begun:
            raise BadReply("bad_response", "the answer has no message")
        self.finish_reason = self.finish_reason or "stop"
        return text

    def value(self) -> dict[str, Json]:
        """The reply as it is recorded. Raises `BadReply` where there is none."""
        if not self._begun:
            raise BadReply("bad_response", "the stream has no message")
        content, refusal = clean("".join(self._text)), clean("".join(self._refusal))
        found: dict[str, Json] = {
            "content": content or None,
            "tool_calls": [
                {
                    "id": clean(call.id),
                    "name": clean(call.name),
                    "arguments": clean("".join(call.arguments)),
                }
                for call in self._calls
            ],
            "finish_reason": clean(self.finish_reason or "") or None,
            "model": clean(self.model),
        }
        return {**found, "refusal": refusal} if refusal else found

    def _take(self, chunk: Json, part: str) -> str:
        if not isinstance(chunk, dict):
            raise BadReply("bad_response", f"{named(chunk)} stands where a reply belongs")
        if chunk.get("error"):
            raise refused(chunk["error"])
        if isinstance(chunk.get("model"), str):
            self.model = str(chunk["model"])[:_NAME]
        self.used = used(chunk.get("usage")) or self.used
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            if choices is None and "usage" in chunk:
                return ""
            raise BadReply("bad_response", "the reply has no `choices`")
        texts = [
            self._choice(choice, part)
            for choice in choices
            # What was not asked for is not heard.
            if not isinstance(choice, dict) or choice.get("index", 0) in (0, None)
        ]
        return "".join(texts)

    def _choice(self, choice: Json, part: str) -> str:
        message = choice.get(part) if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict | None):
            raise BadReply("bad_response", f"a choice has no `{part}`")
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = str(choice["finish_reason"])[:_NAME]
            self._begun = True
        if message is None:
            return ""
        self._begun = True
        text = _text(message.get("content"))
        self._count(text)
        self._text.append(text)
        if refusal := _text(message.get("refusal")):
            self._count(refusal)
            self._refusal.append(refusal)
        calls = message.get("tool_calls")
        if not isinstance(calls, list | None):
            raise BadReply("bad_response", f"{named(calls)} stands where tool calls belong")
        for number, call in enumerate(calls or ()):
            self._call(call, number if part == "message" else None)
        return text

    def _call(self, given: Json, number: int | None) -> None:
        """One piece of a call; `number` where the pieces are not told by an index."""
        function = given.get("function") if isinstance(given, dict) else None
        if not isinstance(given, dict) or not isinstance(function, dict | None):
            raise BadReply("bad_response", "a tool call has no `function`")
        function = function or {}
        name, arguments = function.get("name") or "", function.get("arguments")
        if isinstance(arguments, dict):
            # Some servers have read it already.
            arguments = values.canonical(arguments)
        arguments = "" if arguments is None else arguments
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise BadReply("bad_response", "a tool call has no text for name and arguments")
        self._count(name + arguments)
        call = self._place(given, number, begins=bool(name))
        call.name = call.name or name[:_NAME]
        call.arguments.append(arguments)

    def _place(self, given: Mapping[str, Json], number: int | None, *, begins: bool) -> _Call:
        """The call that a piece belongs to; a new one where it begins one."""
        index = given.get("index") if number is None else number
        known = given.get("id") or ""
        if not isinstance(known, str) or isinstance(index, bool):
            raise BadReply("bad_response", "a tool call has no text for its id")
        if index is None:
            # It goes on with the one before, unless it says that it is another.
            index = len(self._calls) if known and begins else max(len(self._calls) - 1, 0)
        if not isinstance(index, int) or not 0 <= index < TOOL_CALLS:
            raise BadReply("bad_response", f"a tool call has the index {short(str(index))}")
        place = self._places.get(index)
        if place is not None:
            call = self._calls[place]
            # Some servers number all calls alike.
            if not (known and begins and call.name and known != call.id):
                return call
        if len(self._calls) >= TOOL_CALLS:
            raise BadReply(
                "output_too_large", f"more than {TOOL_CALLS} tools are asked for at once"
            )
        self._places[index] = len(self._calls)
        # Whatever answers it is told by its id: it has one.
        call = _Call(id=known[:_NAME] or f"call_{len(self._calls)}", name="")
        self._calls.append(call)
        return call

    def _count(self, text: str) -> None:
        self._bytes += len(text.encode(errors="replace"))
        if self._bytes > REPLY_BYTES:
            raise BadReply("output_too_large", f"the reply is larger than {REPLY_BYTES} bytes")


def read(data: str | bytes) -> Json:
    """JSON of a stranger, as deep as it may be. Raises `BadReply`."""
    shown = data.decode(errors="replace") if isinstance(data, bytes) else data
    try:
        found: Json = json.loads(data)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadReply(
            "bad_response", f"not JSON: {clean(why)[:200]}: {short(clean(shown[:200]))}"
        ) from None
    if _depth(found) > values.MAX_DEPTH:
        raise BadReply("bad_response", f"nested deeper than {values.MAX_DEPTH} levels")
    return found


def _depth(value: Json) -> int:
    """How deep lists and objects stand within each other."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, dict | list):
            deepest = max(deepest, depth)
            inner = item.values() if isinstance(item, dict) else item
            waiting += [(each, depth + 1) for each in inner]
    return deepest


def refused(error: Json) -> BadReply:
    """What a server says went wrong, told in the middle of a stream."""
    kind = error.get("type") or error.get("code") if isinstance(error, dict) else ""
    message = error.get("message") if isinstance(error, dict) else error
    told = clean(str(message or values.canonical(error)))[:_SHOWN]
    busy = "rate_limit" in str(kind) or str(kind) == "429"
    return BadReply("rate_limited" if busy else "server_error", f"the server says: {told}")


def answer(reply: Mapping[str, Json], schema: Json) -> Json:
    """The value in a reply that was to be of a schema. Raises `BadReply` (`schema_mismatch`)."""
    if refusal := reply.get("refusal"):
        raise BadReply("schema_mismatch", f"the model refuses: {short(str(refusal), 200)}")
    content = reply.get("content")
    cut = " (it was cut off at max_tokens)" if reply.get("finish_reason") == "length" else ""
    if not isinstance(content, str):
        raise BadReply("schema_mismatch", f"the model said nothing{cut}")
    try:
        found = values.parse(content, path="answer")
    except values.InvalidJson as error:
        told = "; ".join(f"{one.path}: {one.message}" for one in error.problems[:_PROBLEMS])
        raise BadReply("schema_mismatch", f"{told}{cut}") from None
    problems = documents.schema_problems(schema, found, path="answer")
    if problems:
        told = "; ".join(f"{one.path}: {one.message}" for one in problems[:_PROBLEMS])
        raise BadReply("schema_mismatch", told)
    return found


def clean(text: str) -> str:
    """Text as it can be stored: halves of characters are put together, or replaced, as NUL is."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _text(content: Json) -> str:
    """The text of a message, be it one or a list of parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadReply("bad_response", f"{named(content)} stands where a text belongs")
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(part for part in parts if isinstance(part, str))
