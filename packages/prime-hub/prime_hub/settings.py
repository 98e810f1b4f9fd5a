"""What a Hub is told when it starts, and the places in its data folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    sign_up: bool = False
    """Whether anybody who reaches the Hub may make an account."""
    runtime: str | None = None
    """The runner's runtime; None lets the runner choose."""
    runtime_options: Mapping[str, str] = field(default_factory=dict)
    """Options of the runtime, by its own names."""
    allow_foreign_images: bool = False
    """Whether images of others, and builds of those who have no account of this machine, run where the runtime does not
    isolate them, with all that the user of the Hub may do.
    """
    registry: str | None = None
    """HOST[:PORT][/PATH]: where each built image is pushed to as PATH/OWNER/NAME:TAG; None: nowhere."""
    fetch_registries: tuple[str, ...] = ()
    """Hosts from which accounts that were not made on this machine may have images fetched: all that the engine has from
    there, or may log in to, is theirs to run then.
    """
    upstream_index: str | None = None
    """The package index, without a slash at its end, that an owner's index sends names on to which that owner does not
    have; None: they are not there.
    """
    database_url: str | None = None
    """None: the SQLite file in the data folder."""
    log_format: str = "text"
    """text, or json: an object a line."""
    metrics: tuple[str, int] | None = None
    """Host and port on which Prometheus metrics are served, to whoever reaches it; None: nowhere."""
    blobs_url: str | None = None
    """s3://BUCKET/PREFIX (or gs://, az://): where wheels, archives and contexts are; None: a folder in the data folder."""
    presigned_urls: bool = True
    """Whether clients send files to the bucket, and fetch them there, by addresses that the Hub signs; otherwise all goes
    through the Hub.
    """
    blobs_public_endpoint: str | None = None
    """The address at which clients reach the bucket's service, where it is not the one that the Hub uses."""
    secret_key: str | None = field(default=None, repr=False)
    """64 hex digits, the same for all Hubs of a database; None: the file in the data folder, made on first use."""
    runner_folder: Path | None = None
    """The folder of this host's runner, which all Hubs of the host share; None: one in the data folder."""
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
    max_sandbox_cpus: float | None = None
    max_sandbox_memory_bytes: int | None = None
    max_sandbox_disk_bytes: int | None = None
    max_sandbox_pids: int | None = 1024
    """What one sandbox may be given, and is given where its request says nothing; None: what the machine has."""
    idle_seconds: int = 3600
    """A sandbox of a client that renews no lease ends after so long without a connection, command or file."""
    max_sandboxes: int | None = None
    """How many sandboxes run at once; the others wait, each account in its turn. None: as many as are asked for."""
    account_sandboxes: int | None = None
    account_cpus: float | None = None
    account_memory_bytes: int | None = None
    """What the running sandboxes of one account may come to; beyond that they wait. None: no limit of its own."""
    account_builds: int | None = None
    """How many builds of one account go on at once."""
    starts_at_once: int = 32
    """How many sandboxes are given to the runner before they run, which starts as many at once as pays."""
    builds_at_once: int = 4
    check_published: bool = False
    """Whether each version is checked by the Hub when it is published, without anybody asking for it."""
    checks_at_once: int = 1
    waiting_checks: int = 200
    """How many checks wait at most; asking for more is refused."""
    model_endpoints: Path | None = None
    """The file of the endpoints that hosted evaluations may use (`services/model_endpoints.py`); None: baselines only."""
    hosted_at_once: int = 2
    """How many hosted evaluations run at once; the others wait, each owner in its turn."""
    waiting_hosted: int = 200
    """How many wait at most; asking for more is refused."""
    hosted_seconds: float = 6 * 3600.0
    """How long one plays at most, and where its request says nothing."""
    warm_spares: int = 0
    """How many started sandboxes are kept ready for each image that was used lately."""
    spare_idle_seconds: float = 600.0
    """How long spares of an image are kept after it was asked for last."""
    keep_ended_seconds: float = 30 * 24 * 3600.0
    """How long the records of sandboxes and builds that have ended are kept."""

    @property
    def database_file(self) -> Path:
        return self.data_dir / "hub.sqlite3"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.database_file}"

    @property
    def blobs_dir(self) -> Path:
        """The blobs, or the copies of those in a bucket that are being read."""
        return self.data_dir / ("blobs" if self.blobs_url is None else "copies")

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
        return self.runner_folder or self.data_dir / "runner"
