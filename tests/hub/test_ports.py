"""Ports of sandboxes through the Hub's own port, for clients on other machines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from prime_hub.api.port_headers import Redirected, for_client, for_server
from tests.conftest import RunningHub
from tests.hub.images import build, create

SERVER = Path(__file__).with_name("port_server.py").read_text()
ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}
"""What makes a client one of another machine."""


@pytest.fixture(scope="module")
def box(module_hub: RunningHub) -> dict[str, Any]:
    assert build(module_hub.api, "ports", files={"server.py": SERVER})["status"] == "COMPLETED"
    return create(module_hub.api, "ports")


def expose(hub: RunningHub, box: dict[str, Any], port: int = 8000, **more: Any) -> dict[str, Any]:
    answer = hub.api.post(f"/sandbox/{box['id']}/expose", json={"port": port, **more}, headers=ELSEWHERE)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def url(module_hub: RunningHub, box: dict[str, Any]) -> str:
    """The address of the sandbox's server, which has come up."""
    found = expose(module_hub, box)["url"]
    until_up(found)
    return found


def until_up(url: str) -> None:
    deadline = time.monotonic() + 30
    while httpx.get(url, trust_env=False).status_code == 409:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


def test_who_is_told_which_address(module_hub: RunningHub, box: dict[str, Any]) -> None:
    near = module_hub.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000}).json()
    assert near["url"].startswith("http://127.0.0.1:") and "/ports/" not in near["url"]
    far = expose(module_hub, box)
    assert far["url"].startswith(f"{module_hub.url}/ports/{near['exposure_id']}.")
    assert f"http://{far['external_endpoint']}" == far["url"] and "unix_socket" not in far and "note" not in far
    assert expose(module_hub, box)["url"] == far["url"], "the same port has one address"
    rows = module_hub.api.get(f"/sandbox/{box['id']}/expose", headers=ELSEWHERE).json()["exposures"]
    assert [row["url"] for row in rows] == [far["url"]]
    raw = expose(module_hub, box, protocol="TCP")
    assert "another protocol" in raw["note"] and raw["url"] == far["url"]


def test_requests_and_answers_pass_as_they_are(url: str, client: httpx.Client) -> None:
    seen = client.get(f"{url}/a%2Fb/c?x=1&y=%20", headers={"X-Own": "a"}).json()
    assert seen["method"] == "GET" and seen["target"] == "/a%2Fb/c?x=1&y=%20"
    assert ["x-own", "a"] in seen["headers"]
    assert client.get(url).json()["target"] == "/"
    assert client.post(f"{url}/echo", content=b"\x00\xff" * 100).content == b"\x00\xff" * 100
    assert client.post(f"{url}/echo", content=iter([b"one", b"two"])).content == b"onetwo"
    assert client.head(f"{url}/x").headers["content-length"]
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        assert client.request(method, url).json()["method"] == method


def test_what_is_meant_for_the_hub_stays_there(module_hub: RunningHub, url: str, client: httpx.Client) -> None:
    headers = {
        "Authorization": f"Bearer {module_hub.token}",
        "Cookie": "hub=secret",
        "Proxy-Authorization": "Basic x",
        "Connection": "X-Secret",
        "X-Secret": "hop",
        "TE": "trailers",
    }
    seen = dict(client.get(url, headers=headers).json()["headers"])
    assert not {"authorization", "cookie", "proxy-authorization", "x-secret", "te"} & set(seen)
    assert module_hub.token not in str(seen) and seen["host"].startswith("127.0.0.1:")


def test_an_answer_cannot_touch_the_hubs_pages(url: str, client: httpx.Client) -> None:
    rude = client.get(f"{url}/cookie")
    for name in ("set-cookie", "clear-site-data", "refresh", "service-worker-allowed", "www-authenticate"):
        assert name not in rude.headers, name
    assert rude.headers.get_list("content-security-policy") == [rude.headers["content-security-policy"]]
    assert rude.headers["content-security-policy"].startswith("sandbox ")
    assert "allow-same-origin" not in rude.headers["content-security-policy"]
    assert rude.headers["referrer-policy"] == "no-referrer" and rude.headers["x-content-type-options"] == "nosniff"
    assert rude.headers.get_list("x-own") == ["kept", "twice"]


