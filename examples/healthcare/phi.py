"""A policy for protected health information: `evaluate(action, context)`, as plug-ins are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Numbers that name a person.
_SSN = re.compile(r"\b\d{3}-\d{2}-\d{4}\b")


class Phi:
    """Lets no number that names a person into a call, and asks before records go to strangers."""

    name = "phi"
    priority = 10

    def __init__(self, domain: str = "clinic.example") -> None:
        self._domain = domain

    def evaluate(self, action: dict[str, Any], context: Mapping[str, Any]) -> Any:
        """DENY without a user, REQUIRE_APPROVAL for a stranger, MODIFY what names a person."""
        if not context.get("user_id"):
            return "DENY", "records are for somebody who is known"
        arguments = action["arguments"]
        to = str(arguments.get("to", ""))
        if to and not to.endswith(f"@{self._domain}"):
            return "REQUIRE_APPROVAL", f"{to} is outside of {self._domain}"
        hidden = {
            name: _SSN.sub("[hidden]", value) if isinstance(value, str) else value
            for name, value in arguments.items()
        }
        if hidden == arguments:
            return "ALLOW"
        arguments.update(hidden)
        return "MODIFY", "numbers that name a person are hidden"
