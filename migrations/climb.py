"""Taking the steps with Alembic, whose scripts are this package: there is no alembic.ini."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import migrations
from engine.errors import NotFound

#: Alembic's `op` is one per process; its steps can be taken by one thread at a time.
_ALONE = threading.Lock()

_Steps = Callable[[Any, Any], Sequence[MigrationStep]]


def to(connection: Any, revision: str) -> None:
    """Upgrade over an open psycopg2 connection; nothing happens where that is not upward."""
    scripts = scripts_of()
    try:
        target = scripts.get_revision(revision)
    except CommandError:
        target = None
    if target is None:
        raise NotFound(f"there is no revision {revision!r}; the newest is {migrations.head()}")

    def upward(found: Any, _: Any) -> Sequence[MigrationStep]:
        # Another upgrade, of this release or a later one, may have been here while we queued.
        if max(found, default="") >= target.revision:
            return []
        return scripts._upgrade_revs(target.revision, found)  # noqa: SLF001  # Alembic's own commands have no other way

    _run(connection, scripts, upward)


def down_to(connection: Any, revision: str) -> None:
    """Downgrade over an open psycopg2 connection."""
    scripts = scripts_of()
    _run(connection, scripts, lambda found, _: scripts._downgrade_revs(revision, found))  # noqa: SLF001  # see to


def scripts_of() -> ScriptDirectory:
    """The steps as Alembic sees them."""
    return ScriptDirectory(Path(migrations.__file__).parent, file_template="%(rev)s_%(slug)s")


def _run(connection: Any, scripts: ScriptDirectory, steps: _Steps) -> None:
    engine = create_engine("postgresql+psycopg2://", creator=lambda: connection, poolclass=NullPool)
    with (
        _ALONE,
        engine.begin() as transaction,
        EnvironmentContext(Config(), scripts, fn=steps) as environment,
    ):
        transaction.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": migrations.LOCK})
        environment.configure(connection=transaction)
        environment.run_migrations()
