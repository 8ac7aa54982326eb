"""Whether the process is there, and whether it can work."""

from __future__ import annotations

from engine.runs import access
from web import site
from web.permissions import PUBLIC
from web.routing import Routes
from web.schemas.health import HealthSchema, ReadySchema

routes = Routes("health", __name__, description="For those who look after the platform.")


@routes.on("GET", "/health", needs=PUBLIC)
@routes.gives(HealthSchema)
@routes.described(security=[])
def seed_health() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "healthy"}


@routes.on("GET", "/api/v1/health", needs=PUBLIC)
@routes.gives(HealthSchema)
@routes.described(security=[])
def alive() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "healthy"}


@routes.on("GET", "/api/v1/ready", needs=PUBLIC)
@routes.gives(ReadySchema)
@routes.described(security=[])
def ready() -> dict[str, str]:
    """Say whether requests can be served: 503 while the database is away."""
    access.authenticate(site.current().platform.database, UNKNOWN)
    return {"status": "ready"}


#: A token that nobody has: looking it up asks the database.
UNKNOWN = f"clr_{'0' * 16}.{'0' * 43}"
