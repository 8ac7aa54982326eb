"""Catalogue services: the tenant's own agents and workflows, as tools that steps may use.

    kind: catalogue
    config: {definitions: agents, action: publish}

`definitions` are `agents` (as seed 002 writes them) or `workflows` (documents). The `action`:

    read       a definition by its name, or what there is
    validate   say all that keeps a definition from being published, and what people would be asked
    draft      keep the document of a workflow as a draft, which people see and nobody runs
    publish    make a version of it

A tenant has no such tool until somebody registers it, and each call of one is a call as any other:
rules, permissions, budgets and approvals hold for it. Beside that `engine.runs.authorship` says what
may be published by a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.core.problem import Problem
from engine.core.section import Section
from engine.core.values import Json
from engine.errors import Invalid

KIND = "catalogue"
AGENTS, WORKFLOWS = "agents", "workflows"
READ, VALIDATE, DRAFT, PUBLISH = "read", "validate", "draft", "publish"
_ACTIONS = (READ, VALIDATE, DRAFT, PUBLISH)
_SECONDS = 30.0
#: What a call leaves. A draft and a version that are there already are not made again.
_EFFECTS = {READ: "pure", VALIDATE: "pure", DRAFT: "idempotent", PUBLISH: "idempotent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A catalogue service, as it was configured."""

    definitions: str
    action: str

    @property
    def timeout(self) -> float:
        """Seconds that a call may take."""
        return _SECONDS

    @property
    def effect(self) -> str:
        """What a call leaves in the world, where nobody says it."""
        return _EFFECTS[self.action]

    @property
    def permissions(self) -> tuple[str, ...]:
        """What whoever started the run must be allowed to do."""
        return ("definition:read",) if self.action == READ else ("definition:write",)

    @property
    def parameters(self) -> Mapping[str, Json]:
        """The JSON Schema of the arguments of a call."""
        text: Json = {"type": "string", "minLength": 1, "maxLength": 200}
        definition: Json = {"type": "object"}
        fields: dict[str, Json] = {"definition": definition}
        match self.action:
            case "read":
                fields = {"name": text, "version": text, "after": text}
            case "draft":
                fields["revision"] = {"type": "integer", "minimum": 1}
            case "publish":
                fields["notes"] = {"type": "string", "maxLength": 4000}
            case _:
                pass
        if self.definitions == AGENTS and self.action != READ:
            fields["name"] = text
        needed = [name for name in ("name", "definition") if name in fields]
        return {
            "type": "object",
            "properties": fields,
            "required": [] if self.action == READ else list[Json](needed),
            "additionalProperties": False,
        }


def read(config: Json, *, path: str = "config", resolved: bool = False) -> Config:
    """Read a configuration, in which nothing is secret. Raises `Invalid` with every problem."""
    del resolved
    problems: list[Problem] = []
    section = Section(config, path, problems)
    section.known(("definitions", "action"))
    for name, wanted in (("definitions", (AGENTS, WORKFLOWS)), ("action", _ACTIONS)):
        if name not in section.fields:
            section.fail(name, f"it does not say its {name}", f"write one of {', '.join(wanted)}")
    definitions = section.option("definitions", (AGENTS, WORKFLOWS), ())
    action = section.option("action", _ACTIONS, ())
    if (definitions, action) == (AGENTS, DRAFT):
        remedy = "keep the definition in a variable, and validate it"
        section.fail("action", "there are drafts of workflows alone", remedy)
    if problems:
        raise Invalid(problems, "the configuration of the catalogue service is not valid")
    assert definitions is not None
    assert action is not None
    return Config(definitions=definitions, action=action)
