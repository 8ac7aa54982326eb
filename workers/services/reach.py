"""HTTP to the outside, for requests that somebody else made up.

    reach = Reach(guard, hosts=config.hosts)
    answer = fetch(reach, httpx2.Request("GET", "https://api.example.com/x"), redirects=3)

`Reach` is a transport of httpx2, so whatever takes one (a client that streams, say) is guarded by it:

- the URL is one that can be read in one way alone, of a host that is allowed (`engine.services.origins`);
- the connection goes to an address that was judged (`workers.services.connections`), whatever the
  name resolves to afterwards; the header Host and the name that TLS checks stay those of the URL;
- one request, one connection: nothing is kept, no cookie either, and nothing is taken from the
  environment but `SSL_CERT_FILE` and `SSL_CERT_DIR`, by which an operator trusts authorities of his own;
- all of it, from resolving to the last byte, within one time; so many bytes of headers and so many of
  answer, counted as they are after decompression. Answers are decompressed here, with a bound: what is
  handed on has no `Content-Encoding`.

What does not work out is an `Unreached`.
"""

from __future__ import annotations

import functools
import ssl
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing

import httpcore2
import httpx2

from engine.services import origins
from engine.services.origins import Origin
from workers.services.connections import Guard, Pinned, Unreached

#: Bytes of headers that an answer may have.
HEADER_BYTES = 65_536
#: Bytes of answer, unless somebody says otherwise.
MAX_BYTES = 1_048_576
#: Bytes that are decompressed at once.
_PIECE = 65_536
#: Bits of zlib's windows by coding: with gzip's header, or zlib's own.
_CODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_MOVED = frozenset({301, 302, 303, 307, 308})
#: What asks for the method and the body once more.
_AS_IT_WAS = frozenset({307, 308})
#: Of the body, which is gone when a request becomes a GET.
_OF_BODY = ("content-length", "content-type", "content-encoding", "transfer-encoding")
_LEAST_STATUS = 200
#: What another origin is sent along: of all else nobody can say that it is no credential.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent", "content-type"})
#: What ends a call that never left the platform, once a server was asked: it may have done something.
_AFTERWARDS = {
    "blocked": "bad_response",
    "arguments_refused": "bad_response",
    "unreachable": "interrupted",
}


