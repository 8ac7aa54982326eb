"""Agents on the platform: what they ask a model and do is durable, guarded, counted and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from engine import tools
from engine.capabilities import subject
from engine.core.values import Json
from engine.errors import Invalid
from engine.platform import DatabaseRole, Platform
from engine.runs import (
    answers,
    calls,
    capabilities,
    catalogue,
    policies,
    secrets,
    sweep,
    views,
    waits,
)
from engine.runs.waits import Filter
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.llm import (
    Close,
    Hang,
    Raw,
    Refuse,
    Request,
    Say,
    Script,
    Server,
    scripted,
    serving,
)
from tests.support.platforms import (
    TENANT,
    chain,
    lose_leases,
    publish,
    register,
    sql,
    submit,
    take,
    wake,
)
from workers.execution import Worker
from workers.kinds import execution

pytestmark = pytest.mark.usefixtures("sound")

PRICE = {"input_usd_per_million": 2.5, "output_usd_per_million": 10}
ADD = "def add(a, b):\n    return a + b"
ASK: dict[str, Json] = {
    "kind": "llm",
    "system": "Be brief.",
    "prompt": "What is 2 + 3?",
    "tools": ["add"],
    "save": {"said": "$result.content", "turns": "$result.turns", "usage": "$result.usage"},
}
SUM = {"type": "object", "properties": {name: {"type": "integer"} for name in "ab"}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Services may be on this machine."""
    return replace(settings, private_hosts=("127.0.0.0/8",))


@contextmanager
def model(main: Platform, script: Script, **config: Any) -> Iterator[Server]:
    """A server that follows a script, registered as the service `llm`; and the tool `add`."""
    with serving(script) as server:
        whole = {
            "url": server.url,
            "models": {"big": PRICE},
            "allow_private": ["127.0.0.1"],
            "attempts": 1,
            **config,
        }
        catalogue.register_service(main, TENANT, "llm", "llm", whole, by="ada")
        tool(main, ADD)
        yield server


def tool(main: Platform, source: str, *, effect: str = "pure", **terms: Any) -> None:
    name = source.removeprefix("def ").partition("(")[0]
    asked = tools.terms({"parameters": SUM, **terms})
    catalogue.register(main, TENANT, "tool", name, source, terms=asked, effect=effect, by="ada")


def run(main: Platform, **changes: Any) -> RunId:
    return submit(main, publish(main, chain(ask={**ASK, **changes})))


def adds(*pairs: tuple[int, int], said: str = "It is 5.") -> Script:
    """A model that asks for one sum a turn, then says something."""

    def script(request: Request) -> Say:
        if request.turn <= len(pairs):
            a, b = pairs[request.turn - 1]
            return Say(calls=[("add", {"a": a, "b": b})])
        return Say(text=said)

    return script


def again(main: Platform, worker: Worker, run: RunId) -> views.Detail:
    """Carry a run out, then once more, as if what it waits for by then had come."""
    carry_out(main, worker, run)
    wake(main.settings)
    sweep.sweep(main)
    return carry_out(main, worker, run)


def answer(main: Platform, run: RunId, choice: str) -> None:
    (asked,) = waits.page(main, TENANT, which=Filter(run=run.run, kinds=["permit"]))
    answers.answer(main, run, asked.step, by="eve", choice=choice, digest=asked.digest)


def spent(main: Platform, unit: str) -> Decimal:
    """What the ledger has, of all entries."""
    statement = "SELECT coalesce(sum((usage->>:unit)::numeric), 0) AS sum FROM ledger"
    (row,) = sql(main, statement, unit=unit)
    found: Decimal = row.sum
    return found


def tokens(main: Platform, run: RunId) -> str:
    lines = views.logs(main, run)
    return "".join(line.text for line in lines if line.stream == "tokens")


# --- what it does -------------------------------------------------------------------------------


def test_an_agent_uses_a_tool_and_all_of_it_is_recorded_and_counted(
    main: Platform, worker: Worker
) -> None:
    with model(main, adds((2, 3))) as server:
        started = run(main)
        ended = carry_out(main, worker, started)
        assert ended.status == "completed", ended.message
        assert ended.variables["said"] == "It is 5."
        assert ended.variables["turns"] == 2
        first, used, second = views.calls(main, started)
        assert [call.tool for call in (first, used, second)] == ["llm", "add", "llm"]
        assert used.value == 5
        arguments: Any = first.arguments
        assert arguments["kwargs"]["messages"][1] == {"role": "user", "content": "What is 2 + 3?"}
        (offered,) = arguments["kwargs"]["tools"]
        assert offered["function"]["parameters"] == SUM
        assert server.requests[1].messages[-1]["content"] == "5"
        # The ledger, the usage of the step and its result say what the server says.
        assert spent(main, "tokens_used") == server.tokens > 0
        assert spent(main, "cost_usd") == server.cost("2.5", "10")
        usage: Any = ended.variables["usage"]
        assert usage["tokens_used"] == server.tokens
        (attempt,) = views.attempts(main, started)
        assert attempt.usage["tokens_used"] == server.tokens
        models = sql(main, "SELECT DISTINCT model FROM ledger WHERE tool = 'llm'")
        assert [row.model for row in models] == ["big"]


