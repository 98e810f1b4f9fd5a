"""Sandboxes of the process runtime, over the runner's socket: start, reach, use, end, and nothing left."""

import io
import socket
import subprocess
import tarfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

TREE = """FROM python:3.11-slim
WORKDIR /app/env
RUN python -m venv /app/.venv
COPY server.py .
ENV PATH="/app/.venv/bin:$PATH" PYTHONPATH="/app/env:$PYTHONPATH"
EXPOSE 8000
"""


@pytest.fixture(scope="module")
def digest(shared):
    return shared.server_image()


def test_a_server_is_started_reached_and_gone(shared, digest):
    state = shared.sandbox(digest, lease_seconds=60)
    assert state["status"] == "running"
    assert state["host_rewritten"] is True
    port = state["ports"]["8000"]
    assert port != 8000
    assert shared.healthy(state["id"]) == "ok"
    listen = shared.call("GET", f"/sandboxes/{state['id']}/listen")
    assert listen == {"addresses": [{"host": "127.0.0.1", "port": 8000, "host_port": port}], "host_rewritten": True}
    assert "listening" in shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"]

    ended = shared.call("DELETE", f"/sandboxes/{state['id']}")
    assert ended["status"] == "deleted"
    assert shared.marked(state["id"]) == []
    assert not shared.accepts(port)
    left = {path.name for path in (shared.folder / "ended" / state["id"]).iterdir()}
    assert left == {"state.json", "tail.log"}
    assert "listening" in shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"]
    assert shared.call("DELETE", f"/sandboxes/{state['id']}")["status"] == "deleted"


def test_the_same_id_is_the_same_sandbox(shared, digest):
    first = shared.sandbox(digest, id="twice")
    again = shared.sandbox(digest, id="twice")
    assert again["pid"] == first["pid"]
    shared.call("DELETE", "/sandboxes/twice")


@pytest.mark.parametrize(
    "command",
    [
        'sh -lc "cd /app/env && /app/.venv/bin/python server.py --host 0.0.0.0 --port 8000"',
        "python server.py --host 0.0.0.0 --port 8000",
        "python /app/env/server.py --port=8000 --host=0.0.0.0",
        ["python", "server.py", "--host", "0.0.0.0", "--port", "8000"],
        ["bash", "-c", "exec python server.py --port ${PORT:-8000} --host '0.0.0.0'"],
    ],
)
def test_start_commands_of_containers_run_as_they_are(shared, command):
    image = shared.server_image(Dockerfile=TREE)
    ids = [shared.sandbox(image, start_command=command, port=8000)["id"] for _ in range(2)]
    for sandbox_id in ids:
        where = shared.healthy(sandbox_id, path="/cwd")
        assert where.endswith(f"{sandbox_id}/root/app/env")
        assert shared.call("GET", f"/sandboxes/{sandbox_id}")["host_rewritten"] is True
    for sandbox_id in ids:
        shared.call("DELETE", f"/sandboxes/{sandbox_id}")


def test_a_port_in_the_environment_is_replaced(shared):
    server = "import http.server, os\nport = int(os.environ['PORT'])\n"
    server += "http.server.HTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    dockerfile = 'FROM python:3.11\nWORKDIR /app\nCOPY server.py .\nENV PORT=8000\nCMD ["python", "server.py"]\n'
    state = shared.sandbox(shared.image({"Dockerfile": dockerfile, "server.py": server}), port=8000)
    assert state["ports"]["8000"] != 8000
    assert "server.py" in shared.healthy(state["id"])
    assert state["host_rewritten"] is False
    shared.call("DELETE", f"/sandboxes/{state['id']}")


def test_a_port_that_cannot_be_replaced_is_taken_once(shared):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = f"import http.server\nhttp.server.test(port={port}, bind='127.0.0.1')\n"
    dockerfile = f'FROM python:3.11\nWORKDIR /app\nCOPY server.py .\nEXPOSE {port}\nCMD ["python", "server.py"]\n'
    image = shared.image({"Dockerfile": dockerfile, "server.py": server})
    first = shared.sandbox(image)
    assert first["ports"] == {str(port): port}
    shared.healthy(first["id"], port)
    second = shared.sandbox(image)
    assert second["status"] == "failed"
    assert second["error"].startswith(f"Port {port} of this machine is taken, and the start command 'python server.py'")
    assert "--port" in second["error"]
    # A command of one's own on that image needs no port, and gets none that is not its own.
    idle = shared.sandbox(image, start_command="sleep 600", port=None)
    assert (idle["status"], idle["ports"]) == ("running", {})
    shared.call("DELETE", f"/sandboxes/{idle['id']}")
    shared.call("DELETE", f"/sandboxes/{first['id']}")
    third = shared.sandbox(image)
    assert third["status"] == "running"
    shared.call("DELETE", f"/sandboxes/{third['id']}")


