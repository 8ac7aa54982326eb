"""A run as a file: what was recorded of it, so that it can be looked at and decided anew elsewhere.

A text of lines, each a digest and a JSON object:

    DIGEST {"part":"head","format":1,"run":"…","workflow":"order", …}
    DIGEST {"part":"graph","document":{…}}
    DIGEST {"part":"line","seq":1,"kind":"RunSubmitted","body":"…","hash":"…", …}
    DIGEST {"part":"move","seq":7,"document":{…}, …}   what it was under until a line, where it was migrated
    DIGEST {"part":"attempt", …}   {"part":"call", …}   {"part":"blob", …}   {"part":"name", …}
    DIGEST {"part":"end","lines":42}

A digest is the SHA-256 over that of the line before and the JSON; so whatever was altered, moved, put
in or left out is known by the line where the text is not itself any more. The last digest is that of
the whole file. Lines of history bring the hashes that they have in their run, whose chain is verified
as well, and of users' data what its salted digest in the line says.

What is read is bounded, was written by anybody, and is answered with the first problem, which names its
line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

import orjson

from engine.core import chain, codec
from engine.core.problem import Problem
from engine.core.replay import Recorded
from engine.core.values import Json, canonical

#: The shape that is written today.
FORMAT = 1
#: Bytes of a file, and of one line of it.
MAX_BYTES = 64 * 1024 * 1024
MAX_LINE = 16 * 1024 * 1024
#: Characters of a version's number, which grows a little with each platform; migrations of a run.
MAX_VERSION = 1000
MAX_MOVES = 1000
#: How deep its values are nested: users' data may be 64 deep, and lies in a few objects of ours.
MAX_DEPTH = 80
_MAX_NUMBER = 2**31 - 1
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LINE = re.compile(r"([0-9a-f]{64}) (\{.*\})")

#: The fields of each part: of which types each is, None where it may be missing.
FIELDS: Mapping[str, Mapping[str, tuple[type | None, ...]]] = {
    "head": {
        **dict.fromkeys(("run", "tenant", "workflow", "version", "version_id"), (str,)),
        "format": (int,),
        "rules": (int,),
        "seq": (int,),
        "hash": (str,),
        "status": (str,),
        "pinned": (dict,),
        "policies": (list,),
        "policy": (dict,),
        "payloads": (str,),
        "parent": (dict, None),
        "outputs": (dict, None),
    },
    "graph": {"document": (dict,)},
    "move": {"seq": (int,), "version": (str,), "document": (dict,), "pins": (dict,)},
    "line": {
        "seq": (int,),
        "at": (str,),
        "kind": (str,),
        "format": (int,),
        "body": (str,),
        "hash": (str,),
        "payload_id": (str, None),
        "salt": (str, None),
        "payload": (str, None),
    },
    "attempt": {
        "step": (str,),
        "attempt": (int,),
        "fence": (int,),
        "worker": (str,),
        "started_at": (str,),
        "ended_at": (str, None),
        "outcome": (str, None),
        "reason": (str, None),
        "message": (str, None),
        "usage": (dict, None),
    },
    "call": {
        "step": (str,),
        "ordinal": (int,),
        "attempt": (int,),
        "tool": (str,),
        "version": (int,),
        "effect": (str,),
        "digest": (str,),
        "arguments": (str, None),
        "started_at": (str,),
        "ended_at": (str, None),
        "reason": (str, None),
        "message": (str, None),
        "value": (str, None),
        "usage": (dict, None),
    },
    "blob": {"sha256": (str,), "text": (str,)},
    "name": {"seq": (int,), "name": (str,), "named_by": (str,)},
    "end": {"lines": (int,)},
}
#: What lines of history are looked up by, and of which type that is.
_OF_LINES: Mapping[str, type] = {
    **dict.fromkeys(("step", "node", "via", "version", "run", "worker"), str),
    **dict.fromkeys(("reason", "message", "kind", "until", "not_before", "child", "queue"), str),
    **dict.fromkeys(("attempt", "iteration", "fence", "seq", "index", "count", "first"), int),
    **dict.fromkeys(("usage", "pins", "visits", "saw", "state", "writes"), dict),
    **dict.fromkeys(("taken", "untaken", "parents", "verdicts", "thread"), list),
}
_TIMES = frozenset({"at", "started_at", "ended_at"})
_ONCE = frozenset({"head", "graph", "end"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of history. Texts are as they are hashed; no payload: it was left out, or there is none."""

    seq: int
    at: datetime
    kind: str
    format: int
    body: str
    hash: bytes
    payload_id: str | None
    salt: bytes
    payload: str | None

    def recorded(self) -> Recorded:
        """As the core knows it. Raises whatever a record that fits no line raises."""
        record = codec.read(
            self.kind,
            orjson.loads(self.body),
            {} if self.payload is None else orjson.loads(self.payload),
            at=self.at,
            number=self.format,
        )
        whole = self.payload_id is None or self.payload is not None
        return Recorded(seq=self.seq, at=self.at, record=record, whole=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A file that was read."""

    head: Mapping[str, Any]
    document: Json
    lines: tuple[Line, ...]
    attempts: tuple[Mapping[str, Any], ...] = ()
    calls: tuple[Mapping[str, Any], ...] = ()
    #: Texts of large values, by sha256.
    blobs: Mapping[str, str] = field(default_factory=dict)
    names: tuple[Mapping[str, Any], ...] = ()
    #: Where it came under another version: `seq`, and `version`, `document` and `pins` until then.
    moves: tuple[Mapping[str, Any], ...] = ()
    #: Of the whole file.
    digest: str

    @property
    def documents(self) -> Mapping[int, Json]:
        """Its documents, each by the line from which on it was under that; 0 is the first one's."""
        since = (0, *(move["seq"] for move in self.moves))
        return dict(
            zip(since, (*(move["document"] for move in self.moves), self.document), strict=True)
        )


def write(parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a file, its end included; `parts` begin with the head and the graph."""
    before, count = b"", 0
    for part in parts:
        before, line = _written(before, part)
        count += 1
        yield line
    yield _written(before, {"part": "end", "lines": count})[1]


def _written(before: bytes, part: Mapping[str, Any]) -> tuple[bytes, str]:
    text = canonical(part)
    digest = chain.link(before, text)
    return digest, f"{digest.hex()} {text}\n"


class _Wrong(Exception):
    """A file is not what it should be."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read(text: bytes) -> Recording | tuple[Problem, ...]:
    """A file that nobody has altered, or what is wrong with its first line that is."""
    try:
        return _read(text)
    except _Wrong as wrong:
        return (wrong.problem,)


def _read(text: bytes) -> Recording:
    if len(text) > MAX_BYTES:
        _refuse(0, f"a file of more than {MAX_BYTES} bytes", "export with fewer payloads")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in FIELDS}
    places: list[int] = []
    before, number = b"", 0
    for number, raw in enumerate(text.splitlines(keepends=True), start=1):
        if found["end"]:
            _refuse(number, "follows the end", "remove it")
        before, part = _part(number, before, raw)
        name = part.pop("part")
        if number <= 2 and name != ("head", "graph")[number - 1]:  # noqa: PLR2004  # the first two
            _refuse(number, f"is a part {name!r}", "begin with the head and the graph")
        if name in _ONCE and found[name]:
            _refuse(number, f"is a second {name}", "keep one")
        found[name].append(part)
        places += [number] if name == "line" else []
    if not found["end"] or found["end"][0]["lines"] != number - 1:
        _refuse(number + 1, "is missing: the file was cut off", "export the run again")
    (head,), (graph,) = found["head"], found["graph"]
    return Recording(
        head=head,
        document=graph["document"],
        lines=tuple(_lines(head, found["line"], places)),
        attempts=tuple(found["attempt"]),
        calls=tuple(found["call"]),
        blobs={one["sha256"]: one["text"] for one in found["blob"]},
        names=tuple(found["name"]),
        moves=tuple(_moves(found["move"], found["line"])),
        digest=before.hex(),
    )


def _part(number: int, before: bytes, raw: bytes) -> tuple[bytes, dict[str, Any]]:
    """A line of the file, and its digest."""
    if len(raw) > MAX_LINE:
        _refuse(number, f"is more than {MAX_LINE} bytes", "export with fewer payloads")
    try:
        match = _LINE.fullmatch(raw.decode().removesuffix("\n"))
    except UnicodeDecodeError:
        match = None
    if match is None:
        _refuse(number, "is no digest and JSON object", "take a file that `celeriac export` wrote")
    digest = chain.link(before, match[2])
    if digest.hex() != match[1]:
        _refuse(number, "was altered, moved, or follows what was", "export the run again")
    part = _json(number, match[2])
    fields = FIELDS.get(str(part.get("part")))
    if fields is None:
        _refuse(number, f"is of no part that there is: {part.get('part')!r}", "use this release")
    if number == 1 and part.get("format") != FORMAT:
        what = f"is of format {part.get('format')!r}, and this release reads {FORMAT}"
        _refuse(number, what, "use the release that wrote it")
    _check(number, part, fields)
    return digest, part


def _check(
    number: int, part: dict[str, Any], fields: Mapping[str, tuple[type | None, ...]]
) -> None:
    """Whether all fields of a part are there, and of their types; times become times."""
    if unknown := part.keys() - fields.keys() - {"part"}:
        _refuse(number, f"has a field {min(unknown)!r}, which is not known here", "remove it")
    for name, types in fields.items():
        value = part.setdefault(name, None)
        if not (value is None and None in types) and type(value) not in types:
            _refuse(number, f"has no {name} that could be one", "export the run again")
        if type(value) is int and not 0 <= value <= (_MAX_NUMBER if name != "fence" else 2**62):
            _refuse(number, f"has a {name} beyond all that there are", "export the run again")
        if name == "version" and type(value) is str and len(value) > MAX_VERSION:
            _refuse(number, "has a version beyond all that there are", "export the run again")
        if name == "pins" and not {type(one) for one in (value or {}).values()} <= {int, str}:
            _refuse(number, "has pins that are none", "export the run again")
        if name == "usage" and not {type(one) for one in (value or {}).values()} <= {int, float}:
            _refuse(number, "has a usage that is no number", "export the run again")
        if name in _TIMES and value is not None:
            part[name] = _time(number, name, value)


def _time(number: int, name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        _refuse(number, f"has no {name} that is a time", "export the run again")
    return found


def _lines(
    head: Mapping[str, Any], parts: list[dict[str, Any]], places: list[int]
) -> Iterator[Line]:
    """The lines of history, chained as they were in the run."""
    if not _ID.fullmatch(head["run"]):
        _refuse(1, f"names a run {head['run']!r}, which is no id", "export the run again")
    before = b""
    for seq, (number, part) in enumerate(zip(places, parts, strict=True), start=1):
        said = {name: part[name] for name in ("seq", "at", "kind", "format", "body", "payload_id")}
        before = chain.line(before, run=head["run"], **said)
        if part["seq"] != seq or before.hex() != part["hash"]:
            _refuse(
                number, f"line {seq} of the history is not what its hash says", "export it again"
            )
        body = _json(number, part["body"])
        for name, kind in _OF_LINES.items():
            if name in body and type(body[name]) not in (kind, type(None)):
                _refuse(
                    number,
                    f"line {seq} of the history has no {name} that could be one",
                    "export it again",
                )
        payload, salt = part.pop("payload"), _bytes(number, part.pop("salt"))
        if payload is not None:
            _json(number, payload)
            digest = hashlib.sha256(salt + payload.encode()).hexdigest()
            if part["payload_id"] is None or digest != body.get(codec.DIGEST):
                what = f"users' data of line {seq} of the history is not what its digest says"
                _refuse(number, what, "export the run again")
        yield Line(**{**part, "hash": before}, salt=salt, payload=payload)
    if len(parts) != head["seq"] or not parts or before.hex() != head["hash"]:
        _refuse(
            1, f"says {head['seq']} lines of history, and {len(parts)} are there", "export again"
        )


def _moves(moves: list[dict[str, Any]], lines: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """What the run was under before, for each line that says that it came under something else."""
    if len(moves) > MAX_MOVES:
        _refuse(1, f"is followed by more than {MAX_MOVES} migrations", "export a fork of it")
    told = [line["seq"] for line in lines if line["kind"] == "Migrated"]
    if told != [move["seq"] for move in moves]:
        what = (
            f"tells of migrations at lines {[move['seq'] for move in moves]}, the history of {told}"
        )
        _refuse(1, what, "export the run again")
    yield from moves


def _bytes(number: int, text: str | None) -> bytes:
    try:
        return bytes.fromhex(text or "")
    except ValueError:
        _refuse(number, "has a salt that is none", "export the run again")


def _json(number: int, text: str) -> dict[str, Any]:
    """An object that Postgres can keep, not nested too deeply."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        _refuse(number, f"is not JSON: {error}", "export the run again")
    if not isinstance(found, dict):
        _refuse(number, "holds no object where one must be", "export the run again")
    waiting: list[tuple[Any, int]] = [(found, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            _refuse(number, f"is nested deeper than {MAX_DEPTH} levels", "flatten it")
        if isinstance(value, str) and "\0" in value:
            _refuse(number, "holds the character NUL", "remove it")
        if isinstance(value, dict):
            waiting += [(key, depth) for key in value]
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            waiting += [(one, depth + 1) for one in inner]
    return found


def _refuse(number: int, message: str, remedy: str) -> NoReturn:
    path = f"line {number}" if number else ""
    raise _Wrong(Problem(path=path, message=message, remedy=remedy))
