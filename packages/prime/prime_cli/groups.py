"""How a command group is made: plain help that renders fast, `ls` for `list`, examples at the end of the help."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class CommandGroup(TyperGroup):
    """A group in which `ls` means `list`, as in the official command (protocols/hub.md §1.5)."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name == "ls":
            found = super().get_command(ctx, "list")
        return found


def command_app(help: str, *, group: bool = True) -> typer.Typer:
    """A Typer application with the settings every command shares.

    `group=False` is for a module that holds one command without a name of its own (`prime whoami`).
    Help is plain text: rich panels would cost more than the rest of the start-up together.
    """
    return typer.Typer(
        help=help,
        cls=CommandGroup,
        no_args_is_help=group,
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT_SETTINGS,
    )


def examples(*lines: str) -> str:
    """The epilog of a command's help: its examples, each on a line of its own and never wrapped."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