@pytest.mark.parametrize(
    ("arguments", "rewritten", "address"),
    [("--host 127.0.0.1 --port 8000", False, 8000), ("--host 0.0.0.0 --port 9000", True, 9000)],
)
def test_what_a_server_listens_on_is_told(shared, digest, arguments, rewritten, address):
    state = shared.sandbox(digest, start_command=f"python server.py {arguments}", port=8000)
    listen = {"addresses": []}
    while not listen["addresses"]:
        listen = shared.call("GET", f"/sandboxes/{state['id']}/listen")
        time.sleep(0.02)
    assert listen["host_rewritten"] is rewritten
    assert [item["port"] for item in listen["addresses"]] == [address]
    if address != 8000:
        # Nobody's: neither this sandbox's server nor another program answers there.
        assert not shared.accepts(state["ports"]["8000"])
    shared.call("DELETE", f"/sandboxes/{state['id']}")


def test_a_server_gets_its_own_environment_only(shared, digest):
    state = shared.sandbox(digest, env={"GIVEN": "yes", "A_FOLDER": "/app/data"})
    lines = shared.exec(state["id"], "env -0")["stdout"].split("\0")
    env = dict(line.split("=", 1) for line in lines if line)
    known = {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "GIVEN",
        "A_FOLDER",
        "PRIME_SANDBOX_ID",
        "PRIME_COMMAND_ID",
        "PWD",
        "SHLVL",
        "_",
    }
    assert set(env) == known
    own = str(shared.folder / "sandboxes" / state["id"])
    assert env["HOME"].startswith(own)
    assert env["TMPDIR"].startswith(own)
    assert env["A_FOLDER"] == f"{own}/root/app/data"
    assert "hidden" not in "".join(lines)
    shared.call("DELETE", f"/sandboxes/{state['id']}")


def test_a_server_that_ends_tells_how(shared, digest):
    state = shared.sandbox(digest, start_command="sh -c 'echo last words; exit 7'")
    ended = shared.until(state["id"], "exited")
    assert (ended["exit_code"], ended["error_type"]) == (7, "EXITED")
    assert ended["error"] == "The start command ended with code 7."
    assert shared.call("GET", f"/sandboxes/{state['id']}/logs")["logs"] == "last words\n"
    refused = shared.raw("POST", f"/sandboxes/{state['id']}/exec", json={"command": "true"})
    assert (refused.status_code, refused.json()["error"]) == (410, "sandbox_terminated")


def test_a_program_that_is_nowhere_is_a_sentence(shared, digest):
    state = shared.sandbox(digest, start_command="no-such-server --port 8000")
    assert state["status"] == "failed"
    assert state["error"].startswith("The start command's program 'no-such-server' is neither in the image nor on this")


def test_nothing_escapes_its_end(shared, digest):
    daemon = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n"
    state = shared.sandbox(digest)
    shared.raw("PUT", f"/sandboxes/{state['id']}/files", params={"path": "/app/daemon.py"}, content=daemon)
    shared.exec(state["id"], "python daemon.py; setsid sleep 600 & trap '' TERM; sleep 600 &")
    assert len(shared.marked(state["id"])) >= 4
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    assert shared.marked(state["id"]) == []


def test_a_cleared_environment_is_no_escape(shared, digest):
    number = f"6{uuid.uuid4().int % 10**6:06}"
    state = shared.sandbox(digest, start_command=f"sh -c 'env -i setsid sleep {number} & wait'")
    look = ["pgrep", "-f", f"^sleep {number}$"]
    while subprocess.run(look, capture_output=True).returncode != 0:
        time.sleep(0.02)
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    assert subprocess.run(look, capture_output=True).stdout == b""


