"""Questions to a server before any session: is it healthy, what does its /schema say."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

from verifiers.openenv.errors import ServerStartError, SessionLost
from verifiers.openenv.source import RunningServer
from verifiers.openenv.websocket import tls_context
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    import httpx

LOG_TAIL = 4000  # characters of the server's log in an error
FIRST_POLL = 0.05
UNEVENTFUL = re.compile(
    r"^INFO:\s+(Started server process|Waiting for application startup|Application startup complete|Uvicorn running on"
    r"|connection (open|closed)|\S+ - \"(GET|POST|WebSocket) [^\"]*\" (2\d\d|\[accepted\]))"
    # What a plain HTTP server says when it is asked for /ws.
    r"|\"WebSocket /ws\" 403|connection rejected|\"GET /ws [^\"]*\" 404"
    r"|^WARNING:\s+(Unsupported upgrade request|No supported WebSocket library)"
)


def new_client(url: str) -> httpx.AsyncClient:
    """The HTTP client for the servers at addresses like `url`: no proxies, no redirects, as many connections as there
    are sessions.
    """
    import httpx

    # uvicorn closes an idle connection after five seconds; one that is reused just then would cost an episode.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2.0)
    verify = tls_context() if url.startswith("https:") else False
    return httpx.AsyncClient(timeout=None, limits=limits, trust_env=False, verify=verify)


async def health_problem(client: httpx.AsyncClient, url: str, timeout: float = 2.0) -> str | None:
    """Why GET /health does not say 200 within `timeout` seconds; None when it does."""
    import httpx

    try:
        async with asyncio.timeout(timeout):
            try:
                response = await client.get(url + "/health")
            except (httpx.ReadError, httpx.RemoteProtocolError):
                # A kept connection that the server closed, as uvicorn does after a 500: no news, ask on a new one.
                response = await client.get(url + "/health")
    except TimeoutError:
        return f"no answer within {timeout:.2g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return None if response.status_code == 200 else f"HTTP {response.status_code} from /health"


async def wait_until_healthy(
    server: RunningServer,
    client: httpx.AsyncClient,
    *,
    timeout: float = 30.0,
    poll_interval: float = 1.0,
    request_timeout: float = 2.0,
    ours: bool = True,
) -> None:
    """Poll GET /health until it says 200, at first often, then every `poll_interval` seconds.

    `timeout` (seconds) counts from the start of the process. A server that exits is noticed at the next poll. `ours`: we
    started it, so what it needs to become healthy is of use in the error; else somebody else has to start it.
    Raises: ServerStartError, one sentence and the tail of the server's log.
    """
    deadline = server.started + timeout
    pause = min(FIRST_POLL, poll_interval)
    while True:
        left = deadline - time.monotonic()
        problem = await health_problem(client, server.url, min(request_timeout, max(left, 0.1)))
        if problem is None:
            return
        ended = await server.ended()
        if ended is not None:
            raise ServerStartError(
                await with_log(server, f"OpenEnv server exited on start ({ended}), before it was healthy.")
            )
        if time.monotonic() + pause > deadline:
            if not ours:
                raise ServerStartError(
                    f"No OpenEnv server answers at {shown_url(server.url)}: {problem}. This run did not start it; its own "
                    "output says why it ended."
                )
            raise ServerStartError(
                await with_log(
                    server,
                    f"OpenEnv server not ready. Health check timeout={timeout:g}s, url={shown_url(server.url)}/health, "
                    f"last error: {problem}. "
                    "It must answer GET /health with 200 on 0.0.0.0 and the manifest's port.",
                )
            )
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, poll_interval)


async def fetch_schema(client: httpx.AsyncClient, url: str, timeout: float = 5.0) -> dict[str, Any]:
    """The object at GET /schema: JSON Schemas by name, of which `action` is always there.

    Raises: SessionLost, one sentence.
    """
    import httpx

    try:
        async with asyncio.timeout(timeout):
            response = await client.get(url + "/schema")
    except TimeoutError:
        raise SessionLost(
            f"OpenEnv schema fetch failed: no answer from {shown_url(url)}/schema within {timeout:g} s."
        ) from None
    except httpx.HTTPError as error:
        raise SessionLost(
            f"OpenEnv schema fetch failed: {type(error).__name__} from {shown_url(url)}/schema."
        ) from error
    if response.status_code != 200:
        raise SessionLost(f"OpenEnv schema fetch failed: HTTP {response.status_code} from {shown_url(url)}/schema.")
    try:
        schema = response.json()
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise SessionLost("OpenEnv /schema response must be a JSON object.")
    if not isinstance(schema.get("action"), dict):
        raise SessionLost("OpenEnv /schema response missing object `action` schema.")
    return schema


async def with_log(server: RunningServer, sentence: str) -> str:
    """`sentence`, followed by the tail of the server's log."""
    try:
        printed = await server.logs()
        if printed is None:
            return f"{sentence} Its own output may say why."
        text = log_tail(printed)
    except Exception as error:  # the log is an extra; what failed is already known
        text = f"(not available: {error})"
    return f"{sentence} Logs (tail):\n{text}" if text else f"{sentence} The server printed nothing."


def log_tail(text: str) -> str:
    """The end of a log, without uvicorn's lines on a good start and on good requests, unless there is nothing else."""
    lines = text.strip().splitlines()
    told = [line for line in lines if not UNEVENTFUL.search(line)]
    return "\n".join(told or lines).strip()[-LOG_TAIL:]
