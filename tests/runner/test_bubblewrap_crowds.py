"""Boxes of which much is asked at once, or that have no room for more."""

import asyncio
import shutil
import socket
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from prime_hub.runner.runtimes.conformance import Host

SLOW_TO_ACCEPT = """
import socket, sys
server = socket.socket()
server.bind(("127.0.0.1", 9000))
server.listen(1)
print("listening", flush=True)
sys.stdin = open(sys.argv[1])
sys.stdin.read()
while True:
    connection, _ = server.accept()
    connection.sendall(b"welcome")
    connection.close()
"""
HOG = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(600)
    except OSError:
        print("full", flush=True)
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    host = Host(tmp_path_factory.mktemp("crowds") / "runner", "bubblewrap")
    try:
        host.start()
    except AssertionError as error:
        pytest.skip(str(error))
    yield host
    host.stop()


@pytest.mark.parametrize("what", ["stat", "exec"])
def test_hundreds_may_ask_at_once(host, what):
    async def ask(box: str, count: int) -> Counter[str]:
        transport = httpx.AsyncHTTPTransport(uds=host.about()["socket"], limits=httpx.Limits(max_connections=None))
        async with httpx.AsyncClient(
            transport=transport, base_url=f"http://runner/sandboxes/{box}", timeout=120
        ) as http:
            if what == "stat":
                calls = [http.get("/files/stat", params={"path": "/app"}) for _ in range(count)]
            else:
                calls = [http.post("/exec", json={"command": "exit 7"}) for _ in range(count)]
            return Counter(
                str(answer.json().get("kind", answer.json().get("exit_code")))
                for answer in await asyncio.gather(*calls)
            )

    with host.sandbox(start_command=["sleep", "600"]) as box:
        assert asyncio.run(ask(box, 250)) == {"folder" if what == "stat" else "7": 250}


def test_a_server_that_accepts_nobody_keeps_nobody_else_waiting(host):
    command = ["sh", "-c", 'mkfifo /tmp/go && exec python -c "$0" /tmp/go', SLOW_TO_ACCEPT]
    with host.sandbox(start_command=command, port=9000) as box:
        host.until("it listens", lambda: "listening" in host.logs(box))
        reached = host.call("POST", f"/sandboxes/{box}/expose", {"port": 9000})
        clients = [socket.create_connection((reached["host"], reached["port"])) for _ in range(16)]
        # The first process of the box does these, while the connections wait for their turn.
        for _ in range(8):
            assert host.shell(box, "true")["exit_code"] == 0
        for client in clients:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)  # neither answered nor dropped
        host.shell(box, "echo > /tmp/go")
        clients[0].settimeout(60)
        assert clients[0].recv(100) == b"welcome"
        for client in clients:
            client.close()


def test_a_box_that_is_full_of_processes_says_so(host):
    with host.sandbox(start_command=["python", "-c", HOG], limits={"pids": 20}) as box:
        host.until("it is full", lambda: "full" in host.logs(box))
        for refused in (
            host.refused(422, "POST", f"/sandboxes/{box}/exec", {"command": "true"}),
            host.refused(422, "GET", f"/sandboxes/{box}/files/stat", params={"path": "/app"}),
        ):
            assert refused.startswith("The sandbox has as many processes as it may have")
        assert host.state(box)["status"] == "running"
