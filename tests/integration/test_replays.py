"""Recorded runs are decided anew, and nothing else happens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from engine.core import messages as msg
from engine.core.values import Json
from engine.errors import Conflict, Damaged, Invalid, NotFound
from engine.platform import DatabaseRole
from engine.runs import replays, shredding
from engine.runs.replays import Replayed
from engine.settings import Settings
from engine.store import session
from engine.store.ids import RunId
from tests.support import digests, platforms, recordings
from tests.support.platforms import TENANT, Sent, as_owner, publish, sql
from tests.support.recordings import LOOP, PLANNED, SHAPES, Scene

COMMANDS = frozenset(
    {kind.__name__ for kind in msg.Command.__subclasses__()}  # what the coordinator decides
)


@pytest.fixture
def scene(settings: Settings) -> Iterator[Scene]:
    with (
        platforms.platform(settings) as main,
        platforms.platform(settings, DatabaseRole.WORKER) as hands,
    ):
        yield Scene(
            main=replace(main, broker=Sent(app=main.broker.app)),
            hands=replace(hands, broker=Sent(app=hands.broker.app)),
        )


def decided(scene: Scene, run: RunId) -> int:
    """How many decisions history tells of."""
    rows = sql(
        scene.main, "SELECT kind FROM history WHERE run_id = CAST(:run AS uuid)", run=run.run
    )
    return sum(row.kind in COMMANDS for row in rows)


def state_of(scene: Scene) -> Any:
    """A digest of every row there is, and every message that was sent."""
    owner = session.connect(scene.main.settings.database_url or "")
    found = digests.of(owner)
    owner.dispose()
    return found, [*scene.main.broker.hints], [*scene.hands.broker.hints]  # type: ignore[attr-defined]


def told(found: Replayed) -> dict[str, Any]:
    assert isinstance(found.first, dict)
    return found.first


def tampered(scene: Scene, run: RunId, kind: str, old: str, new: str, *, last: bool = False) -> int:
    """Alter one line of a kind, the first that holds a text; its seq."""
    order = "DESC" if last else ""
    (row, *_) = sql(
        scene.main,
        "SELECT seq FROM history WHERE run_id = CAST(:run AS uuid) AND kind = :kind"
        f" AND strpos(body::text, :old) > 0 ORDER BY seq {order}",
        run=run.run,
        kind=kind,
        old=old,
    )
    as_owner(
        scene.main.settings,
        "UPDATE history SET body = replace(body::text, :old, :new)::json"
        " WHERE run_id = CAST(:run AS uuid) AND seq = :seq",
        run=run.run,
        seq=row.seq,
        old=old,
        new=new,
    )
    return int(row.seq)


# --- what was tampered with -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "old", "new", "step", "differs"),
    [
        ("planned", "TakeEdges", '"target":"large"', '"target":"small"', "plan#1", ["taken"]),
        ("loop", "TakeEdges", '"$n":3', '"$n":2', "a#3", ["untaken"]),
        ("parallel", "RequestStart", '["f#1",1]', '["f#1",2]', "b#1", ["thread"]),
        ("parallel", "JoinThreads", '"closes":true', '"closes":false', None, ["closes"]),
        ("first", "JoinThreads", '"because":"demand"', '"because":"last"', None, ["because"]),
        ("retry", "RetryStep", '"reason":"error"', '"reason":"lost"', "a#1", ["reason"]),
        ("map", "GatherItems", '"because":"all"', '"because":"asked"', "w#1", ["because"]),
        ("child", "SaveResult", '"w#1"', '"w#2"', "w#2", ["step"]),
        ("undo", "SettleUndo", '"failed":"boom"', '"failed":""', "undo car#1", ["failed"]),
        ("people", "TakeEdges", '"choice":"approve"', '"choice":"reject"', "ok#1", ["choice"]),
        ("governed", "FinishRun", '"reason":"aborted"', '"reason":"end"', None, ["reason"]),
    ],
)
def test_a_decision_that_was_tampered_with_is_named(
    *, scene: Scene, shape: str, kind: str, old: str, new: str, step: str | None, differs: list[str]
) -> None:
    run = recordings.led(scene, shape)
    seq = tampered(scene, run, kind, old, new)
    found = replays.of_itself(scene.main, run)
    assert (found.outcome, found.divergences, found.seq) == ("different", 1, seq)
    first = told(found)
    assert (first["kind"], first["seq"], first["differs"]) == ("different", seq, differs)
    assert first["step"] == step or step is None
    assert first["recorded"]["kind"] == first["would"]["kind"] == kind
    assert [name for name in first["would"] if first["would"][name] != first["recorded"].get(name)]


def test_a_decision_that_was_taken_out_is_missed(scene: Scene) -> None:
    run = recordings.led(scene, "planned")
    as_owner(
        scene.main.settings,
        "DELETE FROM history WHERE kind = 'TakeEdges' AND body->>'step' = 'ask#1'",
    )
    first = told(replays.of_itself(scene.main, run))
    assert (first["step"], first["recorded"]["kind"], first["would"]["kind"]) == (
        *("plan#1", "PassNode", "TakeEdges"),
    )


def test_an_end_that_was_cut_off_is_missed(scene: Scene) -> None:
    run = recordings.led(scene, "planned")
    as_owner(scene.main.settings, "DELETE FROM history WHERE kind = 'FinishRun'")
    found = replays.of_itself(scene.main, run)
    first = told(found)
    assert (first["kind"], first["recorded"], first["would"]["kind"]) == (
        *("not_decided", None, "FinishRun"),
    )


def test_what_was_reported_otherwise_leads_elsewhere(scene: Scene) -> None:
    """An event is taken as told, and what was decided on it does not follow from it any more."""
    run = recordings.led(scene, "people")
    tampered(scene, run, "WaitEnded", '"choice":"approve"', '"choice":"reject"')
    first = told(replays.of_itself(scene.main, run))
    assert (first["kind"], first["step"]) == ("different", "ok#1")
    assert first["would"]["taken"][0]["target"] == "a"


def test_a_line_that_cannot_follow_is_named(scene: Scene) -> None:
    run = recordings.led(scene, "planned")
    as_owner(
        scene.main.settings,
        "UPDATE history SET kind = 'RunSubmitted', body = '{\"by\":\"eve\"}' WHERE kind = 'Admitted'"
        " AND body->>'step' = 'large#1'",
    )
    first = told(replays.of_itself(scene.main, run))
    assert first["kind"] == "impossible"
    assert "cannot become running" in first["would"]


# --- what cannot be compared --------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_that_was_shredded_is_decided_as_far_as_it_is_known(scene: Scene, shape: str) -> None:
    run = recordings.led(scene, shape)
    assert shredding.shred(scene.main, run, by="ada", why="asked to")
    found = replays.of_itself(scene.main, run)
    assert (found.divergences, found.first, found.complete) == (0, None, True)
    assert found.decisions + found.untold == decided(scene, run)
    # Only where data was looked at is anything not known.
    looks = {"planned": 1, "loop": 3, "contradiction": 1, "large": 1}
    assert found.untold == looks.get(shape, 0)
    assert found.outcome == ("unknown" if found.untold else "same")
    assert all("line 1 is shredded" in why for why in found.unknown)


def test_a_shredded_run_hides_no_other_decision(scene: Scene) -> None:
    run = recordings.led(scene, "loop")
    shredding.shred(scene.main, run, by="ada", why="asked to")
    seq = tampered(scene, run, "RequestStart", '"step":"b#1"', '"step":"b#2"')
    assert told(replays.of_itself(scene.main, run))["seq"] == seq


def test_a_run_whose_blobs_are_gone_is_decided_as_far_as_it_is_known(scene: Scene) -> None:
    run = recordings.led(scene, "large")
    shutil.rmtree(Path(unquote(urlsplit(scene.main.settings.blob_url or "").path)))
    found = replays.of_itself(scene.main, run)
    assert (found.outcome, found.divergences, found.untold) == ("unknown", 0, 1)
    assert found.decisions == decided(scene, run) - 1
    (why,) = found.unknown
    assert why.startswith("line ")


def test_what_takes_too_long_is_cut_off_and_said(scene: Scene) -> None:
    run = recordings.led(scene, "loop")
    found = replays.of_itself(scene.main, run, seconds=-1)
    assert (found.complete, found.outcome, found.divergences, found.seq) == (False, "unknown", 0, 1)
    assert found.unknown == (f"what follows line 1 of {_last(scene, run)}: it takes too long",)


def test_what_is_not_there_or_not_known_is_refused(scene: Scene, settings: Settings) -> None:
    run = recordings.led(scene, "planned")
    nobody = RunId(TENANT, "0190ffff-0000-7000-8000-000000000000")
    for absent in (nobody, RunId("other", run.run)):
        for asked in (
            lambda it: replays.of_itself(scene.main, it),
            lambda it: replays.against_version(scene.main, it, None),
            lambda it: replays.against_policy(scene.main, it, "policy: p\nrules: []"),
        ):
            with pytest.raises(NotFound, match="Run not found"):
                asked(absent)
    with pytest.raises(NotFound, match="planned@9"):
        replays.against_version(scene.main, run, "9")
    with pytest.raises(Invalid):
        replays.against_policy(scene.main, run, "policy: p\nrules: [nonsense]")
    as_owner(settings, "UPDATE history SET kind = 'Nonsense' WHERE seq = 3")
    with pytest.raises(Damaged, match="line 3"):
        replays.of_itself(scene.main, run)
    as_owner(settings, "UPDATE run SET rules = 99")
    with pytest.raises(Conflict, match="rules number 99"):
        replays.of_itself(scene.main, run)


# --- what goes well ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_is_decided_anew_as_it_was_and_nothing_happens(scene: Scene, shape: str) -> None:
    run = recordings.led(scene, shape)
    before = state_of(scene)
    found = replays.of_itself(scene.main, run)
    assert (found.outcome, found.divergences, found.first, found.unknown) == ("same", 0, None, ())
    assert found.decisions == decided(scene, run) > 0
    assert (found.complete, found.seq) == (True, _last(scene, run))
    assert state_of(scene) == before


def test_a_run_that_goes_on_is_decided_as_far_as_it_is(scene: Scene) -> None:
    run = scene.submit(LOOP, n=0)
    scene.do(run, "a#1", n=1)
    found = replays.of_itself(scene.main, run)
    assert (found.outcome, found.decisions) == ("same", decided(scene, run))


def test_history_of_many_pages_is_decided_page_by_page(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "_PAGE", 2)
    run = recordings.led(scene, "parallel")
    assert replays.of_itself(scene.main, run).decisions == decided(scene, run)


def test_a_version_whose_plan_decides_otherwise_is_named_by_step_and_nothing_changes(
    scene: Scene,
) -> None:
    run = recordings.led(scene, "planned")
    same = replays.against_version(scene.main, run, None)
    assert (same.outcome, same.divergences, same.decisions) == ("same", 0, decided(scene, run))
    plan: Json = {
        "role": "plan",
        "rules": [{"when": "$n > 9", "next": ["large"]}, {"next": ["small"]}],
    }
    publish(scene.main, {**PLANNED, "nodes": {**PLANNED["nodes"], "plan": plan}})  # type: ignore[dict-item]
    before = state_of(scene)
    found = replays.against_version(scene.main, run, None)
    first = told(found)
    assert (found.outcome, found.divergences, found.other) == ("different", 1, "planned@1.0.1")
    assert (first["kind"], first["step"]) == ("edges", "plan#1")
    assert (first["recorded"]["to"], first["would"]["to"]) == (["large"], ["small"])
    assert found.would is not None
    assert (found.would.missing, found.would.end) == (("small#1",), None)
    # Of what was decided until then nothing is different.
    assert 0 < found.decisions < decided(scene, run)
    assert state_of(scene) == before


def test_a_policy_that_would_have_stopped_it_is_told(scene: Scene) -> None:
    run = recordings.led(scene, "planned")
    before = state_of(scene)
    found = replays.against_policy(
        scene.main,
        run,
        "policy: p\nrules: [{name: one, metric: steps, op: '>', value: 1, action: abort}]",
    )
    first = told(found)
    assert (found.outcome, found.divergences, found.other) == ("different", 1, "p")
    assert (first["step"], first["recorded"], first["would"]) == ("large#1", "passed", "aborted")
    assert found.would is not None
    assert found.would.consequence == "aborted"
    mild = replays.against_policy(scene.main, run, "policy: p\nrules: [steps > 99 → warn]")
    assert (mild.outcome, mild.divergences, mild.first) == ("same", 0, None)
    assert state_of(scene) == before


def _last(scene: Scene, run: RunId) -> int:
    (row,) = sql(scene.main, "SELECT seq FROM run WHERE id = CAST(:run AS uuid)", run=run.run)
    return int(row.seq)
