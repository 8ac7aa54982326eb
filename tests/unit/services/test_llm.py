"""A service of language models: what may be registered, what a call is guessed to cost, and costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest

from engine import tools
from engine.errors import Invalid
from engine.services import llm, replies
from engine.services.replies import BadReply, Reply

PRICE = {"input_usd_per_million": 2, "output_usd_per_million": 8}
CHEAP = {"input_usd_per_million": 0.0375, "output_usd_per_million": 0.15}
PLAIN: dict[str, Any] = {"url": "https://api.example.com/v1/", "models": {"big": PRICE}}
SAID = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"url": None}, "config.url"),
        ({"url": "ftp://host/v1"}, "config.url"),
        ({"url": "https://user:pass@host/v1"}, "config.url"),
        ({"url": "https://host/v1?key=1"}, "config.url"),
        ({"url": "https://host:99999/v1"}, "config.url"),
        ({"url": "https://host/v1/chat/completions"}, "config.url"),
        ({"api_key": "sk-in-the-open"}, "config.api_key"),
        ({"models": {}}, "config.models"),
        ({"models": {"big": {"input_usd_per_million": 1}}}, "config.models.big.output_usd_per_million"),
        ({"models": {"big": {**PRICE, "per_call": 1}}}, "config.models.big.per_call"),
        ({"models": {"a b": PRICE}}, "config.models.a b"),
        ({"models": {"big": {**PRICE, "max_output": 0}}}, "config.models.big.max_output"),
        ({"model": "bigg"}, "config.model"),
        ({"attempts": 0}, "config.attempts"),
        ({"timeout": "forever"}, "config.timeout"),
        ({"headers": {"Authorization": "Bearer x"}}, "config.headers.Authorization"),
        ({"headers": {"api-key": "x"}}, "config.headers.api-key"),
        ({"headers": {"X-One": "two\r\nlines: yes"}}, "config.headers.X-One"),
        ({"headers": {"no name": "x"}}, "config.headers.no name"),
        ({"temperature": 1}, "config.temperature"),
        ({"allow_private": "yes"}, "config.allow_private"),
        ({"allow_private": ["here"]}, "config.allow_private[0]"),
        ({"max_tokens_as": "limit"}, "config.max_tokens_as"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_at_its_place(change, path):
    with pytest.raises(Invalid) as refused:
        llm.read({**PLAIN, **change})
    assert path in [problem.path for problem in refused.value.problems]


def test_every_problem_is_told_at_once():
    with pytest.raises(Invalid) as refused:
        llm.read({"models": {"big": {}}, "attempts": 99, "api_key": 5})
    assert len(refused.value.problems) == 5


def test_a_key_is_a_secret_when_it_is_registered_and_itself_when_it_is_used():
    assert llm.read({**PLAIN, "api_key": "$env.OPENAI_KEY"}).api_key == "$env.OPENAI_KEY"
    assert llm.read({**PLAIN, "api_key": "sk-1"}, resolved=True).api_key == "sk-1"


def test_the_only_model_is_asked_where_none_is_named():
    one, two = llm.read(PLAIN), llm.read({**PLAIN, "models": {"big": PRICE, "small": CHEAP}})
    assert (one.model, two.model, one.url) == ("big", None, "https://api.example.com/v1")
    assert tools.bound(one.parameters, (), {"kwargs": {"messages": SAID}}).problems == ()
    (missing,) = tools.bound(two.parameters, (), {"kwargs": {"messages": SAID}}).problems
    assert missing.path == "arguments.model"


@pytest.mark.parametrize(
    "arguments",
    [
        {"messages": []},
        {"messages": [{"role": "judge", "content": "x"}]},
        {"messages": SAID, "model": "huge"},
        {"messages": SAID, "temperature": 3},
        {"messages": SAID, "max_tokens": 0},
        {"messages": SAID, "tools": [{"type": "function"}]},
        {"messages": SAID, "api_key": "sk-mine"},
    ],
)
def test_a_call_that_does_not_fit_is_told_where(arguments):
    found = tools.bound(llm.read(PLAIN).parameters, (), {"kwargs": arguments})
    assert found.problems


def test_its_parameters_are_such_as_a_tool_may_have():
    assert tools.terms({"parameters": dict(llm.read(PLAIN).parameters)}).schema is not None


# --- what it costs ------------------------------------------------------------------------------


def test_what_was_at_hand_costs_what_the_table_says_to_the_last_digit():
    price = {**CHEAP, "cached_input_usd_per_million": 0.01}
    config = llm.read({**PLAIN, "models": {"small": price}})
    told = {
        "prompt_tokens": 1001,
        "completion_tokens": 7,
        "total_tokens": 1008,
        "prompt_tokens_details": {"cached_tokens": 1000},
    }
    found = llm.used(told)
    assert found is not None
    usage = llm.spent(config, "small", found)
    assert Decimal(str(usage["cost_usd"])) == Decimal("0.0000110875")
    assert (usage["tokens_used"], usage["cached_tokens"], usage["llm_calls"]) == (1008, 1000, 1)


@pytest.mark.parametrize(
    "told",
    [
        None,
        "many",
        {},
        {"total_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": 1e300},
        {"completion_tokens": 2**60},
    ],
)
def test_a_usage_that_cannot_be_is_none(told):
    assert llm.used(told) is None


def test_what_is_set_aside_is_no_less_than_what_is_answered_at_the_most():
    config = llm.read({**PLAIN, "models": {"big": {**PRICE, "max_output": 1000}}})
    asked = {"messages": [{"role": "user", "content": "word " * 300}]}
    whole = llm.estimate(config, asked)
    less = llm.estimate(config, {**asked, "max_tokens": 10})
    assert 1300 < whole["tokens_used"] < 2000
    assert whole["cost_usd"] > less["cost_usd"] > 300 * 2 / 1e6
    assert llm.body(config, asked)["max_tokens"] == 1000
    assert llm.body(config, {**asked, "max_tokens": 5000})["max_tokens"] == 1000


def test_a_picture_is_not_counted_by_its_letters():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}}
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, picture]}]}
    assert llm.prompt_tokens(asked) < 2100


# --- what is asked ------------------------------------------------------------------------------


def test_a_schema_is_strict_where_every_object_says_all_of_itself():
    config = llm.read({**PLAIN, "max_tokens_as": "max_completion_tokens"})
    inner = {"type": "object", "properties": {"n": {}}, "required": ["n"]}

    def strict(schema):
        body: Any = llm.body(config, {"messages": SAID, "schema": schema, "max_tokens": 5})
        assert body["max_completion_tokens"] == 5
        return body["response_format"]["json_schema"]["strict"]

    closed = {**inner, "additionalProperties": False}
    assert strict(closed)
    assert not strict(inner)
    assert not strict({**closed, "required": []})
    assert not strict({**closed, "properties": {"n": inner}})
    assert not strict({**closed, "properties": {"n": {"anyOf": [closed, inner]}}})


def test_a_choice_among_no_tools_is_not_sent():
    body = llm.body(llm.read(PLAIN), {"messages": SAID, "tools": [], "tool_choice": "none"})
    assert not {"tools", "tool_choice"} & body.keys()


# --- replies ------------------------------------------------------------------------------------


def piece(**delta: Any) -> str:
    return orjson.dumps({"choices": [{"delta": delta}]}).decode()


def asks(index: int | None = None, id: str | None = None, name: str = "", text: str = "") -> str:  # noqa: A002
    call: dict[str, Any] = {"function": {"arguments": text}}
    if name:
        call["function"]["name"] = name
    if id is not None:
        call["id"] = id
    if index is not None:
        call["index"] = index
    return piece(tool_calls=[call])


def calls(*pieces: str) -> list[tuple[str, str, str]]:
    reply = Reply()
    for each in pieces:
        reply.take(each)
    found: Any = reply.value()["tool_calls"]
    return [(call["id"], call["name"], call["arguments"]) for call in found]


@pytest.mark.parametrize(
    "pieces",
    [
        (asks(0, "a", "f", "{"), asks(0, text="}"), asks(1, "b", "g", "{}")),
        (asks(0, "a", "f", "{"), asks(1, "b", "g", "{}"), asks(0, text="}")),
        # Without an index, with the same for all, with the id and the name in every piece.
        (asks(None, "a", "f", "{"), asks(None, text="}"), asks(None, "b", "g", "{}")),
        (asks(0, "a", "f", "{}"), asks(0, "b", "g", "{}")),
        (asks(0, "a", "f", "{"), asks(0, "a", "f", "}"), asks(1, "b", "g", "{}")),
    ],
)
def test_tools_come_in_pieces_of_many_ways(pieces):
    assert calls(*pieces) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_a_tool_without_an_id_gets_one():
    assert calls(asks(0, name="f"), asks(1, name="g")) == [("call_0", "f", ""), ("call_1", "g", "")]


def test_halves_of_a_character_are_put_together_and_what_cannot_be_stored_is_replaced():
    reply = Reply()
    shown = [reply.take('{"choices":[{"delta":{"content":"\\ud83d"}}]}')]
    shown.append(reply.take('{"choices":[{"delta":{"content":"\\ude00 \\u0000 \\ud83d"}}]}'))
    assert reply.value()["content"] == "😀 � �"
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("no json", "bad_response"),
        ("[" * 100_000, "bad_response"),
        ('{"choices":[{"delta":' + '{"a":' * 100 + "1" + "}" * 102 + "]}", "bad_response"),
        ('{"n": ' + "9" * 5000 + "}", "bad_response"),
        ("[]", "bad_response"),
        ("{}", "bad_response"),
        ('{"choices": [5]}', "bad_response"),
        ('{"choices": [{"delta": "x"}]}', "bad_response"),
        ('{"choices": [{"delta": {"content": 5}}]}', "bad_response"),
        ('{"choices": [{"delta": {"tool_calls": {}}}]}', "bad_response"),
        ('{"choices": [{"delta": {"tool_calls": [5]}}]}', "bad_response"),
        (asks(-1, "a", "f"), "bad_response"),
        (asks(128, "a", "f"), "bad_response"),
        (piece(tool_calls=[{"index": 0, "function": {"name": 5}}]), "bad_response"),
        (piece(content="x" * (replies.REPLY_BYTES + 1)), "output_too_large"),
        ('{"error": {"message": "boom", "type": "server_error"}}', "server_error"),
        ('{"error": {"message": "slow down", "type": "rate_limit_exceeded"}}', "rate_limited"),
        ('{"error": "boom"}', "server_error"),
    ],
)
def test_what_is_no_piece_of_a_reply_is_told_as_such(data, reason):
    with pytest.raises(BadReply) as bad:
        Reply().take(data)
    assert bad.value.reason == reason
    assert len(bad.value.message) < 600


def test_many_small_pieces_are_bounded_as_a_large_one_is():
    reply = Reply()
    taken = (reply.take(asks(0, text="x" * 1000)) for _ in range(10_000))
    with pytest.raises(BadReply, match="larger than"):
        list(taken)


def test_too_many_tools_without_an_index_are_too_many():
    with pytest.raises(BadReply):
        calls(*(asks(None, str(n), "f") for n in range(200)))


def test_other_choices_are_not_heard():
    reply = Reply()
    reply.take('{"choices":[{"index":1,"delta":{"content":"other"}}]}')
    with pytest.raises(BadReply):
        reply.value()
    assert reply.take('{"choices":[{"index":0,"delta":{"content":"mine"}}]}') == "mine"
    assert reply.said == "mine"


SCHEMA: Any = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"content": None}, "said nothing"),
        ({"content": "n is 5"}, "not JSON"),
        ({"content": '{"n": "five"}'}, "answer.n"),
        ({"content": "{}"}, "required"),
        ({"content": '{"n": 1', "finish_reason": "length"}, "cut off"),
        ({"content": '{"n": 1}', "refusal": "I must not"}, "I must not"),
    ],
)
def test_an_answer_that_is_not_of_the_schema_is_told_what_is_wrong(reply, told):
    with pytest.raises(BadReply, match=told) as bad:
        replies.answer(reply, SCHEMA)
    assert bad.value.reason == "schema_mismatch"


def test_an_answer_of_the_schema_is_its_value():
    assert replies.answer({"content": ' {"n": 5} '}, SCHEMA) == {"n": 5}
