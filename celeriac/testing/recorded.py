"""Runs that were recorded on a platform, decided anew in a test.

Every event is taken as it was told, and each decision must be the one that this release comes to, to
the last field. Nothing is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.core import document, replay
from engine.core.decide import RULES
from engine.core.graph import Graph
from engine.core.policy import Policy
from engine.core.problem import Problem
from engine.core.references import Unread
from engine.core.replay import Replay
from engine.core.values import Json, Ref, canonical, parse
from engine.errors import Invalid
from engine.formats import recording
from engine.formats.recording import Recording


class Diverged(AssertionError):
    """Something else follows from a recorded run than what was decided."""


def replayed(file: Path | str) -> Replay:
    """Decide a file of `celeriac export` anew. Raises `Diverged` and `Invalid`."""
    found = recording.read(Path(file).read_bytes())
    if isinstance(found, tuple):
        raise Invalid(found, f"{file} is no recording of a run")
    if found.head["rules"] != RULES:
        message = f"is decided by rules number {found.head['rules']}, not {RULES}"
        raise Invalid([Problem(path="line 1", message=message, remedy="use that release")])
    graphs: dict[int, Graph] = {}
    for since, data in found.documents.items():
        graph = document.read(data)
        if isinstance(graph, tuple):
            raise Invalid(graph, f"the graph of {file} cannot be read")
        graphs[since] = graph
    done = _decided(found, graphs)
    if done.first is not None:
        first = done.first
        raise Diverged(
            f"line {first.seq} of run {found.head['run']} ({first.step or 'the run'}) is "
            f"{first.kind.replace('_', ' ')}:\n  recorded {canonical(first.recorded)}\n  "
            f"would be {canonical(first.would)}"
        )
    return done


def _decided(found: Recording, graphs: Mapping[int, Graph]) -> Replay:
    def read(ref: Ref) -> Json:
        if ref.sha256 not in found.blobs:
            raise Unread(f"the large value {ref.sha256} was left out of the file")
        return parse(found.blobs[ref.sha256])

    policy = Policy(lost_attempts=found.head["policy"]["lost_attempts"])
    graph, done = graphs[0], replay.begun(found.head["run"])
    for line in found.lines:
        then = graphs.get(line.seq)
        done = replay.heard(graph, policy, done, line.recorded(), then=then, read=read)
        graph = then or graph
    return replay.over(graph, done)
