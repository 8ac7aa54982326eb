"""A run as it was recorded, as the moments at which its tenant's rules are asked.

What was recorded is what is told: what executions used and left, which calls they made. What a
rule would have seen of other runs (the sums of a user or a tenant) is not, so those sums are of
this run alone; nor are the inputs of steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from engine.core.values import Json, canonical, plain
from engine.guardrails import vocabulary as words
from engine.guardrails.facts import Facts, Total
from engine.guardrails.trial import MAX_MOMENTS
from engine.platform import Platform
from engine.runs import views
from engine.store.ids import RunId

_PAGE = 200


class _Moment(NamedTuple):
    """A moment and its time; what is at the same time comes in the order of `words.MOMENTS`."""

    at: datetime
    order: int
    facts: Facts


def moments(platform: Platform, run: RunId) -> tuple[Facts, ...]:
    """The moments of a run in their order, the first of them. Raises `NotFound`."""
    head = views.run(platform, run)
    about = Facts(
        moment="start",
        tenant=run.tenant,
        user=head.submitted_by,
        workflow=head.workflow,
        run=run.run,
    )
    found = sorted([*_steps(platform, run, about), *_calls(platform, run, about)], key=_in_order)
    return tuple(_added_up(found[:MAX_MOMENTS], head.started_at or head.created_at))


def _in_order(moment: _Moment) -> tuple[datetime, int]:
    return moment.at, moment.order


def _steps(platform: Platform, run: RunId, about: Facts) -> Iterator[_Moment]:
    after, told = 0, 0
    while told < MAX_MOMENTS:
        page = views.steps(platform, run, after=after, limit=_PAGE)
        for step in page:
            after = step.seq
            of = replace(about, node=step.node, step=step.key, iteration=step.iteration)
            for tried in step.attempts:
                told += 1
                begun = replace(of, attempt=tried.attempt)
                yield _moment(begun, "start", tried.started_at)
                if tried.ended_at is None:
                    continue
                seconds = (tried.ended_at - tried.started_at).total_seconds()
                usage = {
                    "steps": Decimal(1),
                    "seconds": Decimal(str(seconds)),
                    "latency_ms": Decimal(str(round(seconds * 1000, 3))),
                    **{name: Decimal(str(value)) for name, value in tried.usage.items()},
                }
                left: dict[str, Json] = {}
                if tried.outcome == "succeeded":
                    value = views.output(platform, run, step.key)
                    left = {} if value is None else {"result": plain(value)}
                reported = replace(begun, usage=usage, content=left)
                yield _moment(reported, "report", tried.ended_at)
        if len(page) < _PAGE:
            return


def _calls(platform: Platform, run: RunId, about: Facts) -> Iterator[_Moment]:
    made: Counter[str] = Counter()
    for call in views.calls(platform, run):
        digest = canonical([call.tool, call.arguments])
        node, _, iteration = call.step.rpartition("#")
        of = replace(
            about,
            node=node,
            step=call.step,
            iteration=int(iteration),
            attempt=call.attempt,
            tool=call.tool,
            arguments=call.arguments,
            usage={"calls": Decimal(1)},
            repeats=made[digest],
        )
        made[digest] += 1
        yield _moment(of, "call", call.started_at)
        if call.ended_at is not None:
            left: dict[str, Json] = {"result": call.value} if call.outcome == "succeeded" else {}
            yield _moment(replace(of, content=left), "call_report", call.ended_at)


def _moment(facts: Facts, moment: words.Moment, at: datetime) -> _Moment:
    return _Moment(at, words.MOMENTS.index(moment), replace(facts, moment=moment))


def _added_up(found: list[_Moment], began: datetime) -> Iterator[Facts]:
    """The moments, each with the sums of the run until then."""
    sums: dict[words.Window, dict[str, Decimal]] = {window: {} for window in words.WINDOWS}
    since: dict[words.Window, str] = {}
    at_work = 0
    for at, _, facts in found:
        for window in words.WINDOWS:
            begun = _begun(at, window)
            if since.get(window) != begun:
                since[window], sums[window] = begun, {}
            if facts.moment in {"report", "call"}:
                for metric, value in facts.usage.items():
                    sums[window][metric] = sums[window].get(metric, Decimal(0)) + value
        at_work += {"start": 1, "report": -1}.get(facts.moment, 0)
        totals = {
            Total(scope, window, metric): value
            for window, added_up in sums.items()
            for metric, value in added_up.items()
            for scope in words.SCOPES[1:]
        }
        live = {
            "steps": sums["none"].get("steps", Decimal(0)),
            "seconds": Decimal(str((at - began).total_seconds())),
            "parallelism": Decimal(at_work),
        }
        yield replace(facts, totals=totals, live=live)


def _begun(at: datetime, window: words.Window) -> str:
    """When the window of a time began, as text."""
    text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
    return {"none": "", "minute": text, "hour": text[:13], "day": text[:10]}[window]
