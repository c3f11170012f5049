"""Structured logs: to standard error in a process of our own, to `logging` in somebody else's."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from registry.settings import Settings

_SHARED: list[structlog.types.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
]


def get_logger(name: str) -> Any:
    """Return a logger whose events carry fields; it follows the level and handlers of `logging`."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        cache_logger_on_first_use=True,
    )


def configure(settings: Settings) -> None:
    """Log to standard error as the settings say: `text` for people, `json` one object a line."""
    renderer: structlog.types.Processor = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    handler = logging.StreamHandler()
    processors: list[structlog.types.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        renderer,
    ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=processors, foreign_pre_chain=_SHARED))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
