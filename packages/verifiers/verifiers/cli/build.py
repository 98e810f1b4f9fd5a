"""vf-build: build the image of an OpenEnv environment, start it once, and write `proj/.build.json`.

Lines and sentences are the seed's. Standard output is for them; progress and logs go to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prime_core.errors import PackagingError, PrimeError, ProjectError
from verifiers.openenv import building

if TYPE_CHECKING:
    from prime_core.connection import Connection
    from prime_core.manifest import Manifest
    from prime_core.project import OpenEnvProject

UNDERSCORES = "Environment id must use hyphens (e.g. openenv-echo), not underscores."
HEARTBEAT_SECONDS = 5.0
EXAMPLES = """\
examples:
  vf-build my-game                     the image of ./environments/my_game/proj
  vf-build my-game -p ~/environments
  vf-build -p ./my_game --verbose      that folder itself, with all logs
  vf-build my-game --no-cache --startup-timeout 120
"""


class BuildFailed(PrimeError):
    """The image was not built. The build's log has gone to standard error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code: 0, 1 (build or check failed), 2 (nothing to build)."""
    parser = argparse.ArgumentParser(
        prog="vf-build",
        description="Build the image of an OpenEnv environment, start it once, and write proj/.build.json.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("env", metavar="ENV", nargs="?", help="for example my-env; left out, --path is its folder")
    parser.add_argument("-p", "--path", default="./environments", help="where environments lie (default: %(default)s)")
    parser.add_argument("--no-cache", action="store_true", help="build every layer anew")
    parser.add_argument("--verbose", action="store_true", help="show the build's log and the server's")
    parser.add_argument(
        "--startup-timeout", type=float, default=60.0, metavar="SECONDS", help="for the server to become healthy"
    )
    given = parser.parse_args(argv)
    try:
        folder = _folder(given.env, Path(given.path).expanduser())
    except PrimeError as error:
        return _complain(error, 2)
    try:
        build_environment(
            folder,
            env_id=given.env,
            no_cache=given.no_cache,
            verbose=given.verbose,
            startup_timeout=given.startup_timeout,
        )
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    except ProjectError as error:
        return _complain(error, 2)
    except PrimeError as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def build_environment(
    env_dir: Path,
    *,
    env_id: str | None = None,
    no_cache: bool = False,
    verbose: bool = False,
    startup_timeout: float = 60.0,
    connection: Connection | None = None,
) -> Manifest:
    """Build the image of `env_dir/proj` on the Hub, start it once, write the manifest and return it.

    Prints the seed's lines. Raises: ProjectError (what the project lacks), BuildFailed, CheckFailed (the built image's
    server is not as it must be; no manifest is written), and what a Hub raises.
    """
    from prime_core.connection import connect
    from prime_core.context import context_digest
    from prime_core.manifest import environment_id_of, write_manifest
    from prime_core.project import detect_contract, project_dir, read_project

    proj = project_dir(env_dir)
    project = read_project(proj)
    try:
        contract = detect_contract(project)
    except ProjectError as error:
        if not str(error).startswith("Could not detect"):
            raise
        contract = None  # the running server tells
    name = env_id or environment_id_of(proj)
    digest = context_digest(project.root, project.dockerfile)
    connection = connection or connect()
    shown = proj.as_posix() if proj.is_absolute() else f"./{proj.as_posix()}"
    print(
        f"Building image for '{name}' with context='{shown}' dockerfile='{project.dockerfile}' image='{name}:latest'",
        flush=True,
    )
    image = _build(project, name, connection, no_cache, verbose)
    print("Image build completed with status=ready", flush=True)
    manifest = _check(
        project,
        building.manifest_of(project, name, contract or "gym", digest, *image),
        contract,
        startup_timeout,
        verbose,
    )
    path = write_manifest(proj, manifest)
    print(f"Wrote {shown}/{path.name}", flush=True)
    return manifest


def _build(
    project: OpenEnvProject, name: str, connection: Connection, no_cache: bool, verbose: bool
) -> tuple[str, str | None]:
    """The image's reference and digest."""
    log = _BuildLog(verbose)
    try:
        build = asyncio.run(
            building.build_image(project, name, "latest", connection, no_cache=no_cache, on_log=log.add)
        )
    except TimeoutError:
        log.show()
        raise BuildFailed(
            f"Image build did not complete within {building.BUILD_SECONDS / 60:g} minutes (status=timeout) and was cancelled. "
            "Run vf-build again to try anew."
        ) from None
    if build.status != "COMPLETED":
        log.show()
        if build.error:
            print(build.error, file=sys.stderr)
        raise BuildFailed(f"Image build did not complete successfully (status={build.status.lower()}).")
    return build.image, build.digest


class _BuildLog:
    """The build's log: shown as it comes when verbose, else kept for a failure, with a sign of life now and then."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._text: list[str] = []
        self._started = self._said = time.monotonic()

    def add(self, text: str) -> None:
        self._text.append(text)
        now = time.monotonic()
        if self._verbose:
            print(text, end="", file=sys.stderr, flush=True)
        elif now - self._said >= HEARTBEAT_SECONDS:
            self._said = now
            lines = [line.strip() for line in "".join(self._text[-20:]).splitlines() if line.strip()]
            last = f": {lines[-1][:100]}" if lines else ""
            print(f"  building for {now - self._started:.0f} s{last}", file=sys.stderr, flush=True)

    def show(self) -> None:
        if not self._verbose:
            print("".join(self._text).rstrip("\n"), file=sys.stderr)


def _check(
    project: OpenEnvProject, manifest: Manifest, contract: str | None, startup_timeout: float, verbose: bool
) -> Manifest:
    """Start the image once; the manifest with the contract that its server speaks."""
    from prime_core.project import contract_place
    from verifiers.openenv.check import CheckFailed, check_server
    from verifiers.openenv.sandbox import SandboxSource

    print("Starting the image once to see that its server answers", file=sys.stderr, flush=True)
    try:
        checked = asyncio.run(
            check_server(
                SandboxSource(manifest),
                contract=contract,
                port=manifest.port,
                start_command=manifest.start_command,
                startup_timeout=startup_timeout,
                place=contract_place(project),
            )
        )
    except CheckFailed as failed:
        if failed.log:
            print(f"The server's log:\n{failed.log.rstrip()}", file=sys.stderr)
        raise
    print(f"Healthy after {checked.seconds:.1f} s; contract {checked.contract}", file=sys.stderr, flush=True)
    if checked.mismatch:
        print(f"Warning: {checked.mismatch}", file=sys.stderr, flush=True)
    if verbose and checked.log:
        print(f"The server's log:\n{checked.log.rstrip()}", file=sys.stderr)
    return replace(manifest, contract=checked.contract)


def _folder(env_id: str | None, base: Path) -> Path:
    """The environment's folder. Raises PrimeError."""
    from prime_core.metadata import find_environment

    if env_id is None:
        if not base.is_dir():
            raise PackagingError(f"Environment path not found: {base}")
        return base
    if "_" in env_id:
        raise PackagingError(UNDERSCORES)
    return find_environment(env_id, base)


def _complain(error: PrimeError, code: int) -> int:
    print(f"Error: {error.sentence}", file=sys.stderr)
    if error.hint:
        print(error.hint, file=sys.stderr)
    return code
