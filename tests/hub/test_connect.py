"""Commands by Connect RPC, from the bytes up: what a client may send, and what one sends that means harm."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import struct
import time
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from prime_hub.api import connect_codec as codec
from prime_hub.api.connect_codec import Control, Malformed, Start, bytes_field, fields, number_field
from tests.conftest import RunningHub, alive
from tests.hub.images import build, create

SERVICE = "command_session.CommandSession"


def start_request(*argv: str, session: str | None = None, stdin: bool = False, **more: str) -> bytes:
    command = bytes_field(1, argv[0].encode()) + b"".join(bytes_field(2, word.encode()) for word in argv[1:])
    for name, value in more.pop("env", {}).items() if "env" in more else ():
        command += bytes_field(3, bytes_field(1, name.encode()) + bytes_field(2, value.encode()))
    for number, name in ((4, "cwd"), (5, "user")):
        if name in more:
            command += bytes_field(number, more[name].encode())
    out = bytes_field(1, command)
    if stdin:
        out += number_field(4, 1)
    return out + (bytes_field(5, session.encode()) if session else b"")


def shell(line: str, **more: Any) -> bytes:
    return start_request("/bin/bash", "-c", line, **more)


def by_session(session: str, number: int = 1) -> bytes:
    return bytes_field(number, bytes_field(3, session.encode()))


class Events:
    """What a stream told: `pid`, output by kind, the exit code, the last envelope's error."""

    def __init__(self, body: bytes = b"") -> None:
        self.pid: int | None = None
        self.out: dict[int, bytes] = {1: b"", 2: b"", 3: b""}
        self.code: int | None = None
        self.end: dict[str, Any] | None = None
        self._rest = b""
        self.feed(body)

    def feed(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 5:
            flags, size = struct.unpack_from(">BI", self._rest)
            if len(self._rest) < 5 + size:
                return
            payload, self._rest = self._rest[5 : 5 + size], self._rest[5 + size :]
            assert self.end is None, "nothing comes after the end"
            if flags == codec.END_OF_STREAM:
                self.end = json.loads(payload)
                continue
            assert flags == 0
            ((number, event),) = fields(payload)
            assert number == 1 and isinstance(event, bytes)
            ((kind, value),) = fields(event)
            assert isinstance(value, bytes)
            found = dict(fields(value))
            if kind == 1:
                self.pid = int(found[1])
            elif kind == 2:
                ((stream, output),) = found.items()
                self.out[stream] += bytes(output)
            elif kind == 3:
                zigzag = int(found[1])
                self.code = zigzag >> 1 ^ -(zigzag & 1)
                assert found[2] == 1 and found[3]

    @property
    def error(self) -> str | None:
        return None if self.end is None else self.end.get("error", {}).get("code")


class Rpc:
    """Raw calls of the service."""

    def __init__(self, auth: dict[str, Any], token: str | None = None) -> None:
        self.base = f"{auth['gateway_url']}/{auth['user_ns']}/{auth['job_id']}/{SERVICE}"
        self.headers = {"Authorization": f"Bearer {token or auth['token']}", "Connect-Protocol-Version": "1"}
        self.http = httpx.Client(trust_env=False, timeout=60)

    def stream(self, method: str, message: bytes, *, raw: bool = False, **headers: str) -> Events:
        with self.open(method, message, raw=raw, **headers) as answer:
            return Events(answer.read())

    @contextlib.contextmanager
    def open(self, method: str, message: bytes, *, raw: bool = False, **headers: str) -> Iterator[httpx.Response]:
        sent = {**self.headers, "Content-Type": "application/connect+proto"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = message if raw else codec.envelope(message)
        with self.http.stream("POST", f"{self.base}/{method}", content=body, headers=sent) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"] == "application/connect+proto"
            yield answer

    def unary(self, method: str, message: bytes, **headers: str) -> httpx.Response:
        sent = {**self.headers, "Content-Type": "application/proto"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(f"{self.base}/{method}", content=message, headers=sent)


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


@pytest.fixture(scope="module")
def box(ready: RunningHub) -> dict[str, Any]:
    return create(ready.api, environment_vars={"GREETING": "hi"})


@pytest.fixture
def rpc(box: dict[str, Any]) -> Iterator[Rpc]:
    made = Rpc(box["gatewayAuth"])
    yield made
    made.http.close()


def until_gone(pid: int | None) -> None:
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until(events: Events, parts: Iterator[bytes], words: bytes) -> None:
    while words not in events.out[1] + events.out[3]:
        events.feed(next(parts))


def test_a_command(rpc: Rpc) -> None:
    told = rpc.stream("Start", shell('echo "$GREETING $A"; pwd; echo wrong >&2; exit 9', env={"A": "é"}, cwd="/app"))
    assert told.pid and told.out[1].startswith("hi é\n".encode()) and told.out[1].endswith(b"/app\n")
    assert told.out[2] == b"wrong\n" and told.code == 9 and told.end == {}
    killed = rpc.stream("Start", shell("kill -TERM $$"))
    assert killed.code == 143
    large = rpc.stream("Start", shell("head -c 5000000 /dev/zero"))
    assert large.out[1] == bytes(5_000_000) and large.code == 0


def test_compressed_requests(rpc: Rpc) -> None:
    message = gzip.compress(shell("echo plain"))
    told = rpc.stream("Start", codec.envelope(message, 1), raw=True, Connect_Content_Encoding="gzip")
    assert told.out[1] == b"plain\n"
    session = uuid.uuid4().hex
    with rpc.open("Start", shell("read a; echo $a", session=session, stdin=True)) as answer:
        sent = gzip.compress(by_session(session) + bytes_field(2, bytes_field(1, b"word\n")))
        assert rpc.unary("SendInput", sent, Content_Encoding="gzip").status_code == 200
        assert Events(answer.read()).out[1] == b"word\n"


def test_time_runs_out(rpc: Rpc) -> None:
    told = rpc.stream("Start", shell("echo before; sleep 1000"), Connect_Timeout_Ms="500")
    assert told.out[1] == b"before\n" and told.code is None and told.error == "deadline_exceeded"
    assert not alive(told.pid)


def test_a_client_that_goes(rpc: Rpc) -> None:
    plain, kept, session = Events(), Events(), uuid.uuid4().hex
    with rpc.open("Start", shell("echo up; sleep 1000")) as answer:
        until(plain, answer.iter_raw(), b"up")
    until_gone(plain.pid)
    with rpc.open("Start", shell("echo up; read a; exit 4", session=session, stdin=True)) as answer:
        until(kept, answer.iter_raw(), b"up")
    assert alive(kept.pid)
    with rpc.open("Connect", by_session(session)) as answer:
        rpc.unary("SendInput", by_session(session) + bytes_field(2, bytes_field(1, b"\n")))
        again = Events(answer.read())
    assert again.pid == kept.pid and again.code == 4 and again.end == {}
    late = rpc.stream("Connect", by_session(session))
    assert (late.pid, late.code, late.end) == (kept.pid, 4, {})


def test_what_is_sent_twice_is_done_once(rpc: Rpc) -> None:
    session = uuid.uuid4().hex
    request = shell("trap 'echo asked' TERM; echo up; cat; echo over", session=session, stdin=True)
    first, second = Events(), Events()
    with rpc.open("Start", request) as one, rpc.open("Start", request) as two:
        parts = one.iter_raw()
        until(first, parts, b"up")
        others = two.iter_raw()
        while second.pid is None:
            second.feed(next(others))
        assert first.pid == second.pid
        told = by_session(session) + bytes_field(2, bytes_field(1, b"once\n")) + bytes_field(3, b"input-1")
        for _ in range(3):
            assert rpc.unary("SendInput", told).content == b""
        until(first, parts, b"once")
        for _ in range(3):
            sent = by_session(session) + number_field(2, 9) + bytes_field(3, b"signal-1")
            assert rpc.unary("SendSignal", sent).status_code == 200
        for part in parts:
            first.feed(part)
        for part in others:
            second.feed(part)
    assert first.out[1] == b"up\nonce\n" and first.code == second.code == 137


def test_by_process_number_and_in_lists(rpc: Rpc) -> None:
    session, told = uuid.uuid4().hex, Events()
    with rpc.open("Start", shell("echo up; sleep 1000", session=session)) as answer:
        parts = answer.iter_raw()
        until(told, parts, b"up")
        assert told.pid is not None
        listed = rpc.unary("List", b"")
        rows = [dict(fields(bytes(row))) for _, row in fields(listed.content)]
        mine = next(row for row in rows if row[4] == session.encode())
        assert mine[2] == told.pid and dict(fields(mine[1]))[1] == b"/bin/bash"
        sent = bytes_field(1, number_field(1, told.pid)) + number_field(2, 15)
        assert rpc.unary("SendSignal", sent).status_code == 200
        for part in parts:
            told.feed(part)
    assert told.code == 143
    gone = rpc.unary("SendSignal", bytes_field(1, number_field(1, 999999999)) + number_field(2, 15))
    assert gone.status_code == 404 and gone.json()["code"] == "not_found"


def test_a_terminal(rpc: Rpc) -> None:
    size = bytes_field(2, bytes_field(1, number_field(1, 33) + number_field(2, 11)))
    told = rpc.stream("Start", shell("stty size") + size)
    assert told.out[3] == b"11 33\r\n" and told.code == 0


def test_refusals(ready: RunningHub, box: dict[str, Any], rpc: Rpc) -> None:
    other = ready.api.post("/sandbox", json={"name": "o", "docker_image": "tiny"}).json()
    for token in ("x", ready.token, other["gatewayAuth"]["token"]):
        stranger = Rpc(box["gatewayAuth"], token)
        assert stranger.stream("Start", shell("true")).error == "unauthenticated"
        assert stranger.stream("Connect", by_session("x")).error == "unauthenticated"
        refused = stranger.unary("SendInput", by_session("x"))
        assert refused.status_code == 401 and refused.json()["code"] == "unauthenticated"
        assert stranger.unary("List", b"").status_code == 401
        stranger.http.close()
    ready.api.delete(f"/sandbox/{other['id']}")
    late = Rpc(other["gatewayAuth"])
    assert late.stream("Start", shell("true")).error == "not_found"
    late.http.close()
    for message, code in (
        (start_request("/no/such/program"), "invalid_argument"),
        (shell("true", cwd="/no/such"), "invalid_argument"),
        (shell("true", user="no-such-user"), "invalid_argument"),
        (shell("true", session="../../x"), "invalid_argument"),
        (b"", "invalid_argument"),
        (b"\x0a\xff", "invalid_argument"),
    ):
        told = rpc.stream("Start", message)
        assert told.error == code and told.end is not None and told.end["error"]["message"], message
    assert rpc.stream("Connect", by_session("unknown")).error == "not_found"
    assert rpc.stream("Start", shell("true"), Connect_Timeout_Ms="soon").error == "invalid_argument"
    assert rpc.stream("Start", shell("true"), Connect_Timeout_Ms="1" * 11).error == "invalid_argument"
    assert rpc.unary("SendInput", b"\x08").json()["code"] == "invalid_argument"
    assert rpc.unary("Update", b"").status_code == 404
    for kind in ("application/json", "application/connect+json", ""):
        headers = {**rpc.headers, "Content-Type": kind}
        assert rpc.http.post(f"{rpc.base}/Start", content=b"{}", headers=headers).status_code == 415
        assert rpc.http.post(f"{rpc.base}/List", content=b"{}", headers=headers).status_code == 415


BOMB = gzip.compress(bytes(200 << 20), 9)


@pytest.mark.parametrize(
    ("body", "encoding", "code"),
    [
        (b"", "", "invalid_argument"),
        (b"\0\0\0", "", "invalid_argument"),
        (b"\0\0\0\0\x05abc", "", "invalid_argument"),
        (codec.envelope(b"") + b"more", "", "invalid_argument"),
        (codec.envelope(b"") * 2, "", "invalid_argument"),
        (b"\x00\xff\xff\xff\xff", "", "resource_exhausted"),
        (codec.envelope(b"", 0x02), "", "invalid_argument"),
        (codec.envelope(b"", 0x80), "", "invalid_argument"),
        (codec.envelope(b"not gzip", 1), "gzip", "invalid_argument"),
        (codec.envelope(gzip.compress(b"x" * 1000, mtime=0)[:-9], 1), "gzip", "invalid_argument"),
        (codec.envelope(b"x", 1), "br", "unimplemented"),
        (codec.envelope(BOMB, 1), "gzip", "resource_exhausted"),
        (codec.envelope(b"\x1a\x00" * 100_000), "", "resource_exhausted"),
    ],
)
def test_envelopes_that_are_none(rpc: Rpc, body: bytes, encoding: str, code: str) -> None:
    assert rpc.stream("Start", body, raw=True, Connect_Content_Encoding=encoding).error == code


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05ab",
        b"\x08",
        b"\x08" + b"\xff" * 11,
        b"\x00\x01",
        b"\x0b",
        b"\x0c",
        b"\x0d\x00",
        b"\x09" + bytes(7),
        b"\x0f",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_messages_that_are_none(message: bytes) -> None:
    with pytest.raises(Malformed):
        list(fields(message))
    with pytest.raises(Malformed):
        Start.read(message)
    with pytest.raises(Malformed):
        Control.read(message)


def test_messages_of_newer_clients_are_understood() -> None:
    unknown = number_field(99, 2**63) + bytes_field(100, b"x" * 300) + b"\xad\x06abcd" + b"\xa9\x06abcdefgh"
    command = bytes_field(1, b"ls") + unknown + bytes_field(2, b"-l") + unknown
    found = Start.read(unknown + bytes_field(1, command) + unknown + bytes_field(5, b"s") + unknown)
    assert (found.argv, found.session, found.stdin) == (["ls", "-l"], "s", False)
    assert Start.read(bytes_field(1, bytes_field(1, b"a")) + number_field(4, 0)).stdin is False
    for wrong in (number_field(1, 5), bytes_field(5, b"\xff"), bytes_field(1, number_field(1, 1)), bytes_field(4, b"")):
        with pytest.raises(Malformed):
            Start.read(wrong)
    control = Control.read(bytes_field(1, number_field(1, 7)) + bytes_field(2, bytes_field(2, b"tty")))
    assert (control.selector.pid, control.data) == (7, b"tty")


def test_exit_codes_are_written_in_zigzag() -> None:
    for code in (0, 1, 137, 255, -1, -9, 2**31 - 1, -(2**31)):
        assert Events(codec.ended(code)).code == code


def test_a_small_bomb_is_not_unpacked() -> None:
    data = zlib.compress(bytes(100 << 20), 9, wbits=31)
    with pytest.raises(Malformed, match="bytes"):
        codec.unpacked(data, "gzip")


async def test_thousands_of_sessions_are_bounded(ready: RunningHub) -> None:
    box = create(ready.api)
    rpc = Rpc(box["gatewayAuth"])
    headers = {**rpc.headers, "Content-Type": "application/connect+proto"}
    held: list[httpx.Response] = []
    refused = 0
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60, limits=limits))

        async def begin(number: int) -> None:
            nonlocal refused
            message = codec.envelope(shell("echo up; sleep 1000", session=f"s{number}"))
            request = http.build_request("POST", f"{rpc.base}/Start", content=message, headers=headers)
            answer = await http.send(request, stream=True)
            stack.push_async_callback(answer.aclose)
            told = Events()
            async for part in answer.aiter_raw():
                told.feed(part)
                if told.pid is not None:
                    held.append(answer)
                    return
            assert told.error == "resource_exhausted", told.end
            refused += 1

        for first in range(0, 400, 40):
            await asyncio.gather(*(begin(number) for number in range(first, first + 40)))
        assert len(held) + refused == 400 and 16 <= len(held) <= 256
        # The neighbours are not in want of it.
        assert ready.api.get(f"/sandbox/{box['id']}").json()["status"] == "RUNNING"
    for number in range(len(held)):
        rpc.unary("SendSignal", by_session(f"s{number}") + number_field(2, 9))
    ready.api.delete(f"/sandbox/{box['id']}")
    rpc.http.close()
