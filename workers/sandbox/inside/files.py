"""`open` for code that was granted files: it says what may be opened, the walls see to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from .landlock import Opened


def opener(files: Sequence[Opened]) -> Callable[..., Any]:
    """An `open` for these files and what lies in these folders."""

    def opened(  # noqa: PLR0917  # as the one that it stands for
        file: str,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        path = os.path.normpath(_absolute(file))
        writing = not set(mode).isdisjoint("wxa+")
        if not any(_within(path, each) for each in files if each.write or not writing):
            raise PermissionError(_refusal(path, files, writing=writing))
        if encoding is None and "b" not in mode:
            encoding = "utf-8"
        try:
            return open(path, mode, buffering, encoding, errors, newline)  # noqa: PTH123
        except PermissionError:
            raise PermissionError(
                f"{path} lies where it was granted and cannot be opened: it leads elsewhere, or its "
                "owner does not let the user that code runs as"
            ) from None

    return opened


def _absolute(file: object) -> str:
    if not isinstance(file, str):
        raise TypeError(f"a file is opened by its path, not by a {type(file).__name__}")
    if not file.startswith("/"):
        raise PermissionError(f"{file!r} is no absolute path; there is no current folder here")
    return file


def _within(path: str, granted: Opened) -> bool:
    return path == granted.path or path.startswith(granted.path.rstrip("/") + "/")


def _refusal(path: str, files: Sequence[Opened], *, writing: bool) -> str:
    rules = ", ".join(
        f"{each.path} ({'read and write' if each.write else 'read only'})" for each in files
    )
    return f"{path} may not be {'written' if writing else 'read'}: files may be opened in {rules}"
