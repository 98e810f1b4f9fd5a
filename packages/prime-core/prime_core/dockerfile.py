"""Reading a Dockerfile: stages and instructions, with variables filled in as Docker does it.

Lines, continuations and comments are read by dockerfile-parse; build stages, flags, `ARG`/`ENV` substitution and
their scopes follow the Dockerfile reference. Heredocs are refused, because the parser would take their text for
instructions.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from prime_core.errors import ProjectError

# In RUN, CMD and ENTRYPOINT a variable is the shell's business.
_SUBSTITUTED = frozenset(
    ["ADD", "ARG", "COPY", "ENV", "EXPOSE", "FROM", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"]
)
KNOWN = _SUBSTITUTED | {"CMD", "ENTRYPOINT", "HEALTHCHECK", "MAINTAINER", "ONBUILD", "RUN", "SHELL"}
_VARIABLE = re.compile(r"\\(?P<escaped>\$)|\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<op>:?[-+])(?P<word>[^}]*))?\})")
_HEREDOC = re.compile(r"(^|\s)<<-?\s*[\"']?[A-Za-z_]\w*")


@dataclass(frozen=True)
class Instruction:
    """One instruction: `value` without flags and with variables filled in, `raw` as written, `line` from 1.

    `flags` are leading `--name=value` (`""` for a bare `--name`); `env` the variables in force before it, ARG and ENV.
    """

    op: str
    value: str
    raw: str
    line: int
    flags: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """The value as a list: a JSON array's items (exec form), else split like a shell does. Raises ProjectError."""
        items = exec_form(self.value)
        return _split(self.value, self.line) if items is None else items


@dataclass(frozen=True)
class Stage:
    """One `FROM base [AS name]` and what follows it; `name` is None when the stage has none.

    `parent` is the earlier stage that `base` names, whose variables, command and ports this one inherits.
    """

    base: str
    name: str | None
    instructions: list[Instruction]
    line: int = 1
    parent: Stage | None = None

    def last(self, op: str) -> Instruction | None:
        """The last instruction of that kind, inherited ones too: it is the one that counts for CMD and ENTRYPOINT."""
        own = next((item for item in reversed(self.instructions) if item.op == op), None)
        return own or (self.parent.last(op) if self.parent else None)


