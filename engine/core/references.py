"""Values that lie elsewhere: who names one reads it, who hands it on does not.

In variables a reference is a marker, `{"$blob": sha256, "size": bytes}`, which nobody can forge:
no JSON that enters may have the key (`values.problems`). Folds, overlays and merges treat it as
the value it is. Expressions see what it stands for: `Readable` reads it when it is named. As a
reference is the sha256 of what it stands for, a decision that read it is as certain as any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from engine.core.values import Json, Ref, marked

#: Gives the value that a reference stands for.
Read: TypeAlias = Callable[[Ref], Json]

#: A condition reads no value that is larger: the coordinator evaluates it, for all runs.
CONDITION_BYTES = 64 * 1024 * 1024


class TooLarge(ValueError):
    """A value is named that is larger than what may be read here."""


class Unread(ValueError):
    """A value lies elsewhere, and cannot be read here."""


class Sought(dict[str, Json]):
    """An object whose values are sought when they are looked up, one by one; as a whole it is empty."""

    def __init__(self, seek: Callable[[str], Json]) -> None:
        super().__init__()
        self._seek = seek

    def get(self, name: str, default: Json = None) -> Json:  # type: ignore[override]  # noqa: ARG002  # by text alone
        return self._seek(name)


class Readable(Mapping[str, Json]):
    """Values by name, of which those that lie elsewhere are read when they are asked for."""

    __slots__ = ("_limit", "_read", "kept")

    def __init__(self, kept: Mapping[str, Json], read: Read, *, limit: int | None = None) -> None:
        #: The same values as they are kept, references as markers.
        self.kept = kept
        self._read = read
        self._limit = limit

    def __getitem__(self, name: str) -> Json:
        value = self.kept[name]
        ref = marked(value)
        if ref is None:
            return value
        if self._limit is not None and ref.size > self._limit:
            raise TooLarge(
                f"${name} is {ref.size} bytes, and a condition reads {self._limit} at most; "
                "save what it needs in a variable of its own"
            )
        return self._read(ref)

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    def __contains__(self, name: object) -> bool:
        return name in self.kept

    @property
    def read(self) -> Read:
        """Gives the value that a reference stands for."""
        return self._read

    def over(self, values: Mapping[str, Json]) -> Readable:
        """Other values, read in the same way."""
        return Readable(values, self._read, limit=self._limit)

    def beside(self, more: Mapping[str, Json]) -> Readable:
        """The same and more; none of them is read for it."""
        return Readable({**self.kept, **more}, self._read, limit=self._limit)


def unread(ref: Ref) -> Json:
    """Stands where nothing can be read: whoever needs a value that lies elsewhere says so."""
    raise LookupError(f"blob {ref.sha256} is needed, and there is nothing to read it with")
