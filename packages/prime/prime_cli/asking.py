"""Asking before something is done that cannot be taken back; in one sentence where there is no terminal to ask at."""

from __future__ import annotations

import sys

import typer

from prime_cli.output import out
from prime_core.errors import PrimeError


def confirm(question: str, yes: bool) -> None:
    """Ask, unless --yes was given. Raises typer.Abort for a no, PrimeError where nobody can be asked."""
    if yes:
        return
    if _answer(f"{question} [y/N]:").lower() not in ("y", "yes"):
        raise typer.Abort


def typed(question: str, word: str, yes: bool) -> None:
    """Have a word typed, unless --yes was given. Raises PrimeError for another one, and where nobody can be asked."""
    if yes:
        return
    if _answer(question) != word:
        raise PrimeError(f"That is not {word}; nothing was done.")


def _answer(question: str) -> str:
    """A line typed at the terminal. The question goes to stderr, and nothing to stdout, which is for data."""
    # What is piped in may be meant for something else: the list that a loop of a shell reads.
    if not sys.stdin.isatty():
        raise PrimeError(
            "Nothing was done: there is nobody to ask, as standard input is no terminal.",
            "Add --yes to do it without being asked.",
        )
    out.log(f"{question} ")
    line = sys.stdin.readline()
    if not line:
        out.note()
        raise typer.Abort
    return line.strip()
