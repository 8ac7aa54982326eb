"""What processes see of a network that is disturbed, over real sockets."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

import pytest

from celeriac.drill.network import Network


@pytest.fixture
def network(short_folder):
    """A network before a server that answers with what it hears."""
    place = str(short_folder / "echo.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        made = Network(place)
        yield made
        made.close()
        server.shutdown(socket.SHUT_RDWR)


def _echo(server):
    try:
        while True:
            wire, _ = server.accept()
            threading.Thread(target=_repeat, args=(wire,), daemon=True).start()
    except OSError:
        return


def _repeat(wire):
    with wire, contextlib.suppress(ConnectionError):
        while said := wire.recv(100):
            wire.sendall(said)


def connected(network):
    wire = socket.create_connection(("127.0.0.1", network.port), timeout=10)
    assert asked(wire) == b"there?"
    return wire


def asked(wire, what=b"there?"):
    wire.sendall(what)
    return wire.recv(100)


def test_a_mute_one_takes_everything_and_answers_when_it_is_mended(network):
    with connected(network) as wire:
        network.mute()
        with socket.create_connection(("127.0.0.1", network.port), timeout=10) as late:
            for one in (wire, late):
                one.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    asked(one)
            network.mend()
            for one in (wire, late):
                one.settimeout(10)
                assert one.recv(100) == b"there?"


def test_it_hangs_up_one_connection_at_a_time_and_in_no_order(network):
    with connected(network) as first, connected(network) as second:
        assert network.hang_up(random.Random(1))
        ends = []
        for wire in (first, second):
            try:
                ends.append(asked(wire))
            except ConnectionError:
                ends.append("reset")
        assert sorted(map(str, ends)) == ["b'there?'", "reset"]
        assert network.hang_up(random.Random(1))
        assert not network.hang_up(random.Random(1))


def test_nobody_is_hung_up_where_nobody_is(network):
    assert not network.hang_up(random.Random(1))


def test_a_slow_one_delivers_late_and_in_order(network):
    with connected(network) as wire:
        network.slow(0.2)
        began = time.monotonic()
        heard = b"".join(asked(wire, b"%d" % number) for number in range(5))
        assert heard == b"01234"
        # Ten deliveries, each by a fifth of a second on the average.
        assert time.monotonic() - began > 0.2
        network.mend()
        assert asked(wire) == b"there?"


def test_who_connects_while_the_server_is_away_is_turned_away(short_folder):
    network = Network(str(short_folder / "nobody.sock"))
    with socket.create_connection(("127.0.0.1", network.port), timeout=10) as wire:
        assert wire.recv(1) == b""
    network.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", network.port), timeout=10)
