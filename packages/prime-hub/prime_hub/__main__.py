"""`python -m prime_hub`: serve a Hub, add an account, examine the machine, print the API's description."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from prime_core.paths import hub_data_dir
from prime_hub.errors import Conflict, HubError, Invalid
from prime_hub.settings import GIB, Settings

if TYPE_CHECKING:
    from prime_hub.hub import Hub


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors are one sentence on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m prime_hub", description="The Environments Hub.")
    commands = parser.add_subparsers(dest="command", required=True)

    serving = commands.add_parser("serve", help="Serve a Hub in the foreground until Ctrl-C.")
    serving.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
    serving.add_argument("--port", type=_port, help="Default: the port of the last run, else 8377. 0: any free one.")
    serving.add_argument("--frontend-url", help="Address under which people's browsers reach this Hub.")
    serving.add_argument(
        "--sign-up",
        choices=("open", "closed"),
        default="closed",
        help="Whether anybody may make an account on the Hub's pages (default: %(default)s).",
    )
    serving.add_argument(
        "--upstream-index",
        type=_web_address,
        metavar="URL",
        help="A package index (PEP 503) for names that an owner's own index does not have (default: none).",
    )
    serving.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=os.environ.get("PRIME_HUB_LOG_FORMAT") or "text",
        help="Lines for people, or a JSON object a line (default: PRIME_HUB_LOG_FORMAT, else text).",
    )
    serving.add_argument(
        "--metrics",
        type=_host_and_port,
        metavar="[HOST:]PORT",
        help="Serve Prometheus metrics there, to whoever reaches it; the host is 127.0.0.1 where none is said.",
    )
    _add_sandbox_options(serving)
    _add_sharing_options(serving)

    user = commands.add_parser("user", help="Manage accounts.").add_subparsers(dest="action", required=True)
    adding = user.add_parser("add", help="Make an account and print its token, which is shown only now.")
    setting = user.add_parser("password", help="Give an account a password; all its browsers are signed out.")
    for one in (adding, setting):
        one.add_argument("name")
        one.add_argument("--password-stdin", action="store_true", help="Read the password from standard input.")

    doctor = commands.add_parser("doctor", help="Say what this machine can run sandboxes with, and what is missing.")
    doctor.add_argument("--json", action="store_true", help="Print it as JSON.")
    _add_runtime_option(doctor)

    viewing = commands.add_parser("view", help="Serve the pages of evaluations, of runs in folders, without a Hub.")
    viewing.add_argument("places", nargs="+", type=Path, metavar="DIR", help="A run, or a folder with runs in it.")
    viewing.add_argument("--port", type=_port, default=0, help="Default: any free one.")

    exporting = commands.add_parser("export", help="Write the page of a run, all in one HTML file.")
    exporting.add_argument("folder", type=Path, metavar="DIR", help="The run.")
    exporting.add_argument("--html", required=True, metavar="FILE", help="Where to; - is standard output.")
    exporting.add_argument("--force", action="store_true", help="Write over a file that is there.")
    exporting.add_argument("--max-mb", type=float, default=50.0, help="Of rollouts in it (default: %(default)g).")
    exporting.add_argument("--only", choices=("passed", "failed", "error", "unscored", "truncated"))

    openapi = commands.add_parser("openapi", help="Print the API's description as JSON.")
    for one in (serving, adding, setting, openapi):
        one.add_argument("--data-dir", type=Path, help="Where the Hub keeps everything (default: ~/.prime/hub).")

    saving = commands.add_parser(
        "backup", help="Write all records and files of a Hub, also of one that runs, to one file."
    )
    saving.add_argument("file", type=Path)
    restoring = commands.add_parser("restore", help="Fill an empty Hub from a backup.")
    restoring.add_argument("file", type=Path)
    moving = commands.add_parser("migrate", help="Copy a Hub that is stopped to another database and storage.")
    moving.add_argument("--to", required=True, metavar="URL", help="postgresql://USER:PASSWORD@HOST/DATABASE, empty.")
    moving.add_argument("--blobs", required=True, metavar="URL", help="s3://BUCKET/PREFIX, empty.")
    for one in (saving, restoring, moving):
        one.add_argument("--data-dir", type=Path, help="The Hub's data folder (default: ~/.prime/hub).")

    options = parser.parse_args(arguments)
    if options.command == "doctor":
        return _doctor(dict(options.runtime_option), options.json)
    if options.command == "view":
        return _view(options.places, options.port)
    if options.command == "export":
        from prime_hub.viewing.writing import ExportError, write_file

        try:
            write_file(options.folder, options.html, options.force, options.max_mb, options.only)
        except ExportError as error:
            return _say(str(error))
        return 0
    data_dir = (options.data_dir or hub_data_dir()).expanduser().absolute()
    try:
        if options.command == "serve":
            from prime_hub.server import ServeError, serve

            if options.runtime is not None:
                _known_runtime(options.runtime)
            try:
                serve(_settings(data_dir, options))
            except ServeError as error:
                return _say(str(error))
        elif options.command in ("backup", "restore", "migrate"):
            from prime_hub.server import ServeError

            try:
                print(asyncio.run(_carried(data_dir, options)), flush=True)
            except ServeError as error:
                return _say(str(error))
        elif options.command == "user" and options.action == "password":
            password = _password(options.password_stdin, options.name)
            asyncio.run(_set_password(_stored(data_dir), options.name, password))
            print(f"The password of {options.name} is set; its browsers are signed out.", flush=True)
        elif options.command == "user":
            password = _password(True, options.name) if options.password_stdin else None
            token = asyncio.run(_add_user(_stored(data_dir), options.name, password))
            print(token, flush=True)
            if sys.stderr.isatty():
                print(
                    f"The key of {options.name}, shown only now. Log in with it: "
                    "prime login --base-url ADDRESS-OF-THIS-HUB --token-stdin",
                    file=sys.stderr,
                )
        else:
            from prime_hub.app import create_app

            print(json.dumps(create_app(Settings(data_dir)).openapi(), indent=2))
    except HubError as error:
        return _say(error.detail)
    except KeyboardInterrupt:
        return 130
    return 0


def _view(places: list[Path], port: int) -> int:
    from prime_hub.viewing.serve import ViewError, serve_view

    try:
        serve_view(places, port)
    except ViewError as error:
        return _say(str(error))
    except KeyboardInterrupt:  # before it was up
        return 130
    return 0


def _add_runtime_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-option",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=VALUE",
        help="An option of the runtime; may be repeated.",
    )


def _add_sandbox_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime",
        default=os.environ.get("PRIME_HUB_RUNTIME") or None,
        help="How sandboxes run (default: PRIME_HUB_RUNTIME, else the best this machine has).",
    )
    _add_runtime_option(parser)
    parser.add_argument(
        "--allow-foreign-images",
        action="store_true",
        help="Also run other people's images and builds where the runtime does not isolate them.",
    )
    parser.add_argument(
        "--check-published",
        action="store_true",
        help="Check each version when it is published: its code runs in a sandbox here ('prime env check').",
    )
    parser.add_argument(
        "--model-endpoints",
        type=Path,
        metavar="FILE",
        help="The models that evaluations run by the Hub may ask, a TOML file (default: none, only baselines).",
    )
    parser.add_argument(
        "--hosted-evaluations",
        type=_count,
        default=Settings.hosted_at_once,
        metavar="N",
        help="How many evaluations the Hub runs at once (default: %(default)s).",
    )
    parser.add_argument(
        "--warm-spares",
        type=_count,
        default=0,
        metavar="N",
        help="Keep N started sandboxes ready for each image that was used lately (default: %(default)s).",
    )
    parser.add_argument(
        "--fetch-from",
        action="append",
        default=[],
        metavar="HOST",
        help="A registry whose images accounts from elsewhere may have fetched; may be repeated.",
    )
    parser.add_argument("--registry", metavar="HOST/PATH", help="Push each built image to this OCI registry.")
    parser.add_argument(
        "--max-sandboxes", type=_some, metavar="N", help="How many sandboxes run at once; others wait in fair turn."
    )
    parser.add_argument("--account-sandboxes", type=_some, metavar="N", help="How many of one account run at once.")
    parser.add_argument(
        "--account-cpus", type=_amount, metavar="N", help="How many processors the sandboxes of one account have."
    )
    parser.add_argument(
        "--account-memory-gb", type=_amount, metavar="GB", help="How much memory the sandboxes of one account have."
    )
    parser.add_argument("--account-builds", type=_some, metavar="N", help="How many builds of one account go on.")
    parser.add_argument("--sandbox-cpus", type=_amount, metavar="N", help="The most processors for one sandbox.")
    parser.add_argument("--sandbox-memory-gb", type=_amount, metavar="GB", help="The most memory for one sandbox.")
    parser.add_argument("--sandbox-disk-gb", type=_amount, metavar="GB", help="The most that one sandbox may write.")


def _add_sharing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--blobs",
        default=os.environ.get("PRIME_HUB_BLOBS") or None,
        metavar="URL",
        help="Keep wheels, archives and contexts in object storage, like s3://BUCKET/PREFIX (default: PRIME_HUB_BLOBS, else "
        "a folder in the data folder).",
    )
    parser.add_argument(
        "--presigned-urls",
        choices=("on", "off"),
        default=os.environ.get("PRIME_HUB_PRESIGNED_URLS") or "on",
        help="Whether clients use the object storage themselves, by addresses that this Hub signs (default: %(default)s).",
    )
    parser.add_argument(
        "--blobs-public-endpoint",
        type=_web_address,
        default=os.environ.get("PRIME_HUB_BLOBS_PUBLIC_ENDPOINT") or None,
        metavar="URL",
        help="Where clients reach the object storage, if not at AWS_ENDPOINT_URL.",
    )
    parser.add_argument(
        "--runner-dir",
        type=Path,
        default=os.environ.get("PRIME_HUB_RUNNER_DIR") or None,
        metavar="DIR",
        help="The folder of this host's runner, where several Hubs share it (default: one in the data folder).",
    )


def _stored(data_dir: Path) -> Settings:
    """The settings of what is kept, as the environment has them: for commands that serve nothing. Raises Invalid."""
    from prime_hub.services.buckets import check_address

    blobs = os.environ.get("PRIME_HUB_BLOBS", "").strip() or None
    return Settings(
        data_dir,
        database_url=_database_url(),
        blobs_url=check_address(blobs) if blobs else None,
        secret_key=os.environ.get("PRIME_HUB_SECRET_KEY") or None,
    )


def _settings(data_dir: Path, options: argparse.Namespace) -> Settings:
    """The settings of `serve`; a limit of 0 is none."""
    from prime_hub.services.buckets import check_address

    return Settings(
        data_dir,
        options.host,
        options.port,
        options.frontend_url,
        database_url=_database_url(),
        blobs_url=check_address(options.blobs) if options.blobs else None,
        presigned_urls=options.presigned_urls == "on",
        blobs_public_endpoint=options.blobs_public_endpoint,
        runner_folder=options.runner_dir.expanduser().absolute() if options.runner_dir else None,
        secret_key=os.environ.get("PRIME_HUB_SECRET_KEY") or None,
        sign_up=options.sign_up == "open",
        upstream_index=options.upstream_index,
        log_format=options.log_format,
        metrics=options.metrics,
        runtime=options.runtime,
        runtime_options=dict(options.runtime_option),
        allow_foreign_images=options.allow_foreign_images,
        registry=options.registry.strip("/") if options.registry else None,
        fetch_registries=tuple(options.fetch_from),
        max_sandbox_cpus=options.sandbox_cpus,
        max_sandbox_memory_bytes=_bytes(options.sandbox_memory_gb),
        max_sandbox_disk_bytes=_bytes(options.sandbox_disk_gb),
        max_sandboxes=options.max_sandboxes,
        account_sandboxes=options.account_sandboxes,
        account_cpus=options.account_cpus,
        account_memory_bytes=_bytes(options.account_memory_gb),
        account_builds=options.account_builds,
        check_published=options.check_published,
        warm_spares=options.warm_spares,
        model_endpoints=options.model_endpoints.expanduser().absolute() if options.model_endpoints else None,
        hosted_at_once=max(1, options.hosted_evaluations),
    )


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", _port(port)


async def _carried(data_dir: Path, options: argparse.Namespace) -> str:
    """Backup, restore or migrate; the sentence to tell. Raises HubError, ServeError."""
    from prime_hub.backups.moves import backup, move, restore
    from prime_hub.backups.places import Place
    from prime_hub.server import exclusive
    from prime_hub.services.buckets import check_address

    settings = _stored(data_dir)
    if options.command != "restore" and settings.database_url is None and not settings.database_file.exists():
        raise Invalid(f"There is no Hub in {data_dir}; name its data folder with --data-dir.")
    async with contextlib.AsyncExitStack() as held:
        place = await held.enter_async_context(contextlib.aclosing(Place(settings)))
        if options.command == "backup":
            return await backup(place, options.file.expanduser().absolute())
        held.enter_context(exclusive(settings))
        if options.command == "restore":
            return await restore(options.file.expanduser().absolute(), place)
        there = replace(
            settings, database_url=_postgres_url(options.to, "--to"), blobs_url=check_address(options.blobs)
        )
        return await move(place, await held.enter_async_context(contextlib.aclosing(Place(there))))


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * GIB)


def _doctor(options: dict[str, str], as_json: bool) -> int:
    """Exit code 1 when nothing works here."""
    from prime_hub.doctor import examine, shown

    report = asyncio.run(examine(options))
    print(json.dumps(report, indent=2) if as_json else shown(report))
    return 0 if report["chosen"] else 1


async def _add_user(settings: Settings, name: str, password: str | None) -> str:
    from prime_hub.services.passwords import checked_password

    if password is not None:
        checked_password(password, name)
    async with _opened(settings) as hub:
        account = await hub.accounts.create(name, local=True)
        if password is not None:
            await hub.signing_in.set(account, password)
        token, _ = await hub.tokens.create(account, "first token")
        return token


async def _set_password(settings: Settings, name: str, password: str) -> None:
    async with _opened(settings) as hub:
        await hub.signing_in.set(await hub.accounts.user(name), password)


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[Hub]:
    """The data folder itself, so that it works with the Hub running or not."""
    from prime_hub.db.migrate import SchemaTooNew
    from prime_hub.hub import Hub

    hub = Hub(settings)
    try:
        await hub.open()
        yield hub
    except SchemaTooNew as error:
        raise Conflict(str(error)) from error
    finally:
        await hub.close()


def _password(from_stdin: bool, name: str) -> str:
    """A password from standard input, or typed twice at a terminal without being shown."""
    if from_stdin or not sys.stdin.isatty():
        if not from_stdin:
            raise Invalid("There is no terminal to type a password at; give it with --password-stdin.")
        return sys.stdin.readline().rstrip("\r\n")
    import getpass

    password = getpass.getpass(f"New password for {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise Invalid("The two passwords are not the same; nothing was changed.")
    return password


def _known_runtime(name: str) -> None:
    """Raises HubError for a runtime that this program does not have."""
    from prime_hub.runner.runtimes.choice import names

    if name not in names():
        raise Invalid(f"There is no runtime '{name}'; this Hub has {', '.join(names())}.")


def _web_address(text: str) -> str:
    """An http(s) address without credentials, query or a slash at its end."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise argparse.ArgumentTypeError(
            "not an http(s) address without credentials, like https://index.example/simple"
        )
    return text.rstrip("/")


