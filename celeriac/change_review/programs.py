"""A text and its own tests as one program, for the sandbox: nothing here runs any of it.

Tests are functions `test_…` without parameters, and whatever stands beside them. They see the names of
the code; that they import them (`from shop.price import total`) is not in their way.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from celeriac.code_review import syntax

#: The function of a program that says which tests passed.
ENTRY = "celeriac_trial"
#: Stands for what is done when a program is loaded.
LOADING = "<module>"

_RUNNER = """
def {entry}():
    passed, failed = [{loading!r}], []
    for name, test in ({tests}):
        try:
            test()
        except BaseException as error:
            failed.append({{"test": name, "message": (type(error).__name__ + ": " + str(error))[:300]}})
        else:
            passed.append(name)
    return {{"passed": passed, "failed": failed}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """Tests that can follow code."""

    text: str
    names: tuple[str, ...]
    skipped: tuple[str, ...]  #: functions and classes of tests that ask for more than there is


def tests(text: str, path: str) -> Tests:
    """The tests of the file at a path. Raises `NotPythonError`."""
    tree = syntax.parse(text)
    module = PurePosixPath(path).stem
    body = [each for statement in tree.body for each in _beside(statement, module)]
    named = [each for each in body if isinstance(each, _Named) and _is_test(each.name)]
    runnable = dict.fromkeys(each.name for each in named if _takes_nothing(each))
    try:
        written = ast.unparse(ast.Module(body=body, type_ignores=[]))
    except RecursionError:
        raise syntax.NotPythonError("nested too deeply to be read", line=1) from None
    return Tests(
        text=written,
        names=tuple(runnable),
        skipped=tuple(each.name for each in named if not _takes_nothing(each)),
    )


def program(code: str, given: Tests) -> str:
    """Code, its tests, and what runs them."""
    listed = "".join(f"({name!r}, {name}), " for name in given.names)
    runner = _RUNNER.format(entry=ENTRY, loading=LOADING, tests=listed)
    return f"{code}\n\n\n{given.text}\n\n{runner}"


_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _beside(statement: ast.stmt, module: str) -> Iterator[ast.stmt]:
    """A statement as it may stand below the code itself."""
    match statement:
        case ast.ImportFrom(module="__future__"):
            return
        case ast.ImportFrom(module=str(name), names=names) if name.split(".")[-1] == module:
            for alias in names:
                if alias.asname not in {None, alias.name}:
                    yield ast.parse(f"{alias.asname} = {alias.name}").body[0]
        case _:
            yield statement


def _is_test(name: str) -> bool:
    return name.lower().startswith("test")


def _takes_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.FunctionDef(args=args):
            positional = [*args.posonlyargs, *args.args]
            return len(positional) <= len(args.defaults) and None not in args.kw_defaults
        case _:
            return False
