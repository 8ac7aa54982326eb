"""What attributes mean, and how text stands in quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Attributes of nodes and edges that are fields of the document, and what each is called there.
NODE: Mapping[str, str] = {
    name: name
    for name in (
        *("kind", "uses", "tool", "choose", "queue", "timeout", "max_iterations"),
        *("at", "expires"),
    )
}
EDGE: Mapping[str, str] = {
    "type": "type",
    "when": "when",
    "ask": "ask",
    "on": "on",
    "choice": "label",
}
#: All attributes that say something.
KNOWN = frozenset({"type", "label", *NODE, *EDGE})
#: Fields whose text is a number.
NUMBERS = frozenset({"timeout", "max_iterations", "expires"})
ROLES = ("task", "plan")
#: Kinds that a `type` may name in place of a role.
PASSED = ("start", "end", "pass", "milestone")

#: Stands for the name of the node, in its label; no text has it.
OWN_NAME = "\0"

KEYWORDS = frozenset({"node", "edge", "graph", "digraph", "subgraph", "strict"})
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted(text: str) -> str:
    """A text as an attribute's value."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def name(text: str) -> str:
    """The name of a node, in quotes where it needs them."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in KEYWORDS
    return text if plain else quoted(text)


def unquoted(text: str) -> str:
    """What a quoted text says, without the quotes around it."""
    return re.sub(r"\\(\r?\n|.)", _escaped, text, flags=re.DOTALL)


def _escaped(found: re.Match[str]) -> str:
    escape = found[1]
    if escape in {'"', "\\"}:
        return escape
    if escape.endswith("\n"):
        return ""  # a line that goes on
    if escape == "N":
        return OWN_NAME
    # The ends of lines in a label, centred or not.
    return "\n" if escape in {"n", "l", "r"} else found[0]
