"""What a Hub is told when it starts, and the places in its data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB

DEFAULT_PORT = 8377


@dataclass(frozen=True)
class Settings:
    """One Hub's settings; sizes in bytes, times in seconds."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int | None = None
    """None: the port of the last run, else 8377, else the first free one after it. 0: any free port."""
    frontend_url: str | None = None
    """Where people's browsers find the Hub; None: the address of the request."""
    runtime: str | None = None
    """The runner's runtime; None lets the runner choose."""
    database_url: str | None = None
    """None: the SQLite file in the data folder."""
    max_wheel_bytes: int = GIB
    max_archive_bytes: int = GIB
    max_context_bytes: int = 4 * GIB
    max_json_bytes: int = 16 * MIB
    max_file_bytes: int = GIB
    """One file moved into or out of a sandbox."""
    max_read_bytes: int = 10 * MIB
    """One window of `read-file`, which answers with text in JSON."""
    upload_url_seconds: int = 3600
    gateway_token_seconds: int = 6 * 3600
    max_sandbox_seconds: int = 24 * 3600
    idle_seconds: int = 3600
    """A sandbox of a client that renews no lease ends after so long without a connection, command or file."""

    @property
    def database_file(self) -> Path:
        return self.data_dir / "hub.sqlite3"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.database_file}"

    @property
    def blobs_dir(self) -> Path:
        return self.data_dir / "blobs"

    @property
    def owner_token_file(self) -> Path:
        return self.data_dir / "owner.token"

    @property
    def secret_key_file(self) -> Path:
        return self.data_dir / "secret.key"

    @property
    def address_file(self) -> Path:
        return self.data_dir / "hub.json"

    @property
    def runner_dir(self) -> Path:
        return self.data_dir / "runner"
