"""Listens to a run, and has its agent mended if it fails: one mending run for each, however often it is asked.

    python examples/writing-agents/watch.py RUN AGENT '{"word": "hello"}'

The stream of a run's events is taken up again where it broke off, and is over when the run is. Where to
find the platform is said by CELERIAC_URL and CELERIAC_API_KEY, as it is to `celeriac`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from celeriac.client import Client, Run


def mended(client: Client, run: Run, agent: str, given: Mapping[str, Any]) -> Run | None:
    """The run that mends the agent of a run, once that has failed; None where there is nothing to mend."""
    for event in run.events(logs=False):
        print(event.id)
    ended = run.refresh()
    if ended.status != "failed":
        return None
    problem = {"name": agent, "problem": ended.message or "", "given": dict(given)}
    return client.submit("mend-agent", problem, idempotency_key=f"mend-{run.id}")


if __name__ == "__main__":
    run_id, name, inputs = sys.argv[1:]
    with Client() as platform:
        mending = mended(platform, platform.run(run_id), name, json.loads(inputs))
        print("nothing to mend" if mending is None else mending.wait().outputs)