def test_redirects_stay_with_the_server(url: str, client: httpx.Client) -> None:
    prefix = httpx.URL(url).path

    def location(to: str) -> str:
        answer = client.get(f"{url}/redirect", params={"to": to})
        return answer.headers["location"] if answer.status_code == 302 else f"{answer.status_code}"

    assert location("/login?x=1#y") == f"{prefix}/login?x=1#y"
    assert location("other") == f"{prefix}/other"
    assert location("../../../../api/v1/user") == f"{prefix}/api/v1/user"
    for outside in ("http://example.org/", "//example.org/x", "/\\example.org", "javascript:alert(1)", "https:/x"):
        assert location(outside) == "502", outside


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://127.0.0.1:9/x", "/ports/t/x"),
        ("//127.0.0.1:9//evil.org", "/ports/t//evil.org"),
        ("?q", "/ports/t/a/b?q"),
        ("http://127.0.0.1:90/x", None),
        ("http://127.0.0.1:9@evil.org/", None),
        ("http://[bad", None),
        ("ht\ttp://evil.org", None),
        ("\\\\evil.org", None),
    ],
)
def test_where_a_redirect_leads(location: str, expected: str | None) -> None:
    headers = [(b"Location", location.encode())]
    if expected is None:
        with pytest.raises(Redirected):
            for_client(headers, "http://127.0.0.1:9/a/b", "/ports/t")
        return
    passed = dict(for_client(headers, "http://127.0.0.1:9/a/b", "/ports/t"))
    assert passed[b"location"].decode() == expected


def test_headers_named_by_connection_are_of_one_hop() -> None:
    given = [(b"Connection", b"close, X-A"), (b"x-a", b"1"), (b"x-b", b"2"), (b"Transfer-Encoding", b"chunked")]
    assert for_server(given, "h:1") == [(b"host", b"h:1"), (b"x-b", b"2")]


