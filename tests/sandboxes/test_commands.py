"""Commands in a sandbox: run, streamed, held, given input, signalled, given a terminal, attached to."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from prime_sandboxes import (
    AsyncSandboxClient,
    CommandError,
    CommandFailedError,
    CommandTimeoutError,
    SandboxNotRunningError,
)


def test_run_gives_output_and_exit_code(box):
    done = box.run("echo $GREETING $MORE; echo wrong >&2; exit 3", env={"MORE": "there"})
    assert (done.stdout, done.stderr, done.exit_code) == ("hello there\n", "wrong\n", 3)
    assert box.run("pwd", working_dir="/tmp").stdout.endswith("/tmp\n")


def test_a_list_of_words_needs_no_shell(box):
    assert box.run(["echo", "$GREETING", "a b;c"]).stdout == "$GREETING a b;c\n"
    with pytest.raises(CommandError, match="no-such-program"):
        box.run(["no-such-program"])


def test_check_makes_an_exit_code_an_error(box):
    assert box.run("true", check=True).exit_code == 0
    with pytest.raises(CommandFailedError, match=r"ended with exit code 7: .*\nno such thing") as caught:
        box.run("echo no such thing >&2; exit 7", check=True)
    assert (caught.value.exit_code, caught.value.stderr) == (7, "no such thing\n")


def test_input_and_its_end(box):
    assert box.run("cat; echo done", stdin="two\nlines\n").stdout == "two\nlines\ndone\n"
    assert box.run("cat", stdin=b"").stdout == ""
    big = bytes(range(256)) * 20_000
    assert box.run(["sh", "-c", "wc -c"], stdin=big).stdout.strip() == str(len(big))


def test_a_command_that_reads_no_input_is_no_error(box):
    assert box.run("exec 0<&-; echo said", stdin="x" * 500_000).stdout == "said\n"


def test_a_stream_comes_while_the_command_runs(box):
    with box.stream("echo one; read never < /dev/null; echo two >&2; sleep 0.2; echo three") as stream:
        first = next(stream)
        assert (first.stream, first.text) == ("stdout", "one\n")
        assert stream.exit_code is None
        rest = list(stream)
    assert "".join(text for name, text in rest if name == "stderr") == "two\n"
    assert "".join(text for name, text in rest if name == "stdout") == "three\n"
    assert stream.exit_code == 0


def test_a_character_that_comes_in_two_parts_is_one(box):
    line = r"printf '\303'; sleep 0.3; printf '\251\n'"
    assert "".join(text for _, text in box.stream(line)) == "é\n"


def test_a_stream_that_is_left_ends_its_command(box):
    with box.stream("echo $$; exec sleep 600") as stream:
        pid = next(stream).text.strip()
    _until_gone(box, pid)
    for _, text in box.stream("echo $$; exec sleep 600"):
        pid = text.strip()
        break
    _until_gone(box, pid)


def _until_gone(box, pid: str) -> None:
    deadline = time.monotonic() + 30
    while box.run(f"kill -0 {pid}").exit_code == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_limit_of_time_is_an_error_of_its_own(box):
    with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.4 seconds and was killed: sleep 60"):
        list(box.stream("sleep 60", timeout=0.4))
    with pytest.raises(CommandTimeoutError, match=r"within 0\.4 seconds"):
        box.run("sleep 60", timeout=0.4)
    with pytest.raises(CommandTimeoutError, match=r"within 0\.4 seconds"):
        box.run(["sleep", "60"], timeout=0.4)


def test_a_folder_that_is_not_there_is_a_sentence(box):
    for call in (lambda: box.run("true", working_dir="/nowhere"), lambda: box.run(["true"], working_dir="/nowhere")):
        with pytest.raises(CommandError, match="nowhere"):
            call()


def test_output_that_nobody_reads_waits(box):
    """A gigabyte is not printed into the memory of a program that looks elsewhere."""
    with box.process("yes") as process:
        pieces = iter(process.stdout)
        assert next(pieces).startswith(b"y\n")
        held = process._twin._held
        time.sleep(0.5)
        assert held <= 2 << 20 and process._twin._held <= 2 << 20
        process.kill()
        assert process.wait() == 137


def test_one_of_two_outputs_may_stay_unread(box):
    with box.process("head -c 40000000 /dev/zero >&2; echo end") as process:
        assert b"".join(process.stdout) == b"end\n"
        assert process.wait() == 0
        assert process._twin._held <= 17 << 20


def test_a_process_takes_input_and_signals(box):
    with box.process("while read line; do echo got $line; done; echo over") as process:
        assert process.pid
        assert process.returncode is None
        process.write_stdin("one\n")
        lines = iter(process.stdout)
        assert next(lines) == b"got one\n"
        process.close_stdin()
        assert b"".join(lines) == b"over\n"
        assert process.wait() == process.returncode == 0
        process.terminate()  # nothing to be done any more
    with box.process("trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.05; done") as process:
        lines = iter(process.stdout)
        assert next(lines) == b"up\n"
        with pytest.raises(TimeoutError):
            process.wait(timeout=0.2)
        process.terminate()
        assert process.wait() == 5
        assert b"".join(lines) == b"asked\n"


def test_a_terminal_has_a_size_that_changes(box):
    with box.process(["sh", "-c", "stty size; read line; stty size"], pty=(30, 90)) as process:
        output = iter(process.stdout)
        assert next(output).strip() == b"30 90"
        process.resize(40, 100)
        process.write_stdin("\n")
        assert b"".join(output).strip().endswith(b"40 100")
        assert process.wait() == 0


def test_a_lingering_command_is_found_again(box, client):
    process = box.process("echo $$; while :; do sleep 0.05; done", linger=60)
    pid = next(iter(process.stdout)).strip().decode()
    process.detach()
    known = {item.key: item for item in client.list_commands(box.id)}
    assert known[process.key].running
    assert box.run(f"kill -0 {pid}").exit_code == 0
    again = client.attach(box.id, process.key)
    again.terminate()
    assert again.wait() == 143
    again.close()
    with pytest.raises(CommandError, match="nothing-here"):
        client.attach(box.id, "nothing-here")


def test_the_same_key_starts_nothing_twice(box, client):
    first = client.open_process(box.id, "echo $$; sleep 600", key="only-once")
    pid = next(iter(first.stdout))
    second = client.open_process(box.id, "echo $$; sleep 600", key="only-once")
    assert second.pid == first.pid
    first.kill()
    assert (first.wait(), second.wait()) == (137, 137)
    first.close()
    second.close()
    _until_gone(box, pid.decode().strip())


def test_what_runs_ends_with_its_sandbox(client, plain_image):
    from prime_sandboxes import Sandbox

    with Sandbox.create(plain_image, client) as box, box.process("sleep 600") as process:
        ending = threading.Timer(0.3, box.delete)
        ending.start()
        with pytest.raises(SandboxNotRunningError):
            process.wait()
        ending.join()
        with pytest.raises(SandboxNotRunningError):
            box.process("true")


async def test_many_at_once(connection, box):
    async with AsyncSandboxClient(connection) as client:

        async def one(number: int) -> str:
            stream = client.stream(box.id, f"sleep 0.05; echo {number}")
            text = "".join([text async for _, text in stream])
            assert stream.exit_code == 0
            return text.strip()

        assert await asyncio.gather(*map(one, range(20))) == [str(number) for number in range(20)]


async def test_a_call_that_is_cancelled_ends_its_command(connection, box):
    async with AsyncSandboxClient(connection) as client:
        running = asyncio.ensure_future(
            client.execute_command(box.id, "echo $$ > /tmp/prime-cancelled; exec sleep 600")
        )
        pid = ""
        while not pid:
            await asyncio.sleep(0.05)
            there = "test -s /tmp/prime-cancelled && cat /tmp/prime-cancelled && rm /tmp/prime-cancelled"
            pid = (await client.execute_command(box.id, there)).stdout
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await asyncio.to_thread(_until_gone, box, pid.strip())
