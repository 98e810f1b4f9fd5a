"""Checks of limits: what a sandbox takes too much of harms itself and nobody else."""

from __future__ import annotations

import http.server
import threading
import time
from typing import Any

from prime_hub.runner.runtimes.conformance.checks import check
from prime_hub.runner.runtimes.conformance.host import Host, expect, processes_with

MIB = 1 << 20


@check("memory")
def memory_bomb(host: Host) -> None:
    """A server that takes more memory than it may is ended, as out of memory and nothing else; its neighbour lives."""
    with host.sandbox() as neighbour:
        box = host.started(limits={"memory_bytes": 160 * MIB})
        host.get(box)
        host.poke(box, "/eat?mib=1000")
        state = host.ended(box)
        expect((state["status"], state["error_type"]) == ("exited", "OOM_KILLED"), f"{state}")
        expect("memory" in str(state["error"]), f"the sentence: {state['error']}")
        host.call("DELETE", f"/sandboxes/{box}")
        host.get(neighbour)


@check("pids")
def fork_bomb(host: Host) -> None:
    """A fork bomb stays within the sandbox's processes and ends with the sandbox."""
    with host.sandbox() as neighbour:
        box = host.started(limits={"pids": 60, "memory_bytes": 512 * MIB})
        host.get(box)
        code = """
import os, time
made = 0
try:
    for _ in range(400):
        if os.fork() == 0:
            time.sleep(30); os._exit(0)
        made += 1
except OSError:
    pass
print(made)
"""
        made = int(host.python(box, code, timeout=60)["stdout"] or -1)
        expect(0 < made <= 60, f"{made} processes could be made")
        bomb = "bomb() { bomb | bomb & }; bomb; sleep 55443"
        answer = host.send("POST", f"/sandboxes/{box}/exec", json={"command": bomb, "timeout": 3})
        expect(answer.status_code in (200, 408, 422), answer.text)
        host.get(neighbour)
        host.call("DELETE", f"/sandboxes/{box}")
        expect(not processes_with("sleep\x0055443") and not processes_with("bomb()"), "processes of the bomb are left")


@check("disk")
def disk_filler(host: Host) -> None:
    """Files end where the sandbox's disk does, wherever it may write."""
    with host.sandbox(limits={"disk_bytes": 64 * MIB, "memory_bytes": 1024 * MIB}) as box:
        ran = host.shell(box, "head -c 200M /dev/zero > /tmp/fill; echo $?; wc -c < /tmp/fill; rm -f /tmp/fill")
        code, size = (int(word) for word in ran["stdout"].split())
        expect(code != 0 and size <= 80 * MIB, f"{size} bytes could be written: {ran}")
        for folder in ("/app", "/root", "$HOME", "/dev/shm", "/var/tmp", "/run", "/home", "/"):
            ran = host.shell(box, f"f={folder}/fill; head -c 300M /dev/zero 2>/dev/null > $f; wc -c < $f; rm -f $f")
            size = int(ran["stdout"].split()[-1]) if ran["stdout"].split() else 0
            expect(size <= 80 * MIB, f"{size} bytes could be written to {folder}")
        expect(host.shell(box, "echo well")["stdout"] == "well\n", "the sandbox is not well after it")


@check("cpus")
def processor_hog(host: Host) -> None:
    """Half a processor is what it gets, however many processes spin."""
    with host.sandbox(limits={"cpus": 0.5}) as box:
        host.get(box)
        host.shell(box, "for n in 1 2 3 4; do (while :; do :; done) & done", timeout=30)
        before, began = host.call("GET", f"/sandboxes/{box}/usage")["cpu_seconds"], time.monotonic()
        time.sleep(3)
        used = host.call("GET", f"/sandboxes/{box}/usage")["cpu_seconds"] - before
        share = used / (time.monotonic() - began)
        expect(share < 0.75, f"it used {share:.2f} processors of 0.5")


class _Outside(http.server.BaseHTTPRequestHandler):
    """A server of this host that a sandbox may or may not reach."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"outside")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@check("egress")
def where_it_may_connect(host: Host) -> None:
    """Only what is allowed can be reached; this host only where it is named; a change counts from then on."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Outside)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    code = (
        "import urllib.request\n"
        f"try: print(urllib.request.urlopen('http://127.0.0.1:{port}/x', timeout=10).read().decode())\n"
        "except Exception as error: print('no:', error)\n"
    )
    direct = (
        "import socket\n"
        "for address in ('127.0.0.1', '10.0.2.2', '172.17.0.1', '169.254.169.254'):\n"
        f"    try: socket.create_connection((address, {port}), timeout=1); print('reached', address)\n"
        "    except OSError: pass\n"
    )
    # Our own name for the proxy's answer: a client that leaves loopback out of proxying is told to go through it.
    through = {"no_proxy": "", "NO_PROXY": ""}
    try:
        with host.sandbox(egress={"allow": [f"127.0.0.1:{port}"]}) as box:
            ran = host.python(box, code, env=through)
            expect(ran["stdout"].strip() == "outside", f"an allowed host was not reached: {ran}")
            host.call("POST", f"/sandboxes/{box}/egress", {"allow": [], "deny": []})
            expect(
                host.python(box, code, env=through)["stdout"].startswith("no:"), "it is still reached after a change"
            )
        for egress in ({"allow": []}, {"allow": ["example.invalid"]}, {"allow": None, "deny": []}):
            with host.sandbox(egress=egress) as box:
                ran = host.python(box, code, env=through)
                expect(ran["stdout"].startswith("no:"), f"this host was reached with {egress}: {ran}")
                ran = host.python(box, direct)
                expect("reached" not in ran["stdout"], f"this host was reached around the proxy: {ran}")
    finally:
        server.shutdown()
        server.server_close()