def test_what_a_model_says_is_shown_as_it_comes_by_the_call_that_it_says_it_in(
    main: Platform, worker: Worker
) -> None:
    long = " ".join(str(number) for number in range(200))
    with model(main, adds((2, 3), said=long)):
        started = run(main)
        carry_out(main, worker, started)
    lines = views.logs(main, started)
    assert "".join(line.text for line in lines) == long
    assert {(line.step, line.attempt, line.stream, line.call) for line in lines} == {
        ("ask#1", 1, "tokens", 3)
    }
    assert len(lines) < 20


def test_an_answer_of_a_schema_can_be_saved_by_field(main: Platform, worker: Worker) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    with model(main, scripted(Say(text='{"sum": 5}'))):
        started = run(main, schema=schema, tools=[], save={"sum": "$result.value.sum"})
        assert carry_out(main, worker, started).variables == {"sum": 5}


def test_a_conversation_is_gone_on_with_in_another_node(main: Platform, worker: Worker) -> None:
    talk = chain(
        first={"kind": "llm", "prompt": "Hello", "save": {"talk": "$result.messages"}},
        second={"kind": "llm", "messages": "$talk", "prompt": "And now?", "save": {"said": "$result.content"}},
    )  # fmt: skip
    with model(main, lambda request: Say(text=f"turn {request.turn}")) as server:
        ended = carry_out(main, worker, submit(main, publish(main, talk)))
    assert ended.variables["said"] == "turn 2"
    said = [message["content"] for message in server.requests[1].messages]
    assert said == ["Hello", "turn 1", "And now?"]


def test_values_are_put_in_where_the_node_says_so(main: Platform, worker: Worker) -> None:
    document = chain(
        ask={"kind": "llm", "prompt": "$question", "save": {"said": "$result.content"}}
    )
    document["inputs"] = {"question": {"type": "string"}}
    with model(main, lambda request: Say(text=request.text("user"))):
        started = submit(main, publish(main, document), question="{{ 7 * 6 }}?")
        assert carry_out(main, worker, started).variables["said"] == "{{ 7 * 6 }}?"


@pytest.mark.parametrize("names", [{"goal": "$goal"}, None])
def test_texts_of_the_document_are_filled_in(main: Platform, worker: Worker, names: Json) -> None:
    ask: dict[str, Json] = {
        "kind": "llm",
        "system": "You serve {{ goal | upper }}.",
        "prompt": "What is {% if goal %}{{ goal }}{% endif %}?",
        "save": {"said": "$result.content"},
    }
    document = chain(ask=ask if names is None else {**ask, "with": names})
    document["inputs"] = {"goal": {"type": "string"}}
    with model(main, lambda request: Say(text=request.text("user"))) as server:
        started = submit(main, publish(main, document), goal="{{ it }}")
        assert carry_out(main, worker, started).variables["said"] == "What is {{ it }}?"
        assert server.requests[0].text("system") == "You serve {{ IT }}."


def test_a_text_that_cannot_be_filled_in_is_not_asked(main: Platform, worker: Worker) -> None:
    with model(main, scripted(Say(text="x"))) as server:
        started = run(main, prompt="What is {{ 1 / 0 }}?", retry={"attempts": 1})
        ended = carry_out(main, worker, started)
        assert (ended.status, ended.reason, server.requests) == ("failed", "error", [])


def test_what_a_text_draws_by_chance_is_the_same_when_the_step_begins_anew(
    main: Platform, worker: Worker
) -> None:
    script: list[Any] = [Say(calls=[("add", {"a": 1, "b": 2})]), Refuse(status=500), Say(text="x")]
    with model(main, scripted(*script)) as server:
        prompt = "{{ range(100000) | random }} {{ lipsum(1) }}"
        started = run(main, prompt=prompt, retry={"attempts": 2})
        ended = again(main, worker, started)
        assert ended.status == "completed", ended.message
        assert len({request.text("user") for request in server.requests}) == 1


