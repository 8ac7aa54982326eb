"""How often a run came where, counted over its whole history in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from engine.store.ids import RunId

_COUNTED = text(
    """
    SELECT 'node' AS what, body ->> 'node' AS name, count(*) AS times
    FROM history
    WHERE tenant_id = :tenant AND run_id = CAST(:run AS uuid)
        AND (kind = 'PassNode' OR kind = 'RequestStart' AND body ->> 'attempt' = '1')
    GROUP BY 2
    UNION ALL
    SELECT 'edge', taken.value ->> 'edge', count(*)
    FROM history
    CROSS JOIN json_array_elements(body -> 'taken') AS taken (value)
    WHERE tenant_id = :tenant AND run_id = CAST(:run AS uuid) AND kind = 'TakeEdges'
    GROUP BY 2
    UNION ALL
    SELECT 'edge', body -> 'short' ->> 'edge', count(*)
    FROM history
    WHERE tenant_id = :tenant AND run_id = CAST(:run AS uuid)
        AND kind IN ('JoinThreads', 'MissMilestone') AND body -> 'short' ->> 'edge' IS NOT NULL
    GROUP BY 2
    """
)


def counted(connection: Connection, run: RunId) -> Sequence[Row[Any]]:
    """Every node that was visited and every edge that was taken: what, name, times."""
    return connection.execute(_COUNTED, {"tenant": run.tenant, "run": run.run}).all()
