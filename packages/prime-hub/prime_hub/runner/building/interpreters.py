"""Which Python an image gets: the one its FROM line names when this machine has it, else the runner's own."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from prime_core.uv import uv_command, uv_environment
from prime_hub.runner.children import Children

_PYTHON_IMAGE = re.compile(r"(?:^|/)python:(\d+\.\d+)")
_LOOK = """import platform, sys
print(sys.executable, platform.python_implementation(), platform.python_version(), sep="\\n")
print(platform.platform(), sys.base_prefix, sep="\\n")"""


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine; `identity` changes whenever what is installed for it would not fit any more."""

    path: Path
    version: str
    identity: str


class Interpreters:
    """Finds interpreters, each asked once."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._found: dict[str, Interpreter | None] = {}

    async def for_base(self, base: str) -> tuple[Interpreter, str]:
        """The interpreter for a FROM line, and a sentence for the build's log."""
        match = _PYTHON_IMAGE.search(base)
        wanted = match[1] if match else None
        if wanted is not None:
            found = await self._find(wanted)
            if found is not None:
                return found, f"FROM {base}: using Python {found.version} of this machine."
        own = await self.own()
        if wanted is None:
            return own, f"FROM {base}: no image is pulled here; using Python {own.version} of this machine."
        return own, f"FROM {base}: this machine has no Python {wanted}; using Python {own.version} in its place."

    async def own(self) -> Interpreter:
        """The interpreter this program runs on. Raises RuntimeError when it does not answer."""
        path = getattr(sys, "_base_executable", None) or sys.executable
        found = await self._ask(path)
        if found is None:
            raise RuntimeError(f"The Python at {path} does not answer.")
        return found

    async def _find(self, version: str) -> Interpreter | None:
        arguments = [*uv_command(), "python", "find", version, "--system", "--no-project", "--no-python-downloads"]
        code, shown = await self._children.capture(arguments, cwd=Path("/"), env=uv_environment())
        return await self._ask(shown.strip()) if code == 0 and shown.strip() else None

    async def _ask(self, path: str) -> Interpreter | None:
        if path not in self._found:
            try:
                code, shown = await self._children.capture([path, "-I", "-c", _LOOK], cwd=Path("/"), env={})
            except (OSError, TimeoutError):
                code, shown = 1, ""
            lines = shown.splitlines()
            fits = code == 0 and len(lines) == 5
            self._found[path] = Interpreter(Path(lines[0]), lines[2], "|".join(lines)) if fits else None
        return self._found[path]
