"""What goes over the wire, as dataclasses (protocols/sandboxes.md §1.3, protocols/hub.md §4).

Answers are read leniently: camelCase or snake_case, unknown fields ignored, missing ones by their default.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

if TYPE_CHECKING:
    from prime_sandboxes.sync import RunningSandbox, SandboxClient

_IRREGULAR = {"memoryGB": "memory_gb", "diskSizeGB": "disk_size_gb", "errorMessage": "error_message"}


def snake(name: str) -> str:
    """`startedAt` → `started_at`."""
    return _IRREGULAR.get(name) or re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class _Wire:
    """Reading an answer into a dataclass."""

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> Self:
        """The object in a JSON answer."""
        known = {item.name for item in fields(cls)}  # ty: ignore[invalid-argument-type]
        given = {snake(name): value for name, value in answer.items()}
        return cls(**{name: value for name, value in given.items() if name in known})


class SandboxStatus(StrEnum):
    """Where a sandbox is in its life."""

    PENDING = "PENDING"
    PROVISIONING = "PROVISIONING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    ERROR = "ERROR"
    TERMINATED = "TERMINATED"
    TIMEOUT = "TIMEOUT"


STARTING = frozenset({SandboxStatus.PENDING, SandboxStatus.PROVISIONING})


@dataclass
class CreateSandboxRequest:
    """What to start. Sizes in GB, times in minutes, `lease_seconds` in seconds.

    `start_command` None means the image's own; `timeout_minutes` -1 means the server's longest. With `lease_seconds`
    the sandbox ends that long after the last renewal. `port` is the one the server listens on, when the image does
    not say. `environment` (`OWNER/NAME` or `NAME`): give it that environment's secrets and variables, which the Hub does
    where the image is one of its versions' and this account may publish it. `team_id`: the team, by id or name, whose it
    shall be; None is the one in force, "" the account itself. `network_allowlist` [] reaches nothing outside, None everything but `network_denylist`; an entry is a host,
    `*.host`, an IPv4 address or a CIDR block, with `:port` where it is not for every port.
    """

    name: str
    docker_image: str
    start_command: str | list[str] | dict[str, Any] | None = None
    cpu_cores: float = 1.0
    memory_gb: float = 1.0
    disk_size_gb: float = 5.0
    gpu_count: int = 0
    timeout_minutes: int = 60
    idle_timeout_minutes: int | None = None
    environment_vars: dict[str, str] | None = None
    secrets: dict[str, str] | None = field(default=None, repr=False)
    labels: list[str] = field(default_factory=list)
    team_id: str | None = None
    lease_seconds: float | None = None
    image_digest: str | None = None
    port: int | None = None
    environment: str | None = None
    idempotency_key: str | None = None
    network_allowlist: list[str] | None = None
    network_denylist: list[str] | None = None
    network_access: bool | None = None
    vm: bool | None = None
    gpu_type: str | None = None
    arch: str | None = None
    region: str | None = None
    guaranteed: bool | None = None
    registry_credentials_id: str | None = None
    advanced_configs: dict[str, Any] | None = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced, under the name that it has with the official SDK."""
        return replace(copy.deepcopy(self) if deep else self, **(update or {}))

    def to_wire(self) -> dict[str, Any]:
        """The JSON body; what is None is left out."""
        body = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in body.items() if value is not None}


