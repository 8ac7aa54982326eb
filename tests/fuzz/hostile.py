"""Requests that nobody would send who means well: a corpus, spread over an operation.

Each is sent with everything else about it as it should be, so that it is the hostile part that is
met, and not the first check on the way.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any
from urllib.parse import quote

from tests.fuzz.world import Operation, World

JSON = "application/json"
#: So many are sent in a body.
_IN_BODY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, and what is hostile about it."""

    what: str
    path: str
    data: bytes | None = None
    content_type: str | None = None
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, Any] = field(default_factory=dict)


# --- texts -----------------------------------------------------------------------------------------

#: For every place that takes a text.
TEXTS: Mapping[str, str] = {
    "nothing": "",
    "a space": " ",
    "a tab": "\t",
    "a newline": "a\nb",
    "CRLF and a header": "a\r\nSet-Cookie: x=1",
    "NUL": "a\x00b",
    "an escape": "\x1b[2J\x1b]0;x\x07",
    "DEL": "\x7f",
    "a million characters": "x" * 1_000_000,
    "a hundred thousand é": "é" * 100_000,
    "ten thousand characters": "x" * 10_000,
    "300 characters": "x" * 300,
    "combining marks without end": "a" + "\u0301" * 5_000,
    "NFD": unicodedata.normalize("NFD", "Ångström"),
    "compatible forms": "\ufb01le \uff21\uff24\uff2d\uff29\uff2e \u2460",
    "a homograph": "\u0430dmin",
    "right to left": "\u202egnp.exe",
    "nothing to be seen": "\u200b\u2060\ufeff",
    "no character": "\uffff",
    "beyond the plane": "\U0010ffff\U0001f9d1\u200d\U0001f680",
    "a Turkish i": "İı",
    "what grows in capitals": "ŉßŸ",
    "SQL that ends a text": "' OR '1'='1' --",
    "SQL that goes on": "x'; DROP TABLE run; --",
    "SQL that waits": "1; SELECT pg_sleep(30)",
    "SQL, backslash": "\\'; SELECT 1; --",
    "LIKE": "%_%",
    "parameters of a driver": "%s %(name)s %% :name $1 {0}",
    "a template": "{{ 7 * 7 }}{% for x in range(10**9) %}{% endfor %}",
    "a template that climbs": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a format that climbs": "{0.__class__.__init__.__globals__}",
    "a reference": "$env.SECRET",
    "a reference to nothing": "$steps.nobody.result",
    "a reference without end": "$" + "a." * 5_000,
    "an expression": "$x > 1 and exit()",
    "brackets without end": "(" * 20_000,
    "a shell": "; touch /tmp/owned #",
    "a shell, substituted": "$(id)`id`",
    "a path upwards": "../../../../etc/passwd",
    "a path upwards, encoded": "..%2f..%2f..%2fetc%2fpasswd",
    "a path on Windows": "..\\..\\C:\\CON",
    "an absolute path": "/proc/self/environ",
    "a dot": ".",
    "two dots": "..",
    "the metadata of a cloud": "http://169.254.169.254/latest/meta-data/",
    "this machine": "http://127.0.0.1:5432/",
    "this machine, as a number": "http://2130706433/",
    "this machine, in six": "http://[::ffff:127.0.0.1]/",
    "a file": "file:///etc/passwd",
    "another scheme": "gopher://127.0.0.1:6379/_FLUSHALL",
    "a script": "<script>alert(1)</script>",
    "a script as an address": "javascript:alert(1)",
    "an entity": '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "LDAP": "*)(uid=*))(|(uid=*",
    "a lookup": "${jndi:ldap://127.0.0.1/x}",
    "a formula": "=HYPERLINK(1)",
    "an expression that never ends": "^(a+)+$",
    "what it never ends on": "a" * 5_000 + "!",
    "__proto__": "__proto__",
    "constructor": "constructor",
    "__class__": "__class__",
    "null, as a text": "null",
    "undefined": "undefined",
    "NaN, as a text": "NaN",
    "a number, as a text": "1e309",
    "an integer without end": "9" * 5_000,
    "beneath zero": "-1",
    "2 to the 63": str(2**63),
    "digits of elsewhere": "١٢٣",
    "a time that is none": "2026-02-30T25:61:61Z",
    "a time before time": "0000-00-00T00:00:00Z",
    "a time beyond the calendar": "9999-12-31T23:59:59.999999-23:59",
    "a zone beyond measure": "2026-01-01T00:00:00+23:59",
    "a leap second": "2016-12-31T23:59:60Z",
    "an id that is nobody's": "00000000-0000-0000-0000-000000000000",
    "an id of all ones": "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "an id in braces": "{01a1fe6d-bef7-761e-8338-d8466e535b35}",
    "the key of a step": "a#1",
    "a key without end": "a#" + "9" * 400,
    "a separator": "a|b,c;d:e/f",
    "a wildcard": "*",
}

