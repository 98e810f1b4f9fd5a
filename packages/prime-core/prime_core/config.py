"""Which Hub, with which key: `~/.prime/config.json` and saved contexts, shared with the official command.

Source of names, files and precedence: protocols/hub.md §1. Two rules are ours: a key belongs to the base URL it was
saved with and is never sent to another, and the vendor's default address, which the official command writes into
every file, counts as "not set" (the machine's own Hub is meant then).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prime_core.errors import ConfigError
from prime_core.files import write_atomic
from prime_core.paths import prime_home

VENDOR_BASE_URL = "https://api.primeintellect.ai"
VENDOR_FRONTEND_URL = "https://app.primeintellect.ai"
Names = list[str]

DEFAULT_CONTEXT = "production"
ACCOUNT_FIELDS = ("api_key", "team_id", "team_name", "team_role", "user_id", "user_name")
CONTEXT_FIELDS = (*ACCOUNT_FIELDS, "base_url", "frontend_url", "inference_url", "traces_url")


@dataclass(frozen=True)
class Config:
    """What a command works with. `base_url` None means the machine's own Hub, `frontend_url` None the same as
    `base_url`.
    """

    api_key: str | None = None
    base_url: str | None = None
    frontend_url: str | None = None
    inference_url: str | None = None
    team_id: str | None = None
    team_name: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    context: str | None = None

    def __repr__(self) -> str:
        shown = {**self.__dict__, "api_key": "…" if self.api_key else None}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def clean_base_url(url: str | None) -> str | None:
    """Without trailing slashes and a trailing `/api/v1`; None for nothing."""
    url = (url or "").strip().rstrip("/").removesuffix("/api/v1").rstrip("/")
    return url or None


def is_http_url(url: str) -> bool:
    """Whether this is an http(s) address with a host, and with a port that is a number where it has one."""
    try:
        parts = urlsplit(url.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def load_config(environ: Mapping[str, str] | None = None, context: str | None = None) -> Config:
    """The configuration in force: environment variables, then the context (`context` or PRIME_CONTEXT), then the file.

    Raises ConfigError for an unknown context, an unreadable file or an address that is not http(s).
    """
    environ = os.environ if environ is None else environ
    context = context or _text(environ.get("PRIME_CONTEXT"))
    file = ConfigFile(environ)
    saved = file.contexts().read(context) if context else file.read()

    saved_url = clean_base_url(_text(saved.get("base_url")))
    from_vendor = saved_url == VENDOR_BASE_URL
    if from_vendor:
        saved_url = None
    base_url = clean_base_url(environ.get("PRIME_API_BASE_URL")) or clean_base_url(environ.get("PRIME_BASE_URL"))
    own = base_url is None or (base_url == saved_url and not from_vendor)
    base_url = base_url or saved_url
    if base_url and not is_http_url(base_url):
        raise ConfigError(
            f"The Hub's address '{base_url}' is not an http(s) URL.", "Correct it with 'prime config set-base-url URL'."
        )
    if not own or from_vendor:
        saved = {}
    frontend_url = clean_base_url(_text(saved.get("frontend_url")))
    if frontend_url == VENDOR_FRONTEND_URL:
        frontend_url = None
    return Config(
        api_key=_text(environ.get("PRIME_API_KEY")) or _text(saved.get("api_key")),
        base_url=base_url,
        frontend_url=clean_base_url(environ.get("PRIME_FRONTEND_URL")) or frontend_url or base_url,
        inference_url=_text(environ.get("PRIME_INFERENCE_URL")) or _text(saved.get("inference_url")),
        team_id=_text(environ.get("PRIME_TEAM_ID", saved.get("team_id"))),  # set and empty: for oneself
        team_name=_text(saved.get("team_name")),
        user_id=_text(environ.get("PRIME_USER_ID")) or _text(saved.get("user_id")),
        user_name=_text(saved.get("user_name")),
        context=context,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = (error.strerror or "unreadable") if isinstance(error, OSError) else "not valid JSON"
        raise ConfigError(
            f"The configuration file {path} cannot be used: {reason}.",
            "Correct it, or delete it and run 'prime login'.",
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"The configuration file {path} does not hold a JSON object.", "Delete it and run 'prime login'."
        )
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, json.dumps(content, indent=2) + "\n", mode=0o600)
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be written: {error.strerror or error}.") from None


class ConfigFile:
    """`~/.prime/config.json`: read and changed as one object, written in one step and readable by its owner only.

    Fields that this command does not know are kept, since the official command writes the same file.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, home: Path | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self.home = home or prime_home()
        self.path = self.home / "config.json"

    def read(self) -> dict[str, Any]:
        """The file's fields, `{}` when there is no file. Raises ConfigError when it is not a JSON object."""
        return _read_json(self.path)

    def update(self, **fields: Any) -> None:
        """Set fields; a value of None removes the field. Raises ConfigError, also under a temporary context."""
        temporary = _text(self._environ.get("PRIME_CONTEXT"))
        if temporary:
            raise ConfigError(
                f"Temporary context '{temporary}' is read-only.", "Run it again without -c/PRIME_CONTEXT."
            )
        content = {**self.read(), **fields}
        _write_json(self.path, {name: value for name, value in content.items() if value is not None})

    def contexts(self) -> Contexts:
        """The saved contexts beside this file."""
        return Contexts(self)

    def login(
        self, base_url: str, api_key: str, user: Mapping[str, Any] | None = None, frontend_url: str | None = None
    ) -> str | None:
        """Make this Hub and key the current ones; `user` is the answer of whoami (id, slug, name).

        An earlier login to another Hub is kept as a saved context, whose name is returned; else None. Raises
        ConfigError.
        """
        url, before, user = clean_base_url(base_url), self.read(), user or {}
        kept = None
        if before.get("api_key") and clean_base_url(_text(before.get("base_url"))) not in (url, None):
            kept = self.contexts().keep(before)
        cleared: dict[str, Any] = dict.fromkeys(CONTEXT_FIELDS)
        self.update(
            **{
                **cleared,
                "api_key": api_key,
                "base_url": url,
                "frontend_url": clean_base_url(frontend_url) or url,
                "user_id": _text(user.get("id")),
                "user_name": _text(user.get("slug")) or _text(user.get("name")),
                "current_environment": DEFAULT_CONTEXT,
            }
        )
        return kept

    def logout(self) -> bool:
        """Forget key, user and team, keep the address. True when there was a key. Raises ConfigError."""
        had_key = bool(self.read().get("api_key"))
        self.update(**dict.fromkeys(ACCOUNT_FIELDS))
        return had_key


