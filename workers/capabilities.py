"""What a granted profile makes of a job: the limits it runs within, and what it may open."""

from __future__ import annotations

from dataclasses import replace

from engine.capabilities import Profile
from engine.settings import Settings
from workers.sandbox import Job, Limits, Opened


def within(profile: Profile, limits: Limits, settings: Settings, *, timed: bool) -> Limits:
    """The limits of code with this profile.

    `limits` are those that it would have without one; `timed` says that somebody chose their
    seconds, which a profile then only narrows. Memory is widened up to what the operator allows.
    """
    seconds = limits.seconds
    if profile.seconds is not None:
        seconds = min(seconds, profile.seconds) if timed else profile.seconds
    found = replace(limits, seconds=seconds)
    if profile.cpu_seconds is not None:
        found = replace(found, cpu_seconds=min(profile.cpu_seconds, seconds))
    if profile.memory_bytes is None:
        return found
    memory = min(profile.memory_bytes, max(settings.sandbox_most_bytes, settings.sandbox_bytes))
    # What it returns is held by the worker, too.
    return replace(found, memory_bytes=memory, result_bytes=min(settings.value_bytes, memory // 2))


def opened(profile: Profile, job: Job) -> Job:
    """The job with the files and modules that its code was granted. Trusted code opens what it likes."""
    if job.trusted:
        return job
    files = tuple(Opened(path=file.path, write=file.write) for file in profile.files)
    return replace(job, files=files, modules=profile.modules)
