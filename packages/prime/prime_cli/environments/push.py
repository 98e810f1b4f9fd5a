"""`prime env push`: check the folder → ask the Hub whether it may go on → look through the files → image → wheel, archive, hash → resolve → wheel → source archive → visible.

Nothing is sent before the folder is in order, and a version is visible only after the last step (hub.md §3.3), so
a push that stops anywhere publishes nothing and can be repeated.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_cli.environments.record import record_push
from prime_cli.environments.versions import Bump, next_version, write_version
from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import Conflict, NotFound, PrimeError, ProjectError

if TYPE_CHECKING:
    from prime_core.api import APIClient
    from prime_core.connection import Connection
    from prime_core.metadata import EnvironmentMetadata
    from prime_core.packaging import WheelFile

MISSING_MANIFEST = "OpenEnv environment requires .build.json. Run 'vf-build' first."


@dataclass(frozen=True)
class PushOptions:
    """`owner`, `team` None: the account's own environment, or the configured team's. `build`: whether an image may be
    built; `check`: whether its files are looked through first.
    """

    owner: str | None = None
    team: str | None = None
    visibility: str | None = None
    bump: Bump | None = None
    build: bool = True
    check: bool = True


def push(env_dir: Path, options: PushOptions, out: Output) -> None:
    """Publish an environment's folder. Raises PrimeError and its kinds."""
    state = _State()
    with saying(lambda: state.words):
        _push(env_dir, options, out, state)


class _State:
    """How far a push is, for who interrupts it."""

    words = "nothing was published; the same command begins anew"
    published = False


def _push(env_dir: Path, options: PushOptions, out: Output, state: _State) -> None:
    from prime_core.connection import connect
    from prime_core.metadata import check_environment
    from prime_core.project import has_project

    checked = check_environment(env_dir)
    version = checked.version
    connection = connect(announce=out.note)
    if options.bump:
        newest = _ask(env_dir, checked.name, None, options, connection).get("newest_release")
        version = next_version(version, options.bump, newest)
    owner = _ask(env_dir, checked.name, version, options, connection).get("owner") or {}
    with _bumped(env_dir, checked, version, out, state) as metadata:
        if options.check:
            from prime_cli.environments.check import warn_before_push

            warn_before_push(env_dir, out)
        openenv = has_project(env_dir)
        if openenv:
            _ensure_image(env_dir, metadata.normalized_name, options.build, connection, owner, out)
        out.data(f"Pushing environment {metadata.name} to Environments Hub...")
        with tempfile.TemporaryDirectory(prefix="prime-push-") as scratch:
            Package(env_dir, metadata, Path(scratch), openenv).publish(options, connection, out, state)


def _ask(env_dir: Path, name: str, version: str | None, options: PushOptions, connection: Connection) -> dict[str, Any]:
    """Whether the push can go on, before anything is written or built for it, and what the Hub says of the environment.

    Raises what the push would.
    """
    from prime_core.api import APIClient

    body = {**_resolve_body(name, options), "semantic_version": version}
    with APIClient(connection.base_url, connection.api_key) as client:
        try:
            return _data(client.post("/environmentshub/check", body))
        except Conflict as conflict:
            raise _explained(conflict, env_dir, str(version)) from None


@contextmanager
def _bumped(
    env_dir: Path, metadata: EnvironmentMetadata, version: str, out: Output, state: _State
) -> Generator[EnvironmentMetadata]:
    """The metadata with `version` written into pyproject.toml; the old one comes back when the push fails."""
    if version == metadata.version:
        yield metadata
        return
    from prime_core.metadata import check_environment

    pyproject = env_dir / "pyproject.toml"
    before = pyproject.read_bytes()
    write_version(pyproject, version)
    after = pyproject.read_bytes()
    out.note(f"Auto-bumping version: {metadata.version} → {version}")
    try:
        yield check_environment(env_dir)
    except BaseException:
        if not state.published and pyproject.read_bytes() == after:
            pyproject.write_bytes(before)
        raise


