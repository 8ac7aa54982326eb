"""Undoing what a run did before it ends otherwise than it should."""

from __future__ import annotations

from engine.core import expressions
from engine.core import messages as msg
from engine.core.graph import Awaited, Map, Retry, Route
from engine.core.transitions import RunStatus
from tests.support.play import at, edge, failed, fork, graph, node, succeeded
from tests.support.shell import Shell, folded, run, told

TEXT = expressions.template
CANCEL = msg.CancelRequested(at=at(5), by="ada", reason="enough", compensate=True)
STOP = msg.CancelRequested(at=at(6), by="ada")


def undone(name, **options):
    """A node that has a handler."""
    handler = node(f"{name}/undo", retry=options.pop("retry", Retry()))
    return node(name, compensate=handler, **options)


def line(*nodes):
    """`a`, `b` and `c` one after the other; `a` and `b` can be undone unless it is said."""
    given = nodes or (undone("a"), undone("b"))
    return graph(edge("a -> b"), edge("b -> c"), edge("c -> end"), nodes=given)


def broken(*nodes) -> Shell:
    """A run of a line whose last step fails."""
    return run(line(*nodes), succeeded("a#1"), succeeded("b#1"), failed("c#1"))


def standing(shell):
    return {key: str(step.status) for key, step in shell.rows.items()}


# --- sad paths ------------------------------------------------------------------------------


def test_a_handler_that_fails_holds_up_no_other_and_is_told():
    shell = broken()
    shell.tell(failed("undo b#1"))
    assert standing(shell) == {"undo a#1": "ready"}
    shell.tell(succeeded("undo a#1"))
    assert shell.head.ending.reason == "error"
    assert shell.head.ending.message == "boom (1 of its steps could not be undone)"


def test_a_cancel_that_asks_for_no_undoing_ends_it():
    shell = broken()
    shell.tell(STOP)
    assert (shell.head.status, shell.rows) == (RunStatus.CANCELLED, {})


def test_a_cancel_that_is_sent_twice_undoes_once():
    shell = run(line(), succeeded("a#1"), succeeded("b#1"), CANCEL, CANCEL)
    assert standing(shell) == {"undo b#1": "ready"}
    shell.tell(succeeded("undo b#1"))
    shell.tell(CANCEL)
    shell.tell(succeeded("undo a#1"))
    assert (shell.head.status, shell.head.ending.message) == (RunStatus.CANCELLED, "enough")
    assert [record.step for record in told(shell, msg.SettleUndo)] == ["undo b#1", "undo a#1"]


def test_what_is_reported_when_undoing_has_begun_counts_for_nothing():
    shell = broken()
    before = shell.state
    shell.tell(succeeded("c#1", patch={"n": 1}))
    assert shell.state == before


def test_what_nobody_undoes_is_no_undoing():
    shell = run(line())
    before = shell.state
    shell.tell(msg.NothingToUndo(at=at(1)))
    assert shell.state == before


# --- undoing --------------------------------------------------------------------------------


def test_what_was_done_is_undone_last_things_first_when_a_run_fails():
    shell = broken()
    assert standing(shell) == {"undo b#1": "ready"}
    assert shell.rows["undo b#1"].of == "b#1"
    shell.tell(succeeded("undo b#1"))
    assert standing(shell) == {"undo a#1": "ready"}
    shell.tell(succeeded("undo a#1"))
    assert (shell.head.status, shell.head.ending.step) == (RunStatus.FAILED, "c#1")
    assert shell.head.ending.message == "boom"
    assert folded(shell) == shell.state


def test_what_was_done_is_undone_when_a_cancel_asks_for_it():
    shell = run(line(), succeeded("a#1"), CANCEL)
    assert standing(shell) == {"undo a#1": "ready"}
    shell.tell(succeeded("undo a#1"))
    assert shell.head.status is RunStatus.CANCELLED


def test_a_cancel_undoes_nothing_unless_it_asks_for_it():
    shell = run(line(), succeeded("a#1"), STOP)
    assert shell.head.status is RunStatus.CANCELLED
    assert told(shell, msg.BeginUndo) == []


def test_a_run_that_completes_undoes_nothing():
    shell = run(line(), *(succeeded(f"{name}#1") for name in "abc"))
    assert shell.head.status is RunStatus.COMPLETED
    assert told(shell, msg.BeginUndo) == []


