"""The way out of sandboxes: what its policies say, and the proxy itself with real clients and servers on loopback."""

import asyncio
import contextlib
import ipaddress
import socket
import stat

import pytest

from prime_hub.runner import egress as egress_module
from prime_hub.runner.egress import EgressProxy
from prime_hub.runner.egress_policy import BadEntry, Entry, Policy, inward_entries, own_addresses
from prime_hub.runner.runtimes.values import Egress

LOCAL = Egress(["127.0.0.1"])


def decision(egress: Egress, host: str, port: int, address: str) -> str | None:
    policy = Policy(egress, [ipaddress.ip_address("93.184.216.1")])
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return policy.refuses(host, port, ipaddress.ip_address(address))
    return policy.refuses_name(host, port) or policy.refuses(host, port, ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("egress", "host", "port", "address"),
    [
        (Egress(), "example.org", 443, "93.184.216.34"),
        (Egress(), "93.184.216.34", 22, "93.184.216.34"),
        (Egress(["example.org"]), "example.org", 443, "93.184.216.34"),
        (Egress(["example.org:443"]), "EXAMPLE.org".lower(), 443, "93.184.216.34"),
        (Egress(["*.example.org:80-443"]), "a.b.example.org", 100, "93.184.216.34"),
        (Egress(["93.184.0.0/16"]), "93.184.216.34", 443, "93.184.216.34"),
        (Egress(["10.0.0.0/8:5432"]), "10.1.2.3", 5432, "10.1.2.3"),
        (Egress(["db.corp", "10.0.0.0/8"]), "db.corp", 5432, "10.1.2.3"),
        (Egress(["93.184.216.1"]), "93.184.216.1", 443, "93.184.216.1"),
        (Egress(None, ["example.org"]), "www.example.org", 443, "93.184.216.34"),
        (Egress(["[2606:4700::1]:443"]), "2606:4700::1", 443, "2606:4700::1"),
    ],
)
def test_what_is_allowed(egress, host, port, address):
    assert decision(egress, host, port, address) is None


@pytest.mark.parametrize(
    ("egress", "host", "port", "address", "word"),
    [
        (Egress([]), "example.org", 443, "93.184.216.34", "allows no connection"),
        (Egress(["example.org"]), "example.com", 443, "93.184.216.34", "not among the hosts"),
        (Egress(["example.org"]), "www.example.org", 443, "93.184.216.34", "not among the hosts"),
        (Egress(["*.example.org"]), "example.org", 443, "93.184.216.34", "not among the hosts"),
        (Egress(["*.example.org"]), "evilexample.org", 443, "93.184.216.34", "not among the hosts"),
        (Egress(["example.org:443"]), "example.org", 80, "93.184.216.34", "not among the hosts"),
        (Egress(["93.184.0.0/16"]), "example.org", 80, "93.184.216.34", "not among the hosts"),
        (Egress(None, ["example.org"]), "example.org", 80, "93.184.216.34", "denied"),
        (Egress(None, ["93.184.0.0/16"]), "example.org", 80, "93.184.216.34", "denied"),
        (Egress(["example.org"], ["93.184.0.0/16"]), "example.org", 80, "93.184.216.34", "denied"),
        # A name that leads inside, whoever is allowed it, and this host under its public address.
        (Egress(), "rebind.example.org", 80, "127.0.0.1", "on this host or in a private network"),
        (Egress(["rebind.example.org"]), "rebind.example.org", 80, "10.0.0.1", "on this host"),
        (Egress(["0.0.0.0/0"]), "127.0.0.1", 80, "127.0.0.1", "on this host"),
        (Egress(), "93.184.216.1", 80, "93.184.216.1", "on this host"),
        *[
            (Egress(), address, 80, address, "on this host")
            for address in (
                *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
                *(
                    "100.64.0.1",
                    "224.0.0.1",
                    "240.0.0.1",
                    "255.255.255.255",
                    "::1",
                    "::",
                    "fe80::1",
                    "fd00::1",
                    "ff02::1",
                ),
                *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:10.0.0.1"),
            )
        ],
    ],
)
def test_what_is_refused(egress, host, port, address, word):
    why = decision(egress, host, port, address)
    assert why is not None
    assert word in why
    assert f"{host}:{port}" in why


