"""What a worker and the code that it runs tell each other: a job on the way there, reports on the way back.

Nothing that comes back is believed: it is bounded, and parsed strictly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from engine.core import values
from engine.core.values import Json
from workers.sandbox.inside.state import MOST_USED
from workers.sandbox.job import Job, Outcome, Reason

#: What a message may be longer than its parts: their lengths, and its small head.
OVERHEAD = 32 * 1024
#: Characters of a condition's answer.
_CHOICE = 1100
_USAGE = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
#: Names of what one execution uses.
_USAGES = 20


class Forged(Exception):
    """What the code of a job never sends has been sent."""


def cpu_seconds(job: Job) -> int:
    """Processor time that a job may use: the kernel counts whole seconds."""
    given = job.limits.cpu_seconds
    return max(1, math.ceil(job.limits.seconds / 2 if given is None else given))


def letter(job: Job) -> dict[str, Any]:
    """What is told of a job where it is carried out."""
    choose = job.choose
    return {
        "mode": job.mode,
        "name": job.name,
        "source": job.source,
        "library": job.library,
        "arguments": dict(job.arguments),
        "choose": choose
        and {"name": choose.name, "source": choose.source, "library": choose.library},
        "context": dict(job.context),
        "limits": {
            "cpu_seconds": cpu_seconds(job),
            "memory_bytes": job.limits.memory_bytes,
            "result_bytes": job.limits.result_bytes,
            "log_bytes": job.limits.log_bytes,
            "file_bytes": job.limits.file_bytes,
        },
        "files": [[file.path, file.write] for file in job.files],
        "modules": list(job.modules),
    }


def failed(reason: Reason, message: str) -> Outcome:
    """An execution that did not go well."""
    return Outcome(ok=False, reason=reason, message=message)


def head(parts: Sequence[memoryview]) -> Json:
    """What says what a message is. Raises `Forged`."""
    if not parts or len(parts[0]) > OVERHEAD:
        raise Forged("it has no head")
    return _parse(parts[0])


def done(job: Job, parts: Sequence[memoryview], *, returned_state: bool) -> Outcome:
    """What a job gave that went well. Raises `Forged`."""
    stateful, proc = "state" in job.arguments, "params" in job.arguments
    expected = 3 + (job.choose is not None) if stateful else 1 + proc
    if len(parts) != expected:
        raise Forged("it has the wrong number of parts")
    if any(len(part) > job.limits.result_bytes for part in parts):
        raise Forged("it is larger than what it may be")
    value, *rest = (_parse(part) for part in parts)
    if proc:
        return Outcome(ok=True, value=value, status=_status(rest[0]))
    if not stateful:
        return Outcome(ok=True, value=value)
    patch, removed, *choice = rest
    if not isinstance(patch, dict) or not isinstance(removed, list):
        raise Forged("its changes are no changes")
    if len(str(choice)) > _CHOICE or (choice and not isinstance(choice[0], (bool, str))):
        raise Forged("its choice is no choice")
    return Outcome(
        ok=True,
        value=patch if returned_state else value,
        patch=patch,
        removed=tuple(key for key in removed if isinstance(key, str)),
        choice=cast("bool | str", choice[0]) if choice else None,
    )


def called(job: Job, parts: Sequence[memoryview]) -> tuple[list[Json], dict[str, Json]]:
    """What a tool is called with. Raises `Forged`."""
    if any(len(part) > job.limits.result_bytes for part in parts):
        raise Forged("a call with too much")
    match [_parse(part) for part in parts]:
        case [list(args), dict(kwargs)]:
            return args, kwargs
        case _:
            raise Forged("a call without arguments")


def used(before: Mapping[str, float], parts: Sequence[memoryview]) -> dict[str, float]:
    """All that was told to be used, with what is told now. Raises `Forged`."""
    match [_parse(part) for part in parts]:
        case [dict(amounts)] if all(_is_used(*entry) for entry in amounts.items()):
            pass
        case _:
            raise Forged("a usage that is none")
    found = dict(before)
    for name, amount in amounts.items():
        total = Decimal(str(found.get(name, 0))) + Decimal(str(amount))
        found[name] = float(total)
        if total > MOST_USED:
            raise Forged("a usage that cannot be")
    if len(found) > _USAGES:
        raise Forged("too many names of usages")
    return found


def _parse(text: memoryview) -> Json:
    try:
        return values.parse(str(text, "utf-8", "surrogatepass"))
    except (values.InvalidJson, UnicodeDecodeError) as error:
        raise Forged(str(error)[:200]) from None


def _status(told: Json) -> dict[str, Json] | None:
    if told is None:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("value"), (bool, int, float)):
        raise Forged("its status is no status")
    return told


def _is_used(name: object, amount: object) -> bool:
    if not isinstance(name, str) or not _USAGE.fullmatch(name) or isinstance(amount, bool):
        return False
    return isinstance(amount, (int, float)) and 0 <= amount <= MOST_USED
