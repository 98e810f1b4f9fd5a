"""What the library logs, and where to.

Everything is logged under "verifiers". Importing the library changes nothing about logging unless VF_LOG_LEVEL is set;
the root logger is never touched.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from verifiers.utils.message_utils import content_text, normalize_messages

LOGGER = logging.getLogger("verifiers")
LOG_FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _Handler(logging.StreamHandler[Any]):
    """Ours, so that setting up again replaces it and leaves an application's handlers alone."""


class _FileHandler(logging.FileHandler):
    """The same, into a file."""


def level_number(level: str | int) -> int:
    """A level by name or number. Raises ValueError with a sentence for another word."""
    if isinstance(level, int):
        return level
    if level.upper() not in LEVELS:
        raise ValueError(f"There is no log level {level!r}; there are {', '.join(LEVELS)}.")
    return logging.getLevelNamesMapping()[level.upper()]


def setup_logging(
    level: str | int | None = "INFO",
    log_format: str | None = None,
    date_format: str | None = None,
    log_file: str | None = None,
    console_logging: bool = True,
) -> None:
    """Show the library's log from `level` on: on stderr, and in `log_file` where one is given. None undoes it, so that
    the log goes where the application's does. Raises ValueError for an unknown level.
    """
    number = logging.NOTSET if level is None else level_number(level)
    for handler in list(LOGGER.handlers):
        if isinstance(handler, _Handler | _FileHandler):
            LOGGER.removeHandler(handler)
            handler.close()
    LOGGER.setLevel(number)
    LOGGER.propagate = True
    if level is None:
        return
    handlers: list[logging.Handler] = [_Handler(sys.stderr)] if console_logging else []
    if log_file is not None:
        handlers.append(_FileHandler(log_file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(log_format or LOG_FORMAT, date_format or DATE_FORMAT))
        LOGGER.addHandler(handler)
        LOGGER.propagate = False  # an application's own handlers would say everything twice


def setup_from_environment(level: str) -> None:
    """What VF_LOG_LEVEL asks for when the library is imported; a word that is no level is said and INFO taken."""
    try:
        setup_logging(level)
    except ValueError as error:
        setup_logging("INFO")
        LOGGER.warning("VF_LOG_LEVEL: %s INFO is used.", error)


@contextmanager
def log_level(level: str | int) -> Generator[None]:
    """Within the block the library logs from `level` on."""
    before = LOGGER.level
    LOGGER.setLevel(level_number(level))
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def quiet_verifiers() -> Any:
    """Within the block the library logs warnings and errors only: `with vf.quiet_verifiers(): …`."""
    return log_level("WARNING")


def print_prompt_completions_sample(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    errors: Sequence[Any],
    rewards: Sequence[float | None],
    step: int,
    num_samples: int = 1,
) -> None:
    """A table of the first `num_samples` rollouts on stdout: prompt, completion with its error, reward; `step` is in the
    title. Raises ValueError when the lists differ in length.
    """
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    sizes = {"prompts": len(prompts), "completions": len(completions), "errors": len(errors), "rewards": len(rewards)}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"The lists must be equally long; there are {sizes}.")
    table = Table(show_header=True, header_style="bold", expand=True)
    for title in ("Prompt", "Completion"):
        table.add_column(title)
    table.add_column("Reward", justify="right")
    for prompt, completion, error, reward in zip(prompts[:num_samples], completions, errors, rewards, strict=False):
        said = Text(conversation(completion))
        if error:
            said.append(f"\n\n{_error_text(error)}", style="bold red")
        table.add_row(Text(conversation(prompt)), said, Text("unscored" if reward is None else f"{reward:.2f}"))
        table.add_section()
    Console().print(Panel(table, title=f"Step {step}", expand=False))


def conversation(messages: Any) -> str:
    """Messages as text to read, tool calls included."""
    parts = []
    for message in normalize_messages(messages):
        lines = [f"{message['role']}: {content_text(message.get('content'))}"]
        lines += [f"  calls {call['name']}({call['arguments']})" for call in message.get("tool_calls") or ()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _error_text(error: Any) -> str:
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {error}"
    return f"{error.get('error')}: {error.get('message')}" if isinstance(error, dict) else str(error)
