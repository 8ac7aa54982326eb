"""Where the embedded platform keeps its things, and who may enter."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Unavailable

#: A socket's path may have 107 bytes on Linux and 103 on macOS.
_SOCKET_PATH_LIMIT = 103
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
_LOG_LIMIT = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The data folder, laid out."""

    folder: Path

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def valkey(self) -> Path:
        return self.folder / "valkey"

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def admin_key(self) -> Path:
        return self.folder / "admin.key"

    @property
    def blob_key(self) -> Path:
        return self.folder / "blob.key"

    @property
    def secret_key(self) -> Path:
        return self.folder / "secret.key"

    @property
    def audit_key(self) -> Path:
        return self.folder / "audit.key"

    def log(self, name: str) -> Path:
        """The log of one process; what is too long makes room first."""
        return self.folder / "logs" / f"{name}.log"


def lay_out(folder: Path) -> Home:
    """Make the data folder and what is always in it, for our eyes only."""
    home = Home(folder=folder)
    # Root's Postgres is another account's, which has to pass through, though not to look.
    passable = 0o711 if os.geteuid() == 0 else 0o700
    modes = {home.folder: passable, home.postgres: passable}
    for place in (home.folder, home.postgres, home.valkey, home.blobs, home.folder / "logs"):
        try:
            place.mkdir(mode=modes.get(place, 0o700), parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"cannot make the data folder {place}: {error.strerror};"
                " name another one in CELERIAC_HOME"
            ) from error
    if home.postgres.stat().st_uid != os.geteuid():
        raise Unavailable(
            f"the data folder {folder} belongs to another user (uid {home.postgres.stat().st_uid});"
            " run as that user, or name another folder in CELERIAC_HOME"
        )
    return home


def private(folder: Path, *, owner: int | None = None) -> Path:
    """A folder that its owner alone may enter; refused when somebody else got there first."""
    owner = os.geteuid() if owner is None else owner
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != owner and found.st_uid == os.geteuid():
        os.chown(folder, owner, -1, follow_symlinks=False)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise Unavailable(
            f"{folder} is not a folder that only its owner may enter;"
            " remove it, or name another data folder in CELERIAC_HOME"
        )
    return folder


def sockets(inside: Path, *, owner: int | None = None) -> Path:
    """The private folder for a server's socket: inside its own folder if the path stays short enough."""
    place = inside / "run"
    if len(os.fsencode(place / _LONGEST_SOCKET_NAME)) > _SOCKET_PATH_LIMIT:
        digest = hashlib.sha256(os.fsencode(inside.resolve())).hexdigest()[:16]
        # The folder's own check makes a shared parent safe; TMPDIR may differ from shell to shell.
        place = Path("/tmp") / f"celeriac-{os.geteuid()}-{digest}"  # noqa: S108
    return private(place, owner=owner)


def rotate(log: Path) -> Path:
    """Set a long log aside, once; the one that was aside is dropped."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    return log


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_state(home: Home) -> Mapping[str, object] | None:
    """What the last `up` wrote down; None when there is none."""
    try:
        state = json.loads(home.state.read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None
