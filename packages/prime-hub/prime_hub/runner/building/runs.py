"""RUN lines, interpreted: what is known is done in the image's own tree and environment, what is unknown is refused.

No line is ever given to a shell, and no program but uv is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from prime_hub.runner.building import files, installs, packages
from prime_hub.runner.building.shell import AndOr, If, Node, Not, Sequence, ShellError, Simple, expand, parse
from prime_hub.runner.building.stage import Stage
from prime_hub.runner.building.venvs import UvRunner
from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import BuildError

_PYTHONS = frozenset({"python", "python3"})
_PIPS = frozenset({"pip", "pip3"})
# Without meaning where there is no container of one's own: users, services, caches.
_UNNEEDED = frozenset(
    [
        "useradd",
        "adduser",
        "groupadd",
        "addgroup",
        "usermod",
        "chown",
        "chgrp",
        "ldconfig",
        "locale-gen",
        "update-ca-certificates",
        "sync",
        "dpkg-reconfigure",
        "corepack",
        "ulimit",
        "sleep",
        "which",
        "whoami",
        "id",
        "ls",
        "cat",
        "pwd",
        "env",
        "hash",
    ]
)
_APT_VERBS = frozenset(
    {"update", "clean", "autoclean", "autoremove", "upgrade", "dist-upgrade", "full-upgrade", "purge", "remove"}
)
_SILENT = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "1", "2"})

Handler = Callable[[list[str]], Awaitable[int]]


class Runs:
    """Interprets the RUN lines of one stage."""

    def __init__(self, stage: Stage, children: Children, uv: UvRunner) -> None:
        self._stage = stage
        self._children = children
        self._uv = uv
        self._line = 0
        self._env: dict[str, str] = {}
        self._failure = ""

    async def run(self, text: str, words: list[str] | None, env: Mapping[str, str], line: int) -> None:
        """One RUN line (`words` when it is in exec form) with its variables. Raises BuildError."""
        self._line, self._env, self._failure = line, dict(env), ""
        workdir = self._stage.workdir
        try:
            if words is not None:
                code = await self._words(words)
            else:
                code = await self._node(parse(text))
        except ShellError as error:
            raise BuildError(
                f"Dockerfile line {line} cannot be read here: {error}. Use plain commands joined with '&&', or a "
                "runtime that builds real containers."
            ) from None
        finally:
            self._stage.workdir = workdir
        if code != 0:
            raise BuildError(f"Dockerfile line {line} failed: {self._failure or f'it ended with code {code}'}")

    async def _node(self, node: Node) -> int:
        if isinstance(node, Simple):
            return await self._simple(node)
        if isinstance(node, Not):
            return 0 if await self._node(node.command) else 1
        if isinstance(node, AndOr):
            code = await self._node(node.left)
            return await self._node(node.right) if (code == 0) == (node.operator == "&&") else code
        if isinstance(node, Sequence):
            code = 0
            for command in node.commands:
                code = await self._node(command)
            return code
        if isinstance(node, If):
            for condition, body in node.branches:
                if await self._node(condition) == 0:
                    return await self._node(body)
            return await self._node(node.otherwise) if node.otherwise is not None else 0
        raise self._refused(" | ".join(_name(command) for command in node.commands), "a pipe")

    async def _simple(self, command: Simple) -> int:
        given = {name: " ".join(expand(word, self._env)) for name, word in command.assigns}
        words = [item for word in command.words for item in expand(word, self._env)]
        targets = [(operator, " ".join(expand(word, self._env))) for operator, word in command.redirects]
        written = [(operator, target) for operator, target in targets if target not in _SILENT]
        if not words:
            self._env |= given
            return 0
        if written:
            return self._write(words, written)
        before = self._env
        self._env = before | given
        try:
            return await self._words(words)
        finally:
            # `export` and `cd` outlive their command, assignments in front of one do not.
            self._env = before | {name: value for name, value in self._env.items() if name not in given}

    async def _words(self, words: list[str]) -> int:
        name, rest = words[0].rsplit("/", 1)[-1], words[1:]
        if words[0].startswith("/") and words[0].count("/") > 1:
            self._stage.log.write(f"  {words[0]} is taken as {name}\n")
        if name in _PYTHONS or (name.startswith("python3.") and name[8:].isdigit()):
            return await self._python(rest, words)
        if name in _PIPS:
            return await self._pip(rest, words)
        handler: Handler | None = getattr(self, f"_do_{name.replace('-', '_')}", None)
        if name == "[":
            handler = self._do_test
        if handler is not None:
            return await handler(rest)
        if name in files.COMMANDS:
            return await asyncio.to_thread(files.COMMANDS[name], rest, self._stage)
        if name in _UNNEEDED:
            self._stage.note(f"line {self._line}: '{name}' is not honoured; it has no meaning without a container.")
            return 0
        raise self._refused(" ".join(words), name)

    def _refused(self, command: str, what: str) -> BuildError:
        shown = command if len(command) <= 120 else command[:117] + "..."
        return BuildError(
            f"Dockerfile line {self._line} runs '{shown}': {what} is not run here. Without a container only pip, uv "
            "and simple file commands are; do it before the build, or use a runtime that builds real containers."
        )

    def _write(self, words: list[str], written: list[tuple[str, str]]) -> int:
        if words[0] not in ("echo", "printf", ":", "true") or any(
            operator not in (">", ">>") for operator, _ in written
        ):
            raise self._refused(" ".join(words), "a redirection of this kind")
        for operator, target in written:
            path = self._stage.place(target)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if operator == ">>" else "w", encoding="utf-8") as file:
                file.write(files.echoed(words))
        return 0

    async def _python(self, rest: list[str], words: list[str]) -> int:
        if rest[:2] == ["-m", "pip"]:
            return await self._pip(rest[2:], words)
        if rest[:2] in (["-m", "venv"], ["-m", "virtualenv"]):
            return self._make_venv([word for word in rest[2:] if not word.startswith("-")])
        if rest[:2] == ["-m", "compileall"] or rest in (["--version"], ["-V"]):
            return 0
        raise self._refused(" ".join(words), "a Python program")

    def _make_venv(self, paths: list[str]) -> int:
        for path in paths or [".venv"]:
            self._stage.add_venv(path)
        return 0

    async def _pip(self, rest: list[str], words: list[str]) -> int:
        verb = next((word for word in rest if not word.startswith("-")), "")
        if verb == "install":
            rest = rest[: rest.index(verb)] + rest[rest.index(verb) + 1 :]
            return await self._install(installs.pip_install(rest, self._where()))
        if verb in ("", "--version", "list", "freeze", "check", "cache", "config", "show", "debug"):
            return 0
        raise self._refused(" ".join(words), f"'pip {verb}'")

    def _where(self) -> installs.Where:
        return installs.Where(self._stage.place, self._stage.place(self._stage.workdir), self._stage.root)

    async def _install(self, steps: list[installs.Install]) -> int:
        if not steps:
            self._stage.log.write("  nothing to install: pip and uv themselves are not needed\n")
        for step in steps:
            code = await self._stage.venv.install(step, self._stage.root, self._env)
            if code != 0:
                self._failure = self._uv.last_error
                return code
        return 0

    async def _do_uv(self, rest: list[str]) -> int:
        words = [word for word in rest if word not in ("-q", "--quiet", "-v", "--verbose", "--no-progress")]
        if words[:2] == ["pip", "install"]:
            return await self._install(installs.pip_install(words[2:], self._where()))
        if words[:1] == ["sync"]:
            self._stage.add_venv(self._env.get("UV_PROJECT_ENVIRONMENT") or ".venv")
            return await self._install(installs.uv_sync(words[1:], self._where()))
        if words[:1] == ["venv"]:
            values = {"--python", "-p", "--prompt", "--index-url", "--link-mode"}
            paths = [word for at, word in enumerate(words[1:]) if not word.startswith("-") and words[at] not in values]
            return self._make_venv(paths)
        if words[:1] in (["--version"], ["version"], ["cache"], ["python"], ["self"], []):
            return 0
        raise self._refused(" ".join(["uv", *rest]), f"'uv {words[0]}'")

    async def _do_apt_get(self, rest: list[str]) -> int:
        words = [
            word
            for at, word in enumerate(rest)
            if not word.startswith("-") and (at == 0 or rest[at - 1] not in ("-o", "-t"))
        ]
        if words[:1] == ["install"]:
            await packages.check(words[1:], self._stage, self._children, self._line)
            self._stage.note(f"line {self._line}: system packages are this machine's own; none is installed.")
            return 0
        if words and words[0] in _APT_VERBS:
            self._stage.note(f"line {self._line}: '{words[0]}' of system packages is not honoured.")
            return 0
        raise self._refused(" ".join(["apt-get", *rest]), "this apt command")

    _do_apt = _do_apt_get

    async def _do_apk(self, rest: list[str]) -> int:
        words = [word for word in rest if not word.startswith("-") and word != "add"]
        return await self._do_apt_get(["install", *words] if "add" in rest else ["update"])

    async def _do_command(self, rest: list[str]) -> int:
        names = [word for word in rest if not word.startswith("-")]
        ours = _PYTHONS | _PIPS | {"uv", "uvx"}
        return 0 if names and all(name in ours or packages.has_command(name) for name in names) else 1

    _do_type = _do_command

    async def _do_test(self, rest: list[str]) -> int:
        words = rest[:-1] if rest[-1:] == ["]"] else rest
        negative = words[:1] == ["!"]
        true = files.test(words[1:] if negative else words, self._stage)
        return 0 if true != negative else 1

    async def _do_cd(self, rest: list[str]) -> int:
        path = self._stage.absolute(rest[0] if rest else "/")
        if not self._stage.place(path).is_dir():
            self._failure = f"cd: {path} is not a folder of the image."
            return 1
        self._stage.workdir = path
        return 0

    async def _do_export(self, rest: list[str]) -> int:
        self._env |= {name: value for name, equals, value in (word.partition("=") for word in rest) if equals}
        return 0

    async def _do_source(self, rest: list[str]) -> int:
        if rest and rest[0].endswith("/activate") and self._stage.venv_at(self._stage.absolute(rest[0])):
            return 0
        raise self._refused(" ".join(["source", *rest]), "a script")

    async def _do_true(self, rest: list[str]) -> int:
        return 0

    async def _do_set(self, rest: list[str]) -> int:
        return 0

    async def _do_false(self, rest: list[str]) -> int:
        return 1

    async def _do_exit(self, rest: list[str]) -> int:
        return int(rest[0]) if rest and rest[0].isdigit() else 0

    async def _do_echo(self, rest: list[str]) -> int:
        self._stage.log.write(f"  {' '.join(rest)}\n")
        return 0

    _do_printf = _do_echo


def _name(node: Node) -> str:
    return (
        " ".join("".join(part.text for part in word.parts) for word in node.words) if isinstance(node, Simple) else "…"
    )
