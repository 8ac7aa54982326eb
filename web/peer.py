"""Which user of this machine is at the other end of a loopback connection."""

from __future__ import annotations

import os
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LOCAL, _REMOTE, _UID = 1, 2, 7


def is_same_user(peer_port: int, own_port: int) -> bool | None:
    """Whether the process that connected from `peer_port` is ours, or root's.

    Between two ends on this machine the kernel lists the peer's socket, too, with its owner.
    None where there is no such list, or the peer is gone already.
    """
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if (_port(fields[_LOCAL]), _port(fields[_REMOTE])) == (peer_port, own_port):
                return int(fields[_UID]) in (os.geteuid(), 0)
    return None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
