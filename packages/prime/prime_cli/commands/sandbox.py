"""`prime sandbox`: sandboxes from the shell: made, looked at, used, ended."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prime_cli.asking import confirm
from prime_cli.groups import command_app, examples
from prime_cli.output import Format, out
from prime_cli.sandboxes import ending, files, run, shared
from prime_cli.sandboxes.shared import LABELS, LIVING, age, connected, find, hinting, left, row, size
from prime_core.errors import PrimeError

if TYPE_CHECKING:
    from prime_sandboxes import Sandbox, SandboxClient

app = command_app("Start sandboxes, run commands in them, move files, reach their ports.")

SandboxArg = Annotated[str, typer.Argument(metavar="SANDBOX", help="Its id, the beginning of it, or its name.")]
OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


@app.command(
    epilog=examples(
        "prime sandbox create my-env",
        "prime sandbox create my-env:latest --name try --cpus 2 --memory 4 --timeout 2h",
        "prime sandbox create my-env -e MODE=fast --secret OPENAI_API_KEY --label demo",
        "prime sandbox create my-env --no-network --start-command 'sleep infinity'",
        "ID=$(prime sandbox create my-env) && prime sandbox shell $ID",
    )
)
def create(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="NAME, NAME:TAG or OWNER/NAME:TAG; 'prime images list' shows them.")
    ],
    name: Annotated[str | None, typer.Option("--name", help="A name for it. [the image's]")] = None,
    cpus: Annotated[float, typer.Option("--cpus", "--cpu-cores", min=0.01, help="Processors.")] = 1.0,
    memory: Annotated[str, typer.Option("--memory", "--memory-gb", metavar="GB", help="Memory.")] = "1",
    disk: Annotated[str, typer.Option("--disk", "--disk-size-gb", metavar="GB", help="Disk it may fill.")] = "5",
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", help="A variable; may be repeated.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="KEY[=VALUE]",
            help="A variable that is shown nowhere; without a value, the one it has in this shell.",
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", "--timeout-minutes", metavar="TIME", help="Its longest life: 90m, 2h, 1d.")
    ] = "60m",
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle", "--idle-timeout-minutes", metavar="TIME", help="End it after so long without use. [60m]"
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="A word to find it by; may be repeated.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="HOST", help="Let it connect only there (host, *.host, address, CIDR; :port)."
        ),
    ] = None,
    no_network: Annotated[bool, typer.Option("--no-network", help="Let it connect nowhere.")] = False,
    start_command: Annotated[
        str | None, typer.Option("--start-command", metavar="LINE", help="What it runs. [the image's CMD]")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The port its server listens on. [the image's]")
    ] = None,
    team: shared.TeamOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it runs.")] = True,
    output: OutputOption = Format.table,
) -> None:
    """Start a sandbox of an image and print its id, alone on stdout. It lives until it is deleted or its time is over."""
    from prime_sandboxes import CreateSandboxRequest, SandboxClient

    if no_network and allow_host:
        raise typer.BadParameter("give --no-network or --allow-host, not both")
    request = CreateSandboxRequest(
        name=name or image.rpartition("/")[2].partition(":")[0] or "sandbox",
        docker_image=image,
        start_command=start_command,
        cpu_cores=cpus,
        memory_gb=shared.gigabytes(memory, "--memory"),
        disk_size_gb=shared.gigabytes(disk, "--disk"),
        timeout_minutes=shared.minutes(timeout, "--timeout"),
        idle_timeout_minutes=None if idle is None else shared.minutes(idle, "--idle"),
        environment_vars=shared.variables(env or [], "--env", from_here=False) or None,
        secrets=shared.variables(secret or [], "--secret", from_here=True) or None,
        labels=label or [],
        network_allowlist=[] if no_network else allow_host or None,
        port=port,
    )
    begun, seconds = time.monotonic(), 0.0
    with SandboxClient(connected(team)) as client:
        with hinting("Run 'prime images list' to see your images; 'prime images push NAME' builds one."):
            made = client.create(request)
        if wait:
            made = _until_running(client, made)
            seconds = time.monotonic() - begun
            made = ending.settled(client, made, patiently=start_command is not None)
    if output is Format.json:
        out.json(row(made))
        return
    out.data(made.id)
    if wait:
        out.note(f"Running after {seconds:.1f} s. Next: prime sandbox shell {made.id}")
    else:
        out.note(f"{LABELS.get(made.status, made.status)}. 'prime sandbox get {made.id}' shows how it goes on.")


def _until_running(client: SandboxClient, made: Sandbox) -> Sandbox:
    """Wait for it, saying so now and then; who interrupts that wants no sandbox."""
    said = time.monotonic()
    try:
        while made.status != "RUNNING":
            made = client.get(made.id, wait=5)
            if made.status == "RUNNING" or not made.starting:
                break
            if time.monotonic() - said >= 5:
                said = time.monotonic()
                out.note(f"Still {LABELS.get(made.status, made.status).lower()}. {made.pending_reason or ''}".rstrip())
    except KeyboardInterrupt:
        client.delete(made.id)
        out.note(f"Interrupted; sandbox {made.id} is deleted.")
        raise
    return made


@app.command(
    "list",
    epilog=examples(
        "prime sandbox list", "prime sandbox list --all --label demo", "prime sandbox list --output json | jq '.[].id'"
    ),
)
def list_(
    all_: Annotated[bool, typer.Option("--all", "-a", help="Also those that have ended.")] = False,
    status: Annotated[str | None, typer.Option("--status", help="Only these: RUNNING, PENDING, ERROR, …")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Only those with this label.")] = None,
    team: shared.TeamOption = None,
    output: OutputOption = Format.table,
) -> None:
    """List your sandboxes, or those of your team, newest first."""
    from prime_sandboxes import SandboxClient

    with SandboxClient(connected(team)) as client:
        alive = not all_ and (status is None or status.upper() in LIVING)
        found = shared.every(client, alive, status.upper() if status else None, label)
    if output is Format.json:
        out.json([row(item) for item in found])
        return
    if not found:
        out.note("No sandboxes." if all_ else "No sandboxes run; --all shows those that have ended.")
        return
    out.table(
        ["ID", "NAME", "IMAGE", "STATUS", "AGE", "ENDS IN", "LABELS"],
        [
            [
                item.id,
                item.name,
                item.docker_image,
                LABELS.get(item.status, item.status),
                age(item.created_at),
                left(item.expires_at) if item.status in LIVING else None,
                ",".join(item.labels),
            ]
            for item in found
        ],
    )


@app.command(epilog=examples("prime sandbox get 3f2a", "prime sandbox get my-env --output json"))
def get(sandbox: SandboxArg, output: OutputOption = Format.table) -> None:
    """Show a sandbox: how it is, what it may use and uses, its ports. Of one that has ended: why, and its last words."""
    from prime_sandboxes import SandboxClient

    with SandboxClient(connected()) as client:
        found = find(client, sandbox)
        running = found.status == "RUNNING"
        ended = found.status not in LIVING
        context = client.error_context(found.id) if ended else None
        usage = _usage(client, found.id) if running else None
        ports = client.list_exposed_ports(found.id) if running else []
    if output is Format.json:
        more: dict[str, Any] = {"ports": [{"port": item.port, "url": item.url} for item in ports], "usage": usage}
        out.json({**row(found), **more, "logs": context.logs if context else None})
        return
    used = usage or {}
    out.fields(
        {
            "Sandbox": found.id,
            "Name": found.name,
            "Image": found.docker_image,
            "Digest": found.image_digest,
            "Status": LABELS.get(found.status, found.status),
            "Why": found.error_message or (context.error_message if context else found.pending_reason),
            "Exit code": found.exit_code,
            "Created": found.created_at,
            "Ended": found.terminated_at,
            "Ends in": left(found.expires_at) if not ended else None,
            "May use": f"{found.cpu_cores:g} processors, {found.memory_gb:g} GB memory, {found.disk_size_gb:g} GB disk",
            "Idle limit": f"{found.idle_timeout_minutes} minutes without use" if found.idle_timeout_minutes else None,
            "Uses": f"{size(used.get('memory_bytes'))} memory, {used.get('processes')} processes" if used else None,
            "Labels": ", ".join(found.labels) or None,
            "Team": found.team_id,
        }
    )
    for item in ports:
        out.data(f"Port {item.port}: {item.url}")
    if context and context.logs:
        out.note("The end of its log:")
        out.data(context.logs.rstrip())


def _usage(client: SandboxClient, sandbox_id: str) -> dict[str, Any] | None:
    try:
        found = client.usage(sandbox_id)
    except PrimeError:  # it has just ended
        return None
    return {"processes": found.processes, "memory_bytes": found.memory_bytes, "cpu_seconds": found.cpu_seconds}


@app.command(
    epilog=examples("prime sandbox logs 3f2a", "prime sandbox logs my-env -f", "prime sandbox logs 3f2a -n 20")
)
def logs(
    sandbox: SandboxArg,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as it prints, until it ends or Ctrl-C.")
    ] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=0, help="Only so many of the last lines.")] = None,
) -> None:
    """Print what a sandbox's start command has printed, the end of it."""
    from prime_sandboxes import SandboxClient

    with SandboxClient(connected()) as client:
        found = find(client, sandbox)
        if not follow:
            _write(_last(client.get_logs(found.id), lines))
            return
        with client.follow_logs(found.id, lines) as pieces:
            for piece in pieces:
                _write(piece)


