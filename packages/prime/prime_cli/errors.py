"""One table: the type of an exception → the sentence the user reads and what to run next. So commands never catch.

Types stand in the table by name, so that reading it imports nothing: they are looked for by name among the base
classes of the exception that was raised.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from prime_cli.output import Output


@dataclass(frozen=True)
class Explanation:
    """What is printed for an exception, and the exit code."""

    sentence: str
    hint: str | None = None
    code: int = 1


def explain(error: BaseException) -> Explanation | None:
    """The table's entry for the exception or the nearest of its base classes; None for one nobody foresaw."""
    for cls in type(error).__mro__:
        rule = RULES.get(f"{cls.__module__}.{cls.__qualname__}")
        if rule is not None:
            return rule(error)
    return None


def report(error: BaseException, out: Output) -> int:
    """Print the explanation of an exception to stderr and return the exit code."""
    if os.environ.get("PRIME_DEBUG"):
        out.log("".join(traceback.format_exception(error)))
    known = explain(error)
    if known is None:
        first = str(error).strip().split("\n")[0]
        known = Explanation(
            f"Unexpected {type(error).__name__}{': ' + first if first else ''}",
            None
            if os.environ.get("PRIME_DEBUG")
            else "Run the same command with PRIME_DEBUG=1 to see where it happened.",
        )
    out.error(known.sentence, known.hint)
    return known.code


def _sentence(error: BaseException, hint: str | None = None) -> Explanation:
    return Explanation(getattr(error, "sentence", str(error)), getattr(error, "hint", None) or hint)


def _with(hint: str) -> Callable[[BaseException], Explanation]:
    """The exception's own sentence, and this hint unless it brings one."""
    return lambda error: _sentence(error, hint)


# What a Hub's own word for programs says is not there → what to run next, with the OWNER/NAME of the Hub's sentence.
MISSING = {
    "version_not_found": "Run 'prime env versions {environment}' to see those there are.",
    "path_not_found": "Run 'prime env inspect OWNER/NAME' to see what is in it.",
    "team_not_found": "Run 'prime teams list' to see your teams, and 'prime whoami' for the account in use.",
    "member_not_found": "Run 'prime teams members TEAM' to see who is in it.",
    "evaluation_not_found": "Run 'prime eval list' to see those you may see, and 'prime whoami' for the Hub in use.",
    "account_not_found": "See to the spelling: it is the name that 'prime whoami' shows to its owner as Username.",
    "not_your_name": "Your own name and your teams are what you may publish under: 'prime whoami', 'prime teams list'.",
}


def _missing(hint: str) -> Callable[[BaseException], Explanation]:
    """The hint for what is missing; `hint` for an environment, and where the Hub does not say what it is."""

    def rule(error: BaseException) -> Explanation:
        named = re.search(r"[\w.-]+/[\w.-]+", str(error))
        known = MISSING.get(getattr(error, "code", None) or "", hint)
        return _sentence(error, known.format(environment=named[0] if named else "OWNER/NAME"))

    return rule


def _login(error: BaseException) -> Explanation:
    """A key that is not taken: what to run is told once, where the Hub has told it already."""
    told = _sentence(error, "Run 'prime login' to get a key that this Hub accepts.")
    return replace(told, hint=None) if "prime login" in told.sentence else told


def _file(what: str) -> Callable[[BaseException], Explanation]:
    """An error of the operating system about a file."""

    def rule(error: BaseException) -> Explanation:
        name = getattr(error, "filename", None)
        return Explanation(f"{what}: {name}" if name else f"{what}: {error}")

    return rule


def _os_error(error: BaseException) -> Explanation:
    reason, name = getattr(error, "strerror", None), getattr(error, "filename", None)
    if reason is None:
        return Explanation(str(error) or type(error).__name__)
    return Explanation(f"{reason}: {name}" if name else reason)


def _missing_module(error: BaseException) -> Explanation | None:
    """Only a package of ours that is left out of an installation on purpose is foreseen."""
    name = (getattr(error, "name", None) or "").split(".")[0]
    packages = {"verifiers": "verifiers", "prime_sandboxes": "prime-sandboxes", "prime_evals": "prime-evals"}
    if name not in packages:
        return None
    return Explanation(
        f"{packages[name]} is not installed next to this command.",
        "Install the prime command anew, with its dependencies.",
    )


RULES: dict[str, Callable[[BaseException], Explanation | None]] = {
    # What our own packages raise: the exception brings the sentence; the hint is what to run when it brings none.
    "prime_core.errors.PrimeError": _sentence,
    "prime_core.errors.NotAuthenticated": _sentence,
    "prime_core.errors.Unauthorized": _login,
    "prime_core.errors.Forbidden": _missing("Run 'prime whoami' to see which account and Hub you are using."),
    "prime_core.errors.NotFound": _missing(
        "Run 'prime env list' to see what there is, and 'prime whoami' for the Hub and account in use."
    ),
    "prime_core.errors.StorageFull": _with("The Hub's disk needs room; nothing of this was published."),
    "prime_core.errors.Unreachable": _with(
        "Run 'prime config view' to see which Hub is used, and 'prime hub status' for this machine's own."
    ),
    "prime_core.errors.APITimeout": _with("Try again; 'prime hub logs' shows what this machine's own Hub is doing."),
    "prime_core.errors.LocalHubError": _with("Run 'prime hub logs' to see what the Hub wrote."),
    "prime_sandboxes.exceptions.SandboxNotRunningError": lambda error: _sentence(
        error,
        f"'prime sandbox get {getattr(error, 'sandbox_id', '') or 'SANDBOX'}' shows why it ended and its last words; "
        "'prime sandbox list' shows those that run.",
    ),
    "prime_sandboxes.exceptions.SandboxFileNotFoundError": _sentence,
    "prime_sandboxes.exceptions.CommandTimeoutError": lambda error: Explanation(str(error), code=124),
    "prime_evals.errors.EvalsError": _sentence,
    # What the machine raises.
    "builtins.FileNotFoundError": _file("No such file or directory"),
    "builtins.PermissionError": _file("Permission denied"),
    "builtins.IsADirectoryError": _file("This is a directory where a file is needed"),
    "builtins.NotADirectoryError": _file("This is a file where a directory is needed"),
    "builtins.OSError": _os_error,
    "builtins.ModuleNotFoundError": _missing_module,
    "httpx.InvalidURL": lambda error: Explanation(
        f"The Hub's address is not a URL: {error}", "Run 'prime config view' to see it."
    ),
    "subprocess.TimeoutExpired": lambda error: Explanation(f"A program did not end in time: {error}"),
}