def test_an_answer_is_passed_on_while_it_comes(
    module_hub: RunningHub, box: dict[str, Any], url: str, client: httpx.Client
) -> None:
    with client.stream("GET", f"{url}/drip") as answer:
        assert next(answer.iter_raw()) == b"one\n"
    deadline = time.monotonic() + 30
    while "the client of the drip has gone" not in module_hub.api.get(f"/sandbox/{box['id']}/logs").json()["logs"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_large_body_is_passed_on_while_it_comes(url: str, client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(640):
            yield bytes(1 << 18)

    seen = client.post(url, content=parts(), headers={"Content-Length": str(160 << 20)}).json()
    assert seen["received"] == 160 << 20


def test_servers_that_fail(module_hub: RunningHub, box: dict[str, Any], url: str, client: httpx.Client) -> None:
    assert client.get(f"{url}/garbage").status_code == 502
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{url}/broken")
    nobody = client.get(expose(module_hub, box, port=8123)["url"])
    assert nobody.status_code == 409 and nobody.json()["error"] == "not_listening" and "8123" in nobody.json()["detail"]


def test_an_address_is_of_one_port_and_ends_with_it(
    module_hub: RunningHub, box: dict[str, Any], url: str, client: httpx.Client
) -> None:
    token = url.rpartition("/")[2]
    exposure, _, signed = token.partition(".")
    for wrong in ("x", exposure, f"{exposure}.{signed[:-1]}", f"other.{signed}", f"{exposure}.9{signed}", "%2e%2e"):
        assert client.get(f"{module_hub.url}/ports/{wrong}").status_code == 404, wrong
    other = expose(module_hub, box, port=8200)
    module_hub.api.delete(f"/sandbox/{box['id']}/expose/{other['exposure_id']}")
    gone = client.get(other["url"])
    assert gone.status_code == 404 and "not open" in gone.json()["detail"]
    assert token not in module_hub.log and "/ports/-" in module_hub.log
    short = create(module_hub.api, "ports")
    found = expose(module_hub, short)["url"]
    module_hub.api.delete(f"/sandbox/{short['id']}")
    deadline = time.monotonic() + 30
    while (answer := client.get(found)).status_code != 404:
        assert answer.status_code in (200, 409, 410, 502), answer.text
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.asynccontextmanager
async def websocket(url: str, path: str = "/ws", **options: Any) -> AsyncIterator[tuple[ClientConnection, dict]]:
    import json

    address = url.replace("http://", "ws://") + path
    async with connect(address, proxy=None, max_size=None, **options) as socket:
        yield socket, json.loads(await socket.recv())


async def test_websockets(module_hub: RunningHub, url: str) -> None:
    headers = {"Authorization": f"Bearer {module_hub.token}", "Cookie": "a=b", "X-Own": "c"}
    async with websocket(url, "/ws?x=%20", subprotocols=["a", "b"], additional_headers=headers) as (socket, seen):
        assert socket.subprotocol == "b" and seen["target"] == "/ws?x=%20"
        assert "permessage-deflate" not in str(seen["headers"])
        assert seen["headers"]["x-own"] == "c" and not {"authorization", "cookie", "origin"} & set(seen["headers"])
        for message in ("text", b"bytes", "", b"", "é" * 1000, bytes(20 << 20)):
            await socket.send(message)
            assert await socket.recv() == message
        await asyncio.gather(*(socket.send(str(number)) for number in range(1000)))
        assert [await socket.recv() for _ in range(1000)] == [str(number) for number in range(1000)]


async def test_a_websockets_end_is_passed_on(module_hub: RunningHub, box: dict[str, Any], url: str) -> None:
    async with websocket(url) as (socket, _):
        await socket.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
    async with websocket(url) as (socket, _):
        await socket.close(4002, "enough")
    async with websocket(url) as (socket, _):
        await socket.send("die")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    async with websocket(url) as (socket, _):
        socket.transport.abort()
    deadline = time.monotonic() + 30
    while True:
        logs = module_hub.api.get(f"/sandbox/{box['id']}/logs").json()["logs"]
        if "closed with 4002 enough" in logs and logs.count("closed with") >= 2:
            break
        assert time.monotonic() < deadline, logs
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("path", "status"), [("/forbidden", 403), ("/missing", 404), ("/moved", 502)])
async def test_a_refused_websocket_is_refused_with_the_servers_status(url: str, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with websocket(url, path):
            pass
    assert refused.value.response.status_code == status
    assert "location" not in refused.value.response.headers


async def test_websockets_to_nowhere(module_hub: RunningHub, box: dict[str, Any], url: str) -> None:
    nobody = expose(module_hub, box, port=8124)["url"]
    for address, status in ((nobody, 502), (f"{url[:-1]}x", 404), (f"{module_hub.url}/ports/x", 404)):
        with pytest.raises(InvalidStatus) as refused:
            async with websocket(address):
                pass
        assert refused.value.response.status_code == status
    for path in ("/api/v1/health", "/"):
        with pytest.raises(InvalidStatus):
            async with websocket(module_hub.url, path):
                pass


async def _told(hub: RunningHub, box: dict[str, Any], words: str) -> None:
    """Until the server has said so in its log."""
    deadline = time.monotonic() + 30
    while words not in hub.api.get(f"/sandbox/{box['id']}/logs").json()["logs"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_closed_port_lets_nothing_through_any_more(module_hub: RunningHub, box: dict[str, Any]) -> None:
    box = create(module_hub.api, "ports")
    found = expose(module_hub, box)
    until_up(found["url"])
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
        client.stream("GET", f"{found['url']}/drip") as drip,
        websocket(found["url"]) as (socket, _),
    ):
        pieces = drip.aiter_bytes()
        assert await anext(pieces) == b"one\n"
        held = asyncio.ensure_future(client.get(f"{found['url']}/held"))
        await _told(module_hub, box, "somebody waits")
        module_hub.api.delete(f"/sandbox/{box['id']}/expose/{found['exposure_id']}")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)
        assert (await held).status_code == 404
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
    with pytest.raises(InvalidStatus):
        async with websocket(found["url"]):
            pass
    module_hub.api.delete(f"/sandbox/{box['id']}")


async def test_a_message_beyond_the_limit_closes_the_connection_and_nothing_else(url: str) -> None:
    async with websocket(url) as (socket, _):
        with pytest.raises(ConnectionClosed) as closed:
            await socket.send(bytes(65 << 20))
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
    async with websocket(url) as (socket, _):
        await socket.send("still here")
        assert await socket.recv() == "still here"
