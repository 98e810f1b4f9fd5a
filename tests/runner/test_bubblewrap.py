"""Boxes of the runtime bubblewrap, beyond what the conformance suite asks of every runtime: attacked from inside."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from prime_hub.runner.runtimes.conformance import Host
from prime_hub.runner.runtimes.conformance.host import DOCKERFILE, SERVER, processes_with

MIB = 1 << 20
ROOT = os.geteuid() == 0

CALLS = """
import ctypes, errno, json, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    ctypes.set_errno(0)
    result = libc.syscall(number, *[ctypes.c_long(word) for word in words])
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
print(json.dumps({name: call(*words) for name, words in json.loads(sys.argv[1]).items()}))
"""
KERNEL_CALLS = {
    "keyctl": ((250, 0), "EPERM"),
    "bpf": ((321, 0), "EPERM"),
    "userfaultfd": ((323, 0), "EPERM"),
    "perf_event_open": ((298, 0), "EPERM"),
    "mount": ((165, 0), "EPERM"),
    "setns": ((308, 0, 0), "EPERM"),
    "a user namespace": ((272, 0x10000000), "EPERM"),
    "a network namespace": ((272, 0x40000000), "EPERM"),
    "a clone in a user namespace": ((56, 0x10000011, 0), "EPERM"),
    "clone3": ((435, 0, 0), "ENOSYS"),
    "io_uring": ((425, 1, 0), "ENOSYS"),
    "a call of the x32 kind": ((0x40000027,), "ENOSYS"),
    "files of its own": ((272, 0x400), "done"),
    "getpid": ((39,), "done"),
}


def problem(folder: Path) -> str | None:
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    with contextlib.suppress(AssertionError):
        host = Host(folder, "bubblewrap")
        host.start()
        host.stop()
        return None
    return host.log()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("bubblewrap")
    if why := problem(folder / "tried"):
        pytest.skip(why)
    host = Host(folder / "runner", "bubblewrap")
    host.start()
    yield host
    host.stop()


def script(host: Host, box: str, code: str, *words: str, **more) -> dict:
    """Run Python code in a box."""
    host.call("PUT", f"/sandboxes/{box}/files", params={"path": "/tmp/script.py"}, content=code.encode())
    quoted = " ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words)
    return host.shell(box, f"python /tmp/script.py {quoted}", **more)


def of_box(box: str) -> list[int]:
    """The processes of a box on this host, its first one and bubblewrap itself included."""
    wanted = f"PRIME_SANDBOX_ID={box}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_calls_that_reach_the_kernel_itself_are_refused(host):
    with host.sandbox() as box:
        ran = script(host, box, CALLS, json.dumps({name: words for name, (words, _) in KERNEL_CALLS.items()}))
        assert json.loads(ran["stdout"]) == {name: result for name, (_, result) in KERNEL_CALLS.items()}


def test_other_kinds_of_sockets_and_words_put_into_terminals_are_refused(host):
    code = """
import fcntl, os, socket
for family in (40, 38, 17):
    try: socket.socket(family, socket.SOCK_STREAM); print("made", family)
    except OSError: pass
master, slave = os.openpty()
for request in (0x5412, 0x541C):
    try: fcntl.ioctl(slave, request, b"x"); print("put", request)
    except OSError: pass
socket.socket(socket.AF_INET6); socket.socket(socket.AF_UNIX)
print("end")
"""
    with host.sandbox() as box:
        assert script(host, box, code)["stdout"] == "end\n"
        ran = host.run(box, "python", "/tmp/script.py", pty=[24, 80])
        assert ran.stdout == b"end\r\n"


def test_limits_hold_and_cannot_be_raised(host):
    code = """
import resource
for name in ("NOFILE", "NPROC", "CORE", "FSIZE"):
    limit = getattr(resource, "RLIMIT_" + name)
    soft, hard = resource.getrlimit(limit)
    print(name, soft)
    try: resource.setrlimit(limit, (hard, hard + 1)); print("raised", name)
    except (OSError, ValueError): pass
