"""Structured logs: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The call that the current thread works for."""

_LONGEST_ID = 64


def choose_request_id(wanted: str) -> str:
    """The id that a client asked for if it is a harmless one, else a new one."""
    harmless = wanted.isascii() and wanted.replace("-", "").replace("_", "").isalnum() and len(wanted) <= _LONGEST_ID
    return wanted if harmless else uuid.uuid4().hex[:16]


class JsonFormatter(logging.Formatter):
    """One line of JSON per record; whatever is passed as ``extra={"fields": {...}}`` becomes keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Render ``record``."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if current := request_id.get():
            entry["request_id"] = current
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """Send all logs of this process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
