"""Asking a language model over an API that is compatible with OpenAI's, streamed unless told otherwise.

A call is tried again by itself while the server is busy (429), broken (5xx) or away, and while nothing
of an answer was heard; not longer than its time allows, which a `Retry-After` is held to as well. A
stream that breaks off after its first word is not begun anew here: its words have been shown, and paid
for. It ends as `interrupted`, and whoever wants it anew says so (`retry` of the node).

What was used is what the server says. Where it does not get to say it, because the stream broke off or
nothing came in time, the request was sent all the same and will be on the bill: then the prompt, and
what was heard, are counted by their sizes, and `tokens_guessed` says how many tokens those are.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from engine import documents
from engine.core import values
from engine.core.fold.guard import added
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import llm, origins, replies
from engine.services.llm import Config
from engine.services.replies import BadReply, Reply
from workers.services import connections
from workers.services.connections import Unreached
from workers.services.reach import Reach
from workers.services.service import NOTHING, Answer, Asked

#: Bytes of an answer as it comes: a stream says much around each word.
_WIRE_BYTES = 64 * 1024 * 1024
_WHOLE_BYTES = 2 * replies.REPLY_BYTES
_EVENT_BYTES = 1024 * 1024
#: Of what a server says when it refuses.
_REFUSAL_BYTES = 4096
_PAUSE_SECONDS = 0.5
_MOST_PAUSE_SECONDS = 8.0

_BUSY = 429
_TIMED_OUT = 408


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """How one try ended."""

    answer: Answer
    #: Whether the next one may end otherwise.
    again: bool = False
    #: Seconds for which the server asks to be left alone.
    after: float | None = None


def carry(asked: Asked) -> Answer:
    """Ask a model; its reply, what it used, and of which model."""
    try:
        config = llm.read(asked.config, resolved=True)
    except Invalid as error:
        # What is wrong may be a secret: where it stands is enough.
        where = ", ".join(problem.path for problem in error.problems)
        message = f"the service cannot be used as it is configured: see {where}"
        return Answer(reason="client_error", message=message, usage=NOTHING)
    if why := _unfit(config, asked.arguments):
        return Answer(reason="arguments_refused", message=why, usage=NOTHING)
    until = time.monotonic() + min(asked.seconds, config.timeout)
    answer, used = Answer(usage=NOTHING), dict(NOTHING)
    for number in range(1, config.attempts + 1):
        tried = _try(config, asked, until)
        answer, used = tried.answer, added(used, tried.answer.usage)
        if not tried.again or number == config.attempts:
            break
        pause = _pause(asked, number) if tried.after is None else tried.after
        if time.monotonic() + pause >= until:
            told = f"{answer.message}; the next try would come too late ({pause:.1f} s)"
            answer = replace(answer, message=told)
            break
        if asked.stopped.wait(pause):
            answer = Answer(reason="cancelled", message="the attempt was ended")
            break
    return replace(answer, usage=used, model=_model(config, asked))


def _unfit(config: Config, arguments: Mapping[str, Json]) -> str:
    """Why a call cannot be made; empty where it can."""
    model = str(arguments.get("model") or config.model)
    if model not in config.models:
        return f"model {model!r} has no price; the service has {', '.join(config.models)}"
    if arguments.get("schema") is None:
        return ""
    problems = documents.declared_problems(arguments["schema"], path="schema")
    return "; ".join(f"{one.path}: {one.message}" for one in problems)


def _model(config: Config, asked: Asked) -> str:
    """The model as it is priced: what a server calls it says more, and changes."""
    return str(asked.arguments.get("model") or config.model)


# --- one try ----------------------------------------------------------------------------------


def _try(config: Config, asked: Asked, until: float) -> _Tried:
    reply = Reply()
    # Without a stream there is no first word: all of them come at once.
    first = config.first_token_timeout if asked.arguments.get("stream", True) else math.inf
    word = _Word(until=time.monotonic() + first, seconds=first)
    try:
        reach = _reach(config, asked, until, word)
        with closing(reach.handle_request(_request(config, asked))) as response:
            if response.status_code != httpx2.codes.OK:
                return _refused(config, response)
            _hear(response, reply, asked, word)
            return _Tried(answer=_answer(config, asked, reply))
    except BadReply as bad:
        message = _without_key(config, bad.message)
        answer = Answer(reason=bad.reason, message=message, usage=_used(config, asked, reply))
        again = bad.reason in {"rate_limited", "server_error"} and not reply.said
        return _Tried(answer=answer, again=again)
    except (Unreached, OSError, httpx2.HTTPError) as error:
        return _broken(config, asked, reply, error)


def _request(config: Config, asked: Asked) -> httpx2.Request:
    headers = {
        **config.headers,
        "User-Agent": "celeriac",
        "Content-Type": "application/json",
        "Accept": "text/event-stream, application/json",
        "Idempotency-Key": asked.idempotency_key,
    }
    if config.api_key is not None:
        headers["Authorization"] = f"Bearer {config.api_key}"
    return httpx2.Request(
        "POST",
        f"{config.url}/chat/completions",
        content=values.canonical(llm.body(config, asked.arguments)).encode(),
        headers=headers,
    )


def _hear(response: httpx2.Response, reply: Reply, asked: Asked, word: _Word) -> None:
    """Take an answer in, and tell its text as it comes."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        _hear_stream(response, reply, asked, word)
    elif kind.endswith("json"):
        word.heard()
        text = reply.take_whole(_bytes(response, _WHOLE_BYTES))
        _tell(asked, text)
    else:
        raise BadReply(
            "bad_response", f"the answer is {kind or 'of no kind'}, not a stream or JSON"
        )


