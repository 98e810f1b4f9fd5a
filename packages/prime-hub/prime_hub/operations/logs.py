"""The Hub's log: lines for people, or a JSON object a line for programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from prime_hub.operations.request_ids import WithRequestId

FORMATS = ("text", "json")
TEXT = "%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s"
FIELDS = ("method", "path", "status", "milliseconds")
"""What a record may bring besides its message."""
_NOISY = ("httpx", "httpcore", "alembic", "asyncio", "uvicorn.error")


class JsonLines(logging.Formatter):
    """time (RFC 3339, UTC), level, logger, message, request_id, `FIELDS`, and error, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, "request_id", ""):
            told["request_id"] = request_id
        told |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def configure(handler: logging.Handler, form: str = "text", noisy: Iterable[str] = _NOISY) -> None:
    """Let everything go to `handler`, in one of FORMATS."""
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    handler.addFilter(WithRequestId())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in noisy:
        logging.getLogger(name).setLevel(logging.WARNING)