def test_a_lease_that_is_not_renewed_ends_it(shared, digest):
    kept = shared.sandbox(digest, lease_seconds=2)
    left = shared.sandbox(digest, lease_seconds=2)
    before = kept["expires_at"]
    renewed = shared.call("POST", f"/sandboxes/{kept['id']}/lease", json={"lease_seconds": 60})
    assert renewed["expires_at"] > before + 50
    ended = shared.until(left["id"], "expired")
    assert ended["error"] == "The sandbox's lease was not renewed, so it was ended."
    assert shared.marked(left["id"]) == []
    assert shared.call("GET", f"/sandboxes/{kept['id']}")["status"] == "running"
    shared.call("DELETE", f"/sandboxes/{kept['id']}")


def test_a_time_limit_ends_it(shared, digest):
    state = shared.sandbox(digest, expires_at=time.time() + 1)
    ended = shared.until(state["id"], "expired")
    assert (ended["error_type"], ended["error"]) == ("TIMEOUT", "The sandbox reached its time limit and was ended.")


def test_an_idle_sandbox_ends_and_a_used_one_does_not(shared, digest):
    used = shared.sandbox(digest, idle_seconds=1.5)
    idle = shared.sandbox(digest, idle_seconds=1.5)
    shared.healthy(used["id"])
    with httpx.Client() as client:
        # An open connection counts, and no call to the runner is made for it.
        client.get(f"http://127.0.0.1:{used['ports']['8000']}/")
        assert shared.until(idle["id"], "expired")["error"].startswith("Nobody used the sandbox for 1.5 seconds")
        listed = {item["id"]: item["status"] for item in shared.call("GET", "/sandboxes")["sandboxes"]}
        assert listed[used["id"]] == "running"
    shared.call("DELETE", f"/sandboxes/{used['id']}")


def test_a_sandbox_is_not_idle_while_a_file_goes_in_or_out(shared, digest):
    read = shared.sandbox(digest, idle_seconds=2)
    size = 32 << 20

    def slowly():
        # Until another one, which nobody used, has been ended for that.
        yield b"begun"
        with httpx.Client(transport=httpx.HTTPTransport(uds=shared.about()["socket"])) as client:
            created = {"id": uuid.uuid4().hex, "digest": digest, "idle_seconds": 2.5}
            client.post("http://runner/sandboxes", json=created).raise_for_status()
            while client.get(f"http://runner/sandboxes/{created['id']}").json()["status"] != "expired":
                time.sleep(0.1)
        yield b"done"

    shared.call("PUT", f"/sandboxes/{read['id']}/files?path=/tmp/large", content=bytes(size))
    transport = httpx.HTTPTransport(uds=shared.about()["socket"])
    where = f"http://runner/sandboxes/{read['id']}/files?path=/tmp/large"
    with httpx.Client(transport=transport, timeout=60) as client, client.stream("GET", where) as answer:
        chunks = answer.iter_raw()
        got = len(next(chunks))
        filled = shared.sandbox(digest, idle_seconds=2)
        reply = shared.raw("PUT", f"/sandboxes/{filled['id']}/files?path=/tmp/slow", content=slowly())
        assert reply.status_code == 200, reply.text
        assert got + sum(map(len, chunks)) == size
    assert shared.call("GET", f"/sandboxes/{read['id']}")["status"] == "running"
    for state in (filled, read):
        assert shared.until(state["id"], "expired")["error"].startswith("Nobody used the sandbox for 2 seconds")