#: JSON, as it is written, for every place that takes a value.
VALUES: Mapping[str, str] = {
    "null": "null",
    "true": "true",
    "false": "false",
    "zero": "0",
    "minus zero": "-0.0",
    "one": "1",
    "a half": "0.5",
    "beneath zero": "-1",
    "a whole number as a fraction": "1.0",
    "2 to the 31": str(2**31),
    "minus 2 to the 31": str(-(2**31)),
    "2 to the 53": str(2**53 + 1),
    "2 to the 63": str(2**63),
    "2 to the 63, less 1": str(2**63 - 1),
    "minus 2 to the 63": str(-(2**63)),
    "2 to the 64": str(2**64),
    "an integer of 5000 digits": "9" * 5_000,
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "beyond floats": "1e999",
    "beyond a numeric": "1e131073",
    "the least": "5e-324",
    "less than the least": "1e-999999",
    "the most": "1.7976931348623157e308",
    "a long fraction": "0." + "1" * 20_000,
    "a leading zero": "007",
    "hexadecimal": "0x10",
    "a plus": "+1",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list": "[1]",
    "a list of nulls": "[null]",
    "a list of lists": "[[]]",
    "a list of objects": "[{}]",
    "a list of texts": '["a"]',
    "the same twice": '["a", "a"]',
    "a list of everything": '[null, true, 1, 1.5, "a", [], {}]',
    "a list of 100 000": f"[{','.join(['1'] * 100_000)}]",
    "a list of 20 000 objects": f"[{','.join(['{}'] * 20_000)}]",
    "an object": '{"a": 1}',
    "an object of 20 000 keys": f"{{{','.join(f'{chr(34)}k{n}{chr(34)}:1' for n in range(20_000))}}}",
    "an object with an empty key": '{"": ""}',
    "__proto__": '{"__proto__": {"admin": true}}',
    "constructor": '{"constructor": {"prototype": {"admin": true}}}',
    "__class__": '{"__class__": "os.system", "py/object": "os.system"}',
    "a reference": '{"$ref": "#"}',
    "a reference elsewhere": '{"$ref": "http://127.0.0.1:1/x"}',
    "a key given twice": '{"a": 1, "a": 2}',
    "a key with NUL": r'{"a\u0000": 1}',
    "a key with a surrogate": r'{"\ud800": 1}',
    "a key of a million characters": f'{{"{"k" * 1_000_000}": 1}}',
    "63 lists": "[" * 63 + "]" * 63,
    "65 lists": "[" * 65 + "]" * 65,
    "100 000 lists": "[" * 100_000 + "]" * 100_000,
    "5000 objects": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "NUL": r'"a\u0000b"',
    "a lone high surrogate": r'"\ud800"',
    "a lone low surrogate": r'"x\udfffy"',
    "surrogates the wrong way round": r'"\udc00\ud800"',
    "an escape that is none": r'"\x41"',
    "a bare word": "name",
    "nothing at all": "",
    "a comment": "/* */ 1",
}

