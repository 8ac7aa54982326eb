"""`celeriac.Client` and what waits: over the real API, with whoever is asked in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import httpx2
import pytest
from click.testing import CliRunner
from flask import Flask

from celeriac.cli import api, main
from celeriac.client import Client, Conflict, Forbidden, Invalid, NotFound
from engine import errors
from engine.platform import Platform
from engine.runs import access, turns
from engine.store import principals, session
from engine.store.ids import RunId
from tests.support import permits, platforms
from tests.support.platforms import TENANT
from tests.support.waiting import waits_at


@pytest.fixture
def client(app: Flask, control: Platform) -> Iterator[Client]:
    key = access.create_key(control.database, replace(access.LOCAL, user="ada"))
    with Client("http://127.0.0.1", key, transport=httpx2.WSGITransport(app=app)) as client:
        yield client


def begin(control: Platform, kind: str, **fields: object) -> str:
    return platforms.submit(
        control,
        platforms.publish(control, waits_at(kind, **fields)),  # type: ignore[arg-type]
    ).run


def settle(control: Platform, run: str) -> None:
    turns.take_turns(control, [RunId(TENANT, run)])


def test_who_is_not_asked_is_forbidden(client: Client, control: Platform) -> None:
    run = begin(control, "approval", **{"from": ["user:bob"]})
    with pytest.raises(Forbidden, match="ada is not asked") as caught:
        client.answer(run, "w#1", "approve")
    assert isinstance(caught.value, errors.Forbidden)


def test_an_answer_that_does_not_fit_says_where(client: Client, control: Platform) -> None:
    run = begin(control, "approval")
    with pytest.raises(Invalid) as caught:
        client.answer(run, "w#1", "maybe")
    assert caught.value.problems[0].path == "choice"
    with pytest.raises(errors.Invalid):
        client.answer(run, "w#1", "approve", {"why": object()})


def test_what_is_asked_is_listed_answered_and_settled(client: Client, control: Platform) -> None:
    run = begin(control, "approval", title="Ship it?", expires="1h")
    (wait,) = client.waits(kind="approval,input")
    assert (wait.run_id, wait.step, wait.title) == (run, "w#1", "Ship it?")
    assert wait.choices == ("approve", "reject")
    assert wait.expires_at is not None
    assert list(client.run(run).waits("event")) == []
    (live,) = client.run(run).live or ()
    assert (live.status, live.wait) == ("waiting", "approval")
    assert client.run(run).answer("w#1", "approve").settled
    assert client.run(run).status == "completed"
    with pytest.raises(Conflict, match="ada answered approve"):
        client.answer(run, "w#1", "reject")


def test_an_event_is_sent_to_a_run_or_to_whoever_matches(client: Client, control: Platform) -> None:
    run = begin(control, "event", name="paid", match={"order": 3})
    kept = client.send("paid", 1, match={"order": 4}, keep_seconds=60)
    assert kept.state == "kept"
    sent = client.run(run).send("paid", {"sum": 2})
    assert (sent.state, sent.claimed_run, sent.sent_by) == ("claimed", run, "ada")
    settle(control, run)
    assert client.run(run).variables == {"found": {"sum": 2}}
    assert [one.id for one in client.sent(state="claimed")] == [sent.id]
    assert client.sent_event(kept.id) == kept
    assert client.send("paid", transient=True).state == "dropped"
    with pytest.raises(NotFound):
        client.sent_event("nonsense")
    with pytest.raises(Conflict, match="has ended"):
        client.run(run).send("paid")


def test_an_event_under_one_key_is_one(client: Client) -> None:
    first = client.send("paid", 1, idempotency_key="k")
    assert client.send("paid", 1, idempotency_key="k") == first
    with pytest.raises(Invalid):
        client.send("paid", 2, idempotency_key="k")


def test_a_map_is_told_more_and_that_it_has_enough(client: Client, control: Platform) -> None:
    platforms.register(control, "noop")
    run = begin(control, "map", over=[1], do="noop")
    assert client.add_items(run, "w#1", [2, 3]) == 3
    assert client.complete(run, "w#1", "enough").status == "running"
    with pytest.raises(Conflict):
        client.add_items(run, "w#1", [4])


def test_children_are_runs_that_know_their_parent(client: Client, control: Platform) -> None:
    inner = {**waits_at("event", name="go"), "outputs": {"got": "$found"}}
    platforms.publish(control, inner)  # type: ignore[arg-type]
    run = begin(control, "workflow", workflow="a-event")
    (child,) = client.run(run).children()
    assert child.parent is not None
    assert (child.parent.run_id, child.parent.step) == (run, "w#1")
    child.send("go", 5)
    settle(control, child.id)
    assert child.refresh().outputs == {"got": 5}
    assert client.run(run).parent is None
    assert client.run(run).outputs is None


def test_a_cancel_may_ask_for_undoing(client: Client, control: Platform, worker: Platform) -> None:
    platforms.register(control, "noop")
    document = platforms.chain(a={"uses": "noop", "compensate": "noop"}, b={"uses": "noop"})
    run = platforms.submit(control, platforms.publish(control, document))
    platforms.finish(control, worker, platforms.take(worker, run, "a#1"))
    assert client.run(run.run).cancel("enough", compensate=True).status == "running"
    assert client.cancel(run.run).status == "cancelled"


def test_whoever_permits_something_sends_the_digest_of_what_the_command_has_shown(
    client: Client, control: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "connected", lambda: nullcontext(client))
    run = permits.permit(control, {"to": "zoe"}, four_eyes=False).run
    place = ["answer", run, "w#1", "--choice", "approve"]
    with pytest.raises(Invalid, match="bound to what it is for"):
        client.answer(run, "w#1", "approve")
    wrong = CliRunner().invoke(main, [*place, "--digest", permits.of({"to": "eve"})])
    assert wrong.exit_code == 1
    assert "is not what was seen" in wrong.stderr
    (shown,) = client.waits(view="mine", tool="mail")
    assert (shown.arguments, shown.digest) == ({"to": "zoe"}, permits.of({"to": "zoe"}))
    done = CliRunner().invoke(main, place)
    assert done.exit_code == 0
    assert done.stdout.endswith("settled\n")
    assert 'mail {"to": "zoe"}' in done.stderr
    assert shown.request_id is not None
    told = client.approval(shown.request_id)
    assert (told.status, told.approved_by, told.answers[0].digest) == (
        *("approved", ("ada",)),
        shown.digest,
    )


def test_a_client_hands_its_say_on_and_takes_it_back(client: Client, control: Platform) -> None:
    run = begin(control, "approval")
    with session.transaction(control.database) as connection:
        principals.add(connection, platforms.TENANT, "zoe", roles=["approver"], by="ada")
    given = client.delegate("zoe", reason="away", run=run, step="w#1")
    assert [one.id for one in client.delegations()] == [given.id]
    assert client.revoke(given.id).status == "revoked"
    with pytest.raises(Conflict, match="taken back before"):
        client.revoke(given.id)
    (came,) = client.answer_many("reject", where={"view": "mine"}, reason="no")
    assert (came.run_id, came.outcome, came.verdict) == (run, "done", "reject")
    assert client.count_waits() == {"mine": 0, "team": 0, "overdue": 0, "all": 0}
    assert [one.reason for one in client.approvals(status="denied")] == ["no"]
