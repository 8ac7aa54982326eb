"""Events from outside and the steps that wait for them: before, after, once, at the same moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import Conflict, GaveUp, Invalid, NotFound
from engine.runs import control, events, sweep, turns, views, waits
from engine.runs.events import Event, KeyUsed
from engine.store import events as rows
from engine.store import session
from engine.store.ids import StepId
from tests.support.platforms import TENANT, as_owner, publish, sql, status, submit, wake
from tests.support.waiting import found, live, of_kind, race, waits_at, why

pytestmark = pytest.mark.usefixtures("sound")

#: The id of an event that was kept and brought to nobody.
LEFT = "00000000-0000-7000-8000-000000000001"


def awaiting(main, **fields):
    """A run that waits for `paid`."""
    return submit(main, publish(main, waits_at("event", **{"name": "paid", **fields})))


def send(main, payload=None, **how):
    """Send `paid`, and take the turns that follow."""
    event, woken = events.send(main, TENANT, "paid", payload, by="ada", **how)
    turns.take_turns(main, woken)
    return event


def over(main, *, received):
    """The time of every event is over; it came that long ago."""
    statement = (
        "UPDATE event SET expires_at = clock_timestamp(), received_at = received_at - interval"
    )
    as_owner(main.settings, f"{statement} '{received}'")


def left_behind(main, event_id, **fields):
    """Keep an event whose sender is gone between its two transactions."""
    said = {"run": None, "match": {}, "correlation": "", "payload": 5, "key": None, **fields}
    event = rows.Sent(
        tenant=TENANT, id=event_id, name="paid", by="ada", digest="", seconds=60, **said
    )
    with session.transaction(main.database) as connection:
        assert rows.put(connection, event) is None
    as_owner(main.settings, "UPDATE event SET received_at = received_at - interval '3 s'")


def unmet(main):
    """The tenants in which the sweeper brings events and waits together."""
    with session.transaction(main.database) as connection:
        return rows.tenants(connection)


def states(main):
    return [event.state for event in reversed(events.page(main, TENANT))]


# --- sad paths ----------------------------------------------------------------------------------


def test_an_event_nobody_waits_for_is_kept_listed_and_forgotten_when_its_time_is_over(main):
    event = send(main, {"n": 1}, match={"order": 7})
    assert (event.state, event.claimed_run) == ("kept", None)
    assert events.get(main, TENANT, event.id) == event
    assert events.page(main, TENANT, states=["kept"]) == (event,)
    assert not events.page(main, TENANT, states=["claimed"])
    assert not events.page(main, "other")
    over(main, received="61 s")
    run = awaiting(main, match={"order": 7})
    assert live(main, run) == {"w#1": "waiting"}
    sweep.sweep(main)
    assert events.page(main, TENANT) == ()
    with pytest.raises(NotFound):
        events.get(main, TENANT, event.id)


def test_an_event_for_a_run_that_there_is_not_is_refused(main):
    with pytest.raises(NotFound):
        send(main, run="00000000-0000-7000-8000-000000000000")
    assert events.page(main, TENANT) == ()


def test_an_event_for_a_run_that_has_ended_is_refused(main):
    run = awaiting(main)
    send(main, run=run.run)
    with pytest.raises(Conflict, match="has ended"):
        send(main, run=run.run)
    assert states(main) == ["claimed"]


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_an_event_needs_a_name_of_some_length(main, name):
    with pytest.raises(Invalid) as caught:
        events.send(main, TENANT, name, None, by="ada")
    assert caught.value.problems[0].path == "name"


def test_a_payload_that_the_waiting_step_cannot_take_is_refused_and_the_step_waits_on(main):
    schema = {"type": "object", "required": ["amount"]}
    run = awaiting(main, schema=schema)
    with pytest.raises(Invalid) as caught:
        send(main, {"sum": 1})
    (problem,) = caught.value.problems
    assert problem.path == "payload"
    assert f"step w#1 of run {run.run} cannot take it" in problem.message
    assert states(main) == ["refused"]
    assert live(main, run) == {"w#1": "waiting"}
    send(main, {"amount": 3})
    assert found(main, run) == {"amount": 3}


def test_a_kept_event_that_a_later_step_cannot_take_is_refused_and_listed(main):
    first = send(main, "soon")
    run = awaiting(main, schema={"type": "integer"})
    assert live(main, run) == {"w#1": "waiting"}
    refused = events.get(main, TENANT, first.id)
    assert refused.state == "refused"
    assert "payload" in refused.detail
    send(main, 5)
    assert found(main, run) == 5


def test_an_event_that_one_step_cannot_take_goes_to_the_next_that_can(main):
    picky = awaiting(main, schema={"type": "integer"})
    easy = awaiting(main)
    event = send(main, "text")
    assert (event.state, event.claimed_run) == ("claimed", easy.run)
    assert live(main, picky) == {"w#1": "waiting"}


def test_a_wait_whose_time_is_over_takes_no_event(main):
    run = awaiting(main, expires="1h")
    wake(main.settings)
    assert send(main).state == "kept"
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")


def test_an_event_for_a_cancelled_run_stays_for_others(main):
    first, second = awaiting(main), awaiting(main)
    control.cancel(main, first, by="bob")
    assert send(main).claimed_run == second.run


def test_an_event_that_nobody_took_in_time_is_remembered_as_dropped(main):
    event = send(main, seconds=0)
    over(main, received="1 s")
    sweep.sweep(main)
    sweep.sweep(main)
    assert events.get(main, TENANT, event.id).state == "dropped"
    run = awaiting(main)
    assert live(main, run) == {"w#1": "waiting"}


def test_an_event_that_is_kept_for_no_time_ends_the_wait_there_is(main):
    run = awaiting(main)
    assert send(main, seconds=0).claimed_run == run.run


# --- once ------------------------------------------------------------------------------------------


def test_an_event_sent_twice_under_one_key_is_one_event(main):
    runs = [awaiting(main), awaiting(main)]
    first, again = send(main, 1, key="k"), send(main, 1, key="k")
    assert replace(again, replayed=False) == first
    assert (first.replayed, again.replayed) == (False, True)
    assert [status(main, run) for run in runs] == ["completed", "running"]


def test_an_event_sent_again_after_its_time_is_over_ends_no_second_wait(main):
    runs = [awaiting(main), awaiting(main)]
    first = send(main, 1, key="k", seconds=1)
    over(main, received="6 days")
    sweep.sweep(main)
    again = send(main, 1, key="k", seconds=1)
    assert (again.id, again.replayed, again.claimed_run) == (first.id, True, runs[0].run)
    assert [status(main, run) for run in runs] == ["completed", "running"]


def test_a_key_is_forgotten_as_late_as_that_of_a_submission(main):
    first = send(main, 1, key="k")
    over(main, received="8 days")
    sweep.sweep(main)
    again = send(main, 1, key="k")
    assert (again.id == first.id, again.replayed) == (False, False)


def test_an_event_sent_again_to_a_run_that_it_ended_is_the_same_event(main):
    run = awaiting(main)
    first, again = (send(main, 1, key="k", run=run.run) for _ in range(2))
    assert replace(again, replayed=False) == first
    assert again.replayed


def test_a_refused_event_sent_again_is_refused_again(main):
    awaiting(main, schema={"type": "integer"})
    for _ in range(2):
        with pytest.raises(Invalid):
            send(main, "text", key="k")
    assert states(main) == ["refused"]


def test_a_key_stands_for_one_event_alone(main):
    send(main, 1, key="k")
    with pytest.raises(KeyUsed):
        send(main, 2, key="k")
    assert len(events.page(main, TENANT)) == 1


def test_an_event_sent_twice_at_once_under_one_key_ends_one_wait(main):
    runs = [awaiting(main) for _ in range(3)]
    came = race(*([lambda: send(main, 1, key="k")] * 4))
    assert len({one.id for one in of_kind(came, Event)}) == 1
    assert len(of_kind(came, Event)) == 4
    turns.take_turns(main, runs)
    assert [status(main, run) for run in runs] == ["completed", "running", "running"]


def test_one_event_ends_one_wait_although_two_wait(main):
    runs = [awaiting(main), awaiting(main)]
    assert send(main).claimed_run == runs[0].run
    assert [status(main, run) for run in runs] == ["completed", "running"]
    assert send(main).claimed_run == runs[1].run


def test_two_senders_at_once_end_one_wait_with_one_event(main):
    run = awaiting(main)
    came = race(*(lambda n=n: send(main, n) for n in range(4)))
    assert len(of_kind(came, Event)) == 4
    turns.take_turns(main, [run])
    assert sorted(states(main)) == ["claimed", "kept", "kept", "kept"]
    (winner,) = events.page(main, TENANT, states=["claimed"])
    assert found(main, run) == winner.payload


def test_as_many_senders_as_waits_at_once_end_all_of_them(main):
    runs = [awaiting(main) for _ in range(4)]
    came = race(*(lambda n=n: send(main, n) for n in range(4)))
    assert len(of_kind(came, Event)) == 4
    events.route(main, TENANT)
    turns.take_turns(main, runs)
    assert states(main) == ["claimed"] * 4
    assert sorted(found(main, run) for run in runs) == [0, 1, 2, 3]


def test_an_event_that_somebody_is_just_taking_is_not_taken_twice(main):
    event = send(main)
    with session.transaction(main.database) as holder:
        assert rows.claim(holder, event.id, StepId(TENANT, event.id, "other#1"))
        run = awaiting(main)
        assert live(main, run) == {"w#1": "waiting"}
        holder.exec_driver_sql("ROLLBACK")
    as_owner(main.settings, "UPDATE event SET received_at = received_at - interval '3 s'")
    sweep.sweep(main)
    assert status(main, run) == "completed"


# --- before and after, by run and by match --------------------------------------------------------


def test_events_that_came_before_the_wait_are_taken_oldest_first(main):
    for n in range(3):
        send(main, n)
    runs = [awaiting(main) for _ in range(3)]
    assert [found(main, run) for run in runs] == [0, 1, 2]


def test_who_has_waited_for_longest_comes_first(main):
    runs = [awaiting(main) for _ in range(3)]
    for n in range(3):
        send(main, n)
    assert [found(main, run) for run in runs] == [0, 1, 2]


def test_an_event_finds_those_who_wait_with_the_same_match_alone(main):
    document = waits_at("event", name="paid", match={"order": "$order"})
    version = publish(main, {**document, "inputs": {"order": {"type": "integer"}}})
    runs = [submit(main, version, order=order) for order in (1, 2)]
    assert send(main, "none").state == "kept"
    assert send(main, "more", match={"order": 2, "part": 1}).state == "kept"
    assert send(main, "two", match={"order": 2}).claimed_run == runs[1].run
    assert live(main, runs[0]) == {"w#1": "waiting"}


def test_an_event_to_a_run_finds_its_step_whatever_that_matches(main):
    run, other = awaiting(main, match={"order": 1}), awaiting(main, match={"order": 1})
    assert send(main, 1, run=other.run, match={"order": 2}).state == "kept"
    assert send(main, 2, run=other.run).claimed_run == other.run
    assert live(main, run) == {"w#1": "waiting"}


def test_an_event_to_a_run_is_kept_for_it_alone_until_it_waits(main):
    document = waits_at("event", name="paid")
    document["nodes"]["first"] = {"kind": "timer", "for": "1h"}
    document["edges"] = ["first -> w -> end"]
    run = submit(main, publish(main, {**document, "start": "first"}))
    assert send(main, 1, run=run.run).state == "kept"
    other = awaiting(main)
    assert live(main, other) == {"w#1": "waiting"}
    control.skip(main, run, "first#1", by="bob")
    assert found(main, run) == 1


def test_two_steps_of_one_run_take_one_event_each(main):
    document = {
        "workflow": "two",
        "variables": {"a": {}, "b": {}},
        "nodes": {
            "s": {"kind": "timer", "for": 0},
            "a": {"kind": "event", "name": "paid", "save": {"a": "$result"}},
            "b": {"kind": "event", "name": "paid", "save": {"b": "$result"}},
        },
        "edges": [{"from": "s", "to": ["a", "b"], "type": "parallel"}, "a -> end", "b -> end"],
    }
    run = submit(main, publish(main, document))
    sweep.sweep(main)
    assert live(main, run) == {"a#1": "waiting", "b#1": "waiting"}
    send(main, 1)
    assert len(live(main, run)) == 1
    send(main, 2)
    variables = views.run(main, run).variables
    assert sorted([variables["a"], variables["b"]]) == [1, 2]


def test_what_missed_each_other_is_brought_together_by_the_sweeper(main):
    run = awaiting(main)
    left_behind(main, LEFT)
    assert unmet(main) == (TENANT,)
    sweep.sweep(main)
    assert found(main, run) == 5


def test_what_missed_its_run_is_brought_there_by_the_sweeper(main):
    run = awaiting(main, match={"order": 1})
    left_behind(main, LEFT, run=run.run)
    assert unmet(main) == (TENANT,)
    sweep.sweep(main)
    assert found(main, run) == 5


def test_the_sweeper_passes_by_events_and_waits_that_share_a_name_alone(main):
    runs = [awaiting(main, match={"order": 1}) for _ in range(2)]
    send(main, match={"order": 2})
    send(main, run=runs[0].run, match={"order": 2})
    as_owner(main.settings, "UPDATE event SET received_at = received_at - interval '3 s'")
    assert states(main) == ["kept", "kept"]
    assert unmet(main) == ()


def test_a_sweep_that_cannot_bring_events_takes_the_turns_that_are_due(main, monkeypatch):
    def give_up(*_):
        raise GaveUp

    run = awaiting(main, expires="1h")
    wake(main.settings)
    monkeypatch.setattr(events, "sweep", give_up)
    with pytest.raises(GaveUp):
        sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")


def test_the_history_tells_which_event_it_was_and_who_sent_it(main):
    run = awaiting(main)
    event = send(main, 1)
    (ended,) = (line for line in views.history(main, run) if line.kind == "WaitEnded")
    assert ended.body["by"] == [f"event:{event.id}", "user:ada"]


# --- transient -------------------------------------------------------------------------------------


def test_a_transient_event_nobody_waits_for_is_dropped_and_listed(main):
    event = send(main, 1, transient=True)
    assert (event.state, event.detail) == ("dropped", "nobody waited for it")
    run = awaiting(main)
    assert live(main, run) == {"w#1": "waiting"}
    assert states(main) == ["dropped"]


def test_a_transient_event_ends_the_wait_there_is(main):
    run = awaiting(main)
    assert send(main, 1, transient=True).state == "claimed"
    assert found(main, run) == 1


def test_a_transient_event_that_is_kept_for_no_time_ends_the_wait_there_is(main):
    run = awaiting(main)
    assert send(main, 1, transient=True, seconds=0).state == "claimed"
    assert found(main, run) == 1


def test_a_step_that_looks_only_ahead_takes_no_event_of_the_past(main):
    send(main, 1)
    run = awaiting(main, transient=True)
    assert live(main, run) == {"w#1": "waiting"}
    send(main, 2)
    assert found(main, run) == 2
    assert sorted(states(main)) == ["claimed", "kept"]


def test_of_transient_events_sent_at_once_one_ends_the_wait_and_none_is_left(main):
    run = awaiting(main)
    came = race(*(lambda n=n: send(main, n, transient=True) for n in range(4)))
    assert len(of_kind(came, Event)) == 4
    turns.take_turns(main, [run])
    assert sorted(states(main)) == ["claimed", "dropped", "dropped", "dropped"]


# --- with the rest of the run ----------------------------------------------------------------------


def test_an_event_counts_while_the_run_is_paused(main):
    run = awaiting(main)
    control.pause(main, run, by="bob")
    assert send(main, 1).state == "claimed"
    assert status(main, run) == "paused"
    control.resume(main, run, by="bob")
    assert status(main, run) == "completed"


def test_an_event_and_the_expiry_at_once_leave_one_verdict(main):
    run = awaiting(main, expires="1h")
    wake(main.settings)
    came = race(lambda: send(main, 1), lambda: sweep.sweep(main))
    sweep.sweep(main)
    assert why(main, run) == ("failed", "expired")
    assert of_kind(came, Event)[0].state == "kept"


def test_an_event_and_a_cancel_at_once_leave_nothing_half_done(main):
    run = awaiting(main)
    came = race(lambda: send(main, 1), lambda: control.cancel(main, run, by="bob"))
    (event,) = of_kind(came, Event)
    kept = events.get(main, TENANT, event.id)
    assert kept.state in {"kept", "claimed"}
    assert status(main, run) in {"cancelled", "completed"}
    if kept.state == "kept":
        assert status(main, run) == "cancelled"


def test_nobody_waits_for_an_event_of_whatever_the_expression_gives(main):
    run = awaiting(main, name="$found")
    assert why(main, run) == ("failed", "input_failed")


def test_the_inbox_shows_what_an_event_must_match_and_fit(main):
    schema = {"type": "integer"}
    run = awaiting(main, match={"order": 3}, schema=schema, expires="1h")
    (one,) = waits.page(main, TENANT, kinds=["event"], run=run.run)
    assert (one.name, one.match, one.schema) == ("paid", {"order": 3}, schema)
    assert (one.choices, one.who, one.quorum) == ((), (), None)
    assert one.expires_at is not None


def test_no_event_is_left_with_a_claim_of_nobody(main):
    awaiting(main)
    send(main, 1)
    left = sql(main, "SELECT FROM event WHERE state = 'claimed' AND claimed_step IS NULL")
    assert left == []