#: Whole bodies, and of what type they say that they are.
BODIES: Mapping[str, tuple[bytes, str | None]] = {
    "nothing": (b"", JSON),
    "nothing, of no type": (b"", None),
    "white space": (b" \n\t ", JSON),
    "a byte order mark": (b"\xef\xbb\xbf{}", JSON),
    "a byte order mark alone": (b"\xef\xbb\xbf", JSON),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), JSON),
    "UTF-16, and says so": ('{"a": 1}'.encode("utf-16-le"), "application/json; charset=utf-16"),
    "UTF-32": ('{"a": 1}'.encode("utf-32"), JSON),
    "UTF-7": (b'{"a": "+AGE-"}', "application/json; charset=utf-7"),
    "a charset that is none": (b"{}", "application/json; charset=klingon"),
    "no UTF-8": (b'{"a": "\xff\xfe"}', JSON),
    "UTF-8, cut off": (b'{"a": "\xc3"}', JSON),
    "UTF-8, too long": (b'{"a": "\xc0\xaf"}', JSON),
    "a surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', JSON),
    "binary": (bytes(range(256)), JSON),
    "zeros": (b"\x00" * 1_000, JSON),
    "half an object": (b'{"a": 1', JSON),
    "half a text": (b'{"a": "b', JSON),
    "half an escape": (b'{"a": "\\u12', JSON),
    "two values": (b"{} {}", JSON),
    "lines of JSON": (b"{}\n{}\n", "application/x-ndjson"),
    "a trailing comma": (b'{"a": 1,}', JSON),
    "single quotes": (b"{'a': 1}", JSON),
    "a comment": (b'{"a": 1} // b', JSON),
    "a newline in a text": (b'{"a": "\n"}', JSON),
    "null": (b"null", JSON),
    "true": (b"true", JSON),
    "a number": (b"17", JSON),
    "a text": (b'"a"', JSON),
    "a list": (b"[]", JSON),
    "a list of objects": (b"[{}]", JSON),
    "NaN": (b"NaN", JSON),
    "a key given twice": (b'{"a": 1, "a": 2}', JSON),
    "an empty key": (b'{"": 1}', JSON),
    "the prototype": (b'{"__proto__": {"admin": true}}', JSON),
    "100 000 lists": (b"[" * 100_000, JSON),
    "100 000 lists, closed": (b"[" * 100_000 + b"]" * 100_000, JSON),
    "100 000 objects": (b'{"a":' * 100_000, JSON),
    "a million characters": (b'{"a": "' + b"x" * 1_000_000 + b'"}', JSON),
    "beyond the limit": (b'{"a": "' + b"x" * 1_100_000 + b'"}', JSON),
    "a million spaces": (b" " * 1_000_000 + b"{}", JSON),
    "50 000 keys": (
        b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(50_000)) + b"}",
        JSON,
    ),
    "a form": (b"a=1&b=2", "application/x-www-form-urlencoded"),
    "a form, and says JSON": (b"a=1&b=2", JSON),
    "parts": (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="../x"\r\n\r\na\r\n--x--',
        "multipart/form-data; boundary=x",
    ),
    "parts without an end": (
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b"a" * 1_000,
        "multipart/form-data; boundary=x",
    ),
    "parts without a boundary": (b"--x\r\n\r\n", "multipart/form-data"),
    "10 000 parts": (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 10_000 + b"--x--\r\n",
        "multipart/form-data; boundary=x",
    ),
    "a boundary without end": (b"--x", f"multipart/form-data; boundary={'x' * 5_000}"),
    "XML": (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
        "application/xml",
    ),
    "YAML with a tag": (b"a: !!python/object/apply:os.system [id]\n", "application/yaml"),
    "YAML of a billion laughs": (
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
        "application/yaml",
    ),
    "YAML without end": (b"[" * 10_000, "application/yaml"),
    "YAML with NUL": (b"a: b\x00\n", "application/yaml"),
    "YAML, a merge": (b"a: &a {b: 1}\nc:\n  <<: *a\n", "application/yaml"),
    "YAML, numbers": (b"a: 0x_1\nb: 1:20:30\nc: .inf\nd: 2026-99-99\n", "application/yaml"),
    "text": (b"{}", "text/plain"),
    "a page": (b"<html>", "text/html"),
    "bytes": (b"{}", "application/octet-stream"),
    "a type that is none": (b"{}", "application"),
    "a type without end": (b"{}", "a/" + "b" * 5_000),
    "JSON of a kind": (b"{}", "application/vnd.api+json"),
    "JSON, shouted": (b"{}", "APPLICATION/JSON"),
    "a pickle": (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.", "application/python-pickle"),
}

_BOMB = gzip.compress(b'{"a": "' + b"\x00" * 20_000_000 + b'"}')

