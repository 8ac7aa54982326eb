"""Source code that users register: what is wrong with it, and what its function takes.

The source is parsed, never compiled or executed, in the process that asks. The rules catch
mistakes early and say what to do; they are no wall. The wall is the process that the code
runs in (`workers.sandbox`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from engine.core import values
from engine.core.problem import Problem
from engine.core.values import Json

#: Characters that a source may have.
LIMIT = 20_000

#: Usable in source by name, without an import.
MODULES = (
    "base64", "collections", "datetime", "decimal", "fractions", "functools", "hashlib",
    "itertools", "json", "math", "random", "re", "statistics", "string", "textwrap", "time", "uuid",
)  # fmt: skip

#: Code of bundles may import these, too: it is written as if it ran elsewhere.
IMPORTABLE = frozenset({*MODULES, "__future__", "agentic_common", "agentic_common.pb", "typing"})

IMPORT_MESSAGE = "Import statements are not allowed in dynamic code"

_PATH = "code"
_MAX_DEPTH = 200
_SPECIAL_ATTRIBUTES = frozenset({"__init__", "__name__", "__doc__"})
_SPECIAL_NAMES = frozenset({"__name__", "__doc__"})
# What a class may define: how its objects compare, print, count and are walked through.
_SPECIAL_METHODS = frozenset(
    f"__{name}__"
    for name in [
        "init",
        "repr",
        "str",
        "bool",
        "hash",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "len",
        "iter",
        "next",
        "reversed",
        "contains",
        "getitem",
        "setitem",
        "delitem",
        "call",
        "enter",
        "exit",
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "neg",
        "pos",
        "abs",
        "radd",
        "rsub",
        "rmul",
        "iadd",
        "isub",
        "imul",
        "and",
        "or",
        "xor",
        "int",
        "float",
        "index",
        "round",
        "format",
    ]
)
# Ways from a function or generator to the frames and globals around it.
_INNARDS = frozenset(
    f"{kind}_{part}"
    for kind, parts in {
        "gi": "frame code yieldfrom",
        "cr": "frame code await origin",
        "ag": "frame code await",
        "f": "back builtins code globals locals",
        "tb": "frame next",
        "co": "code consts",
    }.items()
    for part in parts.split()
)


def check(
    source: str, *, name: str, limit: int = LIMIT, imports: frozenset[str] = frozenset()
) -> tuple[Problem, ...]:
    """Say everything that keeps source from being registered under a name.

    `imports` are the modules that it may import; none, unless they are given.
    """
    if len(source) > limit:
        return (
            _problem(
                f"The source has {len(source)} characters; {limit} are allowed",
                "move parts of it into tools",
            ),
        )
    if "\0" in source:
        return (_problem("The source holds a NUL character", "remove it"),)
    if not source.isascii() and any("\ud800" <= char <= "\udfff" for char in source):
        return (_problem("The source holds a lone surrogate", "send valid Unicode"),)
    tree = _parse(source)
    if isinstance(tree, Problem):
        return (tree,)
    problems = list(_forbidden(tree, imports))
    if _entry(tree, name) is None:
        problems.append(_nothing_to_call(tree, name))
    return tuple(dict.fromkeys(problems))


def parameters(source: str, name: str) -> dict[str, dict[str, Json]]:
    """What the function of checked source takes: annotation, default, required, by name.

    Defaults that are no JSON values are null. `keyword`: it is not taken by position.
    """
    function = _function(source, name)
    if function is None:
        return {}
    arguments = function.args
    by_position = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(by_position) - len(arguments.defaults))
    pairs = [
        *zip(by_position, [*missing, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {
        argument.arg: {
            "annotation": ast.unparse(argument.annotation) if argument.annotation else "Any",
            "default": _constant(default),
            "required": default is None,
            **({"keyword": True} if argument in arguments.kwonlyargs else {}),
        }
        for argument, default in pairs
    }


def defines(source: str, name: str) -> bool:
    """Whether checked source defines a function of that very name."""
    function = _function(source, name)
    return function is not None and function.name == name


def summary(source: str, name: str) -> str:
    """The first line of the docstring of checked source's function; empty without one."""
    function = _function(source, name)
    text = ast.get_docstring(function) if function is not None else None
    return text.strip().splitlines()[0].strip() if text and text.strip() else ""


