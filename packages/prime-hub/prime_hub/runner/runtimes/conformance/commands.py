"""Checks of commands in a sandbox."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from prime_hub.runner.runtimes.conformance.checks import check
from prime_hub.runner.runtimes.conformance.host import Host, expect, processes_with


@check()
def exec_tells_everything(host: Host) -> None:
    """exec gives output, errors and exit code apart, and takes folder and environment."""
    with host.sandbox(env={"GIVEN": "too"}) as box:
        ran = host.shell(box, "echo out; echo wrong >&2; exit 3")
        expect(ran == {"stdout": "out\n", "stderr": "wrong\n", "exit_code": 3}, f"{ran}")
        ran = host.shell(box, 'echo "$OF_THE_IMAGE $GIVEN $MORE"; pwd', env={"MORE": "ünï"}, working_dir="/tmp")
        expect(ran["stdout"].splitlines()[0] == "yes too ünï", f"environment: {ran}")
        expect(ran["stdout"].splitlines()[1].endswith("/tmp"), f"folder: {ran}")
        expect(host.shell(box, "kill -9 $$")["exit_code"] == 137, "a killed command's exit code is not 137")
        sentence = host.refused(422, "POST", f"/sandboxes/{box}/exec", {"command": "true", "working_dir": "/not/there"})
        expect("/not/there" in sentence, f"a missing folder: {sentence}")


@check()
def exec_as_a_user(host: Host) -> None:
    """A user whom the sandbox does not have is refused with a sentence that names it."""
    with host.sandbox() as box:
        own = host.shell(box, "id -un || id -u")["stdout"].split()[0]
        expect(host.shell(box, "id -un || id -u", user=own)["stdout"].split()[0] == own, "its own user was refused")
        sentence = host.refused(422, "POST", f"/sandboxes/{box}/exec", {"command": "true", "user": "no-such-user"})
        expect("no-such-user" in sentence, sentence)


@check()
def exec_has_a_time_limit(host: Host) -> None:
    """A command that takes too long is killed, with what it started."""
    with host.sandbox() as box:
        line = "sleep 98761 & sleep 98762"
        answer = host.send("POST", f"/sandboxes/{box}/exec", json={"command": line, "timeout": 1})
        expect(answer.status_code == 408 and answer.json()["error"] == "command_timeout", answer.text)
        host.until("what the command started is gone", lambda: not processes_with("sleep\x009876"))
        expect(host.shell(box, "echo well")["stdout"] == "well\n", "the sandbox is not well after it")


@check()
def exec_leaves_jobs(host: Host) -> None:
    """exec answers when the command has ended, not when its background job does, and the job lives on."""
    with host.sandbox() as box:
        ran = host.shell(box, "sleep 300 & echo $!", timeout=60)
        job = ran["stdout"].strip()
        expect(job.isdigit(), f"{ran}")
        expect(host.shell(box, f"kill -0 {job}")["exit_code"] == 0, "the job did not survive its command")


@check()
def exec_bears_much_output(host: Host) -> None:
    """Large output is complete up to its bound, and endless output harms nobody."""
    with host.sandbox() as box:
        ran = host.shell(box, "head -c 3000000 /dev/zero | tr '\\0' x")
        expect(len(ran["stdout"]) == 3_000_000, f"{len(ran['stdout'])} of 3,000,000 bytes arrived")
        answer = host.send("POST", f"/sandboxes/{box}/exec", json={"command": "yes", "timeout": 3})
        expect(answer.status_code == 408, f"endless output: {answer.status_code}")
        expect(host.shell(box, "echo well")["stdout"] == "well\n", "the sandbox is not well after it")


@check()
def streams_and_input(host: Host) -> None:
    """A streamed command gets its input to the end, and its two outputs come apart."""
    with host.sandbox() as box:
        ran = host.run(box, "/bin/bash", "-c", "cat; echo done >&2; exit 5", stdin=b"line\n" * 50_000)
        expect(ran.stdout == b"line\n" * 50_000, f"{len(ran.stdout)} of 250,000 bytes came back")
        expect(ran.stderr == b"done\n" and ran.exit_code == 5, f"{ran.stderr!r} {ran.exit_code}")
        expect(host.run(box, "cat").exit_code == 0, "without input a command reads an empty one")
        words = host.run(box, "printf", "%s|", "two words", "$HOME", "'")
        expect(words.stdout == b"two words|$HOME|'|", f"words are not passed as they are: {words.stdout!r}")


@check()
def a_terminal(host: Host) -> None:
    """A command can have a terminal, of the size it asked for."""
    with host.sandbox() as box:
        ran = host.run(box, "/bin/bash", "-c", "test -t 0 && test -t 1 && stty size", pty=[33, 101])
        expect(ran.stdout.strip() == b"33 101" and ran.exit_code == 0, f"{ran}")


@check()
def a_departed_client(host: Host) -> None:
    """A command whose client goes away is killed, with what it started."""
    with host.sandbox() as box:
        body = {"argv": ["/bin/bash", "-c", "sleep 87651 & echo on; sleep 87652"]}
        assert host._http is not None
        with host._http.stream("POST", f"/sandboxes/{box}/commands", json=body) as answer:
            held = b""
            for chunk in answer.iter_bytes():
                held += chunk
                if b"on\n" in held:
                    break
        host.until("the command is gone", lambda: not processes_with("sleep\x008765"))


@check()
def many_at_once(host: Host) -> None:
    """Commands do not wait for one another."""
    with host.sandbox() as box, ThreadPoolExecutor(20) as pool:
        # Each ends only once all are there, so one after the other none would.
        line = "touch /tmp/here-{0}; until test $(ls /tmp | grep -c here-) = 20; do sleep 0.1; done; echo {0}"
        found = list(pool.map(lambda number: host.shell(box, line.format(number), timeout=60)["stdout"], range(20)))
        expect(found == [f"{number}\n" for number in range(20)], f"{found}")
