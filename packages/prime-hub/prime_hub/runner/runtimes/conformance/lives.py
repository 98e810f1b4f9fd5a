"""Checks of a sandbox's life: start, health, ports, logs, ends, and restarts around it."""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx

from prime_hub.runner.runtimes.conformance.checks import check
from prime_hub.runner.runtimes.conformance.host import SECRET, Host, expect, processes_with


def _marked() -> tuple[str, list[str]]:
    mark = uuid.uuid4().hex
    return mark, ["python", "server.py", "--host", "0.0.0.0", "--port", "8000", "--mark", mark]


@check()
def it_serves(host: Host) -> None:
    """Two sandboxes of one image serve the same port at the same time, each its own; the image's command runs."""
    with host.sandbox(env={"WHO": "first"}) as one, host.sandbox(env={"WHO": "second"}) as two:
        for box, who in ((one, "first"), (two, "second")):
            answer = host.get(box)
            expect(answer["env"]["WHO"] == who, f"the answer is of another one: {answer['env'].get('WHO')}")
            expect(answer["env"]["OF_THE_IMAGE"] == "yes", "the image's environment is missing")
            expect(SECRET not in answer["env"], "the runner's environment reached the sandbox")
        expect("listening" in host.logs(one), "its log is missing")
        addresses = host.call("GET", f"/sandboxes/{one}/listen")["addresses"]
        expect(any(item["port"] == 8000 for item in addresses), f"it listens at {addresses}")
        used = host.call("GET", f"/sandboxes/{one}/usage")
        expect(used["processes"] >= 1 and used["memory_bytes"] > 1_000_000, f"usage {used}")


@check()
def a_shell_line_starts_it(host: Host) -> None:
    """A start command of a manifest runs as it is written, a login shell and all."""
    line = 'sh -lc "cd /app && python server.py --host 0.0.0.0 --port 8000"'
    with host.sandbox(start_command=line) as box:
        expect(host.get(box)["cwd"].endswith("/app"), "it was not started in its folder")


@check()
def a_port_of_its_own(host: Host) -> None:
    """A port that a command opens later is reached as well."""
    with host.sandbox() as box:
        host.shell(box, "python server.py --port 8123 > /tmp/second.log 2>&1 &")
        if host.info["isolating"]:
            expect(host.get(box, port=8123)["pid"] != host.get(box)["pid"], "both ports lead to one server")
        else:
            host.get(box, port=8123)


@check()
def it_tells_how_it_ended(host: Host) -> None:
    """A server that ends is seen at once, with its exit code, and its log is kept."""
    box = host.started()
    host.get(box)
    host.poke(box, "/exit?code=7")
    state = host.ended(box)
    expect((state["status"], state["exit_code"], state["error_type"]) == ("exited", 7, "EXITED"), f"{state}")
    expect("leaving" in host.logs(box), "the log is gone")
    host.refused(410, "POST", f"/sandboxes/{box}/exec", {"command": "true"})
    host.call("DELETE", f"/sandboxes/{box}")


@check()
def a_command_that_is_not_there(host: Host) -> None:
    """A start command whose program is missing fails with a sentence that names it."""
    box = host.create(start_command=["no-such-program", "--port", "8000"])
    state = host.ended(box)
    expect(state["status"] in ("failed", "exited"), f"{state}")
    expect("no-such-program" in f"{state['error']} {host.logs(box)}", f"{state['error']}")


@check()
def endings_repeat(host: Host) -> None:
    """A sandbox of an id that exists is that one; deleting twice is harmless; nothing of it is left."""
    mark, command = _marked()
    box = host.started(start_command=command)
    host.get(box)
    again = host.call("POST", "/sandboxes", {"id": box, "digest": host.digest})
    expect(again["id"] == box and again["status"] == "running", f"{again}")
    expect(processes_with(mark), "its process is not seen on this host")
    host.shell(box, "sleep 76541 & nohup setsid sleep 76542 > /dev/null 2>&1 &")
    for _ in range(2):
        expect(host.call("DELETE", f"/sandboxes/{box}")["status"] == "deleted", "it was not deleted")
    expect(not processes_with(mark) and not processes_with("sleep\x007654"), "processes are left")
    expect(not (host.folder / "sandboxes" / box).exists(), "its folder is left")


@check()
def leases_run_out(host: Host) -> None:
    """A lease that nobody renews ends the sandbox; one that is renewed does not."""
    mark, command = _marked()
    kept, left = host.started(lease_seconds=30), host.started(start_command=command, lease_seconds=2)
    state = host.ended(left)
    expect((state["status"], state["error_type"]) == ("expired", "TIMEOUT"), f"{state}")
    host.until("its processes are gone", lambda: not processes_with(mark))
    renewed = host.call("POST", f"/sandboxes/{kept}/lease", {"lease_seconds": 60})
    expect(renewed["lease_until"] > time.time() + 30, f"{renewed}")
    host.call("DELETE", f"/sandboxes/{kept}")


