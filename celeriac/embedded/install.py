"""What must be in a database before a platform works on it.

The supervisor asks at every start, a fleet once per release (`celeriac db upgrade`). Where all is
there, nothing changes; any number may ask at once.
"""

from __future__ import annotations

from pathlib import Path

import migrations
from engine.errors import Unavailable
from engine.platform import DatabaseRole, build
from engine.runs import access, libraries
from engine.settings import Settings


def install(settings: Settings, *, key_file: Path) -> None:
    """Bring the schema up to date, make the local tenant and its admin's key, install the libraries."""
    if settings.database_url is None:
        raise Unavailable(
            "DATABASE_URL is not set; set it, or start the platform with: celeriac up"
        )
    migrations.upgrade(settings.database_url)
    platform = build(settings, DatabaseRole.CONTROL, connections=1)
    try:
        access.ensure_local(platform.database)
        access.ensure_local_admin(platform.database, key_file)
        libraries.install(platform.database, access.LOCAL.tenant, settings.libraries)
    finally:
        platform.close()
