"""What waits in a run in memory, and who ends it: time, people, events, other runs, locks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from celeriac.testing import (
    EPOCH,
    Added,
    Answered,
    Cancelled,
    Clock,
    Completed,
    Fault,
    Paused,
    Resumed,
    RolledBack,
    Sent,
    Skipped,
    run,
)
from engine.core import messages as msg
from engine.errors import Conflict, Forbidden, Invalid
from engine.waiting import MAX_DEPTH
from tests.support import play as core


def late(kind: str) -> dict[str, Any]:
    """Why a node of a kind goes that way: it is late, if it can be."""
    return {"reason": ["refused" if kind in {"timer", "map"} else "expired"]}


def one(kind: str, **fields: Any) -> dict[str, Any]:
    """A workflow of one node, and a way for its failure."""
    return {
        "workflow": "one",
        "variables": {"found": {}},
        "nodes": {"w": {"kind": kind, **fields}, "late": {"kind": "pass"}},
        "edges": ["w -> end", {"from": "w", "to": "late", "on": "error", **late(kind)}],
    }


APPROVAL = one(
    "approval",
    choices=["yes", "no"],
    form={"why": {"type": "string", "maxLength": 3}},
    save={"found": "$result"},
)
EVENT = one(
    "event", name="paid", match={"order": 7}, schema={"type": "integer"}, save={"found": "$result"}
)
CHILD = one("workflow", workflow="inner", **{"with": {"n": 1}}, save={"found": "$result"})
INNER: dict[str, Any] = {
    "workflow": "inner",
    "inputs": {"n": {"type": "integer"}},
    "outputs": {"n": "$n + 1"},
    "nodes": {"work": {"uses": "work"}},
    "edges": ["work -> end"],
}
MAP = one("map", over=["a", "b", "c"], do="work", save={"found": "$result"})
WORK = {"work": lambda _: None}


# --- sad paths ------------------------------------------------------------------------------


def test_what_nothing_ends_is_listed_and_not_waited_for() -> None:
    record = run(APPROVAL, acts=[Sent("paid", 1), Answered("elsewhere", "yes")])
    assert record.status == "running"
    assert [(found.step, found.kind) for found in record.waiting] == [("w#1", "approval")]
    assert record.unused == (Answered("elsewhere", "yes"),)


@pytest.mark.parametrize(
    ("answer", "wrong", "said"),
    [
        (Answered("w"), Invalid, "no choice is made"),
        (Answered("w", "maybe", {"why": "x"}), Invalid, "there is no choice 'maybe'"),
        (Answered("w", "yes"), Invalid, "why"),
        (Answered("w", "yes", {"why": "because"}), Invalid, "why"),
        (Answered("w", "yes", {"why": "x", "more": 1}), Invalid, "more"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(
    answer: Answered, wrong: type[Exception], said: str
) -> None:
    with pytest.raises(wrong, match=said):
        run(APPROVAL, acts=[answer])


def test_who_is_not_asked_and_who_has_answered_is_turned_away() -> None:
    asked = one("approval", **{"from": ["role:boss", "user:ada"]}, quorum=2)
    with pytest.raises(Forbidden, match="eve is not asked"):
        run(asked, acts=[Answered("w", "approve", by="eve")])
    with pytest.raises(Conflict, match="ada has answered w#1 before"):
        run(asked, acts=[Answered("w", "approve", by="ada")] * 2)


def test_whoever_submitted_the_run_is_turned_away_where_two_must_look() -> None:
    asked = one("approval", four_eyes=True)
    for answer in (
        Answered("w", "approve", by="local"),
        Answered("w", "approve", by="ada", behalf="local"),
    ):
        with pytest.raises(Forbidden, match="local submitted run"):
            run(asked, acts=[answer])
    assert run(asked, acts=[Answered("w", "approve", by="ada")]).status == "completed"


def test_a_denial_says_why_where_it_must() -> None:
    for choices, denied in (["approve", "deny"], "deny"), (["x", "y"], "y"):
        asked = one("approval", choices=choices, reason="required")
        with pytest.raises(Invalid, match="reason: is missing"):
            run(asked, acts=[Answered("w", denied)])
    asked = one("approval", reason="required", save={"found": "$result.reason"})
    record = run(asked, acts=[Answered("w", "reject", reason="too dear")])
    assert record.variables == {"found": "too dear"}


def test_a_say_counts_once_whoever_uses_it_and_everybody_speaks_once() -> None:
    asked = one("approval", quorum=2, **{"from": ["user:ada", "user:eve", "user:fay"]})
    for by, behalf in (("ada", None), ("eve", "ada"), ("dan", "eve")):
        twice = [
            Answered("w", "approve", by="dan", behalf="ada"),
            Answered("w", "approve", by=by, behalf=behalf),
        ]
        with pytest.raises(Conflict, match="dan has answered w#1"):
            run(asked, acts=twice)
    with pytest.raises(Forbidden, match="bob is not asked"):
        run(asked, acts=[Answered("w", "approve", by="dan", behalf="bob")])


def test_where_all_who_are_named_have_spoken_in_vain_it_is_denied_or_expires() -> None:
    people = {"from": ["user:ada", "user:eve"]}
    for choices, path, found in (
        (["approve", "reject"], "end", {"choice": "reject", "by": ["eve"], "form": {}}),
        (["x", "y"], "late", None),
    ):
        asked = one("approval", choices=choices, quorum=2, save={"found": "$result"}, **people)
        said = zip(choices, ("ada", "eve"), strict=True)
        record = run(asked, acts=[Answered("w", choice, by=by) for choice, by in said])
        assert (record.path[-1] == "late") == (path == "late")
        assert record.variables["found"] == found


def test_an_event_that_does_not_fit_is_refused_and_one_for_others_is_kept() -> None:
    with pytest.raises(Invalid, match="cannot take it: payload"):
        run(EVENT, acts=[Sent("paid", "much", match={"order": 7}, at="w")])
    record = run(EVENT, acts=[Sent("paid", 1, match={"order": 8}), Sent("pay", 1)])
    assert [found.kind for found in record.waiting] == ["event"]


def test_what_expires_fails_with_that_reason() -> None:
    clock = Clock()
    expiring = one("approval", expires="3h")
    record = run(expiring, acts=[Answered("w", "approve", after=4 * 3600)], clock=clock)
    assert (record.status, record.path[-1]) == ("completed", "late")
    assert clock.now() - EPOCH == timedelta(hours=3)
    (tried,) = record.visits("w")[0].attempts
    assert (tried.outcome, tried.reason) == ("failed", "expired")
    assert len(record.unused) == 1


def test_a_node_that_comes_to_nothing_it_could_wait_for_fails() -> None:
    for node in (
        one("timer", **{"for": "$found"}),
        one("timer", until="$(1 + 1)"),
        one("map", over="$found", do="work"),
        one("event", name="$found"),
    ):
        record = run(node, functions=WORK)
        assert (record.status, record.reason) == ("failed", "input_failed"), record.message


def test_a_child_that_fails_fails_its_step_which_may_try_again() -> None:
    again = one("workflow", workflow="inner", **{"with": {"n": 1}}, retry={"attempts": 2})
    faults = [Fault(node="work", message="no luck")]
    record = run(again, functions=WORK, workflows={"inner": INNER}, faults=faults)
    assert (record.status, record.reason) == ("failed", "child_failed")
    assert "no luck" in (record.message or "")
    assert [child.status for child in record.children] == ["failed", "failed"]
    assert [tried.reason for tried in record.visits("w")[0].attempts] == ["child_failed"] * 2


def test_a_child_that_cannot_take_its_inputs_is_not_started() -> None:
    wrong = one("workflow", workflow="inner", **{"with": {"n": "one"}})
    record = run(wrong, functions=WORK, workflows={"inner": INNER})
    assert (record.reason, record.children) == ("input_failed", ())
    assert "w, with: inputs.n" in (record.message or "")


def test_a_workflow_that_was_not_given_cannot_be_run() -> None:
    with pytest.raises(Invalid, match=r"Workflow not found: inner \(pass it in workflows=\)"):
        run(CHILD)
    with pytest.raises(Invalid, match=r"workflows\.inner\.nodes\.work.*Function not found: work"):
        run(CHILD, workflows={"inner": INNER})


def test_runs_within_runs_have_a_bound() -> None:
    endless = {
        "workflow": "endless",
        "nodes": {"w": {"kind": "workflow", "workflow": "endless"}},
        "edges": ["w -> end"],
    }
    record = run(endless)
    assert (record.status, record.reason) == ("failed", "child_failed")
    depth = 0
    while record.children:
        (record,) = record.children
        depth += 1
    assert (depth, record.reason) == (MAX_DEPTH, "too_deep")


def test_a_run_works_out_which_workflow_it_runs() -> None:
    document = {
        "workflow": "outer",
        "inputs": {"which": {}, "given": {"default": {}}},
        "nodes": {"w": {"kind": "workflow", "workflow": "$which", "with": "$given"}},
        "edges": ["w -> end"],
    }
    inner = {
        "workflow": "inner",
        "inputs": {"word": {"type": "string"}},
        "nodes": {"p": {"kind": "pass"}},
        "edges": ["p -> end"],
        "outputs": {"said": "$word"},
    }
    given: dict[str, Any] = {"which": "inner@1.0.0", "given": {"word": "hello"}}
    record = run(document, given, workflows={"inner": inner})
    assert record.children[0].outputs == {"said": "hello"}
    for wrong, reason in (
        ({"which": "nobody"}, "no_such_workflow"),
        ({"which": 7}, "input_failed"),
        ({"which": "inner", "given": 7}, "input_failed"),
    ):
        record = run(document, wrong, workflows={"inner": inner})
        assert (record.status, record.reason) == ("failed", reason)


def test_too_many_items_that_fail_fail_the_map() -> None:
    faults = [Fault(node="w/item", item=1, message="torn")]
    record = run(MAP, functions=WORK, faults=faults)
    assert (record.status, record.reason) == ("failed", "items_failed")
    assert "1 of 3 items failed, the last with: torn" in (record.message or "")


def test_who_waits_for_a_lock_that_is_never_given_up_is_listed() -> None:
    document = {
        "workflow": "w",
        "nodes": {
            "f": {"uses": "work"},
            "a": {"kind": "approval", "lock": "door"},
            "b": {"kind": "approval", "lock": "door"},
        },
        "edges": [{"from": "f", "to": ["a", "b"], "type": "parallel"}],
    }
    record = run(document, functions=WORK)
    assert [(found.node, found.kind) for found in record.waiting] == [
        ("a", "approval"),
        ("b", "lock"),
    ]
    both = run(document, functions=WORK, acts=[Answered("a", "approve"), Answered("b", "reject")])
    assert (both.status, both.unused) == ("completed", ())


# --- how it goes well -----------------------------------------------------------------------


def test_a_timer_lets_its_time_pass_at_once() -> None:
    clock = Clock()
    record = run(one("timer", **{"for": "90d"}), clock=clock)
    assert (record.status, clock.now() - EPOCH) == ("completed", timedelta(days=90))
    until = run(one("timer", until="2000-02-01"), clock=(later := Clock()))
    assert (until.status, later.now() - EPOCH) == ("completed", timedelta(days=31))


def test_a_quorum_is_of_those_who_choose_the_same() -> None:
    asked = one("approval", quorum=2, save={"found": "$result.by"})
    said = [
        Answered("w", choice, by=by)
        for by, choice in (("ada", "reject"), ("bob", "approve"), ("cid", "reject"))
    ]
    record = run(asked, acts=said)
    assert record.variables == {"found": ["ada", "cid"]}


def test_each_choice_may_have_a_number_of_its_own() -> None:
    asked = one("approval", quorum={"approve": 2, "deny": 1}, save={"found": "$result.choice"})
    said = [Answered("w", "approve", by="ada"), Answered("w", "reject", by="bob")]
    assert run(asked, acts=said).variables == {"found": "reject"}
    assert run(asked, acts=[said[0]]).status == "running"


def test_a_delegate_speaks_for_whoever_is_asked() -> None:
    asked = one("approval", save={"found": "$result"}, **{"from": ["role:boss"]})
    said = Answered("w", "approve", by="dan", behalf="ada", roles=["boss"])
    assert run(asked, acts=[said]).variables["found"] == {
        "choice": "approve",
        "by": ["dan"],
        "form": {},
        "behalf": {"dan": "ada"},
    }


def test_others_are_asked_when_nobody_has_settled_it_in_time() -> None:
    late = {"after": "1h", "to": "role:admin"}
    asked = one("approval", escalate=late, **{"from": ["user:ada"]})
    said = Answered("w", "approve", by="eve", roles=["admin"])
    with pytest.raises(Forbidden, match="eve is not asked"):
        run(asked, acts=[said])
    assert run(asked, acts=[replace(said, after=3600)]).status == "completed"


def test_an_answer_waits_for_its_question_and_the_next_one_for_the_next() -> None:
    document = {
        "workflow": "w",
        "nodes": {"draft": {"uses": "work"}, "accept": {"kind": "approval"}},
        "edges": [
            "draft -> accept",
            {"from": "accept", "to": "draft", "label": "reject"},
            {"from": "accept", "to": "end", "label": "approve"},
        ],
    }
    acts = [Answered("accept", "reject"), Answered("accept", "approve", after=60)]
    record = run(document, functions=WORK, acts=acts)
    assert record.path == ("draft", "accept", "draft", "accept", "end")
    assert [step.choice for step in record.visits("accept")] == ["reject", "approve"]


def test_an_event_goes_to_whoever_matches_or_to_the_run() -> None:
    for sent in (
        Sent("paid", 5, match={"order": 7}),
        Sent("paid", 5, match={"order": 7}, at="w", after=60),
        Sent("paid", 5, to_run=True),
    ):
        record = run(EVENT, acts=[sent])
        assert record.variables == {"found": 5}, sent


@pytest.mark.parametrize(("transient", "status"), [(True, "running"), (False, "completed")])
def test_an_event_that_nobody_waits_for_is_kept_unless_its_sender_says_otherwise(
    transient: bool, status: str
) -> None:
    document = {
        "workflow": "later",
        "nodes": {
            "rest": {"kind": "timer", "for": "1h"},
            "paid": {"kind": "event", "name": "paid"},
        },
        "edges": ["rest -> paid -> end"],
    }
    assert run(document, acts=[Sent("paid", transient=transient)]).status == status


def test_a_child_gives_its_outputs() -> None:
    record = run(CHILD, functions=WORK, workflows={"inner": INNER})
    assert record.variables == {"found": {"n": 2}}
    (child,) = record.children
    assert (child.status, child.path) == ("completed", ("work", "end"))
    assert child.state.run != record.state.run


@pytest.mark.parametrize(("orphan", "status"), [("cancel", "cancelled"), ("finish", "running")])
def test_a_child_whose_step_is_gone_is_cancelled_or_goes_on(orphan: str, status: str) -> None:
    parent = one("workflow", workflow="inner", orphan=orphan)
    inner = {**one("approval"), "workflow": "inner"}
    record = run(parent, workflows={"inner": inner}, acts=[Cancelled(at="w#1")])
    assert record.status == "cancelled"
    assert [child.status for child in record.children] == [status]


def test_items_are_done_a_few_at_once_and_gathered_in_their_order() -> None:
    few = one(
        "map",
        over=[3, 1, 2],
        **{"as": "n"},
        do={"uses": "tell", "with": {"n": "$n", "at": "$index"}},
        at_once=2,
        save={"found": "$result"},
    )
    tell = {"tell": lambda state: [state["n"], state["at"]]}
    record = run(few, functions=tell)
    assert record.variables == {"found": [[3, 0], [1, 1], [2, 2]]}
    keys = [step.key for step in record.steps]
    assert keys == ["w#1", "w#1.0", "w#1.1", "w#1.2", "end#1"]


def test_items_are_added_and_those_under_way_let_go_when_it_is_enough() -> None:
    inner = {**one("input", form={"said": {"type": "string"}}), "workflow": "inner"}
    document = {
        "workflow": "outer",
        "variables": {"found": {}},
        "nodes": {
            "m": {
                "kind": "map",
                "over": [1],
                "do": {"kind": "workflow", "workflow": "inner"},
                "save": {"found": "$result"},
            }
        },
        "edges": ["m -> end"],
    }
    acts = [
        Added("m", [2, 3]),
        Answered("w", form={"said": "x"}, after=60),
        Completed("m", at="m#1.2", after=3600),
    ]
    record = run(document, workflows={"inner": inner}, acts=acts)
    assert (record.status, record.unused) == ("completed", ())
    found = record.variables["found"]
    assert isinstance(found, list)
    assert [result is not None for result in found] == [True, False, False]
    assert [child.status for child in record.children] == ["completed", "cancelled", "cancelled"]


def test_an_item_is_tried_again_alone() -> None:
    again = {**MAP["nodes"]["w"], "do": {"uses": "work", "retry": {"attempts": 2}}}
    record = run(one(**again), functions=WORK, faults=[Fault(node="w/item", item=2)])
    assert [len(step.attempts) for step in record.visits("w/item")] == [1, 1, 2]


def test_what_was_done_is_undone_last_things_first() -> None:
    undone: list[Any] = []
    document = {
        "workflow": "trip",
        "nodes": {
            "fly": {"uses": "book", "with": {"n": 1}, "compensate": "cancel"},
            "sleep": {"uses": "book", "with": {"n": 2}, "compensate": "cancel"},
            "pay": {"uses": "work"},
        },
        "edges": ["fly -> sleep -> pay -> end"],
    }
    functions = {
        **WORK,
        "book": lambda state: {"booking": state["n"]},
        "cancel": lambda state: undone.append(state["result"]["booking"]),
    }
    record = run(document, functions=functions, faults=[Fault(node="pay")])
    assert (record.status, record.reason, undone) == ("failed", "error", [2, 1])
    undone.clear()
    record = run(document, functions=functions, acts=[Cancelled(at="pay", compensate=True)])
    assert (record.status, undone) == ("cancelled", [2, 1])
    undone.clear()
    faults = [Fault(node="pay"), Fault(node="sleep/undo")]
    record = run(document, functions=functions, faults=faults)
    assert undone == [1]
    assert "1 of its steps could not be undone" in (record.message or "")


def test_a_run_is_paused_where_the_test_says_and_resumed_when() -> None:
    clock = Clock()
    document = {
        "workflow": "w",
        "nodes": {"a": {"uses": "work"}, "b": {"uses": "work"}},
        "edges": ["a -> b -> end"],
    }
    record = run(document, functions=WORK, acts=[Paused(at="b")], clock=clock)
    assert (record.status, record.path) == ("paused", ("a", "b"))
    acts = [Paused(at="b"), Resumed(after=60)]
    record = run(document, functions=WORK, acts=acts, clock=clock)
    assert (record.status, clock.now() - EPOCH) == ("completed", timedelta(minutes=1))


def test_a_step_that_is_skipped_counts_as_done() -> None:
    record = run(APPROVAL, acts=[Skipped("w", choice="no")])
    assert (record.status, record.path[-1]) == ("completed", "end")


def test_a_lock_of_the_tenant_is_held_by_one_run_at_a_time() -> None:
    inner = {
        "workflow": "inner",
        "nodes": {"hold": {"kind": "timer", "for": "1h", "lock": {"name": "door", "of": "tenant"}}},
        "edges": ["hold -> end"],
    }
    both = one("map", over=[1, 2], do={"kind": "workflow", "workflow": "inner"})
    clock = Clock()
    record = run(both, workflows={"inner": inner}, clock=clock)
    assert (record.status, clock.now() - EPOCH) == ("completed", timedelta(hours=2))


def test_a_history_with_waits_folds_to_the_state() -> None:
    for record in (
        run(MAP, functions=WORK),
        run(APPROVAL, acts=[Answered("w", "yes", {"why": "x"})]),
        run(CHILD, functions=WORK, workflows={"inner": INNER}),
    ):
        assert record.status == "completed", record.message
        assert core.fold(record.history).variables == record.state.variables
        assert isinstance(record.history[-1].record, msg.FinishRun)


BACK: dict[str, Any] = {
    "workflow": "back",
    "inputs": {"n": {"type": "integer"}},
    "nodes": {
        "a": {"uses": "grow"},
        "w": {"kind": "approval", "choices": ["yes", "no"]},
        "b": {"uses": "grow"},
    },
    "edges": ["a -> w -> b -> end"],
}


def grow(state: Any) -> Any:
    state.set("n", state.get("n") + 1)
    return state


def test_a_run_goes_back_to_after_a_step_and_on_from_there():
    record = run(
        BACK,
        {"n": 1},
        functions={"grow": grow},
        acts=[
            RolledBack(at="w#1", to="a#1", variables={"n": 7}),
            Answered("w", "yes", at="w#2"),
        ],
    )
    assert (record.status, record.variables["n"]) == ("completed", 8)
    assert [step.key for step in record.steps if step.node in {"a", "w", "b"}] == [
        *("a#1", "w#1", "w#2", "b#1"),
    ]
    assert len(record.records(msg.RollBack)) == 1


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (RolledBack(at="w#1", to="b#1"), Conflict),
        (RolledBack(at="w#1", to="a#1", variables={"$steps.a": 1}), Invalid),
    ],
)
def test_what_a_run_cannot_go_back_to_is_refused(act: RolledBack, error: type[Exception]):
    with pytest.raises(error):
        run(BACK, {"n": 1}, functions={"grow": grow}, acts=[act])
