"""Recorded runs led through graphs: through their own they go where they went, whatever happened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import pytest

from celeriac.testing import EPOCH, Fault
from celeriac.testing import run as run_in_memory
from engine import documents, retrace
from engine.core import messages as msg
from engine.core.graph import Graph, NodeId
from engine.core.policy import DEFAULT
from engine.core.state import State
from engine.core.transitions import RunStatus
from engine.core.values import Inline, Json, Ref
from engine.retrace import Retraced
from tests.simulator.graphs import GRAPHS as SIMULATED
from tests.simulator.graphs import HASTY, PATIENT
from tests.simulator.play import live
from tests.support.patterns import ACTS, FUNCTIONS, GRAPHS, INPUTS, WORKFLOWS, read
from tests.support.play import LINE, NOW, at, failed, submitted, succeeded, turn

#: Worlds that are lived through, those of the simulator: one for every ten that it has itself.
CHUNK = 400
SEEDS = int(os.environ.get("SIMULATOR_SEEDS", "4000")) // 10


class Inlined:
    """Nothing lies anywhere else here."""

    def __call__(self, ref: Ref) -> Json:
        raise AssertionError(ref)

    def whole(self, value: Json) -> Json:
        return value

    def know(self, ref: Ref, value: Json) -> None:
        raise AssertionError((ref, value))


def again(
    graph: Graph, run: str, lines: Sequence[msg.Entry], other: Graph | None = None
) -> Retraced:
    return retrace.retrace(graph, other or graph, run, lines, policy=DEFAULT, read=Inlined())


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_runs_that_lived_through_trouble_go_where_they_went(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        for name, run in live(seed).runs.items():
            if any(isinstance(entry.record, msg.RollbackRequested) for entry in run.history):
                continue  # backtests leave it out: its record holds two courses
            found = again(run.graph, name, run.history)
            told = (found.first, found.same_path, found.same_end, found.missing)
            assert told == (None, True, True, ()), (seed, name, run.graph.workflow, found)
            seen[str(found.status)] += 1
    assert min(seen[status] for status in ("completed", "failed", "cancelled")) > 5, seen


def test_a_step_that_was_skipped_before_it_was_admitted_is_skipped_again() -> None:
    skip = msg.SkipRequested(at=NOW, step=msg.StepKey("a#1"), by="ada")
    first = turn(LINE, State(run="r1"), submitted(), skip)
    then = turn(LINE, first.state, succeeded("b#1"))
    found = again(LINE, "r1", [*first.entries, *then.entries])
    assert (found.first, found.same_end, found.missing) == (None, True, ())


def test_an_answer_comes_again_at_its_own_time_whatever_the_clock_said_before_and_after() -> None:
    """Clocks are set: a thread that waits from then on would else have waited for too long by now."""
    q = msg.StepKey("q#1")
    came = msg.WaitEnded(at=at(1), step=q, attempt=1, result=Inline(value={"said": "yes"}))
    inputs = submitted(n=None, got=None, said=None)
    lines, state = played(PATIENT, inputs, msg.Opened(at=at(0), step=q), came)
    # The clock has been put forward by the turn that heard it, and is put back.
    more, state = played(PATIENT, msg.Saved(at=at(21), step=q, patch={"said": "yes"}), state=state)
    done = succeeded("a#1", seconds=23, patch={"n": 1}), succeeded("j#1", seconds=24)
    last, state = played(PATIENT, msg.Ticked(at=at(13)), *done, state=state)
    assert (state.status, state.variables["n"]) == (RunStatus.COMPLETED, 1)
    found = again(PATIENT, "r1", [*lines, *more, *last])
    assert (found.first, found.same_path, found.same_end) == (None, True, True)


def test_what_was_done_when_its_step_was_gone_is_undone_again() -> None:
    lines, state = played(HASTY, submitted(), failed("boom#1", terminal=True))
    late, state = played(HASTY, succeeded("a#1"), state=state)
    found = msg.UndoFound(at=NOW, step=msg.StepKey("a#1"), node=NodeId("a"), seq=len(lines) + 1)
    more, state = played(HASTY, found, state=state)
    assert set(state.steps) == {"undo a#1"}
    told = again(HASTY, "r1", [*lines, *late, *more])
    assert (told.first, told.same_path, told.made) == (None, True, ADMITTED | {("undo a#1", 1)})


#: What is admitted at once of that graph.
ADMITTED = {("a#1", 1), ("b#1", 1), ("boom#1", 1)}


def played(
    graph: Graph, *events: msg.AnyEvent, state: State | None = None
) -> tuple[Sequence[msg.Entry], State]:
    """What a run comes to, one turn for each event."""
    lines: list[msg.Entry] = []
    state = state or State(run="r1")
    for event in events:
        taken = turn(graph, state, event)
        state = taken.state
        lines += taken.entries
    return lines, state


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_every_pattern_goes_where_it_went(name: str) -> None:
    graph = read(name)
    record = run_in_memory(
        graph,
        INPUTS.get(name, {}),
        functions=FUNCTIONS,
        workflows=WORKFLOWS,
        acts=ACTS.get(name, ()),
    )
    found = again(graph, record.state.run, record.history)
    assert (found.first, found.same_path, found.same_end) == (None, True, True)


def test_any_run_can_be_led_through_any_graph_and_comes_to_an_end_of_its_record() -> None:
    seen: Counter[str] = Counter()
    for seed in range(40):
        for name, run in live(seed).runs.items():
            for other in SIMULATED:
                found = again(run.graph, name, run.history, other)
                same = found.same_path and found.same_end and found.first is None
                assert same or found.first is not None or found.status is None, (seed, found)
                assert found.same_path or found.first is not None
                seen["" if found.first is None else found.first.kind] += 1
    assert {"", "edges", "step", "items", "end"} <= seen.keys(), seen


def parted(one: str, other: str, results: dict[str, Json], **inputs: Json) -> Retraced:
    """A run of one document, led through another."""
    graph = documents.read_graph(one)
    functions = {name: (lambda _, given=given: given) for name, given in results.items()}
    record = run_in_memory(graph, inputs, functions=functions)
    return again(graph, record.state.run, record.history, documents.read_graph(other))


MAPPED = """
workflow: w
variables: {all: {default: [1, 2, 3]}, got: {}}
nodes:
  m: {kind: map, over: $all, do: {uses: f}, save: {got: $result}}
