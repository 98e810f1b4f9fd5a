"""A container's start command made to run beside others on one machine: other paths, loopback only, free ports."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath

from prime_hub.runner.runtimes.base import StartError
from prime_hub.runner.runtimes.paths import PathMap

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
# What only a shell understands: its signs, a variable before the program, its own words in the program's place.
_SHELL_SYNTAX = re.compile(
    r"[;&|<>()$`*?{}~\n#!]|^\s*\w+=|^\s*(?:\.|:|case|cd|eval|exec|exit|export|for|if|readonly|return|set|shift|source|times"
    r"|trap|ulimit|umask|unset|until|wait|while)(?:\s|$)"
)
_ALL_INTERFACES = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|\[::\](?=[:\s\"']|$)")
_LOOPBACK = "127.0.0.1"
# Ways to name a port: an option, an address to bind, the PORT variable and its default.
_NAMED = re.compile(
    r"(?<!\S)--?(?:[a-z]+-)?port[=\s]+[\"']?(\d{1,5})\b"
    r"|(?<![\w.:/])(?:0\.0\.0\.0|127\.0\.0\.1|localhost|\[::\]|\*)?:(\d{2,5})(?![\w.:/])"
    r"|\bPORT=[\"']?(\d{1,5})\b"
    r"|\$\{PORT:?-(\d{1,5})\}"
)
_PORT_OPTION = re.compile(r"--?(?:[a-z]+-)?port|-p|-P")
_PORT_VARIABLE = re.compile(r"(?:[A-Z0-9]+_)*PORT")
_HOST_VARIABLE = re.compile(r"(?:[A-Z0-9]+_)*HOST")


@dataclass
class Start:
    """What to run: `argv` and `env` for this host, `ports` as port of the sandbox → port here.

    `fixed` is a port that the command does not name, so that it could not be replaced and has to be free here.
    """

    argv: list[str]
    env: dict[str, str]
    ports: dict[int, int] = field(default_factory=dict)
    host_rewritten: bool = False
    fixed: int | None = None


def plan(
    command: str | list[str], env: dict[str, str], port: int | None, paths: PathMap, take_port: Callable[[], int]
) -> Start:
    """The start of a sandbox. `env` are the image's and the given variables with the image's paths; `port` the one
    the server is said to listen on; `take_port` gives free ports. Raises StartError and what `take_port` raises.
    """
    words, script, arguments = _taken_apart(command)
    text = shlex.join(words) if script is None else script
    named = named_ports(text) | {int(value) for name, value in env.items() if _is_port(name, value)}
    if port is not None and re.search(rf"(?<![\w.:/-]){port}(?![\w.:-])", text):
        named.add(port)
    fixed = port if port is not None and not named else None
    wanted = named | ({port} if port is not None else set())
    ports = {number: number if number == fixed else take_port() for number in sorted(wanted)}
    change = _Change(ports, port)
    if script is not None:
        # The words are those of the shell: its name, its options, then the script.
        argv = [*words, change.text(paths.script(script)), *(paths.word(word) for word in arguments)]
    else:
        argv = [change.word(paths.word(word), words[at - 1] if at else "") for at, word in enumerate(words)]
    variables = {name: change.variable(name, paths.value(value)) for name, value in env.items()}
    return Start(argv, variables, ports, change.host_rewritten, fixed)


def as_words(command: str | list[str]) -> list[str]:
    """A start command as the words of a program; a line that needs a shell as those of one. Raises StartError."""
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError:
            raise StartError(f"The quotes of the start command do not close: {command}") from None
        if script_at(words) is None and _SHELL_SYNTAX.search(command):
            return ["/bin/sh", "-c", command]
    else:
        words = list(command)
    if not words:
        raise StartError("The start command is empty.")
    return words


def _taken_apart(command: str | list[str]) -> tuple[list[str], str | None, list[str]]:
    """(words, None, []) for a plain program, (shell and its options, script, its arguments) for a script."""
    words = as_words(command)
    at = script_at(words)
    if at is None:
        return words, None, []
    # A login shell would read the machine's profile and lose the image's PATH.
    options = [_without_login(word) for word in words[1:at] if word not in ("--login", "-l")]
    return [words[0], *options], words[at], words[at + 1 :]


def _without_login(word: str) -> str:
    return "-" + word[1:].replace("l", "") if re.fullmatch(r"-[a-z]+", word) else word


def script_at(words: list[str]) -> int | None:
    """Where the script of `sh -c SCRIPT` stands, or None."""
    if not words or PurePath(words[0]).name not in _SHELLS:
        return None
    for at, word in enumerate(words[1:], 1):
        if not word.startswith("-"):
            return None
        if re.fullmatch(r"-[a-z]*c[a-z]*", word):
            return at + 1 if at + 1 < len(words) else None
    return None


def named_ports(text: str) -> set[int]:
    """The ports that a command line names as those it will listen on."""
    found = (int(next(group for group in match.groups() if group)) for match in _NAMED.finditer(text))
    return {port for port in found if 0 < port < 65536}


def _is_port(name: str, value: str) -> bool:
    return name == "PORT" and value.isdigit() and 0 < int(value) < 65536


class _Change:
    """Replaces ports and addresses, and remembers whether an address was replaced."""

    def __init__(self, ports: dict[int, int], declared: int | None) -> None:
        self._ports = ports
        self._declared = declared
        self.host_rewritten = False

    def text(self, text: str) -> str:
        """A script, or a word that may hold an address."""
        text = _NAMED.sub(self._named, text)
        text = re.sub(r"\b(localhost|127\.0\.0\.1|0\.0\.0\.0):(\d{2,5})\b", self._address, text)
        if self._declared is not None and self._declared in self._ports:
            text = re.sub(rf"(?<![\w.:/-]){self._declared}(?![\w.:-])", str(self._ports[self._declared]), text)
        return self._hosts(text)

    def word(self, word: str, before: str) -> str:
        """One word of an exec-form command; `before` is the word ahead of it."""
        if word.isdigit():
            known = int(word) in self._ports and (int(word) == self._declared or _PORT_OPTION.fullmatch(before))
            return str(self._ports[int(word)]) if known else word
        if word == "::":
            self.host_rewritten = True
            return _LOOPBACK
        return self.text(word)

    def variable(self, name: str, value: str) -> str:
        """An environment variable's value."""
        if value.isdigit() and int(value) in self._ports and _PORT_VARIABLE.fullmatch(name):
            return str(self._ports[int(value)])
        return self._hosts(value) if _HOST_VARIABLE.fullmatch(name) else value

    def _hosts(self, text: str) -> str:
        changed = _ALL_INTERFACES.sub(_LOOPBACK, text)
        self.host_rewritten = self.host_rewritten or changed != text
        return changed

    def _named(self, match: re.Match[str]) -> str:
        number = next(at for at, group in enumerate(match.groups(), 1) if group)
        start, end = match.start(number) - match.start(), match.end(number) - match.start()
        return match[0][:start] + str(self._new(match[number])) + match[0][end:]

    def _address(self, match: re.Match[str]) -> str:
        return f"{match[1]}:{self._new(match[2])}"

    def _new(self, port: str) -> str:
        return str(self._ports.get(int(port), port))
