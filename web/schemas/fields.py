"""Fields of our own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from marshmallow import ValidationError, fields

from web import moments

_CHARACTERS = 1024
_NAMES = 1000
#: Whole numbers up to here are the same for every reader of JSON.
_SAFE = 2**53


class Choice(fields.Field[Any]):
    """What a step chose: a text, true or false, or the list of names of a plan."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,  # noqa: ARG002  # marshmallow's signature, here and below
        data: Any,  # noqa: ARG002
        **_: Any,
    ) -> bool | str | tuple[str, ...]:
        if isinstance(value, bool):
            return value
        names = value if isinstance(value, list) else [value]
        if len(names) > _NAMES or not all(
            isinstance(name, str) and len(name) <= _CHARACTERS for name in names
        ):
            raise ValidationError("is neither a text, nor true or false, nor a list of names")
        return tuple(names) if isinstance(value, list) else str(value)


class Moment(fields.AwareDateTime):
    """A time that a client names, in whatever zone: it is read in UTC."""

    def _deserialize(
        self,
        value: Any,
        attr: str | None,
        data: Any,
        **options: Any,
    ) -> datetime:
        found = super()._deserialize(value, attr, data, **options)
        try:
            return moments.in_utc(found)
        except ValueError as error:
            raise ValidationError(str(error)) from error


class Names(fields.List[str]):
    """A set of names, shown in order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(fields.String(), **options)

    def _serialize(
        self,
        value: Any,
        attr: str | None,  # noqa: ARG002  # see above
        obj: Any,  # noqa: ARG002
        **_: Any,
    ) -> list[str] | None:
        return None if value is None else sorted(value)


class Amount(fields.Float):
    """A decimal, shown as a number; a whole one as such."""

    def _serialize(
        self,
        value: Any,
        attr: str | None,  # noqa: ARG002  # see above
        obj: Any,  # noqa: ARG002
        **_: Any,
    ) -> float | int | None:
        if value is None:
            return None
        whole = value == int(value) and abs(value) < _SAFE
        return int(value) if whole else float(value)
