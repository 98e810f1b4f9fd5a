"""The one virtual environment of a build stage, and how it grows: step by step, each step a layer of the cache.

Nothing is put on disk before a step has to be run: while the layers are known, only the key moves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

from prime_core.uv import uv_command, uv_environment
from prime_hub.runner import processes
from prime_hub.runner.building import trees
from prime_hub.runner.building.installs import Install
from prime_hub.runner.building.interpreters import Interpreter
from prime_hub.runner.building.layers import Layers
from prime_hub.runner.children import Children
from prime_hub.runner.output import PipeReader
from prime_hub.runner.runtimes.base import BuildError, BuildLog

BUILD_MARK = "PRIME_BUILD_DIR"  # whose builds: the folder of all of them
ONE_BUILD_MARK = "PRIME_BUILD_ID"
LAYER_FORMAT = "1"
LOCK_FILE = "uv.lock"
# What uv needs of this program's environment; everything else may be a secret and stays here.
_PASSED = re.compile(
    r"HOME|USER|PATH|LANG|LC_\w+|TMPDIR|XDG_\w+|UV_(?:INDEX\w*|DEFAULT_INDEX|EXTRA_INDEX_URL|FIND_LINKS|CACHE_DIR|CONFIG_FILE|NO_INDEX|OFFLINE|"
    r"SYSTEM_CERTS|HTTP_TIMEOUT|INSECURE_HOST|KEYRING_PROVIDER|INDEX_STRATEGY)|PIP_INDEX_URL|PIP_CONFIG_FILE|SSL_CERT_\w+|(?i:https?_proxy|no_proxy|all_proxy)"
)
# Variables of a Dockerfile that would change how uv or Python itself works.
_KEPT_OUT = re.compile(
    r"PATH|HOME|VIRTUAL_ENV|UV_(?!INDEX|EXTRA_INDEX|DEFAULT_INDEX|PRERELEASE|TORCH).*|PIP_.*|PYTHON.*|LD_.*|DYLD_.*|PRIME_.*"
)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")

RunUv = Callable[[list[str], Path, dict[str, str], Path], Awaitable[int]]


class UvRunner:
    """Runs uv for the one build in `folder`, its output going to the build's log; a cancelled build takes uv's whole
    group along.
    """

    def __init__(self, children: Children, log: BuildLog, folder: Path) -> None:
        self._children = children
        self._log = log
        self._folder = folder
        self._marks = {BUILD_MARK: str(folder.parent), ONE_BUILD_MARK: folder.name}
        self.last_error = ""

    async def end(self) -> None:
        """Kill what the build left running: what is installed may have started anything."""
        await processes.kill_marked(ONE_BUILD_MARK, self._marks[ONE_BUILD_MARK])

    async def __call__(self, arguments: list[str], cwd: Path, image_env: dict[str, str], venv: Path) -> int:
        """uv's exit code. `venv` is where a project's packages go. Raises OSError."""
        env = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        env |= {name: value for name, value in image_env.items() if not _KEPT_OUT.fullmatch(name)}
        env = uv_environment(env) | {**self._marks, "UV_PROJECT_ENVIRONMENT": str(venv)}
        read_end, write_end = os.pipe()
        try:
            child = self._children.spawn(
                [*uv_command(), *arguments], cwd=cwd, env=env, stdout=write_end, stderr=write_end
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        said = bytearray()

        def take(data: bytes) -> None:
            # Where on the Hub's machine it is built is nothing that helps who reads this.
            text = _CREDENTIALS.sub("://", data.decode("utf-8", "replace")).replace(str(self._folder), "")
            self._log.write(text)
            said.extend(text.encode())
            del said[:-8192]

        reader = PipeReader(read_end, take)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.signal_group(signal.SIGKILL)
            await child.wait()
            raise
        finally:
            reader.drain()
            reader.close()
        self.last_error = _reason(said.decode("utf-8", "replace")) if code else ""
        return code


def _reason(said: str) -> str:
    """uv's error and its causes as one sentence, or the last thing it said."""
    lines = [" ".join(_CREDENTIALS.sub("://", line).strip(" │╰─▶×├·").split()) for line in said.splitlines()]
    start = next((at for at, line in enumerate(lines) if line.startswith("error:")), None)
    if start is None:
        return next((line for line in reversed(lines) if line), "uv said nothing")[:1000]
    parts = [lines[start].removeprefix("error:").strip()]
    for line in lines[start + 1 :]:
        if not line.startswith("cause:"):
            break
        parts.append(line.removeprefix("cause:").strip())
    return ": ".join(parts)[:1000]


