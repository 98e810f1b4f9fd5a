"""`prime hub`: a Hub of your own. It is another program, `python -m prime_hub`, started and never imported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

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
LIMITS = (
    *("account-sandboxes", "account-cpus", "account-memory-gb", "account-builds"),
    *("sandbox-cpus", "sandbox-memory-gb", "sandbox-disk-gb"),
)
RuntimeName = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="What runs sandboxes: docker, podman, bubblewrap or process. [PRIME_HUB_RUNTIME, else the best there is]",
    ),
]
RuntimeOption = Annotated[
    list[str] | None,
    typer.Option("--runtime-option", metavar="NAME=VALUE", help="An option of the runtime; may be repeated."),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--allow-foreign-images",
        help="Also run other people's images and builds where the runtime does not isolate them. Dangerous.",
    ),
]
Spares = Annotated[
    int | None,
    typer.Option("--warm-spares", metavar="N", min=0, help="Started sandboxes kept ready for each image in use. [0]"),
]
CheckPublished = Annotated[
    bool,
    typer.Option("--check-published", help="Check each version when it is published, as 'prime env check --on-hub'."),
]
ModelEndpoints = Annotated[
    Path | None,
    typer.Option(
        "--model-endpoints", metavar="FILE", help="The models that evaluations run by the Hub may ask (TOML). [none]"
    ),
]
HostedAtOnce = Annotated[
    int | None,
    typer.Option("--hosted-evaluations", metavar="N", min=1, help="How many evaluations it runs at once. [2]"),
]
SignUp = Annotated[
    str | None,
    typer.Option("--sign-up", metavar="open|closed", help="Whether anybody may make an account on its pages. [closed]"),
]
MostSandboxes = Annotated[
    int | None,
    typer.Option("--max-sandboxes", metavar="N", min=1, help="How many sandboxes run at once; others wait."),
]


@app.command(
    epilog=examples(
        "prime hub serve",
        "prime hub serve --host 0.0.0.0 --port 80 --data-dir /srv/hub",
        "prime hub serve --runtime docker --runtime-option oci_runtime=runsc",
        "prime hub serve --host 0.0.0.0 --sign-up open --frontend-url https://hub.example.org",
        "prime hub serve --limit account-sandboxes=20 --limit account-memory-gb=32",
        "prime hub serve --host 0.0.0.0 --blobs s3://hub-files/team",
    )
)
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Port = None,
    data_dir: DataDir = None,
    frontend_url: Annotated[
        str | None, typer.Option("--frontend-url", metavar="URL", help="The address that people's browsers use.")
    ] = None,
    sign_up: SignUp = None,
    runtime: RuntimeName = None,
    runtime_option: RuntimeOption = None,
    foreign: Foreign = False,
    warm_spares: Spares = None,
    max_sandboxes: MostSandboxes = None,
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST/PATH", help="Push each built image to this OCI registry."),
    ] = None,
    fetch_from: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch-from", metavar="HOST", help="Registry that accounts from elsewhere may use; may be repeated."
        ),
    ] = None,
    check_published: CheckPublished = False,
    model_endpoints: ModelEndpoints = None,
    hosted_evaluations: HostedAtOnce = None,
    upstream_index: Annotated[
        str | None,
        typer.Option(
            "--upstream-index", metavar="URL", help="Package index for names that an owner's own does not have. [none]"
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="[HOST:]PORT", help="Serve Prometheus metrics there, without a key. [none]"),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--log-format", metavar="text|json", help="How the log is written. [PRIME_HUB_LOG_FORMAT, else text]"
        ),
    ] = None,
    blobs: Annotated[
        str | None,
        typer.Option(
            "--blobs", metavar="URL", help="Object storage, like s3://BUCKET/PREFIX. [PRIME_HUB_BLOBS, else a folder]"
        ),
    ] = None,
    presigned_urls: Annotated[
        str | None,
        typer.Option("--presigned-urls", metavar="on|off", help="Whether clients use that storage themselves. [on]"),
    ] = None,
    blobs_public_endpoint: Annotated[
        str | None,
        typer.Option("--blobs-public-endpoint", metavar="URL", help="Where clients reach it. [AWS_ENDPOINT_URL]"),
    ] = None,
    runner_dir: Annotated[
        Path | None,
        typer.Option("--runner-dir", metavar="DIR", help="Folder of the runner that the Hubs of this machine share."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=N", help=f"{', '.join(LIMITS)}; may be repeated. [none]"),
    ] = None,
) -> None:
    """Run a Hub in the foreground, until Ctrl-C."""
    words = _runtime_words(runtime, runtime_option, foreign, warm_spares, max_sandboxes) + _sign_up_words(sign_up)
    words += ["--check-published"] if check_published else []
    words += [] if model_endpoints is None else ["--model-endpoints", str(model_endpoints)]
    words += [] if hosted_evaluations is None else ["--hosted-evaluations", str(hosted_evaluations)]
    given = {
        "--blobs": blobs,
        "--presigned-urls": presigned_urls,
        "--blobs-public-endpoint": blobs_public_endpoint,
        "--runner-dir": runner_dir,
    }
    words += [word for name, value in given.items() if value is not None for word in (name, str(value))]
    words += [] if port is None else ["--port", str(port)]
    words += [] if frontend_url is None else ["--frontend-url", frontend_url]
    words += [] if registry is None else ["--registry", registry]
    words += [] if metrics is None else ["--metrics", metrics]
    words += [] if log_format is None else ["--log-format", log_format]
    words += [] if upstream_index is None else ["--upstream-index", upstream_index]
    words += [word for host_name in fetch_from or [] for word in ("--fetch-from", host_name)]
    for one in limit or []:
        name, equals, amount = one.partition("=")
        if name not in LIMITS or not equals:
            raise typer.BadParameter(f"'{one}' is not one of {', '.join(LIMITS)} with =N", param_hint="--limit")
        words += [f"--{name}", amount]
    _become("serve", "--host", host, *words, "--data-dir", str(_folder(data_dir)))


@app.command(epilog=examples("prime hub start", "prime hub start --port 9000", "prime hub start --runtime bubblewrap"))
def start(
    port: Port = None,
    data_dir: DataDir = None,
    sign_up: SignUp = None,
    runtime: RuntimeName = None,
    runtime_option: RuntimeOption = None,
    foreign: Foreign = False,
    warm_spares: Spares = None,
    max_sandboxes: MostSandboxes = None,
    model_endpoints: ModelEndpoints = None,
) -> None:
    """Start a Hub in the background and print its address. One that runs already goes on."""
    from prime_core import local_hub

    folder = _folder(data_dir)
    words = _runtime_words(runtime, runtime_option, foreign, warm_spares, max_sandboxes) + _sign_up_words(sign_up)
    words += [] if model_endpoints is None else ["--model-endpoints", str(model_endpoints.expanduser().absolute())]
    before = local_hub.running(folder) if words else None
    address = local_hub.ensure_running(folder, announce=out.note, port=port, options=words)
    if port and not address.url.endswith(f":{port}"):
        out.warning(f"It runs already, on another port than {port}; 'prime hub stop' ends it.")
    elif before is not None:
        out.warning("It runs already, so it goes on as it was started; 'prime hub stop' ends it.")
    out.data(address.url)


def _runtime_words(
    runtime: str | None, options: list[str] | None, foreign: bool, spares: int | None, most: int | None
) -> list[str]:
    """The words of `python -m prime_hub serve` for what runs sandboxes."""
    for option in options or []:
        if "=" not in option:
            raise typer.BadParameter(f"'{option}' is not NAME=VALUE", param_hint="--runtime-option")
    words = [] if runtime is None else ["--runtime", runtime]
    words += [word for option in options or [] for word in ("--runtime-option", option)]
    words += ["--allow-foreign-images"] if foreign else []
    words += [] if spares is None else ["--warm-spares", str(spares)]
    return words + ([] if most is None else ["--max-sandboxes", str(most)])


def _sign_up_words(sign_up: str | None) -> list[str]:
    if sign_up not in (None, "open", "closed"):
        raise typer.BadParameter(f"'{sign_up}' is neither open nor closed", param_hint="--sign-up")
    return [] if sign_up is None else ["--sign-up", sign_up]


@app.command(epilog=examples("prime hub doctor", "prime hub doctor --output json"))
def doctor(
    runtime_option: RuntimeOption = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.table,
) -> None:
    """Say what this machine can run sandboxes with. Also what is missing, and what it takes. Exit code 1: nothing works."""
    report = _examined(runtime_option or [])
    if output is Format.json:
        out.json(report)
    else:
        from prime_cli.doctor import show

        show(report, out)
    if not report.get("chosen"):
        raise typer.Exit(1)


def _examined(options: list[str]) -> dict[str, Any]:
    from prime_core.children import child_environment

    words = [word for option in options for word in ("--runtime-option", option)]
    done = subprocess.run(
        [*_program(), "doctor", "--json", *words],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()[-1:]
        raise LocalHubError(f"The machine could not be looked at: {''.join(said) or 'no answer'}") from None


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
    isolating = ", isolates" if runner.get("isolating") else ", does not isolate: only for environments you trust"
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
    if runner.get("not_enforced"):
        out.data(f"Not enforced by {runtime} on this machine ('prime hub doctor' says what it would take):")
        for line in runner["not_enforced"]:
            out.data(f"  - {line}")


@app.command(epilog=examples("prime hub logs", "prime hub logs -f", "prime hub logs -n 500"))
def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    data_dir: DataDir = None,
) -> None:
    """Print the end of the log of a Hub that runs in the background."""
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


@app.command("open", epilog=examples("prime hub open", "prime hub open /dashboard/tokens", "prime hub open --print"))
def open_(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="The page to begin with.")] = "/",
    print_: Annotated[bool, typer.Option("--print", help="Only print the link, to open it yourself.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Open your own Hub in a browser, signed in as its owner. The link works once, here, within a minute."""
    from prime_cli.opening import signed_in

    signed_in(_folder(data_dir), path, print_)


