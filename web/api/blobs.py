"""Large values: where a value lies, and its bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain

from flask import Response, request

from engine.core.values import Inline, Json, Value, digest, size
from engine.errors import NotFound
from engine.runs import large
from web import principal, rendering, site
from web.routing import Routes

routes = Routes(
    "blobs",
    __name__,
    url_prefix="/api/v1/blobs",
    description="Values that are too large for a row, by the sha256 of their JSON.",
)

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DESCRIBED: Mapping[str, Json] = {
    "200": {
        "description": "The value, as JSON",
        "content": {rendering.JSON: {"schema": {}}},
    },
    "304": {"description": "The caller has it already: If-None-Match names it"},
}


@routes.on("GET", "/<sha256>", needs="run:read")
@routes.described(responses=_DESCRIBED)
@routes.gives(None)
def show(sha256: str) -> Response:
    """Get a large value. Its bytes have the sha256 that they are asked for by."""
    if not _SHA256.fullmatch(sha256):
        raise NotFound(f"Blob not found: {sha256}")
    blob = large.stream(site.current().platform, principal.current().tenant, sha256)
    response = Response(content_type=rendering.JSON)
    response.set_etag(sha256)
    # What has this name never changes, and is nobody else's.
    response.headers["Cache-Control"] = "private, immutable, max-age=31536000"
    response.make_conditional(request)
    if response.status_code != 304 and request.method == "GET":  # noqa: PLR2004  # not modified
        # With the first piece here, whatever keeps it from being read is told as an error.
        response.response = chain([next(blob.pieces)], blob.pieces)
        response.content_length = blob.size
    return response


def described(value: Value) -> dict[str, Json]:
    """Where a value lies: `inline` or `uri`, never both, with its size and sha256."""
    if isinstance(value, Inline):
        return {
            "inline": value.value,
            "size_bytes": size(value.value),
            "sha256": digest(value.value),
        }
    return {
        "uri": f"{routes.url_prefix}/{value.sha256}",
        "size_bytes": value.size,
        "sha256": value.sha256,
    }
