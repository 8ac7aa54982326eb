"""Stand-ins for the systems around the router: they take whatever they are sent, and print it.

python examples/hl7/systems.py     until Ctrl-C
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8600


class System(BaseHTTPRequestHandler):
    """Takes what it is sent."""

    def do_POST(self) -> None:
        """Print a request, a segment to a line, and say that it was taken."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        print(self.command, self.path, *body.split("\r"), sep="\n  ", flush=True)
        self.send_response(204)
        self.end_headers()

    do_PUT = do_POST  # noqa: N815  # a name of the standard library

    def log_message(self, *_: object) -> None:
        """Nothing but what was sent is printed."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", PORT), System) as server:
        print(f"listening on port {PORT}", flush=True)
        server.serve_forever()