@app.command(epilog=examples("prime hub backup hub-monday.zip", "prime hub backup /mnt/hub.zip --data-dir /srv/hub"))
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; a new one.")],
    data_dir: DataDir = None,
) -> None:
    """Write everything that a Hub keeps to one file. It may run meanwhile. Its secret key is not in it."""
    _become("backup", str(file), "--data-dir", str(_folder(data_dir)))


@app.command(epilog=examples("prime hub restore hub-monday.zip --data-dir /srv/new-hub"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that 'prime hub backup' wrote.")],
    data_dir: DataDir = None,
) -> None:
    """Fill an empty Hub from a backup. PRIME_HUB_DATABASE_URL and PRIME_HUB_BLOBS say where to, if not into the folder."""
    _become("restore", str(file), "--data-dir", str(_folder(data_dir)))


@app.command(epilog=examples("prime hub migrate --to postgresql://hub@db.example/hub --blobs s3://hub-files/team"))
def migrate(
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="An empty database: postgresql://USER:PASSWORD@HOST/DATABASE.")
    ],
    blobs: Annotated[str, typer.Option("--blobs", metavar="URL", help="An empty place: s3://BUCKET/PREFIX.")],
    data_dir: DataDir = None,
) -> None:
    """Copy a Hub that is stopped to Postgres and object storage. It stays as it is; what was stopped is done again."""
    _become("migrate", "--to", to, "--blobs", blobs, "--data-dir", str(_folder(data_dir)))


PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read a password for the Hub's pages from standard input.")
]


@user_app.command(
    "add",
    epilog=examples(
        "prime hub user add alice",
        "prime hub user add alice > alice.key",
        "prime hub user add alice --password-stdin < alice.password",
    ),
)
def add(
    name: Annotated[str, typer.Argument(help="The account's name: lower-case letters, digits and '-'.")],
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
) -> None:
    """Add an account to a Hub on this machine. Its API key is printed once, alone on stdout; the Hub keeps a hash."""
    _user("add", name, password_stdin, data_dir)


@user_app.command(
    "password",
    epilog=examples("prime hub user password alice", "prime hub user password alice --password-stdin < file"),
)
def password(
    name: Annotated[str, typer.Argument(help="The account's name.")],
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
) -> None:
    """Give an account of a Hub on this machine a password. It is typed twice; the account's browsers are signed out."""
    _user("password", name, password_stdin, data_dir)


def _user(action: str, name: str, password_stdin: bool, data_dir: Path | None) -> None:
    words = ["--password-stdin"] if password_stdin else []
    _become("user", action, name, *words, "--data-dir", str(_folder(data_dir)))


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
    from prime_core.children import hub_environment

    program = _program()
    sys.stdout.flush()
    os.execve(program[0], [*program, *args], hub_environment())


def _program() -> list[str]:
    if importlib.util.find_spec("prime_hub") is None:
        raise LocalHubError(
            "The Hub is not installed next to this command.", "Install it with \"uv pip install 'prime[hub]'\"."
        )
    # -P: a folder named prime_hub in the working directory is not the program.
    return [sys.executable, "-P", "-m", "prime_hub"]
