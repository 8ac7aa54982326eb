"""Asking a model over the network: a server that does all that servers do."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest

from tests.support.llm import Close, Hang, Raw, Refuse, Say, Server, scripted, serving
from workers.services import llm
from workers.services.service import Answer, Asked

PRICE = {
    "input_usd_per_million": 2.5,
    "output_usd_per_million": 10,
    "cached_input_usd_per_million": 1.25,
}
SAID = [{"role": "user", "content": "how are you"}]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """What a server that does not say how long it wants to be left alone is left alone for."""
    monkeypatch.setattr(llm, "_PAUSE_SECONDS", 0.01)


class Heard:
    """What was told as it came."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.first = threading.Event()

    def __call__(self, text: str) -> None:
        self.pieces.append(text)
        self.first.set()


def ask(server: Server | str, *, seconds: float = 10, **given: Any) -> Answer:
    url = server if isinstance(server, str) else server.url
    config = {
        "url": url,
        "allow_private": ["127.0.0.1"],
        "models": {"big": PRICE},
        **given.pop("config", {}),
    }
    stopped = given.pop("stopped", threading.Event())
    say = given.pop("say", lambda _: None)
    arguments = {"model": "big", "messages": SAID, "stream": True, **given}
    return llm.carry(
        Asked(
            config=config,
            arguments=arguments,
            idempotency_key="k1",
            seconds=seconds,
            stopped=stopped,
            say=say,
            private=("127.0.0.0/8",),
        )
    )


def value(answer: Answer) -> dict[str, Any]:
    assert answer.reason is None, answer
    assert isinstance(answer.value, dict)
    return answer.value


# --- what goes well -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_and_dollars_are_those_that_the_server_counts(stream):
    with serving(scripted(Say(text="I am well today", cached=2))) as server:
        answer = ask(server, stream=stream, config={"api_key": "sk-1"})
        found = value(answer)
        assert (found["content"], found["finish_reason"]) == ("I am well today", "stop")
        assert found["model"] == "big-2026"
        assert answer.model == "big"
        assert answer.usage["tokens_used"] == server.tokens > 0
        cost = Decimal(str(answer.usage["cost_usd"]))
        assert cost == server.cost("2.5", "10", "1.25")
        assert "tokens_guessed" not in answer.usage
        (request,) = server.requests
        assert request.headers["authorization"] == "Bearer sk-1"
        assert request.headers["idempotency-key"] == "k1"
        assert request.body.get("stream", False) is stream


def test_words_are_told_as_they_come():
    heard, go = Heard(), threading.Event()
    with serving(scripted(Say(text="one two three", hold=go))) as server:
        done: list[Answer] = []
        thread = threading.Thread(target=lambda: done.append(ask(server, say=heard)))
        thread.start()
        assert heard.first.wait(10)
        assert not done
        go.set()
        thread.join(10)
    assert heard.pieces == ["one", " two", " three"]
    assert value(done[0])["content"] == "one two three"


@pytest.mark.parametrize("stream", [True, False])
def test_tools_are_put_together_from_their_pieces(stream):
    said = Say(text="I look", calls=[("find", {"what": "ünï\n"}), ("add", "{broken")])
    with serving(scripted(said)) as server:
        found = value(ask(server, stream=stream))
    assert found["finish_reason"] == "tool_calls"
    assert [call["name"] for call in found["tool_calls"]] == ["find", "add"]
    assert found["tool_calls"][1] == {"id": "call_1", "name": "add", "arguments": "{broken"}


def test_an_answer_of_a_schema_has_its_value():
    with serving(scripted(Say(text='{"n": 5}'))) as server:
        assert value(ask(server, schema=SCHEMA))["value"] == {"n": 5}
        asked = server.requests[0].body["response_format"]
    assert asked["json_schema"] == {"name": "answer", "schema": SCHEMA, "strict": True}


def test_one_that_streams_though_it_was_not_asked_to_and_the_other_way_around_are_understood():
    whole = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"total_tokens":3}}'
    stream = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
    answers = Raw(data=whole, content_type="application/json"), Raw(data=stream)
    with serving(scripted(*answers)) as server:
        assert value(ask(server))["content"] == "hi"
        assert value(ask(server, stream=False))["content"] == "hi"


def test_who_does_not_say_what_was_used_is_charged_by_size():
    with serving(scripted(Say(text="some words", counted=False))) as server:
        answer = ask(server)
    assert answer.usage["tokens_guessed"] == answer.usage["tokens_used"] > 0
    assert answer.usage["cost_usd"] > 0


# --- what is tried again ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_server_that_is_busy_is_asked_again(status):
    with serving(scripted(Refuse(status=status), Say(text="now"))) as server:
        answer = ask(server)
        assert value(answer)["content"] == "now"
        assert len(server.requests) == 2
        assert answer.usage["tokens_used"] == server.tokens


