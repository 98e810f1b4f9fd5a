"""What this host offers for containers, and what they can do here although well kept ones could not, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prime_hub.runner.runtimes.base import RunnerError
from prime_hub.runner.runtimes.oci_engine import Engine
from prime_hub.runner.runtimes.oci_firewall import Firewall, bridge_filter
from prime_hub.runner.runtimes.values import Finding

if TYPE_CHECKING:
    from prime_hub.runner.runtimes.docker import EngineRuntime

_LIMITS = (
    ("MemoryLimit", "memory", "is"),
    ("CpuCfsQuota", "processors", "are"),
    ("PidsLimit", "processes", "are"),
)
_INSTALL = {
    "docker": "Install and start Docker (Debian and Ubuntu: apt-get install docker.io)",
    "podman": "Install Podman and start its socket (Debian and Ubuntu: apt-get install podman; systemctl enable --now "
    "podman.socket)",
}


async def examine(runtime: EngineRuntime) -> list[Finding]:
    """Look at the engine and at this host; nothing is changed."""
    engine = runtime.engine
    try:
        await engine.open()
    except RunnerError as error:
        found, _, fix = str(error).rstrip(".").partition("; ")
        if not engine.path.exists() and runtime.name in _INSTALL:
            fix = f"{_INSTALL[runtime.name]}; where it runs already, name its socket: --runtime-option engine=unix:///PATH"
        return [Finding("engine", False, _small(found), f"{fix[:1].upper()}{fix[1:]}." if fix else None)]
    try:
        return [*_engine(engine), *await _host(runtime), *_optional(engine)]
    finally:
        await engine.close()


def _engine(engine: Engine) -> list[Finding]:
    found = [Finding("engine", True, f"{engine.name} {engine.version.get('Version')} at {engine.path}")]
    if rootless(engine):
        found.append(
            Finding(
                "root",
                False,
                "the engine runs without root",
                "Use the engine of the system, or the runtime bubblewrap.",
            )
        )
    seccomp = any("seccomp" in option and "unconfined" not in option for option in _security(engine))
    found.append(
        Finding(
            "seccomp",
            seccomp,
            "the engine's own profile" if seccomp else "no profile",
            None
            if seccomp
            else "Start the engine with its default seccomp profile; without one sandboxes get every system call.",
            needed=False,
        )
    )
    version = engine.info.get("CgroupVersion") or "1"
    for key, word, verb in _LIMITS:
        held = bool(engine.info.get(key))
        fix = None if held else f"Give the engine the control group for it; without it {word} {verb} not limited."
        found.append(
            Finding(f"limit of {word}", held, f"control groups v{version}" if held else "none", fix, needed=False)
        )
    disk = bounds_disk(engine)
    fix = "Put the engine's data on XFS mounted with pquota, to have the engine hold a sandbox to its disk."
    found.append(
        Finding(
            "limit of disk",
            disk,
            f"{engine.info.get('Driver')} on {backing(engine) or 'an unknown file system'}",
            None if disk else fix,
            needed=False,
        )
    )
    return found


async def _host(runtime: EngineRuntime) -> list[Finding]:
    why = await Firewall.works(runtime.setup.children)
    found = [
        Finding(
            "firewall",
            why is None,
            "rules of our own can be set" if why is None else why,
            None if why is None else "Run the Hub as root with iptables installed; else sandboxes may reach this host.",
            needed=False,
        )
    ]
    seen = bridge_filter()
    fix = "Load the kernel module br_netfilter and set net.bridge.bridge-nf-call-iptables to 1."
    found.append(
        Finding(
            "neighbours",
            seen,
            "the firewall sees traffic within a bridge" if seen else "it does not see traffic within a bridge",
            None if seen else fix,
            needed=False,
        )
    )
    return found


def _optional(engine: Engine) -> list[Finding]:
    runsc = "runsc" in (engine.info.get("Runtimes") or {}) and _installed(engine, "runsc")
    return [
        Finding(
            "gVisor",
            runsc,
            "the engine has the runtime runsc" if runsc else "not there",
            None if runsc else "Install gVisor (runsc) for a kernel of the sandbox's own, and give oci_runtime=runsc.",
            needed=False,
        )
    ]


def _installed(engine: Engine, runtime: str) -> bool:
    path = ((engine.info.get("Runtimes") or {}).get(runtime) or {}).get("path") or ""
    return not path.startswith("/") or Path(path).exists()


def not_enforced(runtime: EngineRuntime) -> list[str]:
    """What a sandbox can do on this host. Nothing of it is known before `open`."""
    engine, found = runtime.engine, []
    if runtime.firewall is None:
        found.append(f"a sandbox can reach this host's own servers, because {runtime.why_no_firewall}")
        if engine.podman:
            found.append("where it may connect to is not restricted, for the same reason")
    if not bridge_filter():
        found.append("a sandbox may reach another one's ports, because the module br_netfilter is not loaded")
    for key, word, verb in _LIMITS:
        if not engine.info.get(key):
            found.append(f"{word} {verb} not limited, because the engine has no control group for it")
    if "disk" not in runtime.enforces:
        how = (
            "a sandbox that writes more than its disk is ended, some seconds late"
            if runtime.watches_disk
            else "what a sandbox writes is not limited beyond this host's disk"
        )
        found.append(f"{how}, because the engine's storage is not on XFS with pquota")
    if not any("seccomp" in option and "unconfined" not in option for option in _security(engine)):
        found.append("it may make every system call, because the engine has no seccomp profile")
    found.append("while an image is built, its RUN lines have the engine's usual network, and so reach this host")
    return found


def _small(sentence: str) -> str:
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]


def rootless(engine: Engine) -> bool:
    """Whether the engine runs as an ordinary user."""
    return bool(engine.info.get("Rootless")) or any("rootless" in option for option in _security(engine))


def _security(engine: Engine) -> list[str]:
    return [str(option) for option in engine.info.get("SecurityOptions") or []]


def backing(engine: Engine) -> str | None:
    """The file system that the engine's storage lies on."""
    pairs = engine.info.get("DriverStatus") or []
    return next((str(value) for name, value in pairs if name == "Backing Filesystem"), None)


def bounds_disk(engine: Engine) -> bool:
    """Whether the engine can bound a container's own layer."""
    driver = str(engine.info.get("Driver"))
    if driver in ("btrfs", "zfs"):
        return True
    return driver in ("overlay2", "overlay") and _quota_mount(Path(str(engine.info.get("DockerRootDir"))))


def _quota_mount(folder: Path) -> bool:
    """Whether a folder lies on XFS that counts by project."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        folder = folder.resolve()
    except OSError:
        return False
    best: tuple[int, bool] = (-1, False)
    for line in lines:
        first, _, second = line.partition(" - ")
        mount, words = Path(first.split()[4]), second.split()
        if folder.is_relative_to(mount) and len(mount.parts) >= best[0]:
            options = words[2].split(",") if len(words) > 2 else []
            best = (len(mount.parts), words[0] == "xfs" and bool({"pquota", "prjquota"} & set(options)))
    return best[1]
