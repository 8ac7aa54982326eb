from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.services import addresses
from engine.services.addresses import Places

NOWHERE = Places()

CLOSED = [
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1"),
    *("172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255", "169.254.169.254"),
    *("169.254.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "fd00:ec2::254", "ff02::1"),
    *("fd20:ce::254", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1"),
    # Mapped, compatible, translated.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0"),
    *("::127.0.0.1", "::10.0.0.1", "::ffff:0:127.0.0.1"),
    # 6to4, Teredo, NAT64, ISATAP.
    *("2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::1"),
    *("2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
    *("2606:4700::5efe:a00:1", "2606:4700::200:5efe:7f00:1"),
]
OPEN = [
    *("8.8.8.8", "1.1.1.1", "172.32.0.1", "172.15.255.255", "100.63.255.255", "100.128.0.1"),
    *(
        "9.255.255.255",
        "11.0.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.0.1",
        "223.255.255.255",
    ),
    *("2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"),
]


@pytest.mark.parametrize("text", CLOSED)
def test_what_is_not_public_is_refused(text: str) -> None:
    assert addresses.refusal(ip_address(text), 80, wanted=NOWHERE, opened=NOWHERE)


@pytest.mark.parametrize("text", OPEN)
def test_what_is_public_is_not(text: str) -> None:
    assert addresses.refusal(ip_address(text), 80, wanted=NOWHERE, opened=NOWHERE) is None


def test_a_private_address_is_opened_by_two_alone() -> None:
    ten = addresses.places(["10.0.0.0/8"])

    def told(wanted: Places, opened: Places) -> str | None:
        return addresses.refusal(ip_address("10.1.2.3"), 80, wanted=wanted, opened=opened)

    assert told(ten, ten) is None
    assert "not in the service's allow_private" in (told(NOWHERE, ten) or "")
    assert "CELERIAC_PRIVATE_HOSTS" in (told(ten, NOWHERE) or "")
    assert told(addresses.places(["10.1.2.3"]), addresses.places(["10.1.2.3:80"])) is None
    assert told(ten, addresses.places(["10.1.2.3:81"]))
    assert told(ten, addresses.places(["10.1.2.4"]))


@pytest.mark.parametrize(
    "text",
    [
        *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
        *("169.254.9.9", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "::ffff:169.254.169.254"),
        *("64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "240.0.0.1"),
    ],
)
def test_nothing_opens_metadata_and_what_nobody_listens_on(text: str) -> None:
    everything = addresses.places(["0.0.0.0/0", "::/0"])
    assert addresses.refusal(ip_address(text), 80, wanted=everything, opened=everything)


def test_an_address_within_another_is_opened_as_itself() -> None:
    loopback = addresses.places(["127.0.0.1"])
    mapped = ip_address("::ffff:127.0.0.1")
    assert addresses.refusal(mapped, 80, wanted=loopback, opened=loopback) is None


@pytest.mark.parametrize(
    "text", ["localhost", "10.0.0.0/40", "10.1.2.3:99999", "", "10.0.0.1/8", "*"]
)
def test_places_are_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.places([text])


def test_loopback_leads_to_whatever_listens_on_every_address() -> None:
    def same(one: str, other: str) -> bool:
        return addresses.same(ip_address(one), ip_address(other))

    assert same("127.0.0.1", "0.0.0.0")
    assert same("127.9.9.9", "::1")
    assert same("::ffff:10.0.0.1", "10.0.0.1")
    assert not same("10.0.0.1", "10.0.0.2")
    assert not same("10.0.0.1", "127.0.0.1")