def _ensure_image(
    env_dir: Path, name: str, may_build: bool, connection: Connection, owner: dict[str, Any], out: Output
) -> None:
    """Build the image of `proj/` when there is none, its context has changed, or this Hub has none of the owner's."""
    from prime_core.context import context_digest
    from prime_core.manifest import load_manifest, manifest_path
    from prime_core.project import project_dir, read_project

    proj = project_dir(env_dir)
    project = read_project(proj)
    if manifest_path(proj).is_file():
        manifest = load_manifest(proj)
        changed = manifest.context_digest not in (None, context_digest(project.root, project.dockerfile))
        if not may_build and changed:
            out.warning("proj/ has changed since its image was built; the version names the old image (--no-build).")
        if not may_build or (not changed and _has_image(connection, manifest.image, manifest.image_digest, owner)):
            return
    elif not may_build:
        raise ProjectError(MISSING_MANIFEST)
    from verifiers.cli.build import build_environment

    build_environment(env_dir, env_id=name, connection=replace(connection, team_id=owner.get("teamId")))


def _has_image(connection: Connection, reference: str, digest: str | None, owner: dict[str, Any]) -> bool:
    """Whether the Hub has the image that a manifest names, as one of the owner's: by digest where it has one, else by the
    tag.
    """
    from prime_sandboxes import ImageClient

    path, _, last = reference.partition("@")[0].rpartition("/")
    name, _, tag = last.partition(":")
    whose = path.rpartition("/")[2]
    if whose and whose.lower() != str(owner.get("name") or whose).lower():
        return False
    with ImageClient(connection) as images:
        try:
            image = images.get(name, tag or "latest", team_id=owner.get("teamId") or "")
        except NotFound:
            return False
    return image.status == "COMPLETED" and digest in (None, image.digest)


