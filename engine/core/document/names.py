"""Reading what documents name: variables with their templates, functions, tools."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from engine.core import expressions, validate
from engine.core.document import vocabulary as words
from engine.core.graph import Child, Graph, Map, Node
from engine.core.problem import Problem
from engine.core.section import Section, below, short
from engine.core.values import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A function, tool or workflow that a graph names."""

    kind: str  #: `function`, `tool` or `workflow`
    name: str
    #: A number; of a workflow one or a range of them, such as `^1.2` (`core.versions`).
    version: int | str | None
    path: str

    @property
    def text(self) -> str:
        """As it stands in the document."""
        return self.name if self.version is None else f"{self.name}@{self.version}"


def names_used(graph: Graph) -> Iterator[Reference]:
    """The functions, tools and workflows that a graph names, with the path of each, for pinning."""
    for node in graph.nodes.values():
        place = graph.places.get(node.id, f"nodes.{node.id}")
        yield from _named(node, place)
        if node.choose is not None:
            yield _reference("function", node.choose, f"{place}.choose")
        if isinstance(node.wait, Map):
            yield from _named(node.wait.do, f"{place}.do")
        if node.compensate is not None:
            yield from _named(node.compensate, f"{place}.compensate")
    for edge in graph.edges:
        if edge.ask is not None:
            place = graph.places.get(edge.id, "edges")
            yield _reference("function", edge.ask, below(place, "ask"))


def templates(owner: Section, field: str) -> dict[str, expressions.Template]:
    """An object of templates by variable."""
    found: dict[str, expressions.Template] = {}
    section = owner.section(field)
    for name in section.fields:
        variable_name(section, name)
        found[name] = section.template(name)
    return found


def variable_name(section: Section, name: str) -> None:
    """Refuse what cannot be written as `$name`, or means something else there."""
    if wrong := misnamed(section.at(name), name):
        section.problems.append(wrong)


def misnamed(path: str, name: str, reserved: Collection[str] = validate.RESERVED) -> Problem | None:
    """What is wrong with a name that stands at a path."""
    if name in reserved:
        message = f"${name} means something else"
        return Problem(path=path, message=message, remedy="choose another name")
    if not words.matches(words.VARIABLE_NAME, name):
        remedy = "use letters, digits and _, up to 64 of them"
        return Problem(path=path, message=f"{short(name)} is not a name", remedy=remedy)
    return None


def reference(section: Section, field: str) -> str | None:
    """A function or tool by name; something else stands in for a wrong one."""
    found = section.text(field, words.REFERENCE, "a name, or a name and its version: NAME@3")
    return found or ("?" if field in section.fields else None)


def tool(section: Section) -> tuple[str | None, expressions.Template | None]:
    """A tool by name, or an expression of its name, as text and compiled."""
    value = section.fields.get("tool")
    if isinstance(value, str) and is_expression(value):
        return value, section.template("tool")
    return reference(section, "tool"), None


def called_workflow(section: Section) -> tuple[str | None, expressions.Template | None]:
    """A workflow by name, or an expression of its name, as text and compiled."""
    value = section.fields.get("workflow")
    if isinstance(value, str) and is_expression(value):
        return value, section.template("workflow")
    wanted = "the name of a workflow, NAME@1.2.0 or NAME@^1.2, or an expression of one"
    return section.text("workflow", words.WORKFLOW, wanted), None


def is_expression(value: Json) -> bool:
    """Whether a value of a document is an expression as a whole."""
    return isinstance(value, str) and value.startswith("$") and not value.startswith("$$")


def _named(node: Node, place: str) -> Iterator[Reference]:
    """What a node runs."""
    if node.uses is not None and node.kind == "proc":
        yield _reference("function", node.uses, f"{place}.agent")
    elif node.uses is not None and node.called is None:
        field = {"tool": "tool", "function": "uses"}.get(node.kind, "service")
        kind = "function" if node.kind == "function" else "tool"
        yield _reference(kind, node.uses, f"{place}.{field}")
    yield from _offered(node, place)
    if isinstance(node.wait, Child) and node.wait.named is None:
        name, _, version = node.wait.workflow.partition("@")
        path = f"{place}.{'agent' if place.startswith('steps[') else 'workflow'}"
        yield Reference(kind="workflow", name=name, version=version or None, path=path)


def _offered(node: Node, place: str) -> Iterator[Reference]:
    """The tools that a model is offered, as far as they are named."""
    source = None if node.inputs is None or node.kind != "llm" else node.inputs.source
    tools = source.get("tools") if isinstance(source, dict) else None
    for index, name in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(name, str) and words.matches(words.REFERENCE, name):
            yield _reference("tool", name, f"{place}.tools[{index}]")


def _reference(kind: str, text: str, path: str) -> Reference:
    name, _, version = text.partition("@")
    # Only workflows have versions of several numbers.
    number = int(version) if version.isdecimal() else version or None
    return Reference(kind=kind, name=name, version=number, path=path)
