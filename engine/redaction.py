"""Taking secrets out of whatever an attempt leaves: results, logs, messages, arguments of calls.

A `Redaction` knows the values that were resolved for one attempt. Wherever one of them stands, as it
is or in one of the spellings that code and protocols give it (escaped as in JSON and in Python,
percent-encoded, hex, base64 and base64url at any offset), a mark takes its place: `[secret:NAME]`.
Of a value of several lines each line is one, because logs come in lines.

What is made from a value in another way, a hash, its letters backwards, is not found: whoever is
granted a secret is trusted with it. This keeps it from being written down by accident.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from engine.core.values import Json

#: Characters that a sensitive value has at least: a shorter one would be found everywhere.
LEAST = 6
#: How much of a value, at the end of a text that was cut off, is taken for its beginning.
_CUT = 6
_HEAD = 8


def mark(name: str) -> str:
    """What stands in the place of a secret's value."""
    return f"[secret:{name}]"


_MARK = re.compile(r"\[secret:[A-Za-z_][A-Za-z0-9_]*\]", re.ASCII)


def marked(value: Json) -> bool:
    """Whether something was hidden in a value: it is not what it was."""
    match value:
        case str():
            return _MARK.search(value) is not None
        case list():
            return any(map(marked, value))
        case dict():
            return any(map(marked, value.keys())) or any(map(marked, value.values()))
        case _:
            return False


class _Span(NamedTuple):
    start: int
    end: int
    name: str


class Redaction:
    """The sensitive values of one attempt, by the names of their secrets."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        #: What is looked for, and the name of the secret that it gives away.
        self._forms: dict[str, str] = {}
        self._marks: set[str] = set()
        for name, value in (values or {}).items():
            self.add(name, value)

    def __repr__(self) -> str:
        return f"Redaction({', '.join(sorted(self._marks))})"

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, name: str, value: str) -> None:
        """Hide a value from now on."""
        self._marks.add(mark(name))
        for form in _forms(value) - {""}:
            self._forms.setdefault(form, name)

    def hide(self, value: Json) -> Json:
        """The value without what is secret, in its texts, keys and numbers."""
        if not self._forms:
            return value
        match value:
            case str():
                return self.hide_text(value)
            case list():
                return [self.hide(entry) for entry in value]
            case dict():
                return self._hide_object(value)
            case bool() | None:
                return value
            case _:
                # A value of digits alone may come back as a number.
                text = json.dumps(value)
                hidden = self.hide_text(text)
                return value if hidden == text else hidden

    def hide_text(self, text: str, *, cut: bool = False) -> str:
        """The text without what is secret.

        `cut`: it may have been cut off, so that its end may be the beginning of a value.
        """
        if not self._forms:
            return text
        spans = list(self._spans(text))
        if cut and (rest := self._begun(text, whole=False)) is not None:
            spans.append(rest)
        return _without(text, spans)

    def stream(self) -> Stream:
        """The same for a text that comes in pieces."""
        return Stream(self)

    def _hide_object(self, value: Mapping[str, Json]) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for key, each in value.items():
            hidden, number = self.hide_text(key), 1
            while hidden in found:
                number += 1
                hidden = f"{self.hide_text(key)} ({number})"
            found[hidden] = self.hide(each)
        return found

    def _spans(self, text: str) -> Iterator[_Span]:
        """Where forms of secrets stand; those within a mark are its own."""
        marked = [span for each in self._marks for span in _occurrences(text, each, "")]
        for form, name in self._forms.items():
            for span in _occurrences(text, form, name):
                if not any(m.start <= span.start and span.end <= m.end for m in marked):
                    yield span

    def _uncut(self, text: str) -> Iterator[_Span]:
        """What of a text must not be told in two parts."""
        for start, end, _ in _joined([*self._spans(text)]):
            yield _Span(start, end, "")
        for each in self._marks:
            yield from _occurrences(text, each, "")

    def _begun(self, text: str, *, whole: bool) -> _Span | None:
        """The longest end of a text that something which is looked for may begin with.

        `whole`: be it of one character, and be it a mark.
        """
        looked_for = [*self._forms.items(), *((each, "") for each in self._marks if whole)]
        found = [
            _Span(at, len(text), name)
            for form, name in looked_for
            if (at := _beginning(text, form)) is not None
        ]
        longest = min(found, default=None)
        cut = longest is not None and (whole or len(text) - longest.start >= _CUT)
        return longest if cut else None


class Stream:
    """Hides what is secret in a text of pieces: what may be the beginning of a value is held back."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._held = ""

    def feed(self, piece: str) -> str:
        """Take the next piece; what can be told by now."""
        text = self._held + piece
        begun = self._redaction._begun(text, whole=True)  # noqa: SLF001  # of one mind
        end = len(text) if begun is None else begun.start
        uncut = sorted(self._redaction._uncut(text), reverse=True)  # noqa: SLF001  # see above
        for span in uncut:
            if span.start < end < span.end:
                end = span.start
        self._held = text[end:]
        return self._redaction.hide_text(text[:end])

    def close(self) -> str:
        """What was held back, when nothing follows."""
        text, self._held = self._held, ""
        return self._redaction.hide_text(text)