def _hear_stream(response: httpx2.Response, reply: Reply, asked: Asked, word: _Word) -> None:
    response.encoding = "utf-8"
    ended = False
    try:
        for event in httpx2.EventSource(response, max_event_size=_EVENT_BYTES):
            if not event.data:
                continue
            word.heard()
            if event.data.strip() == "[DONE]":
                ended = True
                break
            _tell(asked, reply.take(event.data))
    except httpx2.SSEError as error:
        raise BadReply("bad_response", f"not a stream of events: {error}") from None
    except Unreached as unreached:
        # Whoever has said all may leave as he likes.
        if not reply.complete or unreached.reason != "interrupted":
            raise
    if not ended and not reply.complete:
        raise BadReply("interrupted", "the stream ended before the answer did")


def _tell(asked: Asked, text: str) -> None:
    if text:
        asked.say(replies.clean(text))


def _bytes(response: httpx2.Response, most: int) -> bytes:
    found = bytearray()
    for chunk in response.iter_bytes():
        found += chunk
        if len(found) > most:
            raise BadReply("output_too_large", f"the answer is larger than {most} bytes")
    return bytes(found)


def _answer(config: Config, asked: Asked, reply: Reply) -> Answer:
    """A reply as the answer of the call, its JSON read where a schema was asked for."""
    value = reply.value()
    used = _used(config, asked, reply)
    schema = asked.arguments.get("schema")
    if schema is not None and not value["tool_calls"]:
        value["value"] = replies.answer(value, schema)
    value["usage"] = {name: amount for name, amount in used.items() if name != "llm_calls"}
    return Answer(value=value, usage=used)


def _used(config: Config, asked: Asked, reply: Reply) -> dict[str, float]:
    found = reply.used or llm.guessed(asked.arguments, reply.said)
    return llm.spent(config, _model(config, asked), found)


# --- what goes wrong --------------------------------------------------------------------------