@pytest.mark.parametrize(
    "text", ["", "a b", "host:0", "host:70000", "host:9-3", "1.2.3.4/33", "http://x", "*.", "1.2.3", "a:b"]
)
def test_an_entry_that_says_nothing_is_named(text):
    with pytest.raises(BadEntry, match="is no entry for where a sandbox may connect to"):
        Entry.read(text)


def test_entries_that_open_private_networks_are_told():
    egress = Egress(["example.org", "10.0.0.0/8:5432", "127.0.0.1", "0.0.0.0/0", "93.184.216.34"])
    assert inward_entries(egress) == ["10.0.0.0/8:5432", "127.0.0.1"]
    # The public address of this very host leads inside, too.
    own = [ipaddress.ip_address("93.184.216.34")]
    assert inward_entries(egress, own) == ["10.0.0.0/8:5432", "127.0.0.1", "93.184.216.34"]


def test_this_host_knows_its_own_addresses():
    assert ipaddress.ip_address("127.0.0.1") in own_addresses()


class Origin:
    """A server on loopback that answers as it is told and keeps what it was sent."""

    def __init__(self, reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"):
        self.reply = reply
        self.received = b""
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.received += await reader.readuntil(b"\r\n\r\n")
            writer.write(self.reply)
            await writer.drain()
            while data := await reader.read(65536):
                self.received += data
        writer.close()


@contextlib.asynccontextmanager
async def served(egress: Egress, tmp_path):
    proxy = EgressProxy()
    path = tmp_path / "out.sock"
    await proxy.serve_unix("box", egress, path)
    try:
        yield proxy, path
    finally:
        await proxy.close()


async def ask(path, request: bytes, *, end: bool = False) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    if end:
        writer.write_eof()
    async with asyncio.timeout(20):
        reply = await reader.read()
    writer.close()
    return reply


async def test_a_request_is_passed_on_without_what_is_between_hops(tmp_path):
    async with Origin() as origin, served(LOCAL, tmp_path) as (_, path):
        reply = await ask(
            path,
            f"GET http://127.0.0.1:{origin.port}/a?b=c#d HTTP/1.1\r\nHost: elsewhere\r\nProxy-Authorization: secret\r\n"
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\n".encode(),
        )
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        assert reply.endswith(b"Connection: close\r\n\r\nok")
        assert b"keep-alive" not in reply
        lines = origin.received.decode().split("\r\n")
        assert lines[:2] == ["GET /a?b=c HTTP/1.1", f"Host: 127.0.0.1:{origin.port}"]
        assert "x-kept: 2" in lines
        assert not [line for line in lines if "secret" in line or line.startswith("x-hop")]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_second_request_never_reaches_the_first_ones_server(tmp_path):
    async with Origin() as origin, served(LOCAL, tmp_path) as (_, path):
        first = f"POST http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        assert await ask(path, first.encode() + b"GET http://other/ HTTP/1.1\r\nAuthorization: other\r\n\r\n")
        assert origin.received.endswith(b"\r\n\r\nabc")


async def test_bodies_in_chunks_arrive_whole(tmp_path):
    async with Origin(b"") as origin, served(LOCAL, tmp_path) as (_, path):
        body = b"3\r\nabc\r\n5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"
        head = f"PUT http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(head + body)
        while not origin.received.endswith(b"Trailer: 1\r\n\r\n"):  # noqa: ASYNC110 - a plain attribute
            await asyncio.sleep(0.01)
        assert origin.received.endswith(b"\r\n\r\n" + body)
        writer.close()
        await writer.wait_closed()


async def test_a_tunnel_carries_both_ways_and_tells_of_each_end(tmp_path):
    async def echo(reader, writer):
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with served(LOCAL, tmp_path) as (_, path):
        reply = await ask(path, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello".encode(), end=True)
        assert reply == b"HTTP/1.1 200 Connection established\r\n\r\nHELLO"
    server.close()


@pytest.mark.parametrize("written", ["server.example", "Server.EXAMPLE", "server.example."])
async def test_a_name_may_be_written_in_any_way(tmp_path, monkeypatch, written):
    loop = asyncio.get_running_loop()
    really, dialled = loop.sock_connect, []

    async def connect(made, address):
        if isinstance(address, str):
            return await really(made, address)
        dialled.append(address)
        raise ConnectionRefusedError(111, "nobody is there")

    def look_up(name, port, **_):
        return (
            [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))] if name == "server.example" else []
        )

    monkeypatch.setattr(loop, "sock_connect", connect)
    async with served(Egress(["server.example"]), tmp_path) as (_, path):
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert b"nobody is there" in await ask(path, f"CONNECT {written}:443 HTTP/1.1\r\n\r\n".encode())
        assert dialled == [("93.184.216.34", 443)]
        monkeypatch.undo()
    async with served(Egress(None, ["server.example"]), tmp_path) as (_, path):
        assert b"is denied by this" in await ask(path, f"CONNECT {written}:443 HTTP/1.1\r\n\r\n".encode())


