"""An image's paths on this host, for the runtime that has no mount namespace to make them true."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from prime_hub.runner.building import trees
from prime_hub.runner.building.packages import search_path
from prime_hub.runner.building.stage import SYSTEM_FOLDERS
from prime_hub.runner.building.store import VenvImage

# An absolute path in a command line: not in the middle of a word, a relative path or an address.
_PATH = re.compile(r"(?<![\w.\-/~$}\\:])/(?=[\w.@+-])[\w.@+/-]*|(?<=:)(?<![\w/]:)/(?=[\w.@+-])[\w.@+/-]*")
_PROGRAM = re.compile(r"/(?:usr/(?:local/)?bin|root/\.local/bin|opt/venv/bin)/([\w.-]+)")
# Folders that images commonly have and machines do not; `/tmp` and `/root` are the sandbox's own.
_USUAL = frozenset({"app", "data", "home", "root", "tmp", "workspace"})


class PathMap:
    """The paths of one sandbox: the image's virtual environment, and the sandbox's own copy of the tree at `root`."""

    def __init__(self, image: VenvImage, root: Path) -> None:
        self.root = root
        self._venv = image.venv
        self._venv_paths = sorted(image.venv_paths, key=len, reverse=True)
        self._workdirs = image.workdirs
        self._workdir = image.image.config.workdir
        self.home = root / "root"
        self.tmp = root / "tmp"

    def on_host(self, path: str) -> Path:
        """Where a path of the image lies, relative ones from its working directory. Raises BuildError for one that
        leads out by a link.
        """
        path = self.absolute(path)
        return self._in_venv(path) or trees.place(self.root, path)

    def absolute(self, path: str) -> str:
        """A path of the image as an absolute one."""
        return trees.absolute(path, self._workdir)

    def holds(self, found: Path) -> bool:
        """Whether a place on this host, links followed, is the sandbox's own or in the image's environment."""
        return found.resolve().is_relative_to(self.root.resolve()) or found.is_relative_to(self._venv)

    def of_the_image(self, path: str) -> bool:
        """Whether a path lies in the virtual environment, which all sandboxes of the image have together."""
        return self._in_venv(self.absolute(path)) is not None

    def _in_venv(self, path: str) -> Path | None:
        for venv in self._venv_paths:
            if path == venv or path.startswith(venv + "/"):
                return self._venv / path[len(venv) + 1 :]
        return None

    def rewritten(self, path: str) -> str:
        """An absolute path of a command line as it has to be on this host; paths of the machine stay."""
        in_venv = self._in_venv(path)
        if in_venv is not None:
            return str(in_venv)
        program = _PROGRAM.fullmatch(path)
        if program and (self._venv / "bin" / program[1]).exists():
            return str(self._venv / "bin" / program[1])
        here = self.root / path.lstrip("/")
        top = path.split("/")[1]
        under_workdir = any(path == item or path.startswith(item + "/") for item in self._workdirs)
        ours = top in _USUAL or (top not in SYSTEM_FOLDERS and (self.root / top).exists())
        return str(here) if under_workdir or ours or (here.exists() and here != self.root) else path

    def script(self, text: str) -> str:
        """A shell script with its absolute paths rewritten, quoted where the new ones need it."""
        out: list[str] = []
        quote = ""
        position = 0
        while position < len(text):
            match = _PATH.match(text, position)
            if match is not None:
                out.append(_fitting(match[0], self.rewritten(match[0]), quote))
                position = match.end()
                continue
            character = text[position]
            if character == "\\" and quote != "'":
                out.append(text[position : position + 2])
                position += 2
                continue
            if character in "'\"" and quote in ("", character):
                quote = "" if quote else character
            out.append(character)
            position += 1
        return "".join(out)

    def word(self, text: str) -> str:
        """One word of an exec-form command with its absolute paths rewritten."""
        return _PATH.sub(lambda match: self.rewritten(match[0]), text)

    def value(self, text: str) -> str:
        """An environment variable's value: a path, or paths joined by `:`, rewritten; anything else as it is."""
        parts = text.split(":")
        if not all(part == "" or part.startswith("/") for part in parts) or text.startswith("//"):
            return text
        return ":".join(self.rewritten(part) if part else "" for part in parts)

    def search_path(self, given: str) -> str:
        """PATH for the sandbox: the environment first, the image's own folders, then the machine's."""
        named = [self.value(part) for part in given.split(":") if part]
        return ":".join(_unique([str(self._venv / "bin"), *named, *search_path().split(":")]))


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _fitting(old: str, new: str, quote: str) -> str:
    if new == old:
        return old
    if quote == "'":
        return new.replace("'", "'\"'\"'")
    if quote == '"':
        return re.sub(r'(["$`\\])', r"\\\1", new)
    return shlex.quote(new)
