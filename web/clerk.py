"""What requests leave behind for the record, written down behind their backs.

Which requests were refused, and which keys are in use: one thread writes it, so that no request waits
for it or fails by it, and so that how long an answer takes tells nobody whether a key exists. What
comes while it writes is added up by kind, so a flood of requests is few rows and little memory. While
the database is away it keeps what it has; it writes the rest when the process ends.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

import structlog

from engine.core.principal import Principal
from engine.errors import Unavailable
from engine.platform import Platform
from engine.runs import access, refusals
from engine.runs.access import Refused

#: Kinds of refusals, and keys, that wait at most; further ones are let go.
_KINDS = 10_000
_AGAIN_SECONDS = 1.0
_LAST_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    refused: Refused
    by: str
    route: str


class Clerk:
    """One thread that writes down what it is told."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._told = threading.Condition()
        self._refused: Counter[_Kind] = Counter()
        self._peers: dict[_Kind, str] = {}
        self._used: dict[str, Principal] = {}
        self._writing = self._closing = False
        self._thread = threading.Thread(target=self._work, name="clerk", daemon=True)
        self._thread.start()

    def refused(self, refused: Refused, *, by: str, route: str, peer: str) -> None:
        """Have a refused request written down, or counted where its tenant is not known."""
        known = refused.tenant is not None
        kind = _Kind(refused=refused, by=by if known else "", route=route if known else "")
        with self._told:
            if kind in self._refused or len(self._refused) < _KINDS:
                self._refused[kind] += 1
                self._peers.setdefault(kind, peer)
                self._told.notify_all()

    def used(self, who: Principal) -> None:
        """Have it noted that somebody's key is in use."""
        with self._told:
            if len(self._used) < _KINDS:
                self._used[who.credential] = who
                self._told.notify_all()

    def settled(self, seconds: float = 10.0) -> bool:
        """Wait until all that was told is written; whether it is."""
        with self._told:
            return self._told.wait_for(
                lambda: not (self._refused or self._used or self._writing), timeout=seconds
            )

    def close(self) -> None:
        """Write what is left, within reason."""
        with self._told:
            self._closing = True
            self._told.notify_all()
        self._thread.join(timeout=_LAST_SECONDS)

    def _work(self) -> None:
        while True:
            with self._told:
                self._told.wait_for(self._is_due)
                if not (self._refused or self._used):
                    return
                self._writing = True
                refused, self._refused = self._refused, Counter()
                peers, self._peers = self._peers, {}
                used, self._used = self._used, {}
            left = self._write(refused, peers, used)
            with self._told:
                self._refused.update(left)
                self._peers = {**{kind: peers[kind] for kind in left}, **self._peers}
                self._writing = False
                self._told.notify_all()
                if left:
                    self._told.wait_for(lambda: self._closing, timeout=_AGAIN_SECONDS)
                if left and self._closing:
                    return

    def _is_due(self) -> bool:
        return bool(self._refused or self._used or self._closing)

    def _write(
        self, refused: Counter[_Kind], peers: dict[_Kind, str], used: dict[str, Principal]
    ) -> Counter[_Kind]:
        """Write down what can be; what is to be tried again."""
        left: Counter[_Kind] = Counter()
        for kind, count in refused.items():
            try:
                self._write_one(kind, peers[kind], count)
            except Unavailable:
                left[kind] = count
            except Exception:  # noqa: BLE001  # whatever it is
                # What cannot be written must not keep the rest from it.
                _log.exception("refusal.unwritten", kind=str(kind), count=count)
        for who in used.values():
            try:
                access.note_use(self._platform, who)
            except Exception as error:  # noqa: BLE001  # the next request is noted again
                _log.warning("use.unwritten", error=str(error).partition("\n")[0])
        return left

    def _write_one(self, kind: _Kind, peer: str, count: int) -> None:
        if kind.refused.tenant is None:
            refusals.count(self._platform, kind.refused.reason, count)
            return
        refusals.record(
            self._platform,
            kind.refused.tenant,
            by=kind.by,
            credential=kind.refused.credential,
            route=kind.route,
            reason=kind.refused.reason,
            peer=peer,
            count=count,
        )
