from __future__ import annotations

import subprocess
import sys

_SAYS = """
import sys
import time
from pathlib import Path
from celeriac.drill.clocked import Clock
file = Path(sys.argv[1])
clock = Clock(file)
real, monotonic = time.time(), time.monotonic()
clock.set()
from time import time as named
def ahead(): return round(time.time() - real), round(named() - real), round(time.time_ns() / 1e9 - real)
def until(wanted):
    while time.monotonic() - monotonic < 20 and clock.ahead != wanted: pass
    return ahead()
print(ahead())
file.write_text("3600"); print(until(3600.0))
file.write_text("-60"); print(until(-60.0))
file.write_text("nonsense"); print(ahead())
print(time.monotonic() - monotonic < 20)
"""


def test_a_clock_can_be_set_while_its_process_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _SAYS, str(tmp_path / "clock")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "(0, 0, 0)",
        "(3600, 3600, 3600)",
        "(-60, -60, -60)",
        "(-60, -60, -60)",
        "True",
    ]
