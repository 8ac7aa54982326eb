"""What is read as code, and what is not: bytes and texts of strangers, bounded before anything else."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from celeriac.code_review import syntax

#: Bytes of a file, and characters of one of its lines.
MOST_BYTES = 1024 * 1024
MOST_IN_LINE = 20_000

_MARK = "\ufeff"
#: UTF-32 before UTF-16, whose mark it begins with.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
#: How a file of Python says what it is encoded in, by PEP 263.
_DECLARED = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_UTF8 = frozenset({"utf-8", "utf8", "utf_8", "utf-8-sig", "ascii", "us-ascii"})


class UnreadableError(ValueError):
    """A text that is not reviewed: by which rule, where, and what to do."""

    def __init__(self, rule: str, message: str, *, line: int = 1) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text that can be reviewed."""

    text: str
    marked: bool = False  #: it began with a byte order mark, which is no part of the text


def decoded(data: bytes) -> str:
    """The text of a file. Raises `UnreadableError`; what else is wrong with it says `checked`."""
    if len(data) > MOST_BYTES:
        raise too_large(len(data))
    for mark, name in _MARKS:
        if data.startswith(mark):
            raise UnreadableError("encoding", f"The file is {name}; save it as UTF-8.")
    if b"\0" in data:
        raise _no_text(data[: data.index(b"\0")].count(b"\n") + 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = data[error.start]
        message = f"The file is not UTF-8 (byte 0x{byte:02x} in line {line}); save it as UTF-8."
        raise UnreadableError("encoding", message, line=line) from None


def checked(text: str) -> Code:
    """Text without its byte order mark. Raises `UnreadableError` for what no reviewer is given."""
    code = Code(text=text.removeprefix(_MARK), marked=text.startswith(_MARK))
    try:
        size = len(code.text.encode())
    except UnicodeEncodeError as error:
        place = code.text.count("\n", 0, error.start) + 1
        message = f"There is half a character in line {place}; write it whole."
        raise UnreadableError("encoding", message, line=place) from None
    if size > MOST_BYTES:
        raise too_large(size)
    for number, line in enumerate(syntax.lines(code.text), start=1):
        if "\0" in line:
            raise _no_text(number)
        if len(line) > MOST_IN_LINE:
            message = (
                f"Line {number} has {len(line)} characters, more than {MOST_IN_LINE}: "
                "nobody reads that. Wrap it, or leave generated files out of the review."
            )
            raise UnreadableError("line_too_long", message, line=number)
    return code


def declared(text: str) -> str | None:
    """The encoding other than UTF-8 that a Python file says it is in, and is not."""
    for line in syntax.lines(text[:MOST_IN_LINE])[:2]:
        found = _DECLARED.match(line)
        if found is not None:
            return None if found[1].lower() in _UTF8 else found[1]
    return None


def too_large(size: int) -> UnreadableError:
    """That a file is larger than what is reviewed."""
    message = f"The file has {size} bytes, more than the {MOST_BYTES} that are reviewed; split it."
    return UnreadableError("too_large", message)


def _no_text(line: int) -> UnreadableError:
    message = f"There is a NUL in line {line}: this is no source code. Remove it."
    return UnreadableError("binary", message, line=line)
