"""The audit of a tenant: who did what, and whether it is still what happened."""

from __future__ import annotations

from typing import Any

from engine.runs import audit, verification
from engine.runs.verification import Report
from engine.store.trail import Which
from web import body, pagination, principal, site
from web.routing import Routes
from web.schemas.audit import AuditArguments, EntrySchema, VerifiedSchema, VerifyArguments
from web.schemas.pages import page_of

routes = Routes(
    "audit",
    __name__,
    url_prefix="/api/v1/audit",
    description="What happened to runs, and what people did beside them, as one stream.",
)


@routes.on("GET", "", needs="audit:read")
@routes.query(AuditArguments)
@routes.gives(page_of(EntrySchema))
def entries(arguments: dict[str, Any]) -> dict[str, Any]:
    """List entries, in the order in which runs were submitted and acts done.

    The lines of a run come together, in their order.
    """
    limit = arguments["limit"]
    found = audit.page(
        site.current().platform,
        principal.current().tenant,
        Which(
            since=arguments.get("since"),
            until=arguments.get("until"),
            run=body.known_id(arguments.get("run"), "run"),
            workflow=arguments.get("workflow"),
            by=arguments.get("by"),
            action=arguments.get("action"),
        ),
        after=pagination.entry_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=lambda entry: list(entry.place))


@routes.on("GET", "/verify", needs="audit:verify")
@routes.query(VerifyArguments)
@routes.gives(VerifiedSchema)
def verify(arguments: dict[str, Any]) -> Report:
    """Verify the audit, or that of one run: chains, anchors, signatures, copies.

    It reads all there is, and takes its time.
    """
    here = site.current()
    run = body.known_id(arguments.get("run"), "run")
    with here.places.taken():
        return verification.verify(here.platform, principal.current().tenant, run=run)