#: Whole bodies that are said to be in some form.
ENCODED: Mapping[str, tuple[str, bytes]] = {
    "a bomb": ("gzip", _BOMB),
    "a bomb in a bomb": ("gzip, gzip", gzip.compress(_BOMB)),
    "half a bomb": ("gzip", _BOMB[: len(_BOMB) // 2]),
    "no gzip": ("gzip", b"{}"),
    "deflate": ("deflate", zlib.compress(b"{}")),
    "br": ("br", b"\x0b\x00\x80{}\x03"),
    "zstd": ("zstd", b"\x28\xb5\x2f\xfd"),
    "what there is not": ("klingon", b"{}"),
    "identity, in parts": ("identity, identity", b"{}"),
}

#: Headers that are read by somebody.
_HEADERS = (
    *("Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "X-Correlation-ID"),
    *("X-Request-ID", "Accept", "Content-Language", "Host", "Origin", "X-Forwarded-For"),
    *("X-HTTP-Method-Override", "Range", "Expect", "Cookie", "If-Modified-Since"),
)
_IN_HEADERS = (
    *("nothing", "a space", "a tab", "ten thousand characters", "NUL", "compatible forms"),
    *("SQL that goes on", "a template that climbs", "a path upwards", "an integer without end"),
    *("this machine, in six", "beneath zero", "a lookup", "a wildcard", "a separator", "DEL"),
    *("combining marks without end", "a time beyond the calendar", "__proto__", "an escape"),
)
#: Who asks, where a credential is read.
CREDENTIALS = (
    *(
        "Bearer",
        "Bearer ",
        "Bearer x",
        "bearer clr_x.y",
        "Basic Og==",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ),
    *(
        "Bearer clr_0000000000000000." + "0" * 43,
        "Bearer " + "x" * 10_000,
        "Bearer \x01",
        "Digest x",
    ),
)

_CURSORS = (
    *("x", "W10", "MQ", "bnVsbA", "Im5vIGlkIg", "W251bGwsbnVsbF0", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"),
    *("W1tbW1tbXV1dXV1d", "eyJhIjoxfQ", "TmFO", "AAAA", "////", "%00", "=", "W" * 5_000),
)
_PARAMETERS = (
    "cursor",
    "limit",
    "reason",
    "tenantId",
    "__proto__",
    "a\x00b",
    "",
    "x[]",
    "x" * 5_000,
)


# --- an operation ----------------------------------------------------------------------------------


def requests(world: World, operation: Operation, things: Mapping[str, str]) -> Iterator[Request]:
    """Every hostile request for an operation.

    Its address holds the names of its parameters, but for one that is hostile.
    """
    path, body = operation.where[1], world.body(operation, things)
    good = body.get("json")
    yield from _whole(path)
    yield from _in_paths(operation, good)
    yield from _in_queries(path, good)
    yield from _in_headers(path, good)
    yield from _in_bodies(world.fields(operation), path, good)
    match body.get("data"):
        case {"file": (archive, *_)}:
            yield from _in_parts(path, archive.read())
        case bytes(text):
            yield from _in_texts(path, text, body["content_type"])


def _whole(path: str) -> Iterator[Request]:
    for what, (data, kind) in BODIES.items():
        yield Request(what=f"a body: {what}", path=path, data=data, content_type=kind)
    for what, (encoding, data) in ENCODED.items():
        yield Request(
            what=f"an encoding: {what}",
            path=path,
            data=data,
            content_type=JSON,
            headers={"Content-Encoding": encoding},
        )
    for length in ("-1", "x", "9" * 30, "1e3", "0x2", "1, 2", " 2", ""):
        yield Request(
            what=f"a length of {length!r}",
            path=path,
            data=b"{}",
            content_type=JSON,
            environ={"CONTENT_LENGTH": length},
        )
    for data in (b"", b"{}", b"x" * 1_100_000):
        yield Request(
            what=f"{len(data)} bytes without a length",
            path=path,
            data=data,
            content_type=JSON,
            headers={"Transfer-Encoding": "chunked"},
            environ={"CONTENT_LENGTH": "", "wsgi.input_terminated": True},
        )


def _in_paths(operation: Operation, good: Any) -> Iterator[Request]:
    """Every text in the place of one parameter or the other."""
    texts = {what: quote(text[:8_000], safe="") for what, text in TEXTS.items()}
    texts |= {"no UTF-8": "%ff%fe", "no escape": "%u0", "half an escape": "%"}
    names = operation.parameters
    for number, (what, raw) in enumerate(texts.items() if names else ()):
        name = names[number % len(names)]
        yield Request(
            what=f"{name} in the path: {what}",
            path=operation.where[1].replace(f"{{{name}}}", raw),
            data=None if good is None else json.dumps(good).encode(),
            content_type=JSON,
        )


def _in_queries(path: str, good: Any) -> Iterator[Request]:
    data = None if good is None else json.dumps(good).encode()
    for name in _PARAMETERS:
        query = f"{quote(name)}=1"
        yield Request(
            what=f"a parameter: {name[:20]!r}", path=path, data=data, content_type=JSON, query=query
        )
    for cursor in _CURSORS:
        query = f"cursor={cursor}"
        yield Request(
            what=f"a cursor: {cursor[:20]}", path=path, data=data, content_type=JSON, query=query
        )
    for query in ("&" * 10_000, "=" * 10_000, "a&a=1&a=2", "%", "%ff=%ff", "a=" + "x" * 60_000):
        yield Request(
            what=f"a query: {query[:20]}", path=path, data=data, content_type=JSON, query=query
        )


def _in_headers(path: str, good: Any) -> Iterator[Request]:
    data = None if good is None else json.dumps(good).encode()
    # Each header meets every text in the end, at one address or another.
    texts = cycle(_IN_HEADERS)
    for name in _HEADERS:
        for what in islice(texts, 7):
            # As a server hands them on: bytes, one by one.
            text = TEXTS[what].replace("\n", " ").encode()[:9_000].decode("latin-1")
            key = f"HTTP_{name.upper().replace('-', '_')}"
            yield Request(
                what=f"{name}: {what}",
                path=path,
                data=data,
                content_type=JSON,
                environ={key: text},
            )
    for credential in CREDENTIALS:
        yield Request(
            what=f"a credential: {credential[:20]}",
            path=path,
            data=data,
            content_type=JSON,
            environ={"HTTP_AUTHORIZATION": credential},
        )


def _in_bodies(fields: Iterable[str], path: str, good: Any) -> Iterator[Request]:
    """Every value in the place of some field, and every field with many values."""
    if not isinstance(good, dict):
        return
    values = [*VALUES.items(), *((what, json.dumps(text)) for what, text in TEXTS.items())]
    names = sorted({*good, *fields, "nobody_knows_it", "__proto__"})
    places: list[tuple[str, str | int | None]] = [*((name, None) for name in names), *_inner(good)]
    for number in range(_IN_BODY):
        what, raw = values[number % len(values)]
        # The second time round a value stands elsewhere.
        outer, inner = places[(number + number // len(values)) % len(places)]
        yield Request(
            what=f"{outer if inner is None else f'{outer}.{inner}'} in the body: {what}",
            path=path,
            data=_spoilt(good, outer, inner, raw).encode(),
            content_type=JSON,
        )


def _in_texts(path: str, text: bytes, kind: str) -> Iterator[Request]:
    """A body of lines, altered in every way."""
    lines = text.splitlines(keepends=True)
    texts = {
        "nothing": b"",
        "half": text[: len(text) // 2],
        "twice": text * 2,
        "its end first": b"".join(reversed(lines)),
        "one line": text.replace(b"\n", b" "),
        "a bomb": _BOMB,
        "no end": b"".join(lines[:-1]),
        "JSON": b"{}",
        **{f"without line {number}": _without(lines, number) for number in range(len(lines))},
        **{f"bit {bit} over": _flipped(text, bit) for bit in range(0, 8 * len(text), 977)},
    }
    for what, content in texts.items():
        yield Request(what=f"a text: {what}", path=path, data=content, content_type=kind)


def _without(lines: Sequence[bytes], number: int) -> bytes:
    return b"".join((*lines[:number], *lines[number + 1 :]))


def _in_parts(path: str, archive: bytes) -> Iterator[Request]:
    """An archive that is as it should be, under every name; and others that are not."""
    names = {what: text[:8_000].encode() for what, text in TEXTS.items()}
    archives = {
        "nothing": b"",
        "half": archive[: len(archive) // 2],
        "twice": archive * 2,
        "its end first": archive[::-1],
        "a bomb": _BOMB,
        "no zip": b"PK\x03\x04" + b"\x00" * 100,
        "the end of a zip": b"PK\x05\x06" + b"\xff" * 18,
        "no tar": b"x" * 512 + b"\x00" * 1024,
        "xz": b"\xfd7zXZ\x00" + b"\x00" * 100,
        "bzip2": b"BZh9" + b"\x00" * 100,
        **{f"bit {bit} over": _flipped(archive, bit) for bit in range(0, 8 * 512, 97)},
    }
    for what, name in names.items():
        yield _part(f"a file called: {what}", path, name.replace(b'"', b"%22"), archive)
    for what, content in archives.items():
        yield _part(f"a file: {what}", path, b"b.tar", content)


def _part(what: str, path: str, name: bytes, content: bytes) -> Request:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n' % name
    return Request(
        what=what,
        path=path,
        data=head + content + b"\r\n--x--\r\n",
        content_type="multipart/form-data; boundary=x",
    )


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _inner(good: Mapping[str, Any]) -> Iterator[tuple[str, str | int]]:
    for name, value in good.items():
        if isinstance(value, dict):
            yield from ((name, inner) for inner in value)
            yield name, "nobody_knows_it"
        elif isinstance(value, (list, tuple)):
            yield from ((name, number) for number in range(len(value)))


def _spoilt(good: Mapping[str, Any], outer: str, inner: str | int | None, raw: str) -> str:
    """A body, as it is written, with a value in the place of one of its own."""
    mark = "@ a value @"
    if inner is None:
        body = {**good, outer: mark}
    elif isinstance(inner, int):
        body = {**good, outer: [*good[outer][:inner], mark, *good[outer][inner + 1 :]]}
    else:
        body = {**good, outer: {**good[outer], inner: mark}}
    return json.dumps(body).replace(json.dumps(mark), raw)
