"""What is asked: the API of a platform that has one of everything, and its routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Flask
from sqlalchemy import Engine
from werkzeug.routing import Rule

from engine.core.principal import ADMIN
from engine.platform import DatabaseRole, Platform
from engine.store import session
from tests.support import belongings, paying, platforms, site
from tests.support.described import BESIDE, Description, path_of
from tests.support.services import Services
from tests.support.site import Api

#: Nobody's name that is easily guessed: who asks must not take the ground from under his feet.
_WHO = "whoever-is-asking-all-this"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What can be asked at an address."""

    rule: Rule
    method: str

    @property
    def endpoint(self) -> str:
        return str(self.rule.endpoint)

    @property
    def where(self) -> tuple[str, str]:
        return self.method, path_of(self.rule)

    @property
    def label(self) -> str:
        return " ".join(self.where)

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def parameters(self) -> list[str]:
        return sorted(self.rule.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An app, whoever asks, and what there is."""

    app: Flask
    api: Api
    control: Platform
    worker: Platform
    #: Sees every row.
    owner: Engine
    described: Description
    things: Mapping[str, str]
    #: Runs of which nothing more comes: following one ends.
    ended: Mapping[str, str] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api.token}"}

    def operations(self) -> list[Operation]:
        """Everything that is described."""
        return [
            Operation(rule=rule, method=method)
            for rule in self.app.url_map.iter_rules()
            if rule.rule not in BESIDE
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})
        ]

    def found(self, operation: Operation) -> dict[str, str]:
        """What there is, as an operation names it."""
        return {**self.things, **_called(operation, self.things), **self._special(operation)}

    def renewed(self, operation: Operation) -> dict[str, str]:
        """The same, but new as far as asking uses it up."""
        return {**self.found(operation), **self._new(operation)}

    def body(self, operation: Operation, things: Mapping[str, str]) -> dict[str, Any]:
        """A body that is taken, as the test client is given it."""
        return belongings.bodies(things).get(operation.endpoint, {"json": {}})

    def fields(self, operation: Operation) -> list[str]:
        """The fields that a body may hold, as far as they are described."""
        path, spec = operation.where[1], self.described.spec
        told = spec["paths"][path][operation.method.lower()].get("requestBody", {})
        schema = told.get("content", {}).get("application/json", {}).get("schema", {})
        place = schema.get("$ref", "")
        if place.startswith("/"):
            schema = self.app.test_client().get(place).json
        elif place:
            schema = spec["components"]["schemas"][place.rpartition("/")[2]]
        return [*schema.get("properties", ())]

    def refuses(self, operation: Operation) -> bool:
        """Whether it is described as one that never does what it is asked."""
        path, spec = operation.where[1], self.described.spec
        told = spec["paths"][path][operation.method.lower()]["responses"]
        return not any(status.startswith("2") for status in told)

    def _restore(self) -> None:
        """A user who is no longer one, is one again."""
        self.api.send("PATCH", "/api/v1/users/target", json={"active": True})

    def _draft(self) -> None:
        """What is being written, though somebody has published or discarded it."""
        draft = {**platforms.LINE, "workflow": "thing"}
        self.api.send("PUT", "/api/v1/drafts/thing", json=draft)

    def _special(self, operation: Operation) -> Mapping[str, str]:
        match operation.endpoint:
            case "drafts.show":
                self._draft()
                return {}
            case "events.events" | "runs.wait" | "recordings.export" | "runs.show_undo":
                return self.ended
            case "waits.answer" | "waits.list_answers":
                return {"run_id": self.things["asking"], "key": "w#1"}
            case "sent.send":
                return {"event": "paid"}
            case _:
                return {}

    def _new(self, operation: Operation) -> Mapping[str, str]:
        match operation.endpoint.split("."):
            case ["runs", "undo"]:
                return {"run_id": paying.paid(self.control, self.worker).run}
            case ["runs", "settle_undo"]:
                return {"run_id": paying.in_doubt(self.control, self.worker).run}
            case ["steps", _]:
                return {**belongings.run(self.control, self.worker), "key": "b#1"}
            case ["runs" | "graph-runs" | "backtests" | "replays" | "sent", _]:
                return belongings.run(self.control, self.worker)
            case ["policies", _]:
                belongings.policy(self.control)
                return {}
            case ["sessions", what]:
                asks = what in {"approve", "deny"}
                return belongings.session(self.control, _WHO, waits=what == "give", asks=asks)
            case ["waits", "add_items" | "complete"]:
                return belongings.waiting(self.control, "map", over=[1], do="noop")
            case ["waits" | "delegations" | "approvals", _]:
                self._restore()
                asking = belongings.waiting(self.control)
                given = belongings.delegation(self.api, asking["run_id"])
                request = belongings.request(asking["run_id"])
                return {**asking, **given, "asking": asking["run_id"], "request_id": request}
            case ["keys", _]:
                self._restore()
                key = belongings.key_id(belongings.key(self.control, "target", {"viewer"}))
                return {"key": key, "api_key": key}
            case ["users", _]:
                self._restore()
                return {}
            case ["drafts", _]:
                self._draft()
                return {}
            case ["workflows", "retire"] | ["agents", "remove" | "rename"]:
                return {"name": self._unused(operation)}
            case ["secrets" | "capabilities", _]:
                belongings.put(self.api)
                return {}
            case _:
                return {}

    def _unused(self, operation: Operation) -> str:
        """The name of something that nothing uses, and that may be gone afterwards."""
        name = f"unused-{uuid4().hex}"
        if operation.endpoint.startswith("agents."):
            belongings.agent(self.control, name)
        else:
            platforms.publish(self.control, {**platforms.LINE, "workflow": name})
        return name


@contextmanager
def opened(shared: Services, folder: Path) -> Iterator[World]:
    """A world of its own, for as long as a block lasts."""
    with (
        site.of_its_own(shared, folder) as settings,
        site.controlled(replace(site.local(settings), wait_seconds=0.01)) as control,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
        site.served(control) as app,
    ):
        owner = session.connect(settings.database_url or "")
        things = belongings.of(control, worker)
        token = belongings.key(control, _WHO, {ADMIN})
        begun = belongings.session(control, _WHO, waits=True)
        yield World(
            app=app,
            api=Api(client=app.test_client(), token=token),
            control=control,
            worker=worker,
            owner=owner,
            described=Description(app),
            things={**things, **begun, **belongings.blob(control)},
            ended=belongings.run(control, worker, ended=True),
        )
        owner.dispose()


def _called(operation: Operation, things: Mapping[str, str]) -> dict[str, str]:
    """What goes by another name at some addresses."""
    if operation.endpoint.startswith("keys."):
        return {"key": things["api_key"]}
    if "<int:version>" in operation.rule.rule:
        return {"version": "1"}
    if operation.endpoint == "agents.version":
        return {"version": "1.0"}
    return {}