@check()
def logs_are_bounded(host: Host) -> None:
    """A server that prints without end harms nobody, and the end of its log can be read."""
    with host.sandbox() as box:
        host.get(box)
        host.shell(box, "yes endless > /proc/1/fd/1 & sleep 2; kill $!", timeout=30)
        host.poke(box, "/print?text=0123456789&times=2000000")
        host.get(box, "/print?text=the-end")
        host.until("the last line is in the log", lambda: "the-end" in host.logs(box, 1000))
        expect(len(host.logs(box, 5000)) <= 5000, "more of the log than was asked for")


@check()
def logs_are_followed(host: Host) -> None:
    """A log is told from where its reader has come to, each byte once, held until there is more; also across the death
    of a runner, and to the end.
    """
    box = host.started(lease_seconds=300)
    host.get(box)
    told, offset, complete = host.follow(box, 0, "listening")
    expect("listening" in told and not complete, f"the beginning is told as {told!r}")
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(host.follow, box, offset, "held-until-now")
        host.get(box, "/print?text=held-until-now")
        told, offset, complete = held.result()
    expect(told.count("held-until-now") == 1 and "listening" not in told and not complete, f"then {told!r}")
    expect(host.part(box, offset) == {"text": "", "offset": offset, "complete": False}, "there is nothing more, but")
    last = host.part(box, -6)
    expect(len(last["text"]) <= 6 and last["offset"] == offset, f"the last bytes are {last}")
    host.restart()
    host.get(box, "/print?text=after-the-restart")
    told, offset, complete = host.follow(box, offset, "after-the-restart")
    expect("held-until-now" not in told, f"after a restart it begins with {told!r}")
    with ThreadPoolExecutor(1) as asking:
        held = asking.submit(host.follow, box, offset)
        host.poke(box, "/exit?code=0")
        told, offset, complete = held.result()
    expect("leaving" in told and complete, f"the end is {told!r}")
    again = host.part(box, offset, wait=30)
    expect(again == {"text": "", "offset": offset, "complete": True}, f"after the end it is {again}")
    host.call("DELETE", f"/sandboxes/{box}")


@check()
def the_hub_may_go(host: Host) -> None:
    """A Hub that goes and another one that comes find the sandboxes alive."""
    with host.sandbox(lease_seconds=120) as box:
        before = host.get(box)["pid"]
        host.call("POST", "/detach", {})
        host.call("POST", "/attach", {"hub_pid": 1})
        expect(host.get(box)["pid"] == before, "it was started anew")


@check()
def the_runner_may_be_killed(host: Host) -> None:
    """A runner that is killed leaves its sandboxes alive; the next one has them as they were, and can end them."""
    mark, command = _marked()
    box = host.started(start_command=command, lease_seconds=300, env={"KEPT": "yes"})
    before, address = host.get(box)["pid"], host.address(box)
    host.shell(box, "echo kept > /tmp/kept")
    host.restart()
    state = host.state(box)
    expect(state["status"] == "running", f"{state}")
    expect(host.address(box) == address, f"its address was {address} and is {host.address(box)}")
    expect(host.get(box)["pid"] == before, "it was started anew")
    expect(host.shell(box, 'cat /tmp/kept; echo "$KEPT"')["stdout"] == "kept\nyes\n", "its files or variables are gone")
    host.get(box, "/print?text=after-the-restart")
    host.until("its output is still read", lambda: "after-the-restart" in host.logs(box))
    expect("listening" in host.logs(box), "the earlier log is gone")
    host.poke(box, "/exit?code=0")
    expect(host.ended(box)["status"] == "exited", "the end of an adopted sandbox is not seen")
    host.call("DELETE", f"/sandboxes/{box}")
    expect(not processes_with(mark), "processes are left")


@check()
def what_ended_meanwhile(host: Host) -> None:
    """What ended or ran out while no runner was there is settled by the next one, with nothing left."""
    mark, command = _marked()
    gone = host.started(start_command=command, lease_seconds=2)
    died = host.started(lease_seconds=300)
    address = host.get(died) and host.address(died)
    host.kill()
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"{address}/exit?code=1", timeout=10, trust_env=False)
    time.sleep(2.5)
    host.start()
    expect(host.ended(gone)["status"] in ("expired", "lost"), f"{host.state(gone)}")
    host.until("nothing of it is left", lambda: not processes_with(mark))
    host.call("DELETE", f"/sandboxes/{died}")
