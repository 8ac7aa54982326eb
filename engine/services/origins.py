"""URLs of services, read strictly: one way to write a host, and one way to read it.

Two readers that differ about a URL are how a check is passed by one host and a connection made to
another. So what is connected to is what was read here and nothing else, and whatever readers are known
to differ about is refused: user names, backslashes, white space, control characters, hosts as numbers
(`2130706433`, `0x7f.1`, `0177.0.0.1`, `127.1`), hosts beyond ASCII or with percent signs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from engine.services.addresses import Address

#: Characters of a URL.
LIMIT = 8_192
PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?P<fragment>#.*)?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._*-]+)(:(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: A last label by which readers take the whole for a number.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MOST_NAME = 253
_MOST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A scheme, a host and a port. A host `*.example.com` or `*` stands for many names."""

    scheme: str
    #: In lower case; an IPv6 address without brackets.
    host: str
    port: int

    @property
    def address(self) -> Address | None:
        """The address that the host is; None for a name."""
        return address(self.host)

    @property
    def authority(self) -> str:
        """Host and port, as URLs and the header Host have them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def covers(self, other: Origin) -> bool:
        """Whether another one is this one, or one of those that it stands for."""
        if (self.scheme, self.port) != (other.scheme, other.port):
            return False
        if not self.host.startswith("*"):
            return self.host == other.host
        # Whoever means an address writes it.
        return other.address is None and other.host.endswith(self.host[1:])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def allowed(text: str) -> Origin:
    """One entry of a list of allowed hosts: `https://api.example.com`, `https://*.example.com:8443`.

    `https://*` are all names, on the port that is usual. Raises `ValueError` with what is wrong.
    """
    origin, target = _read(text)
    if target not in {"", "/"}:
        raise ValueError("has a path; write scheme, host and port alone")
    return origin


def origin(text: str) -> Origin:
    """The origin of the URL of a call. Raises `ValueError` with what is wrong."""
    found, _ = _read(text)
    if "*" in found.host:
        raise ValueError("has a star in its host")
    return found


def permitted(found: Origin, hosts: Iterable[Origin]) -> bool:
    """Whether a list of allowed hosts has an origin."""
    return any(host.covers(found) for host in hosts)


def hostname(text: str) -> str:
    """A host as it is compared: a name in lower case, or an address. Raises `ValueError`."""
    if text.startswith("["):
        return str(IPv6Address(text[1:-1]))
    name = text.lower()
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        found = address(name)
        if found is None:
            raise ValueError(f"has the host {text!r}, which is no address as one is written")
        return str(found)
    starred = labels[1:] if labels[0] == "*" else labels
    if len(name) > _MOST_NAME or not all(_LABEL.fullmatch(label) for label in starred):
        raise ValueError(f"has the host {text[:80]!r}, which is no name of a host")
    return name


def address(host: str) -> Address | None:
    """The address that a host is, written as addresses are; None for anything else."""
    for read in (IPv4Address, IPv6Address):
        try:
            return read(host)
        except ValueError:
            continue
    return None


def _read(text: str) -> tuple[Origin, str]:
    if len(text) > LIMIT:
        raise ValueError(f"is longer than {LIMIT} characters")
    if any(char.isspace() or char == "\\" or _is_control(char) for char in text):
        raise ValueError("holds white space, a backslash or a control character; escape it: %20")
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("is no URL with a host; write https://host/path")
    scheme = match["scheme"].lower()
    if scheme not in PORTS:
        raise ValueError(f"is of scheme {scheme}; http and https can be reached")
    if match["fragment"] is not None:
        raise ValueError("has a fragment (#…), which no server is sent; leave it out")
    if "@" in match["authority"]:
        raise ValueError("names a user; give credentials in the service's auth")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise ValueError("has a host or port that cannot be read; write host or host:port in ASCII")
    port = int(authority["port"] or PORTS[scheme])
    if not 0 < port <= _MOST_PORT:
        raise ValueError(f"has port {port}, which there is not")
    host = hostname(authority["host"])
    return Origin(scheme=scheme, host=host, port=port), match["target"]


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cf", "Cs"}
