"""What the machine has and what processes use of it, from this machine's /proc and from those of others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prime_hub.runner.machine import capacity, usage

MIB = 1 << 20
HUNGRY = "held = bytearray({size})\nfor _ in range(3_000_000): pass\nprint('ready', flush=True)\ninput()\n"


def test_this_machine(shared):
    told = shared.call("GET", "/capacity")
    assert 0 < told["cpus"] <= (os.cpu_count() or 1)
    assert 0 < told["memory_available_bytes"] < told["memory_bytes"]
    assert told["memory_bytes"] <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    digest = shared.server_image()
    state = shared.sandbox(digest)
    assert shared.call("GET", "/capacity")["sandboxes"] == told["sandboxes"] + 1
    shared.call("DELETE", f"/sandboxes/{state['id']}")


def test_what_a_sandbox_uses(shared):
    state = shared.sandbox(shared.server_image())
    shared.healthy(state["id"])
    before = shared.call("GET", f"/sandboxes/{state['id']}/usage")
    assert before["processes"] >= 1 and before["memory_bytes"] > MIB and before["cpu_seconds"] > 0
    # What a command has started counts as well.
    script = HUNGRY.format(size=64 * MIB).replace("input()", "import time; time.sleep(600)")
    shared.raw("PUT", f"/sandboxes/{state['id']}/files", params={"path": "/app/hungry.py"}, content=script)
    shared.exec(state["id"], "python hungry.py > out & while ! grep -q ready out; do sleep 0.05; done")
    after = shared.call("GET", f"/sandboxes/{state['id']}/usage")
    assert after["memory_bytes"] > before["memory_bytes"] + 60 * MIB
    assert after["cpu_seconds"] > before["cpu_seconds"]
    assert after["processes"] > before["processes"]
    shared.call("DELETE", f"/sandboxes/{state['id']}")
    assert shared.raw("GET", f"/sandboxes/{state['id']}/usage").status_code == 410


def test_processes_that_have_ended_are_left_out():
    command = [sys.executable, "-c", HUNGRY.format(size=32 * MIB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        used = usage([process.pid, 2**22 + 1])
        assert used.processes == 1
        assert (used.memory_bytes or 0) > 32 * MIB and (used.cpu_seconds or 0) > 0
        process.stdin.write(b"\n")
    assert usage([process.pid]).processes == 0


def system(root: Path, cgroup: str, mounts: list[str], files: dict[str, str]) -> Path:
    """A /proc of another machine with 8 GiB, and what is mounted there, under `root`."""
    proc = root / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:        8388608 kB\nMemFree:  1 kB\nMemAvailable:    6291456 kB\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    (proc / "self" / "mountinfo").write_text("\n".join(mounts).replace("ROOT", str(root)))
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return proc


TWO = "30 1 0:1 / ROOT/cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
ONE = [
    "30 1 0:1 {} ROOT/cg/memory rw - cgroup cgroup rw,memory",
    "31 1 0:2 {} ROOT/cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
]


def test_without_limits(tmp_path):
    proc = system(tmp_path, "0::/\n", [TWO], {"cg/cgroup.procs": ""})
    found = capacity(proc)
    assert (found.memory_bytes, found.memory_available_bytes) == (8192 * MIB, 6144 * MIB)
    assert found.cpus == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("limited", ["cg/outer", "cg/outer/inner"])
def test_limits_of_the_second_version_count_from_every_level(tmp_path, limited):
    files = {
        "cg/outer/inner/memory.max": "max\n",
        "cg/outer/inner/memory.current": "1\n",
        f"{limited}/memory.max": f"{1024 * MIB}\n",
        f"{limited}/memory.current": f"{600 * MIB}\n",
        f"{limited}/memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
        f"{limited}/cpu.max": "50000 100000\n",
    }
    found = capacity(system(tmp_path, "0::/outer/inner\n", [TWO], files))
    assert (found.cpus, found.memory_bytes, found.memory_available_bytes) == (0.5, 1024 * MIB, 524 * MIB)


@pytest.mark.parametrize("most", ["max", str(2048 * MIB)])
def test_a_group_that_is_slowed_down_beyond_a_limit_has_no_more_than_that(tmp_path, most):
    files = {
        "cg/memory.max": f"{most}\n",
        "cg/memory.high": f"{1024 * MIB}\n",
        "cg/memory.current": f"{600 * MIB}\n",
        "cg/memory.stat": "inactive_file 0\n",
    }
    found = capacity(system(tmp_path, "0::/\n", [TWO], files))
    assert (found.memory_bytes, found.memory_available_bytes) == (1024 * MIB, 424 * MIB)


@pytest.mark.parametrize(("root", "folder"), [("/", "/docker/abc"), ("/docker/abc", "")])
def test_limits_of_the_first_version_also_inside_a_container(tmp_path, root, folder):
    memory, cpu = f"cg/memory{folder}", f"cg/cpu,cpuacct{folder}"
    files = {
        "cg/memory/memory.limit_in_bytes": "9223372036854771712\n" if folder else f"{1024 * MIB}\n",
        "cg/memory/memory.usage_in_bytes": f"{900 * MIB}\n",
        f"{memory}/memory.limit_in_bytes": f"{1024 * MIB}\n",
        f"{memory}/memory.usage_in_bytes": f"{900 * MIB}\n",
        f"{memory}/memory.stat": f"inactive_file 1\ntotal_inactive_file {400 * MIB}\n",
        f"{cpu}/cpu.cfs_quota_us": "25000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
    }
    groups = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"
    found = capacity(system(tmp_path, groups, [line.format(root) for line in ONE], files))
    assert (found.cpus, found.memory_bytes, found.memory_available_bytes) == (0.25, 1024 * MIB, 524 * MIB)


def test_a_system_that_tells_nothing(tmp_path):
    found = capacity(tmp_path)
    assert found.cpus >= 1 and found.memory_available_bytes is None
    nothing = usage([os.getpid()], tmp_path)
    assert (nothing.memory_bytes, nothing.cpu_seconds) == (None, None)