class Package:
    """What is published of one folder: a wheel, a source archive and the content hash of the archive's members."""

    def __init__(self, env_dir: Path, metadata: EnvironmentMetadata, scratch: Path, openenv: bool) -> None:
        from prime_core.packaging import archive_files, build_wheel, content_hash, write_source_archive

        self.env_dir, self.metadata, self.openenv = env_dir, metadata, openenv
        self.wheel: WheelFile = build_wheel(env_dir, scratch)
        self.content_hash: str = content_hash(archive_files(env_dir))
        self.archive = scratch / f"{metadata.name}-{metadata.version}-{self.content_hash[:8]}.tar.gz"
        write_source_archive(env_dir, self.archive)

    def publish(self, options: PushOptions, connection: Connection, out: Output, state: _State) -> None:
        """Send it, print the seed's lines and note the push in the folder."""
        from prime_core.api import APIClient

        metadata = self.metadata
        with APIClient(connection.base_url, connection.api_key) as client:
            target = _data(client.post("/environmentshub/resolve", _resolve_body(metadata.name, options)))
            environment_id, owner = str(target["id"]), str(target["owner"]["name"])
            out.data("Uploading package...")
            try:
                self._send_wheel(client, environment_id)
                finalise = self._send_archive(client, environment_id)
                state.words = (
                    f"the Hub was just publishing it: 'prime env versions {owner}/{metadata.name}' shows whether it did"
                )
                warnings = finalise()
                state.words = f"{owner}/{metadata.name} {metadata.version} is published"
                state.published = True
            except Conflict as conflict:
                raise _explained(conflict, self.env_dir, metadata.version) from None
        record_push(
            self.env_dir,
            environment_id=environment_id,
            owner=owner,
            name=metadata.name,
            version=metadata.version,
            wheel_sha256=self.wheel.sha256,
        )
        out.data(f"Successfully published {metadata.name} v{metadata.version}")
        out.data(f"View at: {connection.frontend_url}/dashboard/environments/{owner}/{metadata.name}")
        for warning in warnings:
            out.warning(f"{owner}/{metadata.name} {metadata.version}: {warning}")
        if target.get("created"):
            private = str(target.get("visibility")).upper() == "PRIVATE"
            way = "others do not see it" if private else "everybody finds and installs it"
            other = "PUBLIC" if private else "PRIVATE"
            out.note(
                f"{owner}/{metadata.name} is new, and {way} ('prime env visibility {owner}/{metadata.name} {other}' changes that)."
            )

    def _send_wheel(self, client: APIClient, environment_id: str) -> None:
        body = self._body(self.wheel.path.name, self.wheel.path.name, self.wheel.sha256)
        slot = _data(client.post(f"/environmentshub/{environment_id}/wheels", {**body, "size": self.wheel.size}))
        if slot.get("upload_url"):  # null: an interrupted push has brought these very bytes already
            client.upload(slot["upload_url"], self.wheel.path)
            client.post(f"/environmentshub/{environment_id}/wheels/{slot['wheel_id']}/finalize")

    def _send_archive(self, client: APIClient, environment_id: str) -> Callable[[], list[str]]:
        """Send the source; what is returned is the last step, which makes the version visible and tells what to be warned of."""
        sha256 = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        body = self._body(self.archive.name, f"{self.metadata.name}-{self.metadata.version}.tar.gz", sha256)
        slot = _data(client.post(f"/environmentshub/{environment_id}/versions", body))
        client.upload(slot["upload_url"], self.archive)

        def finalise() -> list[str]:
            done = _data(client.post(f"/environmentshub/{environment_id}/versions/{slot['version_id']}/finalize"))
            if not done.get("success"):
                raise PrimeError(f"The Hub did not publish it: {done.get('message') or 'it gave no reason'}.")
            return [str(one) for one in done.get("warnings") or []]

        return finalise

    def _body(self, filename: str, original_filename: str, sha256: str) -> dict[str, Any]:
        from prime_core.packaging import runtime_hint

        metadata, requires = self.metadata, list(self.wheel.metadata.get("requires_dist") or [])
        details: dict[str, Any] = {
            "description": metadata.description,
            "tags": list(metadata.tags),
            "urls": dict(metadata.urls),
            "license": metadata.license,
            "dependencies": list(metadata.dependencies),
            "python_requires": metadata.requires_python,
            "requires_dist": requires,
            "original_filename": original_filename,
        }
        if self.openenv:
            from prime_core.manifest import load_manifest
            from prime_core.project import project_dir

            details["openenv"] = load_manifest(project_dir(self.env_dir)).as_dict()
        hint = runtime_hint(requires)
        return {
            "content_hash": self.content_hash,
            "filename": filename,
            "sha256": sha256,
            "semantic_version": metadata.version,
            "metadata": details,
            **({"runtime_hint": hint} if hint else {}),
        }


def _explained(conflict: Conflict, env_dir: Path, version: str) -> PrimeError:
    """The seed's sentence for a version that exists; any other conflict as the Hub worded it."""
    told = conflict.detail or str(conflict)
    if "already exists" not in told:
        return conflict
    why = "A version is never changed"
    if "used twice" in told:
        why = "It was published once and is there no more, and a number is never used twice"
    return PrimeError(
        f"Version {version} already exists",
        f"{why}: write a new one into {env_dir / 'pyproject.toml'} and push again, "
        "or run the same command with --auto-bump.",
    )


def _resolve_body(name: str, options: PushOptions) -> dict[str, Any]:
    from prime_core.config import load_config

    body: dict[str, Any] = {"name": name}
    if options.visibility:
        body["visibility"] = options.visibility
    team = load_config().team_id
    if options.owner:
        body["owner_slug"] = options.owner
    elif options.team:
        body["team_slug"] = options.team
    elif team:
        body["team_id"] = team
    return body


def _data(answer: dict[str, Any]) -> dict[str, Any]:
    """The `data` of an answer, which these calls always have."""
    data = answer.get("data")
    if not isinstance(data, dict):
        raise PrimeError(
            "The Hub's answer holds no data, so it may not be a Hub.", "Check it with 'prime config view'."
        )
    return data
