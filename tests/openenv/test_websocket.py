"""Corners of the wire, against servers that say exactly what they are told to, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection, serve

from verifiers.openenv import websocket
from verifiers.openenv.errors import ActionRejected, CapacityReached, SessionLost
from verifiers.openenv.probe import health_problem, new_client
from verifiers.openenv.session import HTTPSession, connect

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request) -> Run:
    def run_on(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(main, 30))

    return run_on


def observation(count: int, **more: Any) -> str:
    return json.dumps({"type": "observation", "data": {"observation": {"count": count}, "reward": 1.0, **more}})


@contextlib.asynccontextmanager
async def serving(handler, **options):
    """The address of a WebSocket server whose connections `handler` serves."""
    async with serve(handler, options.pop("host", "127.0.0.1"), 0, **options) as server:
        host, port, *_ = server.sockets[0].getsockname()
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def counting(socket: ServerConnection) -> None:
    count = 0
    async for message in socket:
        if json.loads(message)["type"] == "close":
            return
        await socket.send(observation(count))
        count += 1


def test_fragments_pings_and_a_reply_that_comes_with_the_goodbye(run):
    async def handler(socket: ServerConnection) -> None:
        await socket.recv()
        text = observation(1)
        await socket.ping()
        await socket.send([text[:10], text[10:20], text[20:]])
        await socket.recv()
        await asyncio.gather(socket.send(observation(2, done=True)), socket.close(1001, "enough"))

    async def main() -> None:
        async with serving(handler) as url, new_client("http:") as client:
            session = await connect(url, client)
            assert (await session.reset(1)).observation == {"count": 1}
            assert (await session.step({})).done
            with pytest.raises(SessionLost, match=r"closed the connection on a step \(code 1001: enough\)"):
                await session.step({})
            await session.close()

    run(main())


@pytest.mark.parametrize("extra", [observation(99), json.dumps({"type": "error", "data": {"code": "X"}})])
def test_a_frame_that_nobody_asked_for_is_no_reply(run, extra):
    async def handler(socket: ServerConnection) -> None:
        async for _ in socket:
            await socket.send(observation(1))
            await socket.send(extra)

    async def main() -> None:
        async with serving(handler) as url, new_client("http:") as client:
            session = await connect(url, client)
            await session.reset(1)
            await asyncio.sleep(0.05)
            with pytest.raises(SessionLost, match="nobody had asked for"):
                await session.step({})
            assert session.lost
            await session.close()

    run(main())


def test_a_refusal_before_the_first_request(run):
    async def handler(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"type": "error", "data": {"code": "CAPACITY_REACHED", "max_sessions": 3}}))

    async def main() -> None:
        async with serving(handler) as url, new_client("http:") as client:
            session = await connect(url, client)
            await asyncio.sleep(0.05)
            with pytest.raises(CapacityReached) as caught:
                await session.reset(1)
            assert caught.value.limit == 3
            await session.close()

    run(main())


def test_a_reply_over_the_limit_loses_the_session(run, monkeypatch):
    monkeypatch.setattr(websocket, "MAX_MESSAGE_BYTES", 1000)

    async def handler(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(observation(0, info="x" * (2000 if "step" in str(message) else 1)))

    async def main() -> None:
        async with serving(handler) as url, new_client("http:") as client:
            session = await connect(url, client)
            await session.reset(1)
            with pytest.raises(SessionLost, match="PayloadTooBig"):
                await session.step({})
            await session.close()

    run(main())


def test_a_large_action_and_ipv6(run):
    async def main() -> None:
        async with serving(counting, host="::1", max_size=None) as url, new_client("http:") as client:
            session = await connect(url, client)
            await session.reset(1)
            assert (await session.step({"text": "x" * 20_000_000})).observation == {"count": 1}
            await session.close()

    run(main())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"])
def test_a_server_that_hangs_up_in_the_handshake(run, answer):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, new_client("http:") as client:
            with pytest.raises(SessionLost):
                await connect(url, client)

    run(main())


@pytest.fixture
def certificate(tmp_path) -> tuple[str, str]:
    key, made = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", made]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return key, made


def test_health_and_sessions_trust_the_same_certificates(run, certificate, monkeypatch):
    key, made = certificate
    monkeypatch.setenv("SSL_CERT_FILE", made)
    websocket.tls_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)

    def health(socket: ServerConnection, request: Any) -> Any:
        return socket.respond(200, "{}") if request.path == "/health" else None

    async def main() -> None:
        async with serving(counting, ssl=context, process_request=health) as url:
            url = url.replace("http:", "https:")
            async with new_client(url) as client:
                assert await health_problem(client, url) is None
                session = await connect(url, client)
                assert (await session.reset(1)).observation == {"count": 0}
                await session.close()

    try:
        run(main())
    finally:
        websocket.tls_context.cache_clear()


def test_a_user_without_password_and_no_password_in_a_sentence(run):
    seen = []

    async def handler(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.append(socket.request.headers["Authorization"])
        await counting(socket)

    async def main() -> None:
        async with serving(handler) as url, new_client("http:") as client:
            session = await connect(url.replace("//", "//token@"), client)
            await session.reset(1)
            await session.close()
            assert seen == ["Basic dG9rZW46"]
            for address in ("http://me:hidden@", "http://me:hidden@127.0.0.1:99999", "http://hidden@127.0.0.1:1"):
                with pytest.raises(SessionLost) as caught:
                    await connect(address, client)
                assert "hidden" not in str(caught.value)

    run(main())


async def over_http(answer: Callable[[str, bytes], tuple[str, str]], play) -> None:
    """Plays on an HTTP server that gives `answer(path, body)`: status line and body."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            length = 0
            while (header := (await reader.readline()).strip().lower()) != b"":
                if header.startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            status, text = answer(line.split()[1].decode(), await reader.readexactly(length))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        writer.close()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server, new_client("http:") as client:
        await play(HTTPSession(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", client))


def test_an_action_of_halves_of_characters_reaches_a_plain_http_server(run):
    seen = []

    def answer(path: str, body: bytes) -> tuple[str, str]:
        seen.append(json.loads(body))
        return "200 OK", '{"observation": 1}'

    async def play(session: HTTPSession) -> None:
        await session.step({"text": "\ud83d"})
        deep: dict[str, Any] = {}
        for _ in range(100_000):
            deep = {"a": deep}
        with pytest.raises(ActionRejected, match="nested too deeply"):
            await session.step(deep)
        assert not session.lost
        while deep:
            deep = deep.popitem()[1]

    run(over_http(answer, play))
    assert seen == [{"text": "\ud83d"}]


@pytest.mark.parametrize("status", ["502 Bad Gateway", "401 Unauthorized", "307 Temporary Redirect"])
def test_what_a_proxy_says_is_not_the_models_fault(run, status):
    def answer(path: str, body: bytes) -> tuple[str, str]:
        return ("200 OK", "{}") if path == "/health" else (status, "")

    async def play(session: HTTPSession) -> None:
        with pytest.raises(SessionLost, match=f"POST /step was answered with HTTP {status}"):
            await session.step({"move": "up"})

    run(over_http(answer, play))
