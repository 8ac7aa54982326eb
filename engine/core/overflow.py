"""What does not fit: which values must lie elsewhere for the rest to stay in the row."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.core.values import VARIABLES_BYTES, Json, Ref, plain, size

_DIGEST = "0" * 64


class Overflow(ValueError):
    """The variables are too large, and moving the largest out does not help."""

    def __init__(self, taken: int) -> None:
        super().__init__(taken)
        self.taken = taken  #: bytes that are left at best


def overflowing(
    left: Mapping[str, Json], new: Mapping[str, Json], kept: Collection[str]
) -> tuple[str, ...]:
    """The largest of the new values, as many as must lie elsewhere; mostly none.

    `left` is all that there would be, `kept` names what has to stay: contributions that are
    added up. Raises `Overflow`.
    """
    taken = size(dict(left))
    if taken <= VARIABLES_BYTES:
        return ()
    moved: list[str] = []
    sizes = {name: size(value) for name, value in new.items() if name not in kept}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        gained = sizes[name] - size(plain(Ref(sha256=_DIGEST, size=sizes[name])))
        if gained <= 0:
            break
        moved.append(name)
        taken -= gained
        if taken <= VARIABLES_BYTES:
            return tuple(moved)
    raise Overflow(taken)
