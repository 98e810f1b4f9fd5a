"""The build manifest `proj/.build.json`: which image runs this project, how it is started and what it speaks.

Both forms of the seeds are read, the four-field one and schema 1; schema 1 is written, with two keys of our own:
`image_digest` ("sha256:…", by which servers start) and `context_digest` (what the image was built from). Sentences:
protocols/verifiers.md §5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_core.errors import ProjectError
from prime_core.files import write_atomic

FILE_NAME = ".build.json"
SCHEMA_VERSION = 1
CONTRACTS = ("gym", "mcp")
_RUN = "Run: vf-build {name} to build and register the image."


@dataclass(frozen=True)
class Manifest:
    """What `.build.json` says; `port` is the server's port inside the sandbox. `extra` keeps keys that are not known
    here.
    """

    image: str
    port: int = 8000
    start_command: str = ""
    contract: str = "gym"
    schema_version: int = SCHEMA_VERSION
    environment_id: str | None = None
    app: str | None = None
    image_status: str | None = None
    image_digest: str | None = None
    context_digest: str | None = None
    build_args: dict[str, str] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of the file, without what is not set."""
        known = {name: value for name, value in vars(self).items() if name != "extra" and value is not None}
        return {**self.extra, **known}


def manifest_path(proj_dir: Path) -> Path:
    """Where the manifest of a project lies."""
    return proj_dir / FILE_NAME


def load_manifest(proj_dir: Path) -> Manifest:
    """Read `proj_dir/.build.json`. Raises ProjectError (a RuntimeError too) that says which field is wrong."""
    path = manifest_path(proj_dir)
    name = environment_id_of(proj_dir)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProjectError(
            f"OpenEnv project is missing .build.json. Run: vf-build {name} (optionally with -p <environments-path>) "
            "to build and register the image."
        ) from None
    except (OSError, ValueError):
        raise ProjectError(f"Failed to parse OpenEnv build manifest at {path}. Re-run vf-build {name}.") from None
    if not isinstance(content, dict):
        raise ProjectError(f"Invalid OpenEnv build manifest at {path}: expected a JSON object.")
    return parse_manifest(content, name)


def parse_manifest(content: Mapping[str, Any], name: str = "<env-id>") -> Manifest:
    """A manifest from its JSON object; `name` is the environment that the sentence tells to build. Raises
    ProjectError.
    """
    run = _RUN.format(name=name)
    for key in ("image", "start_command"):
        if not isinstance(content.get(key), str) or not content[key].strip():
            raise ProjectError(f"Invalid .build.json: `{key}` must be a non-empty string. {run}")
    port = content.get("port", 8000)
    if isinstance(port, bool) or not isinstance(port, int):
        raise ProjectError(f"Invalid .build.json: `port` must be an integer. {run}")
    if not 1 <= port <= 65535:
        raise ProjectError(f"Invalid .build.json: `port` must be between 1 and 65535, not {port}. {run}")
    if content.get("contract") not in CONTRACTS:
        raise ProjectError(f"Invalid .build.json: `contract` must be either 'gym' or 'mcp'. {run}")
    version = content.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ProjectError(
            f"Invalid .build.json: `schema_version` {version!r} is not known here, only {SCHEMA_VERSION}. {run}"
        )
    texts = ("environment_id", "app", "image_status", "image_digest", "context_digest")
    for key in texts:
        if content.get(key) is not None and not isinstance(content[key], str):
            raise ProjectError(f"Invalid .build.json: `{key}` must be a string. {run}")
    build_args = content.get("build_args")
    if build_args is not None and not isinstance(build_args, dict):
        raise ProjectError(f"Invalid .build.json: `build_args` must be an object. {run}")
    known = {"image", "start_command", "port", "contract", "schema_version", "build_args", *texts}
    return Manifest(
        image=content["image"].strip(),
        port=port,
        start_command=content["start_command"].strip(),
        contract=content["contract"],
        **{key: content[key] for key in texts if content.get(key) is not None},
        build_args=None if build_args is None else {str(key): str(value) for key, value in build_args.items()},
        extra={key: value for key, value in content.items() if key not in known},
    )


def write_manifest(proj_dir: Path, manifest: Manifest) -> Path:
    """Write `proj_dir/.build.json` in one step, keys sorted, indented by two; its path is returned. Raises
    ProjectError.
    """
    path = manifest_path(proj_dir)
    try:
        write_atomic(path, json.dumps(manifest.as_dict(), indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise ProjectError(f"The build manifest {path} cannot be written: {error.strerror or error}.") from None
    return path


def environment_id_of(proj_dir: Path) -> str:
    """The environment's id as `vf-build` takes it, from the name of the folder that holds the project."""
    return proj_dir.absolute().parent.name.replace("_", "-") or "<env-id>"