def test_commands(shared, digest):
    sandbox_id = shared.sandbox(digest)["id"]
    ran = shared.exec(sandbox_id, "echo out; echo err >&2; pwd; echo $X; exit 3", env={"X": "1"}, working_dir="/tmp")
    own = shared.folder / "sandboxes" / sandbox_id / "root" / "tmp"
    assert ran == {"stdout": f"out\n{own}\n1\n", "stderr": "err\n", "exit_code": 3}
    assert shared.exec(sandbox_id, "cat /app/server.py")["stdout"].startswith("\nimport argparse")
    # A grandchild that holds the output neither delays the answer nor is ended by it.
    assert shared.exec(sandbox_id, "sleep 300 & echo $!", timeout=30)["exit_code"] == 0
    assert shared.exec(sandbox_id, "pgrep -f 'sleep 300' >/dev/null && echo alive")["stdout"] == "alive\n"
    late = shared.raw("POST", f"/sandboxes/{sandbox_id}/exec", json={"command": "sleep 301 & wait", "timeout": 0.5})
    assert (late.status_code, late.json()["error"]) == (408, "command_timeout")
    assert shared.exec(sandbox_id, "pgrep -f 'sleep 30[1]'")["stdout"] == ""
    wrong = shared.raw("POST", f"/sandboxes/{sandbox_id}/exec", json={"command": "true", "working_dir": "/nope"})
    assert (wrong.status_code, wrong.json()["detail"]) == (422, "The folder /nope does not exist in the sandbox.")
    huge = shared.raw("POST", f"/sandboxes/{sandbox_id}/exec", json={"command": "true " + "x" * 200_000})
    assert huge.status_code == 422 and "too long" in huge.json()["detail"], huge.text
    large = shared.exec(sandbox_id, "head -c 20000000 /dev/zero | tr '\\0' x")
    assert large["stdout"].endswith("[output cut after 16 MiB]\n")
    shared.call("DELETE", f"/sandboxes/{sandbox_id}")


def test_files(shared, digest):
    sandbox_id = shared.sandbox(digest)["id"]
    url = f"/sandboxes/{sandbox_id}/files"
    content = bytes(range(256)) * 4096
    assert shared.raw("PUT", url, params={"path": "/data/deep/file.bin"}, content=content).json()["size"] == len(
        content
    )
    assert shared.raw("GET", url, params={"path": "/data/deep/file.bin"}).content == content
    part = shared.raw("GET", url, params={"path": "/data/deep/file.bin", "offset": -3, "length": 2})
    assert (part.content, part.headers["x-file-size"]) == (content[-3:-1], str(len(content)))
    assert shared.exec(sandbox_id, "wc -c < /data/deep/file.bin")["stdout"].strip() == str(len(content))
    assert shared.raw("GET", url, params={"path": "/data/none"}).json()["error"] == "file_not_found"
    shared.exec(sandbox_id, "ln -s /etc/hostname /app/way-out; ln -s /etc /app/folder-out")
    for path in ("/app/way-out", "/app/folder-out/hostname"):
        assert shared.raw("GET", url, params={"path": path}).status_code in (404, 422)
    assert shared.raw("PUT", url, params={"path": "/app/folder-out/x"}, content=b"x").status_code == 422
    # What is wrong with the request is not said to be a full disk.
    for method, path in (("GET", "/data/" + "n" * 300), ("PUT", "/data/" + "n" * 300), ("PUT", "/data/" + "n/" * 3000)):
        refused = shared.raw(method, url, params={"path": path}, content=b"x")
        assert refused.status_code in (404, 422), refused.text
        assert "too long" in refused.json()["detail"] or "no file" in refused.json()["detail"]
    shared.call("DELETE", f"/sandboxes/{sandbox_id}")


def test_files_that_come_and_go_meanwhile_are_left_out(shared, digest):
    sandbox_id = shared.sandbox(digest)["id"]
    churn = (
        "import os\nwhile True:\n"
        "  for i in range(300): open(f'f{i}', 'w').close(); os.mkdir(f'd{i}')\n"
        "  for i in range(300): os.unlink(f'f{i}'); os.rmdir(f'd{i}')\n"
    )
    files = f"/sandboxes/{sandbox_id}/files"
    shared.call("PUT", f"{files}?path=/tmp/churn.py", content=churn.encode())
    shared.exec(sandbox_id, "mkdir /tmp/churn; cd /tmp/churn; nohup python ../churn.py > /dev/null 2>&1 &")
    for _ in range(60):
        shared.call("GET", f"{files}/entries?path=/tmp/churn")
        with tarfile.open(fileobj=io.BytesIO(shared.raw("GET", f"{files}/tree?path=/tmp/churn").content)) as packed:
            packed.getmembers()
    shared.call("DELETE", f"/sandboxes/{sandbox_id}")


