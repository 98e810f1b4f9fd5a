"""A uvicorn server listens on a unix socket beside its port; both are one server, and go with it."""

import os
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from prime_hub.runner.runtimes.local_sockets import FOLDER_BYTES, LAUNCHER, SocketFolders, listening_also

SERVER = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await asyncio.sleep(float(os.environ.get("SLOW", "0")))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    client = scope["client"][0] if scope["client"] else None
    body = f"{client} {os.getpid()} {os.getcwd()}".encode()
    if scope["path"] == "/about":
        body = f"{client} {scope['server'][1]} {os.environ.get('FORWARDED_ALLOW_IPS')}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app/env
RUN python -m venv /app/.venv && /app/.venv/bin/pip install uvicorn
COPY . .
ENV PATH="/app/.venv/bin:$PATH"
EXPOSE 8000
CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
"""


@pytest.fixture(scope="module")
def digest(shared):
    inner = "import server\nprint('imported')\napp = server.app\n"
    return shared.image({"Dockerfile": DOCKERFILE, "server.py": SERVER, "src/inner.py": inner})


def expose(runner, sandbox_id: str, port: int = 8000) -> dict:
    return runner.call("POST", f"/sandboxes/{sandbox_id}/expose", json={"port": port})


def by_socket(path: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://localhost")


@pytest.mark.index
@pytest.mark.parametrize(
    "command",
    [
        None,
        "uvicorn server:app --host 0.0.0.0 --port 8000",
        "python -m uvicorn server:app --host=0.0.0.0 --port=8000",
        'sh -lc "cd /app/env && /app/.venv/bin/uvicorn server:app --host 0.0.0.0 --port ${PORT:-8000}"',
        ["sh", "-c", "cd /app/env; exec uvicorn server:app --host 0.0.0.0 --port 8000"],
    ],
)
def test_the_same_server_answers_on_both(shared, digest, command):
    state = shared.sandbox(digest, start_command=command, port=8000)
    on_port = shared.healthy(state["id"])
    reached = expose(shared, state["id"])
    assert reached["port"] == state["ports"]["8000"]
    place = Path(reached["unix_socket"])
    assert len(os.fsencode(place)) <= 100
    assert place.parent.stat().st_mode & 0o777 == place.parent.parent.stat().st_mode & 0o777 == 0o700
    with by_socket(reached["unix_socket"]) as client:
        assert client.get("/").text == on_port
    assert on_port.startswith("127.0.0.1 ") and on_port.endswith("/root/app/env")
    # What the start command asked for is what the server does: nothing about its port has changed.
    told = shared.call("GET", f"/sandboxes/{state['id']}/listen")
    assert told["addresses"] == [{"host": "127.0.0.1", "port": 8000, "host_port": reached["port"]}]
    assert told["host_rewritten"] is True
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    assert not place.parent.exists()
    assert not shared.accepts(reached["port"])


@pytest.mark.index
@pytest.mark.parametrize(
    ("arguments", "port", "rewritten"), [("--host 127.0.0.1 --port 8000", 8000, False), ("--port 9000", 9000, False)]
)
def test_what_a_server_binds_is_still_found_out(shared, digest, arguments, port, rewritten):
    state = shared.sandbox(digest, start_command=f"uvicorn server:app {arguments}", port=8000)
    shared.healthy(state["id"], port)
    told = shared.call("GET", f"/sandboxes/{state['id']}/listen")
    assert [(item["host"], item["port"]) for item in told["addresses"]] == [("127.0.0.1", port)]
    assert told["host_rewritten"] is rewritten
    if port != 8000:
        # The socket of a port is named by its number, so the wrong port has none either.
        assert not shared.accepts(state["ports"]["8000"])
        assert not Path(expose(shared, state["id"])["unix_socket"]).exists()
    shared.call("DELETE", f"/sandboxes/{state['id']}")


@pytest.mark.index
def test_nobody_is_let_in_before_the_server_is_ready(shared, digest):
    state = shared.sandbox(digest, env={"SLOW": "60"})
    while "Waiting for application startup" not in shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"]:
        time.sleep(0.02)
    assert not shared.accepts(state["ports"]["8000"])
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError):
        probe.connect(expose(shared, state["id"])["unix_socket"])
    # uvicorn says so once it does; programs wait for that line.
    assert "Uvicorn running on" not in shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"]
    shared.call("DELETE", f"/sandboxes/{state['id']}")


@pytest.mark.index
@pytest.mark.parametrize("trusted", [None, "10.0.0.1"])
def test_whose_word_the_server_takes_is_its_own_affair(shared, digest, trusted):
    state = shared.sandbox(digest, env={"FORWARDED_ALLOW_IPS": trusted} if trusted else {})
    shared.healthy(state["id"])
    reached = expose(shared, state["id"])
    # Of a chain of proxies uvicorn believes the nearest only, and none that is not trusted.
    chain = {"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}
    told = httpx.get(f"http://127.0.0.1:{reached['port']}/about", headers=chain, trust_env=False).text
    assert told == f"{'127.0.0.1' if trusted else '192.0.2.2'} {reached['port']} {trusted}"
    with by_socket(reached["unix_socket"]) as client:
        assert client.get("/about", headers=chain).text == told
        assert client.get("/about").text == f"127.0.0.1 {reached['port']} {trusted}"
    shared.call("DELETE", f"/sandboxes/{state['id']}")


@pytest.mark.index
def test_as_a_module_it_finds_what_lies_in_the_working_folder(shared, digest):
    state = shared.sandbox(digest, start_command="python -u -m uvicorn --app-dir src inner:app --port 8000", port=8000)
    shared.healthy(state["id"])
    with by_socket(expose(shared, state["id"])["unix_socket"]) as client:
        assert client.get("/").text.startswith("127.0.0.1 ")
    # Unbuffered, as it was asked for.
    assert "imported" in shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"]
    shared.call("DELETE", f"/sandboxes/{state['id']}")


@pytest.mark.index
@pytest.mark.parametrize("version", ["0.15.0", "0.23.2"])
def test_with_an_older_uvicorn(shared, version):
    dockerfile = DOCKERFILE.replace("pip install uvicorn", f"pip install uvicorn=={version}")
    state = shared.sandbox(shared.image({"Dockerfile": dockerfile, "server.py": SERVER}))
    on_port = shared.healthy(state["id"])
    with by_socket(expose(shared, state["id"])["unix_socket"]) as client:
        assert client.get("/").text == on_port
    shared.call("DELETE", f"/sandboxes/{state['id']}")


@pytest.mark.index
def test_a_server_that_cannot_start_says_why(shared, digest):
    state = shared.sandbox(digest, start_command="uvicorn server:nothing --port 8000", port=8000)
    ended = shared.until(state["id"], "exited")
    assert ended["exit_code"] in (1, 3)  # as uvicorn itself, by its version
    assert '"nothing" not found' in shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"]


@pytest.mark.index
@pytest.mark.parametrize(
    ("command", "env"),
    [
        ("uvicorn server:app --port 8000 --workers 2", {}),
        ("uvicorn server:app --port 8000 --reload", {}),
        ("sh -c 'PATH=/usr/bin:$PATH; uvicorn server:app --port 8000'", {}),
        ("python -c 'import uvicorn; uvicorn.run(\"server:app\", port=8000)' --port 8000", {}),
    ],
)
def test_where_in_doubt_there_is_the_port_alone(shared, digest, command, env):
    state = shared.sandbox(digest, start_command=command, env=env, port=8000)
    assert shared.healthy(state["id"]).startswith("127.0.0.1 ")
    path = expose(shared, state["id"])["unix_socket"]
    assert path is None or not Path(path).exists()
    shared.call("DELETE", f"/sandboxes/{state['id']}")


@pytest.mark.index
def test_a_connection_to_the_socket_counts_as_use(shared, digest):
    used = shared.sandbox(digest, idle_seconds=2)
    idle = shared.sandbox(digest, idle_seconds=2)
    path = expose(shared, used["id"])["unix_socket"]
    with socket.socket(socket.AF_UNIX) as connection:
        while connection.connect_ex(path) != 0:
            time.sleep(0.02)
        assert shared.until(idle["id"], "expired")["error"].startswith("Nobody used the sandbox for 2 seconds")
        listed = {item["id"]: item["status"] for item in shared.call("GET", "/sandboxes")["sandboxes"]}
        assert listed[used["id"]] == "running"
    assert shared.until(used["id"], "expired")
    assert not Path(path).parent.exists()


@pytest.mark.index
def test_it_survives_a_kill_of_the_runner_and_goes_with_the_sandbox(runner):
    digest = runner.image({"Dockerfile": DOCKERFILE, "server.py": SERVER})
    kept, died, unreadable = (runner.sandbox(digest, lease_seconds=120) for _ in range(3))
    places = {}
    for state in (kept, died, unreadable):
        runner.healthy(state["id"])
        places[state["id"]] = Path(expose(runner, state["id"])["unix_socket"])
    runner.kill()
    os.kill(died["pid"], signal.SIGKILL)
    (runner.folder / "sandboxes" / unreadable["id"] / "state.json").write_text("{")
    with by_socket(str(places[kept["id"]])) as client:
        assert client.get("/").text.startswith("127.0.0.1 ")

    runner.start()
    runner.until(died["id"], "lost")
    again = runner.call("GET", f"/sandboxes/{kept['id']}?wait=10")
    assert again["status"] == "running"
    assert expose(runner, kept["id"])["unix_socket"] == str(places[kept["id"]])
    assert [place.parent.exists() for place in places.values()] == [True, False, False]
    runner.stop()
    assert not places[kept["id"]].parent.parent.exists()


def test_a_folder_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    far_away = tmp_path / ("long" * 30)
    folders = SocketFolders(far_away)
    # The next runner may be started with another TMPDIR, and has to find what this one's sandboxes have.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path)[:40])
    assert SocketFolders(far_away).of("one") == folders.of("one")
    made = folders.make("one")
    assert made is not None and made == folders.of("one")
    assert len(os.fsencode(made)) <= FOLDER_BYTES
    folders.remove("one")
    assert not made.parent.exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    made.parent.symlink_to(elsewhere)
    try:
        assert folders.make("one") is None
        assert list(elsewhere.iterdir()) == []
    finally:
        made.parent.unlink()


@pytest.fixture
def venv(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("python", "python3", "uvicorn"):
        (tmp_path / "bin" / name).touch()
    return tmp_path


def test_start_commands_that_run_uvicorn(venv):
    launch = f"{venv}/bin/python {LAUNCHER} /s"
    for given, wanted in {
        "uvicorn a:b": f"{launch} a:b",
        "exec uvicorn a:b --port 1": f"exec {launch} a:b --port 1",
        f"cd /x && A=1 {venv}/bin/uvicorn a:b": f"cd /x && A=1 {launch} a:b",
        "python3 -u -X dev -m uvicorn a:b": f"{venv}/bin/python -u -X dev {LAUNCHER} /s -m a:b",
        "uv run --no-sync --project . uvicorn a:b": f"uv run --no-sync --project . python {LAUNCHER} /s a:b",
        "uv run python -m uvicorn a:b": f"uv run python {LAUNCHER} /s -m a:b",
    }.items():
        assert listening_also(["sh", "-c", given], venv, Path("/s")) == ["sh", "-c", wanted]
        if "exec" not in given and "cd " not in given:
            assert listening_also(given.split(), venv, Path("/s")) == wanted.split()


@pytest.mark.parametrize(
    "command",
    [
        ["python", "server.py", "uvicorn", "x"],
        ["gunicorn", "-k", "uvicorn.workers.UvicornWorker", "a:b"],
        ["/usr/bin/uvicorn", "a:b"],
        ["python3.9", "-m", "uvicorn", "a:b"],
        ["uv", "run", "--with", "uvicorn", "serve"],
        ["sh", "-c", "uvicorn a:b & uvicorn c:d"],
        ["sh", "-c", "echo uvicorn a:b"],
        ["sh", "-c", "pip install uvicorn && python server.py"],
        ["echo", ";", "uvicorn", "a:b"],
        ["env", "PATH=/usr/bin", "uvicorn", "a:b"],
        ["python", "-I", "-m", "uvicorn", "a:b"],
    ],
)
def test_start_commands_that_stay_as_they_are(venv, command):
    assert listening_also(command, venv, Path("/s")) is None


def test_without_uvicorn_in_the_image_nothing_is_changed(venv):
    (venv / "bin" / "uvicorn").unlink()
    assert listening_also(["uvicorn", "a:b"], venv, Path("/s")) is None


def test_a_server_of_another_kind_has_no_socket(shared):
    state = shared.sandbox(shared.server_image())
    shared.healthy(state["id"])
    assert expose(shared, state["id"])["unix_socket"] is None
    shared.call("DELETE", f"/sandboxes/{state['id']}")
