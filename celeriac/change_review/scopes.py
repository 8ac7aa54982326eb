"""The functions of a file in any language: where they stand, how hard they are, which were changed."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from celeriac.change_review import languages
from celeriac.code_review import functions, metrics, syntax

if TYPE_CHECKING:
    from tree_sitter import Node

ANONYMOUS = "<anonymous>"

#: What tells a function of a file from the others as long as none is added or renamed: what it is
#: called with what it stands in, and the how manieth of that name it is.
Key: TypeAlias = tuple[str, int]
#: Lines from one to another; or the place between two, `[4.5, 4.5]`, where lines were taken out.
Range: TypeAlias = Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function and its figures."""

    name: str
    nth: int = 0
    first: int  #: line, decorators included
    line: int  #: where its definition begins
    last: int
    cyclomatic: int
    lines: int  #: that are not blank
    parameters: int
    nesting: int  #: blocks within blocks

    @property
    def key(self) -> Key:
        return self.name, self.nth


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A file as its functions, and where its syntax is wrong, if it is."""

    functions: tuple[Function, ...]
    broken: int | None = None  #: line


def read(text: str, language: str) -> Reading:
    """The functions of a text, in the order in which they begin.

    Raises `NotPythonError` for what Python cannot read, `LackingError` where the language's grammar is
    not installed. Other languages are read as far as they can be.
    """
    if language == languages.PYTHON:
        return Reading(functions=_counted(_of_python(text)))
    return _of_tree(text, language)


def touched(found: Sequence[Function], changed: Iterable[Range]) -> frozenset[Key]:
    """The functions that changed lines belong to: each line to the innermost around it.

    A function of one line shares it with the one around it.
    """
    keys: set[Key] = set()
    lines: set[int] = set()
    for first, last in changed:
        if first % 1:
            around = [one for one in found if one.first < first < one.last]
            keys.update(one.key for one in around[-1:])
        else:
            lines.update(range(int(first), int(last) + 1))
    for _, around in _around(found, lines):
        for one in reversed(around):
            keys.add(one.key)
            if one.first != one.last:
                break
    return frozenset(keys)


def owners(found: Sequence[Function], lines: Iterable[int]) -> dict[int, Function]:
    """The innermost function around each line that stands in one."""
    return {line: around[-1] for line, around in _around(found, lines) if around}


def _around(
    found: Sequence[Function], lines: Iterable[int]
) -> Iterator[tuple[int, list[Function]]]:
    """The functions around each line, the innermost last; in one walk down the file."""
    waiting = sorted(found, key=lambda one: (one.first, -one.last), reverse=True)
    here: list[Function] = []
    for line in sorted(set(lines)):
        # They stand within each other or apart, so the innermost ends first.
        while waiting and waiting[-1].first <= line:
            one = waiting.pop()
            while here and here[-1].last < one.first:
                here.pop()
            here.append(one)
        while here and here[-1].last < line:
            here.pop()
        yield line, here


def outermost(found: Iterable[Function]) -> list[Function]:
    """Functions without those that stand within others of them, in order."""
    kept: list[Function] = []
    for one in sorted(found, key=lambda one: (one.first, -one.last)):
        if not kept or one.first > kept[-1].last:
            kept.append(one)
    return kept


def _counted(found: Iterable[Function]) -> tuple[Function, ...]:
    """Functions in order, those of one name numbered."""
    seen = Counter[str]()
    numbered = []
    for one in sorted(found, key=lambda one: (one.first, -one.last)):
        numbered.append(replace(one, nth=seen[one.name]))
        seen[one.name] += 1
    return tuple(numbered)


def _joined(within: str, name: str) -> str:
    """What stands in something, by both names; of names without end the end."""
    whole = f"{within}.{name}" if within else name
    return whole if len(whole) <= _LONGEST_PATH else f"…{whole[-_LONGEST_PATH:]}"


#: Strangers' functions stand in each other as deep as they like.
_LONGEST_PATH = 200

# --- Python ---------------------------------------------------------------------------------------

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.With, ast.AsyncWith)


def _of_python(text: str) -> Iterator[Function]:
    source = syntax.lines(text)
    waiting: list[tuple[ast.AST, str]] = [(syntax.parse(text), "")]
    while waiting:
        node, within = waiting.pop()
        if isinstance(node, syntax.FunctionNode | ast.ClassDef):
            within = _joined(within, node.name)
            if isinstance(node, syntax.FunctionNode):
                yield _python_function(node, within, source)
        waiting.extend((child, within) for child in ast.iter_child_nodes(node))


def _python_function(node: syntax.FunctionNode, name: str, source: Sequence[str]) -> Function:
    last = node.end_lineno or node.lineno
    body = "\n".join(source[node.lineno - 1 : last])
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    own = list(syntax.places(node))
    return Function(
        name=name,
        first=first,
        line=node.lineno,
        last=last,
        cyclomatic=metrics.cyclomatic(own),
        lines=metrics.code_lines(body),
        parameters=len(functions.arguments(node)),
        nesting=max(
            (place.depth for place in own if isinstance(place.node, (*_BLOCKS, ast.Match))),
            default=0,
        ),
    )


# --- other languages --------------------------------------------------------------------------------

_AND_OR = frozenset({"&&", "||", "??"})
_NAMED_AROUND = ("class", "interface", "enum", "record", "namespace", "internal_module")


@dataclass(slots=True)
class _Figures:
    name: str
    node: Node
    cyclomatic: int = 1
    nesting: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """A node, what it stands in, and whose it is."""

    node: Node
    parent: Node | None
    within: str
    depth: int
    owner: _Figures | None


def _of_tree(text: str, language: str) -> Reading:
    grammar = languages.GRAMMARS[language]
    data = text.encode()
    tree = languages.parser(language).parse(data)
    found: list[_Figures] = []
    broken: list[int] = []
    # Cursors and parents are followed by hand: a stranger's tree may be deeper than the stack.
    waiting = [_Place(tree.root_node, None, "", 0, None)]
    while waiting:
        place = waiting.pop()
        node, within, depth, owner = place.node, place.within, place.depth, place.owner
        if node.type == "ERROR" or node.is_missing:
            broken.append(node.start_point[0] + 1)
        if node.type in grammar.functions:
            name = _name(node, place.parent)
            within = _joined(within, name)
            owner, depth = _Figures(within, node), 0
            found.append(owner)
        elif node.type.startswith(_NAMED_AROUND) and (named := node.child_by_field_name("name")):
            within = _joined(within, _text(named))
        elif owner is not None:
            owner.cyclomatic += _is_branch(node, grammar)
            if node.type in grammar.blocks and not _is_else_if(node, place.parent):
                depth += 1
                owner.nesting = max(owner.nesting, depth)
        waiting.extend(_Place(child, node, within, depth, owner) for child in node.children)
    # How many lines that are not blank stand above each.
    above = [0, *itertools.accumulate(bool(line.strip()) for line in text.split("\n"))]
    return Reading(
        functions=_counted(_function(one, grammar, above) for one in found),
        broken=min(broken, default=None),
    )


def _function(one: _Figures, grammar: languages.Grammar, above: Sequence[int]) -> Function:
    first, last = one.node.start_point[0] + 1, one.node.end_point[0] + 1
    return Function(
        name=one.name,
        first=first,
        line=first,
        last=last,
        cyclomatic=one.cyclomatic,
        lines=above[last] - above[first - 1],
        parameters=_parameters(one.node, grammar),
        nesting=one.nesting,
    )


def _is_branch(node: Node, grammar: languages.Grammar) -> bool:
    if node.type == "binary_expression":
        operator = node.child_by_field_name("operator")
        return operator is not None and operator.type in _AND_OR
    if node.type not in grammar.branches:
        return False
    return not (node.children and node.children[0].type == "default")


def _is_else_if(node: Node, parent: Node | None) -> bool:
    if parent is None or node.type != "if_statement":
        return False
    if parent.type == "else_clause":
        return True
    return parent.type == "if_statement" and parent.child_by_field_name("alternative") == node


def _name(node: Node, parent: Node | None) -> str:
    """What a function is called: by itself, else by what it is assigned to."""
    if own := node.child_by_field_name("name"):
        receiver = node.child_by_field_name("receiver")
        return f"{_receiver(receiver)}.{_text(own)}" if receiver else _text(own)
    if node.type == "function_definition":
        return _declared(node) or ANONYMOUS
    for field in ("name", "key", "left", "property"):
        if parent is not None and (around := parent.child_by_field_name(field)):
            return _text(around)
    return ANONYMOUS


def _receiver(node: Node) -> str:
    """The type of a method in Go, without its star and its parameters."""
    for declared in node.named_children:
        if kind := declared.child_by_field_name("type"):
            return _text(kind).lstrip("*").partition("[")[0]
    return ANONYMOUS


def _declared(node: Node) -> str | None:
    """The name within declarators of C, which stand around each other."""
    inner = node.child_by_field_name("declarator")
    while inner is not None and inner.type != "identifier":
        inner = inner.child_by_field_name("declarator")
    return None if inner is None else _text(inner)


def _parameters(node: Node, grammar: languages.Grammar) -> int:
    if node.child_by_field_name("parameter"):
        return 1  # of an arrow without parentheses
    holder: Node | None = node
    while holder is not None and holder.child_by_field_name("parameters") is None:
        holder = holder.child_by_field_name("declarator")
    listed = None if holder is None else holder.child_by_field_name("parameters")
    if listed is None:
        return 0
    return sum(
        max(1, len(each.children_by_field_name("name")))
        for each in listed.named_children
        if each.type in grammar.parameters and not _is_none(each)
    )


def _is_none(parameter: Node) -> bool:
    """C's way to say that there are none, and TypeScript's to say what `this` is."""
    pattern = parameter.child_by_field_name("pattern")
    return parameter.text == b"void" or (pattern is not None and pattern.type == "this")


def _text(node: Node) -> str:
    shown = (node.text or b"").decode(errors="replace")
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]}…"


#: A name may be an expression of any length, `[a + b]() {}`.
_LONGEST_NAME = 80