# --- what is hidden -----------------------------------------------------------------------------

KEY = "sk-7f3a9c-of-nobody"


@pytest.fixture
def api(settings: Settings, main: Platform) -> Iterator[Platform]:
    """As the API, which alone puts and grants; there is the secret `KEY`."""
    assert main.settings == settings
    with platforms.platform(settings, DatabaseRole.API) as built:
        secrets.put(built.of(TENANT), TENANT, "KEY", KEY, by="ada")
        yield built.of(TENANT)


def grant(api: Platform, whom: str, **profile: Any) -> None:
    capabilities.grant(api, TENANT, subject(whom), profile, by="ada")


def test_a_prompt_that_holds_a_secret_hides_it_from_the_first_call_of_every_attempt(
    main: Platform, worker: Worker, api: Platform
) -> None:
    script: list[Any] = [Say(calls=[("add", {"a": 1, "b": 2})]), Refuse(status=500), Say(text="x")]
    with model(main, scripted(*script), api_key="$env.KEY") as server:
        grant(api, "tool:llm", secrets=["KEY"])
        started = run(main, prompt=f"Is {KEY} mine?", retry={"attempts": 2})
        ended = again(main, worker, started)
        assert ended.status == "completed", ended.message
        assert len(server.requests) == 3
    made = views.calls(main, started)
    assert [call.tool for call in made] == ["llm", "add", "llm", "llm"]
    assert KEY not in f"{made}"
    assert "Is [secret:KEY] mine?" in str(made[0].arguments)


def test_code_that_calls_services_hides_their_secrets_from_the_first_call_on(
    main: Platform, worker: Worker, api: Platform
) -> None:
    source = f"""
def f(state, context):
    ask = lambda text: invoke("llm", messages=[{{"role": "user", "content": text}}])["content"]
    said = [ask("{KEY} 1"), ask("{KEY} 2")]
    if context.attempt == 1:
        raise ValueError("once")
    return {{"said": [*said, ask("{KEY} 3")]}}
"""
    register(main, "f", source)
    with model(main, scripted(*[Say(text="yes")] * 3), api_key="$env.KEY") as server:
        grant(api, "tool:llm", secrets=["KEY"])
        grant(api, "function:f", services=["llm"], hosts=[server.url.removesuffix("/v1")])
        started = submit(main, publish(main, chain(a={"uses": "f", "retry": {"attempts": 2}})))
        ended = again(main, worker, started)
        assert ended.variables.get("said") == ["yes"] * 3, ended.message
        assert len(server.requests) == 3
    assert KEY not in f"{views.calls(main, started)}"


# --- what it is told ----------------------------------------------------------------------------


def test_a_model_that_asks_for_what_cannot_be_is_told_and_goes_on(
    main: Platform, worker: Worker
) -> None:
    bad: list[tuple[str, Any]] = [("subtract", {}), ("add", "{broken"), ("add", {"a": "two"})]

    def script(request: Request) -> Say:
        return Say(calls=bad) if request.turn == 1 else Say(text="sorry")

    with model(main, script) as server:
        started = run(main)
        assert carry_out(main, worker, started).status == "completed"
        told = [json.loads(message["content"]) for message in server.requests[1].messages[-3:]]
    assert [one["error"] for one in told] == ["no_such_tool", *["arguments_refused"] * 2]
    assert [call.tool for call in views.calls(main, started)] == ["llm", "llm"]


def test_a_tool_that_a_policy_denies_is_not_called_and_the_model_is_told(
    main: Platform, worker: Worker
) -> None:
    rule = {"tool": "add", "action": "reject", "message": "no sums"}
    policies.apply(main, TENANT, json.dumps({"policy": "p", "rules": [rule]}), by="ada")
    with model(main, adds((2, 3), said="I may not")) as server:
        started = run(main)
        ended = carry_out(main, worker, started)
        assert (ended.status, ended.variables["said"]) == ("completed", "I may not")
        told = json.loads(server.requests[1].messages[-1]["content"])
    assert told["error"] == "rejected"
    _, denied, _ = views.calls(main, started)
    assert (denied.tool, denied.reason, denied.value) == ("add", "rejected", None)