def _parse(source: str) -> ast.Module | Problem:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        line = f" (line {error.lineno})" if error.lineno else ""
        return _problem(f"Syntax error: {error.msg}{line}", "correct it")
    except (RecursionError, MemoryError):
        return _too_deep()
    return _too_deep() if _depth(tree) > _MAX_DEPTH else tree


def _depth(tree: ast.AST) -> int:
    """Levels of a tree, found without recursion and no further than they may go."""
    level: list[ast.AST] = [tree]
    depth = 0
    while level and depth <= _MAX_DEPTH:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _forbidden(tree: ast.Module, imports: frozenset[str]) -> Iterator[Problem]:
    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                if not imports or not set(_imported(node)) <= imports:
                    yield _no_import(node, imports)
            case ast.Attribute(attr=attribute) if _is_special(attribute) and (
                attribute not in _SPECIAL_ATTRIBUTES
            ):
                yield _special("attribute", attribute, node.lineno)
            case ast.Attribute(attr=attribute) if attribute in _INNARDS:
                yield _special("attribute", attribute, node.lineno)
            case ast.FunctionDef(name=name) if name in _SPECIAL_METHODS:
                pass
            case _:
                for name in _names(node):
                    yield _special("name", name, getattr(node, "lineno", 1))


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def _no_import(node: ast.Import | ast.ImportFrom, imports: frozenset[str]) -> Problem:
    if not imports:
        there = f"these are there without: {', '.join(MODULES)}"
        return _problem(IMPORT_MESSAGE, f"remove line {node.lineno}; {there}")
    unknown = ", ".join(name for name in _imported(node) if name not in imports)
    return _problem(
        f"There is no module {unknown} here (line {node.lineno})",
        f"use a tool for it; these can be imported: {', '.join(sorted(imports))}",
    )


def _names(node: ast.AST) -> Iterator[str]:
    """Special names that a node binds or reads, wherever its kind keeps them."""
    for field, value in ast.iter_fields(node):
        # What is neither a name nor an attribute: text in quotes, `type: ignore`, …
        if field in {"value", "s", "type_comment", "kind", "tag", "attr"}:
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and _is_special(text) and text not in _SPECIAL_NAMES:
                yield text


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _special(what: str, name: str, line: int) -> Problem:
    return _problem(
        f"The {what} {name} is not allowed in dynamic code (line {line})",
        "write it without what Python keeps for itself",
    )


def _nothing_to_call(tree: ast.Module, name: str) -> Problem:
    if any(isinstance(node, ast.AsyncFunctionDef) for node in tree.body):
        return _problem("Async functions are not supported", f"write def {name}(...)")
    return _problem("No function is defined", f"define one: def {name}(state): ...")


def _entry(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    """The function of that name, else the last one."""
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    candidates = [node for node in defined if node.name == name] or defined
    return candidates[-1] if candidates else None


def _function(source: str, name: str) -> ast.FunctionDef | None:
    tree = _parse(source)
    return None if isinstance(tree, Problem) else _entry(tree, name)


def _constant(default: ast.expr | None) -> Json:
    try:
        value = ast.literal_eval(default) if default is not None else None
    except (ValueError, TypeError):
        return None
    return None if any(values.problems(value)) else value


def _too_deep() -> Problem:
    return _problem("The source is nested too deeply", "split it into smaller expressions")


def _problem(message: str, remedy: str) -> Problem:
    return Problem(path=_PATH, message=message, remedy=remedy)