def _refused(config: Config, response: httpx2.Response) -> _Tried:
    """What a status that is no success means."""
    status = response.status_code
    said = _said(config, response)
    message = f"the server answered {status}: {said}" if said else f"the server answered {status}"
    if status == _BUSY:
        # Whoever has no money left is not helped by waiting.
        again = "insufficient_quota" not in said
        answer = Answer(reason="rate_limited", message=message)
        return _Tried(answer=answer, again=again, after=_after(response))
    if status == _TIMED_OUT or httpx2.codes.is_server_error(status):
        answer = Answer(reason="server_error", message=message)
        return _Tried(answer=answer, again=True, after=_after(response))
    if httpx2.codes.is_redirect(status):
        message = f"the server answered {status}: it is elsewhere, and is not followed; see `url`"
    return _Tried(answer=Answer(reason="client_error", message=message))


def _said(config: Config, response: httpx2.Response) -> str:
    """What a server says about a refusal, as far as it is worth reading."""
    found = bytearray()
    try:
        for chunk in response.iter_bytes():
            found += chunk
            if len(found) >= _REFUSAL_BYTES:
                break
    except Unreached:
        # The status has said what matters.
        pass
    text = found[:_REFUSAL_BYTES].decode(errors="replace")
    try:
        told = replies.read(text)
    except BadReply:
        told = text
    error = told.get("error", told) if isinstance(told, dict) else told
    if isinstance(error, dict):
        parts = (error.get("code"), error.get("message"))
        error = ": ".join(str(part) for part in parts if part) or values.canonical(error)
    shown = replies.clean(str(error)) if error else ""
    return _without_key(config, " ".join(shown.split())[:500])


def _broken(config: Config, asked: Asked, reply: Reply, error: Exception) -> _Tried:
    """What it means that a request came to no end."""
    reason, message = "interrupted", f"{type(error).__name__}: {error}"
    if isinstance(error, Unreached):
        reason, message = error.reason, error.message
    # Nothing was sent, so nothing will be on a bill.
    unsent = reason in {"unreachable", "blocked", "arguments_refused"}
    used = {} if unsent else _used(config, asked, reply)
    if reason == "interrupted":
        heard = "after a part of its answer" if reply.said else "before its answer"
        message = f"the server broke off {heard}: {message}"
    again = reason == "unreachable" or (reason == "interrupted" and not reply.said)
    answer = Answer(reason=reason, message=_without_key(config, message), usage=used)
    return _Tried(answer=answer, again=again)


def _without_key(config: Config, text: str) -> str:
    return text if config.api_key is None else text.replace(config.api_key, "[api_key]")


def _after(response: httpx2.Response) -> float | None:
    """Seconds for which a server asks to be left alone; None where it does not say."""
    given = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
        try:
            moment = parsedate_to_datetime(given)
        except ValueError:
            return None
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _pause(asked: Asked, number: int) -> float:
    """Seconds before the next try: longer each time, and not the same for all who wait."""
    longest = min(_PAUSE_SECONDS * 2.0**number, _MOST_PAUSE_SECONDS)
    seed = hashlib.sha256(f"{asked.idempotency_key}/{number}".encode()).digest()
    return longest * (0.5 + seed[0] / 512)


@dataclass(slots=True)
class _Word:
    """The first word of an answer, and until when it is waited for."""

    #: Monotonic seconds.
    until: float
    seconds: float

    def heard(self) -> None:
        """It is there."""
        self.until = math.inf

    def check(self) -> None:
        """Give up where it does not come. Raises `Unreached`."""
        if time.monotonic() >= self.until:
            raise Unreached("timeout", f"no word came within {self.seconds:g} s")


def _reach(config: Config, asked: Asked, until: float, word: _Word) -> Reach:
    """What one request goes through: to the server that is configured, and nowhere else."""
    guard = connections.guard(asked, config.allow_private, until - time.monotonic())
    patient = replace(guard, check=word.check)
    return Reach(patient, hosts=[origins.origin(config.url)], max_bytes=_WIRE_BYTES)
