"""Submitting runs: one transaction, no broker.

The run and its first event commit together; the nudge that follows is the caller's, in the
background, and may be lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from engine import faults
from engine.core.values import Json, digest
from engine.errors import Conflict
from engine.platform import Platform
from engine.runs import graphs, identity, submission
from engine.store import idempotency, session, workflows
from engine.store.ids import RunId
from engine.waiting import Overflowing


class KeyUsed(Conflict):
    """This Idempotency-Key was used for another submission; use a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that was accepted, now or by an earlier submission under the same key."""

    run: RunId
    replayed: bool


def submit(
    platform: Platform,
    tenant: str,
    version_id: str,
    inputs: Mapping[str, Json],
    *,
    by: str,
    scopes: Collection[str] | None = None,
    idempotency_key: str | None = None,
    asked: Json = None,
) -> Submitted:
    """Accept a run of a workflow version.

    `scopes` are those of the credential, if it narrows what `by` may do: the run is narrowed likewise.

    `asked` is what the key stands for, where that is not the version itself: who asks for the
    latest version, and asks again, gets the run there is, although another is the latest by
    then. Raises `NotFound`, `Invalid` with every problem of the inputs, `KeyUsed` when the key was
    used for another submission, and `Conflict` for a version that is retired. Large values are kept
    as blobs.
    """
    run = RunId(tenant, identity.new_run())
    kept: Mapping[str, Json] = {}
    while True:
        try:
            return _submit(
                platform,
                run,
                version_id,
                inputs,
                kept,
                by=by,
                scopes=scopes,
                idempotency_key=idempotency_key,
                asked=asked,
            )
        except Overflowing as overflowing:
            kept = submission.kept(platform, tenant, overflowing, kept)


def _submit(
    platform: Platform,
    run: RunId,
    version_id: str,
    inputs: Mapping[str, Json],
    kept: Mapping[str, Json],
    *,
    by: str,
    scopes: Collection[str] | None,
    idempotency_key: str | None,
    asked: Json,
) -> Submitted:
    """Accept a run, with references for values that were moved out."""
    tenant = run.tenant
    with session.transaction(platform.database) as connection:
        graph = graphs.load(connection, tenant, version_id)
        if idempotency_key is not None:
            said = digest([asked or {"version": version_id}, dict(inputs)])
            known = idempotency.claim(connection, idempotency_key, said, run)
            if known is not None:
                return _replayed(tenant, known.run_id, same=known.digest == said)
        if workflows.retired(connection, tenant, version_id):
            raise Conflict(
                f"this version of {graph.workflow} is retired; name another one, or a range"
            )
        submission.enter(
            connection,
            tenant,
            version_id,
            graph,
            inputs,
            by=by,
            scopes=scopes,
            run=run,
            kept=kept,
        )
    platform.fault(faults.SUBMIT_COMMITTED)
    return Submitted(run=run, replayed=False)


def replayed(tenant: str, known: Row[Any], said: str) -> Submitted:
    """The run that a key stands for already. Raises `Conflict` where that was asked for otherwise."""
    if known.digest != said:
        raise Conflict("this Idempotency-Key was used for another submission; use a new one")
    return Submitted(run=RunId(tenant, known.run_id), replayed=True)


def _replayed(tenant: str, run: str, *, same: bool) -> Submitted:
    if not same:
        raise KeyUsed
    return Submitted(run=RunId(tenant, run), replayed=True)