def test_the_image_itself_is_not_changed_by_file_operations(shared):
    digest = shared.image({"Dockerfile": "FROM python:3.11-slim\nRUN python -m venv /app/.venv\nCMD sleep 600\n"})
    sandbox_id = shared.sandbox(digest)["id"]
    files = f"/sandboxes/{sandbox_id}/files"
    for method, path in (
        ("PUT", f"{files}?path=/app/.venv/bin/python"),
        ("DELETE", f"{files}?path=/app/.venv/bin"),
        ("POST", f"{files}/folder?path=/app/.venv/new"),
        ("PUT", f"{files}/tree?path=/app/.venv"),
    ):
        refused = shared.call(method, path, 422)
        assert "lies in the image's virtual environment, which its other sandboxes use as well" in refused["detail"]
    assert shared.raw("GET", f"{files}?path=/app/.venv/pyvenv.cfg").status_code == 200
    shared.call("DELETE", f"/sandboxes/{sandbox_id}")
    again = shared.sandbox(digest)
    assert shared.exec(again["id"], "python -c 'print(1)'")["stdout"] == "1\n"
    assert shared.call("POST", f"/sandboxes/{again['id']}/expose", 422, json={"port": 70000})["detail"]
    shared.call("DELETE", f"/sandboxes/{again['id']}")


def test_two_writers_of_one_file_leave_one_of_the_two(shared, digest):
    sandbox_id = shared.sandbox(digest)["id"]
    meet = threading.Barrier(2, timeout=30)

    def content(letter: bytes):
        yield letter * 100_000
        meet.wait()
        yield letter * 100_000

    def put(letter: bytes) -> int:
        transport = httpx.HTTPTransport(uds=shared.about()["socket"])
        with httpx.Client(transport=transport, base_url="http://runner", timeout=60) as client:
            url = f"/sandboxes/{sandbox_id}/files"
            return client.put(url, params={"path": "/app/same"}, content=content(letter)).status_code

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(put, (b"a", b"b"))) == [200, 200]
    data = shared.raw("GET", f"/sandboxes/{sandbox_id}/files", params={"path": "/app/same"}).content
    assert data in (b"a" * 200_000, b"b" * 200_000)
    assert shared.exec(sandbox_id, "ls -A /app")["stdout"].split() == ["same", "server.py"]
    shared.call("DELETE", f"/sandboxes/{sandbox_id}")


def test_endless_output_is_bounded_and_does_not_disturb(shared, digest):
    state = shared.sandbox(digest, start_command="sh -c 'while true; do yes 0123456789 | head -c 1000000; done'")
    log = shared.folder / "sandboxes" / state["id"] / "output.log"
    while not log.with_name("output.log.1").exists():
        time.sleep(0.05)
    assert log.with_name("output.log.1").stat().st_size <= (4 << 20) + 65536
    assert len(shared.call("GET", f"/sandboxes/{state['id']}/logs?tail=100000")["logs"]) == 100000
    assert shared.exec(state["id"], "echo still here")["stdout"] == "still here\n"
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    assert shared.marked(state["id"]) == []


def test_what_is_not_there_is_said(shared, digest):
    unknown = shared.raw("GET", f"/sandboxes/{uuid.uuid4().hex}")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "sandbox_not_found")
    body = {"id": "x", "digest": "sha256:" + "0" * 64}
    refused = shared.raw("POST", "/sandboxes", json=body)
    assert (refused.status_code, refused.json()["error"]) == (404, "image_not_found")
    assert "vf-build" in refused.json()["detail"]
    for wrong in ({"id": "../x"}, {"lease_seconds": -1}, {"env": [1]}, {"start_command": {"a": 1}}, {"port": "8000"}):
        bad = shared.raw("POST", "/sandboxes", json={"id": "x", "digest": digest, **wrong})
        assert (bad.status_code, bad.json()["error"]) == (400, "bad_request")
        assert next(iter(wrong)) in bad.json()["detail"]


def test_an_image_in_use_stays(shared):
    image = shared.server_image(**{"only.txt": "here"}, Dockerfile="FROM python\nCOPY . /app\nCMD sleep 600\n")
    state = shared.sandbox(image)
    refused = shared.raw("DELETE", f"/images/{image}")
    assert (refused.status_code, refused.json()["error"]) == (409, "image_in_use")
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    shared.call("DELETE", f"/images/{image}")
    assert image not in [item["digest"] for item in shared.call("GET", "/images")["images"]]