def _last(text: str, lines: int | None) -> str:
    return text if lines is None else "".join(text.splitlines(keepends=True)[-lines:] if lines else [])


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@app.command(
    epilog=examples(
        "prime sandbox expose my-env 8000",
        "curl $(prime sandbox expose my-env 8000)/health",
        "prime sandbox expose my-env 5432 --protocol tcp",
    )
)
def expose(
    sandbox: SandboxArg,
    port: Annotated[int, typer.Argument(min=1, max=65535, help="A port in the sandbox.")],
    name: Annotated[str | None, typer.Option("--name", help="A name for it.")] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="http or tcp.")] = "http",
    output: OutputOption = Format.table,
) -> None:
    """Make a port of a sandbox reachable and print its address."""
    from prime_sandboxes import SandboxClient

    if protocol.upper() not in ("HTTP", "TCP"):
        raise typer.BadParameter(f"'{protocol}' is neither http nor tcp", param_hint="--protocol")
    with SandboxClient(connected()) as client:
        found = find(client, sandbox)
        exposed = client.expose(found.id, port, name, protocol.upper())
    if output is Format.json:
        out.json(
            {
                "exposureId": exposed.exposure_id,
                "sandboxId": exposed.sandbox_id,
                "port": exposed.port,
                "protocol": exposed.protocol,
                "url": exposed.url,
                "endpoint": exposed.external_endpoint,
            }
        )
    else:
        tcp = protocol.upper() == "TCP" and exposed.external_endpoint
        out.data(str(exposed.external_endpoint) if tcp else exposed.url)


