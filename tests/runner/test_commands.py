"""Commands and files over the runner's own routes: streams, input, ends, bounds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from prime_hub.frames import Decoder
from tests.conftest import alive
from tests.runner.conftest import Runner

Frame = tuple[str, Any]


@pytest.fixture(scope="module")
def box(shared: Runner) -> str:
    state = shared.sandbox(shared.server_image())
    assert state["status"] == "running", state
    return state["id"]


class Watching:
    """An open stream of one command."""

    def __init__(self, runner: Runner, method: str, path: str, content: dict | None = None) -> None:
        transport = httpx.HTTPTransport(uds=runner.about()["socket"])
        self._http = httpx.Client(transport=transport, base_url="http://runner", timeout=60)
        self.answer = self._http.send(self._http.build_request(method, path, json=content), stream=True)
        self._decoder = Decoder()
        self._frames = self._read() if self.answer.status_code == 200 else iter(())

    def _read(self) -> Iterator[Frame]:
        for data in self.answer.iter_raw():
            for kind, payload in self._decoder.feed(data):
                yield kind.decode(), json.loads(payload) if kind in (b"s", b"x") else payload

    def next(self) -> Frame:
        return next(self._frames)

    def rest(self) -> tuple[bytes, bytes, dict]:
        """What is printed until the end: (stdout, stderr, the end)."""
        out, err, end = bytearray(), bytearray(), None
        for kind, payload in self._frames:
            assert end is None
            if kind == "o":
                out += payload
            elif kind == "e":
                err += payload
            elif kind == "x":
                end = payload
        assert end is not None
        return bytes(out), bytes(err), end

    def until(self, words: bytes) -> None:
        seen = b""
        while words not in seen:
            kind, payload = self.next()
            if kind == "o":
                seen += payload

    def close(self) -> None:
        self.answer.close()
        self._http.close()


@contextlib.contextmanager
def command(runner: Runner, box: str, line: str, **fields: Any) -> Iterator[Watching]:
    body = {"argv": ["/bin/bash", "-c", line], **fields}
    watching = Watching(runner, "POST", f"/sandboxes/{box}/commands", body)
    try:
        if watching.answer.status_code != 200:
            watching.answer.read()
        assert watching.answer.status_code == 200, watching.answer.text
        yield watching
    finally:
        watching.close()


@contextlib.contextmanager
def attached(runner: Runner, box: str, key: str) -> Iterator[Watching]:
    watching = Watching(runner, "GET", f"/sandboxes/{box}/commands/{key}")
    try:
        yield watching
    finally:
        watching.close()


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_ended(runner: Runner, box: str, key: str) -> None:
    deadline = time.monotonic() + 30
    while any(
        item["running"] for item in runner.call("GET", f"/sandboxes/{box}/commands")["commands"] if item["key"] == key
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_left(runner: Runner, box: str, key: str) -> None:
    deadline = time.monotonic() + 30
    while any(
        item["watchers"] for item in runner.call("GET", f"/sandboxes/{box}/commands")["commands"] if item["key"] == key
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_start_the_output_and_an_end(shared: Runner, box: str) -> None:
    with command(shared, box, "echo out; echo err >&2; echo $A; pwd; exit 3", env={"A": "é"}) as watching:
        kind, start = watching.next()
        assert kind == "s" and start["pid"] > 0 and start["key"]
        out, err, end = watching.rest()
    lines = out.decode().splitlines()
    assert lines[:2] == ["out", "é"] and lines[2].endswith("/app")
    assert err == b"err\n" and end == {"exit_code": 3}


def test_a_signal_of_its_own_is_an_exit_code(shared: Runner, box: str) -> None:
    with command(shared, box, "kill -9 $$") as watching:
        watching.next()
        assert watching.rest() == (b"", b"", {"exit_code": 137})


def test_input_signals_and_a_terminal(shared: Runner, box: str) -> None:
    path = f"/sandboxes/{box}/commands"
    with command(shared, box, "cat; echo over", stdin=True, key="cat") as watching:
        watching.next()
        for name in ("1", "1", "2"):
            shared.call("POST", f"{path}/cat/stdin?id={name}", content=f"line {name}\n")
        shared.call("POST", f"{path}/cat/stdin?eof=1", content="last\n")
        assert watching.rest() == (b"line 1\nline 2\nlast\nover\n", b"", {"exit_code": 0})
    line = "trap 'echo got it; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    with command(shared, box, line, key="trap") as watching:
        watching.until(b"ready")
        shared.call("POST", f"{path}/trap/signal", json={"signal": 15})
        assert watching.rest()[::2] == (b"got it\n", {"exit_code": 4})
    with command(shared, box, "stty size; read x; stty size", pty=[24, 80], stdin=True, key="pty") as watching:
        watching.until(b"24 80")
        shared.call("POST", f"{path}/pty/resize", json={"rows": 30, "columns": 100})
        shared.call("POST", f"{path}/pty/stdin", content="\n")
        assert b"30 100" in watching.rest()[0]


def test_the_same_key_attaches_and_never_starts_again(shared: Runner, box: str) -> None:
    key = uuid.uuid4().hex
    line = f"echo started >> /tmp/{key}; echo ready; read x; echo $x"
    with command(shared, box, line, stdin=True, key=key) as first:
        first.until(b"ready")
        with command(shared, box, line, stdin=True, key=key) as second, attached(shared, box, key) as third:
            starts = [watching.next() for watching in (second, third)]
            assert starts[0] == starts[1] and starts[0][1]["key"] == key
            shared.call("POST", f"/sandboxes/{box}/commands/{key}/stdin", content="word\n")
            for watching in (first, second, third):
                assert watching.rest() == (b"word\n", b"", {"exit_code": 0})
    with command(shared, box, line, stdin=True, key=key) as after:
        assert after.next()[0] == "s" and after.rest() == (b"", b"", {"exit_code": 0})
    assert shared.exec(box, f"cat /tmp/{key}")["stdout"] == "started\n"


def test_many_at_once_with_one_key_start_one(shared: Runner, box: str) -> None:
    key = uuid.uuid4().hex
    pids = []

    def run() -> None:
        with command(shared, box, f"echo x >> /tmp/{key}; sleep 0.3", key=key) as watching:
            pids.append(watching.next()[1]["pid"])
            watching.rest()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 8 and len(set(pids)) == 1
    assert shared.exec(box, f"cat /tmp/{key}")["stdout"] == "x\n"


def test_a_client_that_goes_takes_its_command_with_it(shared: Runner, box: str) -> None:
    with command(shared, box, "sleep 1000 & echo $!; setsid sleep 1000; echo x") as watching:
        pid = watching.next()[1]["pid"]
        child = int(watching.next()[1])
    until_gone(pid)
    until_gone(child)


def test_a_command_may_outlive_its_client_for_a_while(shared: Runner, box: str) -> None:
    key = uuid.uuid4().hex
    with command(shared, box, "echo ready; read x; echo $x", stdin=True, key=key, linger=30) as watching:
        watching.until(b"ready")
    with attached(shared, box, key) as again:
        assert again.next()[0] == "s"
        shared.call("POST", f"/sandboxes/{box}/commands/{key}/stdin", content="word\n")
        assert again.rest() == (b"word\n", b"", {"exit_code": 0})
    key = uuid.uuid4().hex
    with command(shared, box, "sleep 1000", key=key, linger=0.2) as watching:
        pid = watching.next()[1]["pid"]
    until_gone(pid)
    with attached(shared, box, key) as late:
        assert late.next()[0] == "s" and late.rest()[2]["error"] == "cancelled"


def test_output_that_nobody_reads_holds_nothing_up(shared: Runner, box: str) -> None:
    key = uuid.uuid4().hex
    line = "echo ready; head -c 20000000 /dev/zero; echo last; exit 5"
    with command(shared, box, line, key=key, linger=60) as watching:
        watching.until(b"ready")
    until_ended(shared, box, key)
    with attached(shared, box, key) as late:
        assert late.next()[0] == "s"
        out, _, end = late.rest()
    assert end == {"exit_code": 5} and out.endswith(b"\0last\n") and len(out) <= 1 << 18
    with attached(shared, box, key) as later:
        assert later.next()[0] == "s" and later.rest() == (b"", b"", {"exit_code": 5})


def test_what_is_printed_between_two_clients_is_not_lost(shared: Runner, box: str) -> None:
    key = uuid.uuid4().hex
    line = "echo ready; read a; echo $a; echo err >&2; read b; echo $b"
    with command(shared, box, line, stdin=True, key=key, linger=60) as watching:
        watching.until(b"ready")
    until_left(shared, box, key)
    shared.call("POST", f"/sandboxes/{box}/commands/{key}/stdin", content="between\n")
    with attached(shared, box, key) as again:
        assert again.next()[0] == "s"
        again.until(b"between\n")
        shared.call("POST", f"/sandboxes/{box}/commands/{key}/stdin", content="after\n")
        assert again.rest()[::2] == (b"after\n", {"exit_code": 0})


def test_a_slow_client_slows_the_command_and_costs_no_memory(shared: Runner, box: str) -> None:
    before = resident(shared.pid)
    with command(shared, box, "yes | head -c 100000000; echo wrote >&2") as watching:
        watching.next()
        time.sleep(1)
        assert resident(shared.pid) - before < 50 << 20
        out, err, end = watching.rest()
    assert len(out) == 100_000_000 and err == b"wrote\n" and end == {"exit_code": 0}
    assert resident(shared.pid) - before < 50 << 20


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_time_runs_out(shared: Runner, box: str) -> None:
    with command(shared, box, "echo before; sleep 1000 & sleep 1000", timeout=0.5) as watching:
        pid = watching.next()[1]["pid"]
        out, _, end = watching.rest()
    assert out == b"before\n" and end["exit_code"] is None and end["error"] == "command_timeout" and end["detail"]
    assert not alive(pid)


def test_delete_kills_and_says_so(shared: Runner, box: str) -> None:
    with command(shared, box, "sleep 1000", key="killed") as watching:
        pid = watching.next()[1]["pid"]
        listed = shared.call("GET", f"/sandboxes/{box}/commands")["commands"]
        found = next(item for item in listed if item["key"] == "killed")
        assert found["running"] and found["pid"] == pid and found["argv"][-1] == "sleep 1000"
        assert shared.call("DELETE", f"/sandboxes/{box}/commands/killed")["end"]["error"] == "cancelled"
        assert not alive(pid)
        assert watching.rest()[2]["error"] == "cancelled"
    shared.call("DELETE", f"/sandboxes/{box}/commands/killed")


def test_a_sandbox_that_ends_ends_its_commands(shared: Runner) -> None:
    state = shared.sandbox(shared.server_image())
    with command(shared, state["id"], "sleep 1000", key="one", linger=60) as watching:
        pid = watching.next()[1]["pid"]
        shared.call("DELETE", f"/sandboxes/{state['id']}")
        end = watching.rest()[2]
    assert end == {"exit_code": None, "error": "sandbox_terminated", "detail": "The sandbox was deleted."}
    assert not alive(pid)
    state = shared.sandbox(shared.server_image())
    with command(shared, state["id"], "sleep 1000") as watching:
        watching.next()
        os.kill(state["pid"], signal.SIGKILL)
        assert watching.rest()[2]["error"] == "sandbox_terminated"
    refused = shared.call("POST", f"/sandboxes/{state['id']}/commands", 410, json={"argv": ["true"]})
    assert refused["error"] == "sandbox_terminated"


def test_what_is_refused(shared: Runner, box: str) -> None:
    path = f"/sandboxes/{box}/commands"
    for body in ({}, {"argv": []}, {"argv": "ls"}, {"argv": ["ls"], "pty": [0, 1]}, {"argv": ["ls"], "pty": 3}):
        assert shared.call("POST", path, 400, json=body)["error"] == "bad_request"
    assert shared.call("POST", path, 400, json={"argv": ["ls"], "key": "../x"})["error"] == "bad_request"
    assert shared.call("POST", path, 422, json={"argv": ["/no/such"]})["error"] == "exec_failed"
    assert shared.call("POST", path, 422, json={"argv": ["ls"], "working_dir": "/no/such"})["error"] == "exec_failed"
    assert shared.call("POST", path, 422, json={"argv": ["ls"], "user": "no-such-user"})["error"] == "exec_failed"
    assert shared.call("POST", "/sandboxes/none/commands", 404, json={"argv": ["ls"]})["error"] == "sandbox_not_found"
    for method, more in (("GET", ""), ("DELETE", ""), ("POST", "/stdin"), ("POST", "/signal"), ("POST", "/resize")):
        body = {"signal": 15, "rows": 2, "columns": 2}
        assert shared.call(method, f"{path}/none{more}", 404, **({"json": body} if method == "POST" else {}))["error"]
    with command(shared, box, "sleep 100", key="quiet") as watching:
        watching.next()
        assert shared.call("POST", f"{path}/quiet/stdin", 422, content="x")["error"] == "exec_failed"
        assert shared.call("POST", f"{path}/quiet/resize", 422, json={"rows": 1, "columns": 1})["error"]
        assert shared.call("POST", f"{path}/quiet/signal", 400, json={"signal": 999})["error"] == "bad_request"
        assert shared.call("POST", f"{path}/quiet/stdin?id=a/b", 400, content="x")["error"] == "bad_request"
        assert shared.call("POST", f"{path}/quiet/stdin?id=a", 413, content=bytes(17 << 20))["error"] == "too_large"
    # A refused start is forgotten: the same key may try again.
    shared.call("POST", path, 422, json={"argv": ["/no/such"], "key": "again"})
    with command(shared, box, "echo yes", key="again") as watching:
        watching.next()
        assert watching.rest()[0] == b"yes\n"


def test_commands_and_watchers_are_bounded(shared: Runner, box: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(command(shared, box, "sleep 100", key="busy")).next()
        refused = shared.call("POST", f"/sandboxes/{box}/commands", 409, json={"argv": ["true"], "key": "busy"})
        assert refused["error"] == "too_many"
    until_ended(shared, box, "busy")
    for number in range(300):
        shared.raw("POST", f"/sandboxes/{box}/commands", json={"argv": ["true"], "key": f"short-{number}"})
    kept = [item for item in shared.call("GET", f"/sandboxes/{box}/commands")["commands"] if not item["running"]]
    assert len(kept) <= 256


def test_input_that_is_not_read_is_bounded(shared: Runner, box: str) -> None:
    path = f"/sandboxes/{box}/commands/deaf/stdin"
    with command(shared, box, "sleep 1000", key="deaf", stdin=True) as watching:
        watching.next()
        before = resident(shared.pid)
        for number in range(40):
            with contextlib.suppress(httpx.ReadTimeout):
                reply = shared.raw("POST", f"{path}?id={number}", content=bytes(4 << 20), timeout=0.2)
                assert reply.status_code == 409 and reply.json()["error"] == "too_many", reply.text
        assert resident(shared.pid) - before < 128 << 20


def test_exec_is_gone_with_its_client_and_with_its_sandbox(shared: Runner) -> None:
    state = shared.sandbox(shared.server_image())
    with pytest.raises(httpx.ReadTimeout):
        shared.raw("POST", f"/sandboxes/{state['id']}/exec", json={"command": "sleep 1234.5"}, timeout=0.5)
    deadline = time.monotonic() + 30
    while "sleep 1234.5" in shared.exec(state["id"], "ps -eo args | grep '^sleep 1234' || true")["stdout"]:
        assert time.monotonic() < deadline
    answers = []

    def run() -> None:
        transport = httpx.HTTPTransport(uds=shared.about()["socket"])
        with httpx.Client(transport=transport, base_url="http://runner", timeout=60) as client:
            body = {"command": "echo ready >/tmp/r; sleep 1000"}
            answers.append(client.post(f"/sandboxes/{state['id']}/exec", json=body))

    thread = threading.Thread(target=run)
    thread.start()
    while shared.exec(state["id"], "test -f /tmp/r")["exit_code"]:
        time.sleep(0.02)
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    thread.join()
    assert answers[0].status_code == 410 and answers[0].json()["error"] == "sandbox_terminated"


def test_files(shared: Runner, box: str) -> None:
    path = f"/sandboxes/{box}/files"
    shared.call("POST", f"{path}/folder", params={"path": "/app/deep/er"})
    shared.call("PUT", path, params={"path": "/app/deep/run.sh", "mode": "755"}, content="#!/bin/sh\necho ran\n")
    assert shared.exec(box, "/app/deep/run.sh")["stdout"] == "ran\n"
    found = shared.call("GET", f"{path}/stat", params={"path": "/app/deep/run.sh"})
    assert (found["path"], found["kind"], found["size"], found["mode"]) == ("/app/deep/run.sh", "file", 19, 0o755)
    rows = shared.call("GET", f"{path}/entries", params={"path": "/app/deep"})["entries"]
    assert [(row["path"], row["kind"]) for row in rows] == [("/app/deep/er", "folder"), ("/app/deep/run.sh", "file")]
    packed = shared.raw("GET", f"{path}/tree", params={"path": "/app/deep"})
    assert packed.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        assert sorted(archive.getnames()) == ["er", "run.sh"]
    shared.call("PUT", f"{path}/tree", params={"path": "/app/copy"}, content=packed.content)
    assert shared.exec(box, "/app/copy/run.sh")["stdout"] == "ran\n"
    shared.call("DELETE", path, params={"path": "/app/copy"})
    for operation in ("stat", "entries", "tree"):
        assert shared.call("GET", f"{path}/{operation}", 404, params={"path": "/app/copy"})["error"]
    assert shared.call("DELETE", path, 404, params={"path": "/app/copy"})["error"] == "file_not_found"
    assert shared.call("PUT", path, 400, params={"path": "/x", "mode": "9"}, content="")["error"] == "bad_request"
    assert shared.call("GET", f"{path}/stat", 400)["error"] == "bad_request"


def test_egress_of_a_runtime_that_cannot(shared: Runner, box: str) -> None:
    refused = shared.call("POST", f"/sandboxes/{box}/egress", 422, json={"allow": [], "deny": []})
    assert refused["error"] == "exec_failed" and "process" in refused["detail"]
