"""Checks of isolation: what a stranger's code tries on the host and on its neighbours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from prime_hub.runner.runtimes.conformance.checks import check
from prime_hub.runner.runtimes.conformance.host import SECRET, Host, expect


@check("isolating")
def the_host_is_out_of_sight(host: Host) -> None:
    """Nothing of the runner's folder, of a home, of the runner's environment or of the host's processes is seen."""
    secret = host.folder / "secret.txt"
    secret.write_text("a secret of the Hub")
    with host.sandbox() as box:
        expect(host.shell(box, f"cat {secret}")["exit_code"] != 0, "a file of the runner's folder could be read")
        home = Path(os.environ.get("HOME", "/root"))
        (home / ".probe").write_text("a secret of the user")
        try:
            ran = host.shell(box, f"cat {home}/.probe ~/.probe /proc/*/root/{home}/.probe 2>/dev/null")
            expect("secret" not in ran["stdout"], "the home of the runner's user could be read")
        finally:
            (home / ".probe").unlink()
        ran = host.shell(box, "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'")
        expect(SECRET not in ran["stdout"], "the runner's environment could be read")
        expect("prime_hub.runner" not in ran["stdout"], "processes of the host are seen")
        ran = host.shell(box, "ls -l /proc/self/fd | grep -v ' -> /proc/' | wc -l; ls /proc/self/fd | wc -l")
        expect(int(ran["stdout"].split()[-1]) <= 5, f"a command inherits open files: {ran}")


@check("isolating")
def the_host_cannot_be_signalled(host: Host) -> None:
    """No process of the host, the runner's included, can be signalled, traced or reniced."""
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        with host.sandbox() as box:
            runner = host.info["pid"]
            # With the last signal it may end itself, and the command has no answer then.
            line = f"kill -9 {victim.pid} {runner}; kill -9 -1; true"
            host.send("POST", f"/sandboxes/{box}/exec", json={"command": line, "timeout": 30})
            expect(victim.poll() is None, "a process of the host was killed")
            expect(host.call("GET", "/info")["pid"] == runner, "the runner was killed")
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()


@check("isolating")
def rights_do_not_grow(host: Host) -> None:
    """No capability of the host, no new privileges, no mounts, no raised limits, no devices."""
    with host.sandbox(limits={"memory_bytes": 512 << 20, "pids": 100}) as box:
        status = host.shell(box, "cat /proc/self/status")["stdout"]
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        expect(fields["NoNewPrivs"].strip() == "1", "new privileges can be had")
        effective = int(fields["CapEff"].strip(), 16)
        dangerous = (
            1 << 21 | 1 << 16 | 1 << 17 | 1 << 19 | 1 << 12 | 1 << 27
        )  # SYS_ADMIN MODULE RAWIO PTRACE NET_ADMIN MKNOD
        expect(not effective & dangerous, f"capabilities {effective:x}")
        for line in (
            "mount -t tmpfs none /mnt",
            "mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk",
            "head -c 1 /dev/mem",
            "echo 1 > /proc/sys/kernel/panic",
            "echo 4000000 > /proc/sys/kernel/pid_max",
            "dmesg -C",
            "mkdir /sys/fs/cgroup/mine && test -e /sys/fs/cgroup/mine/cgroup.procs || mkdir /sys/fs/cgroup/memory/mine",
            "find /sys/fs/cgroup -name memory.limit_in_bytes -o -name memory.max | head -1 | xargs -I{} sh -c 'echo 99999999999 > {}'",
            "nsenter -t 1 -a true && unshare -m mount -t tmpfs none /mnt",
            "echo 'x' > /usr/bin/newfile && test -w /etc/passwd && cp /bin/true /usr/bin/python3",
        ):
            ran = host.shell(box, f"({line}) 2>&1", timeout=30)
            allowed_inside = line.startswith("echo 'x'")  # an image's own writable layer is its own business
            expect(ran["exit_code"] != 0 or allowed_inside or "xargs" in line, f"it could do: {line}")
        ran = host.shell(box, "ulimit -Hn; ulimit -c")
        expect(ran["stdout"].split()[0] != "unlimited", f"open files are not limited: {ran}")


@check("isolating")
def neighbours_are_out_of_reach(host: Host) -> None:
    """Another sandbox's files, processes and ports are not there for it, nor this host's own servers."""
    with host.sandbox(env={"WHO": "victim"}) as other, host.sandbox() as box:
        host.get(other)
        host.shell(other, "echo private > /tmp/private")
        expect(host.shell(box, "cat /tmp/private")["exit_code"] != 0, "a neighbour's file could be read")
        ran = host.shell(box, "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c WHO=victim")
        expect(ran["stdout"].strip() == "0", "a neighbour's process is seen")
        outside, _, port = host.address(other).removeprefix("http://").rpartition(":")
        ran = host.shell(
            other,
            "cat /proc/net/fib_trie 2>/dev/null | grep -B1 'host LOCAL' | grep -oE '[0-9]+(\\.[0-9]+){3}' | sort -u",
        )
        inside = [found for found in ran["stdout"].split() if not found.startswith("127.")]
        code = (
            "import socket\n"
            f"for where in [({outside!r}, {port}), *(({inside!r}[n], 8000) for n in range({len(inside)}))]:\n"
            "    try: socket.create_connection(where, timeout=1); print('reached', where)\n"
            "    except OSError: pass\n"
        )
        ran = host.python(box, code, timeout=60)
        expect("reached" not in ran["stdout"], f"a neighbour was reached: {ran['stdout']}")