async def test_a_refusal_names_the_host_and_the_policy(tmp_path):
    async with Origin() as origin, served(Egress(), tmp_path) as (proxy, path):
        for request in (f"CONNECT 127.0.0.1:{origin.port}", f"GET http://127.0.0.1:{origin.port}/"):
            reply = (await ask(path, f"{request} HTTP/1.1\r\n\r\n".encode())).decode()
            assert reply.startswith("HTTP/1.1 403 Forbidden\r\n")
            assert f"127.0.0.1:{origin.port} lies on this host" in reply
            assert "egress policy" in reply
        # A name of this host's own is looked up, and found to lead here.
        assert b" 403 " in await ask(path, f"CONNECT localhost:{origin.port} HTTP/1.1\r\n\r\n".encode())
        assert origin.connections == 0
        proxy.set("box", LOCAL)
        assert b"200 OK" in await ask(path, f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\n\r\n".encode())
        proxy.set("box", Egress([]))
        assert b"allows no connection" in await ask(path, b"CONNECT example.org:443 HTTP/1.1\r\n\r\n")
        with pytest.raises(BadEntry):
            proxy.set("box", Egress(["a b"]))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET https://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"GET http://user@127.0.0.1\\@x/ HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:99999 HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"POST http://127.0.0.1/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST http://127.0.0.1/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST http://127.0.0.1/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_clear_request_is_refused(tmp_path, request_bytes):
    async with served(LOCAL, tmp_path) as (_, path):
        assert (await ask(path, request_bytes)).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))


async def test_connections_are_counted_and_end_with_the_sandbox(tmp_path, monkeypatch):
    monkeypatch.setattr(egress_module, "CONNECTIONS", 3)
    async with Origin(b"") as origin, served(LOCAL, tmp_path) as (proxy, path):
        request = f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\n\r\n".encode()
        held = []
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            held.append((reader, writer))
        assert (await ask(path, request)).startswith(b"HTTP/1.1 503 ")
        await proxy.end("box")
        for reader, writer in held:
            await reader.read()
            writer.close()
        with pytest.raises(OSError):
            await asyncio.open_unix_connection(path)


async def test_a_listener_that_somebody_else_broke_costs_nothing():
    """A socket that is shared with a sandbox can be shut down by it."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = EgressProxy()
    await proxy.serve("box", LOCAL, listener)
    listener.shutdown(socket.SHUT_RDWR)
    await asyncio.sleep(0.05)
    assert not asyncio.get_running_loop().remove_reader(listener)
    await proxy.close()


async def test_a_tcp_address_serves_as_well():
    proxy = EgressProxy()
    async with Origin() as origin:
        port = await proxy.serve_tcp("box", LOCAL, "127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\n\r\n".encode())
        assert (await reader.read()).endswith(b"ok")
        writer.close()
    await proxy.close()