def test_a_run_that_did_nothing_ends_at_once():
    shell = run(line(), failed("a#1"))
    assert (shell.head.status, shell.head.ending.step) == (RunStatus.FAILED, "a#1")


def test_every_visit_of_a_loop_is_undone():
    template = graph(
        edge("a -> a", label="loop", when="$result == 1"), edge("a -> b"), nodes=[undone("a")]
    )
    shell = run(template, succeeded("a#1", result=1), succeeded("a#2"), failed("b#1"))
    shell.tell(succeeded("undo a#2"))
    shell.tell(succeeded("undo a#1"))
    assert shell.head.status is RunStatus.FAILED


def test_what_others_did_in_the_turn_of_the_failure_is_undone():
    template = graph(*fork("f", "a", "b"), nodes=[node("f", route=Route.ALL), undone("a")])
    for events in ([succeeded("a#1"), failed("b#1")], [failed("b#1"), succeeded("a#1")]):
        shell = run(template, succeeded("f#1"))
        shell.tell(*events)
        assert standing(shell) == {"undo a#1": "ready"}


def test_what_waited_is_undone_by_what_came():
    wait = Awaited(name=TEXT("paid"))
    template = line(undone("a", kind="event", wait=wait))
    shell = run(
        template, msg.WaitEnded(at=at(1), step=msg.StepKey("a#1"), attempt=1), failed("b#1")
    )
    assert standing(shell) == {"undo a#1": "ready"}


def test_a_map_is_undone_as_one():
    wait = Map(over=TEXT(["x"]), do=node("a/item"))
    shell = run(line(undone("a", kind="map", wait=wait)), succeeded("a#1.0"), succeeded("a#1"))
    shell.tell(failed("b#1"))
    assert standing(shell) == {"undo a#1": "ready"}


def test_a_step_that_was_skipped_is_not_undone():
    skip = msg.SkipRequested(at=at(1), by="ada", step=msg.StepKey("a#1"))
    shell = run(line(), skip, failed("b#1"))
    assert shell.head.status is RunStatus.FAILED


def test_a_handler_is_tried_again_as_it_says():
    shell = run(line(undone("a", retry=Retry(attempts=2, backoff=0))), succeeded("a#1"))
    shell.tell(failed("b#1"))
    shell.tell(failed("undo a#1"))
    assert shell.rows["undo a#1"].attempt == 2
    shell.tell(succeeded("undo a#1", attempt=2))
    assert shell.head.ending.message == "boom"


def test_a_handler_can_be_skipped():
    shell = broken()
    shell.tell(msg.SkipRequested(at=at(9), by="ada", step=msg.StepKey("undo b#1")))
    assert standing(shell) == {"undo a#1": "ready"}


def test_undoing_pauses_and_goes_on():
    shell = broken()
    shell.tell(msg.PauseRequested(at=at(9), by="ada"))
    shell.tell(succeeded("undo b#1"))
    assert shell.rows == {}
    shell.tell(msg.ResumeRequested(at=at(9), by="ada"))
    assert standing(shell) == {"undo a#1": "ready"}


def test_a_run_that_fails_while_it_is_paused_undoes_nothing_before_it_goes_on():
    shell = run(line(), succeeded("a#1"), msg.PauseRequested(at=at(1), by="ada"), failed("b#1"))
    assert (shell.head.status, shell.rows) == (RunStatus.PAUSED, {})
    shell.tell(msg.ResumeRequested(at=at(9), by="ada"))
    assert standing(shell) == {"undo a#1": "ready"}


def test_a_paused_run_that_is_cancelled_does_not_wait_to_be_resumed():
    shell = run(line(), succeeded("a#1"), msg.PauseRequested(at=at(1), by="ada"), CANCEL)
    assert standing(shell) == {"undo a#1": "ready"}


def test_undoing_costs_nothing_of_the_budget_that_is_spent():
    template = graph(edge("a -> b"), edge("b -> c"), nodes=[undone("a")], steps=2)
    shell = run(template, succeeded("a#1"), succeeded("b#1"))
    assert standing(shell) == {"undo a#1": "ready"}
    shell.tell(succeeded("undo a#1"))
    assert shell.head.ending.reason == "step_budget"


def test_a_graph_without_handlers_is_not_searched():
    shell = run(graph(edge("a -> end")), failed("a#1"))
    assert shell.head.status is RunStatus.FAILED
    assert told(shell, msg.BeginUndo) == []
