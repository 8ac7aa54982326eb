"""A run that goes on from an earlier place of its own: what of its state is as it was there.

Threads stand where they stood, and variables are what they were. Whatever is live ends. What was
live there begins anew, as another iteration of its node, because the name of a step is never given
out twice: a late report of what has ended meets no step of its name. Threads that waited for others
wait anew, from now on.

What has been counted stays counted: visits and iterations, what was spent, what rules remember, what
they have paused the run for and what was let pass. A step that begins anew is the visit that it was.

Nothing is taken out of history. Which of its lines led to where the run stands is its *course*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from engine.core import forking
from engine.core import messages as msg
from engine.core.records import replace
from engine.core.state import State, Step
from engine.core.transitions import RunStatus


def goes(state: State) -> bool:
    """Whether a run can go back at all, as it stands."""
    moves = state.status in (RunStatus.RUNNING, RunStatus.PAUSED)
    return moves and state.undoing is None and state.stopping is None


def asked(state: State, event: msg.RollbackRequested) -> State:
    """The state of a run that is asked to go back: it does so with the decision that follows.

    Nothing is decided where it has ended meanwhile, or come under another version of its workflow.
    """
    if goes(state) and forking.begun(state.run, event).moved == state.moved:
        return replace(state, back=event)
    return state


def obstacle(place: State) -> str:
    """Why no run can go back to a place of its own; empty where it can.

    Items of a map that is under way have names of their own, which are given out once, too.
    """
    under_way = forking.mapped(place)
    if under_way:
        return f"the map of step {under_way[0].key} is under way there"
    return forking.obstacle(place)


def there(state: State, carried: Collection[msg.StepKey]) -> State:
    """The state of a place as a run goes on from it; `carried` are steps of which calls are known.

    Their names are still those that they had.
    """
    steps = {key: forking.due(step, carried=key in carried) for key, step in state.steps.items()}
    return replace(state, steps=steps)


def decided(state: State, asked: msg.RollbackRequested) -> msg.RollBack:
    """The names under which begins anew what was live at the place that is asked for."""
    handed = dict(state.iterations)
    anew: dict[msg.StepKey, msg.StepKey] = {}
    for step in _live(forking.begun(state.run, asked)):
        handed[step.node] = handed.get(step.node, 0) + 1
        anew[step.key] = msg.step_key(step.node, handed[step.node])
    return msg.RollBack(seq=asked.seq, anew=anew)


def rolled(state: State, command: msg.RollBack) -> State:
    """The state of a run that has gone back."""
    asked = state.back
    assert asked is not None
    place = forking.begun(state.run, asked)
    steps: dict[msg.StepKey, Step] = {}
    iterations = dict(state.iterations)
    for step in _live(place):
        key = command.anew[step.key]
        iterations[step.node] = int(key.rpartition("#")[2])
        steps[key] = replace(step, key=key, iteration=iterations[step.node])
    return replace(
        state,
        steps=steps,
        iterations=iterations,
        afresh=place.afresh or not place.iterations,
        tokens=tuple(
            replace(token, since=asked.at if token.since else None) for token in place.tokens
        ),
        scopes=place.scopes,
        variables=place.variables,
        maps={},
        compensate=False,
        within=(),
        back=None,
    )


def _live(place: State) -> list[Step]:
    """What was live at a place, in the order of its nodes and iterations."""
    return sorted(place.steps.values(), key=lambda step: (step.node, step.iteration))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """One of the times that a run went back, as its history tells."""

    #: The line that says so, and the line that it went back to.
    seq: int
    to: int
    anew: Mapping[msg.StepKey, msg.StepKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The lines of a history that led to where the run stands: all but those it went back over."""

    #: Spans of lines, each after the first number and up to the second; None: to the end.
    spans: tuple[tuple[int, int | None], ...] = ((0, None),)
    #: Steps that were live where it went back to, and have begun anew under other names.
    renamed: frozenset[msg.StepKey] = frozenset()

    def leads(self, seq: int) -> bool:
        """Whether a line is one of them."""
        return any(after < seq and (upto is None or seq <= upto) for after, upto in self.spans)

    def keeps(self, step: msg.StepKey, seq: int) -> bool:
        """Whether a step that a line began counts, where the run stands now."""
        return step not in self.renamed and self.leads(seq)


def course(rollbacks: Sequence[Rollback]) -> Course:
    """The course of a run from the times that it went back, in their order.

    It may have gone back to where it had gone back from: then that counts again.
    """
    spans: list[tuple[int, int | None]] = []
    renamed: set[msg.StepKey] = set()
    upto: int | None = None
    for one in reversed(rollbacks):
        if upto is None or one.seq <= upto:
            spans.append((one.seq, upto))
            renamed |= one.anew.keys()
            upto = one.to
    return Course(spans=((0, upto), *reversed(spans)), renamed=frozenset(renamed))
