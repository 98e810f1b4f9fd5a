"""Around every request: a log line without secrets, safe headers, a limit on bodies."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prime_hub.services.evaluation_samples import BATCH_BYTES

log = logging.getLogger("prime_hub.access")

# A page may load our own stylesheet and show our own or inline pictures, and nothing else: no script, no frame.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# Paths that pass their bodies on as they come: to disk, where they count the bytes themselves, or to a command or a
# server in a sandbox that takes them as it likes.
STREAMING = re.compile(r"/api/v1/uploads/.*|/gateway/[^/]+/[^/]+/commands/[^/]+/stdin|/ports/.*", re.DOTALL)
# Whoever knows the address of an exposed port may use it.
_TOKEN = re.compile(r"(?<=^/ports/)[^/]*")
# A file on its way into a sandbox, perhaps in a form, which adds a few lines to it.
FILE_PATH = re.compile(r"/gateway/[^/]+/[^/]+/(?:upload|files|files/tree)")
FORM_BYTES = 64 * 1024
# A batch of samples, of which the official client makes up to 25 MiB.
BATCH_PATH = re.compile(r"/api/v1/evaluations/[^/]+/samples")


# Names of environments and images, which may be private: nothing tells whether they are.
_NAMES = re.compile(
    r"(?P<before>/api/v1/environmentshub/[^/]+/|/[^/]+/simple/|/dashboard/environments/[^/]+/|/api/v1/files/[^/]+/"
    r"|/api/v1/images/prime/[^/]+/|/api/v1/images/(?!build(?:/|$))|/dashboard/images/[^/]+/)"
    r"(?P<rest>[^@]*)(?P<after>.*)",
    re.DOTALL,
)
# What may stand after a name, or, after an environment's id, in its place.
_WORDS = re.compile(
    r"(?:^|/)(?:wheels|versions|finalize|secrets|link|variables|status|star|transfer|fork|usage|settings|visibility|version"
    r"|delete|files|raw|changes|check|badge\.svg|evaluations|[0-9a-f]{24})(?=/|$)"
)


def shown_path(path: str) -> str:
    """A path for a log: no secrets, no names that may be private, one line, not too long."""
    path = _NAMES.sub(lambda found: found["before"] + _masked(found["rest"]) + found["after"], _TOKEN.sub("-", path))
    return path.encode("unicode_escape").decode()[:300]


def _masked(names: str) -> str:
    return "/".join(part if not part or _WORDS.fullmatch(part) else _mask(part) for part in names.split("/"))


def _mask(name: str) -> str:
    return "-.metadata" if name.endswith(".metadata") else "-"


class AccessLog:
    """One line a request. Never the query, where upload addresses carry their signature, nor a port's token.

    served(scope, status, seconds) is told of each as well.
    """

    def __init__(self, app: ASGIApp, served: Callable[[Scope, int, float], None] = lambda *_: None) -> None:
        self._app, self._served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, then log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def remember(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, remember)
        finally:
            seconds = time.perf_counter() - started
            spent = 1000 * seconds
            path = shown_path(scope["path"])
            told = {"method": scope["method"], "path": path, "status": status, "milliseconds": round(spent, 1)}
            log.info("%s %s %d %.0f ms", scope["method"], path, status, spent, extra=told)
            self._served(scope, status, seconds)


class SecurityHeaders:
    """The same strict headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add them where an answer does not bring its own."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


class BodyLimit:
    """Refuses a body that is larger than a JSON request, or a file for a sandbox, may be, before it fills memory or
    disk.
    """

    def __init__(self, app: ASGIApp, limit: int, file_limit: int) -> None:
        self._app = app
        self._limit = limit
        self._file_limit = file_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in; beyond the limit the answer is 413."""
        if scope["type"] != "http" or STREAMING.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        if FILE_PATH.fullmatch(scope["path"]):
            limit = self._file_limit + FORM_BYTES
            sentence = f"The file is larger than the {self._file_limit} bytes this Hub moves."
        else:
            limit = max(self._limit, BATCH_BYTES) if BATCH_PATH.fullmatch(scope["path"]) else self._limit
            sentence = f"The request is larger than the {limit} bytes this Hub accepts."
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            await self._refuse(send, sentence)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # Of this kind, because whoever reads the body for a route takes any other for a broken request.
                raise HTTPException(413, sentence)
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, send: Send, sentence: str) -> None:
        body = json.dumps({"detail": sentence}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 413, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": body})