@pytest.mark.parametrize("stated", ["seconds", "date"])
def test_it_is_left_alone_for_as_long_as_it_asks(stated):
    at = datetime.now(UTC) + timedelta(seconds=2)
    after = "1" if stated == "seconds" else format_datetime(at, usegmt=True)
    with serving(scripted(Refuse(status=429, retry_after=after), Say(text="now"))) as server:
        began = time.monotonic()
        assert value(ask(server))["content"] == "now"
        assert time.monotonic() - began >= 0.9


@pytest.mark.parametrize("after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_it_is_not_waited_for_beyond_the_time_that_is_left(after):
    with serving(scripted(Refuse(status=429, retry_after=after))) as server:
        began = time.monotonic()
        answer = ask(server, seconds=5)
        assert time.monotonic() - began < 4
        assert (answer.reason, len(server.requests)) == ("rate_limited", 1)
        assert "too late" in str(answer.message)


@pytest.mark.parametrize("after", ["soon", "-5", "nan", "inf", "", "Wed, 99 Foo"])
def test_a_pause_that_means_nothing_is_ours_to_choose(after):
    with serving(scripted(Refuse(status=429, retry_after=after), Say(text="now"))) as server:
        assert value(ask(server))["content"] == "now"


def test_the_last_refusal_is_the_answer():
    with serving(scripted(Refuse(status=429, message="too many"))) as server:
        answer = ask(server, config={"attempts": 3})
        assert (answer.reason, len(server.requests)) == ("rate_limited", 3)
        assert "too many" in str(answer.message)
        assert answer.usage == {"tokens_used": 0, "cost_usd": 0}


def test_who_has_no_money_left_does_not_wait_for_some():
    with serving(scripted(Refuse(status=429, code="insufficient_quota"))) as server:
        assert ask(server).reason == "rate_limited"
        assert len(server.requests) == 1


def test_a_connection_that_ends_before_an_answer_is_opened_again():
    with serving(scripted(Close(), Say(text="now"))) as server:
        assert value(ask(server))["content"] == "now"
        assert len(server.requests) == 2


def test_a_server_that_is_not_there_is_unreachable():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        answer = ask(f"http://127.0.0.1:{probe.getsockname()[1]}/v1")
    assert (answer.reason, answer.usage["tokens_used"]) == ("unreachable", 0)


def test_a_host_that_has_no_address_is_unreachable():
    assert ask("http://nowhere.invalid/v1", config={"attempts": 1}).reason == "unreachable"


# --- what is not --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_is_refused_for_good_is_asked_once(status):
    refusal = Refuse(status=status, message="Incorrect API key provided: sk-1")
    with serving(scripted(refusal)) as server:
        answer = ask(server, config={"api_key": "sk-1"})
        assert (answer.reason, len(server.requests)) == ("client_error", 1)
    assert str(status) in str(answer.message)
    assert "Incorrect" in str(answer.message)
    assert "sk-1" not in str(answer.message)


def test_nobody_is_followed_elsewhere():
    with serving(scripted(Say(text="stolen"))) as thief:
        moved = Refuse(status=307, message="over there")
        with serving(scripted(moved)) as server:
            answer = ask(server)
        assert (answer.reason, thief.requests) == ("client_error", [])


def test_a_stream_that_breaks_off_after_a_word_is_not_begun_anew():
    heard = Heard()
    with serving(scripted(Say(text="one two three", drop=2), Say(text="again"))) as server:
        answer = ask(server, say=heard)
        assert (answer.reason, len(server.requests)) == ("interrupted", 1)
    assert "".join(heard.pieces) == "one two"
    # What was heard will be on the bill.
    assert answer.usage["tokens_guessed"] == answer.usage["tokens_used"] > 5
    assert answer.usage["cost_usd"] > 0


def test_a_stream_that_breaks_off_before_a_word_is_begun_anew_and_both_are_counted():
    said = Say(calls=[("find", "{}")], drop=1), Say(text="again")
    with serving(scripted(*said)) as server:
        answer = ask(server)
        assert (value(answer)["content"], len(server.requests)) == ("again", 2)
        assert answer.usage["llm_calls"] == 2
        assert answer.usage["tokens_guessed"] > 0


def test_a_stream_that_ends_in_order_before_its_answer_does_is_no_answer():
    with serving(scripted(Say(text="one two three", cut=2))) as server:
        assert ask(server).reason == "interrupted"


@pytest.mark.parametrize("headers", [True, False])
def test_a_server_that_hangs_is_left_when_no_word_has_come(headers):
    with serving(scripted(Hang(headers=headers))) as server:
        began = time.monotonic()
        answer = ask(server, config={"first_token_timeout": 0.4})
        assert time.monotonic() - began < 3
        assert (answer.reason, len(server.requests)) == ("timeout", 1)
        assert server.left.wait(5)
    assert "0.4 s" in str(answer.message)
    assert answer.usage["tokens_guessed"] > 0


def test_a_server_that_is_slow_is_heard_out_but_not_longer_than_there_is_time():
    slow = Say(text="a b c d e f g h i j", pause=0.12)
    with serving(scripted(slow)) as server:
        assert value(ask(server, config={"first_token_timeout": 0.5}))["content"] == slow.text
        for given in ({"seconds": 0.6}, {"config": {"timeout": 0.6}}):
            answer = ask(server, **given)
            assert (answer.reason, answer.usage["llm_calls"]) == ("timeout", 1)


def test_an_answer_in_one_piece_has_no_first_word_to_wait_for():
    def slowly(_request):
        time.sleep(0.6)
        return Say(text="done")

    with serving(slowly) as server:
        answer = ask(server, stream=False, config={"first_token_timeout": 0.2})
        assert value(answer)["content"] == "done"


@pytest.mark.parametrize("during", ["answer", "pause"])
def test_an_attempt_that_has_ended_asks_no_longer(during):
    stopped, heard = threading.Event(), Heard()
    first = Say(text="one two", hold=threading.Event())
    busy = Refuse(status=429, retry_after="8")
    with serving(scripted(first if during == "answer" else busy)) as server:
        done: list[Answer] = []
        thread = threading.Thread(
            target=lambda: done.append(ask(server, stopped=stopped, say=heard))
        )
        thread.start()
        if during == "answer":
            assert heard.first.wait(10)
        stopped.set()
        thread.join(3)
        assert not thread.is_alive()
    assert done[0].reason == "cancelled"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"data: {broken\n\n", "text/event-stream"),
        (b"data: 5\n\ndata: [DONE]\n\n", "text/event-stream"),
        (b"data: [DONE]\n\n", "text/event-stream"),
        (b"data: \xff\xfe{}\n\n", "text/event-stream"),
        (b"{broken", "application/json"),
        (b"{}", "application/json"),
        (b'{"choices": []}', "application/json"),
        (b"<html>hello</html>", "text/html"),
        (b"data: " + b"x" * 1_100_000 + b"\n\n", "text/event-stream"),
    ],
)
def test_what_is_no_answer_is_a_bad_one(data, kind):
    with serving(scripted(Raw(data=data, content_type=kind))) as server:
        answer = ask(server)
        assert (answer.reason, len(server.requests)) == ("bad_response", 1), answer
    assert len(str(answer.message)) < 700