def test_a_tool_that_fails_is_an_answer_and_the_same_one_when_the_step_begins_anew(
    main: Platform, worker: Worker
) -> None:
    tool(main, "def once(a):\n    raise ValueError('broken')", effect="at_most_once")
    script: list[Any] = [
        Say(calls=[("once", {"a": 1})]),
        Refuse(status=500),
        Say(text="it is broken"),
    ]
    with model(main, scripted(*script)) as server:
        started = run(main, tools=["once"], retry={"attempts": 2})
        ended = again(main, worker, started)
        assert (ended.status, ended.variables["said"]) == ("completed", "it is broken")
        assert len(server.requests) == 3
        assert server.requests[1].messages == server.requests[2].messages
    assert [call.tool for call in views.calls(main, started)] == ["llm", "once", "llm", "llm"]


def test_failures_that_are_served_again_are_not_counted_as_denials(
    main: Platform, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "MOST_DENIED", 3)
    tool(main, "def fail(a):\n    raise ValueError('broken')")
    script: list[Any] = [
        Say(calls=[("fail", {"a": number}) for number in range(4)]),
        Refuse(status=500),
        Say(text="it is broken"),
    ]
    with model(main, scripted(*script)):
        started = run(main, tools=["fail"], retry={"attempts": 2})
        ended = again(main, worker, started)
        assert ended.variables.get("said") == "it is broken", ended.message


def test_a_denial_is_remembered_when_the_step_begins_anew_though_nobody_denies_it_any_more(
    main: Platform, worker: Worker
) -> None:
    rule = {"tool": "add", "action": "reject"}
    policies.apply(main, TENANT, json.dumps({"policy": "p", "rules": [rule]}), by="ada")

    def script(request: Request) -> Say | Refuse:
        if request.turn == 1:
            return Say(calls=[("add", {"a": 2, "b": 3})])
        if request.number == 2:
            policies.withdraw(main, TENANT, "p", by="ada")
            return Refuse(status=503)
        return Say(text="I may not")

    with model(main, script):
        started = run(main, retry={"attempts": 2})
        ended = again(main, worker, started)
    assert (ended.status, ended.variables["said"]) == ("completed", "I may not")


@pytest.mark.parametrize(
    ("effect", "reason", "found"),
    [
        ("pure", "error", calls.Recorded),
        ("at_most_once", "error", calls.Recorded),
        # Cut off with its attempt: that is no answer that a model has heard.
        ("pure", "cancelled", calls.Authorised),
    ],
)
def test_a_failure_that_a_conversation_went_on_from_is_served_again(
    main: Platform, worker: Worker, effect: str, reason: str, found: type
) -> None:
    tool(main, ADD, effect=effect)
    started = submit(main, publish(main, chain(a={"kind": "tool", "tool": "add"})))
    given: Json = {"args": [], "kwargs": {"a": 1, "b": 2}}
    lease = take(worker.platform, started, "a#1")
    asked = calls.authorise(worker.platform, lease, 1, "add", given, settled=True)
    assert isinstance(asked, calls.Authorised)
    ended = calls.Answer(reason=reason, message="so it ended")
    calls.settle(worker.platform, lease, asked, ended)
    lose_leases(main.settings)
    sweep.sweep(main)
    again = take(worker.platform, started, "a#1")
    served = calls.authorise(worker.platform, again, 1, "add", given, settled=True)
    assert isinstance(served, found)
    if isinstance(served, calls.Recorded):
        assert served == calls.Recorded(reason=reason, message="so it ended")


# --- what breaks it off -------------------------------------------------------------------------


def test_an_approval_in_the_middle_gives_the_worker_back_and_repeats_nothing(
    main: Platform, worker: Worker
) -> None:
    tool(main, "def send(a):\n    return 'sent'", effect="at_most_once", requires_approval=True)

    def script(request: Request) -> Say:
        asks = [[("add", {"a": 1, "b": 1})], [("add", {"a": 2, "b": 2}), ("send", {"a": 4})]]
        return Say(calls=asks[request.turn - 1]) if request.turn < 3 else Say(text="done")

    with model(main, script) as server:
        started = run(main, tools=["add", "send"])
        assert carry_out(main, worker, started).status == "running"
        assert sql(main, "SELECT FROM step WHERE status = 'leased'") == []
        assert server.turns == {1: 1, 2: 1}
        answer(main, started, "approve")
        ended = carry_out(main, worker, started)
        assert (ended.status, ended.variables["said"]) == ("completed", "done")
        assert server.turns == {1: 1, 2: 1, 3: 1}
        assert spent(main, "tokens_used") == server.tokens
        usage: Any = ended.variables["usage"]
        assert usage["tokens_used"] == server.tokens
    assert [call.tool for call in views.calls(main, started)] == [
        "llm",
        "add",
        "llm",
        "add",
        "send",
        "llm",
    ]


