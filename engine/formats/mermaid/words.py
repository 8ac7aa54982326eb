"""What shapes mean, and which names can be written."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.core.values import Json

PLAN: Mapping[str, Json] = {"role": "plan"}
TASK: Mapping[str, Json] = {}
#: A circle, before it is known what leads there.
CONTROL: Mapping[str, Json] = {"kind": "pass"}

#: Opening bracket, its closing ones, and what the shape means; the longest come first.
SHAPES: tuple[tuple[str, tuple[str, ...], Mapping[str, Json]], ...] = (
    ("(((", (")))",), CONTROL),
    ("((", ("))",), CONTROL),
    ("([", ("])",), CONTROL),
    ("(-", ("-)",), TASK),
    ("[[", ("]]",), TASK),
    ("[(", (")]",), TASK),
    ("[/", ("/]", "\\]"), TASK),
    ("[\\", ("\\]", "/]"), TASK),
    ("{{", ("}}",), PLAN),
    ("(", (")",), TASK),
    ("[", ("]",), TASK),
    ("{", ("}",), PLAN),
    (">", ("]",), TASK),
)
#: The shapes of `id@{shape: NAME}` that mean something.
NAMED: Mapping[str, Mapping[str, Json]] = {
    **dict.fromkeys(("hex", "hexagon", "prepare"), PLAN),
    **dict.fromkeys(("diam", "diamond", "decision", "question"), PLAN),
    **dict.fromkeys(("circle", "circ", "start", "sm-circ", "small-circle", "stop"), CONTROL),
    **dict.fromkeys(("fr-circ", "framed-circle", "dbl-circ", "double-circle"), CONTROL),
    **dict.fromkeys(("stadium", "pill", "terminal"), CONTROL),
}

#: Words that mean something else where a node may stand.
KEYWORDS = frozenset(
    {
        *("end", "graph", "flowchart", "subgraph", "style", "linkStyle", "classDef", "class"),
        *("click", "direction", "default", "call", "href", "interpolate", "accTitle", "accDescr"),
        *("_self", "_blank", "_parent", "_top"),
    }
)

_PLAIN = re.compile(r"[A-Za-z0-9_]+")


def is_plain(name: str) -> bool:
    """Whether a name can be written as it is."""
    return _PLAIN.fullmatch(name) is not None and name not in KEYWORDS


def alias(name: str) -> str:
    """A plain word that stands for a name which is none; a number may follow it."""
    return re.sub(r"[^A-Za-z0-9]", "_", name) + "_"


def stands_for(id: str, text: str) -> bool:  # noqa: A002  # what Mermaid calls it
    """Whether an id stands for the name that is its text."""
    return not is_plain(text) and id.rstrip("0123456789") == alias(text)
