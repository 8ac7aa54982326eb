"""The graphs of the control-flow patterns, and what a run of each is given: inputs, people, events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from celeriac.testing import Act, Added, Answered, Completed, Sent
from engine import documents
from engine.core.graph import Graph

FOLDER = Path(__file__).parents[1] / "patterns"
GRAPHS = sorted(path.stem for path in (FOLDER / "graphs").glob("*.yaml"))
#: Workflows that nodes of the graphs run, beside themselves.
WORKFLOWS = {"hearing": FOLDER / "workflows" / "hearing.yaml"}
FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "work": lambda _: None,
    "as_many_as_there_are_reviewers": lambda state: ["review"] * state["reviewers"],
}
#: The same, as the platform is told of them.
SOURCES = {
    "work": "def work(state):\n    return None\n",
    "as_many_as_there_are_reviewers": (
        "def as_many_as_there_are_reviewers(state):\n    return ['review'] * state['reviewers']\n"
    ),
}
_WITNESSES = {"witnesses": ["ann", "ben", "cid"]}
#: Inputs with which every graph runs.
INPUTS: dict[str, dict[str, Any]] = {
    "wcp_04_exclusive_choice": {"amount": 10},
    "wcp_05_simple_merge": {"amount": 10},
    "wcp_06_multi_choice": {"fire": True, "injured": True},
    "wcp_07_structured_synchronizing_merge": {"fire": True, "injured": True},
    "wcp_10_arbitrary_cycles": {"urgent": False},
    "wcp_14_instances_known_at_run_time": {"reviewers": 4},
    "wcp_15_instances_added_at_run_time": _WITNESSES,
    "wcp_21_structured_loop": {"pages": 2, "score": 1},
    "wcp_22_recursion": {"boxes": 3},
    "wcp_24_persistent_trigger": {"order": 7},
    "wcp_26_cancel_multiple_instance_task": _WITNESSES,
    "wcp_27_complete_multiple_instance_task": _WITNESSES,
    "wcp_36_dynamic_partial_join_for_instances": _WITNESSES,
    "wcp_37_local_synchronizing_merge": {"abroad": True, "large": True},
    "wcp_38_general_synchronizing_merge": {"laps": 2, "found": True},
}


def heard(said: str) -> Answered:
    """A witness has said something, a minute after being asked."""
    return Answered("ask", form={"said": said}, after=60)


#: What is done from outside to every graph that waits for it, in order.
ACTS: dict[str, Sequence[Act]] = {
    "wcp_15_instances_added_at_run_time": (
        Added("hear", ["dan"]),
        *(heard(said) for said in ("no", "yes", "maybe", "never")),
    ),
    "wcp_16_deferred_choice": (Sent("accepted", True, after=3600),),
    "wcp_23_transient_trigger": (Sent("boarding", at="called", after=60),),
    "wcp_24_persistent_trigger": (Sent("paid", match={"order": 7}),),
    "wcp_26_cancel_multiple_instance_task": (heard("no"), Sent("withdrawn", after=3600)),
    "wcp_27_complete_multiple_instance_task": (heard("no"), Completed("hear", after=3600)),
    "wcp_36_dynamic_partial_join_for_instances": (
        Added("hear", ["dan"]),
        heard("no"),
        heard("yes"),
        Sent("hurry", 2, after=3600),
    ),
}
#: Where it is asked who is first, and what is left undone depends on it.
RACES = {
    "wcp_18_milestone",
    "wcp_19_cancel_task",
    "wcp_25_cancel_region",
    "wcp_29_cancelling_discriminator",
    "wcp_32_cancelling_partial_join",
    "wcp_35_cancelling_partial_join_for_instances",
    "wcp_43_explicit_termination",
}


def text(name: str) -> bytes:
    """The document of a pattern."""
    return (FOLDER / "graphs" / f"{name}.yaml").read_bytes()


def read(name: str) -> Graph:
    """The graph of a pattern."""
    return documents.read_graph(text(name))