edges: [m -> end]
"""


def test_other_items_are_other_work() -> None:
    assert parted(MAPPED, MAPPED, {"f": 1}).first is None
    found = parted(MAPPED, MAPPED.replace("[1, 2, 3]", "[1, 2]"), {"f": 1})
    assert found.first is not None
    assert (found.first.kind, found.first.recorded, found.first.would) == ("items", 3, 2)
    assert found.status == "completed"
    more = parted(MAPPED, MAPPED.replace("[1, 2, 3]", "[1, 2, 3, 4]"), {"f": 1})
    assert (more.status, len(more.missing)) == (None, 1)


SAVED = """
workflow: w
variables: {n: {default: 1}, m: {default: 0}}
nodes:
  a: {uses: f, save: {n: $result}}
  b: {uses: f, save: {m: $n + 1}}
edges: [a -> b -> end]
"""


@pytest.mark.parametrize(
    ("change", "kind", "would", "changed"),
    [
        (("{n: $result}", "{n: $result + 5}"), "variables", ["m", "n"], ()),
        (("save: {m: $n + 1}", "save: {m: $n + 1}, with: {x: $n}"), None, None, ("b",)),
        (("{m: $n + 1}", "{m: $n.at.all}"), "end", None, ()),
        (("edges: [a -> b -> end]", "outputs: {n: $n}\nedges: [a -> b -> end]"), "variables",
         ["outputs.m"], ()),
    ],
)  # fmt: skip
def test_what_a_result_leaves_is_worked_out_by_the_other_graph(
    change: tuple[str, str], kind: str | None, would: Json, changed: tuple[str, ...]
) -> None:
    found = parted(SAVED, SAVED.replace(*change), {"f": 4})
    assert (found.first and found.first.kind, found.changed) == (kind, changed), found
    if would is not None:
        assert found.first is not None
        assert found.first.would == would


def withheld(lines: Sequence[msg.Entry], choice: str = "approve") -> list[msg.Entry]:
    """A record, as if people had been asked about every result."""
    found: list[msg.Entry] = []
    for line in lines:
        record = line.record
        if isinstance(record, msg.AttemptSucceeded):
            at, step, attempt = record.at, record.step, record.attempt
            asked = msg.AttemptWithheld(
                at=at,
                step=step,
                attempt=attempt,
                fence=record.fence,
                permits=("report:p:r#w",),
                result=record.result,
            )
            said = msg.WaitEnded(at=at, step=step, attempt=attempt, choice=choice, permit=True)
            found += [msg.Entry(at=line.at, record=asked), msg.Entry(at=line.at, record=said)]
        found.append(line)
    return found


def test_what_people_let_count_counts_as_it_would_in_the_other_graph() -> None:
    graph = documents.read_graph(SAVED)
    record = run_in_memory(graph, {}, functions={"f": lambda _: 4})
    name, history = record.state.run, withheld(record.history)
    found = again(graph, name, history)
    assert (found.first, found.status, found.changed) == (None, "completed", ())
    other = documents.read_graph(SAVED.replace("{n: $result}", "{n: $result + 5}, with: {x: 1}"))
    found = again(graph, name, history, other)
    assert (found.first and found.first.would, found.changed) == (["m", "n"], ("a",))
    # What would not fit is not put to people: the attempt has failed.
    unfit = documents.read_graph(SAVED.replace("{n: $result}", "{n: $result.x.y}"))
    plain_ = again(graph, name, record.history, unfit)
    found = again(graph, name, history, unfit)
    assert (
        (found.status, found.reason) == (plain_.status, plain_.reason) == ("failed", "save_failed")
    )
    # What they do not let count was done all the same, by other work here.
    found = again(graph, name, withheld(record.history, "deny"), other)
    assert (found.status, found.reason, found.changed) == ("failed", "denied", ("a",))


def test_what_came_at_once_and_has_to_be_waited_for_is_waited_for() -> None:
    flaky = (
        "workflow: w\nnodes: {a: {uses: f, retry: {attempts: 2, backoff: %s}}}\nedges: [a -> end]"
    )
    graph = documents.read_graph(flaky % "0")
    record = run_in_memory(graph, {}, functions={"f": lambda _: 1}, faults=[Fault(node="a")])
    assert record.status == "completed"
    for pause in ("0", "9"):
        found = again(graph, record.state.run, record.history, documents.read_graph(flaky % pause))
        assert (found.first, found.same_end, found.made) == (None, True, {("a#1", 1), ("a#1", 2)})
    paused = [
        *record.history[:3],
        msg.Entry(at=record.history[2].at, record=msg.PauseRequested(at=EPOCH, by="x")),
        *record.history[3:],
    ]
    # A run that is paused for good wakes nobody.
    found = again(graph, record.state.run, paused, documents.read_graph(flaky % "9"))
    assert (found.status, found.first and found.first.kind) == (None, "end")
