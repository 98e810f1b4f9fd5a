"""What this host gives boxes: whether bubblewrap works, as which user, with which limits; and what is missing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prime_hub.runner import machine
from prime_hub.runner.cgroups import Cgroups
from prime_hub.runner.children import Children
from prime_hub.runner.runtimes import box_seccomp
from prime_hub.runner.runtimes.box_launch import Launch, missing_tools
from prime_hub.runner.runtimes.values import Finding, Limits

MIB = 1 << 20
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIRST_UID, UIDS = 2_000_000_000, 140_000_000
DISK_BYTES = 4096 * MIB
PIDS = 4096
PROBE_SECONDS = 20.0
_HELD_BY = {"memory": "memory", "cpu": "processors", "pids": "number of processes"}
_FIXES = (
    (
        r"[Nn]o permissions to creat\w* new namespace|unshare|uid map|Creating new namespace failed|user namespace",
        "allow user namespaces for this user (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container, one that may make them)",
    ),
    (r"proc", "run the Hub where a new /proc may be mounted (in a container: with an unmasked /proc)"),
    (r"mount", "run the Hub where it may mount (in a container as root: with the capability SYS_ADMIN)"),
)


@dataclass(frozen=True)
class Host:
    """What was found: `problem` says why no box can be made, None when one can."""

    root: bool
    version: str | None
    problem: str | None
    cgroups: Cgroups

    @property
    def pids_by_user(self) -> bool:
        """Whether the number of a box's processes can be held without control groups: counted for each user in each
        namespace, or for a user whom only one box has.
        """
        return self.root or _kernel() >= (5, 14)


def uid_of(sandbox_id: str) -> int:
    """The user of this host, without a name or any rights, as whom root makes a box."""
    return FIRST_UID + int(hashlib.sha256(sandbox_id.encode()).hexdigest()[:12], 16) % UIDS


def disk_bytes(limits: Limits, *, memory_is_held: bool) -> int:
    """How large a box's file system becomes. It lies in memory, so it gets at most half of the machine's, and of the
    box's own where that is held: a full disk is then told as one, and not as a lack of memory.
    """
    sizes = [limits.disk_bytes or DISK_BYTES]
    total = machine.capacity().memory_bytes
    if total is not None:
        sizes.append(total // 2)
    if limits.memory_bytes is not None and memory_is_held:
        sizes.append(limits.memory_bytes // 2)
    return max(min(sizes), MIB) // 4096 * 4096


async def look(folder: Path, children: Children) -> Host:
    """Look at this host by really making a tiny box. Leaves nothing behind but the runner's own control group."""
    root = os.geteuid() == 0
    if missing := missing_tools(root):
        words = (
            f"not installed: {', '.join(missing)}; install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap)"
        )
        return Host(root, None, words, Cgroups({}))
    env = {"PATH": SYSTEM_PATH}
    try:
        _, shown = await children.capture(["bwrap", "--version"], cwd=Path("/"), env=env)
        version = shown.split()[-1] if shown.split() else None
        problem = await _probe(children, root)
    except (OSError, TimeoutError) as error:
        return Host(root, None, f"bwrap does not run: {error}", Cgroups({}))
    return Host(root, version, problem, Cgroups.find(folder))


async def _probe(children: Children, root: bool) -> str | None:
    """Why no box can be made; None when one can."""
    script = "test -e /proc/self/status && test -w /dev/null && test $$ = 1"
    with tempfile.TemporaryDirectory(prefix="prime-box-") as folder, tempfile.TemporaryFile() as said:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        filtering = seccomp()
        try:
            uid = uid_of("probe") if root else None
            command = ["/bin/sh", "-c", script]
            launch = Launch(MIB, [(Path(folder), "/run/probe")], command, nowhere, filtering, uid)
            passed = [nowhere, *([filtering] if filtering is not None else [])]
            child = children.spawn(
                launch.argv, cwd=Path("/"), env={"PATH": SYSTEM_PATH}, stdout=said, stderr=said, pass_fds=passed
            )
        finally:
            os.close(nowhere)
            if filtering is not None:
                os.close(filtering)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                code = await child.wait()
        finally:
            child.signal_group(signal.SIGKILL)
        said.seek(0)
        text = " ".join(said.read(2000).decode("utf-8", "replace").split())
    if code == 0:
        return None
    fix = next((fix for pattern, fix in _FIXES if re.search(pattern, text)), "see what 'bwrap --unshare-all' says")
    return f"bubblewrap cannot make a sandbox here ({text or f'exit code {code}'}); {fix}"


