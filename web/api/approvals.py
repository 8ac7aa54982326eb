"""Requests for approvals, whether they are open or were settled long ago."""

from __future__ import annotations

from typing import Any

from engine.runs import approvals
from engine.runs.approvals import Approval
from web import pagination, principal, site
from web.routing import Routes
from web.schemas.pages import page_of
from web.schemas.waits import ApprovalsArguments, ApprovalSchema

routes = Routes(
    "approvals",
    __name__,
    url_prefix="/api/v1/approvals",
    description="Requests for approvals: pending, approved, denied, expired, cancelled.",
)


@routes.on("GET", "", needs="run:read")
@routes.query(ApprovalsArguments)
@routes.gives(page_of(ApprovalSchema))
def list_approvals(arguments: dict[str, Any]) -> dict[str, Any]:
    """List requests for approvals, newest first."""
    limit = arguments["limit"]
    found = approvals.page(
        site.current().platform,
        principal.current().tenant,
        status=arguments.get("status"),
        before=pagination.approval_of(arguments.get("cursor")),
        limit=limit + 1,
    )
    return pagination.page(found, limit=limit, key=approvals.place)


@routes.on("GET", "/<request_id>", needs="run:read")
@routes.gives(ApprovalSchema)
def get_approval(request_id: str) -> Approval:
    """Show a request for an approval, and what came of it."""
    return approvals.get(site.current().platform, principal.current().tenant, request_id)
