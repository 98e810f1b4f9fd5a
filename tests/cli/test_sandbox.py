"""`prime sandbox`: the real command, a real Hub, a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.cli.conftest import PRIME, Prime

pytestmark = pytest.mark.timeout(180)

DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
COPY server.py .
EXPOSE 8000
CMD ["python", "server.py", "--port", "8000"]
"""
SERVER = """import http.server, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
LIVING = "sh -c 'echo up; while :; do sleep 1; done'"


@pytest.fixture(scope="module")
def user(module_hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prime]:
    """Somebody with one image, one sandbox of it named `box`, and a folder of their own."""
    module_hub.wait_for_runner()
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    env = {"PRIME_API_BASE_URL": module_hub.url, "PRIME_API_KEY": module_hub.token, "HOME": str(home)}
    someone = Prime(home, work, module_hub.owner, env)
    context = work / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "server.py").write_text(SERVER)
    someone.ok("images", "push", "demo", "-c", context)
    someone.ok("sandbox", "create", "demo", "--name", "box", "--start-command", LIVING, "-e", "GREETING=hello")
    yield someone
    someone("sandbox", "delete", "--all", "--yes")


def test_create_prints_the_id_alone(user):
    done = user("sandbox", "create", "demo", "--cpus", "0.5", "--memory", "512M", "--timeout", "2h", "--label", "made")
    assert done.returncode == 0, done.stderr
    made = done.stdout.strip()
    assert f"Next: prime sandbox shell {made}" in done.stderr
    row = json.loads(user.ok("sandbox", "get", made, "--output", "json"))
    assert (row["status"], row["cpuCores"], row["memoryGB"], row["timeoutMinutes"]) == ("RUNNING", 0.5, 0.5, 120)
    assert (row["name"], row["labels"]) == ("demo", ["made"])
    shown = user.ok("sandbox", "get", made[:6])
    assert made in shown and "Running" in shown
    listed = user.ok("sandbox", "list", "--label", "made").splitlines()
    assert listed[0].split()[:4] == ["ID", "NAME", "IMAGE", "STATUS"]
    assert listed[1].split()[:4] == [made, "demo", "demo", "Running"]
    assert user.ok("sandbox", "delete", made) == f"✓ Deleted {made}.\n"
    assert user("sandbox", "list", "--label", "made").stderr.startswith("No sandboxes run; --all shows")
    assert [item["id"] for item in json.loads(user.ok("sandbox", "ls", "-a", "-l", "made", "-o", "json"))] == [made]


def test_variables_and_secrets(user):
    made = user.ok(
        *("sandbox", "create", "demo", "-e", "PLAIN=a b", "--secret", "TOKEN", "--secret", "OTHER=x=y"),
        TOKEN="from here",
    ).strip()
    assert user.ok("sandbox", "exec", made, "echo $PLAIN, $TOKEN, $OTHER") == "a b, from here, x=y\n"
    assert "from here" not in user.ok("sandbox", "get", made, "-o", "json")
    user.ok("sandbox", "delete", made)
    for words, sentence in (
        (["-e", "PLAIN"], "'PLAIN' has no value; write PLAIN=VALUE"),
        (["-e", "1=2"], "'1=2' is not KEY=VALUE"),
        (["--secret", "NOT_SET_HERE"], "NOT_SET_HERE is not set in this shell's environment"),
        (["--timeout", "soon"], "'soon' is no time; write minutes (90), or 90m, 2h, 1d"),
        (["--memory", "much"], "'much' is no size; write gigabytes (2 or 0.5), or 512M"),
        (["--no-network", "--allow-host", "files.example"], "give --no-network or --allow-host, not both"),
    ):
        assert sentence in user.fails("sandbox", "create", "demo", *words, code=2)


def test_what_is_not_there_says_what_to_run(user):
    error = user.fails("sandbox", "create", "no-such-image")
    assert "no-such-image" in error and "Run 'prime images list' to see your images" in error
    for words in (["get"], ["logs"], ["exec", "--", "x"], ["shell"], ["expose", "80"], ["delete"]):
        error = user.fails("sandbox", words[0], "nobody", *[word for word in words[1:] if word != "--"])
        assert "There is no sandbox 'nobody'" in error and "Run 'prime sandbox list' to see" in error


def test_more_than_there_is_says_how_much_there_is(user):
    for words, said in (
        (["--memory", "100000"], "GiB of memory for a sandbox, and 100000 were asked for; ask for less: --memory "),
        (["--cpus", "10000"], "processors for a sandbox, and 10000 were asked for; ask for less: --cpus "),
        (["--timeout", "2d"], "lives for at most 24 hours, and 48 were asked for; ask for less: --timeout 1440m."),
    ):
        assert said in user.fails("sandbox", "create", "demo", *words)


@pytest.mark.parametrize(
    ("line", "code", "log"),
    [("exit 3", 3, ""), ("sh -c 'echo last words; exit 7'", 7, "The end of its log:\n  last words\n"), ("true", 0, "")],
)
def test_one_whose_command_ends_at_once_says_why(user, line, code, log):
    done = user("sandbox", "create", "demo", "--name", f"broken-{code}", "--start-command", line)
    row = json.loads(user.ok("sandbox", "get", f"broken-{code}", "-o", "json"))
    stays = "" if code else "A sandbox lives as long as its start command; 'sleep infinity' is one that stays.\n"
    assert (done.returncode, done.stdout, row["exitCode"]) == (1, "", code)
    assert done.stderr == (
        f"Error: The start command ended with code {code}.\n{log}{stays}"
        f"'prime sandbox get {row['id']}' shows all that is known of it.\n"
    )
    assert row["logs"] in log and "last words" * bool(log) in user.ok("sandbox", "get", row["id"])


def test_a_program_that_is_not_there_says_how_a_line_of_the_shell_is_written(user):
    error = user.fails("sandbox", "create", "demo", "--start-command", "no-such-program --port 8000")
    assert "no-such-program" in error.splitlines()[0] and "HTTP" not in error
    assert "prime sandbox get " in error


def test_how_long_it_may_be_idle_is_shown(user):
    asked = user.ok("sandbox", "create", "demo", "--idle", "90m", "--start-command", LIVING).strip()
    plain = user.ok("sandbox", "create", "demo", "--start-command", LIVING).strip()
    for made, minutes in ((asked, 90), (plain, 60)):
        assert json.loads(user.ok("sandbox", "get", made, "-o", "json"))["idleTimeoutMinutes"] == minutes
        assert f"Idle limit  {minutes} minutes without use" in user.ok("sandbox", "get", made)
    user.ok("sandbox", "delete", asked, plain)


def test_two_of_one_name_are_told_apart(user):
    ids = [user.ok("sandbox", "create", "demo", "--name", "twin", "--label", "twins").strip() for _ in range(2)]
    error = user.fails("sandbox", "get", "twin")
    assert "2 sandboxes are meant by 'twin'" in error and all(item in error for item in ids)
    error = user.fails("sandbox", "exec", "twin", "--", "true")
    assert "2 sandboxes are meant by 'twin'" in error and "Name one by its id." in error
    error = user.fails("sandbox", "delete", "--label", "twins")
    assert "Nothing was done: there is nobody to ask" in error and "Add --yes" in error
    done = json.loads(user.ok("sandbox", "delete", "--label", "twins", "--yes", "-o", "json"))
    assert (sorted(done["deleted"]), done["failed"]) == (sorted(ids), {})
    assert "name the sandboxes, or give --label or --all" in user.fails("sandbox", "delete", code=2)


def test_exec_passes_output_input_and_exit_code_through(user):
    done = user("sandbox", "exec", "box", "--", "sh", "-c", "echo out $1; echo err >&2; exit 5", "-", "--flag")
    assert (done.returncode, done.stdout, done.stderr) == (5, "out --flag\n", "err\n")
    assert user.ok("sandbox", "exec", "box", "echo $GREETING | tr a-z A-Z") == "HELLO\n"
    assert user.ok("sandbox", "exec", "box", "-e", "X=1", "-w", "/app", "env").count("X=1\n") == 1
    assert user.ok("sandbox", "exec", "box", "cat", stdin="one\ntwo\n") == "one\ntwo\n"
    assert user.ok("sandbox", "exec", "-n", "box", "cat", stdin="one\n") == ""
    assert user("sandbox", "exec", "box", "kill -9 $$").returncode == 137
    done = user("sandbox", "exec", "--timeout", "0.5", "box", "sleep 60")
    assert done.returncode == 124
    assert "did not end within 0.5 seconds and was killed: sleep 60" in done.stderr
    assert "no-such-program" in user.fails("sandbox", "exec", "box", "no-such-program", "x")
    assert "Missing argument 'COMMAND" in user.fails("sandbox", "exec", "box", code=2)


def test_a_shell_without_an_input_is_no_trouble(user):
    command = ["sh", "-c", f"exec {PRIME} sandbox exec box -- cat <&-"]
    done = subprocess.run(command, env=user.environment(), cwd=user.cwd, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_that_is_named_twice_is_deleted_once(user):
    made = user.ok("sandbox", "create", "demo", "--name", "capacity", "--start-command", LIVING).strip()
    assert user.ok("sandbox", "get", "capacity", "-o", "json").count(made) == 1
    assert json.loads(user.ok("sandbox", "delete", "capacity", made, made[:8], "-o", "json")) == {
        "deleted": [made],
        "failed": {},
    }
    for word in ("", "?", "#"):
        assert f"There is no sandbox '{word}'." in user.fails("sandbox", "get", word)


def test_one_that_has_ended_is_found_by_its_name(user):
    for _ in range(2):
        made = user.ok("sandbox", "create", "demo", "--name", "short", "--start-command", LIVING).strip()
        user.ok("sandbox", "delete", "short")
    shown = json.loads(user.ok("sandbox", "get", "short", "-o", "json"))
    assert (shown["id"], shown["status"]) == (made, "TERMINATED")


def test_bytes_are_bytes(user):
    (user.cwd / "sent").write_bytes(os.urandom(300_000))
    command = f"{PRIME} sandbox exec box -- cat < sent | cmp - sent && echo same"
    done = subprocess.run(
        ["bash", "-c", command], env=user.environment(), cwd=user.cwd, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("same\n", "")


def test_a_reader_that_goes_away_ends_the_command(user):
    command = f"{PRIME} sandbox exec box -- yes | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=user.environment(), capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "y" and done.stderr == ""
    deadline = time.monotonic() + 30
    while user("sandbox", "exec", "box", "pgrep -x yes").returncode == 0:
        assert time.monotonic() < deadline


def running(user: Prime, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PRIME, *args],
        env=user.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_goes_to_the_command_and_a_second_one_ends_it(user):
    child = running(
        user, "sandbox", "exec", "box", "trap 'echo tidying; exit 9' INT; echo up; while :; do sleep 0.05; done"
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGINT)
    output, error = child.communicate(timeout=60)
    assert (child.returncode, output, error) == (9, "tidying\n", "")

    child = running(user, "sandbox", "exec", "box", "trap : INT; echo $$; while :; do sleep 0.05; done")
    assert child.stdout is not None
    pid = child.stdout.readline().strip()
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error) == (130, "")
    deadline = time.monotonic() + 30
    while user("sandbox", "exec", "box", f"kill -0 {pid}").returncode == 0:
        assert time.monotonic() < deadline


def test_ctrl_c_while_it_starts_leaves_no_sandbox(user, module_hub):
    """A Hub whose starts wait for their turn has one that is long in coming."""
    child = running(user, "sandbox", "create", "demo", "--label", "given-up", "--start-command", LIVING)
    child.send_signal(signal.SIGINT)
    made, _ = child.communicate(timeout=60)
    assert child.returncode in (130, 0, -signal.SIGINT)
    if not made:
        assert json.loads(user.ok("sandbox", "list", "-l", "given-up", "-o", "json")) == []
    user("sandbox", "delete", "--label", "given-up", "--yes")


def test_logs_are_printed_and_followed(user):
    made = user.ok(
        "sandbox", "create", "demo", "--start-command", "sh -c 'for n in 1 2 3 4; do echo line $n; sleep 0.4; done'"
    )
    made = made.strip()
    assert user.ok("sandbox", "logs", "-f", made) == "line 1\nline 2\nline 3\nline 4\n"
    assert user.ok("sandbox", "logs", made, "-n", "2") == "line 3\nline 4\n"
    assert user.ok("sandbox", "logs", "-f", made, "-n", "1") == "line 4\n"
    child = running(user, "sandbox", "logs", "-f", "box")
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, error) == (130, "")


def test_a_port_is_reached(user):
    import httpx

    made = user.ok("sandbox", "create", "demo", "--name", "web").strip()
    url = user.ok("sandbox", "expose", "web", "8000").strip()
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url + "/server.py", trust_env=False).status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    told = json.loads(user.ok("sandbox", "expose", made, "8000", "--protocol", "tcp", "-o", "json"))
    assert told["port"] == 8000 and told["endpoint"]
    assert f"Port 8000: {told['url']}" in user.ok("sandbox", "get", "web")
    user.ok("sandbox", "delete", "web")


def test_files_and_folders(user):
    work = user.cwd
    (work / "tree" / "sub").mkdir(parents=True)
    (work / "tree" / "sub" / "a").write_text("A")
    (work / "tree" / "run").write_text("#!/bin/sh\necho ran\n")
    (work / "tree" / "run").chmod(0o755)
    assert user.ok("sandbox", "upload", "box", "tree", "/app/tree").startswith("✓ Uploaded ")
    assert user.ok("sandbox", "exec", "box", "./tree/run") == "ran\n"
    assert user.ok("sandbox", "upload", "box", "tree/sub/a", "/app/tree") == "✓ Uploaded 1 B to /app/tree/a\n"
    assert user.ok("sandbox", "upload", "box", "tree/sub/a", "/app/new/") == "✓ Uploaded 1 B to /app/new/a\n"
    user.ok("sandbox", "download", "box", "/app/tree", "back")
    assert sorted(path.relative_to(work / "back").as_posix() for path in (work / "back").rglob("*")) == [
        *("a", "run", "sub", "sub/a")
    ]
    assert user.ok("sandbox", "download", "box", "/app/new/a") == "✓ Downloaded 1 B to a\n"
    assert user.ok("sandbox", "download", "box", "/app/new/a", "back/sub") == "✓ Downloaded 1 B to back/sub/a\n"
    assert "There is no nothing here." in user.fails("sandbox", "upload", "box", "nothing", "/app")
    assert "/app/nothing" in user.fails("sandbox", "download", "box", "/app/nothing")
    assert "has no name of its own" in user.fails("sandbox", "download", "box", "/", code=2)


def test_a_file_from_standard_input_and_to_standard_output(user):
    content = os.urandom(300_000)
    (user.cwd / "content").write_bytes(content)
    line = f"{PRIME} sandbox upload box - /app/piped < content && {PRIME} sandbox download box /app/piped - | cmp - content"
    done = subprocess.run(
        ["bash", "-c", line], env=user.environment(), cwd=user.cwd, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "✓ Uploaded 300.0 kB to /app/piped\n"), done.stderr
    assert not (user.cwd / "-").exists()
    assert user.ok("sandbox", "download", "box", "/app/piped", "./-") == "✓ Downloaded 300.0 kB to -\n"
    assert (user.cwd / "-").read_bytes() == content
    assert user.ok("sandbox", "upload", "box", "./-", "/app/dash") == "✓ Uploaded 300.0 kB to /app/dash\n"
    assert "only a file goes to standard output" in user.fails("sandbox", "download", "box", "/app", "-")
    assert "standard input has no name" in user.fails("sandbox", "upload", "box", "-", "/app/", stdin="x")
    gone = user("sandbox", "download", "box", "/app/nothing", "-")
    assert (gone.returncode, gone.stdout) == (1, "")


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, user: Prime, *args: str, rows: int = 24, columns: int = 80) -> None:
        self.main, other = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(other)
        self.other = other
        self.child = subprocess.Popen(
            [PRIME, *args],
            env=user.environment(TERM="xterm", NO_COLOR="1"),
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        self.text = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def until(self, wanted: str) -> str:
        """What was shown until `wanted` appears; it is then forgotten."""
        deadline = time.monotonic() + 60
        while wanted.encode() not in self.text:
            assert time.monotonic() < deadline, self.text.decode(errors="replace")
            if select.select([self.main], [], [], 0.5)[0]:
                self.text += os.read(self.main, 65536)
        found, _, self.text = self.text.partition(wanted.encode())
        return found.decode(errors="replace")

    def ended(self) -> int:
        """The exit code, and that the terminal is as it was."""
        deadline = time.monotonic() + 60
        while self.child.poll() is None:
            assert time.monotonic() < deadline, self.text.decode(errors="replace")
            if select.select([self.main], [], [], 0.1)[0]:
                self.text += os.read(self.main, 65536)
        while select.select([self.main], [], [], 0.1)[0]:
            self.text += os.read(self.main, 65536)
        assert termios.tcgetattr(self.other) == self.before
        return self.child.returncode

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.main)
        os.close(self.other)


@pytest.fixture
def terminal(user) -> Iterator[Terminal]:
    shell = Terminal(user, "sandbox", "shell", "box", "-e", "PS1=box> ", rows=31, columns=97)
    shell.until("leave it with 'exit' or Ctrl-D")
    yield shell
    shell.close()


def test_a_shell_is_a_shell(terminal):
    terminal.type("PS1='b''ox> '; echo $((6*7)); stty size\n")
    terminal.until("42\r\n")
    assert "31 97" in terminal.until("box> ")
    terminal.resize(40, 120)
    terminal.child.send_signal(signal.SIGWINCH)
    time.sleep(0.5)
    terminal.type("stty size\n")
    terminal.until("40 120")
    terminal.until("box> ")
    # Ctrl-C is the shell's, not this command's.
    terminal.type("sleep 600\n")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.until("box> ")
    terminal.type("exit 7\n")
    assert terminal.ended() == 7


def test_ctrl_d_leaves_a_shell(terminal):
    terminal.type("PS1='b''ox> '\n")
    terminal.until("box> ")
    terminal.type("\x04")
    assert terminal.ended() == 0


def test_a_shell_that_hangs_is_left(terminal, user):
    terminal.type("trap '' INT HUP; echo p''id $$; printf '\\033[?1049h'; while :; do sleep 1; done\n")
    terminal.until("pid ")
    pid = terminal.until("\r\n").strip()
    terminal.until("\x1b[?1049h")
    terminal.type("\x03")
    for key in "\r~.":
        terminal.type(key)
        time.sleep(0.1)
    assert terminal.ended() == 130
    assert b"\x1b[?1049l" in terminal.text and b"Left; the command is ended." in terminal.text
    deadline = time.monotonic() + 30
    while user("sandbox", "exec", "box", f"kill -0 {pid}").returncode == 0:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_shell_that_is_ended_restores_the_terminal(terminal, number):
    terminal.type("PS1='b''ox> '\n")
    terminal.until("box> ")
    terminal.child.send_signal(number)
    assert terminal.ended() == 130


def test_exec_gives_its_terminal_away_when_told(user):
    shell = Terminal(user, "sandbox", "exec", "-t", "box", "--", "sh", "-c", "tty > /dev/null && echo is one; exit 3")
    try:
        shell.until("is one")
        assert shell.ended() == 3
    finally:
        shell.close()
    assert "This is no terminal" in user.fails("sandbox", "shell", "box")


def test_a_shell_outlives_its_hub(user, start_hub, tmp_path):
    hub = start_hub()
    hub.wait_for_runner()
    env = {"PRIME_API_BASE_URL": hub.url, "PRIME_API_KEY": hub.token, "HOME": str(tmp_path)}
    someone = Prime(tmp_path, user.cwd, hub.owner, env)
    someone.ok("images", "push", "demo", "-c", user.cwd / "context")
    made = someone.ok("sandbox", "create", "demo", "--start-command", LIVING).strip()
    shell = Terminal(someone, "sandbox", "shell", made)
    try:
        shell.type("PS1='b''ox> '; here=still\n")
        shell.until("box> ")
        hub.kill()
        time.sleep(0.3)
        shell.type("echo $here $here\n")
        shell.until("The Hub does not answer; trying again.")
        hub.start()
        shell.until("still still")
        someone.ok("sandbox", "delete", made)
        assert shell.ended() == 1
        assert b"was deleted" in shell.text
    finally:
        shell.close()


def test_every_command_has_an_example(user):
    for name in ("create", "list", "get", "exec", "shell", "upload", "download", "logs", "expose", "delete"):
        assert f"prime sandbox {name}" in user.ok("sandbox", name, "--help").partition("Examples:")[2]
    for name in ("push", "list", "logs", "delete", "publish", "unpublish"):
        assert f"prime images {name}" in user.ok("images", name, "--help").partition("Examples:")[2]


def test_words_are_completed(user):
    done = user("sandbox", _PRIME_COMPLETE="complete_bash", COMP_WORDS="prime sandbox dow", COMP_CWORD="2")
    assert done.stdout.split() == ["download"]
