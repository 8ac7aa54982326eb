"""The web process: gunicorn with threads, its settings from ours.

One master, one worker: when the worker dies the master starts it again, and when the master
dies the worker ends. Threads are as many as streams may be, and then some, so that streams
never take the last one. Nothing is opened before the fork.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NoReturn

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import _DEFER, ThreadWorker

from engine import platform, telemetry
from engine.platform import DatabaseRole
from engine.settings import Settings
from web import connection, site
from web.app import create_app

#: Threads beside those that streams may hold.
SPARE_THREADS = 32
#: Connections to the database that are kept; as many again come and go.
CONNECTIONS = 16
#: How long requests that are under way may take when the process is asked to end.
GRACE_SECONDS = 5
_KEEP_ALIVE_SECONDS = 30
#: How long a thread waits for a request on a new connection; gunicorn's five seconds let a few
#: dozen connections on which nobody asks for anything hold up everybody.
_FIRST_BYTE_SECONDS = 0.02
_UNIX = "unix:"


def serve(settings: Settings) -> NoReturn:
    """Serve the platform until SIGTERM or Ctrl-C."""
    telemetry.configure("web", settings.log_level)
    _Application(settings).run()
    raise SystemExit(0)


def options(settings: Settings) -> Mapping[str, Any]:
    """What gunicorn is told."""
    return {
        "bind": [_address(settings)],
        "workers": 1,
        "worker_class": _Worker,
        "threads": settings.streams + SPARE_THREADS,
        "worker_connections": settings.streams + 1000,
        "keepalive": _KEEP_ALIVE_SECONDS,
        "graceful_timeout": GRACE_SECONDS,
        "timeout": 60,
        "proc_name": "celeriac web",
        "logger_class": _Log,
        # Requests are logged by web.envelope, as JSON.
        "accesslog": None,
        # A socket in the file system is for its owner alone.
        "umask": 0o077,
        "control_socket_disable": True,
        "post_worker_init": _watch,
        "worker_int": lambda worker: site.of(worker.wsgi).stopping.set(),
        "worker_exit": _leave,
    }


class _Application(BaseApplication):  # type: ignore[misc]  # distributed without types
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker, after the fork."""
        built = platform.build(self._settings, DatabaseRole.API, connections=CONNECTIONS)
        return create_app(built)


class _Worker(ThreadWorker):  # type: ignore[misc]  # distributed without types
    """Threads are for requests: a connection on which none has come yet waits without one."""

    def handle(self, conn: Any) -> Any:
        connection.bound(conn.sock)
        if not (conn.initialized or conn.data_ready or conn.wait_for_data(_FIRST_BYTE_SECONDS)):
            return _DEFER
        return super().handle(conn)


class _Log(Logger):  # type: ignore[misc]  # distributed without types
    """gunicorn's own lines go where all lines go."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers = []
            logger.propagate = True
        self.error_log.setLevel(logging.getLogger().level)


def _watch(worker: Any) -> None:
    """Let streams end as soon as the worker is asked to."""
    here = site.of(worker.wsgi)
    handle = worker.handle_exit

    def asked(signal: int, frame: object) -> None:
        here.stopping.set()
        handle(signal, frame)

    worker.handle_exit = asked
    worker.init_signals()


def _leave(_server: object, worker: Any) -> None:
    here = site.of(worker.wsgi)
    here.close()
    here.platform.close()


def _address(settings: Settings) -> str:
    """Where to listen; a host that begins with / or unix: is a socket in the file system."""
    if settings.host.startswith(_UNIX):
        return settings.host
    if settings.host.startswith("/"):
        return f"{_UNIX}{settings.host}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"
