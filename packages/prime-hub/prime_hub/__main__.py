"""`python -m prime_hub`: serve a Hub, add an account, print the API's description."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from prime_core.paths import hub_data_dir
from prime_hub.errors import Conflict, HubError
from prime_hub.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors are one sentence on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m prime_hub", description="The Environments Hub.")
    commands = parser.add_subparsers(dest="command", required=True)

    serving = commands.add_parser("serve", help="Serve a Hub in the foreground until Ctrl-C.")
    serving.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: %(default)s).")
    serving.add_argument("--port", type=_port, help="Default: the port of the last run, else 8377. 0: any free one.")
    serving.add_argument("--frontend-url", help="Address under which people's browsers reach this Hub.")
    serving.add_argument("--runtime", help="How sandboxes run (default: the best this machine has).")

    user = commands.add_parser("user", help="Manage accounts.").add_subparsers(dest="action", required=True)
    adding = user.add_parser("add", help="Make an account and print its token, which is shown only now.")
    adding.add_argument("name")

    openapi = commands.add_parser("openapi", help="Print the API's description as JSON.")
    for one in (serving, adding, openapi):
        one.add_argument("--data-dir", type=Path, help="Where the Hub keeps everything (default: ~/.prime/hub).")

    options = parser.parse_args(arguments)
    data_dir = (options.data_dir or hub_data_dir()).expanduser().absolute()
    try:
        if options.command == "serve":
            from prime_hub.server import ServeError, serve

            if options.runtime is not None:
                _known_runtime(options.runtime)
            try:
                serve(Settings(data_dir, options.host, options.port, options.frontend_url, options.runtime))
            except ServeError as error:
                return _say(str(error))
        elif options.command == "user":
            token = asyncio.run(_add_user(Settings(data_dir), options.name))
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


async def _add_user(settings: Settings, name: str) -> str:
    """On the data folder itself, so that it works with the Hub running or not."""
    from prime_hub.db.migrate import SchemaTooNew
    from prime_hub.hub import Hub

    hub = Hub(settings)
    try:
        await hub.open()
        return await hub.accounts.create(name)
    except SchemaTooNew as error:
        raise Conflict(str(error)) from error
    finally:
        await hub.close()


def _known_runtime(name: str) -> None:
    """Raises HubError for a runtime that this program does not have."""
    from prime_hub.errors import Invalid
    from prime_hub.runner.server import RUNTIMES

    if name not in RUNTIMES:
        raise Invalid(f"There is no runtime '{name}'; this Hub has {', '.join(RUNTIMES)}.")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port; use a number from 0 to 65535")
    return int(text)


def _say(sentence: str) -> int:
    print(f"Error: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
