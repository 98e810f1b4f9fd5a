"""The `prime` command: global options, and the command groups, each imported only when it is run.

`prime --help` and shell completion of the first word import no command module (tests/cli/test_start.py).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from prime_cli.groups import CONTEXT_SETTINGS, CommandGroup, examples
from prime_cli.output import out

# name → (module, the name of its Typer application, one line for the help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "login": ("prime_cli.commands.login", "login_app", "Log in to a Hub."),
    "logout": ("prime_cli.commands.login", "logout_app", "Forget the login."),
    "whoami": ("prime_cli.commands.login", "whoami_app", "Show the account and the Hub in use."),
    "switch": ("prime_cli.commands.teams", "switch_app", "Act for a team, or for yourself."),
    "teams": ("prime_cli.commands.teams", "app", "Teams: who is in them, who may do what."),
    "tokens": ("prime_cli.commands.tokens", "app", "List, make and revoke API keys."),
    "config": ("prime_cli.commands.config", "app", "See and change the configuration, save and use contexts."),
    "env": ("prime_cli.commands.env", "app", "Write, publish, pull, install, look up and change environments."),
    "fork": ("prime_cli.commands.fork", "app", "Make a copy of an environment your own."),
    "secret": ("prime_cli.commands.secret", "app", "Keep secrets that several of your environments use."),
    "eval": ("prime_cli.commands.eval", "app", "Evaluate a model on an environment."),
    "images": ("prime_cli.commands.images", "app", "Build, list, publish and delete the images environments run in."),
    "sandbox": ("prime_cli.commands.sandbox", "app", "Start sandboxes, run commands in them, move files."),
    "hub": ("prime_cli.commands.hub", "app", "Run a Hub of your own on this machine."),
}


class LazyGroup(CommandGroup):
    """The root group: a stub for each command until one of them is run."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stub that knows its line of the help, and nothing of the command's module."""
        if cmd_name not in COMMANDS:
            return None
        self.commands.setdefault(cmd_name, TyperCommand(cmd_name, help=COMMANDS[cmd_name][2], rich_markup_mode=None))
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is to run: here its module is imported."""
        for name in COMMANDS:
            self.get_command(ctx, name)  # typer's "Did you mean …?" looks among the known ones
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            module, attribute, _ = COMMANDS[name]
            command = typer.main.get_command(getattr(import_module(module), attribute))
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT_SETTINGS,
    epilog=examples(
        "prime login",
        "prime env init my-env --openenv",
        "prime env push my-env",
        "prime env install OWNER/my-env",
        "prime eval run my-env -m baseline/random -n 5",
    ),
)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        out.data(version("prime"))
        raise typer.Exit


@app.callback()
def root(
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            "-c",
            metavar="NAME",
            help="Use this saved context for one command ('prime config envs' lists them).",
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="No colour and no drawn tables; may stand anywhere in the line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """LLM environments: write one, build its server image, publish it, install it anywhere, evaluate a model on it."""
    if context is not None:
        os.environ["PRIME_CONTEXT"] = context  # so that programs this command starts use it too


def take_plain(args: list[str]) -> tuple[bool, list[str]]:
    """`--plain` may stand on any command (protocols/hub.md §1.5): take it out of the line, up to a `--`."""
    end = args.index("--") if "--" in args else len(args)
    kept = [arg for arg in args[:end] if arg != "--plain"]
    return len(kept) < end, kept + args[end:]


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code: 0 done, 1 an error in a sentence, 2 a wrong command line, 130 Ctrl-C."""
    plain, args = take_plain(list(sys.argv[1:] if argv is None else argv))
    if sys.stdin is None:  # closed by whoever started this
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    out.plain = plain
    if plain:
        os.environ["NO_COLOR"] = "1"  # for what this command starts or hands over to
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")  # a terminal that knows no "✓" gets a "?", never a traceback
    try:
        code = typer.main.get_command(app)(args, prog_name="prime", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _quiet_pipe()
    except typer.Abort:
        out.note("Aborted; nothing was done.")
        return 1
    except Exception as error:
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if callable(show) and isinstance(code, int):  # a wrong command line: typer's own words, exit code 2
            show()
            return code
        from prime_cli.errors import report

        return report(error, out)


def _quiet_pipe() -> int:
    """The reader of our output has gone (`prime env list | head -1`): say nothing, not even at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
