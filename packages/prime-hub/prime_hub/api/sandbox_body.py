"""What is asked for when a sandbox is created, by official clients of every version and by ours (sandboxes.md §1.3)."""

from __future__ import annotations

import platform
from typing import Annotated, Any

from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.errors import Invalid
from prime_hub.runner.egress_policy import BadEntry, Entry
from prime_hub.runner.fields import NO_VARIABLE, is_variable
from prime_hub.runner.runtimes.values import Egress, Limits
from prime_hub.services.sandboxes import SandboxRequest
from prime_hub.settings import GIB

MAX_ENTRIES = 1024

# What JSON cannot tell again would be in the way of every later answer, and what no column takes, of this one.
Size = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
MAX_MINUTES = 2**31 - 1
Entries = Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=MAX_ENTRIES)]

_MACHINES = {"amd64": ("x86_64", "amd64"), "arm64": ("aarch64", "arm64")}


class CreateBody(Asked):
    """What the official clients send, and `lease_seconds`, `image_digest`, `port` and `environment` of ours. A size that is
    not given is as much as this Hub allows one sandbox.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    docker_image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    start_command: str | list[str] | dict[str, Any] | None = None
    cpu_cores: Size | None = None
    memory_gb: Size | None = None
    disk_size_gb: Size | None = None
    gpu_count: int = 0
    arch: str | None = None
    timeout_minutes: Annotated[int, Field(le=MAX_MINUTES)] = 60
    idle_timeout_minutes: Annotated[int | None, Field(ge=1, le=MAX_MINUTES)] = None
    environment_vars: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    labels: list[str] = Field(default_factory=list)
    network_allowlist: Entries | None = None
    network_denylist: Entries | None = None
    network_access: bool | None = None
    team_id: Annotated[str | None, Field(max_length=64)] = None
    checkpoint_id: str | None = None
    volumes: list[Any] | None = None
    registry_credentials_id: str | None = None
    vm: bool = False
    idempotency_key: Annotated[str | None, Field(max_length=200)] = None
    lease_seconds: Annotated[float | None, Field(gt=0, le=86400)] = None
    image_digest: str | None = None
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    environment: Annotated[str | None, Field(max_length=300)] = None
    """`OWNER/NAME` or `NAME`: give it that environment's secrets and variables, as far as `services/given.py` allows."""

    def request(self) -> SandboxRequest:
        """The service's form of it. Raises Invalid for what this Hub has not."""
        self._refuse()
        if not self.docker_image:
            raise Invalid("Name the image of the sandbox with docker_image; 'prime images list' shows those there are.")
        shown = {
            "cpu_cores": self.cpu_cores,
            "memory_gb": self.memory_gb,
            "disk_size_gb": self.disk_size_gb,
            "timeout_minutes": self.timeout_minutes,
            "idle_timeout_minutes": self.idle_timeout_minutes,
            "labels": self.labels,
            "vm": self.vm,
        }
        return SandboxRequest(
            name=self.name,
            docker_image=self.docker_image,
            team=self.team_id,
            image_digest=self.image_digest,
            start_command=_command(self.start_command),
            environment={**(self.environment_vars or {}), **(self.secrets or {})},
            of_environment=self.environment,
            port=self.port,
            timeout_seconds=self.timeout_minutes * 60.0 if self.timeout_minutes > 0 else None,
            idle_seconds=self.idle_timeout_minutes * 60.0 if self.idle_timeout_minutes else None,
            lease_seconds=self.lease_seconds,
            idempotency_key=self.idempotency_key,
            limits=Limits(
                cpus=self.cpu_cores, memory_bytes=_bytes(self.memory_gb), disk_bytes=_bytes(self.disk_size_gb)
            ),
            egress=egress(self.network_allowlist, self.network_denylist, self.network_access is not False),
            shown=shown,
        )

    def _refuse(self) -> None:
        for name in {**(self.environment_vars or {}), **(self.secrets or {})}:
            if not is_variable(name):
                raise Invalid(NO_VARIABLE.format(name[:100]))
        if self.gpu_count:
            raise Invalid("This Hub has no GPUs for sandboxes; ask for gpu_count 0.")
        if self.checkpoint_id:
            raise Invalid("This Hub keeps no checkpoints of sandboxes; create the sandbox from a docker_image.")
        if self.volumes:
            raise Invalid("This Hub has no volumes; put what the sandbox needs into its image, or upload it.")
        if self.registry_credentials_id:
            raise Invalid(
                "This Hub stores no credentials of registries; its operator logs its engine in, or the image is built "
                "here with 'prime images push'."
            )
        if self.arch and platform.machine().lower() not in _MACHINES.get(self.arch, (self.arch,)):
            raise Invalid(f"This Hub's machine is {platform.machine()}, and arch '{self.arch}' was asked for.")


def egress(allow: list[str] | None, deny: list[str] | None, access: bool = True) -> Egress:
    """Where a sandbox may connect to, of the two lists of which one may be given. Raises Invalid."""
    # The official client says "everywhere" as an empty list of what is denied, and "nowhere" as one of what is allowed.
    if allow is not None and deny:
        raise Invalid("Give either an allowlist or a denylist for the network, not both.")
    for entry in [*(allow or ()), *(deny or ())]:
        try:
            Entry.read(entry)
        except BadEntry as error:
            raise Invalid(str(error)) from None
    if not access:
        if allow:
            raise Invalid("network_access is false, and a network_allowlist is given; leave one of them out.")
        return Egress(allow=[])
    return Egress(allow=allow, deny=deny or [])


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else max(1, int(gigabytes * GIB))


def _command(given: str | list[str] | dict[str, Any] | None) -> str | list[str] | None:
    if not isinstance(given, dict):
        return given or None
    executable, arguments = given.get("executable"), given.get("args") or []
    if not isinstance(executable, str) or not executable or not isinstance(arguments, list):
        raise Invalid("start_command as an object needs 'executable' (text) and 'args' (a list).")
    return [executable, *(str(argument) for argument in arguments)]
