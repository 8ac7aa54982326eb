"""What the team has noted on how it writes code, found for a question.

The texts lie beside this module, a paragraph a document. Where the run names an `embedding_model`, those
are found that mean what is near to what the question means, as that model has it, on the same server as
the model that writes. Else their words decide, by BM25: a word counts the more the fewer documents have
it, and the less the longer the document is that has it.
"""

from __future__ import annotations

import math
import operator
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from . import model

#: Documents that are found at most.
MOST = 3

#: How soon a word that comes again counts no more, and how much a document's length matters.
_SATURATION = 1.5
_LENGTH = 0.75

#: Letters that a word has at least whose s at its end is taken for that of a plural.
_PLURAL = 4

_WORD = re.compile(r"[a-z0-9]+")
_USUAL = frozenset(
    "a an and are as at be by for from has if in is it of on or that the this to we with".split()  # noqa: SIM905  # a list is no clearer
)


def look_up(state: Mapping[str, Any], context: Any) -> list[dict[str, Any]]:
    """The documents that fit `query` best, the best first; none where nothing of it is known."""
    if not state.get("embedding_model"):
        return ranked(state["query"], _documents())
    texts = [f"{each['title']}\n{each['text']}" for each in _documents()]
    (asked, *vectors), tokens = model.embedded(state, [state["query"], *texts])
    context.use(tokens_used=tokens)
    return nearest(asked, vectors, _documents())


def nearest(
    asked: Sequence[float],
    vectors: Sequence[Sequence[float]],
    documents: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    """The documents whose vectors point where a question's does, with the cosine of the angle."""
    scored = [
        {**each, "score": round(_cosine(asked, vector), 4)}
        for each, vector in zip(documents, vectors, strict=True)
    ]
    return _best(scored)


def ranked(query: str, documents: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The documents that have a word of the query, with their score, the best first."""
    words = [Counter(_words(f"{each['title']} {each['text']}")) for each in documents]
    mean = sum(count.total() for count in words) / max(len(words), 1)
    asked = dict.fromkeys(_words(query))
    rarity = {word: _rarity(sum(word in count for count in words), len(words)) for word in asked}
    scored = [
        {
            **each,
            "score": round(sum(rarity[word] * _weight(count, word, mean) for word in asked), 4),
        }
        for each, count in zip(documents, words, strict=True)
    ]
    return _best(scored)


def _best(scored: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [each for each in scored if each["score"] > 0]
    return sorted(found, key=lambda each: (-each["score"], each["title"]))[:MOST]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    return sum(map(operator.mul, one, other)) / lengths if lengths else 0.0


def _rarity(having: int, documents: int) -> float:
    return math.log(1 + (documents - having + 0.5) / (having + 0.5))


def _weight(count: Counter[str], word: str, mean: float) -> float:
    length = 1 - _LENGTH + _LENGTH * count.total() / mean
    return count[word] * (_SATURATION + 1) / (count[word] + _SATURATION * length)


def _words(text: str) -> list[str]:
    """The words of a text that say something, without the s of a plural."""
    return [
        word if len(word) < _PLURAL else word.removesuffix("s")
        for word in _WORD.findall(text.lower())
        if word not in _USUAL
    ]


@cache
def _documents() -> tuple[dict[str, str], ...]:
    text = Path(__file__).with_name("notes.md").read_text(encoding="utf-8")
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return tuple({"title": title.strip(), "text": said.strip()} for title, _, said in parts)