class Venv:
    """A stage's virtual environment at `path`; `key` names its content."""

    def __init__(
        self, path: Path, interpreter: Interpreter, layers: Layers, run: RunUv, log: BuildLog, *, fresh: bool
    ) -> None:
        self.path = path
        self.interpreter = interpreter
        self.key = _hash(LAYER_FORMAT, interpreter.identity)
        self._layers = layers
        self._run = run
        self._log = log
        self._fresh = fresh

    async def put(self) -> Path:
        """The environment on disk. Raises BuildError, OSError."""
        if self.path.exists():
            return self.path
        if await asyncio.to_thread(self._layers.take, self.key, self.path):
            return self.path
        if self.key != _hash(LAYER_FORMAT, self.interpreter.identity):
            raise BuildError("A cached layer vanished while it was in use; build again.")
        arguments = [
            "venv",
            "--relocatable",
            "--no-project",
            "--quiet",
            "--python",
            str(self.interpreter.path),
            str(self.path),
        ]
        if await self._run(arguments, self.path.parent, {}, self.path) != 0:
            raise BuildError(f"No virtual environment could be made with {self.interpreter.path}; see the build log.")
        await asyncio.to_thread(self._layers.keep, self.key, self.path)
        return self.path

    async def install(self, step: Install, root: Path, env: dict[str, str]) -> int:
        """Take the step's layer from the cache, or run uv for it and make it one; uv's exit code. Raises BuildError,
        OSError.
        """
        key = await asyncio.to_thread(self._next_key, step, root, env)
        if not self._fresh and self._layers.has(key):
            self._log.write("  cached\n")
            if self.path.exists():
                await asyncio.to_thread(trees.remove, self.path)
            self.key = key
            return 0
        await self.put()
        # uv and build backends write beside the sources (uv.lock, *.egg-info); the image's tree is not to change.
        scratch = self.path.with_name(f"{self.path.name}-sources")
        try:
            await asyncio.to_thread(trees.copy, root, scratch, frozenset({".venv", "__pycache__"}))
            arguments = self._arguments(step, root, scratch)
            cwd = _moved(step.cwd or root, root, scratch)
            self._reuse_lock(cwd)
            code = await self._run(arguments, cwd, env, self.path)
            if code == 0:
                self._keep_lock(cwd, arguments)
        finally:
            await asyncio.to_thread(trees.remove, scratch)
        if code != 0:
            await asyncio.to_thread(trees.remove, self.path)
            return code
        self.key = key
        await asyncio.to_thread(self._layers.keep, key, self.path, replace=self._fresh)
        return 0

    def _reuse_lock(self, cwd: Path) -> None:
        # uv checks it against the project, so at worst it resolves anew.
        kept = self.path / LOCK_FILE
        if kept.exists() and (cwd / "pyproject.toml").exists() and not (cwd / LOCK_FILE).exists():
            shutil.copyfile(kept, cwd / LOCK_FILE)

    def _keep_lock(self, cwd: Path, arguments: list[str]) -> None:
        """The lock that `uv sync` found serves the steps after it, which then need not resolve again."""
        if arguments[0] == "sync" and (cwd / LOCK_FILE).exists():
            (self.path / LOCK_FILE).unlink(missing_ok=True)
            shutil.copyfile(cwd / LOCK_FILE, self.path / LOCK_FILE)

    def _arguments(self, step: Install, root: Path, scratch: Path) -> list[str]:
        moved = [argument.replace(str(root), str(scratch)) for argument in step.arguments]
        head = 1 if moved[0] == "sync" else 2
        extra = ["--python", str(self.path / "bin" / "python"), "--compile-bytecode"]
        return [*moved[:head], *extra, *([] if head == 1 else ["--no-editable"]), *moved[head:]]

    def _next_key(self, step: Install, root: Path, env: dict[str, str]) -> str:
        parts = [self.key, json.dumps(step.key), str((step.cwd or root).relative_to(root))]
        for path in step.inputs:
            name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
            parts += [name, trees.digest(path) if path.exists() else ""]
        parts += _settings(step.cwd or root, root)
        parts += [
            f"{name}={env[name]}" for name in sorted(env) if re.match(r"UV_|SETUPTOOLS_|CFLAGS|CXXFLAGS|LDFLAGS", name)
        ]
        return _hash(*parts)

    def copy_of(self, path: Path) -> Venv:
        """The same environment for another stage; from then on each goes its own way."""
        other = Venv(path, self.interpreter, self._layers, self._run, self._log, fresh=self._fresh)
        other.key = self.key
        return other


def _settings(cwd: Path, root: Path) -> list[str]:
    """What uv finds in the image about where packages come from: `uv.toml` and `[tool.uv]`, in this folder or above."""
    found = []
    for folder in [cwd, *cwd.parents] if cwd.is_relative_to(root) else []:
        for file in (folder / "uv.toml", folder / "pyproject.toml"):
            with contextlib.suppress(OSError, ValueError):
                content = tomllib.loads(file.read_text(encoding="utf-8"))
                own = content if file.name == "uv.toml" else content.get("tool", {}).get("uv")
                if own:
                    found.append(f"{file.relative_to(root)}={json.dumps(own, sort_keys=True, default=str)}")
        if folder == root:
            break
    return found


def _moved(path: Path, root: Path, scratch: Path) -> Path:
    return scratch / path.relative_to(root) if path.is_relative_to(root) else path


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