def seccomp() -> int | None:
    """The filter of system calls in a file of its own, for one box; None where there is none for this machine."""
    program = box_seccomp.program()
    if program is None:
        return None
    descriptor = os.memfd_create("filter", os.MFD_CLOEXEC)
    os.write(descriptor, program)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def enforced(host: Host) -> frozenset[str]:
    """What boxes are held to here."""
    held = {"disk", "egress"}
    held |= {"memory"} & host.cgroups.controllers
    held |= {"cpus"} if "cpu" in host.cgroups.controllers else set()
    held |= {"pids"} if "pids" in host.cgroups.controllers or host.pids_by_user else set()
    return frozenset(held)


def not_enforced(host: Host) -> list[str]:
    """What a box can do on this host that a well kept container could not, in words."""
    held = enforced(host)
    said = [
        "the files of a sandbox lie in memory: its disk is at most half of the machine's, and of its own where that is "
        "limited, and what it writes counts as memory",
        "the outside is reached only through the proxy that HTTP_PROXY and HTTPS_PROXY name: nothing but HTTP and what "
        "goes through CONNECT, and no UDP",
        "what an image installs runs as the user of this Hub, and not in a sandbox, while the image is built; only accounts "
        "of this machine may build, unless the Hub is served with --allow-foreign-images",
        "the kernel is shared with this machine, as that of any container is",
    ]
    if "memory" not in held:
        said.append(
            "memory is looked at twice a second and not held: a sandbox can go beyond its limit for that long "
            "before it is ended, because this user may not make control groups"
        )
    if "cpus" not in held:
        said.append("processors are not limited, because this user may not make control groups")
    if "pids" not in held:
        said.append("the number of processes is not limited, because this kernel cannot count them for one sandbox")
    if box_seccomp.program() is None:
        said.append(f"system calls are not filtered on this kind of machine ({platform.machine()})")
    return said


def findings(host: Host) -> list[Finding]:
    """What was found, for people."""
    why, _, fix = (host.problem or "").rpartition("; ")
    mend = f"{fix[:1].upper()}{fix[1:]}." if why else None
    if host.version is None:
        return [Finding("bubblewrap", False, why or fix, mend)]
    how = "each as a user of its own" if host.root else "in user namespaces of this user"
    made = host.problem is None
    namespaces = Finding("namespaces", made, f"sandboxes can be made, {how}" if made else why or fix, mend)
    has = [word for name, word in _HELD_BY.items() if name in host.cgroups.controllers]
    whole = len(has) == len(_HELD_BY)
    groups = Finding(
        "control groups",
        whole,
        f"the kernel holds a sandbox to its {_listed(has)}" if has else "none may be made here",
        None
        if whole
        else "Start the Hub as root, or in a control group that is handed to its user (systemd: Delegate=yes), to have "
        "memory, processors and processes held by the kernel.",
        needed=False,
    )
    known = box_seccomp.program() is not None
    calls = Finding(
        "system calls",
        known,
        "those that no server needs are refused" if known else f"no filter is known for {platform.machine()}",
        None if known else "Use a machine with an x86_64 or aarch64 processor.",
        needed=False,
    )
    return [Finding("bubblewrap", True, host.version), namespaces, groups, calls]


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _kernel() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)
