"""Repositories of Git that tests write: each commit is what the files shall be from then on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository with a working tree."""

    folder: Path

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"], **_ENVIRONMENT},
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | bytes | None]) -> str:
        """Write files, remove those that are None, and commit; the hash."""
        for path, content in files.items():
            place = self.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            match content:
                case None:
                    place.unlink()
                case bytes():
                    place.write_bytes(content)
                case _:
                    place.write_text(content, newline="")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        return self.git("rev-parse", "HEAD")


def repository(folder: Path) -> Repository:
    """A new one, on the branch `main`."""
    folder.mkdir(parents=True)
    made = Repository(folder=folder)
    made.git("init", "--quiet", "--initial-branch", "main")
    return made
