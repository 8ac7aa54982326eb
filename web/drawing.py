"""Answers that are drawings: SVG, Mermaid, DOT."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response

from engine.core.values import Json
from engine.runs.diagrams import NOTATIONS

#: In a picture people's text is text. Should that ever fail, nothing of it is carried out.
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
#: What the answer is, for the description of the API.
DESCRIBED: Mapping[str, Json] = {
    "200": {
        "description": "The drawing, in the notation that was asked for",
        "content": {
            notation.content_type: {"schema": {"type": "string"}} for notation in NOTATIONS.values()
        },
    }
}


def answer(text: str, notation: str) -> Response:
    """A drawing as what it is."""
    return Response(text, content_type=NOTATIONS[notation].content_type, headers=_HEADERS)