class Contexts:
    """Saved contexts, `~/.prime/environments/<name>.json` (protocols/hub.md §1.1, §1.4)."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self.folder = file.home / "environments"

    def _path(self, name: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ConfigError(
                f"The context name '{name}' is not allowed.",
                "Use letters, digits, '-' and '_' only, for example 'team-hub'.",
            )
        return self.folder / f"{name}.json"

    def list(self) -> Names:
        """Names of all contexts, the built-in one first."""
        return [
            DEFAULT_CONTEXT,
            *sorted(path.stem for path in self.folder.glob("*.json") if path.stem != DEFAULT_CONTEXT),
        ]

    def read(self, name: str) -> dict[str, Any]:
        """The fields of a context; `production` stands for nothing set. Raises ConfigError when there is none."""
        if name == DEFAULT_CONTEXT:
            return {}
        path = self._path(name)
        if not path.is_file():
            raise ConfigError(f"Unknown context '{name}'.", f"Saved contexts: {', '.join(self.list())}.")
        return _read_json(path)

    def save(self, name: str, fields: Mapping[str, Any] | None = None) -> Path:
        """Keep the current configuration (or `fields`) under a name. Raises ConfigError."""
        if name == DEFAULT_CONTEXT:
            raise ConfigError(f"The context name '{name}' is reserved.", "Choose another name.")
        content = self._file.read() if fields is None else fields
        path = self._path(name)
        _write_json(path, {field: content.get(field) for field in CONTEXT_FIELDS})
        return path

    def use(self, name: str) -> None:
        """Make a context the current configuration. Raises ConfigError."""
        content = self.read(name)
        self._file.update(**{field: content.get(field) for field in CONTEXT_FIELDS}, current_environment=name)

    def delete(self, name: str) -> None:
        """Delete a saved context. Raises ConfigError when there is none."""
        if name == DEFAULT_CONTEXT:
            raise ConfigError(f"The context name '{name}' is reserved.", "It cannot be deleted.")
        self.read(name)
        self._path(name).unlink()

    def keep(self, fields: Mapping[str, Any]) -> str:
        """Save `fields` under a free name made of their Hub's host; the name is returned. Raises ConfigError."""
        address = urlsplit(str(fields.get("base_url")))
        stem = re.sub(r"[^a-z0-9]+", "-", address.netloc.rpartition("@")[2].lower()).strip("-") or "hub"
        name, number = stem, 1
        while (self.folder / f"{name}.json").is_file():
            saved = self.read(name)
            if all(saved.get(field) == fields.get(field) for field in ("base_url", "api_key", "team_id")):
                break
            number += 1
            name = f"{stem}-{number}"
        self.save(name, fields)
        return name
