"""Requests and answers: one HTTP connection pool, its patience, and its errors."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import httpx2

from celeriac.client import errors
from celeriac.client.errors import ApiError, Unavailable

#: How often what may be sent again is sent, and how long is waited before.
ATTEMPTS = 5
BACKOFF_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0
#: A stream says that it is there more often than this.
SILENCE_SECONDS = 60.0


class Wire:
    """Speaks to one platform."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: float,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._http = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 5.0)),
            # A proxy has no business between this machine and itself.
            trust_env=not is_loopback(url),
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, *, patience: float = 0.0, **query: Any) -> Any:
        """What lies at an address. `patience`: seconds that the answer may take on purpose."""
        given = {name: value for name, value in query.items() if value is not None}
        request = self._http.build_request(
            "GET",
            path,
            params=given,
            timeout=httpx2.Timeout(self._timeout + patience, connect=min(self._timeout, 5.0)),
        )
        return self._answer(request, again=True)

    def text(self, path: str, **query: Any) -> str:
        """The text at an address that is no JSON."""
        request = self._http.build_request("GET", path, params=query)
        found: httpx2.Response = self._answer(request, again=True, plain=True)
        return found.text

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        content: tuple[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Send something; again only under a key by which the platform knows a repetition.

        `content` is a text and its media type, in place of a JSON body.
        """
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        if content is not None:
            text, headers["Content-Type"] = content
            request = self._http.build_request("POST", path, content=text.encode(), headers=headers)
        else:
            request = self._http.build_request("POST", path, json=body, headers=headers)
        return self._answer(request, again=idempotency_key is not None)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Change or end something, once: `PUT`, `PATCH`, `DELETE`. `content` is as `post` takes it."""
        told = dict(headers or {})
        if content is not None:
            text, told["Content-Type"] = content
            request = self._http.build_request(method, path, content=text.encode(), headers=told)
        else:
            request = self._http.build_request(method, path, json=body or {}, headers=told)
        return self._answer(request, again=False)

    def send_file(self, path: str, name: str, file: IO[bytes], fields: Mapping[str, str]) -> Any:
        """Send a file in the part `file` of a form. Read as it is sent, never whole."""
        request = self._http.build_request(
            "POST", path, files={"file": (name, file)}, data=dict(fields)
        )
        return self._answer(request, again=False)

    @contextmanager
    def stream(
        self, path: str, *, last: str | None, **query: Any
    ) -> Iterator[Iterator[httpx2.ServerSentEvent] | None]:
        """The events at an address after the last one read; None when there will be no more.

        Raises `Unavailable` when the connection breaks; take it up again then.
        """
        request = self._http.build_request(
            "GET",
            path,
            params={name: value for name, value in query.items() if value is not None},
            headers={
                "Accept": "text/event-stream",
                **({} if last is None else {"Last-Event-ID": last}),
            },
            timeout=httpx2.Timeout(
                self._timeout,
                read=max(self._timeout, SILENCE_SECONDS),
                connect=min(self._timeout, 5.0),
            ),
        )
        with self._translated():
            response = self._http.send(request, stream=True)
        try:
            if response.is_error:
                with self._translated():
                    response.read()
                raise _error(response)
            yield (
                None if response.status_code == httpx2.codes.NO_CONTENT else self._events(response)
            )
        finally:
            response.close()

    def _events(self, response: httpx2.Response) -> Iterator[httpx2.ServerSentEvent]:
        with self._translated():
            # One event may hold a megabyte of results, escaped.
            yield from httpx2.EventSource(response, max_event_size=None)

    def _answer(self, request: httpx2.Request, *, again: bool, plain: bool = False) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._once(request)
                return response if plain else _json(response)
            except Unavailable as error:
                if not again or attempt == ATTEMPTS:
                    raise
                pause(attempt, error)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, request: httpx2.Request) -> httpx2.Response:
        with self._translated():
            response = self._http.send(request)
        if response.is_error:
            raise _error(response)
        return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TransportError as error:
            raise Unavailable(
                f"{self._url} does not answer: {str(error) or type(error).__name__}; start it "
                "with `celeriac up`, or name another with CELERIAC_URL",
                title="Unreachable",
            ) from error


def pause(attempt: int, error: Unavailable) -> None:
    """Wait before the next attempt, as long as the platform asks for or a little longer each time."""
    asked = error.retry_after
    seconds = BACKOFF_SECONDS * 2 ** (attempt - 1) if asked is None else asked
    time.sleep(min(seconds, LONGEST_WAIT_SECONDS))


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = httpx2.URL(url).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _error(response: httpx2.Response) -> ApiError:
    try:
        body = response.json()
    except ValueError:
        body = None
    error = errors.answered(response.status_code, response.reason_phrase, body)
    if isinstance(error, Unavailable):
        error.retry_after = _seconds(response.headers.get("Retry-After"))
    return error


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ApiError(
            f"{response.url} answered with something other than JSON; is this a platform's URL?",
            status=response.status_code,
            title="Not a platform",
        ) from error
