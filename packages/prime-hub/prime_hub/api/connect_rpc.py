"""Commands by Connect RPC, as the official client runs them from 0.3 on (sandboxes.md §2.3).

A command without a session's name is killed when its client goes. One with a name is an `open_process`: it waits a while
for its client to come back, and a request that is sent twice under one name is carried out once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from prime_hub import frames
from prime_hub.api import connect_codec as codec
from prime_hub.api.connect_codec import Control, Malformed, Selector, Start
from prime_hub.api.inside import NAME, PREFIX, SILENCE_SECONDS, Inside, inside
from prime_hub.disconnects import while_connected
from prime_hub.errors import HubError
from prime_hub.services.runner_client import parts
from prime_hub.streaming import Stream

router = APIRouter(prefix=PREFIX + "/command_session.CommandSession", tags=["gateway"])

STREAM_TYPE = "application/connect+proto"
UNARY_TYPE = "application/proto"
LINGER_SECONDS = 60.0
MAX_TIMEOUT_DIGITS = 10

_CODES = {
    "sandbox_not_found": "not_found",
    "sandbox_terminated": "not_found",
    "sandbox_not_running": "unavailable",
    "command_not_found": "not_found",
    "command_timeout": "deadline_exceeded",
    "too_many": "resource_exhausted",
    "too_large": "resource_exhausted",
    "exec_failed": "invalid_argument",
    "cancelled": "canceled",
}
_CODES_BY_STATUS = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    408: "deadline_exceeded",
    409: "unavailable",
    410: "not_found",
    413: "resource_exhausted",
    422: "invalid_argument",
    503: "unavailable",
    507: "resource_exhausted",
}
_STATUSES = {
    "invalid_argument": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "canceled": 499,
    "deadline_exceeded": 504,
    "resource_exhausted": 429,
    "unimplemented": 501,
    "unavailable": 503,
}


def _refused(error: HubError | Malformed) -> tuple[str, str]:
    """Connect's code and the sentence."""
    if isinstance(error, Malformed):
        return error.code, str(error)
    code = _CODES.get(error.code or "") or _CODES_BY_STATUS.get(error.status, "internal")
    return code, error.detail


async def _streamed(
    request: Request, sandbox_id: str, work: Callable[[Inside, bytes], Awaitable[Response]]
) -> Response:
    """A call that streams its answer: a refusal is its last envelope."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != STREAM_TYPE:
        return Response(status_code=415, headers={"Accept-Post": STREAM_TYPE})
    try:
        box = await inside(request, sandbox_id)
        body = codec.only_message(await request.body(), request.headers.get("connect-content-encoding", ""))
        return await work(box, body)
    except (HubError, Malformed) as error:
        return Response(codec.end_of_stream(_refused(error)), media_type=STREAM_TYPE)


async def _unary(
    request: Request, sandbox_id: str, work: Callable[[Inside, bytes], Coroutine[Any, Any, bytes]]
) -> Response:
    """A call with one answer: a refusal is a status and `{code, message}`."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != UNARY_TYPE:
        return Response(status_code=415, headers={"Accept-Post": UNARY_TYPE})
    try:
        box = await inside(request, sandbox_id)
        body = codec.unpacked(await request.body(), request.headers.get("content-encoding", ""))
        return Response(await while_connected(request, work(box, body)), media_type=UNARY_TYPE)
    except (HubError, Malformed) as error:
        code, message = _refused(error)
        return JSONResponse({"code": code, "message": message}, _STATUSES.get(code, 500))


def _seconds(request: Request) -> float | None:
    """The client's time limit. Raises Malformed."""
    given = request.headers.get("connect-timeout-ms")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit()) or len(given) > MAX_TIMEOUT_DIGITS:
        raise Malformed("Connect-Timeout-Ms is a number of milliseconds, of ten digits at most.")
    return max(int(given), 1) / 1000


def _name(given: str | None) -> str | None:
    if given is not None and not NAME.fullmatch(given):
        raise Malformed("The name of a session or a request is letters, digits, '_', '.' and '-' only, 100 at most.")
    return given


@router.post("/Start")
async def start(sandbox_id: str, request: Request) -> Response:
    """Start a command and stream its events; one of a session that is there already is only watched."""

    async def work(box: Inside, message: bytes) -> Response:
        asked = Start.read(message)
        if not asked.argv[0]:
            raise Malformed("The command has no program.")
        body = {
            "key": _name(asked.session),
            "argv": asked.argv,
            "working_dir": asked.working_dir,
            "env": asked.env,
            "user": asked.user,
            "stdin": asked.stdin,
            "pty": asked.pty,
            "timeout": _seconds(request),
            "linger": LINGER_SECONDS if asked.session else 0,
        }
        answer = await box.hub.sandbox_io.open(sandbox_id, "POST", "commands", body=body, silence=SILENCE_SECONDS)
        return _events(answer, asked.pty is not None, None)

    return await _streamed(request, sandbox_id, work)


