"""Agents, as seed 002 writes them, in JSON.

    {"agents": {
      "echo": {"type": "template", "help": "…", "prompt": "{input}",
               "inputs": ["input"], "optional_inputs": [], "outputs": ["output"]},
      "shout": {"type": "workflow", "inputs": ["word"], "outputs": ["said"], "return_on_fail": 1,
                "steps": [{"agent": "echo", "params": {"input": "$word"}, "output": ["said"]}]}}}

A *proc* is a Python function (`function_def`), a *template* a text with `{name}` in it, a *workflow* a
list of steps, each of which calls an agent, and the older *txt2txt* a template whose text a model
answers. `definition` reads them, `interface` says what a change of one means to its callers,
`building` what each becomes here:

    proc, template   a function `agent.NAME`, which steps call in their own run
    every agent      a workflow `agent.NAME`: of a workflow its steps, of a function the one step that
                     calls it, of a txt2txt a node `llm`. So each is run alone in the same way

Whoever calls an agent knows its inputs and outputs alone, and never what it is.

What is not as in the seed. Of inputs and what steps leave, the newest counts, as in every list of
steps. A step that leaves out an input of its agent is given what is on the tape by that name, if
anything in the workflow can leave it there; else the agent is refused. An optional input that
nobody gives is null, and a function with a default of its own takes that. `ENV_NAME` in a param is
`$env.NAME`. `tests` of an agent are those of its workflow, and `run_config.tests` is read when they are
run (`tests`). Whatever else stands in a definition (`gui`, …) is kept as it is.

**Dry runs.** Every workflow has an optional input `dryrun`, hands it on to each step whose agent has
it, and lets no step of its own reach outside while it holds (`engine.core.tape`).

Nothing here does I/O. All of it takes strangers' input and answers with `Problem`s.
"""

from __future__ import annotations

from engine.formats.agent.building import Callee, document, function, input_of, mismatched
from engine.formats.agent.definition import Agent, Step, entered, read, renamed
from engine.formats.agent.interface import FIRST, Number, following
from engine.formats.agent.naming import Named, named, registered
from engine.formats.agent.tests import recorded

__all__ = [
    "FIRST",
    "Agent",
    "Callee",
    "Named",
    "Number",
    "Step",
    "document",
    "entered",
    "following",
    "function",
    "input_of",
    "mismatched",
    "named",
    "read",
    "recorded",
    "registered",
    "renamed",
]
