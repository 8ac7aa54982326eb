"""Settings under which the database lies behind a network that can stop delivering."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import make_url

from celeriac.drill.network import Network
from engine.settings import Settings


@contextlib.contextmanager
def between(settings: Settings) -> Iterator[tuple[Settings, Network]]:
    """Settings under which the database lies behind such a network."""
    url = make_url(settings.database_url or "")
    network = Network(f"{url.query['host']}/.s.PGSQL.{url.query.get('port', 5432)}")
    over_tcp = url.set(host="127.0.0.1", port=network.port).difference_update_query(
        ["host", "port"]
    )
    try:
        yield (
            replace(settings, database_url=over_tcp.render_as_string(hide_password=False)),
            network,
        )
    finally:
        network.close()
