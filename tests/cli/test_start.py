"""Starting: help that loads next to nothing, wrong command lines, completion, quiet ends."""

from __future__ import annotations

import importlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prime_cli.errors import RULES, report
from prime_cli.main import COMMANDS, main
from prime_cli.output import Output

PRIME = Path(sys.executable).parent / "prime"

HEAVY = {
    "httpx",
    "rich",
    "pydantic",
    "verifiers",
    "prime_sandboxes",
    "prime_evals",
    "prime_hub",
    "prime_core",
    "openai",
    "asyncio",
}


def loaded(prime, *args: str) -> set[str]:
    """The modules that the real executable imports for a command line."""
    done = subprocess.run(
        [sys.executable, "-v", PRIME, *args],
        env=prime.environment(),
        cwd=prime.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # -v and not -X importtime, which does not see importlib.import_module.
    return set(re.findall(r"^import '([\w.]+)' #", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("args", [("--help",), ("--version",)])
def test_root_help_imports_no_command_and_nothing_heavy(prime, args):
    modules = loaded(prime, *args)
    assert "prime_cli.main" in modules
    assert not {name for name in modules if name.startswith("prime_cli.commands")}
    assert not {name for name in modules if name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_a_command_imports_only_that_command(prime, command):
    modules = loaded(prime, command, "--help")
    assert {name for name in modules if name.startswith("prime_cli.commands.")} == {COMMANDS[command][0]}
    assert not {name for name in modules if name.split(".")[0] in HEAVY - {"prime_core"}}


def test_every_command_shows_examples_and_every_list_of_commands_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    missing, cut = [], []

    def look(*path: str) -> None:
        assert main([*path, "--help"]) == 0
        text = capsys.readouterr().out
        commands = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
        names = re.findall(r"^  ([a-z][a-z-]*)", commands, re.MULTILINE)
        for name in names:
            if (*path, name) != ("eval", "run"):  # its help is the evaluation's own
                look(*path, name)
        cut.extend(line for line in commands.splitlines() if line.endswith("...") or len(line) > 80)
        if not names and not re.search(r"Examples:\n    prime ", text):
            missing.append(path)

    look()
    assert not missing
    assert not cut


@pytest.mark.parametrize("program", ["vf-build", "vf-eval", "vf-init", "vf-install"])
def test_the_librarys_commands_show_examples(prime, program):
    done = subprocess.run(
        [PRIME.with_name(program), "--help"], env=prime.environment(), capture_output=True, text=True, check=True
    )
    assert re.search(rf"^examples:\n(  {program} .*\n){{3,}}", done.stdout, re.MULTILINE)


def test_help_names_every_command(prime):
    text = prime.ok("--help")
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in COMMANDS)


def test_a_wrong_command_names_the_nearest(prime):
    error = prime.fails("evn", code=2)
    assert "Error: No such command 'evn'. Did you mean 'env'" in error
    assert "'env push'" not in error


def test_a_wrong_option_is_a_sentence(prime):
    assert "Error: No such option: --nope" in prime.fails("env", "list", "--nope", code=2)


def test_version(prime):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", prime.ok("--version"))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("prime e", {"env", "eval"}),
        ("prime env pu", {"push", "pull"}),
        ("prime hub s", {"serve", "start", "stop", "status"}),
    ],
)
def test_completion(prime, words, wanted):
    count = str(len(words.split()) - 1)
    done = prime(COMP_WORDS=words, COMP_CWORD=count, _PRIME_COMPLETE="complete_bash")
    assert set(done.stdout.split()) == wanted


def test_completion_can_be_installed(prime):
    done = subprocess.run(
        ["bash", "-c", "prime --install-completion; exit $?"],
        env=prime.environment(),
        cwd=prime.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if "Shell None not supported" in done.stderr + done.stdout:
        pytest.skip("the shell of the caller cannot be told here")
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F" in (prime.home / ".bash_completions" / "prime.sh").read_text()


def test_a_foreseen_error_shows_where_it_happened_only_when_asked(prime):
    assert "Traceback" not in prime.fails("config", "use", "nope")
    assert "Traceback" in prime("config", "use", "nope", PRIME_DEBUG="1").stderr


def test_an_unforeseen_error_is_one_line_and_says_how_to_see_more(capsys, monkeypatch):
    assert report(KeyError("data"), Output()) == 1
    assert capsys.readouterr().err == (
        "Error: Unexpected KeyError: 'data'\nRun the same command with PRIME_DEBUG=1 to see where it happened.\n"
    )


def test_the_table_of_errors_names_types_that_exist():
    for name in RULES:
        module, _, attribute = name.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), attribute), BaseException), name


def test_a_reader_that_goes_away_is_no_error(prime):
    done = subprocess.run(
        ["bash", "-c", "prime config envs | true; exit ${PIPESTATUS[0]}"],
        env=prime.environment(),
        cwd=prime.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_ctrl_c_ends_quietly_with_130(prime):
    log = prime.home / ".prime" / "hub" / "hub.log"
    log.parent.mkdir(parents=True)
    log.write_text("first line\n")
    child = subprocess.Popen(
        [PRIME, "hub", "logs", "-f"],
        env=prime.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "first line\n"
        # At once, while the command may still be on its way from the lines it printed to following.
        with log.open("a") as file:
            file.write("second line\n")
        assert child.stdout.readline() == "second line\n"
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130
    assert error == ""


def on_a_terminal(prime, *args: str, **env: str) -> str:
    """What a command prints when stdout and stderr are a terminal."""
    main, other = pty.openpty()
    try:
        subprocess.run(
            [PRIME, *args],
            env=prime.environment(TERM="xterm", COLUMNS="120", **({"NO_COLOR": ""} | env)),
            cwd=prime.cwd,
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=other,
            check=False,
        )
        os.close(other)
        other = -1
        text = b""
        while True:
            try:
                piece = os.read(main, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        return text.decode()
    finally:
        os.close(main)
        if other >= 0:
            os.close(other)


def test_colour_only_on_a_terminal_that_wants_it(prime):
    assert "\x1b[31m" in on_a_terminal(prime, "config", "use", "nope")
    assert "\x1b" not in on_a_terminal(prime, "config", "use", "nope", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(prime, "config", "use", "nope", "--plain")
    assert "\x1b" not in prime("config", "use", "nope").stderr


def test_plain_stands_anywhere_and_draws_no_table(prime):
    drawn = on_a_terminal(prime, "config", "envs", NO_COLOR="1")
    assert "━" in drawn or "┃" in drawn
    for args in [("--plain", "config", "envs"), ("config", "envs", "--plain"), ("config", "--plain", "envs")]:
        plain = on_a_terminal(prime, *args)
        assert "production" in plain
        assert not set(plain) & set("━┃│─")
