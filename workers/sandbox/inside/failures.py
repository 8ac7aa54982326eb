"""What went wrong in code, for whoever wrote it: the type of the error, its text, and the line of theirs."""

from __future__ import annotations

import errno
import linecache
import os
from types import TracebackType

from . import templates, values
from . import walls as around
from .landlock import Elsewhere
from .perform import Stage, Unusable

_CHARACTERS = 2000


def told(error: BaseException, stage: Stage) -> tuple[str, str]:
    """Why an execution failed, in a word and in a sentence."""
    match error:
        # Where it finds no memory for an error, either, the interpreter speaks of one that it lost.
        case MemoryError() | OSError(errno=errno.ENOMEM) | SystemError() if (
            not isinstance(error, SystemError) or around.was_full()
        ):
            return "memory", f"it needed more memory than its limit{_place(error, stage)}"
        case values.TooLarge():
            return "output_too_large", str(error)
        case values.Refused() | Unusable():
            return "error", f"{stage.name}: {error}"
        case Elsewhere() | FileNotFoundError() if not stage.name:
            return "error", f"a file that it was granted is not there: {error}"
        case _ if (said := templates.complaint(error, stage.name)) is not None:
            return "error", said
        case SyntaxError():
            return "error", f"{type(error).__name__}: {error.msg} (line {error.lineno})"
        case _:
            return "error", f"{type(error).__name__}: {_text(error)}{_place(error, stage)}"


def shown(message: str) -> str:
    """A message as it can be stored: text of any code, at no great length."""
    text = message.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:_CHARACTERS]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001  # __str__ is user code, too
        return f"(its text cannot be read: {type(another).__name__})"


def _place(error: BaseException, stage: Stage) -> str:
    """The deepest line of the function's own file, or nothing when it was not reached."""
    number = _line(error.__traceback__, stage.file)
    if number is None:
        return ""
    if stage.lines:
        code = stage.lines[number - 1] if number <= len(stage.lines) else ""
        where = f"line {number} of {stage.name}"
    else:
        code = linecache.getline(stage.file, number)
        where = f"{os.path.basename(stage.file)}, line {number}"  # noqa: PTH119  # a text, not a file
    code = code.strip()
    return f" ({where}: {code[:200]})" if code else f" ({where})"


def _line(traceback: TracebackType | None, file: str) -> int | None:
    number: int | None = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == file:
            number = traceback.tb_lineno
        traceback = traceback.tb_next
    return number
