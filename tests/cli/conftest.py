"""The door of these tests: the real `prime` executable as a child process, in a home of its own."""

from __future__ import annotations

import os
import pty
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PRIME = Path(sys.executable).parent / "prime"


@dataclass
class Prime:
    """Runs `prime …` and hands back what it printed. `env` is what this user's shell has set."""

    home: Path
    cwd: Path
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, **extra: str) -> dict[str, str]:
        """The child's whole environment; tests/conftest.py has cleared this process's own."""
        path = os.pathsep.join([str(PRIME.parent), os.environ.get("PATH", "")])
        return {**os.environ, "HOME": str(self.home), "PATH": path, **self.env, **extra}

    def __call__(
        self, *args: str | Path, stdin: str | None = None, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one command line to its end, whatever its exit code."""
        return subprocess.run(
            [PRIME, *map(str, args)],
            cwd=cwd or self.cwd,
            env=self.environment(**env),
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    def ok(self, *args: str | Path, stdin: str | None = None, cwd: Path | None = None, **env: str) -> str:
        """Run a command line that must succeed; its stdout."""
        done = self(*args, stdin=stdin, cwd=cwd, **env)
        assert done.returncode == 0, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(
        self, *args: str | Path, code: int = 1, stdin: str | None = None, cwd: Path | None = None, **env: str
    ) -> str:
        """Run a command line that must end with `code` and no traceback; its stderr."""
        done = self(*args, stdin=stdin, cwd=cwd, **env)
        assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stderr

    def answering(self, answer: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one command line with a terminal as its standard input, at which `answer` is typed."""
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer.encode())
            return subprocess.run(
                [PRIME, *map(str, args)],
                cwd=self.cwd,
                env=self.environment(),
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)

    def user(self, name: str, **env: str) -> Prime:
        """Another user of this machine: an empty home, an empty working folder."""
        home, work = self.cwd / f"{name}-home", self.cwd / f"{name}-work"
        home.mkdir()
        work.mkdir()
        return Prime(home, work, name, env)


@pytest.fixture
def prime(home: Path, tmp_path: Path) -> Prime:
    """A user with an empty home and an empty working folder."""
    return Prime(home, tmp_path)


@pytest.fixture
def author(prime: Prime, module_hub) -> Prime:
    """Somebody with a new account on the module's Hub, logged in, with an empty ./environments."""
    name = f"author-{secrets.token_hex(4)}"
    token = module_hub.add_user(name)
    (prime.cwd / "environments").mkdir()
    prime.ok("login", "--base-url", module_hub.url, "--token-stdin", stdin=token)
    return Prime(prime.home, prime.cwd, name)


@pytest.fixture
def own_hub(prime: Prime) -> Iterator[Prime]:
    """The same user, whose machine's own Hub may be started by any command and is stopped afterwards."""
    yield prime
    prime("hub", "stop")
