"""Finding the function, calling it, and turning what it did into a report."""

from __future__ import annotations
import __future__

import copy
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from . import procs, signature, templates, values
from .agentic import Detached
from .calls import Calls, Tools
from .landlock import Opened
from .namespace import namespace
from .state import Changes, Context, WorkflowState

_ANNOTATIONS = __future__.annotations.compiler_flag
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CHOICE_BYTES = 1024


class Unusable(Exception):
    """There is no function to call, or it answered with what cannot be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What code is given beyond its arguments."""

    calls: Calls
    files: Sequence[Opened]
    modules: Sequence[str]


class Stage:
    """Which function is at work, for the messages of what goes wrong."""

    def __init__(self) -> None:
        self.name = ""
        #: The file its code counts as.
        self.file = ""
        self.lines: list[str] = []


def perform(job: Mapping[str, Any], calls: Calls, stage: Stage) -> tuple[bytes, ...]:
    """Carry a job out and return its report, ready to be sent."""
    context = Context(
        job["context"],
        invoke=calls.invoke,
        tools=Tools(calls),
        previous=calls.previous,
        use=calls.use,
    )
    limit: int = job["limits"]["result_bytes"]
    arguments: Mapping[str, Any] = job["arguments"]
    if job.get("mode") == "template":
        stage.name, stage.file = job["name"], templates.FILE
        stage.lines = job["source"].splitlines()
        seed = f"{job['context'].get('idempotency_key', '')}/{job['name']}"
        text = templates.render(job["source"], arguments["variables"], seed)
        return _report(returned_state=False, parts=(_result(text, limit),))
    given = _Given(
        calls=calls,
        files=[Opened(path=path, write=write) for path, write in job.get("files", ())],
        modules=job.get("modules", ()),
    )
    if "params" in arguments:
        function = _find(job, given, stage)
        named = procs.named(signature.whole(function), arguments, context)
        value, status = procs.answered(function(**named))
        said = values.encode(status, what="status", limit=limit)
        result = values.encode(value, what="result", limit=limit, binary=True)
        return _report(returned_state=False, parts=(result, said))
    if "state" not in arguments:
        value = _call_plainly(_find(job, given, stage), arguments, context)
        return _report(returned_state=False, parts=(_result(value, limit),))

    state = WorkflowState(arguments["state"])
    changes = Changes(state)
    value = None
    if job["source"] is not None or job["library"] is not None:
        value = _call_on_state(_find(job, given, stage), state, arguments, context)
    if isinstance(value, Detached):
        value = value.value
    elif isinstance(value, Mapping) and value is not state:
        changes.absorb(value)
    parts = [
        b"null" if value is state else _result(value, limit),
        values.encode(changes.patch(), what="state", limit=limit),
        values.encode(changes.removed(), what="deleted keys of the state", limit=limit),
    ]
    if job["choose"] is not None:
        judge = _find(job["choose"], given, stage)
        seen = WorkflowState(copy.deepcopy(dict(state)))
        parts.append(_choice(_call_on_state(judge, seen, {}, context)))
    return _report(returned_state=value is state, parts=parts)


def _result(value: object, limit: int) -> bytes:
    return values.encode(value, what="result", limit=limit)


def _report(*, returned_state: bool, parts: Sequence[bytes]) -> tuple[bytes, ...]:
    return (json.dumps({"type": "done", "returned_state": returned_state}).encode(), *parts)


def _find(code: Mapping[str, Any], given: _Given, stage: Stage) -> Callable[..., Any]:
    stage.name = code["name"]
    if code["library"] is not None:
        return _installed(code["library"], stage)
    return _defined(code["name"], code["source"], given, stage)


def _installed(place: str, stage: Stage) -> Callable[..., Any]:
    module, _, attribute = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise Unusable(f"{place} is not a function")
    code = getattr(inspect.unwrap(found), "__code__", None)
    stage.file = code.co_filename if code is not None else ""
    return found  # type: ignore[no-any-return]  # callable, as just seen


def _defined(name: str, source: str, granted: _Given, stage: Stage) -> Callable[..., Any]:
    stage.file, stage.lines = f"<{name}>", source.splitlines()
    # With the annotations feature a hint may name a type that does not exist here.
    code = compile(source, stage.file, "exec", flags=_ANNOTATIONS, dont_inherit=True)
    given = namespace(
        invoke=granted.calls.invoke,
        tools=Tools(granted.calls),
        files=granted.files,
        modules=granted.modules,
    )
    found = dict(given)
    exec(code, found)  # noqa: S102  # the purpose of this process
    defined = {key: value for key, value in found.items() if given.get(key) is not value}
    functions = [value for value in defined.values() if isinstance(value, FunctionType)]
    function = defined.get(name, functions[-1] if functions else None)
    if not callable(function):
        raise Unusable("no function is defined")
    return function  # type: ignore[no-any-return]  # callable, as just seen


def _call_plainly(
    function: Callable[..., Any], arguments: Mapping[str, Any], context: Context
) -> Any:
    """Call with the arguments that a caller gave; an object has the methods of a state, too."""
    args = [_stateful(value) for value in arguments.get("args", ())]
    kwargs = {key: _stateful(value) for key, value in arguments.get("kwargs", {}).items()}
    parameters = signature.of(function)
    if "context" in {parameter.name for parameter in parameters[len(args) :]}:
        kwargs.setdefault("context", context)
    return function(*args, **kwargs)


def _call_on_state(
    function: Callable[..., Any],
    state: WorkflowState,
    arguments: Mapping[str, Any],
    context: Context,
) -> Any:
    """Call with the state first and, where a second parameter is there for it, the context."""
    args: list[Any] = []
    kwargs = dict(arguments.get("kwargs", {}))
    for parameter in signature.of(function):
        by_position = parameter.kind in _BY_POSITION
        if by_position and not args:
            args.append(state)
        elif by_position and len(args) == 1 and _wants_context(parameter, kwargs):
            args.append(context)
        elif parameter.name == "context" and parameter.kind not in _COLLECTING:
            kwargs.setdefault("context", context)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and not args:
            args.append(state)
    return function(*args, **kwargs)


def _wants_context(parameter: inspect.Parameter, kwargs: Mapping[str, Any]) -> bool:
    if parameter.name in kwargs:
        return False
    return parameter.name == "context" or parameter.default is inspect.Parameter.empty


def _stateful(value: Any) -> Any:
    return WorkflowState(value) if isinstance(value, dict) else value


def _choice(answer: object) -> bytes:
    if isinstance(answer, (bool, str)):
        return values.encode(answer, what="the condition's answer", limit=_CHOICE_BYTES)
    what = "the state" if isinstance(answer, WorkflowState) else repr(answer)[:100]
    raise Unusable(f"a condition returns True, False or the name of a node; this one gave {what}")
