"""Sandboxes of a container engine: how they are held, what is told of them, and an engine that goes away in between."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from prime_hub.runner.runtimes.conformance import Host
from tests.containers.conftest import Engine, Hosts, owner

MIB = 1 << 20


def test_how_a_container_is_made(engine: Engine, host: Host) -> None:
    limits = {"memory_bytes": 256 * MIB, "cpus": 0.5, "pids": 70}
    with host.sandbox(limits=limits) as box:
        found = engine.inspect(box)
        config = found["HostConfig"]
        assert (config["Memory"], config["MemorySwap"], config["PidsLimit"]) == (256 * MIB, 256 * MIB, 70)
        assert config["NanoCpus"] == 500_000_000 or config["CpuQuota"] == config["CpuPeriod"] / 2
        assert not config["Privileged"] and not any((config["PortBindings"] or {}).values()) and not config["Binds"]
        status = dict(
            line.split(":\t", 1)
            for line in host.shell(box, "cat /proc/self/status")["stdout"].splitlines()
            if ":\t" in line
        )
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
        # CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID and SETUID, and nothing else.
        assert int(status["CapBnd"], 16) == 0b11101011


def test_what_is_told_of_it(host: Host) -> None:
    with host.sandbox() as box:
        host.get(box)
        found = host.call("GET", f"/sandboxes/{box}/listen")
        assert found == {"addresses": [{"host": "0.0.0.0", "port": 8000, "host_port": 8000}], "host_rewritten": False}
        usage = host.call("GET", f"/sandboxes/{box}/usage")
        assert usage["processes"] >= 2 and usage["memory_bytes"] > MIB and usage["cpu_seconds"] > 0


def test_a_port_is_known_before_its_server(host: Host) -> None:
    with host.sandbox() as box:
        address = host.address(box, 9123)
        with pytest.raises(httpx.TransportError):
            httpx.get(address, trust_env=False, timeout=5)
        host.shell(box, "python server.py --port 9123 > /dev/null 2>&1 &")
        assert host.address(box, 9123) == address
        host.get(box, port=9123)


def test_a_disk_filler_is_ended(host: Host) -> None:
    if "disk" in host.claims:
        pytest.skip("the engine bounds the disk by itself")
    box = host.started(limits={"disk_bytes": 64 * MIB})
    host.send(
        "POST", f"/sandboxes/{box}/exec", json={"command": "while :; do cat /dev/zero > /app/f; done", "timeout": 60}
    )
    state = host.ended(box)
    assert "of disk and was ended" in state["error"], state
    host.call("DELETE", f"/sandboxes/{box}")


def test_a_long_log_is_followed_to_its_end(host: Host) -> None:
    """Longer than what is held of it in memory, and than what the engine keeps."""
    with host.sandbox() as box:
        host.get(box)
        _, offset, _ = host.follow(box, 0, "listening")
        for number in range(3):
            host.poke(box, "/print?text=0123456789&times=1000000")
            host.poke(box, f"/print?text=round-{number}")
            told, offset, _ = host.follow(box, offset, f"round-{number}")
            assert told.endswith(f"round-{number}\n") and f"round-{number - 1}" not in told
        assert host.part(box, offset) == {"text": "", "offset": offset, "complete": False}
        host.poke(box, "/exit?code=0")
        told, _, complete = host.follow(box, offset)
        assert complete and "leaving" in told and "0123456789" not in told


def test_traffic_counts_as_use(host: Host) -> None:
    used, unused = host.started(idle_seconds=3), host.started(idle_seconds=3)
    address = host.address(used)
    assert host.get(used)
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        httpx.get(address, trust_env=False, timeout=10)
        time.sleep(0.2)
    assert host.state(used)["status"] == "running"
    assert host.ended(unused)["error_type"] == "TIMEOUT"
    host.call("DELETE", f"/sandboxes/{used}")


def test_strays_are_ended(engine: Engine, hosts: Hosts) -> None:
    host = hosts()
    box = host.started()
    host.kill()
    for file in (host.folder / "sandboxes" / box).iterdir():
        file.unlink()
    host.start()
    host.until("the container is gone", lambda: not engine.containers(**{"prime.sandbox": box}))


def test_nothing_stays_of_a_runner(engine: Engine, hosts: Hosts) -> None:
    host = hosts()

    def left() -> list[str]:
        name = f"prime-{owner(engine, host)}"
        rules = subprocess.run(["iptables", "-t", "mangle", "-S"], capture_output=True, text=True, check=False).stdout
        chains = [line for line in rules.splitlines() if f"PRIME-{owner(engine, host)}" in line]
        return [network["Name"] for network in engine.get("/networks") if name in network["Name"]] + chains

    with host.sandbox(), host.sandbox(egress={"allow": []}):
        assert sum("prime-" in name for name in left()) == 2
    host.stop()
    assert left() == []
    host.start()


def test_a_connection_from_outside_its_bridge(host: Host) -> None:
    """Only this host reaches a sandbox: not even one that is let out everywhere."""
    with host.sandbox() as box, host.sandbox(egress={"allow": []}) as other:
        targets = [host.address(item).removeprefix("http://").rpartition(":")[0] for item in (box, other)]
        for item, target in ((box, targets[1]), (other, targets[0])):
            code = f"import socket\ntry: socket.create_connection(({target!r}, 8000), timeout=2); print('in')\nexcept OSError: print('out')"
            assert host.python(item, code)["stdout"] == "out\n"


@pytest.mark.timeout(300)
def test_an_engine_that_stands_still(engine: Engine, hosts: Hosts) -> None:
    """Sandboxes outlive it, and are used as before when it goes on."""
    host, pid = hosts(), _listener(engine)
    box = host.started()
    os.kill(pid, signal.SIGSTOP)
    try:
        host.get(box)
        assert host.state(box)["status"] == "running"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert host.shell(box, "echo well")["stdout"] == "well\n"
    host.call("DELETE", f"/sandboxes/{box}")


def _listener(engine: Engine) -> int:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(engine.address.removeprefix("unix://"))
        return struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def test_no_engine(tmp_path: Path) -> None:
    host = Host(tmp_path / "runner", "docker", ("--option", f"engine=unix://{tmp_path}/none.sock"))
    with pytest.raises(AssertionError, match="No container engine listens at"):
        host.start()
    host = Host(tmp_path / "other", "docker", ("--option", "engine=tcp://127.0.0.1:2375"))
    with pytest.raises(AssertionError, match="not a socket of this host"):
        host.start()
