"""`prime eval view` and `prime eval export`: pages of runs, made by the Hub's program, which is started and never imported."""

from __future__ import annotations

import html
import importlib.util
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from prime_cli import browser
from prime_cli.output import out
from prime_core.errors import PrimeError

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Evaluations</title>
<meta http-equiv="refresh" content="0;url={address}"><p><a href="{address}">Go on to the evaluations</a></p>
"""


class NoPages(PrimeError):
    """The program that makes pages is not installed."""


def view(places: Sequence[Path], port: int, opening: bool) -> int:
    """Serve the pages until Ctrl-C, the browser open where there is one; the exit code. Raises NoPages."""
    command = [*program(), "view", "--port", str(port), "--", *(str(place.absolute()) for place in places)]
    with tempfile.TemporaryDirectory(prefix="prime-view-") as scratch, _started(command) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        if address:
            out.data(address)
            if opening:
                _show(address, Path(scratch))
        return serving.wait()


def export(folder: Path, target: str, only: str | None, room: float, force: bool) -> int:
    """Write a run as one HTML file (`-`: to stdout); the exit code. Raises NoPages."""
    from prime_core.children import child_environment

    options = [*(["--force"] if force else []), *(["--only", only] if only else [])]
    command = [*program(), "export", f"--html={target}", "--max-mb", str(room), *options, "--", str(folder)]
    sys.stdout.flush()
    return subprocess.run(command, env=child_environment(), stdin=subprocess.DEVNULL, check=False).returncode


@contextmanager
def _started(command: Sequence[str]) -> Generator[subprocess.Popen[str]]:
    """A program to which the signals that come here are passed on, each once: it has a process group of its own, since
    Ctrl-C would else reach it from the terminal, too.
    """
    from prime_core.children import child_environment

    child: list[subprocess.Popen[str]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for one in child:
            if one.poll() is None:
                one.terminate()

    before = {one: signal.signal(one, pass_on) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with subprocess.Popen(
            command,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as serving:
            child.append(serving)
            yield serving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(address: str, scratch: Path) -> None:
    """Other users of the machine see a program's arguments, so the browser is given a file that only this one reads."""
    from prime_core.files import write_atomic

    page = scratch / "open.html"
    write_atomic(page, PAGE.format(address=html.escape(address)), mode=0o600)
    browser.show(page.as_uri())


def program() -> list[str]:
    """The words that start the Hub's program. Raises NoPages."""
    if importlib.util.find_spec("prime_hub") is None:
        raise NoPages(
            "The pages of evaluations come with the Hub's program, which is not installed next to this command.",
            "Install it with \"uv pip install 'prime[hub]'\"; 'prime eval tui' shows the same in the terminal.",
        )
    # -P: a folder named prime_hub in the working directory is not the program.
    return [sys.executable, "-P", "-m", "prime_hub"]
