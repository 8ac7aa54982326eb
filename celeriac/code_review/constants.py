"""Names for literals, defined at the top of a module: the source changes, its meaning does not."""

from __future__ import annotations

import ast
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from celeriac.code_review import syntax


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Literal:
    """A literal that shall have a name."""

    text: str  #: as written
    hint: str  #: its name, should that be free


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Site:
    """Where a literal stands, in bytes of the source."""

    start: int
    end: int
    literal: Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Source whose literals have names."""

    code: str
    names: Mapping[Literal, str]


class Source:
    """Source as bytes, because bytes are what the columns of a syntax tree count."""

    def __init__(self, code: str) -> None:
        self.data = code.encode()
        ends = re.finditer(syntax.LINE_END.pattern.encode(), self.data)
        #: Where each line begins.
        self.lines = [0, *(end.end() for end in ends)]

    @property
    def newline(self) -> str:
        return "\r\n" if b"\r\n" in self.data else "\n"

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Where an expression begins and ends."""
        last = node.end_lineno or node.lineno
        end = self.lines[last - 1] + (node.end_col_offset or 0)
        return self.lines[node.lineno - 1] + node.col_offset, end

    def text(self, node: ast.expr) -> str:
        """An expression as written."""
        start, end = self.span(node)
        return self.data[start:end].decode()


def named(tree: ast.Module, source: Source, sites: Sequence[Site]) -> Named | None:
    """Name the literals; None where names find no room or the meaning would change."""
    head = list(itertools.takewhile(_may_precede_constants, tree.body))
    names = _Names(source, dict(_constants(tree, head, source)))
    given = {site.literal: names.give(site.literal) for site in sites}
    edits = [(site.start, site.end, given[site.literal]) for site in sites]
    if names.new:
        offset = _room(tree, head, source)
        if offset is None:
            return None
        edits.append((offset, offset, _definitions(names.new, head, source, offset)))
    code = _edited(source.data, edits)
    if not _means_the_same(tree, code, head=len(head), added=len(names.new), names=given.values()):
        return None
    return Named(code=code, names=given)


class _Names:
    """The constants that a module has and those that it gets."""

    def __init__(self, source: Source, known: dict[str, str]) -> None:
        text = unicodedata.normalize("NFKC", source.data.decode())
        self._words = set(re.findall(r"\w+", text))
        self._known = known
        #: Name to literal, in the order in which they are defined.
        self.new: dict[str, str] = {}

    def give(self, literal: Literal) -> str:
        """Its hint, numbered when that means something else already."""
        later = (f"{literal.hint}_{number}" for number in itertools.count(2))
        for name in itertools.chain([literal.hint], later):
            if self._known.get(name) == literal.text:
                return name
            if name not in self._known and name not in self._words:
                self._known[name] = self.new[name] = literal.text
                return name
        raise AssertionError  # numbers do not end


def _may_precede_constants(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case _:
            return _constant(statement) is not None


def _constant(statement: ast.stmt) -> tuple[str, ast.Constant] | None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant() as value):
            return (name, value) if name.isupper() else None
        case _:
            return None


def _constants(
    tree: ast.Module, head: Sequence[ast.stmt], source: Source
) -> Iterator[tuple[str, str]]:
    """The constants of the head whose names can mean nothing else anywhere in the module."""
    defined = dict(filter(None, map(_constant, head)))
    if not defined:
        return
    words = Counter(re.findall(r"\w+", source.data.decode()))
    reads, writes = Counter[str](), Counter[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in defined:
            (reads if isinstance(node.ctx, ast.Load) else writes)[node.id] += 1
    for name, value in defined.items():
        # Any other mention may be an argument, an import or a `global` of that name.
        if writes[name] == 1 and words[name] == reads[name] + 1:
            yield name, source.text(value)


def _room(tree: ast.Module, head: Sequence[ast.stmt], source: Source) -> int | None:
    """Where constants go: below the head of the module, above its first other statement."""
    following = tree.body[len(head)]
    decorators: list[ast.expr] = getattr(following, "decorator_list", [])
    first = min([following.lineno, *(decorator.lineno for decorator in decorators)])
    if not head:
        return source.lines[first - 1]
    last = head[-1].end_lineno or head[-1].lineno
    return source.lines[last] if last < first else None


def _definitions(
    new: Mapping[str, str], head: Sequence[ast.stmt], source: Source, offset: int
) -> str:
    newline = source.newline
    rows = [
        f"{name} = ({text})" if syntax.LINE_END.search(text) else f"{name} = {text}"
        for name, text in new.items()
    ]
    above = newline if head and _constant(head[-1]) is None else ""
    spaced = re.compile(rb"[ \t\f]*[\r\n]").match(source.data, offset)
    below = "" if spaced else newline * 2
    return above + "".join(row + newline for row in rows) + below


def _edited(data: bytes, edits: Iterable[tuple[int, int, str]]) -> str:
    pieces: list[bytes] = []
    done = 0
    for start, end, text in sorted(edits):
        new = text.encode()
        if start < end:
            # `10if x` is two tokens, `TENif x` would be one.
            new = _padding(data[start - 1 : start]) + new + _padding(data[end : end + 1])
        pieces += [data[done:start], new]
        done = end
    return b"".join([*pieces, data[done:]]).decode()


def _padding(neighbour: bytes) -> bytes:
    return b" " if re.match(rb"\w", neighbour) else b""


def _means_the_same(
    before: ast.Module, code: str, *, head: int, added: int, names: Iterable[str]
) -> bool:
    """Whether the code is the tree before it once every name is its literal again."""
    try:
        after = syntax.parse(code).body
    except syntax.NotPythonError:
        return False
    defined = dict(filter(None, map(_constant, after[: head + added])))
    values = {name: defined.get(name) for name in names}
    waiting: list[tuple[object, object]] = [(before.body, after[:head] + after[head + added :])]
    while waiting:
        old, new = waiting.pop()
        if isinstance(new, ast.Name) and isinstance(old, ast.Constant):
            new = values.get(new.id)
        if type(old) is not type(new):
            return False
        if isinstance(old, ast.AST):
            waiting += [(getattr(old, f, None), getattr(new, f, None)) for f in old._fields]
        elif isinstance(old, list) and isinstance(new, list):
            if len(old) != len(new):
                return False
            waiting += zip(old, new, strict=True)
        elif old != new:
            return False
    return True
