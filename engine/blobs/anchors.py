"""Copies of anchors outside the database: one object each, made once and never written again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import obstore
from obstore.exceptions import AlreadyExistsError

from engine.blobs import objects
from engine.blobs.objects import Opened
from engine.errors import OutOfReach

_DIGITS = 12
_NAME = re.compile(r"([0-9]{12,18})[.]json", re.ASCII)


class Anchors:
    """The anchors of all tenants at a URL. Speaks to nobody before it is asked for something."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened = Opened(url)

    def create(self, tenant: str, number: int, text: bytes) -> bool:
        """Keep an anchor, unless there is one of this number; whether it was kept.

        Raises `OutOfReach`.
        """
        name = _name(tenant, number)
        try:
            with objects.reaching(f"write anchor {name}", "CELERIAC_ANCHOR_URL"):
                try:
                    obstore.put(self._opened.store(), name, text, mode="create")
                except AlreadyExistsError:
                    return False
                if self._opened.folder is not None:
                    objects.settle(self._opened.folder / name)
        except objects.Missing as error:
            raise OutOfReach(error.message) from error
        return True

    def get(self, tenant: str, number: int) -> bytes | None:
        """An anchor as it was kept; None where there is none. Raises `OutOfReach`."""
        name = _name(tenant, number)
        try:
            with objects.reaching(f"read anchor {name}", "CELERIAC_ANCHOR_URL"):
                return bytes(obstore.get(self._opened.store(), name).bytes())
        except objects.Missing:
            return None

    def tenants(self) -> frozenset[str]:
        """Whose anchors are kept. Raises `OutOfReach`."""
        with objects.reaching("list the tenants of anchors", "CELERIAC_ANCHOR_URL"):
            found = obstore.list_with_delimiter(self._opened.store())["common_prefixes"]
        return frozenset(name.strip("/") for name in found)

    def numbers(self, tenant: str) -> Iterator[int]:
        """The numbers of the anchors that are kept, in no order. Raises `OutOfReach`."""
        objects.check_tenant(tenant)
        with objects.reaching(f"list the anchors of {tenant}", "CELERIAC_ANCHOR_URL"):
            for batch in obstore.list(self._opened.store(), prefix=f"{tenant}/"):
                for found in batch:
                    name = _NAME.fullmatch(str(found["path"]).rpartition("/")[2])
                    if name is not None:
                        yield int(name[1])


def _name(tenant: str, number: int) -> str:
    objects.check_tenant(tenant)
    return f"{tenant}/{number:0{_DIGITS}}.json"
