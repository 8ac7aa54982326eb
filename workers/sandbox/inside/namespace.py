"""What code registered as source finds: some builtins, some modules, the state and the tools.

Code that was granted files finds an `open` for them, and further modules by their names. This makes mistakes readable ("open() is not available here"), no more. Code that wants out
of a Python namespace gets out; what holds it is the process around it (`walls`).
"""

from __future__ import annotations

import base64
import builtins
import collections
import datetime  # noqa: ICN001  # the name that functions know it by
import decimal
import fractions
import functools
import hashlib
import importlib
import itertools
import json
import math
import random
import re
import statistics
import string
import textwrap
import time
import typing
import uuid
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

from . import agentic
from .calls import ToolError
from .files import opener
from .landlock import Opened
from .state import WorkflowState

#: Usable by name without an import.
MODULES: tuple[ModuleType, ...] = (
    base64,
    collections,
    datetime,
    decimal,
    fractions,
    functools,
    hashlib,
    itertools,
    json,
    math,
    random,
    re,
    statistics,
    string,
    textwrap,
    time,
    uuid,
)

#: Usable by name where they are granted. What is left out (os, sys, subprocess, ctypes, importlib,
#: socket, inspect, pickle …) is left out for good.
FURTHER = (
    "abc", "array", "asyncio", "binascii", "bisect", "bz2", "calendar", "cmath", "collections.abc",
    "colorsys", "contextlib", "contextvars", "copy", "csv", "dataclasses", "difflib", "enum",
    "graphlib", "gzip", "heapq", "hmac", "html", "html.parser", "io", "ipaddress", "lzma",
    "numbers", "operator", "pprint", "queue", "quopri", "secrets", "shlex", "struct", "threading",
    "tomllib", "typing", "unicodedata", "urllib.parse", "weakref", "xml.etree.ElementTree", "zlib",
    "zoneinfo",
)  # fmt: skip

#: What source may import of typing, where it may import at all.
_TYPING = """
    Any Callable ClassVar Dict Final FrozenSet Generic Iterable Iterator List Literal Mapping
    NamedTuple Optional Sequence Set Tuple Type TypeVar TypedDict Union cast
""".split()  # noqa: SIM905  # as below

_BUILTINS = """
    abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter
    float format frozenset hash hex id int isinstance issubclass iter len list map max min next
    object oct ord pow print property range repr reversed round set slice sorted staticmethod
    classmethod str sum super tuple type zip
    None True False NotImplemented Ellipsis __build_class__
""".split()  # noqa: SIM905  # a list of 60 lines is no clearer

_REFUSED = {
    "open": "files are not reachable from here; let a tool read them",
    "input": "nobody is there to answer; read the state",
    "breakpoint": "nobody is there to debug; print what you want to see",
    "eval": "code is registered, not made up on the way",
    "exec": "code is registered, not made up on the way",
    "compile": "code is registered, not made up on the way",
    "globals": "use the state",
    "locals": "use the state",
    "vars": "use the state",
    "dir": "use the state",
    "help": "nobody is there to read it",
    "exit": "return from the function",
    "quit": "return from the function",
    "memoryview": "use bytes",
}

# Looked up by C code through the caller's builtins, `strptime` for one.
_IMPORTED_BY_C = frozenset(
    {"_strptime", "_pylong", "_pydecimal", "_pydatetime", "datetime", "numbers", "time"}
    | {"unicodedata", "warnings", "collections.abc"}
)

# Attribute access from text or by a callback would undo the check of the source.
_WITHHELD = {
    "string": {"Formatter"},
    "functools": {"update_wrapper", "WRAPPER_ASSIGNMENTS"},
    "operator": {"attrgetter", "methodcaller"},
    "io": {"open", "open_code", "FileIO"},
}


def warm() -> None:
    """Make, in the zygote, what every child would else make on its own."""
    # Behind the walls nothing can be loaded that is not Python, so what may be granted is loaded now.
    for name in (*_IMPORTED_BY_C, *FURTHER, "encodings.idna"):
        try:
            importlib.import_module(name)
        except ImportError:  # some exist in some versions of Python alone
            continue
    _common()


