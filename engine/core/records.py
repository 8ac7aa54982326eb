"""Changing a frozen record: what a fold does most.

`dataclasses.replace` asks each field whether it may be given, and has each set anew by way of
`__init__`. Of a state of twenty fields that costs three times as much as copying it. So each
class of records gets a function of its own once, written out as `dataclass` writes `__init__`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

__all__ = ["replace"]

if TYPE_CHECKING:
    # The checker knows the fields of what it is given.
    from dataclasses import replace
else:

    def replace(record: Any, /, **changes: Any) -> Any:
        """A record with slots as it is, but for the fields that are given."""
        return _copier(type(record))(record, **changes)


@cache
def _copier(kind: type[Any]) -> Callable[..., Any]:
    """A function that copies records of a class, with a parameter for each field.

    What else it names begins with an underscore, which no field does: one may be called `kind`.
    """
    names = [field.name for field in fields(kind)]
    known: dict[str, Any] = {"_new": object.__new__, "_class": kind, "_kept": object()}
    known |= {f"_set_{name}": getattr(kind, name).__set__ for name in names}
    lines = [
        f"def copied(_record, *, {', '.join(f'{name}=_kept' for name in names)}):",
        "    _copy = _new(_class)",
        *(f"    _set_{n}(_copy, _record.{n} if {n} is _kept else {n})" for n in names),
        "    return _copy",
    ]
    exec("\n".join(lines), known)  # noqa: S102  # names of fields alone, as in `dataclasses`
    copied: Callable[..., Any] = known["copied"]
    return copied
