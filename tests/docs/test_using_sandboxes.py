"""docs/using-sandboxes.md does what it says: its commands and its programs, in order, from an empty folder."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.pages import blocks

PAGE = ROOT / "docs" / "using-sandboxes.md"
SECONDS = 100

pytestmark = pytest.mark.timeout(300)


class Reader:
    """Somebody who types what the page shows, in an empty folder, with an empty home."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = {**os.environ, "HOME": str(home), "PATH": path}

    def run(self, command: list[str]) -> str:
        """Run to the end, which must be a good one; what was printed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command[-1]}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def type(self, command: str) -> str:
        """A line of a shell block; what it printed."""
        words = shlex.split(command, comments=True)
        if words[:3] == ["prime", "sandbox", "shell"]:
            return self.leave(words)
        if words[:3] == ["prime", "sandbox", "logs"] and "-f" in words:
            return self.interrupt(words)
        return self.run(["bash", "-euo", "pipefail", "-c", command])

    def leave(self, words: list[str]) -> str:
        """Run it on a terminal, where `exit` is typed at once."""
        main, other = pty.openpty()
        try:
            child = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdin=other, stdout=other, stderr=other
            )
            os.write(main, b"exit\n")
            try:
                assert child.wait(SECONDS) == 0, words
            finally:
                child.kill()
                child.wait()
            return os.read(main, 65536).decode()
        finally:
            os.close(main)
            os.close(other)

    def interrupt(self, words: list[str]) -> str:
        """Run it until it has printed something, then Ctrl-C."""
        with subprocess.Popen(
            words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            try:
                first = child.stdout.readline()
                child.send_signal(signal.SIGINT)
                rest, error = child.communicate(timeout=SECONDS)
            finally:
                child.kill()
        assert child.returncode == 130, error
        return (first + rest).decode()


@pytest.fixture
def reader(home: Path, tmp_path: Path) -> Iterator[Reader]:
    someone = Reader(home, tmp_path)
    yield someone
    subprocess.run(["prime", "hub", "stop"], env=someone.environment, capture_output=True, check=False)


def test_the_page_works_from_an_empty_folder(reader: Reader) -> None:
    printed: dict[str, str] = {}
    for block in blocks(PAGE):
        if block.language == "python":
            program = reader.folder / f"line_{block.line}.py"
            program.write_text(block.text)
            printed[program.name] = reader.run([sys.executable, str(program)])
            program.unlink()
        else:
            assert block.language == "sh", f"line {block.line}: who runs {block.language}?"
            for command in block.commands():
                printed[command] = reader.type(command)

    def of(beginning: str) -> str:
        return next(text for command, text in printed.items() if command.startswith(beginning))

    assert len(of("prime sandbox create").split()) == 1
    assert of("prime sandbox exec try -- python").startswith("Python 3.")
    assert of("curl") == "fine\n"
    assert "GET /health" in of("prime sandbox logs try -f")
    assert (reader.folder / "results.txt").read_text().strip() == "3"
    assert "2 processors, 4 GB memory, 10 GB disk" in of("prime sandbox get large")
    programs = [text for name, text in printed.items() if name.startswith("line_")]
    assert "1\n2\n3\n" in programs[0] and "http://" in programs[0]
    assert programs[1].startswith("Python 3.")
    assert of("prime hub stop") == "✓ The Hub has stopped.\n"
    assert (
        "not running"
        in subprocess.run(
            ["prime", "hub", "status"], env=reader.environment, capture_output=True, text=True, check=False
        ).stdout
    )
