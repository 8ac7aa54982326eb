"""What may be stored: JSON, strictly read and bounded.

Everything that enters, a request, a document or what user code returned, passes through
here, because each of these is accepted somewhere on the way to Postgres and refused, or
silently changed, further on: NUL and lone surrogates in text, `NaN` and infinities,
integers past 64 bits, nesting past the parser's stack, two keys of one name.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from engine.core.problem import Problem

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
_MAX_DIGITS = len(str(-MAX_INTEGER))
#: The key of a reference. Nothing that enters may have it, so none can be forged.
MARK = "$blob"
#: The key of bytes, which are written so: `{"$bytes": "aGk="}`, in base64.
BYTES = "$bytes"
#: A value strictly over this many bytes lives outside the row.
INLINE_BYTES = 1_048_576
#: What the variables of a run may take in all, as JSON.
VARIABLES_BYTES = 262_144
#: The most that one value may be, wherever it lies, unless an operator says otherwise.
VALUE_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Inline:
    """A value that lies in the row."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Ref:
    """A value that lies in the blob store."""

    sha256: str
    size: int  #: bytes


Value: TypeAlias = Inline | Ref


class InvalidJson(ValueError):
    """The text is not JSON that can be stored; `problems` say why and where."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{p.path}: {p.message}" for p in problems))
        self.problems = problems


def parse(text: str | bytes, *, path: str = "") -> Json:
    """Read JSON text strictly.

    Raises `InvalidJson` for what is not JSON, for a key given twice and for every value
    that `problems` refuses.
    """
    try:
        value = _read(text)
    except _Refused as refused:
        raise InvalidJson((_problem(path, str(refused), refused.remedy),)) from None
    except RecursionError:
        raise InvalidJson((_too_deep(path),)) from None
    except UnicodeDecodeError as error:
        raise InvalidJson(
            (_problem(path, f"the text is not UTF-8 at byte {error.start}", "send UTF-8"),)
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJson(
            (_problem(path, f"not JSON: {error.msg} ({where})", "send one valid JSON value"),)
        ) from None
    if found := tuple(problems(value, path=path)):
        raise InvalidJson(found)
    return value  # type: ignore[no-any-return]  # what is read is Any; `problems` has looked at it


def problems(value: object, *, path: str = "") -> Iterator[Problem]:
    """Yield what keeps a Python value from being stored as JSON, with its path.

    Walks without recursion, so that hostile depth is a problem and not a crash, and writes
    a path out for a problem alone, because a long key would lie in the path of every value.
    """
    waiting: list[tuple[_Trail, object, int]] = [((None, path), value, 1)]
    while waiting:
        trail, item, depth = waiting.pop()
        match item:
            case None | bool():
                pass
            case int():
                if abs(item) > MAX_INTEGER:
                    yield _problem(_path(trail), "integer beyond 64 bits", "send it as a string")
            case float():
                if not math.isfinite(item):
                    yield _problem(_path(trail), "number is not finite", "send null or a string")
            case str():
                yield from _text_problems(trail, item)
            case list() | dict() if depth > MAX_DEPTH:
                yield _too_deep(_path(trail))
            case list():
                waiting.extend(
                    ((trail, index), entry, depth + 1) for index, entry in enumerate(item)
                )
            case dict():
                for key, entry in item.items():
                    if not isinstance(key, str):
                        yield _problem(_path(trail), f"key {key!r} is not text", "use text keys")
                    elif key == MARK:
                        message = f"the key {MARK!r} is ours"
                        yield _problem(_path(trail), message, "name it otherwise")
                    else:
                        yield from _text_problems(trail, key, " key")
                        waiting.append(((trail, key), entry, depth + 1))
            case _:
                yield _problem(
                    _path(trail),
                    f"{type(item).__name__} is not a JSON value",
                    "return plain JSON data",
                )


def canonical(value: object) -> str:
    """The one text of a JSON value: sorted keys, no spaces, no escapes beyond JSON's own."""
    return _encode(value)


#: Made once: `json.dumps` makes another for each text.
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def size(value: Json) -> int:
    """Bytes of the canonical text, in UTF-8."""
    return len(canonical(value).encode())


def digest(value: Json, *, salt: bytes = b"") -> str:
    """Hex SHA-256 of a value, salted so that a shredded payload cannot be guessed from it."""
    return digest_of(canonical(value), salt=salt)


def digest_of(text: str, *, salt: bytes = b"") -> str:
    """The digest of the value whose canonical text is known."""
    return hashlib.sha256(salt + text.encode()).hexdigest()


def plain(value: Value) -> Json:
    """The JSON value of an inline one, or a reference as JSON data."""
    if isinstance(value, Inline):
        return value.value
    return {MARK: value.sha256, "size": value.size}


def marked(value: Json) -> Ref | None:
    """The reference that a JSON value is the marker of; None for any other value."""
    if not isinstance(value, dict) or MARK not in value:
        return None
    return Ref(sha256=str(value[MARK]), size=int(str(value["size"])))


def is_bytes(value: Json) -> bool:
    """Whether a JSON value stands for bytes."""
    return isinstance(value, dict) and value.keys() == {BYTES}


def of_bytes(data: bytes) -> Json:
    """The JSON value that stands for bytes."""
    return {BYTES: base64.b64encode(data).decode()}


def bytes_of(value: Json) -> bytes | None:
    """The bytes that a JSON value stands for; None where it stands for itself."""
    text = value[BYTES] if isinstance(value, dict) and is_bytes(value) else None
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        return None


def _read(text: str | bytes) -> Any:
    """The value of a JSON text; raises what `json.loads` raises."""
    if isinstance(text, str) and not text.startswith("\ufeff"):
        return _decode(text)
    # Of bytes it finds out the encoding, and a mark of the order of bytes it refuses by name.
    return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)


class _Refused(Exception):
    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # the idiom of a first repeat
        raise _Refused(f"key {twice!r} is given twice", "keep one of them")
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a JSON number", "send null or a string")


def _integer(digits: str) -> int:
    # int() of thousands of digits is refused by Python itself, with a bare ValueError.
    if len(digits) > _MAX_DIGITS:
        raise _Refused("integer beyond 64 bits", "send it as a string")
    return int(digits)


#: Made once: `json.loads` makes another for each text that it reads otherwise than usual.
_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer
).decode


def _text_problems(trail: _Trail, text: str, what: str = "") -> Sequence[Problem]:
    found = []
    if "\x00" in text:
        found.append(_problem(f"{_path(trail)}{what}", "text holds a NUL character", "remove it"))
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        where = f"{_path(trail)}{what}"
        found.append(_problem(where, "text holds a lone surrogate", "send valid Unicode"))
    return found


#: Where a value stands: in what, and under which key or index of it; at the root, its path.
_Trail: TypeAlias = "tuple[_Trail | None, str | int]"


def _path(trail: _Trail) -> str:
    steps: list[str | int] = []
    outer: _Trail | None = trail
    while outer is not None:
        steps.append(outer[1])
        outer = outer[0]
    path = str(steps.pop())
    for step in reversed(steps):
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path = f"{path}.{step}" if path else step
    return path


def _too_deep(where: str) -> Problem:
    return _problem(where, f"nested deeper than {MAX_DEPTH} levels", "flatten it")


def _problem(path: str, message: str, remedy: str) -> Problem:
    return Problem(path=path, message=message, remedy=remedy)
