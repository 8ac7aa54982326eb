"""The names of rows: every one begins with the tenant."""

from __future__ import annotations

from typing import NamedTuple


class RunId(NamedTuple):
    """A run of a tenant. `run` is the text of a UUIDv7."""

    tenant: str
    run: str


class StepId(NamedTuple):
    """A live step of a run; `key` is `node#iteration`."""

    tenant: str
    run: str
    key: str

    @property
    def run_id(self) -> RunId:
        return RunId(self.tenant, self.run)


class QuestionId(NamedTuple):
    """What a step asks people in one attempt, the first time or a later one (`round`)."""

    tenant: str
    run: str
    step: str
    attempt: int
    round: int

    @property
    def step_id(self) -> StepId:
        return StepId(self.tenant, self.run, self.step)