"""
    with host.sandbox(limits={"pids": 100, "disk_bytes": 64 * MIB}) as box:
        said = dict(line.split() for line in script(host, box, code)["stdout"].splitlines())
        assert "raised" not in said
        assert int(said["NOFILE"]) <= 65536
        assert (said["NPROC"], said["CORE"], said["FSIZE"]) == ("101", "0", str(64 * MIB))


def test_the_first_process_cannot_be_killed_from_inside(host):
    with host.sandbox() as box:
        host.get(box)
        ran = host.shell(box, "for s in KILL STOP INT TERM HUP CHLD USR1 SEGV; do kill -$s 1; done; sleep 0.3; echo on")
        assert ran["stdout"] == "on\n"
        assert host.get(box)["env"]


def test_whoever_kills_everything_ends_his_own_box_only(host):
    with host.sandbox() as neighbour:
        box = host.started()
        host.get(box)
        host.send("POST", f"/sandboxes/{box}/exec", json={"command": "kill -9 -1"})
        assert host.ended(box)["status"] == "exited"
        assert of_box(box) == []
        host.get(neighbour)


def test_a_box_has_no_rights_on_this_host(host):
    with host.sandbox() as box:
        host.get(box)
        own = {os.geteuid()}
        found = set()
        for pid in of_box(box):
            status = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
            if "NSpid" in status and len(status["NSpid"].split()) > 1:
                found |= {int(word) for word in status["Uid"].split()}
                assert (status["NoNewPrivs"].strip(), int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (
                    "1",
                    0,
                    0,
                )
                assert status["Seccomp"].strip() == "2" or os.uname().machine not in ("x86_64", "aarch64")
        assert found
        assert not (found & own) if ROOT else found == own
        assert 0 not in found


def test_two_boxes_have_different_users(host):
    if not ROOT:
        pytest.skip("only root can give each box a user of its own")
    with host.sandbox() as one, host.sandbox() as two:
        users = [{Path(f"/proc/{pid}").stat().st_uid for pid in of_box(box)} for box in (one, two)]
        assert not users[0] & users[1]


def test_what_a_box_sees_is_the_system_and_its_image(host):
    with host.sandbox() as box:
        listed = host.shell(box, "ls / /home /mnt /opt /srv; ls -a /root; hostname; cat /proc/1/environ")["stdout"]
        assert "sandbox" in listed
        assert "A_SECRET" not in listed
        for name in (host.folder.name, "state.json"):
            assert name not in listed
        for path in (
            "/usr/x",
            "/app/.venv/x",
            "/run/prime/image/x",
            "/run/prime/kit/x",
            "/run/prime/egress/x",
            "/dev/x",
        ):
            assert host.shell(box, f"touch {path}")["exit_code"] != 0, path
        assert (
            host.shell(box, "rm -f /run/prime/egress/proxy.sock; test -S /run/prime/egress/proxy.sock")["exit_code"]
            == 0
        )
        assert host.shell(box, "cat /proc/net/dev | tail -n +3 | cut -d: -f1")["stdout"].split() == ["lo"]


def test_a_start_command_runs_as_it_is_written(host):
    tree = DOCKERFILE.replace("WORKDIR /app", "WORKDIR /app/env\nRUN python -m venv /app/.venv")
    state = host.build({"Dockerfile": tree, "server.py": SERVER})
    line = 'sh -lc "cd /app/env && exec /app/.venv/bin/python server.py --host 0.0.0.0 --port 8000"'
    with host.sandbox(digest=state["digest"], start_command=line) as box:
        assert host.get(box)["cwd"] == "/app/env"
        addresses = host.call("GET", f"/sandboxes/{box}/listen")
        assert [(item["host"], item["port"]) for item in addresses["addresses"]] == [("0.0.0.0", 8000)]
        assert addresses["host_rewritten"] is False


def test_a_server_is_reached_by_its_unix_socket_too_and_half_closed_streams_end(host):
    echo = """
