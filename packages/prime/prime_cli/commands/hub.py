"""`prime hub`: a Hub of your own. It is another program, `python -m prime_hub`, started and never imported."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out
from prime_core.errors import LocalHubError

app = command_app("Run a Hub of your own on this machine.")
user_app = command_app("Accounts of a Hub on this machine.")
app.add_typer(user_app, name="user")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Everything of that Hub is in this folder. [PRIME_HUB_DATA_DIR, else ~/.prime/hub]",
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        metavar="PORT",
        min=0,
        max=65535,
        help="0 for any free one. [that of last time, else 8377 or the next]",
    ),
]


@app.command(epilog=examples("prime hub serve", "prime hub serve --host 0.0.0.0 --port 80 --data-dir /srv/hub"))
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Port = None,
    data_dir: DataDir = None,
) -> None:
    """Run a Hub in the foreground, until Ctrl-C."""
    listen = [] if port is None else ["--port", str(port)]
    _become("serve", "--host", host, *listen, "--data-dir", str(_folder(data_dir)))


@app.command(epilog=examples("prime hub start", "prime hub start --port 9000"))
def start(
    port: Port = None,
    data_dir: DataDir = None,
) -> None:
    """Start a Hub in the background, if it does not run yet, and print its address."""
    from prime_core import local_hub

    address = local_hub.ensure_running(_folder(data_dir), announce=out.note, port=port)
    if port and not address.url.endswith(f":{port}"):
        out.warning(f"It runs already, on another port than {port}; 'prime hub stop' ends it.")
    out.data(address.url)


@app.command(epilog=examples("prime hub stop"))
def stop(data_dir: DataDir = None) -> None:
    """Stop the Hub, its runner and every sandbox. What is published stays in its folder."""
    from prime_core import local_hub

    if local_hub.stop(_folder(data_dir)):
        out.success("The Hub has stopped.")
    else:
        out.note("No Hub is running.")


@app.command(epilog=examples("prime hub status", "prime hub status --output json"))
def status(
    data_dir: DataDir = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table,
) -> None:
    """Show whether the Hub runs, where, and what runs its sandboxes. Exit code 3 when it does not run."""
    from prime_core import local_hub
    from prime_core.api import APIClient

    folder = _folder(data_dir)
    found = local_hub.running(folder)
    if found is None:
        if output is Format.json:
            out.json({"running": False, "data_dir": str(folder)})
        else:
            out.fields({"State": "not running", "Data": folder})
            out.note("Run 'prime hub start' to start it.")
        raise typer.Exit(3)
    with APIClient(found.url) as client:
        health = client.get("/health")
    runner = health.get("runner") or {}
    if output is Format.json:
        out.json(
            {
                "running": True,
                "url": found.url,
                "pid": found.pid,
                "data_dir": str(folder),
                "version": health.get("version"),
                "runner": runner,
            }
        )
        return
    runtime = runner.get("runtime")
    isolating = "" if runner.get("isolating") or not runtime else ", does not isolate: only for environments you trust"
    out.fields(
        {
            "State": "running",
            "Address": found.url,
            "Version": health.get("version"),
            "Process": found.pid,
            "Data": folder,
            "Runner": runner.get("state"),
            "Runtime": f"{runtime}{isolating}" if runtime else None,
        }
    )


@app.command(epilog=examples("prime hub logs", "prime hub logs -f", "prime hub logs -n 500"))
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    data_dir: DataDir = None,
) -> None:
    """Print the end of the log of a Hub that was started in the background."""
    path = _folder(data_dir) / "hub.log"
    if not path.is_file():
        raise LocalHubError(
            f"There is no log at {path}.", "Only a Hub started in the background writes one: 'prime hub start'."
        )
    shown, end = _last(path, lines)
    for line in shown:
        out.data(line)
    with path.open(encoding="utf-8", errors="replace") as log:
        log.seek(end)  # where reading ended, not where the file ends by now
        while follow:
            text = log.read()
            if text:
                sys.stdout.write(text)
                sys.stdout.flush()
            elif path.stat().st_size < log.tell():
                log.seek(0)  # somebody emptied it
            else:
                time.sleep(0.2)


@user_app.command("add", epilog=examples("prime hub user add alice", "prime hub user add alice > alice.key"))
def add(
    name: Annotated[str, typer.Argument(help="The account's name: lower-case letters, digits and '-'.")],
    data_dir: DataDir = None,
) -> None:
    """Add an account to a Hub on this machine. Its API key is printed once, alone on stdout; the Hub keeps a hash."""
    _become("user", "add", name, "--data-dir", str(_folder(data_dir)))


def _folder(data_dir: Path | None) -> Path:
    from prime_core.paths import hub_data_dir

    return (data_dir.expanduser() if data_dir else hub_data_dir()).absolute()


def _last(path: Path, count: int) -> tuple[list[str], int]:
    """The last lines of a file, read from its end, and the byte at which they end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if not count:
            return [], end
        size = 8192
        while True:
            start = file.seek(max(0, end - size))
            found = file.read(end - start).splitlines()
            if len(found) > count or size >= end:
                return [line.decode("utf-8", "replace") for line in found[-count:]], end
            size *= 4


def _become(*args: str) -> None:
    """Run `python -m prime_hub …` in this process's place, so that signals and the exit code are its own."""
    from prime_core.children import child_environment

    if importlib.util.find_spec("prime_hub") is None:
        raise LocalHubError(
            "The Hub is not installed next to this command.", "Install it with \"uv pip install 'prime[hub]'\"."
        )
    sys.stdout.flush()
    # -P: a folder named prime_hub in the working directory is not the program.
    os.execve(sys.executable, [sys.executable, "-P", "-m", "prime_hub", *args], child_environment())