def _database_url() -> str | None:
    """PRIME_HUB_DATABASE_URL, for it may hold a password: a Postgres database instead of a file. Raises Invalid."""
    given = os.environ.get("PRIME_HUB_DATABASE_URL", "").strip()
    return _postgres_url(given, "PRIME_HUB_DATABASE_URL") if given else None


def _postgres_url(given: str, name: str) -> str:
    """As the driver takes it. Raises Invalid."""
    scheme, separator, rest = given.partition("://")
    if scheme not in ("postgres", "postgresql", "postgresql+asyncpg") or not separator:
        raise Invalid(f"{name} must be an address like postgresql://USER:PASSWORD@HOST/DATABASE.")
    if importlib.util.find_spec("asyncpg") is None:
        raise Invalid("A Hub on Postgres needs the package asyncpg; install prime-hub[postgres].")
    return f"postgresql+asyncpg://{rest}"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not an option; use NAME=VALUE")
    return name, value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number; use a whole one, 0 or more")
    return int(text)


def _some(text: str) -> int | None:
    return _count(text) or None


def _amount(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not an amount; use a number, 0 for no limit")
    return value or None


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port; use a number from 0 to 65535")
    return int(text)


def _say(sentence: str) -> int:
    print(f"Error: {sentence}", file=sys.stderr)
    return 1


def _end(code: int) -> NoReturn:
    """End the program. The threads of obstore cannot be waited for, and one that comes back to an interpreter that is being
    taken down aborts the process, which then ends with another code than the command's. By now all is closed and written.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if "obstore" in sys.modules:
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _end(main())
