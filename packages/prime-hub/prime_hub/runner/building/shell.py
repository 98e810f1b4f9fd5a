"""The part of the shell's language that a Dockerfile's RUN lines are written in, parsed and never given to a shell.

Words with quotes and variables, `&&`, `||`, `;`, `!`, `|`, groups, `if`, redirections. Loops, functions and command
substitution are not read. Reading a pipe is fine, running one is the interpreter's decision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from prime_core.dockerfile import substitute

_SPACE = re.compile(r"(?:[ \t\r]|\\\n)+")
_REDIRECT = re.compile(r"(?:\d*(?:>>|>&|<&|>|<)|&>>?)")
_OPERATOR = re.compile(r"&&|\|\||;;|[;|&(){}\n]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_KEYWORDS = frozenset({"then", "elif", "else", "fi", "do", "done", "}", ")"})
_UNREAD = frozenset({"for", "while", "until", "case", "select", "function", "do", "done"})


class ShellError(Exception):
    """The line is outside of what is read here; the message says which part."""


@dataclass(frozen=True)
class Part:
    """A piece of a word: `kind` is plain (variables, splits at spaces), quoted (variables) or literal."""

    text: str
    kind: str


@dataclass(frozen=True)
class Word:
    """A word as written."""

    parts: tuple[Part, ...]

    @property
    def bare(self) -> str | None:
        """The text when nothing in it is quoted, else None; keywords are recognised by it."""
        return self.parts[0].text if len(self.parts) == 1 and self.parts[0].kind == "plain" else None


@dataclass(frozen=True)
class Simple:
    """A command: assignments before it, its words, its redirections (operator, target)."""

    words: tuple[Word, ...]
    assigns: tuple[tuple[str, Word], ...] = ()
    redirects: tuple[tuple[str, Word], ...] = ()


@dataclass(frozen=True)
class Pipe:
    """Commands joined by `|`."""

    commands: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """`! command`."""

    command: Node


@dataclass(frozen=True)
class AndOr:
    """`left && right` or `left || right`."""

    left: Node
    operator: str
    right: Node


@dataclass(frozen=True)
class Sequence:
    """Commands one after another; also a group."""

    commands: tuple[Node, ...]


@dataclass(frozen=True)
class If:
    """`if`/`elif` branches as (condition, body), and what stands after `else`."""

    branches: tuple[tuple[Node, Node], ...]
    otherwise: Node | None = None


Node = Union[Simple, Pipe, Not, AndOr, Sequence, If]  # noqa: UP007 - the classes above name it before it is there


def expand(word: Word, env: Mapping[str, str]) -> list[str]:
    """The words that a written word becomes: variables filled in, unquoted ones split at spaces."""
    fields: list[str] = [""]
    quoted = False
    for part in word.parts:
        text = part.text if part.kind == "literal" else substitute(part.text, env)
        quoted = quoted or part.kind != "plain"
        if part.kind != "plain" or text == part.text:
            fields[-1] += text
            continue
        pieces = text.split()
        if not pieces:
            continue
        if text[0].isspace() and fields[-1]:
            fields.append("")
        fields[-1] += pieces[0]
        fields += pieces[1:]
        if text[-1].isspace():
            fields.append("")
    if not quoted:
        return [item for item in fields if item]
    return fields if len(fields) == 1 else [item for item in fields if item]


@dataclass
class _Tokens:
    """Operators as strings, words as Word, in order."""

    items: list[str | Word] = field(default_factory=list)
    at: int = 0

    def peek(self) -> str | Word | None:
        return self.items[self.at] if self.at < len(self.items) else None

    def next(self) -> str | Word | None:
        token = self.peek()
        self.at += 1
        return token

    def keyword(self) -> str | None:
        token = self.peek()
        return token.bare if isinstance(token, Word) else token

    def expect(self, keyword: str) -> None:
        if self.keyword() != keyword:
            raise ShellError(f"'{keyword}' is missing")
        self.at += 1


def _tokens(text: str) -> _Tokens:
    found: list[str | Word] = []
    position = 0
    while position < len(text):
        if match := _SPACE.match(text, position):
            position = match.end()
        elif text[position] == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif (match := _REDIRECT.match(text, position)) or (
            (match := _OPERATOR.match(text, position)) and not text.startswith("{", position)
        ):
            found.append(match[0])
            position = match.end()
        else:
            word, position = _word(text, position)
            found.append(word)
    return _Tokens(found)


def _word(text: str, position: int) -> tuple[Word, int]:
    parts: list[Part] = []
    while position < len(text):
        character = text[position]
        if character in " \t\r\n;|&()<>" or text.startswith("\\\n", position):
            break
        if character == "'":
            end = text.find("'", position + 1)
            if end < 0:
                raise ShellError("a ' does not close")
            parts.append(Part(text[position + 1 : end], "literal"))
            position = end + 1
        elif character == '"':
            content, position = _quoted(text, position + 1)
            parts += content
        elif character == "\\" and position + 1 < len(text):
            parts.append(Part(text[position + 1], "literal"))
            position += 2
        elif character == "`" or text.startswith("$(", position):
            raise ShellError("command substitution is not run")
        elif text.startswith("${", position) and (end := text.find("}", position)) > 0:
            parts.append(Part(text[position : end + 1], "plain"))
            position = end + 1
        else:
            match = re.compile(r"[^ \t\r\n;|&()<>'\"\\`$]+|\$\w*").match(text, position)
            assert match is not None
            parts.append(Part(match[0], "plain"))
            position = match.end()
    return Word(_joined(parts)), position


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    joined: list[Part] = []
    for part in parts:
        if joined and joined[-1].kind == part.kind and part.kind == "literal":
            joined[-1] = Part(joined[-1].text + part.text, part.kind)
        else:
            joined.append(part)
    return tuple(joined) or (Part("", "literal"),)


def _quoted(text: str, position: int) -> tuple[list[Part], int]:
    parts = [Part("", "quoted")]
    content = ""
    while position < len(text):
        character = text[position]
        if character == '"':
            parts.append(Part(content, "quoted"))
            return parts, position + 1
        if character == "`" or text.startswith("$(", position):
            raise ShellError("command substitution is not run")
        if character == "\\" and text[position + 1 : position + 2] in ('"', "\\", "$", "`", "\n"):
            parts.append(Part(content, "quoted"))
            content = ""
            if text[position + 1] != "\n":
                parts.append(Part(text[position + 1], "literal"))
            position += 2
        else:
            content += character
            position += 1
    raise ShellError('a " does not close')


def parse(text: str) -> Node:
    """The commands of a RUN line. Raises ShellError."""
    tokens = _tokens(text)
    parsed = _sequence(tokens, frozenset())
    if tokens.peek() is not None:
        raise ShellError(f"'{tokens.keyword()}' stands where a command should")
    return parsed


def _sequence(tokens: _Tokens, ends: frozenset[str]) -> Node:
    commands: list[Node] = []
    while True:
        while tokens.peek() in (";", "\n"):
            tokens.next()
        keyword = tokens.keyword()
        if tokens.peek() is None or keyword in ends:
            break
        commands.append(_and_or(tokens))
        if tokens.peek() == "&":
            raise ShellError("'&' (a command in the background) is not run")
        if tokens.peek() not in (";", "\n"):
            break
    return commands[0] if len(commands) == 1 else Sequence(tuple(commands))


def _and_or(tokens: _Tokens) -> Node:
    left = _pipe(tokens)
    while tokens.peek() in ("&&", "||"):
        operator = str(tokens.next())
        while tokens.peek() == "\n":
            tokens.next()
        left = AndOr(left, operator, _pipe(tokens))
    return left


def _pipe(tokens: _Tokens) -> Node:
    if tokens.keyword() == "!":
        tokens.next()
        return Not(_pipe(tokens))
    commands = [_command(tokens)]
    while tokens.peek() == "|":
        tokens.next()
        commands.append(_command(tokens))
    return commands[0] if len(commands) == 1 else Pipe(tuple(commands))


def _command(tokens: _Tokens) -> Node:
    keyword = tokens.keyword()
    if keyword == "if":
        return _if(tokens)
    if keyword in ("(", "{"):
        tokens.next()
        close = ")" if keyword == "(" else "}"
        body = _sequence(tokens, frozenset({close}))
        tokens.expect(close)
        return body
    if keyword in _UNREAD:
        raise ShellError(f"'{keyword}' is not read")
    return _simple(tokens)


def _if(tokens: _Tokens) -> Node:
    branches: list[tuple[Node, Node]] = []
    otherwise: Node | None = None
    while tokens.keyword() in ("if", "elif"):
        tokens.next()
        condition = _sequence(tokens, frozenset({"then"}))
        tokens.expect("then")
        branches.append((condition, _sequence(tokens, frozenset({"elif", "else", "fi"}))))
    if tokens.keyword() == "else":
        tokens.next()
        otherwise = _sequence(tokens, frozenset({"fi"}))
    tokens.expect("fi")
    return If(tuple(branches), otherwise)


def _simple(tokens: _Tokens) -> Simple:
    words: list[Word] = []
    assigns: list[tuple[str, Word]] = []
    redirects: list[tuple[str, Word]] = []
    while (token := tokens.peek()) is not None:
        if isinstance(token, Word):
            tokens.next()
            assigned = None if words else _assignment(token)
            if assigned is not None:
                assigns.append(assigned)
            else:
                words.append(token)
        elif _REDIRECT.fullmatch(token):
            tokens.next()
            target = tokens.next()
            if not isinstance(target, Word):
                raise ShellError(f"nothing stands after '{token}'")
            redirects.append((token, target))
        else:
            break
    if not words and not assigns and not redirects:
        raise ShellError(f"'{tokens.keyword() or 'the end'}' stands where a command should")
    return Simple(tuple(words), tuple(assigns), tuple(redirects))


def _assignment(word: Word) -> tuple[str, Word] | None:
    first = word.parts[0]
    name, equals, rest = first.text.partition("=")
    if first.kind != "plain" or not equals or not _NAME.fullmatch(name):
        return None
    return name, Word((Part(rest, "literal" if not rest else "plain"), *word.parts[1:]))
