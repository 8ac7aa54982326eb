"""What an agent becomes here: the source of its function, the document of its workflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.core import tape
from engine.core.problem import Problem
from engine.core.section import suggestion
from engine.core.validate import RESERVED
from engine.core.values import Json
from engine.formats.agent import tests
from engine.formats.agent.definition import Agent, Step, place
from engine.formats.agent.naming import registered

_HOLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

#: By what name a proc's own function is the last one that its source has.
_ENTRY = "celeriac_agent"
#: A template as a function: text, and behind each piece of it the name of what stands there.
_FILLS_IN = """\
PIECES = {pieces!r}


def written(value):
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fill_in(**given):
    return "".join(text + written(given.get(name)) for text, name in PIECES)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """What a step calls."""

    #: As a list of steps names it: `agent.echo@3`.
    reference: str
    #: Whether it is a run of its own.
    runs: bool
    #: What it must be given, and what it may be; None where nobody says it.
    inputs: tuple[str, ...] | None = None
    takes: tuple[str, ...] | None = None
    #: Of one that runs: what it gives.
    outputs: tuple[str, ...] = ()


def function(agent: Agent) -> str:
    """The source of the function of a proc or a template."""
    if agent.type == "proc":
        # The last function of a source is the one that is called.
        return f"{agent.code}\n\n\n{_ENTRY} = {agent.function}\n"
    return _FILLS_IN.format(pieces=_pieces(agent))


def document(
    agent: Agent, version: str, callees: Mapping[str, Callee]
) -> tuple[dict[str, Json], tuple[Problem, ...]]:
    """The document of its workflow, and what is wrong with its steps.

    `callees` are what its steps call, by the text that names it; of a function it is its own, by
    its name.
    """
    problems: list[Problem] = []
    match agent.type:
        case "workflow":
            body = _listed(agent, callees, problems)
        case "txt2txt":
            body = _asking(agent)
        case _:
            body = _alone(agent, callees[agent.name])
    outputs: dict[str, Json] = {name: f"${name}" for name in agent.outputs}
    whole: dict[str, Json] = {
        "workflow": registered(agent.name),
        "version": version,
        "inputs": _inputs(agent),
        "outputs": outputs,
        **body,
        "tests": tests.written(agent, input_of),
    }
    return {name: value for name, value in whole.items() if value != {}}, tuple(problems)


def _inputs(agent: Agent) -> dict[str, Json]:
    found: dict[str, Json] = {input_of(name): {} for name in agent.inputs}
    found |= {input_of(name): {"default": None} for name in agent.optional}
    if not agent.called:
        found.setdefault(tape.DRY_RUN, {"default": None})
    return found


def input_of(name: str) -> str:
    """The input of an agent's workflow that stands for one of the agent's.

    Some names mean something else there: those of the tape, and those of the language.
    """
    return f"{name}_" if name in tape.NAMES | RESERVED else name


def _alone(agent: Agent, own: Callee) -> dict[str, Json]:
    """One step, which calls the agent's function."""
    params: dict[str, Json] = {name: f"${input_of(name)}" for name in agent.takes}
    step: dict[str, Json] = {"agent": own.reference, "params": params, "output": [*agent.outputs]}
    return {"steps": [step]}


def _listed(
    agent: Agent, callees: Mapping[str, Callee], problems: list[Problem]
) -> dict[str, Json]:
    left = {name for step in agent.steps for name in step.output}
    known = {*agent.takes, *left, *tape.NAMES}
    steps: list[Json] = []
    for index, step in enumerate(agent.steps):
        callee = callees[step.agent]
        params = {**step.params, **_handed_on(step, callee, known)}
        for wrong in _unwired(step, callee, params):
            at = place(agent.name, f"steps[{index}].params")
            problems.append(Problem(path=f"{at}.{wrong[0]}", message=wrong[1], remedy=wrong[2]))
        steps.append({"agent": callee.reference, "params": params, **_left(step, callee)})
    runs = {callee.reference for callee in callees.values() if callee.runs}
    body: dict[str, Json] = {"steps": steps, "limits": dict(agent.limits)}
    if runs:
        body["workflows"] = [*sorted(runs)]
    return body if agent.return_on_fail else {**body, "return_on_fail": False}


