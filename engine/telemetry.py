"""Every process logs JSON lines: ours through structlog, libraries' through the same door."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(process: str, level: str) -> None:
    """Send all logs of this process to stderr, one JSON object a line, with its name."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _in(process),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # kombu and Celery repeat what our own lines say better.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.pool", "kombu.pidbox"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # These tell of URLs and headers, which may be secret, and are not to be turned up.
    for telling in ("httpcore2", "httpx2"):
        logging.getLogger(telling).setLevel(logging.WARNING)
    # Quotes what servers answer, as an error of its own; what went wrong is in the call's answer.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)


def _in(process: str) -> structlog.typing.Processor:
    def name(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    return name