@pytest.mark.parametrize("data", [b"", b": still here\n\n", b"no such line\n\n"])
def test_a_stream_of_nothing_is_interrupted(data):
    with serving(scripted(Raw(data=data))) as server:
        assert ask(server, config={"attempts": 1}).reason == "interrupted"


def test_an_answer_that_is_packed_is_no_larger_than_it_may_be(monkeypatch):
    monkeypatch.setattr(llm, "_WIRE_BYTES", 100_000)
    bomb = Raw(data=gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"})
    with serving(scripted(bomb)) as server:
        assert ask(server).reason == "output_too_large"


def test_a_server_on_a_private_address_is_asked_only_where_that_was_allowed():
    with serving(scripted(Say(text="x"))) as server:
        answer = ask(server, config={"allow_private": []})
        assert (answer.reason, server.requests) == ("blocked", [])
        assert answer.usage["tokens_used"] == 0


def test_an_answer_without_an_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(llm, "_WIRE_BYTES", 50_000)
    monkeypatch.setattr(llm, "_WHOLE_BYTES", 50_000)
    event = b'data: {"choices":[{"delta":{"content":""}}]}\n\n'
    endless = Raw(data=event * 5000), Raw(data=b" " * 100_000, content_type="application/json")
    with serving(scripted(*endless)) as server:
        assert [ask(server).reason for _ in range(2)] == ["output_too_large", "output_too_large"]


def test_an_answer_that_is_not_of_the_schema_fails_and_is_paid_for():
    with serving(scripted(Say(text='{"n": "five"}'))) as server:
        answer = ask(server, schema=SCHEMA)
        assert (answer.reason, len(server.requests)) == ("schema_mismatch", 1)
        assert answer.usage["tokens_used"] == server.tokens
    assert "answer.n" in str(answer.message)


@pytest.mark.parametrize(
    "given",
    [
        {"schema": {"type": "wrong"}},
        {"schema": {"$ref": "https://elsewhere.example/schema"}},
        {"model": "huge"},
    ],
)
def test_what_cannot_be_asked_is_not(given):
    with serving(scripted(Say(text="x"))) as server:
        answer = ask(server, **given)
        assert (answer.reason, server.requests) == ("arguments_refused", [])


def test_a_secret_that_does_not_fit_is_not_told():
    with serving(scripted(Say(text="x"))) as server:
        answer = ask(server, config={"api_key": "two words"})
        assert (answer.reason, server.requests) == ("client_error", [])
    assert "config.api_key" in str(answer.message)
    assert "words" not in str(answer.message)
