"""The languages that are read, and what the nodes of their syntax trees are called.

Python is read by Python itself; of the others there is a row in a table, for the grammar that
tree-sitter's authors publish as a wheel.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Parser

PYTHON = "python"

#: By the ending of a file's name.
_ENDINGS: Mapping[str, str] = {
    ".py": PYTHON,
    ".pyi": PYTHON,
    ".js": "javascript",
    ".cjs": "javascript",
    ".mjs": "javascript",
    ".jsx": "javascript",
    ".ts": "typescript",
    ".cts": "typescript",
    ".mts": "typescript",
    ".tsx": "tsx",
    ".java": "java",
    ".go": "go",
    ".c": "c",
    ".h": "c",
}


class LackingError(Exception):
    """A part of the extra `review` is not installed here."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is not installed on this worker; install it with: pip install 'celeriac[review]'"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What nodes are called that make a function harder."""

    place: str  #: `module:function` of the language
    functions: frozenset[str]
    #: Each is a way more through the function.
    branches: frozenset[str]
    #: Each stands around what it holds.
    blocks: frozenset[str]
    #: What a parameter is; each is one, or one for each of its names.
    parameters: frozenset[str]


def of(path: str) -> str | None:
    """The language of a file by its name; None where it is none that is read."""
    return _ENDINGS.get(PurePosixPath(path).suffix.lower())


def known() -> tuple[str, ...]:
    """The names of all languages that are read."""
    return (PYTHON, *GRAMMARS)


def parser(name: str) -> Parser:
    """What reads a language other than Python. Raises `LackingError`."""
    module, _, function = GRAMMARS[name].place.partition(":")
    try:
        core = importlib.import_module("tree_sitter")
        grammar = core.Language(getattr(importlib.import_module(module), function)())
    except ImportError as error:
        raise LackingError(error.name or module) from None
    made: Parser = core.Parser(grammar)
    return made


_OF_C = frozenset({"if_statement", "for_statement", "while_statement", "do_statement"})
_OF_SCRIPT = _OF_C | {"for_in_statement"}


def _script(place: str) -> Grammar:
    return Grammar(
        place=place,
        functions=frozenset(
            {
                "function_declaration",
                "function_expression",
                "generator_function_declaration",
                "generator_function",
                "arrow_function",
                "method_definition",
            }
        ),
        branches=_OF_SCRIPT | {"switch_case", "catch_clause", "ternary_expression"},
        blocks=_OF_SCRIPT | {"switch_statement", "try_statement"},
        parameters=frozenset(
            {
                "identifier",
                "assignment_pattern",
                "object_pattern",
                "array_pattern",
                "rest_pattern",
                "required_parameter",
                "optional_parameter",
            }
        ),
    )


GRAMMARS: Mapping[str, Grammar] = {
    "javascript": _script("tree_sitter_javascript:language"),
    "typescript": _script("tree_sitter_typescript:language_typescript"),
    "tsx": _script("tree_sitter_typescript:language_tsx"),
    "java": Grammar(
        place="tree_sitter_java:language",
        functions=frozenset({"method_declaration", "constructor_declaration"}),
        branches=_OF_C
        | {"enhanced_for_statement", "switch_label", "catch_clause", "ternary_expression"},
        blocks=_OF_C | {"enhanced_for_statement", "switch_expression", "try_statement"},
        parameters=frozenset({"formal_parameter", "spread_parameter"}),
    ),
    "go": Grammar(
        place="tree_sitter_go:language",
        functions=frozenset({"function_declaration", "method_declaration"}),
        branches=frozenset(
            {
                "if_statement",
                "for_statement",
                "expression_case",
                "type_case",
                "communication_case",
            }
        ),
        blocks=frozenset(
            {
                "if_statement",
                "for_statement",
                "expression_switch_statement",
                "type_switch_statement",
                "select_statement",
            }
        ),
        parameters=frozenset({"parameter_declaration", "variadic_parameter_declaration"}),
    ),
    "c": Grammar(
        place="tree_sitter_c:language",
        functions=frozenset({"function_definition"}),
        branches=_OF_C | {"case_statement", "conditional_expression"},
        blocks=_OF_C | {"switch_statement"},
        parameters=frozenset({"parameter_declaration", "variadic_parameter"}),
    ),
}
