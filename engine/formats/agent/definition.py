"""Reading agents: what a file of them says, and everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.core import tape
from engine.core.document import vocabulary as words
from engine.core.problem import Problem
from engine.core.section import Section, below, short
from engine.core.validate import RESERVED
from engine.core.values import Json
from engine.formats.agent.naming import Named, named

TYPES = ("proc", "template", "workflow", "txt2txt")
#: Agents of one file.
MOST = 1000
#: Inputs, optional inputs or outputs of one agent.
MOST_NAMES = 100
#: Characters of the code of a proc, and of the text of a template.
MOST_TEXT = 200_000
#: What a function is called with beside its inputs.
_TOLD = frozenset({"output", "context"})
_STEP = ("agent", "params", "output")
_SECRET = re.compile(r"ENV_([A-Za-z_][A-Za-z0-9_]{0,63})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a workflow."""

    #: As it stands in the definition.
    agent: str
    params: Mapping[str, Json]
    output: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as its definition has it."""

    name: str
    type: str
    help: str
    inputs: tuple[str, ...]
    optional: tuple[str, ...]
    outputs: tuple[str, ...]
    #: All that its definition says, what nobody here knows of included.
    definition: Mapping[str, Json] = field(repr=False)
    #: Of a proc: its code, and the name of its function in that.
    code: str = ""
    function: str = ""
    #: Of a template and a txt2txt.
    prompt: str = ""
    #: Of a txt2txt: the service that answers, and the model, where it names one.
    service: str = ""
    model: str | None = None
    #: Of a workflow.
    steps: tuple[Step, ...] = ()
    return_on_fail: bool = True
    limits: Mapping[str, Json] = field(default_factory=dict)

    @property
    def takes(self) -> tuple[str, ...]:
        """All that it may be given; a workflow a dry run, too."""
        own = (*self.inputs, *self.optional)
        return own if self.called or tape.DRY_RUN in own else (*own, tape.DRY_RUN)

    @property
    def called(self) -> bool:
        """Whether it is a function, which steps call; else it runs by itself."""
        return self.type in {"proc", "template"}


def read(data: Json) -> tuple[dict[str, Agent], tuple[Problem, ...]]:
    """The agents of a file by name, and everything that is wrong with them."""
    problems: list[Problem] = []
    top = Section(data, "", problems)
    given = top.section("agents")
    if "agents" not in top.fields and not problems:
        top.fail("agents", "there are no agents", 'write {"agents": {NAME: {"type": …}}}')
    if len(given.fields) > MOST:
        top.fail("agents", f"{len(given.fields)} agents", f"send at most {MOST} at once")
        return {}, tuple(problems)
    found: dict[str, Agent] = {}
    for key in given.fields:
        name = named(key)
        if name is None or name.major is not None:
            wanted = "use up to 100 letters, digits, _ . and -, the first a letter or _"
            given.fail(key, f"{short(key)} is not a name for an agent", wanted)
        elif name.name in found:
            given.fail(key, f"{name.name} is there already", "keep one of them")
        else:
            found[name.name] = _agent(name.name, given.section(key))
    return found, tuple(problems)


def entered(name: str, definition: Mapping[str, Json]) -> Agent:
    """The agent of a definition that was found to be right."""
    return _agent(name, Section(dict(definition), "", []))


def renamed(definition: Mapping[str, Json], old: str, new: str) -> dict[str, Json]:
    """The definition with the new name wherever a step has the old one."""
    steps = definition.get("steps")
    if not isinstance(steps, list):
        return dict(definition)
    return {**definition, "steps": [_renamed(step, old, new) for step in steps]}


def _renamed(step: Json, old: str, new: str) -> Json:
    assert isinstance(step, dict)
    found = named(str(step["agent"]))
    if found is None or found.name != old:
        return step
    return {**step, "agent": Named(name=new, major=found.major, minor=found.minor).text}


def _agent(name: str, section: Section) -> Agent:
    kind = section.option("type", TYPES, ())
    if "type" not in section.fields:
        section.fail("type", "the agent has no type", f"write one of {', '.join(TYPES)}")
    of_function = kind in {"proc", "template"}
    reserved: frozenset[str] = frozenset() if of_function else RESERVED
    inputs = _names(section, "inputs", reserved)
    optional = _names(section, "optional_inputs", reserved)
    outputs = _names(section, "outputs")
    for twice in sorted(set(inputs) & set(optional)):
        section.fail("optional_inputs", f"{twice} is an input already", "keep one of them")
    taken = _TOLD if of_function else tape.NAMES
    for field_name, names in (("inputs", inputs), ("optional_inputs", optional)):
        for each in sorted(taken & set(names)):
            section.fail(field_name, f"{each} is the platform's own", "choose another name")
    agent = Agent(
        name=name,
        type=kind or "proc",
        help=_text(section, "help", required=False),
        inputs=inputs,
        optional=optional,
        outputs=outputs,
        definition=dict(section.fields),
    )
    return _whole(agent, kind, section)


def _whole(agent: Agent, kind: str | None, section: Section) -> Agent:
    """The agent with what its type has."""
    match kind:
        case "proc":
            return replace(
                agent,
                code=_text(section, "function_def"),
                function=_text(section, "function"),
            )
        case "template" | "txt2txt":
            service = section.text("service", words.FUNCTION, "the name of a service of kind llm")
            model = _text(section, "model", required=False)
            return replace(
                agent,
                prompt=_text(section, "prompt"),
                service=service or "llm",
                model=model or None,
            )
        case "workflow":
            return replace(
                agent,
                steps=_steps(section),
                return_on_fail=_return_on_fail(section),
                limits=section.section("limits").fields,
            )
        case _:
            return agent


def _text(section: Section, name: str, *, required: bool = True) -> str:
    value = section.fields.get(name)
    if value is None:
        if required:
            section.fail(name, f"the agent has no {name}", f"write {name}: a text")
        return ""
    if not isinstance(value, str):
        section.wrong(section.at(name), value, "a text")
        return ""
    if len(value) > MOST_TEXT:
        section.fail(name, f"{len(value)} characters", f"write at most {MOST_TEXT}")
        return ""
    return value


def _names(section: Section, name: str, reserved: frozenset[str] = RESERVED) -> tuple[str, ...]:
    given = section.fields.get(name)
    if given is None:
        return ()
    if not (
        isinstance(given, list)
        and len(given) <= MOST_NAMES
        and all(isinstance(each, str) for each in given)
    ):
        section.wrong(section.at(name), given, f"a list of up to {MOST_NAMES} names")
        return ()
    found = tuple(str(each) for each in given)
    for index, each in enumerate(found):
        if not words.matches(words.VARIABLE_NAME, each):
            wanted = "use letters, digits and _, up to 64 of them"
            section.fail(f"{name}[{index}]", f"{short(each)} is not a name", wanted)
        elif each in reserved:
            section.fail(f"{name}[{index}]", f"${each} means something else", "choose another name")
        elif each in found[:index]:
            section.fail(f"{name}[{index}]", f"{each} is there already", "keep one of them")
    return found


def _return_on_fail(section: Section) -> bool:
    given = section.fields.get("return_on_fail", 1)
    if given not in (0, 1):
        section.wrong(section.at("return_on_fail"), given, "0 or 1")
    return bool(given)


def _steps(section: Section) -> tuple[Step, ...]:
    given = section.fields.get("steps")
    if not (isinstance(given, list) and 0 < len(given) <= words.MAX_NODES):
        section.wrong(section.at("steps"), given, f"1 to {words.MAX_NODES} steps")
        return ()
    return tuple(
        _step(Section(entry, section.at(f"steps[{place}]"), section.problems))
        for place, entry in enumerate(given)
    )


def _step(section: Section) -> Step:
    section.known(_STEP)
    agent = section.fields.get("agent")
    if not isinstance(agent, str) or named(agent) is None:
        section.wrong(section.at("agent"), agent, "the name of an agent: NAME, or NAME@1.2")
        agent = ""
    params = section.section("params")
    return Step(
        agent=agent,
        params={name: _secret(value) for name, value in params.fields.items()},
        output=_names(section, "output"),
    )


def _secret(value: Json) -> Json:
    """A param with `$env.NAME` for every `ENV_NAME`."""
    match value:
        case str() if found := _SECRET.fullmatch(value):
            return f"$env.{found[1]}"
        case list():
            return [_secret(each) for each in value]
        case dict():
            return {name: _secret(each) for name, each in value.items()}
        case _:
            return value


def place(name: str, inner: str) -> str:
    """Where something of an agent stands in its file."""
    return below(f"agents.{name}", inner)
