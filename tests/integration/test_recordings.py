"""Runs as files: brought in elsewhere they are what they were, and nothing goes on from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac import testing
from engine.errors import Conflict, Invalid, NotFound
from engine.runs import (
    backtests,
    catalogue,
    checkpoints,
    control,
    executions,
    explanations,
    exports,
    forks,
    imports,
    migrations,
    replays,
    restarts,
    shredding,
    tenants,
    verification,
    views,
)
from engine.runs.origins import Edits
from engine.settings import Settings
from engine.store.ids import RunId
from tests.support import forking, recorded
from tests.support.forking import LOOP, World, hashes
from tests.support.platforms import LINE, TENANT, publish, sql, submit

OTHER = "other"


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with forking.world(settings) as made:
        tenants.create(made.main.database, OTHER, name="Other", admin="eve")
        yield made
        assert verification.verify(made.main, OTHER).sound


def led(world: World) -> RunId:
    """A run that has gone round a loop, and has ended."""
    run = submit(world.main, publish(world.main, LOOP), n=0, secret="kept " * 2000)
    for lap in range(1, 5):
        world.do(run, f"a#{lap}", n=lap)
    world.do(run, "b#1")
    checkpoints.name(world.main, run, 5, "early", by="ada")
    return run


def brought(world: World, run: RunId, payloads: exports.Payloads = "all") -> RunId:
    text = exports.export(world.main, run, payloads=payloads)
    return imports.bring(world.main, OTHER, text, by="eve")


# --- what is refused ---------------------------------------------------------------------------


def test_a_run_that_has_not_ended_or_is_not_there_is_not_exported(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)))
    with pytest.raises(Conflict, match="export it when it has ended"):
        exports.export(world.main, run)
    with pytest.raises(NotFound):
        exports.export(world.main, RunId(OTHER, run.run))


def rewritten(text: bytes, number: int, before: str, after: str) -> bytes:
    return recorded.rewritten(text.decode(), number, before, after).encode()


@pytest.mark.parametrize(
    ("number", "before", "after", "why"),
    [
        (1, '"format":1', '"format":99', "line 1: is of format 99"),
        (1, '"rules":1', '"rules":"x"', "line 1: has no rules"),
        (2, '"part":"graph"', '"part":"line"', "line 2"),
        (3, "RunSubmitted", "Runsubmitted", "line 1 of the history is not what its hash says"),
        (3, "kept", "lost", "users' data of line 1 of the history is not what its digest says"),
        (5, '"seq":3', '"seq":4', "line 3 of the history is not what its hash says"),
    ],
)
def test_what_was_altered_is_named_by_line_though_every_digest_was_computed_anew(
    world: World, number: int, before: str, after: str, why: str
) -> None:
    run = led(world)
    text = rewritten(exports.export(world.main, run), number, before, after)
    with pytest.raises(Invalid) as caught:
        imports.bring(world.main, OTHER, text, by="eve")
    assert why in str(caught.value)
    assert views.runs(world.main, OTHER) == ()


def test_a_file_that_was_altered_or_cut_off_is_refused_with_the_first_line(world: World) -> None:
    text = exports.export(world.main, led(world))
    lines = text.splitlines(keepends=True)
    for altered, why in [
        (text.replace(b'n\\":2', b'n\\":3', 1), "was altered"),
        (b"".join(lines[:-1]), f"line {len(lines)}: is missing"),
        (b"".join([*lines[:4], *lines[5:]]), "line 5: was altered, moved"),
        (text + lines[-1], f"line {len(lines) + 1}: follows the end"),
        (b"", "line 1: is missing"),
        (b"\x1f\x8b" + text, "line 1: is no digest and JSON object"),
        (b"{}", "line 1: is no digest"),
    ]:
        with pytest.raises(Invalid) as caught:
            imports.bring(world.main, OTHER, altered, by="eve")
        assert why in str(caught.value), why
    assert views.runs(world.main, OTHER) == ()


def test_parts_that_contradict_each_other_or_a_graph_that_is_none_change_nothing(
    world: World,
) -> None:
    run = led(world)
    text = exports.export(world.main, run)
    number = next(at for at, line in enumerate(text.splitlines(), 1) if b'"part":"attempt"' in line)
    for at, before, after in [
        (number, '"step":"a#1"', '"step":"a#2"'),
        (number, '"outcome":"succeeded"', '"outcome":"wished"'),
        (2, '"uses":"noop"', '"uses":7'),
        (1, '"workflow":"loop"', '"workflow":"other"'),
        (1, '"status":"completed"', '"status":"failed"'),
    ]:
        with pytest.raises(Invalid):
            imports.bring(world.main, OTHER, rewritten(text, at, before, after), by="eve")
    with pytest.raises(Conflict, match="rules number 9"):
        imports.bring(world.main, OTHER, rewritten(text, 1, '"rules":1', '"rules":9'), by="eve")
    assert views.runs(world.main, OTHER) == ()
    assert sql(world.main, "SELECT FROM workflow_version WHERE tenant_id = :t", t=OTHER) == []


def test_a_run_is_brought_in_once_and_not_beside_itself(world: World) -> None:
    run = led(world)
    with pytest.raises(Conflict, match="is here already"):
        imports.bring(world.main, TENANT, exports.export(world.main, run), by="ada")
    brought(world, run)
    with pytest.raises(Conflict, match="is here already"):
        brought(world, run)


# --- what it is elsewhere ----------------------------------------------------------------------


def test_what_was_brought_in_is_what_it_was_there(world: World) -> None:
    run = led(world)
    there = brought(world, run)
    assert there == RunId(OTHER, run.run)
    assert hashes(world.main, there) == hashes(world.main, run)
    mine, other = views.run(world.main, run), views.run(world.main, there)
    for name in ("status", "seq", "submitted_by", "reason", "variables", "workflow", "outputs"):
        assert getattr(mine, name) == getattr(other, name), name
    assert other.version == f"{mine.version}+imported.{run.run}"
    assert mine.imported is None
    assert other.imported is not None
    assert (other.imported["tenant"], other.imported["by"]) == (TENANT, "eve")
    assert replays.of_itself(world.main, there).outcome == "same"
    assert explanations.explain(world.main, there).why == explanations.explain(world.main, run).why
    for seq in (3, 9, mine.seq):
        assert views.state_at(world.main, there, seq) == views.state_at(world.main, run, seq)
    assert [(one.seq, one.name) for one in views.checkpoints(world.main, there)] == [
        (one.seq, one.name) for one in views.checkpoints(world.main, run)
    ]
    assert [one.outcome for one in views.attempts(world.main, there)] == ["succeeded"] * 5
    assert len(views.calls(world.main, there)) == 5  # one of each step
    assert len(executions.timeline(world.main, there).page.items) == len(
        executions.timeline(world.main, run).page.items
    )
    assert views.inputs(world.main, there) == views.inputs(world.main, run)


def test_a_run_that_was_migrated_goes_along_with_all_its_versions(
    world: World, tmp_path: Path
) -> None:
    """Node b has another name later, and a run that is under the first version again."""
    for version, name in (("1.0.0", "b"), ("2.0.0", "c"), ("3.0.0", "b")):
        nodes = {"a": {"uses": "noop"}, name: {"uses": "noop"}, "z": {"uses": "noop"}}
        edges = [f"a -> {name} -> z -> end"]
        document = {"workflow": "w", "version": version, "nodes": nodes, "edges": edges}
        version_id = publish(world.main, document)
        if version == "1.0.0":
            run = submit(world.main, version_id)
            world.do(run, "a#1")
    migrations.migrate(world.main, run, "2.0.0", {"b": "c"}, by="ada")
    world.do(run, "b#1")
    migrations.migrate(world.main, run, "3.0.0", {"c": "b"}, by="ada")
    world.do(run, "z#1")
    text = exports.export(world.main, run)
    there = imports.bring(world.main, OTHER, text, by="eve")
    assert views.run(world.main, there).version == f"3.0.0+imported.{run.run}"
    for one in (run, there):
        assert replays.of_itself(world.main, one).outcome == "same"
    of = {one: explanations.explain(world.main, one) for one in (run, there)}
    assert of[run].decisions == of[there].decisions
    taken = [
        [(item["header"]["name"], item["header"]["edge_taken"]) for item in timeline.page.items]
        for timeline in (executions.timeline(world.main, one) for one in (run, there))
    ]
    assert taken[0] == taken[1]
    file = tmp_path / "moved.run"
    file.write_bytes(text)
    assert testing.replay(file).decisions > 0
    again = exports.export(world.main, there)
    tenants.create(world.main.database, "third", name="Third", admin="zoe")
    third = imports.bring(world.main, "third", again, by="zoe")
    assert replays.of_itself(world.main, third).outcome == "same"
    number = next(at for at, line in enumerate(text.splitlines(), 1) if b'"part":"move"' in line)
    for before, after in (
        ('"seq":', '"seq":1'),
        ('"uses":"noop"', '"uses":7'),
        ('"version":"1.0.0"', f'"version":"1.0.0-{"a" * 60_000}"'),
        ('"pins":{', '"pins":{"x":[1],'),
    ):
        with pytest.raises(Invalid):
            imports.bring(world.main, TENANT, rewritten(text, number, before, after), by="ada")


def test_nothing_of_it_goes_on_and_each_wish_is_refused_with_the_reason(world: World) -> None:
    run = brought(world, led(world))
    for act in (control.cancel, control.pause, control.resume, control.terminate):
        with pytest.raises(Conflict, match="has already ended"):
            act(world.main, run, by="eve")
    with pytest.raises(Conflict, match="recorded elsewhere and is read-only"):
        forks.fork(world.main, run, 3, Edits(), by="eve")
    with pytest.raises(Conflict, match="recorded elsewhere and is read-only"):
        restarts.restart(world.main, run, "a#2", Edits(), by="eve")
    with pytest.raises(Conflict, match="recorded elsewhere and is read-only"):
        checkpoints.name(world.main, run, 3, "mine", by="eve")


def test_it_stands_in_no_ledger_and_its_workflow_is_none_that_could_be_run(world: World) -> None:
    run = brought(world, led(world))
    for table in ("ledger", "reservation", "account", "step", "inbox"):
        where = "SELECT FROM {} WHERE tenant_id = :t".format(table)  # noqa: UP032  # our own
        assert sql(world.main, where, t=OTHER) == []
    assert catalogue.latest(world.main, OTHER) == ()
    with pytest.raises(NotFound):
        catalogue.find(world.main, OTHER, "loop")
    with pytest.raises(NotFound):
        catalogue.version(world.main, OTHER, views.run(world.main, run).version_id)
    policy = "policy: steps\nrules: [steps > 0 → abort]"
    assert backtests.of_policy(world.main, OTHER, policy, backtests.Filter()).runs == ()
    which = backtests.Filter(ids=(run.run,))
    (judged,) = backtests.of_policy(world.main, OTHER, policy, which).runs
    assert judged.would == "aborted"


@pytest.mark.parametrize("payloads", ["none", "small"])
def test_users_data_goes_along_as_it_is_asked_for(world: World, payloads: exports.Payloads) -> None:
    run = led(world)
    text = exports.export(world.main, run, payloads=payloads)
    assert b"kept kept" not in text
    assert (b'\\"n\\":2' in text) == (payloads == "small")
    there = imports.bring(world.main, OTHER, text, by="eve")
    assert views.run(world.main, there).variables.keys() <= {"n"}
    found = replays.of_itself(world.main, there)
    assert found.first is None
    # What decided is small: without any of it nobody knows what should have been decided.
    assert (found.untold > 0) == (payloads == "none")
    assert views.calls(world.main, there)


def test_it_can_be_shredded_like_any_other(world: World) -> None:
    run = brought(world, led(world))
    shredding.shred(world.main, run, by="eve", why="asked for")
    assert "kept" not in str(views.run(world.main, run).variables)
    again = exports.export(world.main, run)
    assert b"kept kept" not in again


def test_large_values_go_along_and_are_kept(world: World) -> None:
    run = submit(world.main, publish(world.main, dict(LINE)), big="x" * 300_000)
    world.do(run, "a#1")
    world.do(run, "b#1")
    there = brought(world, run)
    assert views.run(world.main, there).variables["big"] == "x" * 300_000
