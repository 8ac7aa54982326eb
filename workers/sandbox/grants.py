"""What a job may be granted: files within the folders that an operator named, known modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workers.sandbox.inside.landlock import Opened
from workers.sandbox.inside.namespace import FURTHER, MODULES
from workers.sandbox.job import Job

#: Names of the modules that source may be granted.
FURTHER_MODULES = frozenset(FURTHER)
_THERE = frozenset(module.__name__ for module in MODULES)


def resolved(folders: Sequence[Opened]) -> tuple[Opened, ...]:
    """Folders by their real paths. Raises `ValueError` for what is no folder."""
    found = []
    for folder in folders:
        path = Path(folder.path)
        if not path.is_absolute() or not path.is_dir() or path == Path("/"):
            raise ValueError(f"{folder.path} is no absolute path of a folder that exists")
        found.append(Opened(path=str(path.resolve()), write=folder.write))
    return tuple(found)


def refusal(job: Job, folders: Sequence[Opened]) -> str | None:
    """Why a job cannot be given what it is to be granted; None if it can."""
    for name in job.modules:
        if name not in FURTHER_MODULES and name not in _THERE:
            known = ", ".join(sorted(FURTHER_MODULES))
            return f"{job.name}: module {name} is not for code registered as source; these are: {known}"
    for file in job.files:
        if (why := _unfit(file, folders)) is not None:
            return f"{job.name}: {why}"
    return None


def _unfit(file: Opened, folders: Sequence[Opened]) -> str | None:
    path = Path(file.path)
    if not path.is_absolute() or ".." in path.parts or str(path) != file.path or "\0" in file.path:
        return f"{file.path!r} is no plain absolute path"
    around = [folder for folder in folders if path.is_relative_to(folder.path)]
    if not around:
        named = ", ".join(folder.path for folder in folders) or "none"
        return (
            f"{file.path} is in no folder that this worker's operator opens to code "
            f"(CELERIAC_SANDBOX_FOLDERS: {named})"
        )
    if file.write and not any(folder.write for folder in around):
        return (
            f"{file.path} is to be written, and this worker's operator opens {around[0].path} "
            f"to be read alone; {around[0].path}:write in CELERIAC_SANDBOX_FOLDERS would change that"
        )
    return None
