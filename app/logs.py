"""What the server writes to standard error: a line for each event, for people or for machines.

Every line of a request has its id, which the answer carries too (`X-Request-Id`). Queries are in addresses,
and are nobody else's business: lines have paths only.
"""

from __future__ import annotations

import logging
import sys

import structlog

from app.settings import Settings

QUIET = ("httpx2", "httpcore2")  # what others log of addresses that we ask


def set_up(settings: Settings) -> None:
    """Let all loggers write lines in the chosen form. To be called once in each process."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    form: structlog.types.Processor
    if settings.log_format == "json":
        shared.append(structlog.processors.dict_tracebacks)
        form = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        form = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, form],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("saefari").setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