def exec_form(value: str) -> list[str] | None:
    """The items of a JSON array of strings, or None when `value` is not one (shell form)."""
    if not value.lstrip().startswith("["):
        return None
    try:
        items = json.loads(value)
    except ValueError:
        return None
    return items if isinstance(items, list) and all(isinstance(item, str) for item in items) else None


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Fill in `$A`, `${A}`, `${A:-word}`, `${A-word}`, `${A:+word}`, `${A+word}`; unset is empty, `\\$` a dollar
    sign.
    """

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        name, operator, word = match["plain"] or match["name"], match["op"] or "", match["word"] or ""
        found = env.get(name)
        present = bool(found) if operator.startswith(":") else found is not None
        if operator.endswith("-"):
            return found or "" if present else substitute(word, env)
        if operator.endswith("+"):
            return substitute(word, env) if present else ""
        return found or ""

    return _VARIABLE.sub(value, text)


def key_values(value: str, line: int = 0) -> dict[str, str]:
    """The pairs of an ENV or LABEL: `A=1 B="two words"`, or the old `A rest of the line`. Raises ProjectError."""
    first, _, rest = value.strip().partition(" ")
    if "=" not in first:
        if not rest.strip():
            raise ProjectError(f"Dockerfile line {line}: ENV needs a name and a value, as in ENV NAME=value.")
        return {first: rest.strip()}
    words = _split(value, line)
    pairs = {}
    for word in words:
        name, equals, content = word.partition("=")
        if not equals or not name:
            raise ProjectError(f"Dockerfile line {line}: '{word}' is not of the form NAME=value.")
        pairs[name] = content
    return pairs


def _split(value: str, line: int) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:
        raise ProjectError(f"Dockerfile line {line}: the quotes of '{value}' do not close.") from None


def _flags(value: str) -> tuple[dict[str, str], str]:
    flags = {}
    while match := re.match(r"--([A-Za-z][\w-]*)(?:=(\S*))?(?:\s+|$)", value):
        flags[match[1]] = match[2] or ""
        value = value[match.end() :]
    return flags, value


def _lines(text: str) -> list[tuple[str, str, int]]:
    """(operation, value, line from 1) of each instruction, in order."""
    escape = re.search(r"(?im)^\s*#\s*escape\s*=\s*(\S)", text.partition("\n\n")[0])
    if escape and escape[1] != "\\":
        raise ProjectError("This Dockerfile changes the escape character, which is not read here; use the usual '\\'.")
    from dockerfile_parse import DockerfileParser

    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()), env_replace=False)
    return [
        (str(item["instruction"]).upper(), str(item["value"]).strip(), int(item["startline"]) + 1)
        for item in parser.structure
        if item["instruction"] != "COMMENT"
    ]


def parse_dockerfile(text: str, build_args: Mapping[str, str] | None = None) -> list[Stage]:
    """The stages of a Dockerfile, `build_args` taking the place of ARG defaults.

    An ARG before the first FROM counts in FROM lines, and in a stage that names it again. Raises ProjectError with
    the line.
    """
    given = dict(build_args or {})
    global_args: dict[str, str] = {}
    stages: list[Stage] = []
    args: dict[str, str] = {}
    env: dict[str, str] = {}
    envs: dict[int, dict[str, str]] = {}
    for op, raw, line in _lines(text):
        if op in ("RUN", "COPY", "ADD") and _HEREDOC.search(raw):
            raise ProjectError(
                f"Dockerfile line {line}: a heredoc (<<) is not read here.",
                "Write the lines joined with '&&', or copy a script in and run it.",
            )
        if op not in KNOWN:
            raise ProjectError(f"Dockerfile line {line}: '{op}' is not a Dockerfile instruction.")
        if not stages and op not in ("FROM", "ARG"):
            raise ProjectError(f"Dockerfile line {line}: {op} stands before the first FROM.")
        scope = {**args, **env} if stages and op != "FROM" else global_args
        flags, value = _flags(raw) if op in ("FROM", "RUN", "COPY", "ADD", "HEALTHCHECK") else ({}, raw)
        if op in _SUBSTITUTED:
            value = substitute(value, scope)
            flags = {name: substitute(content, scope) for name, content in flags.items()}
        if op == "FROM":
            stage = _stage(value, line, stages)
            stages.append(stage)
            # Of an earlier stage ENV is inherited, ARG is not.
            args, env = {}, dict(envs[id(stage.parent)]) if stage.parent else {}
            envs[id(stage)] = env
            continue
        if not value:
            raise ProjectError(f"Dockerfile line {line}: {op} says nothing.")
        if stages:
            stages[-1].instructions.append(Instruction(op, value, raw, line, flags, dict(scope)))
        if op == "ARG":
            for word in _split(value, line):
                name, equals, default = word.partition("=")
                found = given.get(name, default if equals else (global_args.get(name) if stages else None))
                if found is not None:
                    (args if stages else global_args)[name] = found
        elif op == "ENV":
            env.update(key_values(value, line))
    if not stages:
        raise ProjectError("The Dockerfile has no FROM line, so there is nothing to build.")
    return stages


def _stage(value: str, line: int, earlier: list[Stage]) -> Stage:
    words = value.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        shown = value or "nothing (is its ARG set?)"
        raise ProjectError(f"Dockerfile line {line}: FROM must be 'FROM image' or 'FROM image AS name', not '{shown}'.")
    parent = next((stage for stage in earlier if stage.name and stage.name.lower() == words[0].lower()), None)
    return Stage(words[0], words[2] if len(words) == 3 else None, [], line, parent)


def command_line(stage: Stage) -> str | None:
    """What a container of this stage runs, as one shell line: ENTRYPOINT and CMD; None when the stage names neither.

    Shell form as written, exec form joined with quotes where needed.
    """
    entry, command = stage.last("ENTRYPOINT"), stage.last("CMD")
    parts = []
    for item in (entry, command):
        if item is not None:
            words = exec_form(item.value)
            parts.append(item.value if words is None else shlex.join(words))
    if entry is not None and exec_form(entry.value) is None:
        # A shell-form ENTRYPOINT ignores CMD.
        return parts[0]
    return " ".join(parts) or None


def exposed_port(stage: Stage) -> int | None:
    """The first TCP port of the stage's EXPOSE lines, or None."""
    for item in stage.instructions:
        if item.op == "EXPOSE":
            for word in item.value.split():
                port, _, protocol = word.partition("/")
                if port.isdigit() and protocol.lower() in ("", "tcp"):
                    return int(port)
    return exposed_port(stage.parent) if stage.parent else None
