"""Templates: text with holes (Jinja), rendered behind the same walls as code.

Jinja's own sandbox, and an undefined name being an error, are courtesy: clear messages. What
holds a template is the process around it.

What is drawn by chance (`random`, `lipsum`) is drawn alike in every attempt of a step: what was
recorded of the first one is to be found again.

The zygote imports Jinja from where it is installed before the walls stand; no child can read that
folder.
"""

from __future__ import annotations

import functools
import importlib
import random
import sys
from collections.abc import Mapping, Sequence
from typing import Any

#: The file that Jinja says a template's lines are of.
FILE = "<template>"
#: All that rendering needs, some of which Jinja would import when something goes wrong.
_MODULES = ("jinja2", "jinja2.sandbox", "jinja2.debug", "jinja2.constants", "markupsafe")


def warm(folders: Sequence[str]) -> None:
    """Import Jinja from these folders, which are left out of sight again."""
    before = list(sys.path)
    sys.path.extend(folder for folder in folders if folder not in before)
    try:
        for name in _MODULES:
            importlib.import_module(name)
    finally:
        sys.path[:] = before
    _environment()


def render(source: str, variables: Mapping[str, Any], seed: str) -> str:
    """The text of a template, the same whenever all three are.

    Raises whatever is wrong with it, in Jinja's errors or Python's.
    """
    before = random.getstate()
    # Jinja draws from this one, the generator of the module.
    random.seed(seed)
    try:
        text: str = _environment().from_string(source).render(dict(variables))
    finally:
        random.setstate(before)
    return text


def complaint(error: BaseException, name: str) -> str | None:
    """What is wrong with the syntax of a template, with its line; None for other errors."""
    jinja = sys.modules.get("jinja2")
    if jinja is None or not isinstance(error, jinja.TemplateSyntaxError):
        return None
    return f"{type(error).__name__}: {error.message} (line {error.lineno} of {name})"


@functools.cache
def _environment() -> Any:
    jinja, sandbox = sys.modules["jinja2"], sys.modules["jinja2.sandbox"]
    return sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja.StrictUndefined, keep_trailing_newline=True
    )
