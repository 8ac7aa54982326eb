"""Library functions that tell a witness outside that they ran, and can be held up."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def visit(state, context):
    """Write `run node iteration attempt` to the witness, in one append; then wait if asked to."""
    line = f"{context.run_id} {context.node} {context.iteration} {context.attempt}"
    _write(state["witness"], line)
    while "go" in state and not Path(state["go"]).exists():
        time.sleep(0.01)
    if seconds := state.get("seconds", 0):
        time.sleep(seconds)
    return {"n": state.get("n", 0) + 1}


def mark(state, context):
    """Write `enter run step attempt` to the witness, and `leave …` a while later."""
    line = f"{context.run_id} {context.step} {context.attempt}"
    _write(state["witness"], f"enter {line}")
    time.sleep(state.get("seconds", 0))
    _write(state["witness"], f"leave {line}")
    return {"marked": context.step}


def wait_for_file(state):
    """Say that it has begun, then wait until it may go on."""
    Path(state["began"]).touch()
    while not Path(state["go"]).exists():
        time.sleep(0.01)
    return {"waited": True}


def stay(state):
    """Write the process id to the witness and stay."""
    _write(state["witness"], str(os.getpid()))
    time.sleep(60)


def pay(witness, then):
    """An effect in the world, and what becomes of the process that had it."""
    _write(witness, "paid")
    if then == "hang":
        time.sleep(60)
    elif then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("after it was paid")


def charge(context, witness, go=None):
    """Write `run step attempt` to the witness: it was called; then wait until it may go on."""
    _write(witness, f"{context.run_id} {context.step} {context.attempt}")
    while go is not None and not Path(go).exists():
        time.sleep(0.01)
    return "charged"


def buy(state, context):
    """Call the tool `charge` from inside a step."""
    given = {name: state[name] for name in ("witness", "go") if name in state}
    return {"bought": context.invoke("charge", **given)}


def _write(path, line):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


FUNCTIONS = {"visit": visit, "wait_for_file": wait_for_file}
TOOLS = {}
GRAPHS = ()


def tell(state):
    """What it was given as `key`, and how long that is."""
    return {"got": state["key"], "length": len(state["key"])}
