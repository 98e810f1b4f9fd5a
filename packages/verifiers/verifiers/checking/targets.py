"""What to check, made ready: a folder with or without a server, a server that runs, an installed version."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_core.errors import PackagingError, ProjectError
from prime_core.metadata import EnvironmentMetadata, module_name, read_metadata
from prime_core.project import contract_place, detect_contract, has_project, project_dir, read_project
from verifiers.checking.case import Case, Target
from verifiers.openenv.source import ServerSource, URLSource
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    from prime_core.manifest import Manifest

MANIFEST = "proj/.build.json"
Say = Callable[[str], None]


class BuildFailed(ProjectError):
    """The image was not built; the text ends with the end of the build's log."""


def of_server(url: str) -> Target:
    """A server that somebody else runs, and nothing besides. Raises ValueError for what is no http address."""
    return Target(source=URLSource(url), has_project=True, details={"server": shown_url(url.rstrip("/"))})


def of_folder(
    folder: Path,
    *,
    server_url: str | None = None,
    python: Path | None = None,
    quick: bool = False,
    say: Say = lambda text: None,
) -> Target:
    """An environment's folder: its server is started from the image of its project, which is built when there is none of
    the project as it lies here; or it is the one at `server_url`. `say` is told what takes long.

    Raises ValueError for what is no http address.
    """
    target = Target(
        folder=folder, python=python, has_project=has_project(folder), details={"folder": folder.as_posix()}
    )
    target.details.update(named(folder))
    if target.has_project:
        target.declared = _declared(folder)
    if server_url is not None:
        target.source = URLSource(server_url)
        target.has_project = True
        target.details["server"] = shown_url(server_url.rstrip("/"))
    elif target.has_project and not quick:
        target.prepare = lambda case: _prepare(case, folder, say)
    return target


def of_version(
    folder: Path,
    manifest: Manifest | None,
    python: Path | None,
    *,
    source: ServerSource | None = None,
) -> Target:
    """A published version: its source in `folder`, installed for `python`; the image is the one of its manifest, run in
    sandboxes of the Hub unless `source` says otherwise.
    """
    target = Target(
        folder=folder,
        python=python,
        module=_metadata_module(folder),
        trusted=False,
        has_project=has_project(folder),
        details=named(folder),
    )
    if manifest is not None:
        target.manifest = manifest
        target.declared.append((manifest.contract, MANIFEST))
        target.source = source or _sandboxes(manifest, None)
    elif target.has_project:
        target.no_source = "The published version names no image (proj/.build.json), so its server cannot be started."
    return target


def named(folder: Path) -> dict[str, Any]:
    """Name and version of an environment's folder, as far as they can be read."""
    try:
        metadata: EnvironmentMetadata = read_metadata(folder)
    except PackagingError:
        return {"name": folder.absolute().name.replace("_", "-"), "version": None}
    return {"name": metadata.normalized_name, "version": metadata.version}


def _metadata_module(folder: Path) -> str:
    try:
        return read_metadata(folder).module_name
    except PackagingError:
        return module_name(folder.absolute().name)


def _declared(folder: Path) -> list[tuple[str, str]]:
    try:
        project = read_project(project_dir(folder))
        return [(detect_contract(project), f"proj/{contract_place(project)}")]
    except ProjectError:  # what is wrong with the project is told when its image is built
        return []


def _sandboxes(manifest: Manifest, project: Path | None) -> Any:
    from verifiers.openenv.sandbox import SandboxSource

    return SandboxSource(manifest, project=project)


async def _prepare(case: Case, folder: Path, say: Say) -> None:
    """The image: the one of the manifest when the project has not changed since, else one that is built for this run."""
    from prime_core.connection import connect
    from prime_core.context import context_digest
    from prime_core.manifest import environment_id_of, load_manifest, manifest_path
    from verifiers.openenv.building import build_image, delete_image, manifest_of

    proj = project_dir(folder)
    project = read_project(proj)
    digest = context_digest(project.root, project.dockerfile)
    if manifest_path(proj).is_file():
        manifest = load_manifest(proj)
        if manifest.context_digest == digest:
            case.target.manifest, case.target.source = manifest, _sandboxes(manifest, proj)
            case.target.declared.append((manifest.contract, MANIFEST))
            return
    name, connection, log = environment_id_of(proj), connect(announce=say), []
    tag = f"check-{uuid.uuid4().hex[:8]}"  # another run at the same time deletes its own
    say(f"Building the image of {proj.as_posix()}; the first time this takes a minute or two.")
    try:
        build = await build_image(project, name, tag, connection, on_log=log.append)
    except TimeoutError:
        raise BuildFailed(f"The image was not built within twenty minutes. {_tail(log)}") from None
    if build.status != "COMPLETED":
        raise BuildFailed(f"The image cannot be built: {build.error or build.status.lower()} {_tail(log)}".strip())
    contract = case.target.declared[0][0] if case.target.declared else "gym"
    manifest = manifest_of(project, name, contract, digest, build.image, build.digest)
    case.later(lambda: delete_image(build.image, connection))
    case.target.manifest, case.target.source = manifest, _sandboxes(manifest, None)


def _tail(log: list[str]) -> str:
    lines = "".join(log).strip().splitlines()[-15:]
    return "Log (tail):\n" + "\n".join(lines) if lines else ""
