"""Which Hub a command talks to, and with which key: the configured one, else the machine's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from prime_core import local_hub
from prime_core.config import Config, ConfigFile, load_config
from prime_core.errors import LocalHubError, NotAuthenticated
from prime_core.wire import is_loopback


@dataclass(frozen=True)
class Connection:
    """A Hub's address, the address of its pages, the key to use there (None: what everyone may see), and the team that
    is acted for.
    """

    base_url: str
    frontend_url: str
    api_key: str | None = field(default=None, repr=False)
    team_id: str | None = None


def print_to_stderr(line: str) -> None:
    """Say one line beside the data."""
    print(line, file=sys.stderr, flush=True)


def connect(
    require_auth: bool = True,
    announce: Callable[[str], object] | None = print_to_stderr,
    start: bool = True,
    config: Config | None = None,
) -> Connection:
    """The Hub in force and its key; with nothing configured the machine's own Hub, started when `start` allows it.

    Raises NotAuthenticated when `require_auth` and there is no key, ConfigError, LocalHubError.
    """
    config = config or load_config()
    if require_auth and not config.api_key:
        raise NotAuthenticated
    if config.base_url and not is_own_hub(config.base_url):
        return Connection(config.base_url, config.frontend_url or config.base_url, config.api_key, config.team_id)
    address = local_hub.running()
    if address is None and start:
        address = local_hub.ensure_running(announce=announce)
    if address is None:
        raise LocalHubError("Your own Hub is not running.", "Start it with 'prime hub start'.")
    frontend_url = config.frontend_url
    if config.base_url and config.base_url != address.url:
        _moved(config.base_url, address.url)
        frontend_url = address.url if frontend_url == config.base_url else frontend_url
    return Connection(address.url, frontend_url or address.url, config.api_key, config.team_id)


def is_own_hub(base_url: str) -> bool:
    """Whether the address is the machine's own Hub's, as its address file has it (running or not)."""
    if not is_loopback(base_url):
        return False
    own = local_hub.read_address().get("url")
    return isinstance(own, str) and is_loopback(own) and urlsplit(own).port == urlsplit(base_url).port


def _moved(before: str, now: str) -> None:
    """Its port was taken, so it came up on another: the saved login follows it."""
    file = ConfigFile({})
    saved = file.read()
    if saved.get("base_url") == before:
        pages = now if saved.get("frontend_url") == before else saved.get("frontend_url")
        file.update(base_url=now, frontend_url=pages)