import socket, threading
server = socket.create_server(("0.0.0.0", 8000))
def serve(client):
    data = b""
    while more := client.recv(65536):
        data += more
    client.sendall(data.upper())
    client.close()
while True:
    threading.Thread(target=serve, args=server.accept()[:1]).start()
"""
    state = host.build({"Dockerfile": DOCKERFILE, "server.py": echo})
    with host.sandbox(digest=state["digest"]) as box:
        reached = host.call("POST", f"/sandboxes/{box}/expose", {"port": 8000})
        host.until("it listens", lambda: host.call("GET", f"/sandboxes/{box}/listen")["addresses"])
        content = b"x" * 3_000_000
        for family, address in (
            (socket.AF_UNIX, reached["unix_socket"]),
            (socket.AF_INET, (reached["host"], reached["port"])),
        ):
            with socket.socket(family) as client:
                client.settimeout(30)
                client.connect(address)
                client.sendall(content)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while data := client.recv(1 << 20):
                    answer += data
            assert answer == content.upper()


def test_ports_that_came_later_survive_a_restart_of_the_runner(host):
    with host.sandbox(lease_seconds=300) as box:
        host.shell(box, "python server.py --port 8123 > /tmp/second.log 2>&1 &")
        before, address = host.get(box, port=8123)["pid"], host.address(box, 8123)
        host.restart()
        assert host.address(box, 8123) == address
        assert host.get(box, port=8123)["pid"] == before
        ran = host.shell(box, "kill -TERM 1; echo still")
        assert ran["stdout"] == "still\n"


def test_a_port_that_another_program_took_while_the_runner_was_away_is_left_to_it(host):
    with host.sandbox(lease_seconds=300) as box:
        before, address = host.get(box)["pid"], host.address(box)
        host.kill()
        with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
            host.start()
            moved = host.address(box)
            assert moved != address
            assert host.get(box)["pid"] == before
            host.restart()
            assert host.address(box) == moved


def test_a_way_out_survives_a_restart_of_the_runner(host):
    code = "import urllib.request\ntry: urllib.request.urlopen('http://127.0.0.1:9/', timeout=10)\n"
    code += "except Exception as error: print(error, error.read().decode() if hasattr(error, 'read') else '')\n"
    open_to_all = {"no_proxy": "", "NO_PROXY": ""}
    with host.sandbox(lease_seconds=300) as box:
        for _ in range(2):
            said = script(host, box, code, env=open_to_all)["stdout"]
            assert "403" in said
            assert "127.0.0.1:9 lies on this host" in said
            host.restart()


def test_links_devices_and_races_in_files_lead_nowhere(host):
    with host.sandbox() as box:
        files = f"/sandboxes/{box}/files"
        host.shell(
            box, "mkdir /tmp/t; cd /tmp/t; ln -s /proc/1/environ e; ln -s /dev/zero z; ln -s loop loop; mkfifo p"
        )
        for path in (
            "/tmp/t/z",
            "/tmp/t/p",
            "/tmp/t/loop",
            "/dev/tty",
            "/dev/ptmx",
            "/tmp/t",
            "/run/prime/egress/proxy.sock",
        ):
            assert host.send("GET", files, params={"path": path}).status_code in (404, 422), path
        # Written through, and within the box: a link of the box's own making is its own affair.
        host.shell(box, "ln -s /etc/passwd /tmp/t/w")
        assert host.send("PUT", files, params={"path": "/tmp/t/w"}, content=b"own").status_code == 200
        assert "root" in Path("/etc/passwd").read_text()
        assert host.shell(box, "cat /etc/passwd")["stdout"] == "own"
        assert host.send("PUT", files, params={"path": "/usr/x"}, content=b"x").status_code == 422
        assert host.send("DELETE", files, params={"path": "/"}).status_code == 422
        assert host.send("PUT", files, params={"path": "/tmp/t/e/x"}, content=b"x").status_code == 422


def test_a_file_that_does_not_fit_is_told_as_a_full_disk(host):
    with host.sandbox(limits={"disk_bytes": 8 * MIB}) as box:
        answer = host.send("PUT", f"/sandboxes/{box}/files", params={"path": "/tmp/f"}, content=b"x" * 20 * MIB)
        assert (answer.status_code, answer.json()["error"]) == (507, "disk")
        assert host.shell(box, "ls -A /tmp")["stdout"] == ""


def test_names_that_are_no_text_are_listed(host):
    with host.sandbox() as box:
        host.shell(box, r"mkdir /tmp/n; touch /tmp/n/$(printf 'a\377') /tmp/n/ü; ln -s $(printf 'x\376') /tmp/n/l")
        listed = host.call("GET", f"/sandboxes/{box}/files/entries", params={"path": "/tmp/n"})["entries"]
        assert [item["path"] for item in listed] == ["/tmp/n/a\ufffd", "/tmp/n/l", "/tmp/n/ü"] or len(listed) == 3


def test_an_image_that_does_not_fit_is_told(host):
    noise = base64.b64encode(os.urandom(3 * MIB)).decode()
    state = host.build({"Dockerfile": DOCKERFILE + "COPY large /app/large\n", "server.py": SERVER, "large": noise})
    box = host.create(digest=state["digest"], limits={"disk_bytes": 2 * MIB})
    found = host.state(box)
    assert found["status"] == "failed"
    assert "does not fit into the sandbox's disk" in found["error"]
    assert of_box(box) == []


def test_what_an_image_puts_into_the_systems_own_folders_is_named(host):
    state = host.build({"Dockerfile": DOCKERFILE + "COPY tool /usr/local/bin/tool\n", "server.py": SERVER, "tool": "x"})
    with host.sandbox(digest=state["digest"]) as box:
        host.get(box)
        assert "/usr/local/bin/tool of the image is left out" in host.logs(box)


def test_memory_of_a_command_counts_and_a_command_out_of_memory_does_not_end_the_server(host):
    if "memory" not in host.claims:
        pytest.skip("memory is not held here")
    with host.sandbox(limits={"memory_bytes": 200 * MIB, "disk_bytes": 16 * MIB}) as box:
        before = host.get(box)["pid"]
        assert host.python(box, "x = bytearray(400 << 20)", timeout=60)["exit_code"] == 137
        assert host.get(box)["pid"] == before


def test_nothing_is_left_of_boxes_and_commands(host):
    def held() -> int:
        return len(os.listdir(f"/proc/{host.info['pid']}/fd"))  # noqa: PTH208

    def round_of_use() -> None:
        with host.sandbox() as box:
            host.get(box)
            host.shell(box, "sleep 98123 & setsid sleep 98124 & true")
            host.run(box, "true", pty=[24, 80])
            host.send("GET", f"/sandboxes/{box}/files/entries", params={"path": "/etc"})
            host.send("GET", f"/sandboxes/{box}/files", params={"path": "/none"})
            host.send("GET", f"/sandboxes/{box}/files/tree", params={"path": "/app"})
            host.send("PUT", f"/sandboxes/{box}/files", params={"path": "/usr/x"}, content=b"x")
            host.shell(box, "no-such-program")

    round_of_use()
    before = held()
    for _ in range(5):
        round_of_use()
    host.until("descriptors are given back", lambda: held() <= before + 1)
    assert not processes_with("9812")
    groups = [path for path in Path("/sys/fs/cgroup").glob("**/prime-*/*") if path.is_dir() and path.name in _ids(host)]
    assert groups == []
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "prime" in line]
    sockets = host.folder / "sockets"
    assert not sockets.exists() or not list(sockets.iterdir())


def _ids(host: Host) -> set[str]:
    return {item["id"] for item in host.call("GET", "/sandboxes")["sandboxes"]}


def test_a_runner_killed_at_any_moment_of_a_start_leaves_nothing(host):
    for pause in (0.0, 0.02, 0.05, 0.08, 0.12, 0.2):
        box = uuid.uuid4().hex
        host.call("POST", "/sandboxes", {"id": box, "digest": host.digest, "port": 8000, "lease_seconds": 300})
        time.sleep(pause)
        host.restart()
        state = host.state(box)
        assert state["status"] in ("running", "lost", "failed"), state
        host.call("DELETE", f"/sandboxes/{box}")
        assert of_box(box) == []


def test_without_bubblewrap_a_sentence_says_what_to_install(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    command = [sys.executable, "-m", "prime_hub.runner", "--dir", str(tmp_path / "runner"), "--runtime", "bubblewrap"]
    done = subprocess.run(command, env={**os.environ, "PATH": str(tools)}, timeout=60, check=False)
    assert done.returncode == 1
    assert (
        "install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap)"
        in (tmp_path / "runner" / "runner.log").read_text()
    )


def test_what_is_not_enforced_is_said(host):
    said = " ".join(host.info["not_enforced"])
    assert "the files of a sandbox lie in memory" in said
    assert "HTTP_PROXY" in said
    assert ("control groups" in said) == ("memory" not in host.claims)


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
def test_another_user_without_rights_can_do_it_too(tmp_path_factory):
    """As a user who may not make control groups: memory is watched instead."""
    folder = Path("/tmp") / f"prime-nobody-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    os.chown(folder, 65534, 65534)
    packages = [path for path in sys.path if path and Path(path).is_dir()]
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PRIME_CACHE_DIR": str(folder / "cache"),
    }
    env |= {"UV_CACHE_DIR": str(folder / "uv"), "PYTHONPATH": ":".join(_readable(packages)), "LANG": "C.UTF-8"}
    python = next((name for name in ("/usr/bin/python3", sys.executable) if _same_python(name)), None)
    if python is None:
        pytest.skip("this Python cannot be run by another user here")
    checks = ["it_serves", "exec_tells_everything", "fork_bomb", "where_it_may_connect", "the_runner_may_be_killed"]
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-m"]
    command += ["prime_hub.runner.runtimes.conformance", "--runtime", "bubblewrap", *checks, "rights_do_not_grow"]
    try:
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=110, check=False)
        if "no runner:" in done.stderr and "namespace" in done.stderr:
            pytest.skip(done.stderr[-500:])
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _readable(paths: list[str]) -> list[str]:
    return [
        path for path in paths if all(parent.stat().st_mode & 0o001 for parent in [Path(path), *Path(path).parents])
    ]


def _same_python(name: str) -> bool:
    if not Path(name).exists() or not _readable([str(Path(name).resolve().parent)]):
        return False
    shown = subprocess.run(
        [name, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() == str(sys.version_info[:2])


@pytest.mark.index
def test_uvicorn_takes_the_socket_over(host):
    app = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr((scope["client"], scope["server"])).encode()})
"""
    dockerfile = (
        "FROM python:3.11-slim\nWORKDIR /app/env\nRUN pip install 'uvicorn>=0.30,<1'\nCOPY app.py .\nEXPOSE 8000\n"
    )
    dockerfile += 'CMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"]\n'
    state = host.build({"Dockerfile": dockerfile, "app.py": app})
    assert state["status"] == "ready", state["log"]
    with host.sandbox(digest=state["digest"]) as box:
        reached = host.call("POST", f"/sandboxes/{box}/expose", {"port": 8000})

        def answer(**where) -> str | None:
            with contextlib.suppress(httpx.TransportError), httpx.Client(trust_env=False, **where) as http:
                return http.get(f"http://{reached['host']}:{reached['port']}/").text
            return None

        host.until("the server answers", answer)
        # The server accepts on it itself: no TCP connection of the first process stands between.
        said = answer(transport=httpx.HTTPTransport(uds=reached["unix_socket"]))
        assert said == "(('127.0.0.1', 0), ('0.0.0.0', 8000))"
        host.restart()
        assert answer(transport=httpx.HTTPTransport(uds=reached["unix_socket"])) == said