@router.post("/Connect")
async def connect(sandbox_id: str, request: Request) -> Response:
    """Watch a command again: its start first, then what it prints from now on, and its end, also a kept one."""

    async def work(box: Inside, message: bytes) -> Response:
        key = await _key(box, Control.read(message).selector)
        seconds = _seconds(request)
        answer = await box.hub.sandbox_io.open(sandbox_id, "GET", f"commands/{key}", silence=SILENCE_SECONDS)
        return _events(answer, False, seconds)

    return await _streamed(request, sandbox_id, work)


@router.post("/SendInput")
async def send_input(sandbox_id: str, request: Request) -> Response:
    """Give a command input."""

    async def work(box: Inside, message: bytes) -> bytes:
        asked = Control.read(message)
        path, name = f"commands/{await _key(box, asked.selector)}/stdin", _name(asked.name)
        await box.hub.sandbox_io.ask(
            sandbox_id, "POST", path, params={"id": name} if name else None, content=asked.data, silence=None
        )
        return b""

    return await _unary(request, sandbox_id, work)


@router.post("/SendSignal")
async def send_signal(sandbox_id: str, request: Request) -> Response:
    """Send a command a signal."""

    async def work(box: Inside, message: bytes) -> bytes:
        asked = Control.read(message)
        path, name = f"commands/{await _key(box, asked.selector)}/signal", _name(asked.name)
        body = {"signal": asked.signal}
        await box.hub.sandbox_io.ask(sandbox_id, "POST", path, params={"id": name} if name else None, body=body)
        return b""

    return await _unary(request, sandbox_id, work)


@router.post("/List")
async def list_all(sandbox_id: str, request: Request) -> Response:
    """The commands that run."""

    async def work(box: Inside, message: bytes) -> bytes:
        return codec.listed([item for item in await _commands(box) if item["running"]])

    return await _unary(request, sandbox_id, work)


async def _commands(box: Inside) -> list[dict[str, Any]]:
    return json.loads(await box.hub.sandbox_io.ask(box.sandbox_id, "GET", "commands"))["commands"]


async def _key(box: Inside, selector: Selector) -> str:
    """The runner's key of a command. Raises Malformed."""
    if selector.session:
        return _name(selector.session) or ""
    found = [item["key"] for item in await _commands(box) if item["pid"] == selector.pid]
    if not found:
        raise Malformed(f"No command with the process number {selector.pid} is known in the sandbox.", "not_found")
    return found[-1]


def _events(answer: httpx.Response, terminal: bool, seconds: float | None) -> Response:
    return Stream(_translated(answer, terminal, seconds), finish=answer.aclose, media_type=STREAM_TYPE)


async def _translated(answer: httpx.Response, terminal: bool, seconds: float | None) -> AsyncIterator[bytes]:
    """The runner's frames as Connect's envelopes, for `seconds` at most."""
    decoder = frames.Decoder()
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    error = ("unavailable", "The stream of the command broke off.")
    try:
        async with aclosing(parts(answer)) as source:
            while (data := await _next(source, deadline)) is not None:
                over, out = False, b""
                for kind, payload in decoder.feed(data):
                    over = kind == frames.END
                    out += _end(json.loads(payload)) if over else _event(kind, payload, terminal)
                if out:
                    yield out
                if over:
                    return
    except TimeoutError:
        error = ("deadline_exceeded", f"The command did not end within {seconds:g} seconds; it goes on.")
    except (HubError, frames.BadFrames) as broken:
        error = ("unavailable", str(broken))
    yield codec.end_of_stream(error)


async def _next(source: AsyncIterator[bytes], deadline: float | None) -> bytes | None:
    """The next part, None at the end. Raises TimeoutError."""
    # Around each part and never around a yield, where it would interrupt whoever sends.
    async with asyncio.timeout_at(deadline):
        return await anext(source, None)


def _event(kind: bytes, payload: bytes, terminal: bool) -> bytes:
    if kind == frames.STARTED:
        return codec.started(json.loads(payload)["pid"])
    if kind == frames.KEEPALIVE:
        return codec.KEEPALIVE
    return codec.printed(2 if kind == frames.ERR else 3 if terminal else 1, payload)


def _end(end: dict[str, Any]) -> bytes:
    """The event of the command's end and the end of the stream."""
    if end.get("error") is None:
        return codec.ended(end["exit_code"]) + codec.end_of_stream()
    code = "internal" if end["error"] == "exec_failed" else _CODES.get(end["error"], "internal")
    return codec.end_of_stream((code, end["detail"]))