@app.command(
    epilog=examples(
        "prime sandbox delete 3f2a 77b0",
        "prime sandbox delete --label demo",
        "prime sandbox delete --all --yes",
    )
)
def delete(
    sandbox: Annotated[
        list[str] | None, typer.Argument(metavar="SANDBOX…", help="Ids, the beginnings of them, or names.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="All that run with this label.")] = None,
    all_: Annotated[bool, typer.Option("--all", "-a", help="All of yours that run.")] = False,
    all_users: Annotated[
        bool,
        typer.Option("--all-users/--only-mine", "-A/-m", help="With --all and --label: of all members of the team."),
    ] = False,
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="With --all and --label: of this member of the team.")
    ] = None,
    team: shared.TeamOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Format.table,
) -> None:
    """End sandboxes; nothing of them is left. --label and --all mean those that you made, in the team you act for, and ask
    first; --all-users and --user, those of others there, which takes an admin or owner.
    """
    from prime_sandboxes import SandboxClient

    if sum(map(bool, (sandbox, label, all_))) != 1:
        raise typer.BadParameter("name the sandboxes, or give --label or --all")
    if (all_users or user) and (sandbox or (all_users and user)):
        raise typer.BadParameter("give either --all-users or --user, with --label or --all")
    with SandboxClient(hub := connected(team)) as client:
        if sandbox:
            named = (find(client, word) for word in sandbox)
            found = [*{item.id: item for item in named}.values()]  # one that is named twice is deleted once
        else:
            mine = user or (None if all_users or hub.team_id is None else shared.own_id(hub))
            found = shared.every(client, alive=True, labels=label, user=mine)
            if found and not yes:
                _ask(found)
        failed = _delete(client, found) if found else {}
    gone = [item.id for item in found if item.id not in failed]
    if output is Format.json:
        out.json({"deleted": gone, "failed": failed})
    elif not found:
        out.note("No sandboxes run that could be deleted.")
    elif gone:
        out.success(f"Deleted {gone[0] if len(gone) == 1 else f'{len(gone)} sandboxes'}.")
    if failed:
        sentences = "; ".join(dict.fromkeys(failed.values()))
        raise PrimeError(f"{len(failed)} of {len(found)} sandboxes were not deleted: {sentences}")


def _ask(found: list[Sandbox]) -> None:
    for item in found:
        out.note(f"  {item.id}  {item.name}  {item.docker_image}  {LABELS.get(item.status, item.status)}")
    confirm(f"Delete {'this sandbox' if len(found) == 1 else f'these {len(found)} sandboxes'}?", yes=False)


def _delete(client: SandboxClient, found: list[Sandbox]) -> dict[str, str]:
    """Why each that was not deleted was not."""
    answer = client.bulk_delete([item.id for item in found])
    failed: dict[str, str] = {}
    for item in answer.failed:
        given = dict(item)
        name = given.get("sandbox_id") or next(iter(given), "")
        failed[name] = given.get("error") or given.get(name) or "no reason given"
    return failed


app.command("exec", cls=run.ExecCommand, epilog=run.EXEC_EXAMPLES)(run.exec_)
app.command("shell", epilog=run.SHELL_EXAMPLES)(run.shell)
app.command("upload", epilog=files.UPLOAD_EXAMPLES)(files.upload)
app.command("download", epilog=files.DOWNLOAD_EXAMPLES)(files.download)
