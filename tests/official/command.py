"""The official command, as a person would run it against a Hub of ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import RunningHub
from tests.official.conftest import python_with


@dataclass
class Prime:
    """`prime …` of one version, for one account of a Hub; no prompt is ever answered but where `said` is given."""

    hub: RunningHub
    home: Path
    version: str = "0.18.0"
    token: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The Python of its own environment, which has uv, too."""
        return python_with(f"prime=={self.version}", "uv<1")

    def environment(self) -> dict[str, str]:
        """What the command is run with."""
        settings = {**self.hub.environment(self.token), "PATH": f"{self.python.parent}:{os.environ['PATH']}"}
        settings |= {"HOME": str(self.home), **self.variables}
        return {name: value for name, value in settings.items() if value}

    def __call__(self, *words: str, code: int = 0, cwd: Path | None = None, said: str | None = None) -> str:
        """What it printed, both streams; its exit code is checked."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if said is None else {"input": said}
        done = subprocess.run(
            [str(self.python.with_name("prime")), *words],
            env=self.environment(),
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            **given,
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    @contextmanager
    def begun(self, *words: str) -> Generator[subprocess.Popen[str]]:
        """The command while it runs, both streams as one; it is ended with the block."""
        with subprocess.Popen(
            [str(self.python.with_name("prime")), *words],
            env={**self.environment(), "PYTHONUNBUFFERED": "1"},
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as program:
            try:
                yield program
            finally:
                program.kill()

    def json(self, *words: str) -> Any:
        """The JSON it printed."""
        return json.loads(self(*words))