def restored(allowed: Json, hidden: Json, real: Json) -> Json:
    """What is carried out of what was `allowed`: the real values, where nobody has changed anything.

    `hidden` is what was asked about, `real` what it stands for. A mark that somebody has written
    elsewhere is a text like any other: nothing is ever put in its place.
    """
    match allowed, hidden, real:
        case dict(), dict(), dict():
            known = {
                told: (key, hidden[told], real[key]) for told, key in zip(hidden, real, strict=True)
            }
            return {
                known[key][0] if key in known else key: (
                    restored(value, *known[key][1:]) if key in known else value
                )
                for key, value in allowed.items()
            }
        case list(), list(), list() if len(allowed) == len(hidden):
            parts = zip(allowed, hidden, real, strict=True)
            return [restored(*each) for each in parts]
        case _:
            unchanged = type(allowed) is type(hidden) and allowed == hidden
            return real if unchanged else allowed


def _occurrences(text: str, form: str, name: str) -> Iterator[_Span]:
    at = text.find(form)
    while at >= 0:
        yield _Span(at, at + len(form), name)
        at = text.find(form, at + 1)


def _beginning(text: str, form: str) -> int | None:
    """Where the longest end of a text stands that a form, longer than that, begins with."""
    head = form[:_HEAD]
    at = text.find(form[0], max(0, len(text) - len(form) + 1))
    while at >= 0:
        # Most are told apart by their first few characters, without a copy of the rest.
        if text.startswith(head[: len(text) - at], at) and form.startswith(text[at:]):
            return at
        at = text.find(form[0], at + 1)
    return None


def _joined(spans: Sequence[_Span]) -> Iterator[tuple[int, int, str]]:
    """Spans that overlap as one, with the marks of all that it holds."""
    start, end, told = 0, 0, ""
    last = ""
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if span.start >= end:
            if told:
                yield start, end, told
            start, end, told, last = span.start, span.end, mark(span.name), span.name
        elif span.end > end:
            end = span.end
            told = told if span.name == last else told + mark(span.name)
            last = span.name
    if told:
        yield start, end, told


def _without(text: str, spans: Sequence[_Span]) -> str:
    parts, done = [], 0
    for start, end, told in _joined(spans):
        parts += [text[done:start], told]
        done = end
    return "".join([*parts, text[done:]])


def _forms(value: str) -> set[str]:
    """The spellings in which a value is looked for."""
    data = value.encode()
    quoted = {quote(value), quote(value, safe=""), quote_plus(value)}
    return {
        value,
        *(line.strip() for line in value.splitlines() if len(line.strip()) >= LEAST),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        *quoted,
        *(_lower_escapes(each) for each in quoted),
        data.hex(),
        data.hex().upper(),
        *_in_base64(data),
    }


def _lower_escapes(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return "".join([first, *(f"%{each[:2].lower()}{each[2:]}" for each in rest)])


def _in_base64(data: bytes) -> Iterator[str]:
    """What of base64 the value alone decides, wherever in the encoded bytes it begins."""
    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    for before in range(3):
        padded = bytes(before) + data
        first, last = -(-before * 8 // 6), len(padded) * 8 // 6
        for encoded in (base64.b64encode(padded), base64.urlsafe_b64encode(padded)):
            yield encoded[first:last].decode()
