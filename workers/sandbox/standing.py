"""Which walls stand around code that strangers registered, and why not more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.sandbox.inside.walls import MODES

#: What each mode is made of, beside the limits, the clean interpreter and the child per call.
LAYERS: Mapping[str, tuple[str, ...]] = {
    "limits": (),
    "landlock": ("Landlock",),
    "seccomp": ("seccomp",),
    "portable": ("Landlock", "seccomp"),
    "full": ("namespaces", "Landlock", "seccomp"),
}

_REMEDY = (
    "run the worker on Linux 5.13 or newer with Landlock and seccomp (a container's default profile "
    "allows both), or, where nobody registers code but yourself, lower CELERIAC_SANDBOX_MINIMUM"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a sandbox has found out about itself when it was started."""

    #: The strongest mode that was asked for and can be had; None if none.
    mode: str | None
    minimum: str
    #: By mode that was tried and cannot be had: what is missing.
    lacking: Mapping[str, str] = field(default_factory=dict)
    #: Attacks that the walls did not hold, though they should have.
    breaches: tuple[str, ...] = ()
    #: How many attacks were tried.
    tried: int = 0
    #: Whether code runs as another user than the worker: never where that is not root.
    other_user: bool = False
    #: Whether code may start threads.
    threads: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The walls that stand, besides limits."""
        return () if self.mode is None else LAYERS[self.mode]

    @property
    def refusal(self) -> str | None:
        """Why source and templates are not run here, and what to do; None where they are."""
        if self.mode is None or MODES.index(self.mode) < MODES.index(self.minimum):
            here = f"mode {self.mode} stands" if self.mode else "no mode can be had"
            missing = "; ".join(f"{mode}: {why}" for mode, why in self.lacking.items())
            return (
                f"code registered as source is refused here: {here}, and at least "
                f"{self.minimum} must{f' ({missing})' if missing else ''}; {_REMEDY}"
            )
        if self.breaches:
            return (
                f"code registered as source is refused here: the walls of mode {self.mode} did not "
                f"hold against {', '.join(self.breaches)}; library code goes on; choose another mode "
                "by CELERIAC_SANDBOX, and tell us of this kernel"
            )
        return None
