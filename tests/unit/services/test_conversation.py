"""The loop of an agent, without a model: who is asked what next, whatever is heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.core import values
from engine.services import conversation
from engine.services.conversation import Broken, Call, Heard, Said, Tool, Unusable

ADD = Tool(
    uses="math.add@2",
    description="Add two numbers.",
    schema={
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)
LOOSE = Tool(uses="look", description="", schema={"type": "object"}, held=False)


def asks(*calls: tuple[str, str], content: str | None = None, **more: Any) -> Heard:
    listed = [
        {"id": f"c{i}", "name": name, "arguments": text} for i, (name, text) in enumerate(calls)
    ]
    usage = {"tokens_used": 10, "cost_usd": 0.25}
    reply = {"content": content, "tool_calls": listed, "finish_reason": "stop", "usage": usage}
    return Heard(ok=True, value={**reply, **more})


def says(text: str, **more: Any) -> Heard:
    return asks(content=text, **more)


def play(
    hear: Callable[[Call, int], Heard] | Sequence[Heard],
    *offered: Tool,
    **given: Any,
) -> tuple[list[Call], Said | Broken]:
    """All calls of a conversation, and how it ended."""
    talk = conversation.begun("llm", {"prompt": "2 + 3?", **given}, offered or (ADD,))
    steps = conversation.converse(talk)
    made: list[Call] = []
    try:
        call = next(steps)
        while True:
            made.append(call)
            heard = hear(call, len(made)) if callable(hear) else hear[len(made) - 1]
            call = steps.send(heard)
    except StopIteration as stopped:
        return made, stopped.value


def told(call: Call) -> Any:
    """What the model was told last, before it was asked again."""
    messages: Any = call.arguments["messages"]
    return messages[-1]["content"]


def test_a_tool_is_called_and_its_answer_told_until_none_is_asked_for():
    made, end = play(
        [asks(("math_add", '{"a": 2, "b": 3}')), Heard(ok=True, value=5), says("It is 5.")]
    )
    first, tool, second = made
    assert (first.uses, first.by_model, tool.uses, tool.by_model) == (
        "llm",
        False,
        "math.add@2",
        True,
    )
    assert first.arguments["messages"] == [{"role": "user", "content": "2 + 3?"}]
    assert tool.arguments == {"a": 2, "b": 3}
    messages: Any = second.arguments["messages"]
    assert messages[1]["tool_calls"][0]["function"] == {
        "name": "math_add",
        "arguments": '{"a": 2, "b": 3}',
    }
    assert messages[2] == {"role": "tool", "tool_call_id": "c0", "content": "5"}
    assert isinstance(end, Said)
    assert (end.result["content"], end.result["turns"], end.result["tool_calls"]) == (
        "It is 5.",
        2,
        1,
    )
    assert end.result["usage"] == {"tokens_used": 20, "cost_usd": 0.5}
    assert end.result["messages"] == [*messages, {"role": "assistant", "content": "It is 5."}]


def test_the_same_is_asked_whenever_the_same_is_heard():
    def hear(call: Call, number: int) -> Heard:
        if call.by_model:
            return Heard(ok=True, value={"n": number})
        return asks(("math_add", '{"a":1,"b":2}'), ("look", "")) if number < 9 else says("done")

    assert play(hear, ADD, LOOSE) == play(hear, ADD, LOOSE)


def test_several_tools_of_a_turn_are_called_in_order():
    heard = [
        asks(("look", '{"n": 1}'), ("math_add", '{"a": 1, "b": 1}'), ("look", '{"n": 2}')),
        *(Heard(ok=True, value=text) for text in ("one", "two", "three")),
        says("done"),
    ]
    made, _ = play(heard, ADD, LOOSE)
    assert [call.uses for call in made] == ["llm", "look", "math.add@2", "look", "llm"]
    messages: Any = made[-1].arguments["messages"]
    assert [message["content"] for message in messages[-3:]] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("subtract", "{}", "no_such_tool"),
        ("", "{}", "no_such_tool"),
        ("math.add@2", "{}", "no_such_tool"),
        ("math_add", '{"a": 1', "arguments_refused"),
        ("math_add", "[1, 2]", "arguments_refused"),
        ("math_add", '{"a": 1}', "arguments_refused"),
        ("math_add", '{"a": 1, "a": 2, "b": 3}', "arguments_refused"),
        ("math_add", '{"a": 1, "b": "two"}', "arguments_refused"),
        ("math_add", '{"a": 1, "b": 2, "c": 3}', "arguments_refused"),
        ("math_add", '{"a": NaN, "b": 2}', "arguments_refused"),
        ("math_add", "", "arguments_refused"),
    ],
)
def test_what_cannot_be_called_is_told_to_the_model_and_not_called(name, text, reason):
    made, end = play([asks((name, text)), says("sorry")])
    assert [call.uses for call in made] == ["llm", "llm"]
    assert values.parse(told(made[1]))["error"] == reason  # type: ignore[index,call-overload]
    assert isinstance(end, Said)
    # What is told again can be read, whatever it was.
    messages: Any = made[1].arguments["messages"]
    function = messages[1]["tool_calls"][0]["function"]
    assert isinstance(values.parse(function["arguments"]), dict)
    assert function["name"]


def test_a_tool_that_declares_nothing_takes_whatever_it_is_given():
    made, _ = play([asks(("look", "")), Heard(ok=True), says("done")], LOOSE)
    assert (made[1].arguments, told(made[2])) == ({}, "null")


def test_a_call_that_is_denied_or_fails_is_told_and_the_model_goes_on():
    refused = Heard(ok=False, reason="rejected", message="no sums on Sundays")
    made, end = play([asks(("math_add", '{"a": 1, "b": 2}')), refused, says("later then")])
    assert values.parse(told(made[2])) == {"error": "rejected", "message": "no sums on Sundays"}
    assert isinstance(end, Said)


def test_a_long_answer_is_told_in_part():
    long = Heard(ok=True, value="x" * (conversation.TOLD + 5))
    made, _ = play([asks(("look", "")), long, says("done")], LOOSE)
    assert told(made[2]).endswith(
        f"(the first {conversation.TOLD} of {conversation.TOLD + 5} characters)"
    )


def test_a_model_that_cannot_be_asked_ends_it():
    made, end = play([Heard(ok=False, reason="timeout", message="no word")])
    assert (len(made), end) == (1, Broken(reason="timeout", message="no word"))


@pytest.mark.parametrize("value", [None, "text", {"content": "x", "tool_calls": {}}])
def test_what_is_no_reply_ends_it(value):
    _, end = play([Heard(ok=True, value=value)])
    assert isinstance(end, Broken)
    assert end.reason == "bad_response"


def test_tools_that_are_asked_for_in_the_last_turn_are_not_called():
    def hear(call: Call, _number: int) -> Heard:
        return Heard(ok=True, value=1) if call.by_model else asks(("look", ""))

    made, end = play(hear, LOOSE, max_turns=3)
    assert [call.uses for call in made] == ["llm", "look", "llm", "look", "llm"]
    assert isinstance(end, Broken)
    assert end.reason == "max_turns"


def test_a_conversation_that_grows_too_long_ends_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversation, "MOST_BYTES", 5000)

    def hear(call: Call, number: int) -> Heard:
        return Heard(ok=True, value="x" * 1000) if call.by_model else asks(("look", "{}"))

    made, end = play(hear, LOOSE)
    assert isinstance(end, Broken)
    assert (end.reason, end.for_good) == ("arguments_too_large", True)
    assert "turn 4 would send" in end.message
    sent = [call.arguments["messages"] for call in made if not call.by_model]
    # Each turn counts all that it repeats.
    assert 3000 < sum(len(values.canonical(each)) for each in sent) <= 5000


def test_what_the_node_says_of_the_model_is_said_in_every_turn():
    schema = {"type": "object"}
    given = {"schema": schema, "temperature": 0, "max_tokens": 5, "model": "big", "stream": False}
    made, end = play(
        [asks(("math_add", "{}")), says('{"n": 1}', value={"n": 1})],
        **given,
        system="Be brief.",
        messages=[{"role": "assistant", "content": "Hi."}],
        seed=None,
    )
    for call in made:
        assert {name: call.arguments[name] for name in given} == given
        assert "seed" not in call.arguments
    opening: Any = made[0].arguments["messages"]
    assert [message["role"] for message in opening] == ["system", "assistant", "user"]
    assert isinstance(end, Said)
    assert end.result["value"] == {"n": 1}


def test_a_refusal_is_the_end_and_is_told():
    _, end = play([asks(content=None, refusal="I must not.")])
    assert isinstance(end, Said)
    assert end.result["refusal"] == "I must not."
    assert end.result["messages"][-1]["content"] == "I must not."  # type: ignore[index,call-overload]


def test_tools_have_names_that_every_server_takes_and_no_two_the_same():
    long = "x" * 100
    named = [
        Tool(uses=uses, description="", schema={})
        for uses in ("a.b", "a_b", "a.b@3", long, long + "y")
    ]
    talk = conversation.begun("llm", {"prompt": "?"}, named)
    assert [*talk.tools] == ["a_b", "a_b_2", "a_b_3", "x" * 64, "x" * 60 + "_2"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "prompt"),
        ({"system": "Be brief."}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "?", "system": 5}, "system"),
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "prompt"),
        ({"prompt": "?", "max_turns": 0}, "max_turns"),
        ({"prompt": "?", "max_turns": True}, "max_turns"),
        ({"prompt": "?", "max_turns": "3"}, "max_turns"),
    ],
)  # fmt: skip
def test_what_comes_to_no_conversation_is_told_by_its_field(given, field):
    with pytest.raises(Unusable, match=f"^{field}"):
        conversation.begun("llm", given, ())


@pytest.mark.parametrize("tools", ["search", [5], [f"t{n}" for n in range(129)]])
def test_what_are_no_tools_is_told(tools):
    with pytest.raises(Unusable, match=r"^tools"):
        conversation.wanted({"tools": tools})


def test_a_tool_that_is_named_twice_is_offered_once():
    assert conversation.wanted({"tools": ["a", "b@2", "a"]}) == ["a", "b@2"]
    assert conversation.wanted({}) == []
