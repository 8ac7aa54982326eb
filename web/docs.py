"""The docs page: Swagger UI from a package, served by ourselves; nothing comes from elsewhere."""

from __future__ import annotations

import mimetypes
from importlib.resources import files

from flask import Blueprint, Response, redirect
from werkzeug.wrappers import Response as AnyResponse

from engine.errors import NotFound
from web import permissions

routes = Blueprint("docs", __name__, url_prefix="/docs")
root = Blueprint("root", __name__)

#: What the page loads. Nothing else of the package is served.
_ASSETS = frozenset(
    {"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "favicon-16x16.png"}
)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Celeriac API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# A script of its own, because the page's policy allows none within it.
_START = """\
window.addEventListener("load", () => {
  SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    persistAuthorization: false,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
  });
});
"""


@root.get("/")
@permissions.needs(permissions.PUBLIC)
def index() -> AnyResponse:
    """To the docs."""
    return redirect("/docs", code=307)


@routes.get("")
@permissions.needs(permissions.PUBLIC)
def page() -> Response:
    """The page itself."""
    return Response(
        _PAGE, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _POLICY}
    )


@routes.get("/<name>")
@permissions.needs(permissions.PUBLIC)
def asset(name: str) -> Response:
    """What the page loads."""
    if name == "start.js":
        return Response(_START, content_type="text/javascript; charset=utf-8")
    if name not in _ASSETS:
        raise NotFound(f"the docs have no {name}")
    return Response(
        (files("flask_swagger_ui") / "dist" / name).read_bytes(),
        content_type=mimetypes.guess_type(name)[0],
        headers={"Cache-Control": "public, max-age=86400"},
    )
