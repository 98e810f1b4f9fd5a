"""`prime sandbox exec` and `shell`: a command in a sandbox as if it ran here: its output, input, signals, exit code."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from prime_cli.groups import examples
from prime_cli.output import out
from prime_cli.sandboxes.shared import connected, find, variables
from prime_core.errors import PrimeError

if TYPE_CHECKING:
    from prime_core.connection import Connection
    from prime_sandboxes import AsyncSandboxClient, AsyncSandboxProcess

EXEC_EXAMPLES = examples(
    "prime sandbox exec my-env -- python --version",
    "prime sandbox exec my-env 'cd /app && ls -la | head'        # one word is a line for the shell",
    "tar c . | prime sandbox exec my-env -- tar x -C /app        # what is piped in is its input",
    "prime sandbox exec -u nobody -w /tmp -e MODE=fast my-env -- env",
    "prime sandbox exec -t my-env -- python                      # with a terminal",
)
SHELL_EXAMPLES = examples("prime sandbox shell my-env", "prime sandbox shell 3f2a --user root --workdir /app")
# bash where the image has it.
SHELL_LINE = "if command -v bash > /dev/null 2>&1; then exec bash -i; else exec sh -i; fi"

User = Annotated[str | None, typer.Option("--user", "-u", help="Who runs it. [the user of the sandbox's server]")]
Workdir = Annotated[str | None, typer.Option("--workdir", "-w", metavar="DIR", help="Where. [the image's folder]")]
Env = Annotated[list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="A variable; may be repeated.")]
SandboxArg = Annotated[str, typer.Argument(metavar="SANDBOX", help="Its id, the beginning of it, or its name.")]


@dataclass(frozen=True)
class Asked:
    """A command for a sandbox: a line for its shell or words, its variables, whose it is, where, and for how many seconds."""

    line: str | list[str]
    env: dict[str, str]
    user: str | None = None
    workdir: str | None = None
    timeout: float | None = None

    async def start(self, client: AsyncSandboxClient, sandbox_id: str, **how: Any) -> AsyncSandboxProcess:
        """Start it; `how` is what else `open_process` takes."""
        return await client.open_process(
            sandbox_id, self.line, self.workdir, self.env, self.user, timeout=self.timeout, **how
        )


class ExecCommand(TyperCommand):
    """A command line whose options end with the first word of what is to be run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Options may stand before and after the sandbox; what follows is not read as options of this command."""
        values = {name for item in self.params if not getattr(item, "is_flag", True) for name in item.opts}
        own: list[str] = []
        rest = list(args)
        sandbox: list[str] = []
        while rest:
            word = rest.pop(0)
            if word == "--":
                sandbox += [rest.pop(0)] if rest and not sandbox else []
                break
            if word.startswith("-") and word != "-":
                own += [word, *([rest.pop(0)] if word in values and rest else [])]
            elif sandbox:
                rest.insert(0, word)
                break
            else:
                sandbox = [word]
        return super().parse_args(ctx, [*own, "--", *sandbox, *rest] if sandbox else own)


def exec_(
    sandbox: SandboxArg,
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND…", help="A program and its arguments; one word alone is a shell line."),
    ],
    user: User = None,
    workdir: Workdir = None,
    env: Env = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Kill it after so long. [never]")
    ] = None,
    terminal: Annotated[bool, typer.Option("--tty", "-t", help="Give it this terminal.")] = False,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", "-n", help="Give it no input, though some is piped in.")
    ] = False,
) -> None:
    """Run a command in a sandbox. Its output comes as it prints it, what is piped in is its input, its exit code is this
    command's; Ctrl-C goes to it, a second one ends it.
    """
    line: str | list[str] = command[0] if len(command) == 1 else command
    asked = Asked(line, variables(env or [], "--env", from_here=True), user, workdir, timeout)
    hub, sandbox_id = _found(sandbox)
    if terminal:
        raise typer.Exit(_interactive(hub, sandbox_id, asked))
    import asyncio

    from prime_cli.sandboxes.attached import streamed

    raise typer.Exit(asyncio.run(streamed(hub, sandbox_id, asked, not no_stdin)))


def shell(sandbox: SandboxArg, user: User = None, workdir: Workdir = None, env: Env = None) -> None:
    """Open a shell in a sandbox, in this terminal. 'exit' or Ctrl-D leaves it; Enter ~ . does when nothing answers."""
    hub, sandbox_id = _found(sandbox)
    out.note(f"Shell in {sandbox_id}; leave it with 'exit' or Ctrl-D (Enter ~ . if it hangs).")
    asked = Asked(SHELL_LINE, variables(env or [], "--env", from_here=True), user, workdir)
    raise typer.Exit(_interactive(hub, sandbox_id, asked))


def _found(word: str) -> tuple[Connection, str]:
    from prime_sandboxes import SandboxClient

    hub = connected()
    with SandboxClient(hub) as client:
        return hub, find(client, word).id


def _interactive(hub: Connection, sandbox_id: str, asked: Asked) -> int:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise PrimeError(
            "This is no terminal, so there is none to give away.",
            "Without one: prime sandbox exec SANDBOX -- COMMAND",
        )
    asked = replace(asked, env={"TERM": os.environ.get("TERM") or "xterm", **asked.env})
    import asyncio

    from prime_cli.sandboxes.attached import on_terminal

    return asyncio.run(on_terminal(hub, sandbox_id, asked))