def test_a_call_that_people_deny_fails_the_step(main: Platform, worker: Worker) -> None:
    tool(main, "def send(a):\n    return 'sent'", requires_approval=True)
    with model(main, scripted(Say(calls=[("send", {"a": 4})]))):
        started = run(main, tools=["send"])
        carry_out(main, worker, started)
        answer(main, started, "deny")
        ended = carry_out(main, worker, started)
    assert (ended.status, ended.reason) == ("failed", "denied")


@pytest.mark.parametrize("metric", ["tokens_used", "cost_usd"])
def test_a_budget_that_has_no_room_for_a_turn_ends_it_before_that_is_asked(
    main: Platform, worker: Worker, metric: str
) -> None:
    # Room for the guess of two turns, of which one is used in full.
    limit = {"tokens_used": 5000, "cost_usd": 0.05}[metric]
    rule = {"name": "b", "scope": "run", "metric": metric, "limit": limit}
    policies.apply(main, TENANT, json.dumps({"policy": "p", "budgets": [rule]}), by="ada")
    pairs = [(n, n) for n in range(30)]
    long = Say(text="word " * 2000, calls=[("add", {"a": 1, "b": 1})])

    def script(request: Request) -> Say:
        return long if request.turn <= len(pairs) else Say(text="done")

    with model(main, script) as server:
        started = run(main, max_turns=50)
        ended = carry_out(main, worker, started)
        assert (ended.status, ended.reason) == ("failed", "over_budget"), ended.message
        assert 1 <= len(server.requests) < 10
        assert spent(main, "tokens_used") == server.tokens
        assert spent(main, metric) <= Decimal(str(limit))


def test_a_model_that_never_ends_fails_at_its_most_turns(main: Platform, worker: Worker) -> None:
    with model(main, adds(*[(n, n) for n in range(50)])) as server:
        started = run(main, max_turns=3, retry={"attempts": 3})
        ended = carry_out(main, worker, started)
        assert (ended.status, ended.reason, len(server.requests)) == ("failed", "max_turns", 3)
    assert [call.tool for call in views.calls(main, started)] == ["llm", "add", "llm", "add", "llm"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Refuse(status=429), "rate_limited"),
        (Refuse(status=502), "server_error"),
        (Refuse(status=401), "client_error"),
        (Hang(), "timeout"),
        (Say(text="one two three", drop=2), "interrupted"),
        (Close(), "interrupted"),
        (Raw(data=b"data: {broken\n\n"), "bad_response"),
        (Raw(data=b"{broken", content_type="application/json"), "bad_response"),
    ],
)
def test_what_a_server_does_is_the_reason_that_a_node_may_be_tried_again_for(
    main: Platform, worker: Worker, fault: Any, reason: str
) -> None:
    with model(main, scripted(fault, Say(text="now")), first_token_timeout=0.3) as server:
        tried = reason != "client_error"
        retry = {"attempts": 2, **({"on": [reason]} if tried else {})}
        started = run(main, retry=retry, tools=[])
        ended = again(main, worker, started)
        assert ended.status == ("completed" if tried else "failed"), ended.message
        assert len(server.requests) == (2 if tried else 1)
        if not tried:
            assert ended.reason == reason
        first = views.calls(main, started)[0]
        assert (first.reason, first.value) == (reason, None)


def test_a_service_on_a_private_address_that_nobody_opened_is_not_asked(
    main: Platform, worker: Worker
) -> None:
    with model(main, scripted(Say(text="x")), allow_private=[]) as server:
        ended = carry_out(main, worker, run(main))
        assert (ended.reason, server.requests) == ("blocked", [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"service": "add"}, "no_such_service"),
        ({"tools": "$said"}, "input_failed"),
        ({"tools": ["$said"]}, "no_such_tool"),
        ({"max_turns": "$said"}, "input_failed"),
        ({"model": "huge"}, "arguments_refused"),
    ],
)
def test_a_node_that_cannot_ask_fails_for_good(
    main: Platform, worker: Worker, changes: Any, reason: str
) -> None:
    document = chain(ask={**ASK, **changes})
    document["variables"] = {"said": {"default": "five"}}
    with model(main, scripted(Say(text="x"))) as server:
        started = submit(main, publish(main, document))
        ended = carry_out(main, worker, started)
        assert (ended.status, ended.reason, server.requests) == ("failed", reason, []), (
            ended.message
        )


def test_a_service_that_cannot_be_registered_is_not(main: Platform) -> None:
    with pytest.raises(Invalid):
        catalogue.register_service(main, TENANT, "llm", "llm", {"url": "nowhere"}, by="ada")