@dataclass
class Sandbox(_Wire):
    """A sandbox as the Hub knows it. Times are ISO 8601 text."""

    id: str
    name: str = ""
    docker_image: str = ""
    status: str = SandboxStatus.PENDING
    image_digest: str | None = None
    cpu_cores: float = 1.0
    memory_gb: float = 1.0
    disk_size_gb: float = 5.0
    disk_mount_path: str = "/"
    gpu_count: int = 0
    timeout_minutes: int = 60
    idle_timeout_minutes: int | None = None
    labels: list[str] = field(default_factory=list)
    created_at: str | None = None
    updated_at: str | None = None
    started_at: str | None = None
    terminated_at: str | None = None
    expires_at: str | None = None
    exit_code: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    vm: bool = False
    start_command: str | dict[str, Any] | None = None
    network_allowlist: list[str] | None = None
    network_denylist: list[str] | None = None
    pending_image_build_id: str | None = None
    pending_reason: str | None = None
    """While it waits, for what: a sentence."""

    @property
    def starting(self) -> bool:
        """Whether it has neither started nor ended."""
        return self.status in STARTING

    @staticmethod
    def create(image: str, client: SandboxClient | None = None, **options: Unpack[SandboxOptions]) -> RunningSandbox:
        """Start a sandbox and wait until it runs: `with Sandbox.create("my-env:latest") as box: box.run("…")`.

        It is deleted at the end of the block, and one lease (60 seconds) after this program when that dies before.
        `client` says whose Hub and account, else the configuration; the options are those of `SandboxOptions`. Raises SandboxNotRunningError and its kinds, APIError and its kinds.
        """
        from prime_sandboxes.sync import RunningSandbox

        return RunningSandbox.create(image, client, **options)

    @staticmethod
    def attach(sandbox_id: str, client: SandboxClient | None = None) -> RunningSandbox:
        """A sandbox that runs already; it is not deleted at the end of a block."""
        from prime_sandboxes.sync import RunningSandbox

        return RunningSandbox.attach(sandbox_id, client)


class SandboxOptions(TypedDict, total=False):
    """How a sandbox is started, beside its image. Sizes in GB; what is left out is the default in brackets.

    `wait` [True]: return when it runs, `start_timeout` [300] seconds at most. `lease_seconds` [60]: how long it outlives
    this program; None: until `timeout_minutes` [60]. `network`: the only hosts it may reach, [] for none [everything].
    `keep` [False]: leave it running at the end of the block. `team_id`: the team whose it is, "" for none [the one in force].
    """

    name: str
    start_command: str | list[str] | None
    port: int | None
    env: Mapping[str, str] | None
    secrets: Mapping[str, str] | None
    labels: Sequence[str]
    cpus: float
    memory_gb: float
    disk_gb: float
    timeout_minutes: int
    idle_minutes: int | None
    lease_seconds: float | None
    network: Sequence[str] | None
    image_digest: str | None
    team_id: str | None
    wait: bool
    start_timeout: float
    keep: bool


@dataclass
class SandboxListResponse:
    """One page of sandboxes."""

    sandboxes: list[Sandbox]
    total: int
    page: int
    per_page: int
    has_next: bool


@dataclass
class SandboxStatusItem(_Wire):
    """The status of one of several sandboxes."""

    sandbox_id: str
    status: str
    error_type: str | None = None
    error_message: str | None = None
    pending_image_build_id: str | None = None


@dataclass
class SandboxStatusError(_Wire):
    """Why the status of one of several is not known: `code` is NOT_FOUND, FORBIDDEN or MANAGED."""

    sandbox_id: str
    code: str
    message: str = ""


@dataclass
class BatchSandboxStatusResponse:
    """The status of several sandboxes."""

    statuses: list[SandboxStatusItem]
    errors: list[SandboxStatusError]


@dataclass
class EgressPolicy(_Wire):
    """Where a sandbox may connect to: `allowlist` None is everywhere but `denylist`, [] nowhere."""

    allowlist: list[str] | None = None
    denylist: list[str] | None = None


@dataclass
class EgressPolicyStatus:
    """A policy, and whether it is in force already."""

    policy: EgressPolicy
    generation: int = 0
    applied_generation: int = 0
    applied: bool = True

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> EgressPolicyStatus:
        """The object in a JSON answer."""
        given = {snake(name): value for name, value in answer.items()}
        policy = EgressPolicy.from_wire(given.pop("policy", None) or {})
        known = ("generation", "applied_generation", "applied")
        return cls(policy, **{name: given[name] for name in known if given.get(name) is not None})


