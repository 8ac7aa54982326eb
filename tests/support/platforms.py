"""Platforms on a test's own database, and a worker that needs no Celery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, text

from engine import keys, tools
from engine.broker import Broker, Hint
from engine.core.values import Json
from engine.keys import Key, Ring
from engine.platform import DatabaseRole, Platform, build
from engine.runs import access, attempts, catalogue, launch, turns, views
from engine.runs.attempts import Leased, Outcome, Succeeded
from engine.settings import Settings
from engine.store import functions, session
from engine.store.functions import Namespace, NewFunction
from engine.store.ids import RunId, StepId

TENANT = "local"
#: What blobs are sealed with.
RING = Ring(keys=(Key(id="test", secret=bytes(range(32))),))
#: What secrets are sealed with.
SECRET_RING = Ring(keys=(Key(id="vault", secret=bytes(range(32, 64))),), use=keys.SECRETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Broker):
    """A broker that keeps what it was given: what a message is for, tests decide."""

    hints: list[Hint] = field(default_factory=list)

    def send(self, hints: object) -> None:
        self.hints.extend(hints)  # type: ignore[arg-type]

    def nudge(self, runs: object) -> None:
        """Tests take turns themselves."""


@contextmanager
def platform(settings: Settings, role: DatabaseRole = DatabaseRole.CONTROL) -> Iterator[Platform]:
    """A platform in the role of a process, with the tenant of the embedded profile."""
    built = build(settings, role)
    access.ensure_local(built.database) if role is DatabaseRole.CONTROL else None
    try:
        yield built
    finally:
        built.close()


def register(
    control: Platform,
    name: str,
    source: str | None = None,
    *,
    library: str | None = None,
    namespace: Namespace = "function",
    effect: str = "pure",
    tenant: str = TENANT,
    **terms: Any,
) -> None:
    """A new version of a function or tool, whatever its source; `terms` are those of a tool."""
    if source is None and library is None:
        source = f"def {name}(state):\n    return state"
    new = NewFunction(
        namespace=namespace,
        name=name,
        source=source,
        library=library,
        parameters={},
        effect=effect,
        checksum=f"{source}{library}{effect}{terms}",
        created_by="ada",
        terms=tools.terms(terms),
    )
    with session.transaction(control.database) as connection:
        functions.register(connection, tenant, new)


def publish(control: Platform, document: Json, *, tenant: str = TENANT) -> str:
    """The id of a published workflow version."""
    return catalogue.publish(control, tenant, document, by="ada").id


def submit(control: Platform, version: str, **inputs: Json) -> RunId:
    """A run after its first turn."""
    run = launch.submit(control, TENANT, version, inputs, by="ada").run
    turns.take_turns(control, [run])
    return run


def take(worker: Platform, run: RunId, key: str, *, name: str = "w1") -> Leased:
    """Lease and begin a step that must be there to be had."""
    (lease,) = attempts.lease(worker, [StepId(*run, key)], name)
    (begun,) = attempts.begin(worker, [lease])
    return begun


def finish(
    control: Platform,
    worker: Platform,
    lease: Leased,
    outcome: Outcome | None = None,
    **patch: Json,
) -> bool:
    """Report an attempt and take the turn that follows; whether the report was accepted."""
    accepted = attempts.report(worker, "w1", [(lease, outcome or Succeeded(patch=patch))])
    turns.take_turns(control, [lease.step.run_id])
    return lease.held in accepted


def status(control: Platform, run: RunId) -> str:
    return views.status(control, run).status


def sql(platform: Platform, statement: str, **values: Any) -> Sequence[Row[Any]]:
    """Rows, as the role of a platform may read them."""
    with session.transaction(platform.database) as connection:
        return connection.execute(text(statement), values).all()


def kinds(control: Platform, run: RunId) -> list[str]:
    """What a run's history consists of, in its order, which is that of its times."""
    rows = sql(
        control,
        "SELECT kind, at FROM history WHERE run_id = CAST(:run AS uuid) ORDER BY seq",
        run=run.run,
    )
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    return [row.kind for row in rows]


def as_owner(settings: Settings, statement: str, **values: Any) -> None:
    """What no role of ours may do."""
    owner = session.connect(settings.database_url or "")
    with session.transaction(owner) as connection:
        connection.execute(text(statement), values)
    owner.dispose()


def seen_by_owner(settings: Settings, statement: str, **values: Any) -> list[Any]:
    """What a role of ours may not read, among all the rest."""
    owner = session.connect(settings.database_url or "")
    with session.transaction(owner) as connection:
        found = list(connection.execute(text(statement), values))
    owner.dispose()
    return found


def lose_leases(settings: Settings) -> None:
    """As if every worker had been silent for too long; the next sweep finds out."""
    as_owner(
        settings,
        "UPDATE step SET lease_until = clock_timestamp() - interval '1 second'"
        " WHERE status = 'leased'",
    )


def wake(settings: Settings) -> None:
    """As if whatever waits had waited long enough; the next sweep finds out."""
    as_owner(settings, "UPDATE step SET wake_at = clock_timestamp() WHERE wake_at IS NOT NULL")


def chain(**nodes: Json) -> dict[str, Json]:
    """A document whose nodes follow each other."""
    return {"workflow": "w", "nodes": nodes, "edges": [" -> ".join((*nodes, "end"))]}


LINE: Mapping[str, Json] = {
    "workflow": "line",
    "nodes": {"a": {"uses": "noop"}, "b": {"uses": "noop"}},
    "edges": ["a -> b -> end"],
}