def _handed_on(step: Step, callee: Callee, known: set[str]) -> dict[str, Json]:
    """What a step gives its agent without saying so: what is on the tape by the name of an input."""
    missing = [name for name in callee.inputs or () if name in known]
    if tape.DRY_RUN in (callee.takes or ()):
        missing.append(tape.DRY_RUN)
    return {name: f"${name}" for name in missing if name not in step.params}


def _left(step: Step, callee: Callee) -> dict[str, Json]:
    """What a step leaves: of outputs that are named otherwise than its own, in their order."""
    if set(step.output) <= set(callee.outputs) or not callee.outputs:
        return {"output": [*step.output]}
    pairs = zip(step.output, callee.outputs, strict=False)
    return {"save": {name: f"$result.{output}" for name, output in pairs}}


def _unwired(
    step: Step, callee: Callee, params: Mapping[str, Json]
) -> Iterator[tuple[str, str, str]]:
    """Inputs that nothing is given for, and params that nothing takes: name, message, remedy."""
    for name in callee.inputs or ():
        if name not in params:
            yield (
                name,
                f"{step.agent} takes {name}, and nothing gives it",
                f"give it a value, or $NAME of something that an earlier step leaves: {name}: …",
            )
    if callee.takes is not None:
        for name in params:
            if name not in callee.takes:
                yield (
                    name,
                    f"{step.agent} takes no {name}",
                    suggestion(name, callee.takes)
                    or f"it takes {', '.join(callee.takes) or 'nothing'}",
                )


def _asking(agent: Agent) -> dict[str, Json]:
    """A node that asks a model; a dry run says what it would have asked."""
    holes: dict[str, Json] = {name: f"${name}" for name in (*agent.inputs, *agent.optional)}
    said = agent.outputs[:1]
    prompt = _jinja(agent)
    ask: dict[str, Json] = {
        "kind": "llm",
        "service": agent.service,
        "prompt": prompt,
        "with": holes,
        "save": dict.fromkeys(said, "$result.content"),
    }
    if agent.model is not None:
        ask["model"] = agent.model
    dry: dict[str, Json] = {
        "kind": "template",
        "template": f"dry run: {agent.service} is not asked: {prompt}",
        "with": holes,
        "save": dict.fromkeys(said, "$result"),
    }
    return {
        "nodes": {"begin": {"kind": "start"}, "dry": dry, "ask": ask},
        "edges": [
            {"from": "begin", "to": "dry", "when": f"${tape.DRY_RUN}"},
            "begin -> ask -> end",
            "dry -> end",
        ],
    }


def _pieces(agent: Agent) -> list[tuple[str, str | None]]:
    """The text of a template in pieces, each with the input that stands behind it."""
    found: list[tuple[str, str | None]] = []
    inputs, start = {*agent.inputs, *agent.optional}, 0
    for hole in _HOLE.finditer(agent.prompt):
        # Braces around anything else are part of the text: it may well hold JSON.
        if hole[1] in inputs:
            found.append((agent.prompt[start : hole.start()], hole[1]))
            start = hole.end()
    return [*found, (agent.prompt[start:], None)]


def mismatched(agent: Agent) -> Iterator[Problem]:
    """Placeholders of a text that are no inputs, and inputs for which it has no placeholder.

    To people braces around something else are a part of the text; to who writes agents it is told.
    """
    if agent.type not in {"template", "txt2txt"}:
        return
    at = place(agent.name, "prompt")
    holes = dict.fromkeys(hole[1] for hole in _HOLE.finditer(agent.prompt))
    names = (*agent.inputs, *agent.optional)
    for hole in holes:
        if hole not in names:
            remedy = suggestion(hole, names) or f"declare the input {hole}, or take it out"
            message = (
                f"{{{hole}}} stands for no input; the agent takes {', '.join(names) or 'none'}"
            )
            yield Problem(path=at, message=message, remedy=remedy)
    for name in names:
        if name not in holes:
            remedy = f"write {{{name}}} where it belongs, or take the input out"
            yield Problem(path=at, message=f"the input {name} stands nowhere in it", remedy=remedy)


def _jinja(agent: Agent) -> str:
    """The same in Jinja's language, in which nothing of the text means anything."""
    return "".join(
        text.replace("{", "{{ '{' }}")
        + ("" if name is None else f"{{{{ '' if {name} is none else {name} }}}}")
        for text, name in _pieces(agent)
    )