@dataclass
class ErrorContext(_Wire):
    """Why a sandbox ended, and the last of what it printed."""

    status: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    exit_code: int | None = None
    logs: str | None = None


@dataclass
class CommandResponse(_Wire):
    """What a command left behind."""

    stdout: str
    stderr: str
    exit_code: int


@dataclass
class BackgroundJob(_Wire):
    """A command that goes on without its caller; the files are in the sandbox."""

    job_id: str
    sandbox_id: str
    stdout_log_file: str
    stderr_log_file: str
    exit_file: str


@dataclass
class BackgroundJobStatus:
    """How a job stands. `stdout` and `stderr` are the end of what it printed, once it has ended."""

    job_id: str
    completed: bool
    exit_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


@dataclass
class CommandInfo(_Wire):
    """A command that was started in a sandbox: its key, by which it is attached to, and how it stands."""

    key: str
    pid: int | None = None
    argv: list[str] = field(default_factory=list)
    running: bool = True
    exit_code: int | None = None


@dataclass
class FileInfo(_Wire):
    """An entry of a sandbox's file system, a link itself and not what it points at.

    `size` in bytes, `mode` the permission bits, `modified` seconds since the epoch, `target` where a link points.
    """

    path: str
    kind: Literal["file", "folder", "link", "other"] = "file"
    size: int = 0
    mode: int = 0
    modified: float = 0.0
    target: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]


@dataclass
class FileUploadResponse(_Wire):
    """A file that arrived; `size` in bytes."""

    success: bool
    path: str
    size: int
    timestamp: str | None = None


@dataclass
class ReadFileResponse(_Wire):
    """A window of a file as text; sizes and offset in bytes."""

    content: str
    size: int
    total_size: int | None = None
    offset: int | None = None
    truncated: bool | None = None


@dataclass
class ExposedPort(_Wire):
    """A port of a sandbox that can be reached; `external_endpoint` is `host:port`.

    `unix_socket` is told to a client on the sandbox's machine: a path at which the same server may be reached as well,
    in less time. It is there when the server listens, if it is of a kind that does both.
    """

    exposure_id: str
    sandbox_id: str
    port: int
    name: str | None = None
    url: str = ""
    tls_socket: str = ""
    protocol: str | None = None
    external_port: int | None = None
    external_endpoint: str | None = None
    created_at: str | None = None
    unix_socket: str | None = None


@dataclass
class Capacity(_Wire):
    """What the machine of the sandboxes has; None where it does not tell. `sandboxes` is how many run there now."""

    cpus: float
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    sandboxes: int = 0


@dataclass
class Usage(_Wire):
    """What the processes of a sandbox use: memory in bytes, with their part of what they share; processor seconds."""

    processes: int
    memory_bytes: int | None = None
    cpu_seconds: float | None = None


@dataclass
class BulkDeleteSandboxResponse(_Wire):
    """Which of several sandboxes were deleted."""

    succeeded: list[str]
    failed: list[dict[str, str]]
    message: str = ""


@dataclass
class Image(_Wire):
    """An image, or a build that has not become one. `reference` is what `docker_image` takes; size in bytes."""

    id: str
    image_name: str
    image_tag: str
    status: str
    full_image_path: str | None = None
    display_ref: str | None = None
    digest: str | None = None
    size_bytes: int | None = None
    visibility: str | None = None
    error_message: str | None = None
    created_at: str | None = None
    pushed_at: str | None = None
    config: dict[str, Any] | None = None
    build_id: str | None = None

    @property
    def reference(self) -> str:
        """The full reference, else `name:tag`."""
        return self.full_image_path or f"{self.image_name}:{self.image_tag}"


@dataclass
class ImageBuild:
    """How a build ended: `status` is COMPLETED, FAILED or CANCELLED; `image` its reference, `error` a sentence.

    `cached` says that an image of the same context was there already and nothing was built.
    """

    status: str
    image: str
    digest: str | None = None
    error: str | None = None
    id: str | None = None
    cached: bool = False
