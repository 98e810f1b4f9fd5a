"""What somebody new runs into: names without an owner, wrong folders, things that are not there, questions, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import PRIME, Prime
from tests.cli.folders import write_environment

WITH_YES = [
    "env delete NAME",
    "env version delete NAME 0.1.0",
    "env transfer NAME TEAM",
    "env secret delete NAME -n KEY",
    "env var delete NAME -n KEY",
    "secret delete -n KEY",
    "teams remove TEAM AUTHOR",
    "teams leave TEAM",
    "teams delete TEAM",
    "tokens revoke KEY",
    "images delete my-image",
    "config reset",
]


@pytest.fixture
def published(author: Prime) -> str:
    """`OWNER/my-env`, version 0.1.0."""
    write_environment(author.cwd / "environments")
    author.ok("env", "push", "my-env")
    return f"{author.name}/my-env"


def test_questions_that_nobody_can_answer_are_one_sentence(author, published):
    team = f"t-{author.name}"
    author.ok("teams", "create", team)
    author.ok("tokens", "create", "KEY")
    words = {"NAME": published, "TEAM": team, "AUTHOR": author.name}
    for command in WITH_YES:
        done = author(*(words.get(word, word) for word in command.split()), stdin="y\n")
        assert (done.returncode, done.stdout) == (1, ""), command
        assert done.stderr == (
            "Error: Nothing was done: there is nobody to ask, as standard input is no terminal.\n"
            "Add --yes to do it without being asked.\n"
        ), command
    assert author.ok("env", "status", published) and author.ok("whoami")
    assert team in author.ok("teams", "list") and "KEY" in author.ok("tokens", "list")


def test_what_is_not_there_says_where_to_look(author, published):
    team = f"t-{author.name}"
    author.ok("teams", "create", team)
    versions = f"Run 'prime env versions {published}' to see those there are.\n"
    teams = "Run 'prime teams list' to see your teams, and 'prime whoami' for the account in use.\n"
    for command, hint in (
        (f"env info {published}@9.9", versions),
        (f"env pull {published}@9.9", versions),
        (f"env yank {published}@9.9", versions),
        (f"env version delete {published} 9.9 --yes", versions),
        (f"env inspect {published} nothing", "Run 'prime env inspect OWNER/NAME' to see what is in it.\n"),
        ("teams members nobody", teams),
        ("env push my-env --team nobody", teams),
        ("secret list --team nobody", teams),
        (f"teams add {team} nobody", "See to the spelling: it is the name that 'prime whoami' shows"),
        (f"teams role {team} nobody admin", "Run 'prime teams members TEAM' to see who is in it.\n"),
        ("env push my-env --owner nobody", "Your own name and your teams are what you may publish under"),
        (f"env status {author.name}/nothing", "Run 'prime env list' to see what there is"),
    ):
        error = author.fails(*command.split())
        assert hint in error, (command, error)
        assert ("prime env list" in error) == ("prime env list" in hint), command
    error = author.fails("env", "install", f"{published}@9.9")
    assert error.endswith(f"Error: There is no version '9.9' of {published} on this Hub.\n{versions}")


def test_what_is_refused_is_a_sentence_without_a_status(author, published):
    for command in (f"env secret create {published} -n low -v x", "teams create A_b", f"env list --search {'x' * 300}"):
        error = author.fails(*command.split())
        assert error.startswith("Error: ") and "HTTP" not in error and "422" not in error


def test_a_name_without_an_owner_is_ones_own_or_the_teams(author, published, module_hub):
    assert f"Environment  {published}\n" in author.ok("env", "info", "my-env")
    assert f"Environment   {published}\n" in author.ok("env", "status", "my-env")
    assert "0.1.0" in author.ok("env", "versions", "my-env")
    assert author.ok("env", "inspect", "my-env@0.1.0", "README.md").startswith("# my-env")
    assert f"✓ Starred {published} " in author.ok("env", "star", "my-env")
    author.ok("env", "var", "create", "my-env", "-n", "LEVEL", "-v", "3")
    assert "LEVEL" in author.ok("env", "var", "list", published)
    assert f"There is no environment '{author.name}/other' on this Hub." in author.fails("env", "info", "other")
    team = f"t-{author.name}"
    author.ok("teams", "create", team)
    author.ok("switch", team)
    assert f"There is no environment '{team}/my-env'" in author.fails("env", "info", "my-env")
    author.ok("env", "push", "my-env")
    assert f"Environment  {team}/my-env\n" in author.ok("env", "info", "my-env")
    author.ok("switch", "personal")
    nobody = author.user("nobody", PRIME_API_BASE_URL=module_hub.url)
    error = nobody.fails("env", "info", "my-env")
    assert "'my-env' is not of the form OWNER/NAME" in error and "one of your own, after 'prime login'" in error


def test_another_folder_than_meant(prime):
    folder = write_environment(prime.cwd / "environments")
    for cwd, base in ((folder, ".."), (folder.parent, ".")):
        for command in ("install", "push"):
            error = prime.fails("env", command, "my-env", cwd=cwd)
            where = Path(base) / "my_env"
            assert f"not found at ./environments/my_env.\nIt is in {where}: add --path {base}\n" in error
        error = prime.fails("eval", "run", "my-env", "-m", "baseline/random", cwd=cwd)
        assert f"It is in {where}: add --env-dir-path {base}\n" in error


def test_a_name_that_is_nowhere_says_both_ways(prime):
    error = prime.fails("env", "install", "nothing")
    assert "A name alone is a folder of environments (--path names another, 'prime env init nothing' makes it)" in error
    assert error.endswith("from the Hub: prime env install OWNER/nothing\n")
    error = prime.fails("eval", "run", "nothing", "-m", "baseline/random")
    assert "Install it from the Hub with: prime env install OWNER/nothing; or, if it is your own" in error
    error = prime.fails("eval", "run", "alice/nothing", "-m", "baseline/random")
    assert "Install it with: prime env install alice/nothing\n" in error
    done = subprocess.run(
        [PRIME.with_name("vf-install"), "nothing"],
        cwd=prime.cwd,
        env=prime.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.endswith("from the Hub: vf-install OWNER/nothing\n")


def begun(prime: Prime, *args: str | Path, program: str = "prime", **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PRIME.with_name(program), *args],
        cwd=prime.cwd,
        env=prime.environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def silence() -> Iterator[socket.socket]:
    """A Hub's port at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("env pull alice/my-env -t copy", "nothing was written"),
        ("env install alice/my-env --python venv", "nothing was changed"),
        ("env push my-env --auto-bump", "nothing was published; the same command begins anew"),
        ("images push my-image -c image", "the build is cancelled"),
    ],
)
def test_ctrl_c_says_what_became_of_it(prime, silence, command, outcome):
    folder = write_environment(prime.cwd / "environments")
    (prime.cwd / "image").mkdir()
    (prime.cwd / "image" / "Dockerfile").write_text("FROM python:3.11-slim\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prime.cwd / "venv"], check=True)
    before = (folder / "pyproject.toml").read_bytes()
    url = f"http://127.0.0.1:{silence.getsockname()[1]}"
    child = begun(prime, *command.split(), PRIME_API_BASE_URL=url, PRIME_API_KEY="key")
    connection, _ = silence.accept()
    with connection:
        assert connection.recv(1)
        child.send_signal(signal.SIGINT)
        output, error = child.communicate(timeout=60)
    assert (child.returncode, output, error.splitlines()[-1]) == (130, "", f"Interrupted; {outcome}.")
    assert (folder / "pyproject.toml").read_bytes() == before and not (prime.cwd / "copy").exists()


@pytest.mark.parametrize(
    ("program", "command", "outcome"),
    [
        ("prime", "env install my-env --python venv", "nothing was changed"),
        ("vf-install", "my-env --python venv", "nothing was changed"),
        ("prime", "env uninstall my-env --python venv", "nothing was removed"),
    ],
)
def test_ctrl_c_while_another_installation_is_waited_for(prime, program, command, outcome):
    write_environment(prime.cwd / "environments")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prime.cwd / "venv"], check=True)
    libraries = next((prime.cwd / "venv" / "lib").glob("python*")) / "site-packages"
    before = sorted(libraries.iterdir())
    lock = os.open(libraries, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = begun(prime, *command.split(), program=program)
        assert child.stderr is not None
        said = ""
        while "is at work; waiting for it" not in said:
            line = child.stderr.readline()
            assert line, said
            said += line
        child.send_signal(signal.SIGINT)
        output, error = child.communicate(timeout=60)
    finally:
        os.close(lock)
    assert (child.returncode, output, error) == (130, "", f"Interrupted; {outcome}.\n")
    assert sorted(libraries.iterdir()) == before