class Reach(httpx2.BaseTransport):
    """What sends a request to where it may go, and nowhere else."""

    def __init__(
        self,
        guard: Guard,
        *,
        hosts: Collection[Origin],
        max_bytes: int = MAX_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self.hosts = hosts
        self._max_bytes = max_bytes
        self._tls = tls

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; the answer's body is still to be read, and the answer to be closed."""
        origin = checked(str(request.url), self.hosts)
        backend = Pinned(self._guard, HEADER_BYTES)
        connection = httpcore2.HTTPConnection(
            _origin(origin),
            ssl_context=(self._tls or _tls()) if origin.scheme == "https" else None,
            network_backend=backend,
        )
        request.headers["Host"] = origin.authority
        # Others would be decompressed without a bound, or not at all.
        request.headers["Accept-Encoding"] = "gzip, deflate"
        with ExitStack() as undone:
            undone.callback(_close, backend)
            undone.callback(connection.close)
            try:
                found = connection.handle_request(_sent(request, origin))
            except (httpcore2.ProtocolError, httpcore2.NetworkError) as error:
                raise _meant(error) from None
            headers = httpx2.Headers(found.headers)
            coding = _coding(headers)
            if found.status < _LEAST_STATUS:
                raise Unreached("bad_response", f"it answers {found.status}, which ends nothing")
            undone.pop_all()
        if backend.stream is not None:
            backend.stream.allowance = None
        body = _Body(connection, found, coding, self._max_bytes)
        return httpx2.Response(found.status, headers=headers, stream=body, request=request)


class _Body(httpx2.SyncByteStream):
    """The body of an answer, decompressed, no larger than it may be."""

    def __init__(
        self,
        connection: httpcore2.HTTPConnection,
        found: httpcore2.Response,
        coding: str | None,
        most: int,
    ) -> None:
        self._connection = connection
        self._found = found
        self._coding = coding
        self._most = most

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        try:
            for piece in self._pieces():
                seen += len(piece)
                if seen > self._most:
                    message = f"the answer is larger than {self._most} bytes"
                    raise Unreached("output_too_large", message)
                yield piece
        except httpcore2.RemoteProtocolError as error:
            raise Unreached("interrupted", f"the answer broke off: {error}") from None
        except httpcore2.NetworkError as error:
            raise Unreached("interrupted", f"the connection broke: {error}") from None

    def _pieces(self) -> Iterator[bytes]:
        raw = iter(self._found.iter_stream())
        return raw if self._coding is None else _inflated(raw, self._coding)

    def close(self) -> None:
        self._found.close()
        self._connection.close()


def fetch(
    reach: Reach,
    request: httpx2.Request,
    *,
    redirects: int = 0,
    secret: Collection[str] = (),
    judge: Callable[[str], None] = lambda _url: None,
) -> httpx2.Response:
    """Send a request and read its answer, following so many redirects.

    Each is checked as the first request was, `judge` being what else there is to check of a URL: it
    raises `Unreached`. Another origin gets no headers but a few that are harmless, and of those none
    that `secret` names. Raises `Unreached`; a redirect that cannot be followed is a bad answer of the
    server that was asked, because what it was asked for it may have done.
    """
    left = redirects
    while True:
        try:
            judge(str(request.url))
            with closing(reach.handle_request(request)) as answer:
                where = answer.headers.get("location")
                if answer.status_code not in _MOVED or where is None or redirects == 0:
                    answer.read()
                    return answer
        except Unreached as unreached:
            if left == redirects:
                raise
            raise afterwards(unreached, "a redirect cannot be followed") from None
        if left == 0:
            message = f"{request.url} redirects once more, after {redirects} redirects"
            raise Unreached("bad_response", message)
        left -= 1
        request = _next(request, answer.status_code, where, secret)


def afterwards(unreached: Unreached, what: str) -> Unreached:
    """What could not be reached, told of a call by which a server was asked before."""
    if unreached.reason not in _AFTERWARDS:
        return unreached
    return Unreached(_AFTERWARDS[unreached.reason], f"{what}: {unreached.message}")


def checked(url: str, hosts: Collection[Origin]) -> Origin:
    """The origin of a URL that may be asked. Raises `Unreached` for any other."""
    try:
        origin = origins.origin(url)
    except ValueError as error:
        raise Unreached("blocked", f"the URL {error}") from None
    if not origins.permitted(origin, hosts):
        listed = ", ".join(map(str, hosts))
        raise Unreached("blocked", f"{origin} is not among the service's hosts: {listed}")
    return origin


def _next(
    request: httpx2.Request,
    status: int,
    where: str,
    secret: Collection[str],
) -> httpx2.Request:
    """The request that a redirect asks for; whether it may be sent is still to be checked."""
    try:
        url = request.url.join(where).copy_with(fragment=None)
    except (httpx2.InvalidURL, ValueError) as error:
        raise Unreached("bad_response", f"it redirects to no URL: {error}") from None
    try:
        origin = origins.origin(str(url))
    except ValueError as error:
        message = f"it redirects to where nothing is sent: the URL {error}"
        raise Unreached("bad_response", message) from None
    headers = request.headers.copy()
    dropped = {"host"}
    if origin != origins.origin(str(request.url)):
        dropped |= {name for name in headers if name not in _HARMLESS}
        dropped |= {name.lower() for name in secret}
    method, content = request.method, request.content
    again = status in _AS_IT_WAS or method in {"GET", "HEAD"}
    if not again and (status == 303 or method == "POST"):  # noqa: PLR2004  # See Other
        method, content = "GET", b""
        dropped |= {*_OF_BODY}
    for name in dropped:
        headers.pop(name, None)
    return httpx2.Request(method, url, headers=headers, content=content or None)


@functools.cache
def _tls() -> ssl.SSLContext:
    """Certificates are checked, by name, against the authorities that this machine trusts."""
    return httpx2.create_ssl_context()


def _origin(origin: Origin) -> httpcore2.Origin:
    return httpcore2.Origin(origin.scheme.encode(), origin.host.encode(), origin.port)


def _sent(request: httpx2.Request, origin: Origin) -> httpcore2.Request:
    """A request as httpcore sends it; where it goes is what was checked."""
    assert isinstance(request.stream, httpx2.SyncByteStream)
    return httpcore2.Request(
        method=request.method.encode(),
        url=httpcore2.URL(
            scheme=origin.scheme.encode(),
            host=origin.host.encode(),
            port=origin.port,
            target=request.url.raw_path,
        ),
        headers=request.headers.raw,
        content=request.stream,
    )


def _coding(headers: httpx2.Headers) -> str | None:
    """How an answer is compressed; its headers then say no more that it is."""
    coding = headers.pop("content-encoding", "identity").strip().lower()
    if coding in {"identity", ""}:
        return None
    if coding not in _CODINGS:
        raise Unreached("bad_response", f"the answer is compressed as {coding[:40]!r}, unasked")
    headers.pop("content-length", None)
    return coding


def _inflated(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Compressed pieces, decompressed so much at a time that nothing can swell up."""
    inflater = zlib.decompressobj(_CODINGS[coding])
    first = True
    try:
        for given in pieces:
            piece = given
            if first and piece and coding == "deflate" and piece[0] & 0x0F != zlib.DEFLATED:
                # Some leave out zlib's header.
                inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            first = first and not piece
            while piece and not inflater.eof:
                yield inflater.decompress(piece, _PIECE)
                piece = inflater.unconsumed_tail
    except zlib.error as error:
        raise Unreached("bad_response", f"the answer cannot be decompressed: {error}") from None
    if not inflater.eof and not first:
        raise Unreached("interrupted", "the compressed answer broke off")


def _meant(error: Exception) -> Unreached:
    """What went wrong before there was an answer, in our words."""
    match error:
        case httpcore2.LocalProtocolError():
            return Unreached("arguments_refused", f"it cannot be sent: {error}")
        case httpcore2.RemoteProtocolError() if "disconnected" not in str(error):
            return Unreached("bad_response", f"the answer is no HTTP: {error}")
        case _:
            return Unreached("interrupted", f"the connection broke: {error}")


def _close(backend: Pinned) -> None:
    if backend.stream is not None:
        backend.stream.close()


def headers_of(answer: httpx2.Response, most: int, longest: int) -> Mapping[str, str]:
    """The first headers of an answer, by their names in lower case, none of them long.

    Left out is what was meant for this connection, and cookies, which are credentials.
    """
    found: dict[str, str] = {}
    for name, value in answer.headers.items():
        if name in HOP_BY_HOP or name in {"set-cookie", "set-cookie2"} or len(value) > longest:
            continue
        if len(found) == most:
            break
        found[name] = value
    return found


#: Headers that are about one connection, and none of those who ask or answer.
HOP_BY_HOP = frozenset(
    {
        *(
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
        ),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    }
)
