"""The id of the request that is being served: in its answer, in every log line of it, and in what it asks the runner."""

from __future__ import annotations

import logging
import re
import uuid
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """The id, "" outside of a request."""
    return _current.get()


class RequestIds:
    """Takes the caller's id where it sends a plain one (64 letters, digits, dots, dashes), else makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve with an id."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _GIVEN.fullmatch(given) else uuid.uuid4().hex
        # Each request has a context of its own; what is logged of a failure after this has ended still finds it there.
        _current.set(request_id)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self._app(scope, receive, marked)


class WithRequestId(logging.Filter):
    """Gives every record `request_id`, and `request`, which is that in brackets for a line of text."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops one."""
        request_id = current()
        record.request_id, record.request = request_id, f" [{request_id}]" if request_id else ""
        return True
