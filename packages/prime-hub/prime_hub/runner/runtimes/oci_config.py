"""How a sandbox's container is made: what it may do, how much of the host it may take.

The root file system is writable, because servers write `__pycache__`, homes and temporary files wherever they like and
clients put files anywhere; an image whose author knows better says so by the label `prime.read-only=true` and gets a
read-only one, with memory behind /tmp, /run and /var/tmp.
"""

from __future__ import annotations

import resource
from typing import Any

from prime_hub.runner.runtimes.base import StartError
from prime_hub.runner.runtimes.oci_engine import Engine
from prime_hub.runner.runtimes.values import ImageConfig, SandboxSpec

RUNNER_LABEL = "prime.runner"
SANDBOX_LABEL = "prime.sandbox"
IMAGE_LABEL = "prime.image"
READ_ONLY_LABEL = "prime.read-only"
SANDBOX_MARK = "PRIME_SANDBOX_ID"

PIDS = 4096
OPEN_FILES = 65536
PROCESSES = 32768
SHM_BYTES = 64 << 20
TMPFS_BYTES = 256 << 20
LOG_BYTES = 8 << 20

# What servers that run as root in their image need of root's powers within it; none of them reaches outside.
CAPABILITIES = (
    "CHOWN",  # entry points give data folders to the user they then become
    "DAC_OVERRIDE",  # root writes to folders of the image's other users, as package managers do
    "FOWNER",  # and sets the modes of their files
    "SETGID",  # becoming another user: gosu, su, apt's own
    "SETUID",
    "KILL",  # the init process passes signals on to a server that became another user
)


def container_config(
    engine: Engine,
    spec: SandboxSpec,
    image: ImageConfig,
    *,
    runner: str,
    reference: str,
    network: str,
    env: dict[str, str],
    labels: dict[str, str],
    oci_runtime: str | None,
    init: bool,
    disk: bool,
) -> dict[str, Any]:
    """The body of `POST /containers/create`. Raises StartError."""
    config: dict[str, Any] = {
        "Image": reference,
        "Labels": {RUNNER_LABEL: runner, SANDBOX_LABEL: spec.id},
        "Env": [f"{name}={value}" for name, value in {**env, **spec.env, SANDBOX_MARK: spec.id}.items()],
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Hostname": "sandbox",
        "HostConfig": _host_config(engine, spec, network, oci_runtime, init, disk, labels),
        "NetworkingConfig": {"EndpointsConfig": {network: {}}},
    }
    words = _words(spec.start_command)
    if words is not None:
        config["Entrypoint"], config["Cmd"] = words[:1], words[1:]
    elif not image.cmd:
        raise StartError("There is no start command, and the image's Dockerfile has no CMD; give one of the two.")
    return config


def _words(command: str | list[str] | None) -> list[str] | None:
    if not command:
        return None
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def _host_config(
    engine: Engine,
    spec: SandboxSpec,
    network: str,
    oci_runtime: str | None,
    init: bool,
    disk: bool,
    labels: dict[str, str],
) -> dict[str, Any]:
    limits = spec.limits
    config: dict[str, Any] = {
        "NetworkMode": network,
        "Init": init,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "ShmSize": SHM_BYTES,
        "OomScoreAdj": 500,
        "PidsLimit": limits.pids or PIDS,
        "Ulimits": _ulimits(engine),
        "LogConfig": log_config(engine),
        "RestartPolicy": {"Name": "no"},
        "Sysctls": {
            # Addresses that the firewall's rules do not cover, and ports below 1024 without a capability.
            "net.ipv6.conf.all.disable_ipv6": "1",
            "net.ipv4.ip_unprivileged_port_start": "0",
        },
    }
    if limits.memory_bytes is not None:
        config["Memory"] = config["MemorySwap"] = limits.memory_bytes
    if limits.cpus is not None:
        config["NanoCpus"] = max(1, round(limits.cpus * 1_000_000_000))
    if limits.disk_bytes is not None and disk:
        config["StorageOpt"] = {"size": str(limits.disk_bytes)}
    if oci_runtime is not None:
        config["Runtime"] = oci_runtime
        # gVisor's kernel has no such settings; what they guard against, it does not let through.
        del config["Sysctls"]
    if labels.get(READ_ONLY_LABEL) == "true":
        size = min(TMPFS_BYTES, limits.disk_bytes or TMPFS_BYTES)
        config["ReadonlyRootfs"] = True
        config["Tmpfs"] = dict.fromkeys(("/tmp", "/run", "/var/tmp"), f"rw,nosuid,nodev,size={size}")
    return config


def _ulimits(engine: Engine) -> list[dict[str, Any]]:
    """Said outright, and never above what the engine has itself: without CAP_SYS_RESOURCE it cannot give more."""
    found: list[dict[str, Any]] = [{"Name": "core", "Soft": 0, "Hard": 0}]
    for name, wanted, own in (
        ("nofile", OPEN_FILES, resource.RLIMIT_NOFILE),
        ("nproc", PROCESSES, resource.RLIMIT_NPROC),
    ):
        known = [engine.limits.get(name), resource.getrlimit(own)[1]]
        value = min([wanted, *(limit for limit in known if limit is not None and limit >= 0)])
        found.append({"Name": name, "Soft": value, "Hard": value})
    return found


def log_config(engine: Engine) -> dict[str, Any]:
    """Where its output is kept, bounded."""
    if engine.podman:
        return {"Type": "k8s-file", "Config": {"max-size": str(2 * LOG_BYTES)}}
    return {"Type": "local", "Config": {"max-size": str(LOG_BYTES), "max-file": "2", "compress": "false"}}
