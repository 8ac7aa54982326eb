"""An S3 on this machine, for as long as a block lasts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet import network

BUCKET = "celeriac"


@dataclass(kw_only=True)
class S3:
    """A server that can be ended and started again; what it held is gone then."""

    log: Path
    port: int = field(default_factory=network.free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/blobs"

    @property
    def environment(self) -> Mapping[str, str]:
        """What its clients find in theirs."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"]},
            )
        bucket = f"http://127.0.0.1:{self.port}/{BUCKET}"
        request = urllib.request.Request(bucket, method="PUT")
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(request, timeout=5).close()
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)
            else:
                return

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """A server of this test's own, bound to loopback, with an empty bucket."""
    server = S3(log=folder / "s3.log")
    server.start()
    try:
        yield server
    finally:
        server.end()
