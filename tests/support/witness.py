"""Library functions that tell a witness outside that they ran, and can be held up."""

from __future__ import annotations

import os
import time
from pathlib import Path


def visit(state, context):
    """Write `run node iteration attempt` to the witness, in one append."""
    line = f"{context.run_id} {context.node} {context.iteration} {context.attempt}\n"
    file = os.open(state["witness"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())
    os.close(file)
    if seconds := state.get("seconds", 0):
        time.sleep(seconds)
    return {"n": state.get("n", 0) + 1}


def wait_for_file(state):
    """Say that it has begun, then wait until it may go on."""
    Path(state["began"]).touch()
    while not Path(state["go"]).exists():
        time.sleep(0.01)
    return {"waited": True}


FUNCTIONS = {"visit": visit, "wait_for_file": wait_for_file}
TOOLS = {}
GRAPHS = ()
