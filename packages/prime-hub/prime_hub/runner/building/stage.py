"""One build stage while it is being built: its tree, environment, variables and what will be run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from prime_hub.runner.building import trees
from prime_hub.runner.building.venvs import Venv
from prime_hub.runner.runtimes.base import BuildError, BuildLog

# Folders of the machine itself. What an image holds there cannot be put there without a container, so it stays in the
# image's own tree; only what this tree holds is found under these names.
SYSTEM_FOLDERS = frozenset(
    [
        "bin",
        "boot",
        "dev",
        "etc",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "nix",
        "opt",
        "proc",
        "run",
        "sbin",
        "sys",
        "usr",
        "var",
        "System",
        "Library",
        "Applications",
        "private",
    ]
)
SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/homebrew/bin")


@dataclass
class Stage:
    """The state of a stage; `root` is the image's `/` on this host, `final` whether its result is the image."""

    root: Path
    venv: Venv
    log: BuildLog
    final: bool = True
    workdir: str = "/"
    workdirs: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    venv_paths: list[str] = field(default_factory=list)
    cmd: list[str] | str | None = None
    entrypoint: list[str] | str | None = None
    notes: list[str] = field(default_factory=list)

    def absolute(self, path: str) -> str:
        """A path as written in the Dockerfile, as an absolute one of the image."""
        return trees.absolute(path, self.workdir)

    def place(self, path: str) -> Path:
        """Where that path lies on this host, which no link leads out of the tree. Raises BuildError."""
        return trees.within(self.root, self.absolute(path))

    def enter(self, path: str) -> None:
        """WORKDIR: make the folder and go there."""
        self.workdir = self.absolute(path)
        self.place(self.workdir).mkdir(parents=True, exist_ok=True)
        if self.workdir != "/" and self.workdir not in self.workdirs:
            self.workdirs.append(self.workdir)

    def add_venv(self, path: str) -> None:
        """Remember a path at which the image has its virtual environment."""
        path = self.absolute(path)
        if path == "/":
            raise BuildError("A virtual environment cannot be made at /.")
        if path not in self.venv_paths:
            self.venv_paths.append(path)

    def venv_at(self, path: str) -> str | None:
        """The virtual environment that this path is, or lies in."""
        found = [venv for venv in self.venv_paths if path == venv or path.startswith(venv + "/")]
        return max(found, key=len, default=None)

    def venvs_in(self, path: str) -> list[str]:
        """The paths of the virtual environment that are this path, or lie in it."""
        return [venv for venv in self.venv_paths if venv == path or venv.startswith(path.rstrip("/") + "/")]

    def note(self, text: str) -> None:
        """Say, once, what was not honoured; it stays with the image."""
        self.log.write(f"  note: {text}\n")
        if text not in self.notes:
            self.notes.append(text)
