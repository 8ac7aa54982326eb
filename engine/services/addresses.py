"""Which addresses a service may reach, and which places may be opened to it expressly.

Whoever can make a worker connect to an address of his choice sees the network as the worker does:
the databases beside it, the metadata server that hands out the machine's credentials, the worker
itself. So every address that is not on the public internet is refused, by tables of our own: what
`ipaddress` calls private differs between releases of Python. An address that holds another one
(IPv4 in IPv6, 6to4, Teredo, NAT64) is judged by that one, too.

What is private may be opened, by two who both must want it: the operator says which places tenants
may be let into at all (`CELERIAC_PRIVATE_HOSTS`), and the configuration of the service names the place
(`allow_private`). Link-local addresses, those of metadata servers and all that nobody can listen on
cannot be opened. Neither can the platform's own servers by a network or a folder that holds them, but
only by naming the very place, `10.1.2.3:5432` or `/run/postgresql/.s.PGSQL.5432`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: Of clouds' metadata servers, and what stands in for them.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),
        *("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd20:ce::254"),
    )
)
#: Private, and may be opened: somebody may run a service there.
_PRIVATE: Sequence[tuple[str, Network]] = tuple(
    (what, ip_network(text))
    for what, texts in {
        "loopback": ("127.0.0.0/8", "::1/128"),
        "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        "carrier-grade NAT": ("100.64.0.0/10",),
    }.items()
    for text in texts
)
#: Nothing that may be reached listens there; the first that fits says what it is.
_CLOSED: Sequence[tuple[str, Network]] = tuple(
    (what, ip_network(text))
    for what, texts in {
        "unspecified": ("0.0.0.0/8", "::/128"),
        "link-local": ("169.254.0.0/16", "fe80::/10", "fec0::/10"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "reserved": (
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    }.items()
    for text in texts
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
#: A prefix for NAT64 within one's own network: where in it the IPv4 address stands is not known.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_SIXTOFOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
#: Interface identifiers that hold an IPv4 address: `…:0:5efe:a.b.c.d`, the local bit set or not.
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_LOW = 0xFFFF_FFFF

_SERVER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[0-9.]+):(?P<port>[0-9]{1,5})")
_MOST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Places that somebody opens."""

    networks: tuple[Network, ...] = ()
    #: Single servers, by address and port.
    servers: frozenset[tuple[Address, int]] = frozenset()
    #: Folders of unix sockets, and such sockets.
    folders: frozenset[str] = frozenset()

    def holds(self, address: Address, port: int) -> bool:
        """Whether an address, or that server on it, is among them."""
        return self.names(address, port) or any(address in network for network in self.networks)

    def names(self, address: Address, port: int) -> bool:
        """Whether they name that very server."""
        return (_plain(address), port) in self.servers


def places(texts: Iterable[str]) -> Places:
    """Read networks, addresses, `address:port`, folders and sockets. Raises `ValueError` for anything else."""
    networks: list[Network] = []
    servers: set[tuple[Address, int]] = set()
    folders: set[str] = set()
    for text in texts:
        if text.startswith("/"):
            folders.add(text.rstrip("/") or "/")
        elif (match := _SERVER.fullmatch(text)) and int(match["port"]) <= _MOST_PORT:
            servers.add((_plain(ip_address(match["host"].strip("[]"))), int(match["port"])))
        else:
            networks.append(ip_network(text))
    return Places(networks=tuple(networks), servers=frozenset(servers), folders=frozenset(folders))


def refusal(address: Address, port: int, *, wanted: Places, opened: Places) -> str | None:
    """Why an address may not be reached; None if it may.

    `wanted` is what the configuration of the service names, `opened` what the operator has opened.
    """
    for one in _held(address):
        what = _closed(one)
        if what is not None:
            return f"{_told(address, one)} is {what}"
        what = _among(one, _PRIVATE)
        if what is None:
            continue
        if not wanted.holds(one, port):
            return f"{_told(address, one)} is {what}, and not in the service's allow_private"
        if not opened.holds(one, port):
            return (
                f"{_told(address, one)} is {what}, and whoever runs the platform has not opened it"
                " (CELERIAC_PRIVATE_HOSTS)"
            )
    return None


def same(one: Address, other: Address) -> bool:
    """Whether two addresses lead to the same server, as far as they tell.

    What listens on every address, or on loopback, is reached by any loopback address.
    """
    mine, theirs = _plain(one), _plain(other)
    return mine == theirs or all(each.is_loopback or each.is_unspecified for each in (mine, theirs))


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _closed(address: Address) -> str | None:
    """What an address is that nothing opens."""
    if address in _METADATA:
        return "a metadata server's"
    what = _among(address, _CLOSED)
    if what is not None or isinstance(address, IPv4Address):
        return what
    known = address in _GLOBAL_V6 or address in _NAT64 or _among(address, _PRIVATE) is not None
    return None if known else "reserved"


def _held(address: Address) -> Iterator[Address]:
    """The addresses by which one is judged: those that it holds, and itself unless it is but a form."""
    if isinstance(address, IPv4Address):
        yield address
        return
    number = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and number > 1):
        yield IPv4Address(number & _LOW)
    elif address in _SIXTOFOUR:
        yield IPv4Address(number >> 80 & _LOW)
    elif address in _TEREDO:
        # The server, and the client behind it, whose bits are turned.
        yield IPv4Address(number >> 64 & _LOW)
        yield IPv4Address(~number & _LOW)
    else:
        yield address
        if number >> 32 & _LOW in _ISATAP and address not in _LOCAL_NAT64:
            yield IPv4Address(number & _LOW)


def _among(address: Address, table: Iterable[tuple[str, Network]]) -> str | None:
    return next((what for what, network in table if address in network), None)


def _told(address: Address, judged: Address) -> str:
    return str(address) if address == judged else f"{address}, which holds {judged},"
