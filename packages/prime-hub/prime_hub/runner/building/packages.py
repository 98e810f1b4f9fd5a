"""System packages that a Dockerfile installs: whether this machine has them, and whether it matters."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from prime_hub.runner.building.stage import SEARCHED, Stage
from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import BuildError

# Package → the command by which it is recognised, where the names differ.
_COMMANDS = {
    "build-essential": "cc",
    "g++": "g++",
    "nodejs": "node",
    "procps": "ps",
    "iproute2": "ip",
    "netcat-openbsd": "nc",
    "openssh-client": "ssh",
    "default-jre": "java",
    "default-jre-headless": "java",
    "default-jdk": "java",
    "imagemagick": "convert",
    "ripgrep": "rg",
    "python3-venv": "python3",
    "python3-pip": "python3",
    "python3-dev": "python3",
    "xvfb": "Xvfb",
    "sqlite3": "sqlite3",
}
# Needed while an image is made (wheels are used here) or to look at it; their absence alone breaks no server.
_BUILD_ONLY = re.compile(
    r"build-essential|gcc|g\+\+|make|cmake|git|curl|wget|ca-certificates|gnupg\d?|pkg-config|unzip|lsb-release|"
    r"apt-transport-https|software-properties-common|python3?(-.*)?|.*-dev|locales|tzdata|procps|vim|nano|less|tini|dumb-init"
)


def search_path() -> str:
    """The system folders in which programs are looked for; never this program's own environment."""
    return ":".join(folder for folder in SEARCHED if Path(folder).is_dir())


def has_command(name: str) -> bool:
    """Whether this machine has a program of that name."""
    return shutil.which(name, path=search_path()) is not None


async def check(names: Sequence[str], stage: Stage, children: Children, line: int) -> None:
    """Note the packages that are not installed here. Raises BuildError for one that the running server may need."""
    for given in names:
        name = re.split(r"[=:/]", given)[0]
        if has_command(_COMMANDS.get(name, name)) or await _installed(name, children):
            continue
        if stage.final and not _BUILD_ONLY.fullmatch(name):
            raise BuildError(
                f"Dockerfile line {line} installs the system package '{name}', which this machine does not have; "
                "install it here, or use a runtime that builds real containers."
            )
        stage.note(f"line {line}: the system package '{name}' is not on this machine; going on without it.")


async def _installed(name: str, children: Children) -> bool:
    program = shutil.which("dpkg-query", path=search_path())
    if program is None:
        return False
    arguments = [program, "--show", "--showformat=${db:Status-Status}", name]
    code, shown = await children.capture(arguments, cwd=Path("/"), env={"LC_ALL": "C"})
    return code == 0 and "installed" in shown.split()
