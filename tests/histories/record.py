"""Record a history of each shape with this release: `python -m tests.histories.record`.

A history that is there is never written again: what a release has decided is replayed for ever by
every later one (`tests/unit/core/test_histories.py`). Record new ones when a release can decide
what none could before, or is about to go out.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from engine.platform import DatabaseRole
from tests.support import histories, platforms, recordings, services, site
from tests.support.platforms import Sent
from tests.support.recordings import SHAPES, Scene


def main() -> None:
    """Record what is not there yet."""
    release = importlib.metadata.version("celeriac")
    services.join_session()
    try:
        for shape in sorted(SHAPES.keys() - histories.LEFT_OUT):
            file = histories.FOLDER / f"{shape}-{release}.json"
            if not file.exists():
                file.write_bytes(_recorded(shape, release))
                sys.stdout.write(f"{file.relative_to(services.ROOT)}\n")
    finally:
        services.end_session()


def _recorded(shape: str, release: str) -> bytes:
    with (
        tempfile.TemporaryDirectory() as home,
        site.of_its_own(services.shared(), Path(home)) as settings,
        platforms.platform(settings) as control,
        platforms.platform(settings, DatabaseRole.WORKER) as worker,
    ):
        scene = Scene(
            main=replace(control, broker=Sent(app=control.broker.app)),
            hands=replace(worker, broker=Sent(app=worker.broker.app)),
        )
        run = recordings.led(scene, shape)
        return histories.kept(scene.main, run, shape=shape, release=release)


if __name__ == "__main__":
    main()
