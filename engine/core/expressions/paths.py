"""Reading a variable and what lies in it: `$name.key[0]`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TypeAlias

from engine.core.expressions.frame import EvaluationError, Frame, Run, kind
from engine.core.values import Json

#: One step into a value, fixed or computed, and where it is written.
Key: TypeAlias = tuple[str | int | Run, int]

#: Characters of a computed key that the record of what was read keeps.
_SHOWN = 64
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def reader(root: str, keys: Sequence[Key], *, lenient: bool) -> Run:
    """Compile a path. A lenient one gives null where a strict one fails."""
    if not keys:
        return _variable(root)
    fixed = [key for key, _ in keys if isinstance(key, str | int)]
    text = written(root, fixed) if len(fixed) == len(keys) else None

    def run(frame: Frame) -> Json:
        value, path = frame.scope.get(root), []
        for given, position in keys:
            key = given(frame) if callable(given) else given
            path.append(key)
            found = _inside(value, key)
            if isinstance(found, _Unfit) and not lenient:
                raise EvaluationError(found.message.format(path=written(root, path[:-1])), position)
            value = None if isinstance(found, _Unfit) else found
        frame.saw[text or written(root, path)] = value
        return value

    return run


def written(root: str, keys: Sequence[Json]) -> str:
    """The text of a path, the same however it was written in the source."""
    return f"${root}" + "".join(map(_step, keys))


def _variable(root: str) -> Run:
    text = f"${root}"

    def run(frame: Frame) -> Json:
        value = frame.saw[text] = frame.scope.get(root)
        return value

    return run


class _Unfit:
    """There is no such step into this value."""

    def __init__(self, message: str) -> None:
        self.message = message  #: with a place for the path


def _inside(value: Json, key: Json) -> Json | _Unfit:
    if type(key) is not int and not isinstance(key, str):
        return _Unfit(f"{{path}} is looked up by {kind(key)}; a key is text or an integer")
    match value:
        case None:
            return None
        case dict() if isinstance(key, str):
            return value.get(key)
        case list() if isinstance(key, int):
            return value[key] if -len(value) <= key < len(value) else None
        case dict():
            return _Unfit("{path} is an object; its keys are text, not numbers")
        case list():
            return _Unfit("{path} is a list; its entries are numbered from [0]")
        case _:
            return _Unfit(f"{{path}} is {kind(value)}; nothing lies in it")


def _step(key: Json) -> str:
    if isinstance(key, str):
        if _PLAIN.fullmatch(key):
            return f".{key}"
        key = key if len(key) <= _SHOWN else key[:_SHOWN] + "…"
    return f"[{json.dumps(key, ensure_ascii=False)}]"
