"""Why a run is where it is, and whether it would be decided so again."""

from __future__ import annotations

from typing import Any

from engine.core import values
from engine.runs import explanations, replays
from engine.runs.explanations import Explanation
from engine.runs.replays import Replayed
from web import permissions, principal, site
from web.api.runs import named
from web.routing import Routes
from web.schemas.replays import ExplainArguments, ExplanationSchema, ReplayedSchema, ReplaySchema

routes = Routes(
    "replays",
    __name__,
    url_prefix="/api/v1/runs/<run_id>",
    description="Why a run is where it is, and whether it would be decided so again.",
)


@routes.on("POST", "/replay", needs="run:read")
@routes.takes(ReplaySchema, required=False)
@routes.gives(ReplayedSchema)
def replay(given: dict[str, Any], run_id: str) -> Replayed:
    """Decide a run once more from what was recorded. Nothing is carried out or changed.

    By itself each decision is compared with the one in its history. Held against another version of
    its workflow, or a policy, the first place is told at which something else would have followed,
    and what would have become of it; that asks for leave to read definitions, or policies.
    """
    here, who, run = site.current(), principal.current(), named(run_id)
    version, policy = given["version"], given["policy"]
    if version is not None:
        permissions.check(who, "definition:read")
    if policy is not None:
        permissions.check(who, "policy:read")
    with here.places.taken():
        if version is not None:
            return replays.against_version(here.platform, run, version)
        if policy is not None:
            text = policy if isinstance(policy, str) else values.canonical(policy)
            return replays.against_policy(here.platform, run, text, beside=given["beside"])
        return replays.of_itself(here.platform, run)


@routes.on("GET", "/explain", needs="run:read")
@routes.query(ExplainArguments)
@routes.gives(ExplanationSchema)
def explain(arguments: dict[str, Any], run_id: str) -> Explanation:
    """Say why a run is where it is: what everything that waits waits for, and when it wakes.

    Of its last decisions it tells each edge that was taken or was not, with its condition, the values
    that this rested on and the verdict. However long a run is, that takes no longer.
    """
    here = site.current()
    return explanations.explain(here.platform, named(run_id), before=arguments["before"])