def namespace(
    *,
    invoke: Callable[..., Any],
    tools: object,
    files: Sequence[Opened] = (),
    modules: Sequence[str] = (),
) -> dict[str, Any]:
    """The globals of one execution, with what it was granted."""
    found = {**_common(), "invoke": invoke, "tools": tools}
    if not files and not modules:
        return found
    names, importable = _granted(modules)
    given = {**found["__builtins__"], "__import__": functools.partial(_import, importable)}
    if files:
        given["open"] = opener(files)
    return {**found, **names, "__builtins__": given}


def _granted(modules: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Modules by the name of their outermost package, and all that may be imported."""
    seen = {
        name: SimpleNamespace(**_public(importlib.import_module(name)))
        for name in modules
        if name in FURTHER
    }
    importable = {**_importable(), **seen}
    names: dict[str, Any] = {name: module for name, module in seen.items() if "." not in name}
    # Outer before inner, so that html.parser finds html.
    for name in sorted(seen, key=lambda name: name.count(".")):
        first, *rest = name.split(".")
        if not rest:
            continue
        # A module that everybody has is not to be changed, should it be `collections`.
        place = names.get(first) or SimpleNamespace(**vars(_common().get(first, SimpleNamespace())))
        names[first] = importable[first] = place
        for part in rest[:-1]:
            if not hasattr(place, part):
                setattr(place, part, SimpleNamespace())
            place = getattr(place, part)
        setattr(place, rest[-1], seen[name])
    return names, importable


@functools.cache
def _common() -> dict[str, Any]:
    return {
        "__builtins__": _builtins(),
        "__name__": "workflow",
        **{module.__name__: SimpleNamespace(**_public(module)) for module in MODULES},
        "WorkflowState": WorkflowState,
        "ToolError": ToolError,
        "agentic_common": agentic.package,
        "Any": typing.Any,
    }


def _builtins() -> dict[str, Any]:
    errors = {
        name: value
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    return {
        **errors,
        **{name: getattr(builtins, name) for name in _BUILTINS},
        **{name: _refusal(name, reason) for name, reason in _REFUSED.items()},
        "getattr": _getattr,
        "hasattr": _hasattr,
        "setattr": _setattr,
        "__import__": functools.partial(_import, None),
    }


def _public(module: ModuleType) -> dict[str, Any]:
    """A module's public names, without the modules that it imported itself."""
    withheld = _WITHHELD.get(module.__name__, set())
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name not in withheld
    }


def _refusal(name: str, reason: str) -> Callable[..., NoReturn]:
    def refused(*_args: object, **_kwargs: object) -> NoReturn:
        raise PermissionError(f"{name}() is not available in dynamic code: {reason}")

    return refused


def _getattr(value: object, name: str, *default: Any) -> Any:
    return getattr(value, _attribute(name), *default)


def _hasattr(value: object, name: str) -> bool:
    return hasattr(value, _attribute(name))


def _setattr(value: object, name: str, new: object) -> None:
    setattr(value, _attribute(name), new)


def _attribute(name: str) -> str:
    text = str(name)
    if text.startswith("__"):
        raise PermissionError(f"attribute {text} is not available in dynamic code")
    return text


def _import(
    granted: dict[str, Any] | None,
    name: str,
    _globals: object = None,
    _locals: object = None,
    wanted: Sequence[str] | None = None,
    level: int = 0,
) -> Any:
    """What an import statement gets: of our own code's bundles, and what C code asks for."""
    importable = _importable() if granted is None else granted
    found = importable.get(name) if level == 0 else None
    if found is not None:
        # `import a.b` gets a, `from a.b import c` gets a.b.
        return found if wanted else importable[name.partition(".")[0]]
    if name not in _IMPORTED_BY_C:
        if name in FURTHER:
            raise ImportError(
                f"module {name} is not granted; an admin grants it: modules: [{name}]"
            )
        raise ImportError("Import statements are not allowed in dynamic code")
    return importlib.import_module(name)


@functools.cache
def _importable() -> dict[str, Any]:
    """Modules as source sees them; which it may name is checked when it is registered."""
    return {
        **{module.__name__: _common()[module.__name__] for module in MODULES},
        "agentic_common": agentic.package,
        "agentic_common.pb": agentic.pb,
        "typing": SimpleNamespace(**{name: getattr(typing, name) for name in _TYPING}),
        "__future__": SimpleNamespace(annotations=None),
    }
