"""Many messages in one round trip, for whoever consumes from a Redis.

kombu's transport asks for one message, handles it, and asks for the next. What a turn has decided
often makes many steps ready at once, and a worker has as many threads that wait. So here it asks for
as many as it has room for (`BLMPOP`): what it has no thread for stays with the broker, where others
find it, and no message waits behind a slow one.

This leans on the inside of kombu's transport, in this file alone. A server without the command (Redis
before 7) is asked the stock way, and a test holds the two next to each other.
"""

from __future__ import annotations

import threading
from queue import Empty
from time import monotonic
from typing import Any

import orjson
from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

_Stock: Any = redis.Channel
_StockTransport: Any = redis.Transport
#: Fetched at once, however much room there is.
MOST = 64


#: Held while messages that came together are handed out.
_handing_out = threading.Lock()
#: Nobody waits longer for the last of them.
HANDED_OUT_SECONDS = 0.02


def handed_out() -> None:
    """Wait until the messages that came together are handed out, so that they are seen to together."""
    if _handing_out.acquire(timeout=HANDED_OUT_SECONDS):
        _handing_out.release()


class Channel(_Stock):  # type: ignore[misc]  # distributed without types
    """A channel that fetches as many messages as its consumer may be given."""

    #: Set when the server has said that it does not know the command.
    _one_by_one = False

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self._one_by_one or self.global_keyprefix:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        keys = [self._q_for_pri(queue, pri) for pri in self.priority_steps for queue in queues]
        room = self.qos.can_consume_max_estimate()
        connection = self.client.connection
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        wait = self.brpop_timeout if timeout is None else timeout
        count = MOST if room is None else max(1, min(room, MOST))
        connection.send_command("BLMPOP", wait or 0, len(keys), *keys, "RIGHT", "COUNT", count)

    def _brpop_read(self, **options: Any) -> bool:
        if self._one_by_one or self.global_keyprefix:
            return bool(super()._brpop_read(**options))
        try:
            try:
                found = self.client.parse_response(self.client.connection, "BLMPOP", **options)
            except self.connection_errors:
                # The next look connects anew.
                self.client.connection.disconnect()
                raise
            except self.ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                self._one_by_one = True
                found = None
            if not found:
                raise Empty
            key, messages = found
            queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            with _handing_out:
                for message in messages:
                    self.connection._deliver(_read(message), queue)  # noqa: SLF001  # as the stock one
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()


def _read(message: bytes) -> Any:
    """A message as kombu reads it. Only values of types that JSON has not need its own, slower reader."""
    return loads(bytes_to_str(message)) if b'"__type__"' in message else orjson.loads(message)


class Transport(_StockTransport):  # type: ignore[misc]  # distributed without types
    """kombu's transport for Redis, with such channels."""

    Channel = Channel


def fetch_together() -> None:
    """Have the consumers of this process fetch so. Call it before the first of them connects."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
