"""Undoing calls of runs over REST, and by the client and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from flask import Flask

from celeriac.client import Client, Conflict, Forbidden, Invalid, Run, Unavailable
from engine.platform import Platform
from engine.store.ids import RunId
from tests.support.paying import paid, pay, refund, refuse, submitted, underway
from tests.support.platforms import LINE, TENANT, finish, publish, sql, status, submit, take
from tests.support.site import Api


@pytest.fixture
def run(control: Platform, worker: Platform) -> RunId:
    return paid(control, worker)


@pytest.fixture
def hands(app: Flask, api: Api, control: Platform, worker: Platform) -> Iterator[Client]:
    """A client for whom runs that undo are carried out while it waits for them."""

    class Hands(Client):
        def wait(self, run: str, *_: Any, **__: Any) -> Run:
            refund(control, worker, RunId(TENANT, run))
            return self.run(run)

    with Hands("http://127.0.0.1", api.token, transport=httpx2.WSGITransport(app=app)) as client:
        yield client


def test_an_undo_that_cannot_be_says_why(api: Api, control: Platform, run: RunId) -> None:
    place = f"/api/v1/runs/{run.run}/undo"
    for asked in ({}, {"calls": []}, {"calls": "b#1.1"}, {"calls": [7]}, {"calls": ["x" * 501]}):
        assert api.post(place, json=asked).status_code in {400, 422}
    unknown = api.post(place, json={"calls": ["b#1.2"]})
    assert (unknown.status_code, unknown.json["errors"][0]["path"]) == (422, "calls.b#1.2")
    nobody = "/api/v1/runs/00000000-0000-7000-8000-000000000000/undo"
    assert api.post(nobody, json={"calls": ["b#1.1"]}).status_code == 404
    assert api.get(nobody).status_code == 404
    live = submit(control, publish(control, dict(LINE)))
    refused = api.post(f"/api/v1/runs/{live.run}/undo", json={"calls": ["compensable"]})
    assert (refused.status_code, "is left to be undone" in refused.json["detail"]) == (409, True)
    assert api.get(f"/api/v1/runs/{live.run}/undo").json == {"items": []}


def test_what_is_to_be_undone_first_is_told_by_forks_and_restarts(api: Api, run: RunId) -> None:
    step = f"/api/v1/runs/{run.run}/steps/b%231"
    (effect,) = api.get(f"{step}/effects").json["items"]
    assert effect["choices"] == ["reuse", "skip", "execute", "compensate"]
    refused = api.post(f"{step}/restart", json={"choices": {"compensable": "compensate"}})
    assert refused.status_code == 409
    (problem,) = refused.json["errors"]
    assert f"celeriac undo {run.run} b#1.1" in problem["remedy"]


def test_a_call_is_undone_once_and_told_so(
    api: Api, control: Platform, worker: Platform, run: RunId
) -> None:
    place, key = f"/api/v1/runs/{run.run}", {"Idempotency-Key": "one"}
    (planned,) = api.get(f"{place}/undo").json["items"]
    assert (planned["name"], planned["undo"], planned["arguments"]) == (
        "b#1.1",
        "refund",
        {"charge": "c-1"},
    )
    assert (planned["why"], planned["undone"]) == (None, None)
    made = api.post(f"{place}/undo", json={"calls": ["b#1.1"], "reason": "wrong"}, headers=key)
    assert made.status_code == 201
    again = api.post(f"{place}/undo", json={"calls": ["b#1.1"], "reason": "wrong"}, headers=key)
    assert (again.status_code, again.json["run_id"]) == (200, made.json["run_id"])
    assert api.post(f"{place}/undo", json={"calls": ["b#1.1"]}).status_code == 409
    undoing = RunId(TENANT, made.json["run_id"])
    refund(control, worker, undoing)
    (call,) = api.get(f"{place}/calls").json["items"]
    assert (call["undone"], call["undone_by"]) == ("undone", undoing.run)
    (act,) = [
        one for one in api.get("/api/v1/audit").json["items"] if one.get("action") == "run.undo"
    ]
    assert act["subject"] == f"run:{run.run}"


def test_nothing_is_undone_for_a_fork_that_is_refused_anyway(
    hands: Client, control: Platform, worker: Platform
) -> None:
    run = paid(control, worker)
    wrong: Any
    for wrong in (
        {"removed": ["nope"], "choices": {"compensable": "compensate"}},
        {"choices": {"b#1.l": "compensate", "compensable": "execute"}},
    ):
        with pytest.raises(Invalid):
            hands.restart(run.run, "b#1", **wrong)
    assert sql(control, "SELECT FROM undone_call") == []
    one = hands.restart(run.run, "b#1", choices={"compensable": "compensate"}, idempotency_key="k")
    two = hands.restart(run.run, "b#1", choices={"compensable": "compensate"}, idempotency_key="k")
    assert one.id == two.id
    assert len(sql(control, "SELECT FROM undone_call")) == 1


def test_a_run_goes_back_is_undone_and_goes_on(
    hands: Client, control: Platform, worker: Platform
) -> None:
    run, _ = underway(control, worker)
    place = next(iter(hands.checkpoints(run.run))).seq
    first = {"compensable": "compensate"}
    with pytest.raises(Invalid):
        hands.roll_back(run.run, place, removed=["nope"], choices=first)
    assert status(control, run) == "running"
    went = hands.roll_back(run.run, place, choices=first, reason="wrong")
    assert went is not None
    assert went.ended == ("b#1",)
    assert status(control, run) == "running"
    (effect,) = hands.effects(run.run, place, itself=True)
    assert (effect.happened, effect.choices) == ("undone", ())
    # Nothing is left to be undone, and it is resumed by who has paused it.
    hands.pause(run.run)
    hands.roll_back(run.run, place, choices=first)
    assert status(control, run) == "paused"


def test_what_is_done_until_the_run_is_paused_is_undone_too(
    app: Flask, api: Api, control: Platform, worker: Platform
) -> None:
    run, lease = underway(control, worker)

    class Hands(Client):
        def pause(self, *given: Any, **more: Any) -> Run:
            pay(worker, lease, 2)
            return super().pause(*given, **more)

        def wait(self, run: str, *_: Any, **__: Any) -> Run:
            refund(control, worker, RunId(TENANT, run), charges=["c-2", "c-1"])
            return self.run(run)

    with Hands("http://127.0.0.1", api.token, transport=httpx2.WSGITransport(app=app)) as client:
        place = next(iter(client.checkpoints(run.run))).seq
        client.roll_back(run.run, place, choices={"compensable": "compensate"})
        found = client.effects(run.run, place, itself=True)
    assert [one.happened for one in found] == ["undone", "undone"]
    assert status(control, run) == "running"


@pytest.mark.parametrize("error", [Forbidden("not you"), KeyboardInterrupt()])
def test_whatever_keeps_it_from_being_undone_says_that_the_run_is_paused(
    app: Flask, api: Api, control: Platform, worker: Platform, error: BaseException
) -> None:
    class Kept(Client):
        def undo(self, *_: Any, **__: Any) -> Run:
            raise error

    run, _ = underway(control, worker)
    with Kept("http://127.0.0.1", api.token, transport=httpx2.WSGITransport(app=app)) as client:
        place = next(iter(client.checkpoints(run.run))).seq
        with pytest.raises(type(error)) as raised:
            client.roll_back(run.run, place, choices={"compensable": "compensate"})
    said = f"{raised.value}{getattr(raised.value, '__notes__', '')}"
    assert f"run {run.run} went back, and is paused" in said
    assert status(control, run) == "paused"


def test_what_is_made_anew_is_not_undone_though_its_class_was_to_be(
    app: Flask, api: Api, control: Platform, worker: Platform
) -> None:
    run = submitted(control, worker)

    class Hands(Client):
        def _go_back(self, *given: Any) -> Any:
            went = super()._go_back(*given)
            lease = take(worker, run, "b#2")
            pay(worker, lease, 1)
            finish(control, worker, lease)
            return went

    with Hands("http://127.0.0.1", api.token, transport=httpx2.WSGITransport(app=app)) as client:
        place = next(iter(client.checkpoints(run.run))).seq
        client.roll_back(run.run, place, choices={"compensable": "compensate"})
    assert (status(control, run), sql(control, "SELECT FROM undone_call")) == ("completed", [])


def test_a_run_that_does_not_go_back_after_all_goes_on(
    app: Flask, api: Api, control: Platform, worker: Platform
) -> None:
    class Away(Client):
        def _go_back(self, *given: Any) -> Any:
            if self.run(run.run).status == "paused":
                raise Unavailable("gone")
            return super()._go_back(*given)

    run, _ = underway(control, worker)
    with Away("http://127.0.0.1", api.token, transport=httpx2.WSGITransport(app=app)) as client:
        place = next(iter(client.checkpoints(run.run))).seq
        with pytest.raises(Unavailable):
            client.roll_back(run.run, place, choices={"compensable": "compensate"})
    assert status(control, run) == "running"


def test_a_run_whose_call_is_not_undone_stays_paused(
    app: Flask, api: Api, control: Platform, worker: Platform
) -> None:
    class Failing(Client):
        def wait(self, run: str, *_: Any, **__: Any) -> Run:
            refuse(control, worker, RunId(TENANT, run))
            return self.run(run)

    run, _ = underway(control, worker)
    with Failing("http://127.0.0.1", api.token, transport=httpx2.WSGITransport(app=app)) as client:
        place = next(iter(client.checkpoints(run.run))).seq
        client.name_checkpoint(run.run, place, "before")
        with pytest.raises(Conflict, match=r"not undone: b#1\.1; run .* is paused"):
            client.roll_back(run.run, "before", choices={"b#1.1": "compensate"})
    assert status(control, run) == "paused"
