"""How much room text takes, without asking a font, and how it is made to fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

#: Widths in ems, as sans-serif fonts have them; all others are of middling width.
_EMS: Mapping[str, float] = {
    **dict.fromkeys("iljtf.,:;'|!()[]{}I/ -", 0.33),
    **dict.fromkeys("mwMW@%", 0.88),
}
#: What XML does not know, not even as an entity.
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def width(text: str, size: float) -> float:
    """About how wide a text is."""
    return sum(map(_em, text)) * size


def wrapped(text: str, size: float, room: float, most: int) -> tuple[str, ...]:
    """A text in a few lines, broken where there are spaces; the last is cut if it must be."""
    words = printable(text).split()
    lines: list[str] = []
    while words and len(lines) < most - 1:
        line = words.pop(0)
        while words and width(f"{line} {words[0]}", size) <= room:
            line += f" {words.pop(0)}"
        lines.append(cut(line, size, room))
    if words:
        lines.append(cut(" ".join(words), size, room))
    return tuple(lines)


def cut(text: str, size: float, room: float) -> str:
    """As much of a text as there is room for."""
    if width(text, size) <= room * 1.05:
        return text
    while text and width(text, size) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def printable(text: str) -> str:
    """A text without what XML does not know."""
    return _UNPRINTABLE.sub("", text)


def _em(character: str) -> float:
    if character in _EMS:
        return _EMS[character]
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in {"W", "F"}:
        return 1.05
    return 0.68 if character.isupper() else 0.57
