"""What a box is to have: the ports, variables, limits and parts of this host for one sandbox's image and start command."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from prime_core.errors import PrimeError
from prime_core.uv import uv_command
from prime_hub.runner.building.store import VenvImage
from prime_hub.runner.runtimes import box_kit, box_launch, bubblewrap_host
from prime_hub.runner.runtimes.commands import named_ports
from prime_hub.runner.runtimes.values import SandboxSpec

SANDBOX_MARK = "PRIME_SANDBOX_ID"
VENV = "/app/.venv"
PROXY_PORT = 61080
OPEN_FILES = 65536
_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Plan:
    """For one sandbox; `hidden` are folders of this host that no box may see, whatever lies in them."""

    spec: SandboxSpec
    image: VenvImage
    host: bubblewrap_host.Host
    hidden: list[Path]

    def ports_of(self, words: list[str]) -> list[int]:
        """The ports that the server will have, the main one first."""
        variables = self.variables()
        main = self.spec.port or self.image.image.config.port
        named = named_ports(shlex.join(words)) | {
            int(value) for name, value in variables.items() if name == "PORT" and value.isdigit()
        }
        return list(dict.fromkeys([*([main] if main else []), *sorted(port for port in named if 0 < port < 65536)]))

    def variables(self) -> dict[str, str]:
        return {**self.image.image.config.env, **self.spec.env}

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        """The whole environment of a process in the box."""
        proxy = f"http://127.0.0.1:{PROXY_PORT}"
        env = {"HOME": "/root", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "USER": "root", "HOSTNAME": "sandbox"}
        for name in ("http_proxy", "https_proxy"):
            env |= {name: proxy, name.upper(): proxy}
        here = "localhost,127.0.0.1,::1,0.0.0.0"
        env |= {"no_proxy": here, "NO_PROXY": here, **self.variables(), **more}
        given = [part for part in env.get("PATH", "").split(":") if part]
        venvs = [f"{path}/bin" for path in self.venv_paths()]
        env["PATH"] = ":".join(dict.fromkeys([*venvs[:1], *given, *venvs[1:], *_SEARCHED.split(":"), "/run/prime/bin"]))
        for name in ("PYTHONPATH", "LD_LIBRARY_PATH"):
            if name in env:
                env[name] = ":".join(part for part in env[name].split(":") if part)
        env[SANDBOX_MARK] = self.spec.id
        return {name: value for name, value in env.items() if name and "=" not in name and "\0" not in name + value}

    def venv_paths(self) -> list[str]:
        """Where the image's environment is seen, the usual place first."""
        own = [path for path in self.image.venv_paths if not path.startswith("/usr/")]
        return list(dict.fromkeys([*own, VENV]))

    def places(self, words: list[str], kit: Path, out: Path) -> tuple[list[tuple[Path, str]], dict[str, str]]:
        """What the box sees of this host, and the variables that this takes."""
        python = box_kit.interpreter(self.image)
        seen = [item for place in python.places for item in box_kit.visible(place, self.hidden)]
        places = [(item, str(item)) for item in seen]
        places += [(self.image.root, box_launch.IMAGE), (kit, box_launch.KIT)]
        places += [(out, box_launch.EGRESS)]
        places += [(self.image.venv, path) for path in self.venv_paths()]
        env: dict[str, str] = {}
        if "uv" in words[0] or any("uv run" in word for word in words):
            with contextlib.suppress(PrimeError, OSError):
                places.append((Path(uv_command()[0]).resolve(strict=True), "/run/prime/bin/uv"))
                env = dict.fromkeys(("UV_NO_SYNC", "UV_OFFLINE", "UV_FROZEN"), "1")
                env["UV_PROJECT_ENVIRONMENT"] = self.venv_paths()[0]
        return places, env

    def rlimits(self) -> list[tuple[str, int]]:
        found = [("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", OPEN_FILES), ("RLIMIT_MEMLOCK", 64 << 10)]
        found.append(("RLIMIT_MSGQUEUE", 819200))
        if self.spec.limits.disk_bytes is not None:
            found.append(("RLIMIT_FSIZE", self.spec.limits.disk_bytes))
        if self.host.pids_by_user:
            # A little above what the control group holds, where that is the exact one.
            found.append(("RLIMIT_NPROC", (self.spec.limits.pids or bubblewrap_host.PIDS) + 1))
        return found
