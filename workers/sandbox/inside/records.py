"""Records of the platform as code sees them: dicts whose keys are attributes, too."""

from __future__ import annotations

from typing import Any


class Record(dict[str, Any]):
    """A JSON object: `execution["header"]["name"]` is `execution.header.name`.

    A field that is not there is None as an attribute, and a KeyError as a key.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


def of(value: Any) -> Any:
    """JSON data with its objects as records."""
    if isinstance(value, dict):
        return Record({key: of(entry) for key, entry in value.items()})
    if isinstance(value, list):
        return [of(entry) for entry in value]
    return value
