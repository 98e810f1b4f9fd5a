"""The inside of a sandbox through the Hub: commands as streams, files, uploads, and who may reach them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import tarfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prime_hub.frames import BadFrames, Decoder, encode
from tests.conftest import RunningHub, alive
from tests.hub.images import build, create


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    assert build(module_hub.api)["status"] == "COMPLETED"
    return module_hub


@pytest.fixture(scope="module")
def box(ready: RunningHub) -> dict[str, Any]:
    return create(ready.api)


class Inside:
    """Raw calls into one sandbox."""

    def __init__(self, auth: dict[str, Any], token: str | None = None) -> None:
        self.base = f"{auth['gateway_url']}/{auth['user_ns']}/{auth['job_id']}"
        headers = {"Authorization": f"Bearer {auth['token'] if token is None else token}"}
        self.http = httpx.Client(headers=headers, trust_env=False, timeout=60)

    def call(self, method: str, operation: str, status: int = 200, **options: Any) -> httpx.Response:
        answer = self.http.request(method, f"{self.base}/{operation}", **options)
        assert answer.status_code == status, answer.text
        return answer

    @contextlib.contextmanager
    def watch(self, method: str, operation: str, **options: Any) -> Iterator[Iterator[tuple[str, Any]]]:
        with self.http.stream(method, f"{self.base}/{operation}", **options) as answer:
            if answer.status_code != 200:
                answer.read()
            assert answer.status_code == 200, answer.text
            yield frames(answer)

    def run(self, line: str, **more: Any) -> contextlib.AbstractContextManager[Iterator[tuple[str, Any]]]:
        return self.watch("POST", "commands", json={"argv": ["/bin/bash", "-c", line], **more})


def frames(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    decoder = Decoder()
    for data in answer.iter_raw():
        for kind, payload in decoder.feed(data):
            yield kind.decode(), json.loads(payload) if kind in (b"s", b"x") else payload


@pytest.fixture
def inside(box: dict[str, Any]) -> Iterator[Inside]:
    made = Inside(box["gatewayAuth"])
    yield made
    made.http.close()


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_frames_in_pieces_of_any_size() -> None:
    stream = encode(b"s", b"{}") + encode(b"k") + encode(b"o", bytes(range(256))) + encode(b"x", b"{}")
    for size in (1, 2, 3, 7, 300, len(stream)):
        decoder = Decoder()
        pieces = (stream[at : at + size] for at in range(0, len(stream), size))
        found = [frame for piece in pieces for frame in decoder.feed(piece)]
        assert found == [(b"s", b"{}"), (b"k", b""), (b"o", bytes(range(256))), (b"x", b"{}")]
    for wrong in (b"z\0\0\0\0", b"o\xff\xff\xff\xff", b"HTTP/1.1 502"):
        with pytest.raises(BadFrames):
            list(Decoder().feed(wrong))


def test_a_command_with_input(inside: Inside) -> None:
    with inside.run("read a; echo out $a; echo err >&2; cat; exit 3", key="one", stdin=True, env={"B": "1"}) as told:
        kind, start = next(told)
        assert (kind, start["key"]) == ("s", "one") and start["pid"] > 0
        inside.call("POST", "commands/one/stdin", content=b"line\n")
        assert next(told) == ("o", b"out line\n") and next(told) == ("e", b"err\n")
        for _ in range(2):
            inside.call("POST", "commands/one/stdin", params={"id": "x"}, content=b"once\n")
        inside.call("POST", "commands/one/stdin", params={"eof": 1})
        assert list(told) == [("o", b"once\n"), ("x", {"exit_code": 3})]
    with inside.watch("GET", "commands/one") as told:
        assert list(told) == [("s", start), ("x", {"exit_code": 3})]


def test_control_of_a_command(inside: Inside) -> None:
    with inside.run("trap 'stty size; exit 7' TERM; stty size; read x", key="tty", pty=[9, 8]) as t:
        assert next(t)[0] == "s" and next(t) == ("o", b"9 8\r\n")
        listed = inside.call("GET", "commands").json()["commands"]
        assert [item["running"] for item in listed if item["key"] == "tty"] == [True]
        inside.call("POST", "commands/tty/resize", json={"rows": 20, "columns": 30})
        inside.call("POST", "commands/tty/signal", json={"signal": 15}, params={"id": "s1"})
        assert list(t) == [("o", b"20 30\r\n"), ("x", {"exit_code": 7})]
    with inside.run("sleep 1000", key="killed", linger=60) as told:
        pid = next(told)[1]["pid"]
        assert inside.call("DELETE", "commands/killed").json()["end"]["error"] == "cancelled"
        assert not alive(pid)


def test_a_client_that_goes_ends_its_command(inside: Inside) -> None:
    with inside.run("sleep 1000") as told:
        pid = next(told)[1]["pid"]
    until_gone(pid)
    with pytest.raises(httpx.ReadTimeout):
        inside.call("POST", "exec", json={"command": "echo $$ > /tmp/pid; sleep 1000"}, timeout=1)
    until_gone(int(inside.call("GET", "files", params={"path": "/tmp/pid"}).text))


def test_a_slow_client_slows_the_command_and_fills_no_memory(ready: RunningHub, inside: Inside) -> None:
    hub, runner = ready.address["pid"], ready.runner_pid
    assert runner is not None
    with inside.run("head -c 200000000 /dev/zero; echo all >&2") as told:
        next(told)
        before = resident(hub), resident(runner)
        time.sleep(1)
        size = sum(len(payload) for kind, payload in told if kind == "o")
        after = resident(hub), resident(runner)
    assert size == 200_000_000
    assert after[0] - before[0] < 50 << 20 and after[1] - before[1] < 50 << 20


def test_input_without_end_is_taken_as_fast_as_it_is_read(ready: RunningHub, inside: Inside) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(1 << 18)

    before = resident(ready.address["pid"])
    with inside.run("sleep 1000", key="deaf", stdin=True) as told:
        next(told)
        with pytest.raises(httpx.WriteTimeout):
            inside.call("POST", "commands/deaf/stdin", content=endless(), timeout=1)
        with inside.run("sleep 0.5; head -c 50000000 > /tmp/taken", key="hearing", stdin=True) as other:
            next(other)
            answer = inside.http.post(
                f"{inside.base}/commands/hearing/stdin", content=(bytes(1 << 18) for _ in range(400))
            )
            assert answer.status_code == 422 and answer.json()["error"] == "exec_failed", answer.text
            assert list(other) == [("x", {"exit_code": 0})]
    assert inside.call("GET", "files/stat", params={"path": "/tmp/taken"}).json()["size"] == 50_000_000
    assert resident(ready.address["pid"]) - before < 50 << 20


def test_files_and_folders(inside: Inside) -> None:
    inside.call("PUT", "files", params={"path": "/app/f/run.sh", "mode": "700"}, content=b"#!/bin/sh\necho ran\n")
    assert inside.call("GET", "files/stat", params={"path": "/app/f/run.sh"}).json()["mode"] == 0o700
    inside.call("POST", "files/folder", params={"path": "/app/f/inner"})
    entries = inside.call("GET", "files/entries", params={"path": "/app/f"}).json()["entries"]
    assert [entry["kind"] for entry in entries] == ["folder", "file"]
    window = inside.call("GET", "files", params={"path": "/app/f/run.sh", "offset": -4, "length": 3})
    assert (
        window.content == b"ran" and window.headers["x-file-size"] == "19" and window.headers["x-file-offset"] == "15"
    )
    archive = inside.call("GET", "files/tree", params={"path": "/app/f"})
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        assert sorted(tar.getnames()) == ["inner", "run.sh"]
    inside.call("PUT", "files/tree", params={"path": "/app/g"}, content=archive.content)
    assert inside.call("POST", "exec", json={"command": "/app/g/run.sh"}).json()["stdout"] == "ran\n"
    inside.call("DELETE", "files", params={"path": "/app/g"})
    for operation in ("files", "files/stat", "files/entries", "files/tree", "download", "read-file"):
        missing = inside.call("GET", operation, 404, params={"path": "/app/g"})
        assert missing.json()["error"] == "file_not_found" and "/app/g" in missing.json()["detail"]
    whole = bytes(range(256)) * 100_000
    inside.call("PUT", "files", params={"path": "/app/whole"}, content=iter([whole]))
    assert inside.call("GET", "files", params={"path": "/app/whole"}).content == whole
    inside.call("PUT", "files", 422, params={"path": "/app/whole", "mode": "999"}, content=b"")


def form(*parts: tuple[str, bytes], end: bool = True) -> dict[str, Any]:
    body = b"".join(
        b"--b\r\nContent-Disposition: " + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts
    )
    return {
        "content": body + (b"--b--\r\n" if end else b""),
        "headers": {"Content-Type": "multipart/form-data; boundary=b"},
    }


FILE = 'form-data; name="file"; filename="x"'


def test_uploads(inside: Inside) -> None:
    data = b"--b\r\nnot a boundary\r\n--" * 1000
    several = form(('form-data; name="other"', b"field"), (FILE, data), (FILE, b"second"), ('form-data; name="z"', b""))
    told = inside.call("POST", "upload", params={"path": "/app/up"}, **several).json()
    assert told["size"] == len(data) and told["success"] is True
    assert inside.call("GET", "download", params={"path": "/app/up"}).content == data
    for wrong, status in (
        (form(('form-data; name="other"', b"x")), 422),
        (form((FILE, b"x" * 100), end=False), 400),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422),
        ({"content": b"nothing of a form", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 422),
        (form((f"{FILE}\r\nX-Long: {'x' * 20000}", b"x")), 400),
    ):
        refused = inside.call("POST", "upload", status, params={"path": "/app/wrong"}, **wrong)
        assert refused.json()["detail"]
    inside.call("GET", "files/stat", 404, params={"path": "/app/wrong"})
    left = inside.call("GET", "files/entries", params={"path": "/app"}).json()["entries"]
    assert not [entry for entry in left if entry["path"].endswith(".part")], left


def test_an_upload_that_is_cut_off_leaves_nothing(box: dict[str, Any], inside: Inside) -> None:
    url = httpx.URL(f"{inside.base}/files?path=/app/cut")
    with socket.create_connection((url.host, url.port)) as connection:
        head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        token = box["gatewayAuth"]["token"]
        connection.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode() + bytes(1000))
        deadline = time.monotonic() + 30
        while not parts_in(inside):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    deadline = time.monotonic() + 30
    while parts_in(inside):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    inside.call("GET", "files/stat", 404, params={"path": "/app/cut"})


def parts_in(inside: Inside) -> list[str]:
    rows = inside.call("GET", "files/entries", params={"path": "/app"}).json()["entries"]
    return [row["path"] for row in rows if row["path"].endswith(".part")]


def test_a_file_beyond_the_limit_is_refused_at_once(inside: Inside) -> None:
    url = httpx.URL(inside.base)
    for operation in ("upload", "files", "files/tree"):
        method = "POST" if operation == "upload" else "PUT"
        with socket.create_connection((url.host, url.port)) as connection:
            connection.sendall(
                f"{method} {url.path}/{operation}?path=/x HTTP/1.1\r\nHost: x\r\nContent-Length: {2 << 40}\r\n\r\n".encode()
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


OPERATIONS = [
    *(("POST", "exec"), ("POST", "upload"), ("GET", "download"), ("GET", "read-file"), ("GET", "files")),
    *(("PUT", "files"), ("DELETE", "files"), ("GET", "files/stat"), ("GET", "files/entries"), ("POST", "files/folder")),
    *(("GET", "files/tree"), ("PUT", "files/tree"), ("POST", "commands"), ("GET", "commands"), ("GET", "commands/k")),
    *(("DELETE", "commands/k"), ("POST", "commands/k/stdin"), ("POST", "commands/k/signal")),
    ("POST", "commands/k/resize"),
]


def test_every_route_is_for_the_sandboxs_own_token(ready: RunningHub, box: dict[str, Any]) -> None:
    other = ready.api.post("/sandbox", json={"name": "o", "docker_image": "tiny"}).json()
    auth = box["gatewayAuth"]
    body = {"command": "true", "argv": ["true"], "signal": 9, "rows": 1, "columns": 1}

    def options(method: str) -> dict[str, Any]:
        return {"params": {"path": "/app"}, **({"json": body} if method == "POST" else {})}

    for token in ("x", ready.token, other["gatewayAuth"]["token"], auth["token"][:-1] + "~"):
        stranger = Inside(auth, token)
        with stranger.http as http:
            for method, operation in OPERATIONS:
                refused = http.request(method, f"{stranger.base}/{operation}", **options(method))
                assert refused.status_code == 401, (operation, token, refused.text)
                assert refused.json()["detail"].startswith("The sandbox's token")
    ready.api.delete(f"/sandbox/{other['id']}")
    late = Inside(other["gatewayAuth"])
    for method, operation in OPERATIONS:
        ended = late.http.request(method, f"{late.base}/{operation}", **options(method))
        # An upload that is no form is refused for that.
        assert ended.status_code == (422 if operation == "upload" else 502), (operation, ended.text)
        assert operation == "upload" or ended.json()["error"] == "sandbox_not_found"
    late.http.close()


def test_what_a_route_puts_into_the_runners_address_is_checked(inside: Inside) -> None:
    for key in ("..%2f..%2finfo", "%2e%2e", "a%3fb", "a%23b", "x" * 101, "a%0d%0ab"):
        answer = inside.http.get(f"{inside.base}/commands/{key}")
        assert answer.status_code in (400, 404) and "runner" not in answer.text, key
    for key in ("../../x", "a/b", "", "a b"):
        refused = inside.call("POST", "commands", 422, json={"argv": ["true"], "key": key})
        assert refused.json()["error"] == "bad_request"
    assert inside.call("POST", "commands", 400, content=b"{").json()["detail"] == "The body is not JSON."


def test_a_hub_that_is_killed_ends_plain_commands_and_leaves_the_others(hub: RunningHub) -> None:
    build(hub.api)
    inside = Inside(create(hub.api)["gatewayAuth"])
    key = uuid.uuid4().hex
    with contextlib.suppress(httpx.TransportError), inside.run("sleep 1000") as plain:
        pid = next(plain)[1]["pid"]
        with (
            contextlib.suppress(httpx.TransportError),
            inside.run("read a; echo $a", key=key, stdin=True, linger=60) as t,
        ):
            next(t)
            hub.close_clients()
            hub.kill()
            list(t)
    until_gone(pid)
    hub.start()
    hub.wait_for_runner()
    inside.call("POST", f"commands/{key}/stdin", content=b"still here\n")
    with inside.watch("GET", f"commands/{key}") as told:
        assert list(told)[1:] == [("o", b"still here\n"), ("x", {"exit_code": 0})]
    inside.http.close()


def test_a_runner_that_is_killed_breaks_streams_off_with_an_error(hub: RunningHub) -> None:
    build(hub.api)
    inside = Inside(create(hub.api)["gatewayAuth"])
    with inside.run("echo up; sleep 1000") as told:
        assert next(told)[0] == "s" and next(told) == ("o", b"up\n")
        runner = hub.runner_pid
        assert runner is not None
        os.kill(runner, 9)
        with pytest.raises(httpx.RemoteProtocolError):
            list(told)
    inside.http.close()
