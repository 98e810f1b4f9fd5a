"""Unix sockets of servers beside their ports: programs of this machine reach a server by one in less time.

A start command that runs uvicorn is changed to run it by `also_unix.py`; any other stays as it is, and its server has a
port only. The sockets of a sandbox lie in a folder of their own, whose name follows from the sandbox's id alone, so
that whoever ends the sandbox finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from prime_hub.runner.runtimes.commands import script_at

LAUNCHER = Path(__file__).with_name("also_unix.py")
# The limit is 108 bytes on Linux and 104 on macOS; a name within the folder is at most `/65535.sock`.
FOLDER_BYTES = 88

_UV_OPTION = (
    r"(?:--(?:no-sync|frozen|locked|offline|isolated|no-project|active|no-dev|quiet)|-q|--"
    r"|--(?:project|directory|python|package|extra|group)[= ]\S+|-p \S+)\s+"
)
# Where a command may begin, up to the program: at the start, after a separator, behind `exec`, variables or `uv run`.
_UVICORN = re.compile(
    r"(?P<ahead>(?:^|[;&|(\n])\s*(?:exec\s+)?(?:env\s+)?(?:[A-Za-z_]\w*=[^\s'\"]*\s+)*"
    rf"(?P<uv>(?:[\w./+-]*/)?uv\s+run\s+(?:{_UV_OPTION})*)?)"
    r"(?:(?P<python>(?:[\w./+-]*/)?python[\d.]*)\s+(?P<options>(?:-(?:[uBO]+|[XW]\s*[\w:=.]+)\s+)*)-m\s+uvicorn"
    r"|(?P<program>(?:[\w./+-]*/)?uvicorn))(?=\s)"
)
_SETS_PATH = re.compile(r"\bPATH=")


class SocketFolders:
    """Where the sockets of one runner's sandboxes lie: in its folder, or in a short one where that has a long name."""

    def __init__(self, runner_folder: Path) -> None:
        own = runner_folder.absolute() / "sockets"
        if len(os.fsencode(own)) + 13 > FOLDER_BYTES:
            name = hashlib.sha256(os.fsencode(runner_folder.resolve())).hexdigest()[:12]
            # Not what TMPDIR says: the next runner may be told another one, and has to find what this one made.
            own = Path("/tmp") / f"prime-sockets-{name}"
        self._folder = own

    def of(self, sandbox_id: str) -> Path:
        """The folder of one sandbox, whether or not it is there."""
        return self._folder / hashlib.sha256(sandbox_id.encode()).hexdigest()[:12]

    def make(self, sandbox_id: str) -> Path | None:
        """Make that folder; None where no safe one can be had."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._folder.lstat()
            # A name in a temporary folder can be somebody else's, who was there first.
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                self._folder.chmod(0o700)
                folder = self.of(sandbox_id)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
                return folder
        return None

    def remove(self, sandbox_id: str) -> None:
        """Remove the sockets of a sandbox, and the folder of all when it was the last. Idempotent."""
        shutil.rmtree(self.of(sandbox_id), ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def listening_also(
    argv: list[str], venv: Path, folder: Path | str, *, launcher: str = str(LAUNCHER), seen_at: Sequence[str] = ()
) -> list[str] | None:
    """A start command whose uvicorn makes `FOLDER/PORT.sock` beside its port; None where it runs none.

    uvicorn counts only as the image's own, in `venv`, which the command sees there, or at the paths `seen_at`.
    """
    at = script_at(argv)
    text = shlex.join(argv) if at is None else argv[at]
    found = list(_UVICORN.finditer(text))
    if len(found) != 1 or _SETS_PATH.search(text):
        return None
    match = found[0]
    if at is None and match.start() != 0:
        return None
    interpreter = _interpreter(match, venv, seen_at or (str(venv),))
    if interpreter is None:
        return None
    program = [interpreter, *(match["options"] or "").split(), launcher, str(folder)]
    program += ["-m"] if match["python"] else []
    if at is not None:
        changed = text[: match.end("ahead")] + shlex.join(program) + text[match.end() :]
        return [*argv[:at], changed, *argv[at + 1 :]]
    # What matched holds no quotes, so its words are those of the command.
    before, matched = len(match["ahead"].split()), len(match[0].split())
    return [*argv[:before], *program, *argv[matched:]]


def _interpreter(match: re.Match[str], venv: Path, seen_at: Sequence[str]) -> str | None:
    """The word for the Python that has that uvicorn."""
    named = match["python"] or match["program"]
    if not (venv / "bin" / "uvicorn").exists() or not (venv / "bin" / Path(named).name).exists():
        return None
    if match["uv"]:
        return "python" if "/" not in named else None
    if "/" not in named:
        return f"{seen_at[0]}/bin/python"
    return str(Path(named).with_name("python")) if str(Path(named).parent.parent) in seen_at else None
