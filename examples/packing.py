"""Agents from Python: prints them as `celeriac agent import -` takes them.

    python examples/packing.py FILE FUNCTION:OUTPUT … | celeriac agent import -

Each FUNCTION of the file becomes an agent that gives OUTPUT. Its parameters are the agent's inputs, those
with a default optional ones; its docstring is its help. The whole file goes along with each of them.
"""

from __future__ import annotations

import inspect
import json
import runpy
import sys
from pathlib import Path
from typing import Any


def agents(file: Path, outputs: dict[str, str]) -> dict[str, Any]:
    """The definitions of the functions in a file that are named with their outputs."""
    source, found = file.read_text(encoding="utf-8"), runpy.run_path(str(file))
    return {name: _agent(source, found[name], output) for name, output in outputs.items()}


def _agent(source: str, function: Any, output: str) -> dict[str, Any]:
    taken = inspect.signature(function).parameters.values()
    return {
        "type": "proc",
        "help": inspect.getdoc(function) or "",
        "function": function.__name__,
        "function_def": source,
        "inputs": [each.name for each in taken if each.default is each.empty],
        "optional_inputs": [each.name for each in taken if each.default is not each.empty],
        "outputs": [output],
    }


if __name__ == "__main__":
    path, *named = sys.argv[1:]
    wanted = dict(each.split(":", 1) for each in named)
    print(json.dumps({"agents": agents(Path(path), wanted)}, indent=1))
