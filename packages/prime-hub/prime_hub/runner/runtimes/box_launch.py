"""What bubblewrap is told: which box, which of this host's folders it sees, and as which user it is made."""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from prime_hub.runner.runtimes.box_kit import ETC

KIT, IMAGE, EGRESS = "/run/prime/kit", "/run/prime/image", "/run/prime/egress"
SHM_BYTES = 64 << 20
_LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Where root puts what only it can reach, for the moment in which another user makes a box of it.
_STAGES = ("/mnt", "/media", "/srv", "/opt")

FOLDERS = ("/root", "/tmp", "/var/tmp", "/home", "/run", "/etc", "/app", "/mnt", "/srv", "/opt")
FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/hostname": "sandbox\n",
    "/etc/resolv.conf": "# names are looked up by the proxy that HTTP_PROXY names\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    # A login shell keeps the image's PATH.
    "/etc/profile": 'export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"\n[ -n "$HOME" ] || export HOME=/root\n',
}


@dataclass
class Launch:
    """One box to be made. `places` are read-only: path on this host → path in the box; all else is system or empty.

    `uid` None is this user, who is root inside; else root makes it as that user.
    """

    size: int
    places: list[tuple[Path, str]]
    command: list[str]
    info: int
    seccomp: int | None
    uid: int | None = None
    joins: list[Path] = field(default_factory=list)

    @property
    def argv(self) -> list[str]:
        """The whole command line for this host."""
        if self.uid is None:
            places = [(str(source), target) for source, target in self.places]
            words = self._bubblewrap(places)
            if not self.joins:
                return words
            return ["/bin/sh", "-c", "\n".join([*self._joining(), 'exec "$@"']), "sh", *words]
        stage = self._stage()
        places = [(f"{stage}/{number}", target) for number, (_, target) in enumerate(self.places)]
        script = [
            "set -e",
            *self._joining(),
            # One mount namespace that only this box's making sees, gone with it.
            f'exec unshare --mount --propagation private -- /bin/sh -c {shlex.quote(self._staging(stage))} sh "$@"',
        ]
        return ["/bin/sh", "-c", "\n".join(script), "sh", *self._bubblewrap(places)]

    def _joining(self) -> list[str]:
        return [f"echo $$ > {shlex.quote(str(file))}" for file in self.joins]

    def _stage(self) -> str:
        for stage in _STAGES:
            if Path(stage).is_dir() and not any(source.is_relative_to(stage) for source, _ in self.places):
                return stage
        raise OSError("There is no folder to mount a sandbox's parts on.")

    def _staging(self, stage: str) -> str:
        lines = ["set -e", f"mount -t tmpfs -o mode=0711,size=64k none {stage}", f"cd {stage}"]
        folders = [number for number, (source, _) in enumerate(self.places) if source.is_dir()]
        files = [number for number in range(len(self.places)) if number not in folders]
        lines += [f"mkdir {' '.join(map(str, folders))}"] if folders else []
        lines += [f": > {number}" for number in files]
        # One program for all of them: a start waits for each.
        table = [
            f"{_in_table(source)} {stage}/{number} none bind 0 0" for number, (source, _) in enumerate(self.places)
        ]
        lines += [f"printf '%s\\n' {shlex.join(table)} > table", "mount -a -T table"]
        lines += [
            "cd /",
            f'exec setpriv --reuid {self.uid} --regid {self.uid} --clear-groups --inh-caps=-all --no-new-privs -- "$@"',
        ]
        return "\n".join(lines)

    def _bubblewrap(self, places: list[tuple[str, str]]) -> list[str]:
        words = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "0", "--gid", "0", "--disable-userns"]
        words += ["--new-session", "--as-pid-1", "--cap-drop", "ALL", "--hostname", "sandbox"]
        words += ["--size", str(self.size), "--tmpfs", "/", "--ro-bind", "/usr", "/usr"]
        for name in _LINKED:
            system = Path("/") / name
            if system.is_symlink():
                words += ["--symlink", str(system.readlink()), str(system)]
            elif system.is_dir():
                words += ["--ro-bind", str(system), str(system)]
        for name in ETC:
            if os.access(f"/etc/{name}", os.R_OK):
                words += ["--symlink", f"{KIT}/etc/{name}", f"/etc/{name}"]
        words += ["--perms", "1777", "--dir", "/tmp", "--perms", "1777", "--dir", "/var/tmp"]
        words += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev", "--remount-ro", "/dev"]
        words += ["--perms", "1777", "--size", str(min(SHM_BYTES, self.size)), "--tmpfs", "/dev/shm"]
        for source, target in places:
            words += ["--ro-bind", source, target]
        words += ["--info-fd", str(self.info), "--chdir", "/"]
        if self.seccomp is not None:
            words += ["--seccomp", str(self.seccomp)]
        return [*words, "--", *self.command]


def _in_table(path: Path) -> str:
    """A path as a field of fstab(5), where blanks end one."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\#" else letter for letter in str(path))


def missing_tools(root: bool) -> list[str]:
    """The programs that are needed and not there."""
    names = ["bwrap", *(["unshare", "setpriv", "mount"] if root else [])]
    return [name for name in names if shutil.which(name) is None]
